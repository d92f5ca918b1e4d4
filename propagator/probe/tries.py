"""Single tries: connect, a ladder of them with rising TTL, the TTL that answers arrive with.

Few at once: routers limit their ICMP to about one a second and peer after a burst of six, so a silence among many
tries says nothing (FIREWALL.md §1, 11). Each wait is longer than a second, so that one SYN is sent twice.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import TYPE_CHECKING, Final

from propagator.core.diagnosis.seen import Answer, Attempt, Icmp, Ladder
from propagator.probe import sockets

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from propagator.probe.sockets import Complaint, SockAddr

CONNECT_S: Final = 3.3
"""Room for three SYNs sent again on kernels since 6.5, for two on older ones."""

RUNG_S: Final = 1.2
AT_ONCE: Final = 4
HIGHEST_TTL: Final = 12
SILENT_RUNGS: Final = 4
"""A ladder ends after so many silent rungs."""

UDP_PORT: Final = 33434
"""Where traceroute knocks: nobody listens there, so a host says `port unreachable`."""

_NO_ROUTE: Final = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.ENETDOWN, errno.EINVAL})
_DENIED: Final = frozenset({errno.EPERM, errno.EACCES})


async def connect(
    address: str, port: int, limit_s: float = CONNECT_S, *, ttl: int | None = None, above: int | None = None
) -> Attempt:
    """Try to connect, and hang up. `ttl` limits the hops; answers that arrive with a TTL below `above` do not count."""
    family, where = sockets.sockaddr(address, port)
    with sockets.tcp(family) as sock:
        if ttl is not None:
            sockets.limit_hops(sock, ttl)
        if above is not None:
            sockets.ignore_below(sock, above)
        return await attempt(sock, where, limit_s)


async def attempt(sock: socket.socket, where: SockAddr, limit_s: float) -> Attempt:
    """Connect this socket, which stays open, and say how it went."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    try:
        async with asyncio.timeout(limit_s):
            await loop.sock_connect(sock, where)
    except TimeoutError:
        number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or None
        if number is not None or not _is_connected(sock):
            return _ended(sock, number, loop.time() - begun)
    except OSError as error:
        return _ended(sock, error.errno, loop.time() - begun)
    return Attempt(Answer.CONNECTED, loop.time() - begun, retransmits=sockets.tcp_info(sock).total_retrans)


def _is_connected(sock: socket.socket) -> bool:
    """Whether it came about all the same: a process that had no turn sees that and the end of its time at once."""
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def _ended(sock: socket.socket, number: int | None, took_s: float) -> Attempt:
    complaint = sockets.complaint(sock)
    sent_again = sockets.tcp_info(sock).retransmits
    if complaint is not None:
        answer = Answer.EXPIRED if complaint.expired else Answer.REJECTED
        return Attempt(answer, took_s, number, complaint.icmp, complaint.source, sent_again, complaint.ttl)
    if number is None or number == errno.ETIMEDOUT:
        return Attempt(Answer.SILENT, took_s, number, retransmits=sent_again)
    if number in {errno.ECONNREFUSED, errno.ECONNRESET}:
        return Attempt(Answer.RESET, took_s, number, retransmits=sent_again)
    if number in _DENIED:
        return Attempt(Answer.DENIED, took_s, number)
    if number in _NO_ROUTE:
        return Attempt(Answer.NO_ROUTE, took_s, number)
    return Attempt(Answer.SILENT, took_s, number, retransmits=sent_again)


async def knock(address: str, limit_s: float = RUNG_S, *, port: int = UDP_PORT, ttl: int | None = None) -> Attempt:
    """Send one UDP packet and wait for what ICMP says of it. Two packets: the first may meet a sleeping neighbour."""
    family, where = sockets.sockaddr(address, port)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    with sockets.udp(family) as sock:
        if ttl is not None:
            sockets.limit_hops(sock, ttl)
        try:
            sock.connect(where)
            sock.send(b"\0")
        except OSError as error:
            denied = error.errno in _DENIED
            return Attempt(Answer.DENIED if denied else Answer.NO_ROUTE, loop.time() - begun, error.errno)
        complaint = await _hear(sock, limit_s)
    if complaint is None:
        return Attempt(Answer.SILENT, loop.time() - begun)
    answer = Answer.EXPIRED if complaint.expired else Answer.REJECTED
    return Attempt(answer, loop.time() - begun, None, complaint.icmp, complaint.source, ttl=complaint.ttl)


