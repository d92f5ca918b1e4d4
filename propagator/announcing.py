"""Announcing: the record of a lead is issued, put out on its topic, and what else lies there is judged (DESIGN §2, §3).

Takes content from the store and hands signed bytes to the broker, a forgetful and untrusted cache: always the whole
current version, never a delta. What a person decides of a lost record ends here, too.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from propagator import associating, log
from propagator.core import moment
from propagator.core.statement import Refusal
from propagator.core.wire import Leaf, Topic
from propagator.field import Weighed
from propagator.store import issued

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable
    from pathlib import Path

    from propagator.associating import Associated
    from propagator.bus import Session as Link
    from propagator.core.pulse import Pulse
    from propagator.core.version import Version
    from propagator.entering import Offer
    from propagator.field import Field
    from propagator.issuing import Issuer
    from propagator.store import Store, Tx
    from propagator.store.issued import Issue


class Announcing:
    """The record of one lead. While it is paused, or there is a second lead, nothing is issued or put out.

    `lost`: it has no version to announce. `announced`: the version that the broker has since this connection began.
    """

    def __init__(  # noqa: PLR0913  what it works with
        self,
        store: Store,
        issuer: Issuer,
        field: Field,
        pulse: Pulse,
        *,
        state_dir: Path,
        now: Callable[[], dt.datetime],
        paused: bool,
    ) -> None:
        self._store = store
        self._issuer = issuer
        self._field = field
        self._pulse = pulse
        self._state_dir = state_dir
        self._now = now
        self._paused = paused
        self._issuing = asyncio.Lock()
        self._link: Link | None = None
        self._log = log.get("lead").bind(lead=issuer.keys.lead)
        self.lost = False
        self.announced: Version | None = None

    def begin(self, link: Link) -> None:
        """Put out on this connection from now on."""
        self._link = link

    def end(self) -> None:
        """Put nothing out: the connection has ended, and the broker may have forgotten what it had."""
        self._link = self.announced = None

    @property
    def is_allowed(self) -> bool:
        """Whether anything may be issued and put out."""
        return not self._paused and not self._pulse.second_lead

    async def current(self) -> Issue | None:
        """Give what was issued last."""
        async with self._store.reading() as tx:
            return await issued.current(tx)

    async def change(self) -> Version | None:
        """Issue what is pending and publish it. Gives the version that the broker now has; None: not out yet."""
        issue = await self._issue()
        if issue is None or self._link is None or not self.is_allowed:
            return None
        if issue.version != self.announced:
            await self._announce(self._link, issue)
        return issue.version

    async def again(self) -> None:
        """Publish what was issued last, whatever the broker has."""
        issue = await self.current()
        if issue is not None and self._link is not None and self.is_allowed:
            await self._announce(self._link, issue)

    async def carry(self, tx: Tx, at: str) -> None:
        """Issue what an uplink has just overwritten, in the very transaction of the overwrite (DESIGN §1)."""
        if self.is_allowed:
            await self._issuer.carry(tx, at)

    # What the field holds.

    async def is_strange(self, raw: bytes, *, overwritten: bool) -> bool:
        """Compare what lies on our record's topic with what we issued: evidence, or to be repaired (DESIGN §2).

        `overwritten`: it lay there before we announced ours on this connection.
        """
        issue = await self.current()
        if issue is not None and raw == issue.raw:
            return False
        weighed = await self._field.weigh(raw) if self.is_allowed else Weighed.NOTHING
        if weighed is Weighed.CHANGED:
            await self.again()
        return weighed is Weighed.NOTHING and issue is not None and not overwritten

    async def take_answer(self, device: str, raw: bytes) -> None:
        """Weigh the record that a shadow sent because it was asked."""
        if self.is_allowed and await self._field.take_answer(device, raw) is Weighed.CHANGED:
            await self.again()

    # What a person decided.

    async def weigh(self, raw: bytes) -> Weighed:
        """Weigh a record of this lead that a person carried here, as if the field had sent it."""
        weighed = await self._field.weigh(raw)
        if weighed is Weighed.CHANGED:
            await self.again()
        return weighed

    async def associate(self, wanted: str) -> Version | None:
        """Take over what the field holds (F07), and publish it. Raises RefusedError if no shadow has sent it."""
        async with self._issuing:
            await self._field.associate(wanted)
        self.lost = False
        return await self.change()

    async def enter(self, offer: Offer) -> tuple[Associated | Refusal, Version | None]:
        """Take over what a portal signed, at a lead that lost its record; publish it. Raises as `associate` does."""
        async with self._issuing:
            done = await associating.associate(
                self._store, self._issuer, self._field, self._state_dir, offer, now=self._now
            )
        if isinstance(done, Refusal):
            return done, None
        self.lost = False
        return done, await self.change()

    async def renew(self) -> None:
        """Issue the record in force above whatever a second lead issued."""
        async with self._issuing, self._store.transaction() as tx:
            await self._issuer.renew(tx, moment.write(self._now()))

    # One version.

    async def _issue(self) -> Issue | None:
        """Give the current version, issued now if something is pending."""
        async with self._issuing:
            if not self.is_allowed:
                return await self.current()
            issue, is_new = await self._issuer.issue(self._store, moment.write(self._now()))
            self.lost = issue is None
            if is_new and issue is not None:
                self._log.info("lead.record_issued", version=str(issue.version))
            return issue

    async def _announce(self, link: Link, issue: Issue) -> None:
        await link.publish(str(Topic(self._issuer.keys.lead, Leaf.REGISTRATION)), issue.raw, retain=True)
        self.announced = issue.version
        self._log.info("lead.record_announced", version=str(issue.version))
