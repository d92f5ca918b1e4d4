"""What a case of FIREWALL.md §2 is: how a lab is spoilt, what a socket then shows, and what must be said of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple, TypeAlias, TypedDict, Unpack

from tests.firewall.lab import Lab
from tests.firewall.room import PORT, Place, Topology

Make: TypeAlias = Callable[[Lab], None]
"""Spoils a lab in which nobody serves yet: most begin with `lab.serve()`."""

Confidence: TypeAlias = Literal["certain", "probable", "possible"]


class Verdict(NamedTuple):
    """What is said: a public code, and how sure it is."""

    code: str
    confidence: Confidence


class Sight(TypedDict, total=False):
    """What is seen of a case, in words (`sight.py` makes them); as patterns, what has to be seen."""

    resolve: str
    """`found`, or an error's name; `slow` behind it beyond 2.5 s."""
    connect: str
    """The first try: an errno's name, `connected` or `timeout`."""
    took: str
    """`at once`, or its seconds."""
    icmp: str
    """Which, and from whom; or `none`."""
    v4: str
    v6: str
    """The last try of each family."""
    retransmitted: str
    """Whether `some` first packets were lost on the way to a connection, or `none`."""
    ladder: str
    control: str
    """Who answers at each hop, on the lead's port and on another one."""
    udp: str
    retrans_fail: str
    swallowed: str
    """What the shadow's own filter does: to a datagram, and by its counters `some` or `none`."""
    session: str
    small: str
    """How far TLS and MQTT get; and with small segments."""
    lead_swallowed: str
    lead_no_routes: str
    lead_rp_filter: str
    lead_overflows: str
    """What the lead counted meanwhile: `some` or `none`."""
    lead_half_open: str
    """Connections that wait there for the shadow's last word: `none`, `unsent` or `repeated`, the lead's answer."""


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One case. `alone`: what the shadow must say; `joint`: what both ends must, None where the lead adds nothing.

    `sees` are patterns for what look.py shows (`sight.py` has the words), `question` is what it is asked besides.
    `seen_before`: the shadow's agent has drawn the way before. `why_left_out`: the product cannot get into this case.
    """

    name: str
    row: int
    make: Make
    sees: Sight
    alone: Verdict
    joint: Verdict | None = None
    topology: Topology = "routed"
    question: Mapping[str, Any] = field(default_factory=dict)
    seen_before: bool = False
    why_left_out: str = ""


NOTHING: Final[Sight] = {}

CASES: Final[dict[str, Case]] = {}
"""Every case, in the order of the table; filled by the modules of `cases.py`."""

_LETTERS: Final[dict[str, Confidence]] = {"C": "certain", "P": "probable", "?": "possible"}


def verdict(text: str) -> Verdict:
    """Read a verdict as the table writes it: `PORT_CLOSED P`."""
    code, letter = text.split()
    return Verdict(code, _LETTERS[letter])


def case(
    row: int,
    alone: str,
    joint: str = "",
    *,
    name: str = "",
    topology: Topology = "routed",
    ask: Mapping[str, Any] | None = None,
    seen_before: bool = False,
    why_left_out: str = "",
    like: Sight = NOTHING,
    **sees: Unpack[Sight],
) -> Callable[[Make], Make]:
    """Enter a case into the table, under the function's name unless it has another; it shows `like`, and `sees`."""

    def enter(make: Make) -> Make:
        called = name or getattr(make, "__name__", "").strip("_").replace("_", "-")
        assert called not in CASES, called
        CASES[called] = Case(
            called,
            row,
            make,
            {**like, **sees},
            verdict(alone),
            verdict(joint) if joint else None,
            topology,
            ask or {},
            seen_before,
            why_left_out,
        )
        return make

    return enter


def chain(lab: Lab, place: Place, hook: str, *rules: str, policy: str = "accept", table: str = "inet lab") -> None:
    """Add a chain of a packet filter: hook input, output or forward."""
    lines = [f"type filter hook {hook} priority filter; policy {policy};", *rules]
    lab.nft(place, _table(table, hook, lines))


def translate(lab: Lab, place: Place, hook: str, *rules: str) -> None:
    """Add a chain that changes addresses: hook prerouting or postrouting."""
    priority = {"prerouting": "dstnat", "postrouting": "srcnat"}[hook]
    lab.nft(place, _table("ip labnat", hook, [f"type nat hook {hook} priority {priority};", *rules]))


def _table(table: str, name: str, lines: Sequence[str]) -> str:
    return "\n".join([f"table {table} {{", f"chain {name} {{", *lines, "}", "}", ""])


def filtered(place: Place, hook: str, *rules: str, policy: str = "accept", hosts: list[str] | None = None) -> Make:
    """Make a lab with a healthy lead and one chain."""

    def make(lab: Lab) -> None:
        if hosts is not None:
            lab.know_lead_at(*hosts)
        lab.serve()
        chain(lab, place, hook, *rules, policy=policy)

    return make


TO_LEAD: Final = f"tcp dport {PORT}"
FROM_LEAD: Final = f"tcp sport {PORT}"
