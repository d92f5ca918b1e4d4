"""A broker in memory, and the bus to it: one event loop, no task, no thread, the same order in every run.

Held to the contract of tests/bus as every broker is; carries tests/links and the simulation. Beyond the contract it has
a network that can be bad (`drop`, `part` and `heal`, `weather`), and it can be as forgetful and as untrustworthy as
DESIGN §2 takes every broker to be (`stop`, `retained`, `swallow`, no `accounts`). What happens to the network happens
to a machine: two copies of one server have one account and two machines.
"""

from __future__ import annotations

import asyncio
import base64
import heapq
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final

from propagator.broker import hash_password
from propagator.bus import BusKind, Message
from propagator.core.errors import BusError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from propagator.broker import Account
    from propagator.bus import Session, Will

CONNECT_TIMEOUT_S: Final = 10.0
OPERATION_TIMEOUT_S: Final = 10.0
KEEPALIVE_S: Final = 20.0
INBOX_LIMIT: Final = 20_000
WIRE_KEPT: Final = 100_000
"""Publishes that `wire` remembers."""

_EARLY_S: Final = 1e-6
"""A loop calls a timer up to its clock's resolution early."""


@dataclass(frozen=True, slots=True)
class Said:
    """One publish as it reached the broker, the account that said it, and when (the loop's seconds)."""

    account: str
    topic: str
    payload: bytes
    retain: bool
    at_s: float


@dataclass(frozen=True, slots=True)
class Weather:
    """How a network carries messages. Each is delayed by a draw from `delay_s`, both ways.

    `duplicate` is the part that comes twice; with `reorder` a message may overtake another on its way to a client.
    """

    duplicate: float = 0.0
    delay_s: tuple[float, float] = (0.0, 0.0)
    reorder: bool = False


