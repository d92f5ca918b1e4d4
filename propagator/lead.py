"""The lead: one downlink, from connection to connection (DESIGN §2, §3).

Its record goes out on every connect and on a timer (`announcing`), heartbeats in between; what else is found on its own
topics is repaired, and what the shadows say is handed on (`reports`, `field`, `welcome`).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
from typing import TYPE_CHECKING, Final

from propagator import accounts, keys, log
from propagator.announcing import Announcing
from propagator.bus import full_jitter
from propagator.core import wire
from propagator.core.errors import BusError, RefusedError, StateError, StoreError, Unreadable
from propagator.core.pulse import SECOND_LEAD, Pulse
from propagator.core.signing import open_envelope
from propagator.core.state import DownlinkState
from propagator.core.throttle import Throttle
from propagator.core.wire import ATTACH_SUFFIX, PROBE_SUFFIX, Leaf, Topic, Typ
from propagator.core.word import heartbeats_in
from propagator.field import Field
from propagator.reports import GARBAGE_PERIOD_S, Heard, Reports
from propagator.requests import Requests, fresh_nonce
from propagator.store import members
from propagator.tasks import Due, together

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Awaitable, Callable
    from pathlib import Path
    from random import Random

    from propagator.bus import Bus, Message
    from propagator.bus import Session as Link
    from propagator.core.difference import JsonObject
    from propagator.core.session import Session
    from propagator.core.version import Version
    from propagator.core.wire import Upstream
    from propagator.issuing import Issuer
    from propagator.store import Store

RECONNECT_CAP_S: Final = 10.0
"""The lead is one, and near its broker: no herd to spread over a minute."""

FAILED_TRIES: Final = 3
"""A broker counts as away after as many tries as a lead does for a shadow (R17)."""

PROBE_PERIOD_S: Final = 1.0
"""At most one heartbeat in so many seconds is sent because a diagnosis asked for it."""

ANNOUNCE_PERIODS: Final = 10
"""Heartbeat periods between announcements that nobody asked for."""


class Lead:
    """One downlink, from `run` to its cancellation.

    `welcome` answers what a device with a token says on its attach account: (device, raw bytes, send) -> None.
    """

    def __init__(  # noqa: PLR0913  what it announces, works with, and is given of time and chance
        self,
        store: Store,
        issuer: Issuer,
        bus: Bus,
        session: Session,
        *,
        state_dir: Path,
        now: Callable[[], dt.datetime],
        rng: Random,
        heartbeat_s: float,
        welcome: Callable[[str, bytes, Callable[[bytes], Awaitable[None]]], Awaitable[None]],
        paused: bool = False,
        upstream: Callable[[], Upstream | None] = lambda: None,
        may_raise: Callable[[], bool] = lambda: True,
        is_relay: bool = False,
    ) -> None:
        self._store = store
        self._issuer = issuer
        self._keys = issuer.keys
        self._bus = bus
        self._pulse = Pulse(issuer.authority, session, heartbeat_s)
        self._state_dir = state_dir
        self._now = now
        self._rng = rng
        self._heartbeat_s = heartbeat_s
        self._welcome = welcome
        self._paused = paused
        self._upstream = upstream
        self._requests = Requests(store, issuer.keys, now=now, period_s=heartbeat_s)
        ask_record = self._requests.record
        self._field = Field(store, issuer, state_dir, now=now, ask=ask_record, may_raise=may_raise, is_relay=is_relay)
        self._known: frozenset[str] = frozenset()
        self._reports = self._hearing(session)
        self.record = Announcing(store, issuer, self._field, self._pulse, state_dir=state_dir, now=now, paused=paused)
        self._repair, self._sign_of_life = Due(heartbeat_s), Due(PROBE_PERIOD_S)
        self._wake = asyncio.Event()
        self._failures = 0
        self._garbage = Throttle()
        self._log = log.get("lead").bind(lead=issuer.keys.lead)

    def _hearing(self, session: Session) -> Reports:
        return Reports(
            self._store,
            self._keys.lead,
            seq=self._keys.seq,
            now=self._now,
            ask=self._requests.report,
            session=session,
            prove=lambda device: self._field.want(device, self._heartbeat_s),
            trace=self._requests.heartbeats,
            known=lambda: self._known,
        )

    async def run(self) -> None:
        """Lead until cancelled: connect, announce, listen, lose, connect again."""
        while True:
            try:
                async with self._bus.connect() as link:
                    await self._serve(link)
            except BusError as error:
                self._failures = self._failures + 1 if self._link is None else 1
                self._log.warning("lead.connection_lost", kind=error.kind, error=str(error), failures=self._failures)
            except StoreError as error:  # a full disk, say; the field must not be left alone for good
                self._failures += 1
                self._log.warning("lead.store_failed", error=str(error), failures=self._failures)
            finally:
                self._requests.link = None
                self.record.end()
            self._reports.doubt_silence()
            await asyncio.sleep(full_jitter(self._failures, self._rng, base_s=0.1, cap_s=RECONNECT_CAP_S))

    async def ask_field(self) -> JsonObject:
        """Ask every shadow what it holds of this lead: the highest record, how many hold it, how many answered."""
        return await self._field.tell()

    async def take_over(self) -> Version | None:
        """Settle which of two leads goes on: this one, above whatever the other issued (F03).

        Raises RefusedError if there is no second lead.
        """
        if not self._pulse.second_lead:
            raise RefusedError("There is no second lead.", hint="propagator status")
        await self.record.renew()
        self._pulse.overrule(self._begin_session())
        return await self.record.change()

    def _begin_session(self) -> Session:
        """Begin a session above every one that was heard under our key."""
        above_s = max(self._now().timestamp(), self._pulse.heard_number + 1)
        session = keys.begin_lead_session(self._state_dir, above_s, self._rng)
        self._reports.speak_in(session)
        return session

    async def clear(self, device: str) -> bool:
        """End what a revoked shadow left at the broker; False without a connection."""
        self._reports.forget(device)
        if (link := self._link) is None:
            return False
        for leaf in (Leaf.REPORT, Leaf.PRESENCE):
            await link.publish(str(self._topic(leaf, device)), b"", retain=True)
        return True

    async def probe(self, device: str) -> str | None:
        """Ask a connected shadow to diagnose its way here; gives the nonce of the report to come."""
        if self._link is None:
            return None
        nonce = fresh_nonce()
        self._reports.expect(device, nonce)
        await self._requests.probe(device, nonce)
        return nonce

    def probed(self, device: str, nonce: str) -> JsonObject | None:
        """Give the report by which a shadow answered that probe; None: it has not."""
        return self._reports.answer(device, nonce)

    @property
    def roster_changed(self) -> asyncio.Event:
        """Set whenever what is known of the shadows may have changed; whoever waits for it clears it."""
        return self._reports.stored

    def live(self) -> JsonObject:
        """Say how the downlink stands right now, for `status`."""
        finding = SECOND_LEAD if self._pulse.second_lead else self._field.finding
        return {"state": self._state, "connected": self._link is not None, "finding": finding}

    @property
    def is_settled(self) -> bool:
        """Whether this start knows how the downlink stands: the record is out, or held back, or the broker is away."""
        held_back = self._link is not None and self._state is not DownlinkState.OK
        return self.record.announced is not None or held_back or self._failures >= FAILED_TRIES

    # One connection.

    async def _serve(self, link: Link) -> None:
        await self._forget_who_is_online()
        self._known = frozenset(accounts.read_beside_keys(self._state_dir))
        own = (str(self._topic(Leaf.REGISTRATION)), str(self._topic(Leaf.HEARTBEAT)))
        await link.subscribe(*own, *wire.everything_from_shadows(self._keys.lead))
        self._requests.link = link
        self._pulse.listen_anew(self._time())
        self.record.begin(link)
        self._log.info("lead.connected", address=link.address)
        await self._catch_up()
        if self.record.announced is None:  # what is in force could not be issued; what was issued last still counts
            await self.record.again()
        await together(
            listen=self._listen(link), beat=self._beat(link), keep_reports=self._reports.run(self._heartbeat_s)
        )

    async def _beat(self, link: Link) -> None:
        """Send heartbeats and, now and then, the record; repair what was found; ask whoever lags."""
        for beats in itertools.count():
            await self._catch_up()
            self._rise()
            await self._send_heartbeat(link)
            if beats and beats % ANNOUNCE_PERIODS == 0:
                await self.record.again()
                self._reports.doubt_silence()
            await self._reports.ask_laggards(self._heartbeat_s)
            next_s = self._time() + self._heartbeat_s
            while self._time() < next_s:
                self._wake.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(min(next_s, self._repair.at_s, self._sign_of_life.at_s)):
                        await self._wake.wait()
                if self._repair.claim(self._time()):
                    self._log.warning("lead.topic_repaired")
                    await self.record.again()
                if self._sign_of_life.claim(self._time()):
                    await self._send_heartbeat(link)

    async def _forget_who_is_online(self) -> None:
        """Take nobody for connected before it was heard on this connection."""
        try:
            async with self._store.transaction() as tx:
                await members.all_offline(tx)
        except StoreError as error:  # a full disk must not silence the lead
            self._log.warning("lead.store_failed", error=str(error))

    async def _catch_up(self) -> None:
        """Issue what a command wrote and did not live to tell of."""
        try:
            await self.record.change()
        except StoreError as error:
            self._log.warning("lead.store_failed", error=str(error))

    async def _listen(self, link: Link) -> None:
        async for message in link.messages():
            try:
                await self._take(link, message)
            except StoreError as error:
                self._log.warning("lead.store_failed", error=str(error))

    async def _take(self, link: Link, message: Message) -> None:
        topic = wire.parse_topic(message.topic)
        if topic is None or topic.lead != self._keys.lead:
            return
        match topic.leaf:
            case Leaf.REGISTRATION:
                overwritten = message.retained and self.record.announced is not None
                if await self.record.is_strange(message.payload, overwritten=overwritten):
                    self._repair.want()
                    self._wake.set()
            case Leaf.HEARTBEAT:
                self._watch_heartbeat(message.payload)
            case Leaf.PRESENCE if topic.account is not None and topic.account.endswith(PROBE_SUFFIX):
                if await self._reports.is_from(topic.account.removesuffix(PROBE_SUFFIX), message.payload):
                    self._sign_of_life.want()  # its diagnosis asks for one
                    self._wake.set()
            case Leaf.REPORT | Leaf.PRESENCE if topic.account is not None:
                await self._reports.hear(Heard(topic.account, topic.leaf, message.payload, message.retained))
            case Leaf.ANSWER if topic.account is not None and topic.account.endswith(ATTACH_SUFFIX):
                await self._answer_device(link, topic.account, message.payload)
            case Leaf.ANSWER if topic.account is not None:
                await self._take_answer(topic.account, message.payload)
            case _:
                pass  # requests are our own words

    async def _answer_device(self, link: Link, account: str, raw: bytes) -> None:
        send = functools.partial(link.publish, str(self._topic(Leaf.REQUEST, account)))
        await self._welcome(account.removesuffix(ATTACH_SUFFIX), raw, send)

    async def _take_answer(self, device: str, raw: bytes) -> None:
        for heartbeat in heartbeats_in(open_envelope(raw)):
            self._watch_heartbeat(heartbeat.encode())
        await self.record.take_answer(device, raw)
        await self._reports.ask(device, self._heartbeat_s)

    # Signs of life.

    def _rise(self) -> None:
        """Speak above a copy that is gone: to its shadows we are the older one (F03)."""
        if not self._pulse.has_outlived(self._time()):
            return
        try:
            self._pulse.speak_in(self._begin_session())
        except StateError as error:  # a full disk, say: at the next beat
            self._log.warning("lead.store_failed", error=str(error))
        else:
            self._log.warning("lead.copy_outlived")

    async def _send_heartbeat(self, link: Link) -> None:
        issue = await self.record.current()
        version, content = (None, None) if issue is None else (issue.version, issue.hash)
        heartbeat = self._pulse.beat(version, content, self._upstream())
        await link.publish(str(self._topic(Leaf.HEARTBEAT)), self._keys.seal(Typ.HEARTBEAT, heartbeat))

    def _watch_heartbeat(self, raw: bytes) -> None:
        envelope = open_envelope(raw)
        if isinstance(envelope, Unreadable):
            if count := self._garbage.counted(Leaf.HEARTBEAT, GARBAGE_PERIOD_S, self._time()):
                self._log.warning("lead.message_ignored", leaf=Leaf.HEARTBEAT, why=envelope.detail, count=count)
            return
        if self._pulse.hear(envelope, self._time()):
            self._log.warning("lead.second_lead_found")

    @property
    def _link(self) -> Link | None:
        return self._requests.link

    @property
    def _state(self) -> DownlinkState:
        if self._pulse.second_lead:
            return DownlinkState.SECOND_LEAD
        if self.record.lost:
            return DownlinkState.LOST
        return DownlinkState.PAUSED if self._paused else DownlinkState.OK

    def _topic(self, leaf: Leaf, account: str | None = None) -> Topic:
        return Topic(self._keys.lead, leaf, account)

    def _time(self) -> float:
        return asyncio.get_running_loop().time()
