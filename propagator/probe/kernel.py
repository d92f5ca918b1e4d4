"""What the kernel knows of the way: route, neighbour and own networks, asked by netlink (rtnetlink(7)). No privilege.

A request, a reply, three kinds of message: a library for all of netlink would be larger than this server's whole work
(docs/decisions). Where the kernel does not answer, the fact is missing.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import struct
from typing import TYPE_CHECKING, Final

from propagator.core.diagnosis.seen import Neighbour, Route

if TYPE_CHECKING:
    from collections.abc import Iterator

_NEWADDR, _GETADDR, _NEWROUTE, _GETROUTE, _NEWNEIGH, _GETNEIGH = 20, 22, 24, 26, 28, 30
_ERROR, _DONE = 2, 3
_REQUEST, _DUMP = 0x1, 0x300
_HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_RTMSG: Final = struct.Struct("=BBBBBBBBI")
_NDMSG: Final = struct.Struct("=BBHiHBB")
_IFADDRMSG: Final = struct.Struct("=BBBBI")
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PREFSRC, _RTA_VIA = 1, 4, 5, 7, 18
_NDA_DST, _IFA_ADDRESS, _IFA_LOCAL = 1, 1, 2
_UNICAST, _LOCAL = 1, 2
_REACHABLE: Final = 0x02 | 0x04 | 0x08 | 0x10 | 0x40 | 0x80  # reachable, stale, delay, probe, noarp, permanent
_FAILED: Final = 0x01 | 0x20  # incomplete: nobody has answered yet, failed: nobody does
_ANSWER_S: Final = 1.0


def route(address: str) -> Route | None:
    """Ask for the way to an address; None if there is none. Without netlink the gateway is not told: empty."""
    target = ipaddress.ip_address(address.partition("%")[0])
    family = socket.AF_INET if target.version == 4 else socket.AF_INET6  # noqa: PLR2004
    bits = target.max_prefixlen
    body = _RTMSG.pack(family, bits, 0, 0, 0, 0, 0, 0, 0) + _attribute(_RTA_DST, target.packed)
    for kind, payload in _ask(_GETROUTE, body, dump=False):
        if kind != _NEWROUTE or payload[7] not in {_UNICAST, _LOCAL}:
            continue
        found = dict(_attributes(payload[_RTMSG.size :]))
        gateway = found.get(_RTA_GATEWAY) or found.get(_RTA_VIA, b"")[2:]
        index = struct.unpack("=I", found[_RTA_OIF])[0] if _RTA_OIF in found else 0
        source = _text(found[_RTA_PREFSRC]) if _RTA_PREFSRC in found else _source_to(address)
        return Route(source, _text(gateway) if gateway else None, _device(index), network_of(source))
    source = _source_to(address)
    return Route(source, "") if source else None


def neighbour(address: str) -> Neighbour:
    """Say what is known of the link address of a station on our own network."""
    wanted = ipaddress.ip_address(address.partition("%")[0]).packed
    family = socket.AF_INET if len(wanted) == 4 else socket.AF_INET6  # noqa: PLR2004  bytes of IPv4
    states = [
        _NDMSG.unpack_from(payload)[4]
        for kind, payload in _ask(_GETNEIGH, _NDMSG.pack(family, 0, 0, 0, 0, 0, 0), dump=True)
        if kind == _NEWNEIGH and dict(_attributes(payload[_NDMSG.size :])).get(_NDA_DST) == wanted
    ]
    if any(state & _REACHABLE for state in states):
        return Neighbour.REACHABLE
    return Neighbour.FAILED if any(state & _FAILED for state in states) else Neighbour.UNKNOWN


def own_networks() -> tuple[ipaddress.IPv4Interface | ipaddress.IPv6Interface, ...]:
    """List this host's addresses, each with its network."""
    found = []
    for kind, payload in _ask(_GETADDR, _IFADDRMSG.pack(0, 0, 0, 0, 0), dump=True):
        known = dict(_attributes(payload[_IFADDRMSG.size :])) if kind == _NEWADDR else {}
        packed = known.get(_IFA_LOCAL) or known.get(_IFA_ADDRESS)
        if packed is not None:
            found.append(ipaddress.ip_interface((packed, payload[1])))
    return tuple(found)


def network_of(source: str) -> str:
    """Name the network of one of this host's addresses; empty if it is none of ours."""
    return next((str(own.network) for own in own_networks() if str(own.ip) == source.partition("%")[0]), "")


def _source_to(address: str) -> str:
    """Ask which address we would send from: connecting UDP sends nothing."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
        sock.connect((address, 9))
        return str(sock.getsockname()[0])
    return ""


def _ask(kind: int, body: bytes, *, dump: bool) -> Iterator[tuple[int, bytes]]:
    """Send one request, yield the messages of its answer. Yields nothing where netlink is not to be had."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
            sock.settimeout(_ANSWER_S)
            sock.bind((0, 0))
            sock.send(_HEADER.pack(_HEADER.size + len(body), kind, _REQUEST | (_DUMP if dump else 0), 1, 0) + body)
            while True:
                for answered, payload in _messages(sock.recv(1 << 17)):
                    if answered in {_ERROR, _DONE}:
                        return
                    yield answered, payload
                    if not dump:
                        return
    except OSError:
        return


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, *_ = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size:
            return
        yield kind, data[offset + _HEADER.size : offset + length]
        offset += (length + 3) & ~3


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size:
            return
        yield kind & 0x3FFF, data[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + b"\0" * (-len(value) % 4)


def _text(packed: bytes) -> str:
    return str(ipaddress.ip_address(packed))


def _device(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return ""


def host_name() -> str:
    """Name this machine, for the text of a ticket."""
    return os.uname().nodename
