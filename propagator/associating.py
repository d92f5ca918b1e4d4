"""`associate` at a lead that lost its record: a portal's words are put in force above all that its shadows hold (F07).

Takes an offer, asks the field, and enters and issues in one transaction. Where the field is silent, a higher seq stands
above whatever anybody may hold: the signing key is renewed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from propagator import entering, rotate
from propagator.core import moment
from propagator.core.statement import Refusal

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable
    from pathlib import Path

    from propagator.entering import Offer
    from propagator.field import Field
    from propagator.issuing import Issuer
    from propagator.store import Store


@dataclass(frozen=True, slots=True)
class Associated:
    """What came of it: how many shadows answered, and the highest version among them; None: the key was renewed."""

    answered: int
    above: str | None


async def associate(  # noqa: PLR0913  what the lead works with
    store: Store, issuer: Issuer, field: Field, state_dir: Path, offer: Offer, *, now: Callable[[], dt.datetime]
) -> Associated | Refusal:
    """Take the offered registration over. A Refusal, as any error, changed nothing.

    Raises RefusedError as `entering.enter` does, StateError where the key had to be renewed without the identity key.
    """
    best, _, answered = await field.ask_all()
    above = None if best is None else str(best.record.version)
    why = "; no shadow answered, so the signing key was renewed" if above is None else f"; above {above} of the field"
    async with store.transaction() as tx:
        entered = await entering.enter(tx, offer, now(), why=why)
        if isinstance(entered, Refusal):
            return entered
        if best is not None:
            await issuer.issue_above(tx, best.record, moment.write(now()))
        else:
            await rotate.renew(tx, state_dir, at=moment.write(now()))
    if best is None:
        await rotate.finish(store, state_dir)
    field.finding = None
    return Associated(answered, above)
