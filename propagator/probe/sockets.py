"""Sockets that tell more than errno: ICMP and its sender, a TTL of our choice, what TCP knows. No privilege is needed.

Linux 5.8 and later give the ICMP message that ended a connect through the error queue (FIREWALL.md §3). Where a kernel
knows one of these options not, the fact is missing and nothing else changes.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
import struct
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from propagator.core.diagnosis.seen import Icmp

SockAddr: TypeAlias = "tuple[str, int] | tuple[str, int, int, int]"

# Python 3.11 does not name these (linux/in.h, linux/in6.h, linux/tcp.h).
_IP_RECVERR: Final = 11
_IP_RECVTTL: Final = 12
_IP_MINTTL: Final = 21
_IPV6_RECVERR: Final = 25
_IPV6_MINHOPCOUNT: Final = 73
_MSG_ERRQUEUE: Final = 0x2000

_LOCAL, _ICMP, _ICMP6 = 1, 2, 3  # sock_extended_err.ee_origin
_EXTENDED_ERR: Final = struct.Struct("=IBBBBII")
_EXPIRED: Final = {_ICMP: 11, _ICMP6: 3}
_V4_CODES: Final = {0: Icmp.NET, 6: Icmp.NET, 1: Icmp.HOST, 7: Icmp.HOST, 3: Icmp.PORT}
_V4_PROHIBITED: Final = frozenset({9, 10, 13})
_V6_CODES: Final = {0: Icmp.NET, 3: Icmp.HOST, 4: Icmp.PORT}
_V6_PROHIBITED: Final = frozenset({1, 5, 6})
_UNREACHABLE: Final = {_ICMP: 3, _ICMP6: 1}


@dataclass(frozen=True, slots=True)
class Complaint:
    """One ICMP message about what we sent. `expired`: a router counted the TTL down; `ttl`: what it arrived with."""

    source: str
    expired: bool
    icmp: Icmp | None
    ttl: int | None = None


@dataclass(frozen=True, slots=True)
class TcpInfo:
    """What TCP knows of a connection (struct tcp_info): bytes, and segments sent again or out of order."""

    retransmits: int = 0
    total_retrans: int = 0
    acked: int = 0
    unacked: int = 0
    gap: int = 0


def sockaddr(address: str, port: int) -> tuple[socket.AddressFamily, SockAddr]:
    """Return family and socket address of a numeric address, with the zone of a link-local one."""
    found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    family, where = found[0][0], found[0][4]
    return family, where  # type: ignore[return-value]  # numeric: never the bytes of AF_PACKET


def is_v6(sock: socket.socket) -> bool:
    """Say whether it is a socket of IPv6."""
    return sock.family == socket.AF_INET6


def tcp(family: socket.AddressFamily) -> socket.socket:
    """Open a TCP socket that does not wait, closes without lingering, and keeps ICMP messages for us."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setblocking(False)  # noqa: FBT003
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    _keep_complaints(sock)
    return sock


def udp(family: socket.AddressFamily) -> socket.socket:
    """Open a UDP socket that does not wait and keeps ICMP messages for us."""
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setblocking(False)  # noqa: FBT003
    _keep_complaints(sock)
    return sock


def _keep_complaints(sock: socket.socket) -> None:
    level, *options = (
        (socket.IPPROTO_IPV6, _IPV6_RECVERR, socket.IPV6_RECVHOPLIMIT)
        if is_v6(sock)
        else (socket.IPPROTO_IP, _IP_RECVERR, _IP_RECVTTL)
    )
    for option in options:
        with contextlib.suppress(OSError):
            sock.setsockopt(level, option, 1)


def limit_hops(sock: socket.socket, ttl: int) -> None:
    """Let packets of this socket go so many hops, and no farther."""
    if is_v6(sock):
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, ttl)
    else:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)


def ignore_below(sock: socket.socket, ttl: int) -> bool:
    """Let the kernel ignore answers that arrive with a lower TTL; False where it cannot."""
    level, option = (socket.IPPROTO_IPV6, _IPV6_MINHOPCOUNT) if is_v6(sock) else (socket.IPPROTO_IP, _IP_MINTTL)
    try:
        sock.setsockopt(level, option, ttl)
    except OSError:
        return False
    return True


def limit_segments(sock: socket.socket, size: int) -> None:
    """Send and ask for segments of at most so many bytes. Before connecting."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, size)


def complaint(sock: socket.socket) -> Complaint | None:
    """Take the ICMP message that lies at this socket, None if there is none."""
    while True:
        try:
            _, ancillary, _, _ = sock.recvmsg(512, 512, _MSG_ERRQUEUE)
        except OSError:
            return None
        ttl = next((_TTL.unpack(data)[0] for level, kind, data in ancillary if (level, kind) in _TTLS), None)
        for level, kind, data in ancillary:
            if (level, kind) not in _TTLS and (found := _complaint(data)) is not None:
                return replace(found, ttl=ttl)


_TTL: Final = struct.Struct("=i")
_TTLS: Final = frozenset({(socket.IPPROTO_IP, socket.IP_TTL), (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT)})
"""What the ICMP message itself arrived with: from how far it comes, whatever it names as its sender."""


def _complaint(data: bytes) -> Complaint | None:
    if len(data) < _EXTENDED_ERR.size:
        return None
    number, origin, kind, code, _, _, _ = _EXTENDED_ERR.unpack_from(data)
    source = _offender(data[_EXTENDED_ERR.size :])
    if origin not in _UNREACHABLE or source is None:
        return None
    if kind == _EXPIRED[origin]:
        return Complaint(source, expired=True, icmp=None)
    if kind != _UNREACHABLE[origin] or number == errno.EMSGSIZE:
        return Complaint(source, expired=False, icmp=Icmp.OTHER)
    codes, prohibited = (_V4_CODES, _V4_PROHIBITED) if origin == _ICMP else (_V6_CODES, _V6_PROHIBITED)
    return Complaint(source, expired=False, icmp=Icmp.PROHIBITED if code in prohibited else codes.get(code, Icmp.OTHER))


def _offender(data: bytes) -> str | None:
    """Read the sockaddr of whoever sent the message."""
    if len(data) < 2:  # noqa: PLR2004  a family
        return None
    family = struct.unpack_from("=H", data)[0]
    if family == socket.AF_INET and len(data) >= 8:  # noqa: PLR2004  family, port, address
        return str(ipaddress.IPv4Address(data[4:8]))
    if family == socket.AF_INET6 and len(data) >= 24:  # noqa: PLR2004  family, port, flow, address
        return str(ipaddress.IPv6Address(data[8:24]))
    return None


_TCP_INFO_BYTES: Final = 256
_RETRANSMITS, _UNACKED, _TOTAL_RETRANS, _BYTES_ACKED, _OUT_OF_ORDER = 2, 24, 100, 120, 224


def tcp_info(sock: socket.socket) -> TcpInfo:
    """Ask TCP; what an older kernel does not know is 0."""
    try:
        raw = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    except OSError:
        return TcpInfo()
    raw = raw.ljust(_TCP_INFO_BYTES, b"\0")
    return TcpInfo(
        retransmits=raw[_RETRANSMITS],
        total_retrans=struct.unpack_from("=I", raw, _TOTAL_RETRANS)[0],
        acked=struct.unpack_from("=Q", raw, _BYTES_ACKED)[0],
        unacked=struct.unpack_from("=I", raw, _UNACKED)[0],
        gap=struct.unpack_from("=I", raw, _OUT_OF_ORDER)[0],
    )
