"""Later editions from the Registration Portal: what `enrol.watch` asks for is put in force, and published by the lead.

The diagnosis of the way is loaded when it is first needed, as httpx is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from propagator.core.state import Origin
from propagator.core.statement import Refusal
from propagator.enrol.watch import Watch
from propagator.entering import Offer
from propagator.register import accept

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Awaitable, Callable
    from pathlib import Path
    from random import Random

    from propagator.core.difference import JsonObject
    from propagator.core.errors import PropagatorError
    from propagator.enrol.way import Way
    from propagator.settings import PortalTable
    from propagator.store import Store
    from propagator.store.portals import Portal


def watch(  # noqa: PLR0913  what the agent has
    store: Store,
    state_dir: Path,
    table: PortalTable,
    *,
    change: Callable[[], Awaitable[None]],
    now: Callable[[], dt.datetime],
    rng: Random,
) -> Watch:
    """Make the task that asks the portal; `change` lets the lead, if there is one, publish what is new."""

    async def take(raw: bytes) -> Refusal | None:
        done = await accept(store, Offer(raw, Origin.PORTAL), now())
        if isinstance(done, Refusal):
            return done
        await change()
        return None

    return Watch(store, state_dir, table, take=take, findings=_Findings(), now=now, rng=rng)


class _Findings:
    """See enrol.watch.Findings."""

    async def of_way(self, way: Way, known: Portal) -> JsonObject | None:
        from propagator.diagnose import portal  # noqa: PLC0415  as the module says

        found = await portal.diagnose(way, portal.Known(known.key, known.token, known.edition))
        return None if found.verdict.is_fine else found.as_finding()

    def of_code(self, code: str, portal: str, why: str) -> JsonObject:
        from propagator.core.diagnosis import Code, Confidence, Verdict  # noqa: PLC0415  as the module says
        from propagator.diagnose.telling import finding  # noqa: PLC0415

        return finding(Verdict(Code(code), Confidence.CERTAIN, why, None, {"portal": portal, "other": why}))

    def of_setting(self, portal: str, problem: PropagatorError) -> JsonObject:
        from propagator.diagnose import portal as diagnosis  # noqa: PLC0415  as the module says

        return diagnosis.unusable(portal, problem).as_finding()
