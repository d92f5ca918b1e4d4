"""The network of the simulation: brokers in memory, and which machine reaches which of them.

Takes what the product hands to its MQTT client and to its Mosquitto, and gives memory instead. An address names a
host; where two copies of a host run, `routes` says which one a machine reaches.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Final

from tests.memory_bus import MemoryBroker, MemoryBus
from tests.simulation import process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from propagator.broker import Account, Listener
    from propagator.bus import Endpoint
    from tests.memory_bus import Said

PORT: Final = 8883


class Network:
    """Every broker of a world. `heard` is told of each publish."""

    def __init__(self, seed: int, heard: Callable[[str, Said], None]) -> None:
        self._seed = seed
        self._heard = heard
        self.brokers: dict[str, MemoryBroker] = {}
        """By the machine that hosts it, or by the name of an external one."""
        self.withheld: set[tuple[str, str]] = set()
        """(broker, leaf): documents that this broker acknowledges and keeps from everybody."""
        self.hosts: dict[str, str] = {}
        """The machine that a host's address leads to, where it is not of that name."""
        self.routes: dict[tuple[str, str], str] = {}
        """(machine, host) -> the machine that this one reaches there, while two of them have that address."""

    def add(self, machine: str, *, is_up: bool, is_plain: bool = False) -> MemoryBroker:
        """Add a broker; without accounts, so without rules, until somebody gives it some."""
        broker = MemoryBroker(rng=Random(f"{self._seed}/network/{machine}"))
        broker.address = f"{machine}:{PORT}"
        broker.swallow = lambda said: self._takes(machine, said)
        broker.retains_for_wildcards = not is_plain
        if not is_up:
            broker.stop()
        self.brokers[machine] = broker
        return broker

    def _takes(self, broker: str, said: Said) -> bool:
        """Tell of a publish; True keeps it from everybody."""
        self._heard(broker, said)
        return (broker, said.topic.rpartition("/")[2]) in self.withheld

    def bus(self, endpoint: Endpoint) -> MemoryBus:
        """Stand in for `MqttBus`."""
        who = process.current()
        host = endpoint.addresses[0].removeprefix("unix:").rpartition(":")[0]
        machine = who.machine if endpoint.addresses[0].startswith("unix:") else host
        return _RoutedBus(self, machine, endpoint, who.machine)

    def embedded(self, _folder: Path, _listener: Listener, _max_connections: int) -> Embedded:
        """Stand in for `EmbeddedBroker`."""
        return Embedded(self.brokers[process.current().machine])

    def reached(self, machine: str, host: str) -> MemoryBroker:
        """Give the broker that a machine reaches under an address."""
        return self.brokers[self.routes.get((machine, host), self.hosts.get(host, host))]

    def cut(self, machine: str) -> None:
        """End every connection of a machine, as its death does."""
        for broker in self.brokers.values():
            broker.drop(machine)


class _RoutedBus(MemoryBus):
    """A bus that finds its broker anew at each connection."""

    def __init__(self, network: Network, host: str, endpoint: Endpoint, machine: str) -> None:
        super().__init__(
            network.reached(machine, host),
            endpoint.username,
            endpoint.password,
            endpoint.identifier or endpoint.username,
            machine,
        )
        self._network = network
        self._host = host

    @property
    def broker(self) -> MemoryBroker:
        return self._network.reached(self.machine, self._host)

    @broker.setter
    def broker(self, _: MemoryBroker) -> None:
        pass


class Embedded:
    """The broker that a lead runs as its own child: it ends with it, and keeps what it retained."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker
        self.socket = "/embedded"
        self.connections_at_cap = False  # it has no cap

    def addresses(self, account: str) -> tuple[str, ...]:  # noqa: ARG002  nor has anybody an address
        """Give whence an account came."""
        return ()

    async def start(self, accounts: Iterable[Account]) -> None:
        self._broker.reload(accounts)
        self._broker.start()

    async def reload(self, accounts: Iterable[Account]) -> None:
        self._broker.reload(accounts)

    async def stop(self) -> None:
        self._broker.stop()

    async def supervise(self) -> None:
        """Nothing happens to it that the simulation does not do."""
