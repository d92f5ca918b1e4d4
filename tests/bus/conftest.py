"""The worlds that the contract of a bus is held to. A further broker is a further entry of WORLDS."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, Protocol

import pytest
import pytest_asyncio

from propagator.broker import EmbeddedBroker
from propagator.bus import MqttBus
from tests.memory_bus import MemoryBroker
from tests.ports import free_port
from tests.support_broker import (
    LEAD,
    Authority,
    Relay,
    StockBroker,
    World,
    endpoint,
    lead_account,
    listener,
    password_of,
    shadow_account,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from propagator.bus import Bus

Protocols = Literal["3.1.1", "5"]
SHADOWS = ("es-1", "es-2")


class _Broker(Protocol):
    async def start(self) -> None: ...
    async def stop(self) -> None: ...


class _Embedded:
    def __init__(self, directory: Path, authority: Authority, port: int) -> None:
        self._broker = EmbeddedBroker(directory, listener(authority, port))

    async def start(self) -> None:
        await self._broker.start([lead_account(), *map(shadow_account, SHADOWS)])

    async def stop(self) -> None:
        await self._broker.stop()


class _MqttWorld:
    """Each account reaches the broker over a network of its own, which can be cut."""

    def __init__(self, broker: _Broker, authority: Authority, relays: dict[str, Relay], protocol: Protocols) -> None:
        self._broker = broker
        self._authority = authority
        self._relays = relays
        self._protocol = protocol

    def bus(self, name: str, *, password: str | None = None) -> Bus:
        relay = self._relays.get(name, self._relays[LEAD])
        where = endpoint(self._authority, relay.address, name=name, password=password)
        return MqttBus(replace(where, protocol=self._protocol))

    async def cut(self, name: str) -> None:
        self._relays[name].cut()

    async def restart(self) -> None:
        await self._broker.stop()
        await self._broker.start()


@asynccontextmanager
async def _mqtt_world(
    broker: _Broker, port: int, authority: Authority, protocol: Protocols
) -> AsyncIterator[_MqttWorld]:
    async with AsyncExitStack() as stack:
        relays = {name: await stack.enter_async_context(Relay().to(port)) for name in (LEAD, *SHADOWS)}
        await broker.start()
        try:
            yield _MqttWorld(broker, authority, relays, protocol)
        finally:
            await broker.stop()


def _embedded(protocol: Protocols, directory: Path, authority: Authority) -> AbstractAsyncContextManager[World]:
    port = free_port()
    return _mqtt_world(_Embedded(directory, authority, port), port, authority, protocol)


def _by_hand(protocol: Protocols, directory: Path, authority: Authority) -> AbstractAsyncContextManager[World]:
    broker = StockBroker(directory, authority, SHADOWS)
    return _mqtt_world(broker, broker.port, authority, protocol)


class _MemoryWorld:
    def __init__(self) -> None:
        self._broker = MemoryBroker([lead_account(), *map(shadow_account, SHADOWS)])

    def bus(self, name: str, *, password: str | None = None) -> Bus:
        return self._broker.bus(name, password or password_of(name))

    async def cut(self, name: str) -> None:
        self._broker.drop(name)

    async def restart(self) -> None:
        self._broker.stop()
        self._broker.start()


@asynccontextmanager
async def _in_memory() -> AsyncIterator[_MemoryWorld]:
    yield _MemoryWorld()


WORLDS: dict[str, Callable[[Path, Authority], AbstractAsyncContextManager[World]]] = {
    "embedded, MQTT 3.1.1": lambda *where: _embedded("3.1.1", *where),
    "embedded, MQTT 5": lambda *where: _embedded("5", *where),
    "set up by hand, MQTT 3.1.1": lambda *where: _by_hand("3.1.1", *where),
    "set up by hand, MQTT 5": lambda *where: _by_hand("5", *where),
    "in memory": lambda *_: _in_memory(),
}


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest_asyncio.fixture(params=WORLDS.values(), ids=WORLDS.keys())
async def world(request: pytest.FixtureRequest, tmp_path: Path, authority: Authority) -> AsyncIterator[World]:
    async with request.param(tmp_path / "broker", authority) as made:
        yield made
