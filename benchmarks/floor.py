"""The floor: what this work costs at least, with asyncio, sqlite3 and the same broker.

A bare MQTT 3.1.1 client as an asyncio protocol, over the embedded broker with the very configuration, accounts, topic
rules and TLS of the lead: on a change one commit (synchronous=FULL) in the shadow's own file, then one report, QoS 1.
The lead's side commits its change, publishes it retained, and stores the reports: those that came in during one commit
are the next. No signatures, no versions, no parsing: what Propagator does beyond this is what it is for.

    python -m benchmarks.floor lead|shadows DIRECTORY PORT
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sqlite3
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks import children, roster
from benchmarks.race import Arm
from benchmarks.site import LEAD, Site
from propagator import downlink, files, settings
from propagator.broker import Account, EmbeddedBroker, hash_password
from propagator.broker.embedded import PID_FILE
from propagator.config import Address, find
from propagator.core.wire import Leaf, Topic
from propagator.store import connection, members
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

RECORD_BYTES: Final = 2000
REPORT_BYTES: Final = 1150
"""As large as our own signed record and report of the same site (measured: 1,9xx and 1,1xx bytes)."""

KEEPALIVE_S: Final = 120
PING_S: Final = 45.0
STAGGER_S: Final = 0.002
RECORD: Final = str(Topic(LEAD, Leaf.REGISTRATION))
OWN_TABLE: Final = "CREATE TABLE IF NOT EXISTS record (one INTEGER PRIMARY KEY CHECK (one = 1), body BLOB) STRICT"
PUT: Final = "INSERT OR REPLACE INTO record VALUES (1, ?)"


def body(number: int, size: int) -> bytes:
    """Give a document that begins with its number."""
    return f"{number} ".encode().ljust(size, b"x")


def number_of(document: bytes) -> int:
    """Read the number of a document."""
    return int(document.split(b" ", 1)[0])


class Floor(Arm):
    """A running floor."""

    name = "floor"

    def __init__(self, site: Site, lead: children.Child, pids: dict[str, int]) -> None:
        super().__init__(pids)
        self._site = site
        self._lead = lead

    async def change(self, number: int) -> float:
        """Tell the lead to change; give the seconds until it has every report."""
        began = time.perf_counter()
        await self._lead.tell(str(number))
        shadows = len(self._site.devices)
        return await roster.until_all(lead_file(self._site), roster.COUNT_BARE, f"{number} ", shadows) - began

    def check(self, number: int) -> None:
        """Hold every shadow's own file to it."""
        check_files(self._site, "floor", number)


def lead_file(site: Site, arm: str = "floor") -> Path:
    """The database of a bare lead."""
    return site.directory / f"{arm}.db"


def shadow_file(site: Site, device: str, arm: str = "floor") -> Path:
    """The database of a bare shadow."""
    return site.shadow_dir(device) / f"{arm}.db"


def check_files(site: Site, arm: str, number: int) -> None:
    """Raise AssertionError unless every bare shadow holds this change."""
    for device in site.devices:
        with closing(sqlite3.connect(shadow_file(site, device, arm))) as database:
            (held,) = database.execute("SELECT body FROM record").fetchone()
            if number_of(held) != number:
                raise AssertionError(f"{device} reported what its database does not hold")


@asynccontextmanager
async def running(site: Site) -> AsyncIterator[Floor]:
    """Run the floor's lead, with a broker, and its shadows."""
    port = str(free_port())
    async with AsyncExitStack() as stack:
        arguments = (str(site.directory), port)
        log = site.directory / "floor-lead.log"
        lead = await stack.enter_async_context(children.python("benchmarks.floor", "lead", *arguments, log=log))
        await lead.ready()
        log = site.directory / "floor-shadows.log"
        shadows = await stack.enter_async_context(children.python("benchmarks.floor", "shadows", *arguments, log=log))
        await shadows.ready()
        broker = int((_broker_dir(site) / PID_FILE).read_text().split()[0])
        yield Floor(site, lead, {"shadows": shadows.pid, "lead": lead.pid, "broker": broker})


def _broker_dir(site: Site) -> Path:
    return site.directory / f"floor-{files.BROKER_DIR}"


# MQTT 3.1.1, as little of it as this needs: CONNECT, SUBSCRIBE, PUBLISH with QoS 1, PUBACK, PINGREQ.