class MemoryBroker:
    """One broker. `accounts` None: everybody may do everything (the ACL is off). `rng` draws the weather."""

    def __init__(self, accounts: Iterable[Account] | None = None, *, rng: Random | None = None) -> None:
        self.address = "memory:1883"
        self.retained: dict[str, bytes] = {}
        self.wire: deque[Said] = deque(maxlen=WIRE_KEPT)
        self.tries: deque[tuple[str, float]] = deque(maxlen=WIRE_KEPT)
        """Who tried to connect, and when (the loop's seconds)."""
        self.swallow: Callable[[Said], bool] = lambda _: False
        """Messages that the broker acknowledges and keeps from everybody."""
        self.retains_for_wildcards = True
        """False: retained messages do not answer a wildcard (RabbitMQ, F56)."""
        self.refused: set[str] = set()
        """Accounts that reach no listener: their connections are refused."""
        self.weather = Weather()
        self.weather_of: dict[str, Weather] = {}
        self._rng = rng or Random(0)
        self._accounts = None if accounts is None else {account.name: account for account in accounts}
        self._links: dict[str, _Link] = {}
        self._held: list[_Link] = []  # of which either end still knows, if only one
        self._parted: set[str] = set()
        self._is_up = True

    def bus(self, account: str, password: str = "", *, identifier: str = "", machine: str = "") -> MemoryBus:
        """Give an account's bus; by `identifier` a take-over is told. It and `machine` are the account's name else."""
        return MemoryBus(self, account, password, identifier or account, machine or account)

    def connected(self) -> tuple[str, ...]:
        """List the identifiers that the broker takes for connected."""
        return tuple(self._links)

    def reload(self, accounts: Iterable[Account]) -> None:
        """Take these accounts from now on; the sessions of those that are gone or changed end."""
        before, self._accounts = self._accounts or {}, {account.name: account for account in accounts}
        for link in list(self._links.values()):
            if before.get(link.account) != self._accounts.get(link.account):
                self._end(link, will=True)

    def drop(self, machine: str) -> None:
        """End a machine's connections without a goodbye: a cable pulled and found out at once, a process killed."""
        for link in self._links_of(machine):
            self._end(link, will=True)

    def part(self, machine: str) -> None:
        """Cut a machine's network: nothing passes, nothing is closed, until one side has waited too long."""
        self._parted.add(machine)
        for link in self._links_of(machine):
            link.freeze()

    def heal(self, machine: str) -> None:
        """Mend a machine's network; what waited passes, unless a side gave up meanwhile."""
        self._parted.discard(machine)
        for link in [link for link in self._held if link.machine == machine]:
            link.thaw()

    def stop(self) -> None:
        """Stop: all connections end, no will is published. What was retained stays until somebody empties it."""
        self._is_up = False
        for link in list(self._links.values()):
            self._end(link, will=False)

    def start(self) -> None:
        """Be there again."""
        self._is_up = True

    def inject(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish as a stranger whom no rule of the broker holds back (F04, F58)."""
        self.take("", topic, payload, retain=retain)

    # For the links.

    async def accept(self, bus: MemoryBus, will: Will | None) -> _Link:
        """Let a client in. Raises BusError."""
        self.tries.append((bus.account, _now_s()))
        await asyncio.sleep(self.delay_s(bus.machine))
        if bus.machine in self._parted:
            await asyncio.sleep(CONNECT_TIMEOUT_S)
            raise self._failure(BusKind.TIMEOUT, "does not answer", "Check the network.")
        if not self._is_up or bus.account in self.refused:
            raise self._failure(BusKind.REFUSED, "refuses the connection: nobody listens there", "Start the broker.")
        if not self._knows(bus):
            raise self._failure(BusKind.NOT_AUTHORISED, "does not accept our account", "Check the account.")
        if (earlier := self._links.get(bus.identifier)) is not None:
            self._end(earlier, will=True)
        link = self._links[bus.identifier] = _Link(self, bus, will)
        self._held = [held for held in self._held if held.is_known] + [link]
        return link

    def take(self, account: str, topic: str, payload: bytes, *, retain: bool) -> None:
        """Take a message in, and deliver it to whom it concerns."""
        if not self._may(account, "write", topic):
            return
        said = Said(account, topic, bytes(payload), retain, _now_s())
        self.wire.append(said)
        if self.swallow(said):
            return
        if said.retain:
            self.retained.pop(said.topic, None)
            if said.payload:
                self.retained[said.topic] = said.payload
        for link in list(self._links.values()):
            if link.wants(said.topic):
                self._deliver(link, Message(said.topic, said.payload, retained=False))

    def repeat_retained(self, link: _Link, wanted: str) -> None:
        """Answer a subscription with what is retained."""
        if not is_wild(wanted):
            found = [wanted] if wanted in self.retained else []
        else:
            found = [topic for topic in self.retained if matches(wanted, topic)] if self.retains_for_wildcards else []
        for topic in found:
            self._deliver(link, Message(topic, self.retained[topic], retained=True))

    def forget(self, link: _Link, *, will: bool) -> None:
        """Strike a connection off; with `will`, do what the client asked for in this case."""
        if self._links.get(link.identifier) is not link:
            return
        del self._links[link.identifier]
        if will and link.will is not None:
            self.take(link.account, link.will.topic, link.will.payload, retain=True)

    def has(self, link: _Link) -> bool:
        """Say whether the broker still takes this connection for one."""
        return self._links.get(link.identifier) is link

    def delay_s(self, machine: str) -> float:
        """Draw how long a message of this machine, or to it, is on its way."""
        low, high = self._weather(machine).delay_s
        return self._rng.uniform(low, high) if high > 0 else 0.0

    def _deliver(self, link: _Link, message: Message) -> None:
        if not self._may(link.account, "read", message.topic):
            return
        weather = self._weather(link.machine)
        times = 2 if weather.duplicate and self._rng.random() < weather.duplicate else 1
        for _ in range(times):
            link.send(message, self.delay_s(link.machine), reorder=weather.reorder)

    def _end(self, link: _Link, *, will: bool) -> None:
        link.break_off(BusKind.LOST)
        self.forget(link, will=will)

    def _links_of(self, machine: str) -> list[_Link]:
        return [link for link in self._links.values() if link.machine == machine]

    def _weather(self, machine: str) -> Weather:
        return self.weather_of.get(machine, self.weather)

    def _knows(self, bus: MemoryBus) -> bool:
        if self._accounts is None:
            return True
        account = self._accounts.get(bus.account)
        if account is None:
            return False
        salt = base64.b64decode(account.password_hash.split("$")[3])
        return hash_password(bus.password, salt) == account.password_hash

    def _may(self, account: str, verb: str, topic: str) -> bool:
        if self._accounts is None or not account:
            return True
        known = self._accounts.get(account)
        return known is not None and any(
            right in {verb, "readwrite"} and matches(wanted, topic) for right, wanted in known.rights
        )

    def _failure(self, kind: BusKind, what: str, hint: str) -> BusError:
        return BusError(f"{self.address} {what}.", kind=kind, address=self.address, hint=hint)


class MemoryBus:
    """A Bus to a broker in memory."""

    def __init__(self, broker: MemoryBroker, account: str, password: str, identifier: str, machine: str) -> None:
        self.broker = broker
        self.account = account
        self.password = password
        self.identifier = identifier
        self.machine = machine

    @asynccontextmanager
    async def connect(self, will: Will | None = None) -> AsyncIterator[Session]:
        link = await self.broker.accept(self, will)
        try:
            yield link
        finally:
            link.leave()


class _Link:
    """A Session, and what lies between its two ends."""

    def __init__(self, broker: MemoryBroker, bus: MemoryBus, will: Will | None) -> None:
        self.address = broker.address
        self.account = bus.account
        self.identifier = bus.identifier
        self.machine = bus.machine
        self.will = will
        self._broker = broker
        self._topics: set[str] = set()
        self._wildcards: set[str] = set()
        self._inbox: asyncio.Queue[Message | None] = asyncio.Queue()
        self._flying: list[tuple[float, int, Message]] = []
        self._sent = 0
        self._down_s = self._up_s = 0.0
        self._upwards = asyncio.Lock()
        self._passes = asyncio.Event()
        self._passes.set()
        self._patience: tuple[asyncio.TimerHandle, ...] = ()
        self._ended: BusKind | None = None

    @property
    def is_known(self) -> bool:
        """Whether the client or the broker takes it for a connection."""
        return self._ended is None or self._broker.has(self)

    # The client's end.

    async def subscribe(self, *filters: str) -> None:
        await self._reach("subscription")
        for wanted in filters:
            (self._wildcards if is_wild(wanted) else self._topics).add(wanted)
            self._broker.repeat_retained(self, wanted)

    async def unsubscribe(self, *filters: str) -> None:
        await self._reach("end of a subscription")
        for unwanted in filters:
            self._wildcards.discard(unwanted)
            self._topics.discard(unwanted)

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        if not topic or is_wild(topic):
            raise ValueError(topic)
        await self._reach("message")
        self._broker.take(self.account, topic, payload, retain=retain)

    async def messages(self) -> AsyncIterator[Message]:
        while (message := await self._inbox.get()) is not None:
            yield message
        self._inbox.put_nowait(None)
        raise self._ending()

    def leave(self) -> None:
        """Say goodbye, if there is somebody to say it to."""
        if self._ended is None:
            if not self._patience:
                self._broker.forget(self, will=False)
            self.break_off(BusKind.CLOSED)

    async def _reach(self, what: str) -> None:
        """Travel to the broker, in order; raises BusError if the way or the time ends."""
        if self._ended is not None:
            raise self._ending()
        self._up_s = max(self._up_s, _now_s() + self._broker.delay_s(self.machine))
        due_s = self._up_s
        try:
            async with asyncio.timeout(OPERATION_TIMEOUT_S), self._upwards:
                await asyncio.sleep(max(0.0, due_s - _now_s()))
                await self._passes.wait()
        except TimeoutError as exc:
            text = f"{self.address} does not acknowledge a {what} within {OPERATION_TIMEOUT_S:g} s."
            raise BusError(text, kind=BusKind.MUTE, address=self.address, hint="It is tried again.") from exc
        if self._ended is not None:
            raise self._ending()

    def _ending(self) -> BusError:
        kind = self._ended or BusKind.LOST
        told = {BusKind.CLOSED: "was closed by us", BusKind.OVERFLOW: "was ended: too many messages waited"}
        text = f"The connection to {self.address} {told.get(kind, 'was lost')}."
        return BusError(text, kind=kind, address=self.address, hint="It connects again by itself.")

    # The broker's end.

    def wants(self, topic: str) -> bool:
        """Say whether a subscription covers this topic."""
        return topic in self._topics or any(matches(wanted, topic) for wanted in self._wildcards)

    def send(self, message: Message, delay_s: float, *, reorder: bool) -> None:
        """Send a message on its way; those of one connection arrive in order, unless `reorder`."""
        loop = asyncio.get_running_loop()
        due_s = loop.time() + delay_s if reorder else max(self._down_s, loop.time() + delay_s)
        self._down_s = max(self._down_s, due_s)
        self._sent += 1
        heapq.heappush(self._flying, (due_s, self._sent, message))
        if due_s > loop.time():
            loop.call_at(due_s, self._land)
        else:
            self._land()

    def freeze(self) -> None:
        """Let nothing pass. Each side gives up in its own time, as MQTT's keep-alive has it."""
        if not self._patience:
            self._passes.clear()
            loop = asyncio.get_running_loop()
            self._patience = (
                loop.call_later(1.5 * KEEPALIVE_S, lambda: self._broker.forget(self, will=True)),
                loop.call_later(2 * KEEPALIVE_S, self.break_off, BusKind.LOST),
            )

    def thaw(self) -> None:
        """Let all pass that waited: messages, or the end that the other side never heard of."""
        for timer in self._patience:
            timer.cancel()
        self._patience = ()
        if self._ended is not None:
            self._broker.forget(self, will=self._ended is not BusKind.CLOSED)
        elif not self._broker.has(self):
            self.break_off(BusKind.LOST)
        self._passes.set()
        self._land()

    def break_off(self, kind: BusKind) -> None:
        """End the client's side. Waiting calls end, too."""
        if self._ended is None:
            self._ended = kind
            self._passes.set()
            self._inbox.put_nowait(None)

    def _land(self) -> None:
        """Hand over what has arrived."""
        while self._flying and self._flying[0][0] <= _now_s() + _EARLY_S and not self._patience:
            self._arrive(heapq.heappop(self._flying)[2])

    def _arrive(self, message: Message) -> None:
        if self._ended is not None:
            return
        if self._inbox.qsize() >= INBOX_LIMIT:
            self.break_off(BusKind.OVERFLOW)
            self._broker.forget(self, will=True)
            return
        self._inbox.put_nowait(message)


def is_wild(wanted: str) -> bool:
    """Say whether a filter covers more than one topic."""
    return "+" in wanted or "#" in wanted


def matches(wanted: str, topic: str) -> bool:
    """Say whether an MQTT filter covers a topic (MQTT 3.1.1, 4.7)."""
    levels, parts = wanted.split("/"), topic.split("/")
    for index, level in enumerate(levels):
        if level == "#":
            return True
        if index >= len(parts) or level not in {"+", parts[index]}:
            return False
    return len(levels) == len(parts)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
