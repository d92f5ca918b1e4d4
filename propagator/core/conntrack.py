"""The kernel's table of connections (conntrack) on a lead's host: how full it is, and how far a device got by it.

Takes the kernel's own lines, or those of the tool of the same name; pure. A packet that the host's filter drops on its
way in leaves no entry, for an entry counts only behind the filter: so a first packet that is in the table came through.
Where nothing is tracked there is no table to judge, which is not "nothing came".
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Handshake(StrEnum):
    """How far a connection got: its SYN came in, it was answered, or the three words were said."""

    UNANSWERED = "unanswered"
    ANSWERED = "answered"
    COMPLETE = "complete"


@dataclass(frozen=True, slots=True)
class Flow:
    """A connection of a peer to a port; `age_s`: how long ago its last packet came by."""

    port: int
    peer: str
    handshake: Handshake
    age_s: int


@dataclass(frozen=True, slots=True)
class Table:
    """How full the table is (`limit` 0: without bound), and what was dropped since the kernel began to count.

    `dropped`: packets for which there was no place; `clashed`: whose entry another one kept out. None: not told.
    """

    count: int
    limit: int
    dropped: int | None = None
    clashed: int | None = None

    @property
    def is_full(self) -> bool:
        """Whether a new connection finds no place: the kernel then drops its first packet."""
        return 0 < self.limit <= self.count

    def since(self, earlier: Table) -> Table:
        """The same table, with the larger count of the two, and what was dropped between."""
        return Table(
            max(self.count, earlier.count),
            self.limit,
            _between(self.dropped, earlier.dropped),
            _between(self.clashed, earlier.clashed),
        )


def _between(later: int | None, earlier: int | None) -> int | None:
    return None if later is None or earlier is None else later - earlier


def dropped_and_clashed(statistics: str) -> tuple[int | None, int | None]:
    """Read /proc/net/stat/nf_conntrack: a line of names, then one for each processor, in hexadecimal."""
    names, *lines = [line.split() for line in statistics.splitlines()] or [[]]
    rows = [dict(zip(names, line, strict=False)) for line in lines]
    return _sum(rows, "drop"), _sum(rows, "insert_failed")


def _sum(rows: list[dict[str, str]], name: str) -> int | None:
    try:
        return sum(int(row[name], 16) for row in rows) if rows else None
    except (KeyError, ValueError):
        return None


TIMEOUTS: Final[Mapping[str, int]] = {
    "syn_sent": 120,
    "syn_recv": 60,
    "established": 5 * 24 * 3600,
    "fin_wait": 120,
    "close_wait": 60,
    "last_ack": 30,
    "time_wait": 120,
    "close": 10,
}
"""How long Linux keeps an entry in each state, in seconds, unless nf_conntrack_tcp_timeout_… says otherwise."""


def read_flow(line: str, timeouts: Mapping[str, int] = TIMEOUTS) -> Flow | None:
    """Read a line of /proc/net/nf_conntrack, or of `conntrack -L`; None for what is no connection of TCP."""
    _, _, told = f" {line}".partition(" tcp ")
    words = told.split()
    named: dict[str, str] = {}
    for word in words:  # the first of each name is of the packet that began it, the second of its answer
        name, _, value = word.partition("=")
        named.setdefault(name, value)
    try:
        _, left_s, state = words[:3]
        age_s = max(0, timeouts[state.lower().rstrip("2")] - int(left_s))
        return Flow(int(named["dport"]), str(ipaddress.ip_address(named["src"])), _handshake(state, line), age_s)
    except (KeyError, ValueError):
        return None


_ASSURED: Final = "[ASSURED]"
"""What the kernel writes behind the third word; a half-open connection that was given up is closed without it."""


def _handshake(state: str, line: str) -> Handshake:
    if state.startswith("SYN_SENT"):
        return Handshake.UNANSWERED
    is_half = state == "SYN_RECV" or (state == "CLOSE" and _ASSURED not in line)
    return Handshake.ANSWERED if is_half else Handshake.COMPLETE


def latest(flows: Iterable[Flow], peers: Iterable[str]) -> Flow | None:
    """Give the latest connection of any of these addresses or networks; None if there is none."""
    wanted = [ipaddress.ip_network(peer.partition("%")[0], strict=False) for peer in peers]
    found = (flow for flow in flows if any(ipaddress.ip_address(flow.peer) in network for network in wanted))
    return min(found, key=lambda flow: flow.age_s, default=None)
