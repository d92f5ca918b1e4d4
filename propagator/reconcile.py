"""Reconcile: decide on an offered record, and do it (DESIGN §2, §3).

Start, reconnect, replay, live change and a record carried by hand are this same call.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias, assert_never

from propagator.core.decide import Keep, Overwrite, RaiseFloor, Refuse, decide
from propagator.core.errors import Unreadable
from propagator.core.signing import open_envelope
from propagator.core.state import Reason
from propagator.store import Tx, changes, floors, held, history

if TYPE_CHECKING:
    from propagator.core.decide import Decision
    from propagator.following import Following
    from propagator.store import Store

Carry: TypeAlias = Callable[[Tx, str], Awaitable[None]]
"""What a relay does in the transaction of an overwrite: issue the record to the servers below it."""


async def nobody_below(_tx: Tx, _at: str) -> None:
    """Carry nothing on: a server without a downlink."""


async def reconcile(store: Store, following: Following, raw: bytes, at: str, carry: Carry = nobody_below) -> Decision:
    """Decide on an offered record and do it, in one transaction. Raises StoreError; then nothing was changed."""
    offer = open_envelope(raw)
    async with store.transaction() as tx:
        trust = await floors.trust(tx, following.lead, following.identity, following.own_identity)
        floor = await floors.floor(tx, following.lead, following.identity)
        local = await held.local(tx)
        decision = decide(floor, local.in_force, offer, trust)
        match decision:
            case Overwrite(record=record, floor=reached):
                signer = "" if isinstance(offer, Unreadable) else offer.kid
                await changes.overwrite(tx, record, raw, floor=reached, trust=trust, fingerprint=signer, at=at)
                await carry(tx, at)
            case Keep(record=record):
                await floors.raise_seq(tx, trust, record.version.seq)
            case RaiseFloor(floor=reached):
                if reached != floor:  # what is offered again and again is not written again and again
                    await floors.raise_floor(tx, reached, trust)
            case Refuse(reason=Reason.UNREADABLE, verified=True, text=text):
                await history.quarantine(tx, raw, lead=following.lead, detail=text, at=at)
            case Refuse():
                pass
            case _:
                assert_never(decision)
    return decision
