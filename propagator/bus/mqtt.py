"""The bus over MQTT: tries the addresses in order, and keeps the promises of `contract` with a deadline on each."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import aiomqtt

from propagator.bus.client import Client
from propagator.bus.contract import UNIX, BusKind, split_address
from propagator.bus.dial import dial, handshake
from propagator.bus.failure import explained, telling, unanswered
from propagator.core.errors import BusError

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator

    from propagator.bus.contract import Endpoint, Message, Session, Trace, Will

_FAILURE: Final = 0x80  # the reason codes of SUBACK from here on say no; 3.1.1 has this one alone

_AS_A_BROKER: Final = "answer as a broker"


class MqttBus:
    """A Bus over aiomqtt. It holds no connection itself; 1,000 of them in one event loop are fine."""

    def __init__(self, endpoint: Endpoint, connect_timeout_s: float = 10.0, operation_timeout_s: float = 10.0) -> None:
        """`connect_timeout_s` is for each address, TCP to CONNACK; `operation_timeout_s` for each call of a session."""
        self._endpoint = endpoint
        self._connect_timeout_s = connect_timeout_s
        self._operation_timeout_s = operation_timeout_s

    @asynccontextmanager
    async def connect(self, will: Will | None = None) -> AsyncIterator[Session]:
        """See Bus. The BusError names what came of every address; its kind is that of the one that got furthest."""
        client, address = await self._connect_any(will)
        try:
            yield _MqttSession(client, address, self._operation_timeout_s)
        finally:
            await client.close()

    async def _connect_any(self, will: Will | None) -> tuple[Client, str]:
        failures: list[BusError] = []
        for address in self._endpoint.addresses:
            try:
                return await self._attempt(address, will), address
            except BusError as exc:
                failures.append(exc)
        if len(failures) == 1:
            raise failures[0]
        worst = max(failures, key=telling)
        text = f"No address of the broker works: {' '.join(str(failure) for failure in failures)}"
        raise BusError(text, kind=worst.kind, address=worst.address, hint=worst.hint) from worst

    async def _attempt(self, address: str, will: Will | None) -> Client:
        """Get one address as far as CONNACK, or leave nothing open."""
        endpoint = self._endpoint
        missing = ""
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                sock = await dial(address, self._connect_timeout_s)
                if endpoint.tls and not address.startswith(UNIX):
                    missing = "finish the TLS handshake"
                    sock = await handshake(sock, endpoint.tls, split_address(address)[0])
                missing = _AS_A_BROKER
                client = Client(sock, endpoint, will)
                try:
                    await client.open()
                except BaseException:
                    await client.close()
                    raise
                return client
        except TimeoutError as exc:
            raise unanswered(self._connect_timeout_s, address, missing) from exc
        except (OSError, aiomqtt.MqttError) as exc:
            raise explained(exc, address) from exc


@asynccontextmanager
async def over(
    sock: socket.socket, endpoint: Endpoint, address: str, trace: Trace, timeout_s: float
) -> AsyncIterator[Session]:
    """Speak MQTT on a connection that stands, TLS included; it belongs to the session then, and is closed in the end.

    For a diagnosis, which makes the connection in ways of its own. Raises BusError as `Bus.connect` does.
    """
    client = Client(sock, endpoint, None, trace)
    try:
        try:
            async with asyncio.timeout(timeout_s):
                await client.open()
        except TimeoutError as exc:
            raise unanswered(timeout_s, address, _AS_A_BROKER) from exc
        except (OSError, aiomqtt.MqttError) as exc:
            raise explained(exc, address) from exc
        yield _MqttSession(client, address, timeout_s)
    finally:
        trace.before_goodbye()
        await client.close()


class _MqttSession:
    """A Session over one connected client."""

    def __init__(self, client: Client, address: str, timeout_s: float) -> None:
        self.address = address
        self._client = client
        self._timeout_s = timeout_s
        self._waiting: set[asyncio.Timeout] = set()
        client.link.closed.add_done_callback(self._end)

    async def subscribe(self, *filters: str) -> None:
        async with self._deadline("subscription"):
            for wanted in filters:
                granted = await self._client.subscribe(wanted, qos=1)
                if any((code if isinstance(code, int) else code.value) >= _FAILURE for code in granted):
                    text = f"{self.address} refuses the subscription to {wanted}."
                    hint = "Give the account the right to read it."
                    raise BusError(text, kind=BusKind.NOT_AUTHORISED, address=self.address, hint=hint)

    async def unsubscribe(self, *filters: str) -> None:
        async with self._deadline("end of a subscription"):
            for unwanted in filters:
                await self._client.unsubscribe(unwanted)

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        async with self._deadline("message"):
            await self._client.publish(topic, payload, qos=1, retain=retain)

    async def messages(self) -> AsyncIterator[Message]:
        while (message := await self._client.inbox.get()) is not None:
            yield message
        self._client.inbox.put_nowait(None)
        raise self._client.ending(self.address)

    @asynccontextmanager
    async def _deadline(self, what: str) -> AsyncIterator[None]:
        """Bound one call; the end of the connection is its end, too."""
        try:
            async with asyncio.timeout(self._timeout_s) as scope:
                self._waiting.add(scope)
                try:
                    yield
                finally:
                    self._waiting.discard(scope)
        except aiomqtt.MqttError as exc:
            raise self._client.ending(self.address) from exc
        except TimeoutError as exc:
            if self._client.link.closed.done():
                raise self._client.ending(self.address) from exc
            text = f"{self.address} does not acknowledge a {what} within {self._timeout_s:g} s."
            hint = "The broker or the network is overloaded; it is tried again by itself."
            raise BusError(text, kind=BusKind.MUTE, address=self.address, hint=hint) from exc

    def _end(self, _: asyncio.Future[None]) -> None:
        self._client.inbox.put_nowait(None)
        now = asyncio.get_running_loop().time()
        for scope in self._waiting:
            if not scope.expired():
                scope.reschedule(now)
