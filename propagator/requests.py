"""Requests: what a lead asks its shadows to send (DESIGN §4), on whatever connection there is just then.

Nobody waits for an answer: it comes as a report or as an answer of its own, and is known again by its nonce.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING

from propagator.core import moment
from propagator.core.wire import Leaf, Request, Topic, Typ
from propagator.store import members

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable

    from propagator.bus import Session as Link
    from propagator.keys import LeadKeys
    from propagator.store import Store


class Requests:
    """The requests of one lead. `link` is the connection; without one nothing is asked."""

    def __init__(self, store: Store, keys: LeadKeys, *, now: Callable[[], dt.datetime], period_s: float) -> None:
        self._store = store
        self._keys = keys
        self._now = now
        self._period_s = period_s
        self._traced_s: dict[str, float] = {}
        self.link: Link | None = None

    async def report(self, device: str, nonce: str) -> None:
        """Ask a shadow to report again, and hand it the membership that it may not have yet."""
        if self.link is not None:
            async with self._store.reading() as tx:
                member = await members.member(tx, device)
            membership = None if member is None else member.membership or None
            await self._send(device, Request(nonce=nonce, wanted="report", membership=membership))

    async def record(self, device: str, nonce: str) -> None:
        """Ask a shadow for the signed record that it holds."""
        await self._send(device, Request(nonce=nonce, wanted="record"))

    async def heartbeats(self, device: str) -> None:
        """Ask a shadow for what it heard under our name elsewhere, at most once a heartbeat period."""
        now_s = asyncio.get_running_loop().time()
        if now_s - self._traced_s.get(device, float("-inf")) >= self._period_s:
            self._traced_s[device] = now_s
            await self._send(device, Request(nonce=fresh_nonce(), wanted="heartbeats"))

    async def probe(self, device: str, nonce: str) -> None:
        """Ask a connected shadow to diagnose its way here."""
        await self._send(device, Request(nonce=nonce, wanted="probe", at=moment.write(self._now())))

    async def _send(self, device: str, request: Request) -> None:
        if (link := self.link) is not None:
            topic = Topic(self._keys.lead, Leaf.REQUEST, device)
            await link.publish(str(topic), self._keys.seal(Typ.REQUEST, request))


def fresh_nonce() -> str:
    """Give what an answer is known again by."""
    return secrets.token_urlsafe(16)
