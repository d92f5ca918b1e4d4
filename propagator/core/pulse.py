"""A lead's pulse: its own heartbeats, and what others under its key prove (DESIGN §3, cloned lead).

Another session under our own key is only counted: it may be an old one, or a replay. Two leads are proven when such a
heartbeat names a session of *our* present start as the last one that it heard: then both are alive (F03). One that is
above ours, proves nothing and falls silent was a copy that is gone: our shadows take us for the older of the two, until
we speak above it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from propagator.core import signing, wire
from propagator.core.errors import Unreadable
from propagator.core.record import read
from propagator.core.state import STALE_PERIODS
from propagator.core.version import LIMIT
from propagator.core.wire import Heartbeat, Typ

if TYPE_CHECKING:
    from propagator.core.difference import JsonObject
    from propagator.core.session import Mark, Session
    from propagator.core.signing import Authority, Envelope
    from propagator.core.version import Version
    from propagator.core.wire import Upstream

SECOND_LEAD: Final[JsonObject] = {
    "code": "SECOND_LEAD",
    "title": "A second lead speaks under this lead's key",
    "cause": "Its heartbeat names our present session: both are alive, one is a copy of the other's machine.",
    "confidence": "certain",
    "remedies": [{"tool": "propagator", "commands": ["propagator take-over"]}],
}
"""The finding that `status` shows while two leads speak under one key."""

_SESSIONS: Final = 2

HIGHEST: Final = LIMIT - 2**32
"""The highest session that a lead speaks above: a thief of its key must not use up the numbers (F02)."""


class Pulse:
    """The heartbeats of one start of a lead. `second_lead`: another lead was proven, and nobody has taken over yet."""

    def __init__(self, authority: Authority, session: Session, period_s: float) -> None:
        self._authority = authority
        self._session = session
        self._ours = {session}
        self._period_s = period_s
        self._counter = 0
        self._heard: Mark | None = None
        self._overruled: Session | None = None
        self._above: Mark | None = None
        self._above_s = 0.0
        self.second_lead = False

    def beat(self, version: Version | None, content: str | None, upstream: Upstream | None) -> Heartbeat:
        """Give the next heartbeat: what is announced (None: no record is known), and what was heard last."""
        self._counter += 1
        heard = None if self._heard is None else wire.Heard(session=self._heard.session, counter=self._heard.counter)
        return Heartbeat(
            session=self._session,
            counter=self._counter,
            version=version,
            hash=content,
            heard=heard,
            upstream=upstream,
            period_s=self._period_s,
        )

    def hear(self, envelope: Envelope | Unreadable, now_s: float) -> bool:
        """Take a heartbeat under our own name, heard at `now_s`; True if it has just proven a second lead."""
        authority = None if isinstance(envelope, Unreadable) else signing.authority(envelope)
        if isinstance(envelope, Unreadable) or envelope.typ != Typ.HEARTBEAT or authority is None:
            return False
        if authority.identity != self._authority.identity or authority.seq < self._authority.seq:
            return False
        heartbeat = read(Heartbeat, envelope.payload)
        if isinstance(heartbeat, Unreadable) or heartbeat.session in {*self._ours, self._overruled}:
            return False
        self._heard = heartbeat.mark
        is_no_lower = self._session.number <= heartbeat.session.number <= HIGHEST
        if is_no_lower and heartbeat.mark.is_after(self._above):
            self._above, self._above_s = heartbeat.mark, now_s
        echoed = heartbeat.heard is not None and heartbeat.heard.session in self._ours
        proven = echoed and not self.second_lead
        self.second_lead = self.second_lead or echoed
        return proven

    def listen_anew(self, now_s: float) -> None:
        """Count silence from now on: nothing could be heard before."""
        self._above_s = now_s

    def has_outlived(self, now_s: float) -> bool:
        """Whether another lead that was no older than us has said nothing new for three heartbeat periods.

        The same words once more, by a replay or by a shadow that kept them, are nothing new.
        """
        is_silent = now_s - self._above_s >= STALE_PERIODS * self._period_s
        return self._above is not None and is_silent and not self.second_lead

    def speak_in(self, session: Session) -> None:
        """Begin another session, above what was heard. Who names an earlier one of this start proves as much."""
        self._session, self._above = session, None
        self._ours.add(session)

    def overrule(self, session: Session) -> None:
        """A person decided for us: the session heard last proves nothing any more, and ours is another one from now on.

        It has to be above the overruled one, or those who followed that would take us for somebody of long ago.
        """
        self._overruled = None if self._heard is None else self._heard.session
        self._ours.clear()
        self.speak_in(session)
        self.second_lead = False

    @property
    def heard_number(self) -> int:
        """The highest number of a session that was heard under our key, up to `HIGHEST`; 0: none was."""
        numbers = [mark.session.number for mark in (self._heard, self._above) if mark]
        return max((number for number in numbers if number <= HIGHEST), default=0)


class Trail:
    """What a shadow has heard of its lead: the last heartbeats, as they came, of the highest session and one other.

    It follows the highest. A lead and its copy that never hear each other learn of each other by a shadow that goes to
    and fro (F03). Whatever order they are in: it is the lead that judges them.
    """

    def __init__(self) -> None:
        self._heard: dict[Session, str] = {}

    def heard(self, heartbeat: Heartbeat, raw: bytes) -> None:
        """Keep a heartbeat that verified."""
        self._heard.pop(heartbeat.session, None)
        self._heard[heartbeat.session] = raw.decode()
        if len(self._heard) > _SESSIONS:
            followed = max(self._heard, key=lambda session: session.number)
            del self._heard[next(session for session in self._heard if session != followed)]

    @property
    def last(self) -> Session | None:
        """The session that was heard last."""
        return next(reversed(self._heard), None)

    @property
    def heartbeats(self) -> tuple[str, ...]:
        """Its heartbeats, the latest session last."""
        return tuple(self._heard.values())
