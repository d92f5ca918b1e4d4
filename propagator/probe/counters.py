"""The kernel's own counters, of this network namespace: /proc/self/net (with ProcSubset=pid there is no /proc/net).

What netfilter eats has arrived (InReceives) and is not delivered (InDelivers): no privilege is needed to see that
(FIREWALL.md §1, 4). Where /proc is not to be had all are 0, and nothing is concluded from them.
"""

from __future__ import annotations

import ipaddress
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from propagator.core.diagnosis.seen import Counters

_NET: Final = Path("/proc/self/net")


def read() -> Counters:
    """Read them now."""
    ip, tcp, ext = _table("snmp", "Ip"), _table("snmp", "Tcp"), _table("netstat", "TcpExt")
    six = _pairs("snmp6")
    return Counters(
        swallowed=_missing(ip, "In", "ForwDatagrams"),
        swallowed6=_missing({key.removeprefix("Ip6"): value for key, value in six.items()}, "In", "OutForwDatagrams"),
        unsent=ext.get("TCPRetransFail", 0),
        syn_retrans=ext.get("TCPSynRetrans", 0),
        out_resets=tcp.get("OutRsts", 0),
        no_routes=ip.get("OutNoRoutes", 0) + six.get("Ip6OutNoRoutes", 0),
        listen_overflows=ext.get("ListenOverflows", 0),
        listen_drops=ext.get("ListenDrops", 0),
        queue_full=ext.get("TCPReqQFullDrop", 0),
        rpfilter=ext.get("IPReversePathFilter", 0),
    )


def _missing(table: dict[str, int], way: str, forwarded: str) -> int:
    """Count what came in and went nowhere."""
    return table.get(f"{way}Receives", 0) - table.get(f"{way}Delivers", 0) - table.get(forwarded, 0)


def _table(name: str, head: str) -> dict[str, int]:
    """Read a table of two lines: names, then values."""
    lines = [line.split() for line in _lines(name) if line.startswith(f"{head}: ")]
    if len(lines) < 2:  # noqa: PLR2004
        return {}
    names, values = lines[0], lines[1]
    return {key: int(value) for key, value in zip(names[1:], values[1:], strict=False)}


def _pairs(name: str) -> dict[str, int]:
    return {words[0]: int(words[1]) for line in _lines(name) if len(words := line.split()) == 2}  # noqa: PLR2004


def _lines(name: str) -> list[str]:
    try:
        return (_NET / name).read_text().splitlines()
    except OSError:
        return []


@dataclass(frozen=True, slots=True)
class Socket:
    """One TCP socket of this host. `state` as the kernel numbers it, `queue`: bytes (or connections) that wait."""

    address: str
    port: int
    peer: str
    peer_port: int
    state: int
    queue: int
    retransmits: int
    inode: int


ESTABLISHED, SYN_RECV, LISTEN = 1, 3, 10


def sockets(port: int) -> tuple[Socket, ...]:
    """List the TCP sockets of this local port, IPv4 and IPv6."""
    found = (_socket(line.split()) for name in ("tcp", "tcp6") for line in _lines(name)[1:])
    return tuple(each for each in found if each.port == port)


def _socket(words: list[str]) -> Socket:
    """Read a line of /proc/net/tcp (proc_net_tcp of the kernel's documentation)."""
    address, port = _endpoint(words[1])
    peer = _endpoint(words[2])
    queue = int(words[4].partition(":")[2], 16)
    return Socket(address, port, *peer, int(words[3], 16), queue, int(words[6], 16), int(words[9]))


def _endpoint(text: str) -> tuple[str, int]:
    packed, _, port = text.partition(":")
    raw = bytes.fromhex(packed)
    if sys.byteorder == "little":  # the kernel prints 32-bit words of the machine
        raw = b"".join(raw[index : index + 4][::-1] for index in range(0, len(raw), 4))
    address = ipaddress.ip_address(raw)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address), int(port, 16)
