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
    from collections.abc import Iterable


class Handshake(StrEnum):
    """How far a connection got in the last two minutes: its SYN came in, it was answered, or the three words were said.

    STANDING: they were said at some time; the kernel keeps such an entry for days after its device fell silent.
    """

    STANDING = "standing"
    UNANSWERED = "unanswered"
    ANSWERED = "answered"
    COMPLETE = "complete"


@dataclass(frozen=True, slots=True)
class Flow:
    """So many connections of a peer to a port that got so far."""

    port: int
    peer: str
    handshake: Handshake
    count: int = 1


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


def read_flow(line: str) -> Flow | None:
    """Read a line of /proc/net/nf_conntrack, or of `conntrack -L`; None for what is no connection of TCP."""
    words = line.split()
    if "tcp" not in words[:3]:
        return None
    told: dict[str, str] = {}
    for word in words:  # the first of each name is of the packet that began it, the second of its answer
        name, _, value = word.partition("=")
        told.setdefault(name, value)
    try:
        peer = ipaddress.ip_address(told["src"])
        return Flow(int(told["dport"]), str(peer), _handshake(words))
    except (KeyError, ValueError):
        return None


_BEGUN: Final = frozenset({"SYN_SENT", "SYN_SENT2"})
_HALF: Final = frozenset({"SYN_RECV", "CLOSE"})
_ASSURED: Final = "[ASSURED]"
"""What the kernel writes behind the third word; a half-open connection that was given up is closed without it."""


def _handshake(words: list[str]) -> Handshake:
    if not _BEGUN.isdisjoint(words):
        return Handshake.UNANSWERED
    if "ESTABLISHED" in words:
        return Handshake.STANDING
    is_half = not _HALF.isdisjoint(words) and _ASSURED not in words
    return Handshake.ANSWERED if is_half else Handshake.COMPLETE


def furthest(flows: Iterable[Flow], port: int, peers: Iterable[str]) -> Handshake | None:
    """Say how far one of these addresses got to this port; None if none of them is in the table."""
    wanted = {_network(peer) for peer in peers}
    found = {
        flow.handshake
        for flow in flows
        if flow.port == port and any(ipaddress.ip_address(flow.peer) in network for network in wanted)
    }
    return max(found, key=_FAR.index, default=None)


_FAR: Final = list(Handshake)


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(text.partition("%")[0], strict=False)
