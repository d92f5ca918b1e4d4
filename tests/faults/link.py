"""The network between one shadow and its lead, in the hands of a test: a relay in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Final, TypeVar

from tests.support_broker import Relay

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from tests.acceptance.site import Server

T = TypeVar("T")

_ANSWER_S: Final = 10.0


class Link:
    """A network that is well until it is told otherwise."""

    def __init__(self, loop: asyncio.AbstractEventLoop, relay: Relay) -> None:
        self._loop = loop
        self._relay = relay

    def cut(self) -> None:
        """End what stands, without a goodbye; new connections pass."""
        self._do(self._relay.cut)

    def forget(self) -> None:
        """Deliver nothing more on what stands, as a NAT that lost its table; new connections pass."""
        self._do(self._relay.stall)

    def swallow(self, *, everything: bool) -> None:
        """Take new connections, as a middlebox does, and deliver nothing on them; what stands ends."""
        self._relay.swallows = everything
        self.cut()

    def slow_down(self, delay_s: float) -> None:
        """Let everything take this long, either way."""
        self._relay.delay_s = delay_s

    def lead_to(self, port: int) -> None:
        """Let new connections end elsewhere, and end those that stand."""
        self._relay.target_port = port
        self.cut()

    def _do(self, call: Callable[[], None]) -> None:
        async def done() -> None:
            call()

        _run(self._loop, done())


def port_of(lead: Server) -> int:
    """Give the port that a lead listens on."""
    listen = next(line for line in lead.config.read_text().splitlines() if line.startswith("listen = "))
    return int(listen.rsplit(":", 1)[1].strip('"'))


@contextlib.contextmanager
def between(shadow: Server, lead: Server, source: str = "127.0.0.1") -> Iterator[Link]:
    """Let the shadow, which is not started yet, find its lead through a link, and come to it from that address."""
    loop, relay, port = asyncio.new_event_loop(), Relay(), port_of(lead)
    relay.source = source
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    standing = relay.to(port)
    try:
        _run(loop, standing.__aenter__())
        uplink = shadow.state_dir / "uplink.toml"
        uplink.write_text(uplink.read_text().replace(str(port), str(relay.port)))
        yield Link(loop, relay)
        _run(loop, standing.__aexit__(None, None, None))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _run(loop: asyncio.AbstractEventLoop, work: Coroutine[object, object, T]) -> T:
    return asyncio.run_coroutine_threadsafe(work, loop).result(_ANSWER_S)
