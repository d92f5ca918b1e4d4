"""The kernel's table of connections: how full it is, for everybody (`table`); who is in it, for root (`capture`).

Where the kernel does not show its entries in /proc, Debian's `conntrack` is asked, if it is installed. Kept is
the latest connection of each peer to a port on which something listens here: nobody's browsing gets into the file.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from propagator.core.conntrack import TIMEOUTS, Flow, Handshake, Table, dropped_and_clashed, read_flow
from propagator.firewall import tool

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from propagator.core.difference import JsonObject, JsonValue

_SETTINGS: Final = Path("/proc/sys/net/netfilter")
_NET: Final = Path("/proc/self/net")
_LISTEN: Final = "0A"

FLOWS_LIMIT: Final = 20_000
"""Peers that are kept: the shadows that a lead may have, five times over. With more the rest is not known."""


def table() -> Table | None:
    """Say how full the table is, and what was dropped so far; None where this kernel has none, or does not say."""
    try:
        count, limit = (int((_SETTINGS / f"nf_conntrack_{name}").read_text()) for name in ("count", "max"))
    except (OSError, ValueError):
        return None
    try:
        statistics = (_NET / "stat/nf_conntrack").read_text()
    except OSError:
        statistics = ""
    return Table(count, limit, *dropped_and_clashed(statistics))


@dataclass(frozen=True, slots=True)
class Flows:
    """Who is in the table. `unread`: why others may be, too; empty: who is not among them is not in it."""

    found: tuple[Flow, ...]
    unread: str


NOT_CAPTURED: Final = Flows((), "the captured state does not hold it")


def capture() -> JsonObject:
    """Give who is in the table, as `read` takes it; needs root. What cannot be read is said, and why."""
    try:
        ports = frozenset(_listening())
        with (_NET / "nf_conntrack").open() as lines:
            return _latest(lines, ports)
    except FileNotFoundError:
        return _by_tool()
    except OSError as exc:
        return _unread(f"{exc.filename}: {exc.strerror}")


def _by_tool() -> JsonObject:
    """Ask the tool for both families: an older one gives IPv4 alone unless told otherwise."""
    lines: list[str] = []
    for family in ("ipv4", "ipv6"):
        text, why = tool.run(["conntrack", "-L", "-f", family, "-p", "tcp"])
        if text is None:
            return _unread(why)
        lines += text.splitlines()
    return _latest(lines, frozenset(_listening()))


def _unread(why: str) -> JsonObject:
    return {"flows": [], "unread": why}


def _listening() -> Iterator[int]:
    """Name the ports of TCP on which something listens."""
    for name in ("tcp", "tcp6"):
        for line in (_NET / name).read_text().splitlines()[1:]:
            _, own, _, state, *_ = line.split()
            if state == _LISTEN:
                yield int(own.rpartition(":")[2], 16)


def _latest(lines: Iterable[str], ports: frozenset[int]) -> JsonObject:
    """Keep the latest connection of each peer to each of these ports."""
    kept: dict[tuple[int, str], Flow] = {}
    timeouts = {name: _timeout(name, usual_s) for name, usual_s in TIMEOUTS.items()}
    end_s = time.monotonic() + tool.DEADLINE_S
    unread = ""
    for line in lines:
        flow = read_flow(line, timeouts)
        if flow is not None and flow.port in ports:
            kept[flow.port, flow.peer] = min(flow, kept.get((flow.port, flow.peer), flow), key=lambda one: one.age_s)
        if len(kept) > FLOWS_LIMIT or time.monotonic() > end_s:
            unread = "the table holds more than is read"
            break
    flows: list[JsonValue] = [[flow.port, flow.peer, flow.handshake, flow.age_s] for flow in kept.values()]
    return {"flows": flows, "unread": unread}


def _timeout(state: str, usual_s: int) -> int:
    try:
        return int((_SETTINGS / f"nf_conntrack_tcp_timeout_{state}").read_text())
    except (OSError, ValueError):
        return usual_s


def read(told: JsonValue) -> Flows:
    """Read what `capture` gave out of the document that it stands in; what is not of its shape is not read."""
    match told:
        case {"conntrack": {"flows": [*rows], "unread": str(unread)}}:
            found = [flow for row in rows if (flow := _flow(row)) is not None]
            return Flows(tuple(found), unread or ("" if len(found) == len(rows) else "some are of another shape"))
        case _:
            return NOT_CAPTURED


def _flow(row: JsonValue) -> Flow | None:
    match row:
        case [int(port), str(peer), str(handshake), int(age_s)] if handshake in set(Handshake):
            return Flow(port, peer, Handshake(handshake), age_s)
        case _:
            return None
