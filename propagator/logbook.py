"""What a shadow writes down of its uplink, for a `status` without an agent and for its own next start.

None of it may stop a shadow: on a full disk a note waits, and what the shadow says of itself does not.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from propagator import log
from propagator.core.errors import StoreError
from propagator.store import floors, uplinks

if TYPE_CHECKING:
    from propagator.core.decide import Refuse, Trust
    from propagator.core.standing import Refused, Standing
    from propagator.core.state import State
    from propagator.core.wire import Heartbeat
    from propagator.following import Following
    from propagator.store import Store

NOTE_PERIOD_S: Final = 3600.0
"""A heartbeat is written down once a session and once an hour: flash memory wears out."""


class Logbook:
    """The notes of one uplink."""

    def __init__(self, store: Store, following: Following) -> None:
        self._store = store
        self._following = following
        self._noted_s = float("-inf")
        self._log = log.get("shadow").bind(lead=following.lead)

    async def trust(self) -> Trust:
        """Give whom this shadow follows, with the highest delegation seen."""
        follows = self._following
        async with self._store.reading() as tx:
            return await floors.trust(tx, follows.lead, follows.identity, follows.own_identity)

    async def refusal(self, refusal: Refuse, refused: Refused, at: str) -> None:
        """Write down what was refused; what fails is written with the next one."""
        count = refused.unwritten
        try:
            async with self._store.transaction() as tx:
                await uplinks.note_refusal(tx, reason=refusal.reason, text=refusal.text, count=count, at=at)
        except StoreError as error:
            self._log.warning("shadow.store_failed", error=str(error))
        else:
            refused.unwritten -= count

    async def uplink(self, standing: Standing, state: State, since: str) -> bool:
        """Write down how the uplink stands; False: it could not be written, and is still to be."""
        try:
            async with self._store.transaction() as tx:
                await uplinks.note_uplink(
                    tx,
                    state=state,
                    since=since,
                    address=standing.address,
                    last_heard=standing.last_heard,
                    finding=standing.finding,
                )
        except StoreError as error:
            self._log.warning("shadow.store_failed", error=str(error))
            return False
        return True

    def heartbeat_is_news(self) -> None:
        """Let the next heartbeat be written down at once: a session begins, or another key signs."""
        self._noted_s = float("-inf")

    async def heartbeat(self, trust: Trust, heartbeat: Heartbeat, seq: int, at: str) -> None:
        """Write down now and then how far the lead's heartbeats came; what fails is tried again with the next one.

        Raises StoreError.
        """
        now_s = asyncio.get_running_loop().time()
        if now_s - self._noted_s < NOTE_PERIOD_S:
            return
        async with self._store.transaction() as tx:
            await floors.note_heartbeat(tx, trust, seq=seq, mark=heartbeat.mark, period_s=heartbeat.period_s, at=at)
        self._noted_s = now_s
