"""Reports: what shadows say they hold, verified, folded into the roster, and stored (DESIGN §2, §4).

Messages go in one by one; they are stored in batches, one transaction each, so that a storm of 2,500 reports costs some
tens of commits. A number in a report is display: a lead learns nothing from it but what to show and whom to ask.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

from propagator import log
from propagator.core import moment, roster
from propagator.core.errors import StoreError, Unreadable
from propagator.core.record import Document, read
from propagator.core.roster import Ignored, Seen
from propagator.core.signing import open_envelope
from propagator.core.state import State
from propagator.core.throttle import Throttle
from propagator.core.version import Order
from propagator.core.wire import Leaf, Presence, Report, Typ
from propagator.store import issued, members

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Awaitable, Callable, Collection

    from propagator.core.difference import JsonObject
    from propagator.core.session import Session
    from propagator.core.signing import Envelope
    from propagator.store import Store, Tx
    from propagator.store.issued import Issue
    from propagator.store.members import Member

INBOX_LIMIT: Final = 20_000
BATCH_LIMIT: Final = 256
GARBAGE_PERIOD_S: Final = 60.0
_SETTLED: Final = frozenset({State.IN_SYNC, State.WITHDRAWN, State.LEAD_UNREGISTERED, State.DETACHED})
"""States that a shadow may stay in; from any other it goes on, and the report of that may be lost."""

_Word = TypeVar("_Word", bound=Document)


@dataclass(frozen=True, slots=True)
class Heard:
    """One message of a shadow, as it came."""

    device: str
    leaf: Leaf
    raw: bytes
    retained: bool


@dataclass(slots=True)
class _Due:
    """Which shadows are to report again, and which are to send the signed record, or the heartbeats, they hold."""

    confirm: set[str] = field(default_factory=set)
    prove: set[str] = field(default_factory=set)
    trace: set[str] = field(default_factory=set)


class Reports:
    """The reports of one lead's shadows.

    `ask` sends a request with a fresh nonce to a shadow; `prove` asks it for the signed record and membership it holds;
    `trace` asks one that followed our `session`, and then another one under our name, for what it heard there; `known`
    gives the ids that the files beside the keys know, row or not.
    """

    def __init__(  # noqa: PLR0913  what it stores for, and whom it may ask
        self,
        store: Store,
        lead: str,
        *,
        seq: int,
        now: Callable[[], dt.datetime],
        ask: Callable[[str, str], Awaitable[None]],
        session: Session,
        prove: Callable[[str], Awaitable[None]],
        trace: Callable[[str], Awaitable[None]],
        known: Callable[[], Collection[str]],
    ) -> None:
        self._store = store
        self._lead = lead
        self._seq = seq
        self._now = now
        self._ask = ask
        self._session = session
        self._prove = prove
        self._trace = trace
        self._known = known
        self._inbox: asyncio.Queue[Heard] = asyncio.Queue(INBOX_LIMIT)
        self._asked: dict[str, tuple[str | None, float]] = {}
        self._owed: set[str] = set()
        self._doubts_silence = False
        self._followers: set[str] = set()
        self._probes: dict[str, tuple[str, JsonObject | None]] = {}
        self._garbage = Throttle()
        self._log = log.get("reports")
        self.stored = asyncio.Event()
        """Set after each batch: whoever waits for the roster looks again."""

    async def hear(self, heard: Heard) -> None:
        """Take a message; waits while the inbox is full."""
        await self._inbox.put(heard)

    async def run(self, period_s: float) -> None:
        """Store what comes in until cancelled, and ask whoever must confirm. `period_s`: the life of a nonce.

        Whoever speaks of a version above our own, or is known by the files beside the keys alone, is asked for the
        record and the membership it holds.
        """
        while True:
            batch = [await self._inbox.get()]
            with contextlib.suppress(asyncio.QueueEmpty):
                while len(batch) < BATCH_LIMIT:
                    batch.append(self._inbox.get_nowait())
            try:
                due = await self._store_batch(batch, period_s)
            except StoreError as error:  # whoever spoke is asked again: it may have nothing else to say
                self._log.warning("reports.store_failed", error=str(error), lost=len(batch))
                self._owed.update(heard.device for heard in batch)
                continue
            self.stored.set()
            for device in due.confirm:
                await self.ask(device, period_s)
            for device in due.prove:
                await self._prove(device)
            for device in due.trace:
                await self._trace(device)

    async def ask(self, device: str, period_s: float) -> None:
        """Ask a shadow to report again, at most once a period, answered or not: a clone would be asked without end.

        One that was asked too short a time ago is owed a request: what it said last may be all that it will say.
        """
        now_s = self._time()
        asked = self._asked.get(device)
        if asked is not None and now_s - asked[1] < period_s:
            self._owed.add(device)
            return
        self._owed.discard(device)
        nonce = secrets.token_urlsafe(16)
        self._asked[device] = (nonce, now_s)
        await self._ask(device, nonce)

    async def is_from(self, device: str, raw: bytes) -> bool:
        """Whether these bytes are a presence of that shadow, as its diagnosis sends one beside its agent."""
        async with self._store.reading() as tx:
            member = await members.member(tx, device)
        envelope = open_envelope(raw)
        if member is None or isinstance(envelope, Unreadable):
            return False
        return _speaks(envelope, Typ.PRESENCE, self._lead, member)

    async def ask_laggards(self, period_s: float) -> None:
        """Ask every shadow that is there and whose last word is old, or of another version, and who is owed it."""
        async with self._store.reading() as tx:
            current, listed = await issued.current(tx), await members.members(tx)
        version = None if current is None else str(current.version)
        self._owed &= {member.id for member in listed}
        for member in listed:
            lags = member.told_seq < self._seq or _lags(member, version)
            if ((member.online or self._doubts_silence) and lags) or member.id in self._owed:
                await self.ask(member.id, period_s)
        self._doubts_silence = False

    def doubt_silence(self) -> None:
        """Ask whoever lags once, there or not: its last word may be lost, or a broker tell nothing of it (F56).

        Due after a lost connection, and now and then; at the first of a session all report by themselves.
        """
        self._doubts_silence = True

    def expect(self, device: str, nonce: str) -> None:
        """Expect the report by which a shadow answers a probe; an earlier one of it is not waited for any more."""
        self._probes[device] = (nonce, None)

    def answer(self, device: str, nonce: str) -> JsonObject | None:
        """Give what a shadow answered to that probe: the next report may be there already; None: nothing yet."""
        expected, answer = self._probes.get(device, ("", None))
        return answer if expected == nonce else None

    def speak_in(self, session: Session) -> None:
        """Take another session for ours. Whoever followed the one before it in this start followed us."""
        self._session = session

    def forget(self, device: str) -> None:
        """Forget what was asked of a shadow that is revoked or bound anew."""
        self._asked.pop(device, None)
        self._probes.pop(device, None)
        self._owed.discard(device)

    async def _store_batch(self, batch: list[Heard], period_s: float) -> _Due:
        at = moment.write(self._now())
        due = _Due()
        async with self._store.transaction() as tx:
            current = await issued.current(tx)
            for heard in batch:
                member = await members.member(tx, heard.device)
                if member is None and heard.device in self._known():
                    due.prove.add(heard.device)
                elif member is None:
                    self._ignored(heard, "no shadow of this lead")
                elif heard.leaf is Leaf.PRESENCE:
                    if await self._presence(tx, member, heard, at):
                        due.confirm.add(member.id)
                elif (report := self._word(member, heard, Typ.REPORT, Report)) is not None:
                    self._note_answer(member.id, report)
                    if await self._report(tx, member, report, heard, period_s, at):
                        due.confirm.add(member.id)
                    if _speaks_above(report, current):
                        due.prove.add(member.id)
                    if self._has_gone_elsewhere(member.id, report):
                        due.trace.add(member.id)
        return due

    def _note_answer(self, device: str, report: Report) -> None:
        """Keep the answer to a probe, also where the roster does not take it yet."""
        nonce, _ = self._probes.get(device, (None, None))
        if nonce is not None and nonce == report.nonce:
            self._probes[device] = (nonce, report.model_dump(mode="json"))

    def _has_gone_elsewhere(self, device: str, report: Report) -> bool:
        """Whether a shadow has heard another session since it followed us, or follows one that is no older than ours.

        A copy of ours may speak, or have spoken. Who hears us and yet is stale takes our heartbeats for old ones.
        """
        heard = report.lead_session
        if heard is None:
            return False
        if heard == self._session:
            self._followers.add(device)
            return report.state == State.STALE
        return device in self._followers or heard.number >= self._session.number

    async def _report(  # noqa: PLR0913, PLR0917  what was said, by whom, how and when
        self, tx: Tx, member: Member, report: Report, heard: Heard, period_s: float, at: str
    ) -> bool:
        """Fold a report in; True if the shadow is to be asked again."""
        outstanding = self._outstanding(member.id, period_s)
        folded = roster.fold(member.seen, report.mark, report.nonce, outstanding)
        match folded:
            case Seen():
                if report.nonce is not None and report.nonce == outstanding:
                    self._asked[member.id] = (None, self._asked[member.id][1])  # good for one report
                    await members.note_told(tx, member.id, self._seq)
                if folded.cloned and not member.seen.cloned:
                    self._log.warning("reports.clone_found", device=member.id)
                moved = folded.mark == report.mark
                content = report.model_dump(mode="json") if moved else None
                await members.note_report(tx, member.id, folded, content, at)
                if moved and not heard.retained:
                    await members.note_online(tx, member.id)
                return not folded.confirmed or folded.cloned
            case Ignored.DOUBTED:
                return True
            case Ignored.REPLAY:
                return False

    async def _presence(self, tx: Tx, member: Member, heard: Heard, at: str) -> bool:
        """Note a birth or a will. A retained birth may be that of a connection long gone: ask."""
        presence = self._word(member, heard, Typ.PRESENCE, Presence)
        if presence is None:
            return False
        last = member.presence
        ends = presence.mark == last and not presence.online
        if presence.mark.is_after(last) or ends:
            online = presence.online and not heard.retained
            await members.note_presence(tx, member.id, presence.mark, online=online, at=at)
        return presence.online and heard.retained

    def _word(self, member: Member, heard: Heard, typ: Typ, kind: type[_Word]) -> _Word | None:
        """Verify that these bytes are this shadow's word (F10, F19), then parse them."""
        if not heard.raw:
            return None  # cleared by this lead itself, or by a stranger: either way nothing was said
        envelope = open_envelope(heard.raw)
        if isinstance(envelope, Unreadable):
            self._ignored(heard, envelope.detail)
            return None
        if not _speaks(envelope, typ, self._lead, member):
            self._ignored(heard, "not signed by the device key that is bound to this id")
            return None
        word = read(kind, envelope.payload)
        if isinstance(word, Unreadable):
            self._ignored(heard, word.detail)
            return None
        return word

    def _ignored(self, heard: Heard, why: str) -> None:
        if count := self._garbage.counted(f"{heard.device}/{heard.leaf}", GARBAGE_PERIOD_S, self._time()):
            self._log.warning("reports.message_ignored", device=heard.device, leaf=heard.leaf, why=why, count=count)

    def _outstanding(self, device: str, period_s: float) -> str | None:
        nonce, asked_s = self._asked.get(device, (None, float("-inf")))
        return nonce if self._time() - asked_s < period_s else None

    def _time(self) -> float:
        return asyncio.get_running_loop().time()


def _lags(member: Member, version: str | None) -> bool:
    """Whether the last word of a shadow is not the one that it should end with; what followed it may be lost."""
    report = member.report or {}
    floor = report.get("floor")
    reached = floor.get("version") if isinstance(floor, dict) else None
    return not member.seen.confirmed or reached != version or report.get("state") not in _SETTLED


def _speaks(envelope: Envelope, typ: Typ, lead: str, member: Member) -> bool:
    """Say whether this is a word of that kind, signed by the device key that is bound to this shadow."""
    named = (envelope.typ, envelope.lead, envelope.sender, envelope.kid)
    return envelope.verified and named == (typ, lead, member.id, member.key)


def _speaks_above(report: Report, current: Issue | None) -> bool:
    """Whether a shadow accepted a version that this store did not issue last: then its signed record is evidence."""
    if report.floor is None:
        return False
    return current is None or report.floor.version.compared_to(current.version) in {Order.HIGHER, Order.FORKED}