async def _hear(sock: socket.socket, limit_s: float) -> Complaint | None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(sock, ready.set)
    try:
        async with asyncio.timeout(limit_s):
            while True:
                await ready.wait()
                ready.clear()
                if (complaint := sockets.complaint(sock)) is not None:
                    return complaint
                _take_error(sock)
    except TimeoutError:
        return None
    finally:
        loop.remove_reader(sock)


def _take_error(sock: socket.socket) -> None:
    """Take what made the socket ready, or it would be ready for ever."""
    sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


async def ladder(of: str, step: Callable[[int], Awaitable[Attempt]]) -> Ladder:
    """Try with a TTL of 1, 2, 3 and so on, four at once, until somebody answers or nobody does four times."""
    rungs: list[Attempt] = []
    while len(rungs) < HIGHEST_TTL:
        first = len(rungs) + 1
        rungs += await asyncio.gather(*(step(ttl) for ttl in range(first, first + AT_ONCE)))
        if _arrived(rungs) or all(rung.answer is Answer.SILENT for rung in rungs[-SILENT_RUNGS:]):
            break
    return Ladder(of, tuple(_shortened(rungs)))


def _arrived(rungs: list[Attempt]) -> bool:
    return any(rung.answer not in {Answer.EXPIRED, Answer.SILENT} for rung in rungs)


def _shortened(rungs: list[Attempt]) -> list[Attempt]:
    """Leave out what comes after the first arrival."""
    for index, rung in enumerate(rungs):
        if rung.answer not in {Answer.EXPIRED, Answer.SILENT}:
            return rungs[: index + 1]
    return rungs


async def tcp_ladder(address: str, port: int, rung_s: float = RUNG_S) -> Ladder:
    """A ladder on one port."""
    return await ladder(f"port {port}", lambda ttl: connect(address, port, rung_s, ttl=ttl))


async def udp_ladder(address: str) -> Ladder:
    """A ladder with UDP: what ICMP says of it is an answer."""
    return await ladder("UDP", lambda ttl: knock(address, ttl=ttl))


async def answer_ttl(address: str, port: int, guess: int | None = None, *, wait_s: float = 0.3) -> int | None:
    """Find the TTL that answers of this port arrive with; None where nothing answers, it varies or cannot be asked for.

    By halving, after `guess` and what is next to it: a try whose answer does not count leaves a half-open connection
    at the other end for a second, and a guess that is right needs but one of them.
    """
    low, high = 1, _HIGHEST
    begun = asyncio.get_running_loop().time()
    if not (_can_ask(address, port) and await _answers_above(address, port, low, wait_s)):
        return None
    wait_s = max(wait_s, 4 * (asyncio.get_running_loop().time() - begun))
    while low < high:
        if guess is not None and low <= guess < high:
            middle = guess if low < guess else guess + 1
        else:
            middle = (low + high + 1) // 2
        if await _answers_above(address, port, middle, wait_s):
            low = middle
        else:
            high = middle - 1
    return low


_HIGHEST: Final = 255


def _can_ask(address: str, port: int) -> bool:
    """Whether this kernel ignores answers below a TTL; one that does not would show every answer above any."""
    family, _ = sockets.sockaddr(address, port)
    with sockets.tcp(family) as sock:
        return sockets.ignore_below(sock, 1)


async def _answers_above(address: str, port: int, ttl: int, wait_s: float) -> bool:
    tried = await connect(address, port, wait_s, above=ttl)
    return tried.answer in {Answer.CONNECTED, Answer.RESET} or tried.icmp is Icmp.PORT
