"""A shadow's voice: presence, reports and answers, signed, in the order of their counters (DESIGN §4)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from propagator.core import wire
from propagator.core.wire import Leaf, Presence, Report, Typ
from propagator.store import floors, held

if TYPE_CHECKING:
    from propagator.bus import Session as Link
    from propagator.core.difference import JsonObject
    from propagator.core.session import Session
    from propagator.core.standing import Standing
    from propagator.core.state import State
    from propagator.following import Following
    from propagator.store import Store


class Voice:
    """What one shadow says in one session."""

    def __init__(self, store: Store, following: Following, session: Session) -> None:
        self._store = store
        self._following = following
        self._session = session
        self._counter = 0
        self._speaking = asyncio.Lock()

    def presence(self, connection: int, *, online: bool) -> bytes:
        """Birth and will of one connection carry its number: the will of an old one is told apart (F11)."""
        presence = Presence(session=self._session, counter=connection, online=online)
        return self._following.seal(Typ.PRESENCE, presence)

    async def announce(self, link: Link, connection: int, *, online: bool) -> None:
        """Publish a presence."""
        raw = self.presence(connection, online=online)
        await link.publish(self._following.topic(Leaf.PRESENCE), raw, retain=True)

    async def report(  # noqa: PLR0913  what a report says beside what is stored
        self,
        link: Link,
        standing: Standing,
        state: State,
        *,
        heard: Session | None,
        subtree: JsonObject | None,
        nonce: str | None = None,
    ) -> None:
        """Publish a report of what is durably held."""
        async with self._speaking:  # reports leave in the order of their counters
            raw = await self.written(standing, state, heard=heard, subtree=subtree, nonce=nonce)
            await link.publish(self._following.topic(Leaf.REPORT), raw, retain=True)

    async def written(
        self,
        standing: Standing,
        state: State,
        *,
        heard: Session | None = None,
        subtree: JsonObject | None = None,
        nonce: str | None = None,
    ) -> bytes:
        """Give a signed report of what is durably held: read from the store, after the commit."""
        self._counter += 1
        async with self._store.reading() as tx:
            local = await held.local(tx)
            floor = await floors.floor(tx, self._following.lead, self._following.identity)
        last = standing.last_refusal
        refusal = None if last is None else wire.Refusal(reason=last, text=standing.refused[last].text[:500])
        report = Report(
            session=self._session,
            counter=self._counter,
            nonce=nonce,
            floor=None if floor is None else wire.FloorEntry(version=floor.version, hash=floor.hash),
            version=local.version if local.lead == self._following.lead else None,
            hash=local.hash,
            stored_at=local.stored_at,
            lead_session=heard,
            state=state,
            refusal=refusal,
            finding=standing.finding or standing.past,
            subtree=subtree,
            name=self._following.server.name,
            kind=self._following.server.kind,
            system_id=self._following.server.system_id,
        )
        return self._following.seal(Typ.REPORT, report)

    async def send_record(self, link: Link, nonce: str, membership: str) -> None:
        """Send the signed record and the membership that are held here, for a lead that lost something."""
        async with self._store.reading() as tx:
            local = await held.local(tx)
        raw = local.raw if local.lead == self._following.lead else None
        answer = wire.Answer(nonce=nonce, record=None if raw is None else raw.decode(), membership=membership)
        await link.publish(self._following.topic(Leaf.ANSWER), self._following.seal(Typ.ANSWER, answer))

    async def send_heartbeats(self, link: Link, nonce: str, membership: str, heartbeats: tuple[str, ...]) -> None:
        """Send the lead's own heartbeats back, as they were heard."""
        answer = wire.Answer(nonce=nonce, record=None, membership=membership, heartbeats=heartbeats)
        await link.publish(self._following.topic(Leaf.ANSWER), self._following.seal(Typ.ANSWER, answer))
