"""aiomqtt's client on a socket that is connected already, and the one place that touches its insides.

What aiomqtt 2.5 does not give, and this does: the end of the connection as something to wait for (`Link.closed`), also
before CONNACK and while a publish waits; an incoming queue that ends the connection when it is full, where aiomqtt's
drops in silence; a close that leaves no socket, reader or task, however it ends.

Private names used: `_client`, `_connected`, `_disconnected`, `_client_connect`, `_on_message`, and paho's
`_create_socket` and `_sock_close`. The contract suite (tests/bus) is what notices when a new version moves one.
"""

from __future__ import annotations

import asyncio
import logging
import math
import ssl
from typing import TYPE_CHECKING, Final

import aiomqtt

from propagator.bus.contract import BusKind, Message, Trace
from propagator.bus.failure import plain
from propagator.core.errors import BusError

if TYPE_CHECKING:
    import socket

    from paho.mqtt.client import Client as PahoClient
    from paho.mqtt.client import MQTTMessage

    from propagator.bus.contract import Endpoint, Will

# 2,000 shadows that all report, with presence, five times over before a single one is read; 20 MB at 1 KiB each.
INBOX_LIMIT: Final = 20_000
_GOODBYE_S: Final = 1.0
# What aiomqtt and paho would log is said by BusError; their own lines carry topics and no cause.
_SILENT: Final = logging.getLogger("propagator.bus.aiomqtt")
_SILENT.disabled = True


class Client(aiomqtt.Client):
    """One connection, used once: `open`, then aiomqtt's subscribe, unsubscribe and publish, then `close`."""

    def __init__(self, sock: socket.socket, endpoint: Endpoint, will: Will | None, trace: Trace | None = None) -> None:
        v5 = endpoint.protocol == "5"
        super().__init__(
            "connected-already",
            username=endpoint.username,
            password=endpoint.password,
            identifier=endpoint.identifier or endpoint.username,
            protocol=aiomqtt.ProtocolVersion.V5 if v5 else aiomqtt.ProtocolVersion.V311,
            clean_session=None if v5 else True,  # 5: clean is the default of a first connection
            will=aiomqtt.Will(will.topic, will.payload, qos=1, retain=True) if will else None,
            keepalive=endpoint.keepalive_s,
            timeout=math.inf,  # ours are around every call
            logger=_SILENT,
        )
        self.link = link = Link(sock, trace or Trace())
        self.inbox: asyncio.Queue[Message | None] = asyncio.Queue()  # None is the end; _on_message bounds it
        self._overflowed = False
        self._left = False
        self._client._create_socket = lambda: link  # type: ignore[method-assign]  # noqa: SLF001
        self._connected.add_done_callback(_take)
        self._disconnected.add_done_callback(self._disconnect_seen)

    async def open(self) -> None:
        """Send CONNECT, wait for CONNACK. Raises MqttConnectError for a no, ConnectionError if the broker hangs up."""
        self._client_connect()
        await asyncio.wait((self._connected, self.link.closed), return_when=asyncio.FIRST_COMPLETED)
        if not self._connected.done():
            raise ConnectionResetError
        self._connected.result()

    async def close(self) -> None:
        """Say goodbye and let go of the socket: within 1 s, and by force at the end of it."""
        self._left = not self.link.closed.done()
        try:
            self._client.disconnect()
            await asyncio.wait((self.link.closed,), timeout=_GOODBYE_S)
        finally:
            self._break_off()
        await asyncio.wait((self.link.closed,))

    def ending(self, address: str) -> BusError:
        """Return why this connection has ended."""
        if self._overflowed:
            text = f"The connection to {address} was ended: more than {INBOX_LIMIT:,} messages waited to be read."
            hint = "It connects again by itself; if this goes on, the machine is too slow for so many servers."
            return BusError(text, kind=BusKind.OVERFLOW, address=address, hint=hint)
        if self._left:
            return BusError(f"The connection to {address} was closed by us.", kind=BusKind.CLOSED, address=address)
        cause = self._disconnected.exception() if self._disconnected.done() else None
        reason = "" if cause is None or "Unspecified" in str(cause) else f" ({plain(cause)})"
        hint = (
            "It connects again by itself; if this goes on, look whether the broker runs and who else has this account."
        )
        return BusError(f"The connection to {address} was lost{reason}.", kind=BusKind.LOST, address=address, hint=hint)

    def _on_message(self, client: PahoClient, userdata: object, message: MQTTMessage) -> None:  # noqa: ARG002
        if self.inbox.qsize() < INBOX_LIMIT:
            self.inbox.put_nowait(Message(message.topic, bytes(message.payload), bool(message.retain)))
        else:
            self._overflowed = True
            self._loop.call_soon(self._break_off)  # not now: paho holds the lock that closing takes

    def _disconnect_seen(self, disconnected: asyncio.Future[None]) -> None:
        """Close where aiomqtt only takes a note: after bytes that it cannot read it would read them again, for ever."""
        _take(disconnected)
        self._break_off()

    def _break_off(self) -> None:
        self._client._sock_close()  # noqa: SLF001
        self.link.close()  # for the case that paho never got as far as to have it


def _take(future: asyncio.Future[None]) -> None:
    """Take the exception, or asyncio would report it as never retrieved."""
    if not future.cancelled():
        future.exception()


class Link:
    """The connected socket, in the shape that paho wants. `closed` is done when it is closed, whoever did it.

    The close itself waits for the loop's next turn: aiomqtt adds its reader and writer by `call_soon_threadsafe`, and
    one added after a close in the same turn would watch a closed descriptor, or by then somebody else's.
    """

    def __init__(self, sock: socket.socket, trace: Trace) -> None:
        self._sock = sock
        self._trace = trace
        self._loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[None] = self._loop.create_future()

    def recv(self, buffer_size: int) -> bytes:
        """Read, without waiting."""
        try:
            data = self._sock.recv(buffer_size)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except OSError as failure:
            self._trace.failure = failure
            raise
        self._trace.first = self._trace.first or data[:1]
        return data

    def send(self, buffer: bytes | bytearray) -> int:
        """Write what fits, without waiting."""
        sent = self._sock.send(buffer)
        self._trace.sent += sent
        return sent

    def pending(self) -> int:
        """Bytes that TLS has decrypted already, which no selector knows of; aiomqtt asks."""
        return self._sock.pending() if isinstance(self._sock, ssl.SSLSocket) else 0

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._sock.fileno()

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001
        """Do as a socket does."""
        self._sock.setblocking(flag)

    def close(self) -> None:
        """Close it, in the loop's next turn."""
        self._loop.call_soon(self._close)

    def _close(self) -> None:
        if not self.closed.done():
            self._loop.remove_reader(self._sock)
            self._loop.remove_writer(self._sock)
            self._sock.close()
            self.closed.set_result(None)
