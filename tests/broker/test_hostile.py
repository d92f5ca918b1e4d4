"""What anybody who reaches the port can throw at it (F46): the broker stays the same process and serves the others."""

from __future__ import annotations

import contextlib
import resource
import socket
import ssl
from random import Random
from typing import TYPE_CHECKING

import pytest

from propagator.core.errors import BusError
from tests.support_broker import ROOT, next_message, within

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from propagator.bus import Session
    from tests.broker.conftest import Site

HEARTBEAT = f"{ROOT}/heartbeat"
REPORT = f"{ROOT}/shadows/es-1/report"
IDLE = 2000
RANDOM_TRIES = 200


@contextlib.contextmanager
def many_descriptors() -> Iterator[None]:
    """Let this process hold as many sockets as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def dial(site: Site) -> socket.socket:
    return socket.create_connection(("127.0.0.1", site.listener.port), timeout=10)


def dial_tls(site: Site) -> ssl.SSLSocket:
    context = ssl.create_default_context(cadata=site.authority.pem)
    context.check_hostname = False
    return context.wrap_socket(dial(site))


def throw(site: Site, dialled: Callable[[Site], socket.socket], *packets: bytes) -> None:
    """Say each in a connection of its own, and hear out what comes back, if anything."""
    for packet in packets:
        with contextlib.suppress(OSError), dialled(site) as hostile:  # it may hang up in the midst of it
            hostile.sendall(packet)
            hostile.shutdown(socket.SHUT_WR)
            hostile.settimeout(1)
            while hostile.recv(4096):
                pass


def noise() -> list[bytes]:
    rng = Random(46)
    return [rng.randbytes(rng.randint(1, 400)) for _ in range(RANDOM_TRIES)]


def mangled() -> list[bytes]:
    """Bytes that begin as MQTT does: a CONNECT whose bits flip, and each kind of packet in the place of one."""
    rng = Random(47)
    good = bytes([0x10, 16, 0, 4]) + b"MQTT" + bytes([4, 2, 0, 20, 0, 4]) + b"es-1"
    found = [bytes([first]) + good[1:] for first in range(256)]
    for _ in range(RANDOM_TRIES):
        packet = bytearray(good)
        packet[rng.randrange(len(packet))] ^= 1 << rng.randrange(8)
        found.append(bytes(packet) * rng.randint(1, 3))
    return found


HUGE = [
    b"\x10\xff\xff\xff\x7f\x00\x04MQTT",  # a CONNECT of 256 MiB
    b"\x10\xff\xff\xff\xff\x01",  # a length of five bytes, which MQTT does not know
    b"\x30\xff\xff\xff\x7f" + b"A" * 100_000,  # a PUBLISH before any CONNECT
    b"\x10\x80\x80\x80\x80",
]

THROWN: dict[str, Callable[[Site], None]] = {
    "random bytes where TLS is wanted": lambda site: throw(site, dial, *noise()),
    "random bytes where MQTT is wanted": lambda site: throw(site, dial_tls, *noise()),
    "packets with flipped bits": lambda site: throw(site, dial_tls, *mangled()),
    "a length without end": lambda site: throw(site, dial_tls, *HUGE),
}


async def carries(lead: Session, shadow: Session, word: bytes) -> None:
    """Say a word each way."""
    await within(lead.publish(HEARTBEAT, word), 10)
    assert (await next_message(shadow, 10)).payload == word
    await within(shadow.publish(REPORT, word), 10)
    assert (await next_message(lead, 10)).payload == word


@contextlib.asynccontextmanager
async def undisturbed(site: Site) -> AsyncIterator[tuple[Session, Session]]:
    """Lead and shadow are connected before, and the same process still carries their words afterwards."""
    pid = site.pid
    async with site.lead().connect() as lead, site.bus("es-1").connect() as shadow:
        await shadow.subscribe(HEARTBEAT)
        await lead.subscribe(REPORT)
        await carries(lead, shadow, b"before")
        yield lead, shadow
        await carries(lead, shadow, b"after")
    assert site.pid == pid
    async with site.bus("es-2").connect() as newcomer:
        await newcomer.publish(f"{ROOT}/shadows/es-2/report", b"and who comes now is let in")


@pytest.mark.parametrize("thrown", THROWN.values(), ids=THROWN)
async def test_f46_hostile_bytes_end_nobodys_session(running: Site, thrown: Callable[[Site], None]) -> None:
    async with undisturbed(running):
        thrown(running)


async def test_f46_two_thousand_idle_sockets_keep_nobody_out(running: Site) -> None:
    with many_descriptors():
        async with undisturbed(running) as (lead, shadow):
            with contextlib.ExitStack() as stack:
                for number in range(IDLE):
                    stack.enter_context(dial(running))
                    if number % 500 == 0:
                        await carries(lead, shadow, b"%d" % number)
                await carries(lead, shadow, b"all are there")


@pytest.mark.parametrize("wanted", ["#", "+/#", "propagator/#", f"{ROOT}/shadows/+/report", "$SYS/#", "$share/g/#"])
async def test_f46_wildcards_show_a_shadow_nothing_but_its_own(running: Site, wanted: str) -> None:
    async with undisturbed(running) as (lead, es_1), running.bus("es-2").connect() as curious:
        with contextlib.suppress(BusError):  # refused, or granted and empty
            await curious.subscribe(wanted)
        await es_1.publish(REPORT, b"not for es-2")
        assert (await next_message(lead)).payload == b"not for es-2"
        with pytest.raises((TimeoutError, BusError)):
            await next_message(curious, 0.3)
