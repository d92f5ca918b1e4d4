"""Embedded brokers for the tests of this folder; each has its own directory and port."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from propagator.broker import EmbeddedBroker
from propagator.bus import MqttBus
from tests.ports import free_port
from tests.support_broker import LEAD, Authority, endpoint, lead_account, listener, shadow_account

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from propagator.broker import Account, Listener


class Site:
    """One embedded broker, and the means to reach it as its servers do."""

    def __init__(self, directory: Path, authority: Authority) -> None:
        self.directory = directory
        self.authority = authority
        self.listener: Listener = listener(authority, free_port())
        self.broker = EmbeddedBroker(directory, self.listener)
        self.accounts: list[Account] = [lead_account(), shadow_account("es-1"), shadow_account("es-2")]

    @property
    def pid(self) -> int:
        return int((self.directory / "broker.pid").read_text().split()[0])

    @property
    def proc(self) -> Path:
        """What the system tells of the broker's process."""
        return Path(f"/proc/{self.pid}")

    def bus(self, name: str = "es-1", *, identifier: str = "", password: str | None = None) -> MqttBus:
        """A server's way in: TLS."""
        where = f"127.0.0.1:{self.listener.port}"
        return MqttBus(endpoint(self.authority, where, name=name, identifier=identifier, password=password), 5.0)

    def lead(self) -> MqttBus:
        """The lead's way in."""
        return MqttBus(endpoint(None, f"unix:{self.broker.socket}", name=LEAD))

    async def start(self) -> None:
        await self.broker.start(self.accounts)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest_asyncio.fixture
async def site(tmp_path: Path, authority: Authority) -> AsyncIterator[Site]:
    """A site whose broker is not started yet, and is stopped in the end."""
    made = Site(tmp_path / "broker", authority)
    yield made
    await made.broker.stop()


@pytest_asyncio.fixture
async def running(site: Site) -> Site:
    await site.start()
    return site
