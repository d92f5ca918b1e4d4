"""The shadow: follow a lead, take its record over, report what is durably held (DESIGN §2, §3).

Everything ends in `reconcile`: start, reconnect, replay, live change and a record carried by hand are the same call.
MQTT's acknowledgement proves nothing; the report, sent after the commit, is the acknowledgement.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final, assert_never

from propagator import log
from propagator.bus import Will
from propagator.core import moment, wire
from propagator.core.decide import Keep, Overwrite, RaiseFloor, Refuse
from propagator.core.errors import BusError, StoreError
from propagator.core.pulse import Trail
from propagator.core.signing import open_envelope
from propagator.core.standing import REFUSAL_PERIOD_S, Refused, Standing
from propagator.core.state import State
from propagator.core.wire import Heartbeat, Leaf, Request, Typ, Upstream
from propagator.core.word import binds, is_later, lead_word, seq_of
from propagator.finding import Inquiry, finding_of
from propagator.logbook import Logbook
from propagator.patience import Patience
from propagator.reconcile import Carry, nobody_below, reconcile
from propagator.store import floors, held, uplinks
from propagator.tasks import together
from propagator.voice import Voice

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Awaitable, Callable
    from random import Random

    from propagator.bus import Bus, Message
    from propagator.bus import Session as Link
    from propagator.core.decide import Trust
    from propagator.core.difference import JsonObject
    from propagator.core.session import Mark, Session
    from propagator.finding import Diagnosis
    from propagator.following import Following
    from propagator.store import Store

GOODBYE_S: Final = 0.5
"""How long the last word may take: SIGTERM ends an agent within 2 s."""

REPORT_SPREAD: Final = 0.1
"""Part of a heartbeat period over which the shadows of a lead spread the reports that its new session asks for."""

_AWAY: Final = frozenset({State.UNREACHABLE, State.STALE, State.LEAD_LOST})


async def _nothing_below() -> None:
    """Sum up no subtree: a server without a downlink."""


class Shadow:
    """One uplink, from `run` to its cancellation."""

    def __init__(  # noqa: PLR0913  what it follows, works with, and is given of time and chance
        self,
        store: Store,
        following: Following,
        bus: Bus,
        session: Session,
        *,
        now: Callable[[], dt.datetime],
        rng: Random,
        probe_interval_s: float = 60.0,
        carry: Carry = nobody_below,
        carried: Callable[[], Awaitable[object]] = _nothing_below,
        subtree: Callable[[], Awaitable[JsonObject | None]] = _nothing_below,
        on_membership: Callable[[str], None] = lambda _: None,
        diagnosis: Diagnosis | None = None,
    ) -> None:
        self._store = store
        self._following = following
        self._bus = bus
        self._now = now
        self._rng = rng
        self._patience = Patience(probe_interval_s, rng)
        self._carry = carry
        self._carried = carried
        self._subtree = subtree
        self._on_membership = on_membership
        self._standing = Standing()
        self._inquiry = Inquiry(self._standing, diagnosis, now)
        self._unnoted = False
        self._shown, self._since = State.UNKNOWN, moment.write(now())
        self._voice = Voice(store, following, session)
        self._logbook = Logbook(store, following)
        self._membership = following.membership
        self._connections = 0
        self._kept_or_overwritten = False
        self._mark: tuple[int, Mark] | None = None
        self._trail = Trail()
        self._report_due_s = self._refusal_reported_s = float("-inf")
        self._has_decided = False
        self._wake = asyncio.Event()
        self._link: Link | None = None
        self._log = log.get("shadow").bind(lead=following.lead)

    async def run(self) -> None:
        """Follow until cancelled: connect, follow, lose, wait, connect again."""
        await self._recall()
        while True:
            begun_s = self._time()
            try:
                await self._connect_and_follow()
            except BusError as error:
                await self._lost(error, lasted_s=self._time() - begun_s)
                await self._find_out(error)
            except StoreError as error:  # a full disk, say: time heals it
                self._standing.connected = False
                self._log.warning("shadow.store_failed", error=str(error))
            await self._patience.rest(self._standing.failures)

    async def goodbye(self) -> None:
        """Tell the lead that this server was detached, if there is a connection to say it on."""
        if (link := self._link) is not None:
            with contextlib.suppress(BusError, TimeoutError):
                async with asyncio.timeout(GOODBYE_S):
                    await self._publish_report(link, state=State.DETACHED)

    async def say_detached(self) -> None:
        """Connect once, only to tell the lead that this server was detached. Raises BusError."""
        async with self._bus.connect() as link:
            await self._publish_report(link, state=State.DETACHED)

    async def written_report(self, state: State) -> bytes:
        """Write a signed report for a file, of a shadow that does not run."""
        return await self._voice.written(self._standing, state)

    async def refresh(self) -> None:
        """Look at the store again: a record may have been carried here by hand."""
        await self._recall_record()
        with contextlib.suppress(BusError):
            await self._settle(self._link, report=True)

    async def report(self) -> None:
        """Report again: what is below this server has changed. Without a connection the next one will say it."""
        if (link := self._link) is not None:
            with contextlib.suppress(BusError):
                await self._publish_report(link)

    @property
    def has_kept_or_overwritten(self) -> bool:
        """Whether this uplink has kept or overwritten the record since this start."""
        return self._kept_or_overwritten

    def upstream(self) -> Upstream:
        """Say how this uplink stands, for the heartbeats of the downlink below it (DESIGN §1)."""
        top = self._standing.top
        return Upstream(
            state=self._standing.state(self._time()),
            since=self._since,
            version=None if top is None else top.version,
            hash=None if top is None else top.hash,
        )

    def live(self) -> JsonObject:
        """Say how the uplink stands right now, for `status`."""
        return self._standing.live(self._time(), self._since)

    @property
    def is_settled(self) -> bool:
        """Whether this start knows how the uplink stands: an offer was decided, or the lead is known to be away."""
        return self._has_decided or self._standing.state(self._time()) in _AWAY

    # One connection, from birth to goodbye.

    async def _connect_and_follow(self) -> None:
        self._connections += 1
        will = Will(self._following.topic(Leaf.PRESENCE), self._voice.presence(self._connections, online=False))
        async with self._bus.connect(will) as link:
            self._link = link
            self._standing.reached(link.address, self._time(), moment.write(self._now()))
            self._log.info("shadow.connected", address=link.address)
            try:
                await self._follow(link)
            except asyncio.CancelledError:
                await self._leave(link)
                raise
            finally:
                self._link = None

    async def _follow(self, link: Link) -> None:
        leaves = (Leaf.REGISTRATION, Leaf.HEARTBEAT, Leaf.REQUEST)
        await link.subscribe(*(self._following.topic(leaf) for leaf in leaves))
        await self._voice.announce(link, self._connections, online=True)
        await self._settle(link, report=True)
        await together(
            listen=self._listen(link),
            keep_time=self._keep_time(link),
            draw=self._inquiry.draw(link.address, self._rng),
        )

    async def _listen(self, link: Link) -> None:
        async for message in link.messages():
            try:
                await self._take(link, message)
            except StoreError as error:  # a full disk, say: the lead's next heartbeat brings the next try
                self._log.warning("shadow.store_failed", error=str(error))

    async def _keep_time(self, link: Link) -> None:
        """Do what is due by the clock: the report that a new session asked for, and noticing silence."""
        while True:
            self._wake.clear()
            due_s = self._standing.stale_s if self._shown is not State.STALE else float("inf")
            if self._report_due_s > 0:
                due_s = min(due_s, self._report_due_s)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(None if due_s == float("inf") else due_s):
                    await self._wake.wait()
                    continue
            try:
                await self._settle(link, report=0 < self._report_due_s <= self._time())
            except StoreError as error:
                self._log.warning("shadow.store_failed", error=str(error))

    async def _leave(self, link: Link) -> None:
        with contextlib.suppress(BusError, TimeoutError):
            async with asyncio.timeout(GOODBYE_S):
                await self._voice.announce(link, self._connections, online=False)

    async def _lost(self, error: BusError, *, lasted_s: float) -> None:
        self._patience.lost(lasted_s if self._standing.connected else None)
        crowded = self._patience.is_crowded
        self._standing.lost(finding_of(error, crowded=crowded), at_once=crowded)
        self._log.warning("shadow.connection_lost", kind=error.kind, error=str(error), failures=self._standing.failures)
        await self._settle(None, report=False)

    async def _find_out(self, error: BusError) -> None:
        if await self._inquiry.after(error):
            self._unnoted = True
            await self._settle(None, report=False)

    async def probed(self, nonce: str) -> bytes:
        """Diagnose the way to the lead for one who asked, and give the signed report of it."""
        await self._inquiry.asked()
        self._patience.hold()
        return await self._voice.written(self._standing, self._standing.state(self._time()), nonce=nonce)

    # What comes in.

    async def _take(self, link: Link, message: Message) -> None:
        topic = wire.parse_topic(message.topic)
        match None if topic is None else topic.leaf:
            case Leaf.REGISTRATION:
                await self._offered(link, message.payload)
            case Leaf.HEARTBEAT:
                await self._heard(link, message.payload)
            case Leaf.REQUEST:
                await self._asked(link, message.payload)
            case _:
                pass  # nothing else was subscribed to

    async def _offered(self, link: Link, raw: bytes) -> None:
        standing = self._standing
        before = standing.decided, standing.floor
        decision = await reconcile(self._store, self._following, raw, moment.write(self._now()), self._carry)
        self._has_decided = True
        match decision:
            case Overwrite(record=record):
                standing.decided, standing.floor = State.IN_SYNC, record.version
                self._log.info("shadow.record_overwritten", version=str(record.version))
                self._kept_or_overwritten = True
                await self._carried()
            case Keep(record=record):
                self._kept_or_overwritten = True
                standing.decided, standing.floor = State.IN_SYNC, record.version
            case RaiseFloor(floor=floor, state=state):
                standing.decided, standing.floor = state, floor.version
                if before != (state, floor.version):
                    self._log.info("shadow.registration_kept", state=state, version=str(floor.version))
            case Refuse():
                await self._refused(link, decision)
                return
            case _:
                assert_never(decision)
        changed = before != (standing.decided, standing.floor)
        await self._settle(link, report=changed or isinstance(decision, Overwrite))

    async def _refused(self, link: Link, refusal: Refuse) -> None:
        """Count it; write it down once a minute and reason, and report it once a minute."""
        now_s, at = self._time(), moment.write(self._now())
        report = now_s - self._refusal_reported_s >= REFUSAL_PERIOD_S
        if report:
            self._refusal_reported_s = now_s
        if (refused := self._standing.refuse(refusal, now_s, at)) is not None:
            self._log.warning("shadow.offer_refused", reason=refusal.reason, text=refusal.text, count=refused.unwritten)
            await self._logbook.refusal(refusal, refused, at)
        await self._settle(link, report=report)

    async def _heard(self, link: Link, raw: bytes) -> None:
        envelope = open_envelope(raw)
        trust = await self._logbook.trust()
        heartbeat = lead_word(envelope, trust, Typ.HEARTBEAT, Heartbeat)
        if isinstance(heartbeat, Refuse):
            await self._refused(link, heartbeat)
            return
        self._trail.heard(heartbeat, raw)
        seq = seq_of(envelope)
        if self._mark is not None and not is_later(seq, heartbeat.mark, self._mark):
            return  # said before (F57), or overtaken by a later one
        new_session = self._mark is None or self._mark[1].session != heartbeat.session
        self._mark = (seq, heartbeat.mark)
        self._standing.heard(heartbeat, self._time(), moment.write(self._now()))
        if new_session or seq > trust.seq:
            self._logbook.heartbeat_is_news()
        if new_session:
            self._report_due_s = self._time() + self._rng.uniform(0, heartbeat.period_s * REPORT_SPREAD)
        if self._standing.state(self._time()) is State.BEHIND:  # lost on the way, or not stored: fetch it again
            await link.subscribe(self._following.topic(Leaf.REGISTRATION))
        await self._settle(link, report=False)
        await self._logbook.heartbeat(trust, heartbeat, seq, moment.write(self._now()))

    async def _asked(self, link: Link, raw: bytes) -> None:
        trust = await self._logbook.trust()
        request = lead_word(open_envelope(raw), trust, Typ.REQUEST, Request)
        if isinstance(request, Refuse):
            await self._refused(link, request)
            return
        if request.membership is not None:
            self._keep_membership(request.membership, trust)
        match request.wanted:
            case "report":
                await self._publish_report(link, nonce=request.nonce)
            case "record":
                await self._voice.send_record(link, request.nonce, self._membership)
            case "heartbeats":
                await self._voice.send_heartbeats(link, request.nonce, self._membership, self._trail.heartbeats)
            case "probe":
                await self._inquiry.asked()
                await self._publish_report(link, nonce=request.nonce)
            case _:
                assert_never(request.wanted)

    async def _publish_report(self, link: Link, *, nonce: str | None = None, state: State | None = None) -> None:
        self._report_due_s = float("-inf")
        await self._voice.report(
            link,
            self._standing,
            state or self._standing.state(self._time()),
            heard=self._trail.last or (None if self._mark is None else self._mark[1].session),
            subtree=await self._subtree(),
            nonce=nonce,
        )

    # What is remembered.

    def _keep_membership(self, written: str, trust: Trust) -> None:
        """Keep the membership that a lead with a renewed signing key sends, if it binds this very key."""
        device, key = self._following.server.id, self._following.key.thumbprint
        if written != self._membership and binds(written, trust, device=device, key=key):
            self._membership = written
            self._on_membership(written)

    async def _recall(self) -> None:
        """Begin from what the store holds; the field says the rest."""
        trust = await self._logbook.trust()
        async with self._store.reading() as tx:
            link = await uplinks.uplink(tx)
            mark = await floors.heartbeat_mark(tx, trust)
            refused = await uplinks.refusals(tx)
        self._standing.refused = {reason: Refused(text, at, count) for reason, count, text, at in refused}
        if link is not None:
            self._shown, self._since = link.state, link.since
            self._standing.period_s, self._standing.last_heard = link.period_s, link.last_heard
        self._mark = None if mark is None else (trust.seq, mark)
        await self._recall_record()

    async def _recall_record(self) -> None:
        async with self._store.reading() as tx:
            local = await held.local(tx)
            floor = await floors.floor(tx, self._following.lead, self._following.identity)
        if floor is None or floor.version == self._standing.floor:
            return
        self._standing.floor = floor.version
        if local.lead == self._following.lead and local.version == floor.version:
            self._standing.decided = State.IN_SYNC

    async def _settle(self, link: Link | None, *, report: bool) -> None:
        """Write a new state down, and report what is worth it."""
        state = self._standing.state(self._time())
        if state is not self._shown:
            self._log.info("shadow.state_changed", state=state, was=self._shown)
            self._shown, self._since = state, moment.write(self._now())
            report = self._unnoted = True
        if self._unnoted:
            self._unnoted = not await self._logbook.uplink(self._standing, state, self._since)
        if report and link is not None:
            await self._publish_report(link)
        self._wake.set()

    def _time(self) -> float:
        return asyncio.get_running_loop().time()
