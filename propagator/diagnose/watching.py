"""A lead watches its own port for a while: listeners, queues, half-open connections and the kernel's counters.

All of it from /proc, without any privilege (FIREWALL.md §1, 4). `wire` is the one thing for root: the SYNs
that arrive at the interface, seen before any filter.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from propagator.core.diagnosis.seen import Counters, HalfOpen, LeadSide
from propagator.core.errors import StateError
from propagator.firewall import conntrack
from propagator.probe import counters, kernel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

LOOK_S: Final = 0.1
"""Half-open connections last some seconds: ten looks a second miss none."""

USUAL_S: Final = 1.0
_ETH_P_ALL: Final = 3
_TCP: Final = 6
_SYN_ONLY: Final = 0x02
_SYN_AND_ACK: Final = 0x12


class Watch:
    """One watch over one port, from `begin` to `end`; `seen` says at any time what it saw so far."""

    def __init__(self, port: int, *, earlier: bool) -> None:
        self._port = port
        self._begun = counters.read()
        self._begun_s = asyncio.get_running_loop().time()
        self._half_open: dict[str, int] = {}
        begun = () if earlier else counters.sockets(port)
        self._before = frozenset((each.peer, each.peer_port) for each in begun if each.state == counters.SYN_RECV)
        """Half-open connections that do not count: those of another try, maybe of another cause."""
        self._fullest = conntrack.table()
        """Its table of connections as it was, with the most that were in it since."""
        self._queue = 0
        self._unread = 0
        self.wire: int | None = None
        self._next: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Look, and again every tenth of a second."""
        self.look()
        self._next = asyncio.get_running_loop().call_later(LOOK_S, self.begin)

    def end(self) -> None:
        """Look no more."""
        if self._next is not None:
            self._next.cancel()

    def look(self) -> None:
        """Look once at the sockets of the port, and at the table of connections."""
        table, unread = conntrack.table(), 0
        if table is not None and self._fullest is not None:
            self._fullest = replace(self._fullest, count=max(self._fullest.count, table.count))
        for each in counters.sockets(self._port):
            if each.state == counters.SYN_RECV and (each.peer, each.peer_port) not in self._before:
                self._half_open[each.peer] = max(each.retransmits, self._half_open.get(each.peer, 0))
            elif each.state == counters.LISTEN:
                self._queue = max(self._queue, each.queue)
            elif each.state == counters.ESTABLISHED and each.inode == 0 and each.queue:
                unread += 1
        self._unread = max(self._unread, unread)

    def seen(self) -> LeadSide:
        """Say what was seen up to now."""
        window_s = asyncio.get_running_loop().time() - self._begun_s
        listed, table = counters.sockets(self._port), conntrack.table()
        return LeadSide(
            port=self._port,
            listeners=tuple(sorted({each.address for each in listed if each.state == counters.LISTEN})),
            own=tuple(str(own.ip) for own in kernel.own_networks()),
            passed=counters.read() - self._begun,
            half_open=tuple(HalfOpen(peer, again) for peer, again in sorted(self._half_open.items())),
            unread=self._unread,
            queue=self._queue,
            connected=tuple(sorted({each.peer for each in listed if each.state == counters.ESTABLISHED})),
            wire=self.wire,
            window_s=window_s,
            conntrack=None if table is None or self._fullest is None else table.since(self._fullest),
        )


async def usual(seconds: float) -> Counters:
    """Count for a second what comes without our doing, and give what that makes in so many seconds."""
    start = counters.read()
    await asyncio.sleep(USUAL_S)
    seen = counters.read() - start
    factor = seconds / USUAL_S
    return replace(seen, swallowed=round(seen.swallowed * factor), swallowed6=round(seen.swallowed6 * factor))


@contextlib.asynccontextmanager
async def watching(port: int, *, wire: bool = False, earlier: bool = False) -> AsyncIterator[Watch]:
    """Watch a port while the block runs; `earlier`: connections that are half-open by then count, too.

    `wire` needs CAP_NET_RAW: raises StateError without it.
    """
    watch = Watch(port, earlier=earlier)
    watch.begin()
    try:
        with _on_the_wire(watch, port) if wire else contextlib.nullcontext():
            yield watch
    finally:
        watch.end()


@contextlib.contextmanager
def _on_the_wire(watch: Watch, port: int) -> Iterator[None]:
    """Count the SYNs for the port as they arrive at any interface."""
    loop = asyncio.get_running_loop()
    try:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL))
    except PermissionError as error:
        raise StateError("Looking at the wire needs root.", hint="sudo propagator diagnose --wire") from error
    with sock:
        sock.setblocking(False)  # noqa: FBT003
        watch.wire = 0

        def take() -> None:
            with contextlib.suppress(BlockingIOError):
                while True:
                    packet, (_, _, kind, _, _) = sock.recvfrom(128)
                    if kind != socket.PACKET_OUTGOING and is_syn_to(packet, port):
                        watch.wire = (watch.wire or 0) + 1

        loop.add_reader(sock, take)
        try:
            yield
        finally:
            loop.remove_reader(sock)


def is_syn_to(packet: bytes, port: int) -> bool:
    """Say whether this IP packet is a first SYN for the port. Fragments and IPv6 with extension headers are not."""
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= 20 and packet[9] == _TCP:  # noqa: PLR2004
        segment = packet[(packet[0] & 0x0F) * 4 :]
    elif version == 6 and len(packet) >= 40 and packet[6] == _TCP:  # noqa: PLR2004
        segment = packet[40:]
    else:
        return False
    if len(segment) < 14:  # noqa: PLR2004
        return False
    return bool(struct.unpack_from("!H", segment, 2)[0] == port and segment[13] & _SYN_AND_ACK == _SYN_ONLY)
