"""How an uplink stands: from what was reached, heard, decided and refused to the one state that is shown.

Facts go in as they happen, times are handed in; `state` and `refusals` come out. No connection hides silence, silence
hides what was decided last: the first that applies wins.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from propagator.core.state import STALE_PERIODS, State
from propagator.core.version import Order

if TYPE_CHECKING:
    from propagator.core.decide import Refuse
    from propagator.core.difference import JsonObject
    from propagator.core.state import Reason
    from propagator.core.version import Version
    from propagator.core.wire import Heartbeat, Upstream

FAILED_PROBES: Final = 3
"""Offline is said only after three failed probes (R17)."""

REFUSAL_PERIOD_S: Final = 60.0
"""A refusal is written down, logged and reported at most once a minute and reason."""


@dataclass(slots=True)
class Refused:
    """The offers refused for one reason: the last text, how many, and how many since they were written down."""

    text: str
    at: str
    count: int = 0
    unwritten: int = 0
    written_s: float = float("-inf")


@dataclass(slots=True)
class Standing:
    """What memory knows of an uplink; all of it comes back from the store and the field.

    `floor` is the version of the highest record accepted; `decided` what the last decision made of the record;
    `past` is the last finding that is over; `diagnosed`: `finding` comes of a diagnosis, not of the error alone.
    `period_s` the lead's heartbeat period; `silent`: nothing was heard since a connection was made. Times in `_s` are
    of the monotonic clock.
    """

    floor: Version | None = None
    decided: State = State.UNKNOWN
    period_s: float = 60.0
    connected: bool = False
    address: str | None = None
    failures: int = 0
    finding: JsonObject | None = None
    past: JsonObject | None = None
    diagnosed: bool = False
    heartbeat: Heartbeat | None = None
    heard_s: float = 0.0
    silent: bool = False
    last_heard: str | None = None
    refused: dict[Reason, Refused] = field(default_factory=dict)
    last_refusal: Reason | None = None

    def reached(self, address: str, now_s: float, at: str) -> None:
        """A connection stands. Silence is counted from here, unless the last connection was silent already (F12)."""
        self.connected, self.address = True, address
        if self.finding is not None:
            self.past = {**self.finding, "over_since": at}
        self.failures, self.finding, self.diagnosed = 0, None, False
        if not self.silent:
            self.heard_s, self.silent = now_s, True

    def lost(self, finding: JsonObject, *, at_once: bool = False) -> None:
        """A connection, or the try at one, has ended. The finding is shown once it failed three times, or `at_once`."""
        self.connected = False
        self.failures += 1
        if at_once or (self.failures >= FAILED_PROBES and not self.diagnosed):
            self.finding, self.diagnosed = finding, False

    def find(self, finding: JsonObject, at: str) -> None:
        """A diagnosis has said why; it stays until a connection stands, or the next one."""
        self.finding = {**finding, "at": at, "last_good": self.last_heard}
        self.diagnosed = True

    def say(self, finding: JsonObject, at: str) -> None:
        """Somebody asked for a diagnosis: while the link stands it only goes into the reports."""
        if self.connected:
            self.past = {**finding, "at": at, "over_since": at}
        else:
            self.find(finding, at)

    def heard(self, heartbeat: Heartbeat, now_s: float, at: str) -> None:
        """A fresh heartbeat of the lead."""
        self.heartbeat, self.heard_s, self.last_heard, self.silent = heartbeat, now_s, at, False
        self.period_s = heartbeat.period_s

    def refuse(self, refusal: Refuse, now_s: float, at: str) -> Refused | None:
        """Count a refusal; give the counter if it is time to write it down. The lead's own word shows in the state."""
        refused = self.refused.setdefault(refusal.reason, Refused(refusal.text, at))
        refused.text, refused.at = refusal.text, at
        refused.count += 1
        refused.unwritten += 1
        self.last_refusal = refusal.reason
        if refusal.verified:
            self.decided = State.REFUSED
        if now_s - refused.written_s < REFUSAL_PERIOD_S:
            return None
        refused.written_s = now_s
        return refused

    def state(self, now_s: float) -> State:
        """Give the state that is shown and reported."""
        if not self.connected and self.finding is not None:
            return State.UNREACHABLE
        if self.connected and now_s >= self.stale_s:
            return State.STALE
        if self.heartbeat is not None and self.heartbeat.version is None:
            return State.LEAD_LOST
        if self.decided is not State.REFUSED and self._is_behind():
            return State.BEHIND
        return self.decided

    @property
    def stale_s(self) -> float:
        """When silence becomes `stale`."""
        return self.heard_s + STALE_PERIODS * self.period_s

    def _is_behind(self) -> bool:
        """The lead speaks of a version that this shadow has not accepted yet."""
        spoken = None if self.heartbeat is None else self.heartbeat.version
        if spoken is None:
            return False
        return self.floor is None or spoken.compared_to(self.floor) in {Order.HIGHER, Order.FORKED}

    def live(self, now_s: float, since: str) -> JsonObject:
        """Give all of it, as `status` shows it; the state stands `since` then."""
        return {
            "connected": self.connected,
            "address": self.address,
            "state": self.state(now_s),
            "since": since,
            "last_heard": self.last_heard,
            "refusal": self.refusal(),
            "finding": self.finding,
            "refusals": list(self.refusals()),
            "upstream": self.upstream(),
        }

    @property
    def top(self) -> Heartbeat | Upstream | None:
        """What is known of the top of the tiers: what the lead says of it, or the lead's own word if it is the top."""
        above = None if self.heartbeat is None else self.heartbeat.upstream
        return self.heartbeat if above is None else above

    def upstream(self) -> JsonObject | None:
        """Give how the lead stands to its own lead, if it is a relay."""
        above = None if self.heartbeat is None else self.heartbeat.upstream
        if above is None:
            return None
        version = None if above.version is None else str(above.version)
        return {"state": above.state, "since": above.since, "version": version, "hash": above.hash}

    def refusal(self) -> JsonObject | None:
        """Give the last refusal, as `status` shows it."""
        if self.last_refusal is None:
            return None
        refused = self.refused[self.last_refusal]
        return {"reason": self.last_refusal, "text": refused.text, "at": refused.at}

    def refusals(self) -> list[JsonObject]:
        """Give every reason met, with its count."""
        return [
            {"reason": reason, "count": refused.count, "text": refused.text, "last_at": refused.at}
            for reason, refused in sorted(self.refused.items())
        ]
