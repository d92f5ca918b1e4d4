"""A lead's pulse: its own heartbeats, and what others under its key prove (DESIGN §3, cloned lead).

Another session under our own key is only counted: it may be an old one, or a replay. Two leads are proven when such a
heartbeat names *our* present session as the last one that it heard: then both are alive (F03).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from propagator.core import signing, wire
from propagator.core.errors import Unreadable
from propagator.core.record import read
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


class Pulse:
    """The heartbeats of one start of a lead. `second_lead`: another lead was proven, and nobody has taken over yet."""

    def __init__(self, authority: Authority, session: Session, period_s: float) -> None:
        self._authority = authority
        self._session = session
        self._period_s = period_s
        self._counter = 0
        self._heard: Mark | None = None
        self._overruled: Session | None = None
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

    def hear(self, envelope: Envelope | Unreadable) -> bool:
        """Take a heartbeat from our own topic; True if it has just proven a second lead."""
        authority = None if isinstance(envelope, Unreadable) else signing.authority(envelope)
        if isinstance(envelope, Unreadable) or envelope.typ != Typ.HEARTBEAT or authority is None:
            return False
        if authority.identity != self._authority.identity or authority.seq < self._authority.seq:
            return False
        heartbeat = read(Heartbeat, envelope.payload)
        if isinstance(heartbeat, Unreadable) or heartbeat.session in {self._session, self._overruled}:
            return False
        self._heard = heartbeat.mark
        echoed = heartbeat.heard is not None and heartbeat.heard.session == self._session
        proven = echoed and not self.second_lead
        self.second_lead = self.second_lead or echoed
        return proven

    def overrule(self, session: Session) -> None:
        """A person decided for us: the session heard last proves nothing any more, and ours is another one from now on.

        It has to be above the overruled one, or those who followed that would take us for somebody of long ago.
        """
        self._overruled = None if self._heard is None else self._heard.session
        self._session = session
        self.second_lead = False

    @property
    def heard_number(self) -> int:
        """The number of the session that was heard last under our key; 0: none was."""
        return 0 if self._heard is None else self._heard.session.number


class Trail:
    """What a shadow has heard of its lead lately: the last heartbeat, as it came, of each of the last two sessions.

    A lead and its copy that never hear each other learn of each other by a shadow that goes to and fro (F03). Whatever
    order they are in: it is the lead that judges them.
    """

    def __init__(self) -> None:
        self._heard: dict[Session, str] = {}

    def heard(self, heartbeat: Heartbeat, raw: bytes) -> None:
        """Keep a heartbeat that verified."""
        self._heard.pop(heartbeat.session, None)
        self._heard[heartbeat.session] = raw.decode()
        while len(self._heard) > _SESSIONS:
            del self._heard[next(iter(self._heard))]

    @property
    def last(self) -> Session | None:
        """The session that was heard last."""
        return next(reversed(self._heard), None)

    @property
    def heartbeats(self) -> tuple[str, ...]:
        """Its heartbeats, the latest session last."""
        return tuple(self._heard.values())
