"""Sights by hand: what a probe sees, written as FIREWALL.md writes it, for the tests of propagator/core/diagnosis.

`ladder("r1 r2 SYN-ACK")`, `refused(Icmp.HOST, R1)`, `SILENT`; `address(…)` puts them together, and the strategies at
the end draw any combination of them.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from hypothesis import strategies as st

from propagator.core.diagnosis import Confidence
from propagator.core.diagnosis.seen import (
    Address,
    Answer,
    Attempt,
    Certificate,
    Conversation,
    End,
    Icmp,
    Ladder,
    Lookup,
    Name,
    Neighbour,
    Picture,
    Route,
    Seen,
    Stage,
    Talk,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from propagator.core.diagnosis import Verdict

SHADOW, R1, R2, LEAD = "10.1.0.2", "10.1.0.1", "10.2.0.2", "10.3.0.2"
SHADOW6, R1_6, LEAD6 = "fd00:1::2", "fd00:1::1", "fd00:3::2"
PORT: Final = 8883

ROUTED: Final = Route(SHADOW, R1, "eth0", "10.1.0.0/24")
ON_LINK: Final = Route("10.3.0.9", None, "eth0", "10.3.0.0/24")
ROUTED6: Final = Route(SHADOW6, R1_6, "eth0", "fd00:1::/64")

CONNECTED: Final = Attempt(Answer.CONNECTED, 0.0002)
LATE: Final = Attempt(Answer.CONNECTED, 1.03, retransmits=1)
RESET: Final = Attempt(Answer.RESET, 0.0003, 111)
SILENT: Final = Attempt(Answer.SILENT, 3.3, retransmits=3)
DENIED: Final = Attempt(Answer.DENIED, 0.0001, 1)
NO_ROUTE: Final = Attempt(Answer.NO_ROUTE, 0.0001, 101)

UP_TO_R2: Final = "r1 r2 - -"
OPEN: Final = "r1 r2 SYN-ACK"

_STATIONS: Final = {"r1": R1, "r2": R2, "lead": LEAD}


def refused(icmp: Icmp, source: str, took_s: float = 0.0003) -> Attempt:
    """A connect that ended with an ICMP message."""
    return Attempt(Answer.REJECTED, took_s, 113, icmp, source)


def ladder(text: str, of: str = "port 8883") -> Ladder:
    """A ladder as FIREWALL.md writes it: `r1 r2 - -`, `r1 RST`, `r1 r2 SYN-ACK`; `?` is a router without a name."""
    return Ladder(of, tuple(_rung(word) for word in text.split()))


def _rung(word: str) -> Attempt:
    match word:
        case "-":
            return SILENT
        case "RST":
            return RESET
        case "SYN-ACK":
            return CONNECTED
        case "PORT":
            return refused(Icmp.PORT, LEAD)
        case "?":
            return Attempt(Answer.EXPIRED, 0.0003)
        case _:
            return Attempt(Answer.EXPIRED, 0.0003, source=_STATIONS[word])


def address(*tries: Attempt, target: str | None = None, control: str | None = None, **more: Any) -> Address:
    """An address of the lead behind two routers, or as `more` says."""
    seen = Address(
        more.pop("address", LEAD),
        PORT,
        more.pop("route", ROUTED),
        tries,
        target=None if target is None else ladder(target),
        control=None if control is None else ladder(control, "port 22"),
    )
    return replace(seen, **more)


def said(verdict: Verdict | None) -> str:
    """A verdict as FIREWALL.md writes it: `OK C`, `PORT_CLOSED P`, `NO_ANSWER_AT_ALL ?`."""
    if verdict is None:
        return "connects"
    return f"{verdict.code} {_SURE[verdict.confidence]}"


_SURE: Final = {Confidence.CERTAIN: "C", Confidence.PROBABLE: "P", Confidence.POSSIBLE: "?"}


def certificate(issuer: str = "CN=Gateway", names: tuple[str, ...] = ("other.example",)) -> Certificate:
    """A certificate that was shown."""
    begins = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    return Certificate("CN=subject", issuer, names, begins, begins + dt.timedelta(days=90), "ab" * 32)


def connecting(times: int = 6, **more: Any) -> Address:
    """An address that lets everybody in."""
    return address(*[CONNECTED] * times, **more)


def named(*addresses: str, took_s: float = 0.01, host: str = "es-1.example") -> Name:
    """A name that was found."""
    return Name(host, Lookup.FOUND, addresses, took_s=took_s)


def sight(*addresses: Address, names: Iterable[Name] | None = None, **talks: Conversation) -> Seen:
    """All that was seen, with a conversation for `v4` and `v6`, where there were any."""
    where = {"v4": LEAD, "v6": LEAD6}
    known = (named(*(each.address for each in addresses)),) if names is None else tuple(names)
    return Seen(known, addresses, tuple((where[key], talk) for key, talk in talks.items()))


DONE: Final = Conversation(Talk(Stage.HEARTBEAT, End.DONE))

# What may be drawn: whatever the types allow.

_stations = st.sampled_from([SHADOW, R1, R2, LEAD, "10.3.0.9", LEAD6, SHADOW6, R1_6, "fe80::1%eth0"])

attempts = st.builds(
    Attempt,
    st.sampled_from(Answer),
    st.sampled_from([0.0, 0.0003, 1.0, 3.3]),
    st.sampled_from([None, 1, 13, 101, 110, 111, 113]),
    st.none() | st.sampled_from(Icmp),
    st.none() | _stations,
    st.integers(0, 4),
)
_ladders = st.none() | st.builds(Ladder, st.sampled_from(["port 22", "UDP"]), st.lists(attempts, max_size=5).map(tuple))
_ttls = st.none() | st.integers(1, 255)
_pictures = st.none() | st.builds(Picture, st.just("2026-11-24T10:00:00.000Z"), st.none() | st.integers(1, 6))

addresses = st.builds(
    Address,
    _stations,
    st.just(PORT),
    st.none() | st.sampled_from([ROUTED, ON_LINK, ROUTED6, Route(SHADOW, "")]),
    st.lists(attempts, max_size=3).map(tuple),
    st.sampled_from(Neighbour),
    _ladders,
    _ladders,
    st.just(()),
    st.integers(0, 3),
    st.integers(0, 5),
    st.integers(0, 2),
    st.booleans(),
    _ttls,
    _ttls,
    _pictures,
)

talks = st.builds(
    Talk,
    st.sampled_from([stage for stage in Stage if stage not in {Stage.RESOLVE, Stage.ROUTE, Stage.TCP}]),
    st.sampled_from(End),
    st.just(0.1),
    st.sampled_from(["", "self-signed certificate"]),
    st.none() | st.sampled_from([2, 9, 10, 18, 20, 62, 64, 66]),
    st.none() | st.sampled_from(["", "WRONG_VERSION_NUMBER", "TLSV13_ALERT_CERTIFICATE_REQUIRED", "HANDSHAKE_FAILURE"]),
    st.sampled_from([1, 518]),
    st.sampled_from([0, 1, 519]),
    st.integers(0, 1),
    st.integers(0, 1),
    st.sampled_from([(), ((Stage.TLS, 0.1),)]),
)
conversations = st.builds(
    Conversation, talks, st.none() | talks, st.none() | talks, st.booleans(), st.none() | st.just(certificate())
)
names = st.builds(
    Name,
    st.sampled_from(["es-1.example", LEAD]),
    st.sampled_from(Lookup),
    st.lists(_stations, max_size=2).map(tuple),
    st.sampled_from([(), ("0.0.0.0",)]),  # noqa: S104  what a filter of names answers
    st.sampled_from([0.0, 3.0]),
)