class Mqtt(asyncio.Protocol):
    """One connection. `heard` gets what one read brought: (topic, payload), after it was acknowledged."""

    def __init__(self, name: str, password: str, topics: tuple[str, ...], heard: Heard) -> None:
        self._name, self._password, self._topics, self._heard = name, password, topics, heard
        self._rest = b""
        self._numbers = itertools.cycle(range(1, 65536))
        self.subscribed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport: asyncio.WriteTransport = transport  # type: ignore[assignment]
        texts = b"".join(_text(text.encode()) for text in (self._name, self._name, self._password))
        clean_with_account = b"\xc2"
        self._send(0x10, _text(b"MQTT") + b"\x04" + clean_with_account + KEEPALIVE_S.to_bytes(2, "big") + texts)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        data = self._rest + data
        heard: list[tuple[str, bytes]] = []
        at = 0
        while (whole := _packet(data, at)) is not None:
            kind, start, end = whole
            self._take(kind, data[start:end], heard)
            at = end
        self._rest = data[at:]
        if heard:
            self._heard(self, heard)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish with QoS 1."""
        self._send(0x32 | retain, _text(topic.encode()) + self._number() + payload)

    def ping(self) -> None:
        """Say that we are there."""
        self._send(0xC0, b"")

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        if not self.subscribed.done():
            self.subscribed.set_exception(exc or ConnectionResetError())

    def _take(self, kind: int, packet: bytes, heard: list[tuple[str, bytes]]) -> None:
        match kind & 0xF0:
            case 0x20:  # CONNACK
                filters = b"".join(_text(topic.encode()) + b"\x01" for topic in self._topics)
                self._send(0x82, self._number() + filters)
            case 0x90:  # SUBACK
                self.subscribed.set_result(None)
            case 0x30:  # PUBLISH
                end = 2 + int.from_bytes(packet[:2], "big")
                if kind & 0x06:
                    self._send(0x40, packet[end : end + 2])
                heard.append((packet[2:end].decode(), packet[end + 2 if kind & 0x06 else end :]))
            case _:
                pass  # PUBACK, PINGRESP

    def _number(self) -> bytes:
        return next(self._numbers).to_bytes(2, "big")

    def _send(self, kind: int, packet: bytes) -> None:
        left, length = len(packet), bytearray()
        while True:
            left, digit = divmod(left, 128)
            length.append(digit | (0x80 if left else 0))
            if not left:
                break
        self._transport.write(bytes([kind]) + bytes(length) + packet)


if TYPE_CHECKING:
    Heard = Callable[[Mqtt, list[tuple[str, bytes]]], None]


def _text(text: bytes) -> bytes:
    return len(text).to_bytes(2, "big") + text


def _packet(data: bytes, at: int) -> tuple[int, int, int] | None:
    """Find the packet that begins at `at`: its first byte, start and end of the rest; None: not all of it is here."""
    length = shift = 0
    for index in range(at + 1, min(len(data), at + 5)):
        length |= (data[index] & 0x7F) << shift
        shift += 7
        if not data[index] & 0x80:
            end = index + 1 + length
            return (data[at], index + 1, end) if end <= len(data) else None
    return None


async def _keep_alive(connections: list[Mqtt]) -> None:
    while True:
        await asyncio.sleep(PING_S)
        for connection_ in connections:
            connection_.ping()


# The process of the lead, with its broker.


async def _lead(site: Site, port: int) -> None:
    reports = roster.Reports(lead_file(site))
    own = roster.opened(site.directory / "floor-own.db", OWN_TABLE)

    def heard(_: Mqtt, messages: list[tuple[str, bytes]]) -> None:
        for topic, payload in messages:
            reports.hear(topic.split("/")[4], payload)

    async with _broker(site, port) as (broker, password):
        loop = asyncio.get_running_loop()
        everybody = str(Topic(LEAD, Leaf.REPORT, "+"))
        path = str(broker.socket)
        _, mqtt = await loop.create_unix_connection(lambda: Mqtt(LEAD, password, (everybody,), heard), path)
        await mqtt.subscribed

        async def change(line: str) -> str:
            document = body(int(line), RECORD_BYTES)
            own.execute(PUT, (document,))
            mqtt.publish(RECORD, document, retain=True)
            return line

        await children.answer_lines(change, reports.keep(), _keep_alive([mqtt]))


@asynccontextmanager
async def _broker(site: Site, port: int) -> AsyncIterator[tuple[EmbeddedBroker, str]]:
    """Run a broker as the lead does: same program, files, accounts and certificate; another port and directory."""
    wanted = settings.load(find(site.lead_config)).downlink
    if wanted is None:
        raise AssertionError("a lead has a downlink")
    password = "the lead of the floor"  # noqa: S105  on this machine, as long as this runs
    wanted = wanted.model_copy(update={"listen": Address("127.0.0.1", port)})
    broker = EmbeddedBroker(_broker_dir(site), downlink.listener(wanted, site.lead_dir), wanted.max_connections)
    async with connection.opened(site.lead_dir) as store, store.reading() as tx:
        shadows = await members.members(tx)
    everything = f"propagator/1/{LEAD}/#"
    accounts = [Account(LEAD, hash_password(password, b"twelve bytes"), (("readwrite", everything),))]
    for shadow in shadows:
        report = str(Topic(LEAD, Leaf.REPORT, shadow.id))
        accounts.append(Account(shadow.id, shadow.password_hash, (("read", RECORD), ("write", report))))
    await broker.start(accounts)
    try:
        yield broker, password
    finally:
        await broker.stop()


# The process of the shadows.


async def _shadows(site: Site, port: int) -> None:
    context, loop = site.tls(), asyncio.get_running_loop()
    connections = []
    for device in site.devices:
        shadow = _Shadow(site, device)
        password = site.credentials(device).password
        _, mqtt = await loop.create_connection(
            lambda shadow=shadow, password=password: Mqtt(shadow.device, password, (RECORD,), shadow.heard),  # type: ignore[misc]
            *("127.0.0.1", port),
            ssl=context,
        )
        connections.append(mqtt)
        await mqtt.subscribed
    await children.answer_lines(children.nothing, _keep_alive(connections))


class _Shadow:
    """One bare shadow: a commit in its own file, then the report."""

    def __init__(self, site: Site, device: str) -> None:
        self.device = device
        self._database = roster.opened(shadow_file(site, device), OWN_TABLE)
        self._report = str(Topic(LEAD, Leaf.REPORT, device))

    def heard(self, mqtt: Mqtt, messages: list[tuple[str, bytes]]) -> None:
        for _, payload in messages:
            self._database.execute(PUT, (payload,))
            mqtt.publish(self._report, body(number_of(payload), REPORT_BYTES))


def main() -> None:
    """Run one of the two processes until its stdin ends."""
    what, directory, port = sys.argv[1:]
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run({"lead": _lead, "shadows": _shadows}[what](Site(Path(directory)), int(port)))


if __name__ == "__main__":
    main()
