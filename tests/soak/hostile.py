"""Whoever reaches the broker's port and means no good, all at once, until it is ended (F46, F55).

    python -m tests.soak.hostile PORT COUNTS [--seed N] [--idle N] [--account FILE LEAD]

How often each was tried stands in the file COUNTS, as JSON, twice a second. `--account` names the credentials of a
device that was taken over: what it has is valid, what it does with it is not.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import ssl
from collections import Counter, deque
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

HOST = "127.0.0.1"
KINDS = ("connections", "idle sockets", "slowloris", "garbage", "garbage in TLS", "oversize packets", "wrong passwords")
OF_A_DEVICE = "a device's junk"

_WAIT_S = 10.0
_BURST = 50
_SLOW = 20
_TOO_MUCH = 1_000_000

Ends: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def packet(first: int, body: bytes) -> bytes:
    """Frame an MQTT packet (MQTT 3.1.1, 2.2)."""
    length, rest = bytearray(), len(body)
    while True:
        rest, digit = divmod(rest, 128)
        length.append(digit | (0x80 if rest else 0))
        if not rest:
            return bytes([first, *length]) + body


def text(value: str) -> bytes:
    """Write a string as MQTT does."""
    return len(value.encode()).to_bytes(2) + value.encode()


def connect(name: str, password: str) -> bytes:
    """CONNECT (MQTT 3.1.1, 3.1) with a clean session."""
    return packet(0x10, text("MQTT") + bytes([4, 0xC2, 0, 20]) + text(name) + text(name) + text(password))


def publish(topic: str, payload: bytes, *, retain: bool = True) -> bytes:
    """PUBLISH of QoS 0 (3.3)."""
    return packet(0x31 if retain else 0x30, text(topic) + payload)


class Hostile:
    """All of it. `counts` says how often each kind was tried."""

    def __init__(self, port: int, rng: random.Random, idle: int, account: tuple[str, str, str] | None) -> None:
        self._port = port
        self._rng = rng
        self._idle = idle
        self._account = account
        self.counts: Counter[str] = Counter()
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._tls.check_hostname, self._tls.verify_mode = False, ssl.CERT_NONE

    async def run(self) -> None:
        work: list[tuple[float, Callable[[], Awaitable[None]]]] = [
            (1.0, self._connections),
            (0.2, self._garbage),
            (0.3, self._garbage_in_tls),
            (0.5, self._oversize),
            (0.5, self._wrong_password),
        ]
        if self._account is not None:
            work.append((1.0, self._junk_of_a_device))
        async with asyncio.TaskGroup() as group:
            group.create_task(self._hold_idle())
            for _ in range(_SLOW):
                group.create_task(self._slowloris())
            for period_s, act in work:
                group.create_task(self._again(period_s, act))

    async def _again(self, period_s: float, act: Callable[[], Awaitable[None]]) -> None:
        while True:
            with contextlib.suppress(OSError, TimeoutError):  # it is away, or hung up on us: as it should be
                async with asyncio.timeout(_WAIT_S):
                    await act()
            await asyncio.sleep(self._rng.uniform(0, 2 * period_s))

    async def _dial(self, *, tls: bool = False) -> Ends:
        return await asyncio.open_connection(HOST, self._port, ssl=self._tls if tls else None)

    async def _throw(self, what: str, *, tls: bool, said: bytes) -> None:
        """Say it, hear out what comes back, hang up."""
        reader, writer = await self._dial(tls=tls)
        self.counts[what] += 1
        try:
            writer.write(said)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2):
                    await writer.drain()
                    await reader.read()
        finally:
            writer.transport.abort()

    async def _connections(self) -> None:
        ends = await asyncio.gather(*(self._dial() for _ in range(_BURST)), return_exceptions=True)
        for end in ends:
            if not isinstance(end, BaseException):
                self.counts["connections"] += 1
                end[1].transport.abort()

    async def _hold_idle(self) -> None:
        held: deque[asyncio.StreamWriter] = deque()
        while True:
            with contextlib.suppress(OSError):
                held.append((await self._dial())[1])
                self.counts["idle sockets"] += 1
            for _ in range(len(held)):
                oldest = held.popleft()
                if not oldest.is_closing():
                    held.append(oldest)
            if len(held) > self._idle:
                held.popleft().transport.abort()
            await asyncio.sleep(0.01 if len(held) < self._idle else 0.5)

    async def _slowloris(self) -> None:
        """One byte a second: of a handshake, and within one of a CONNECT that never ends."""
        while True:
            with contextlib.suppress(OSError):
                tls = self._rng.random() < 0.5
                _, writer = await self._dial(tls=tls)
                self.counts["slowloris"] += 1
                for byte in (b"\x10\xff\xff\x03" if tls else b"\x16\x03\x01\x02\x00") + bytes(
                    self._rng.choice([0, 60])
                ):
                    writer.write(bytes([byte]))
                    await writer.drain()
                    await asyncio.sleep(1.0)
                writer.transport.abort()
            await asyncio.sleep(1.0)

    async def _garbage(self) -> None:
        await self._throw("garbage", tls=False, said=self._rng.randbytes(self._rng.randint(1, 2000)))

    async def _garbage_in_tls(self) -> None:
        said = bytearray(connect("somebody", "something"))
        said[self._rng.randrange(len(said))] ^= 1 << self._rng.randrange(8)
        said += self._rng.randbytes(self._rng.randint(1, 500))
        await self._throw("garbage in TLS", tls=True, said=bytes(said))

    async def _oversize(self) -> None:
        """A CONNECT of 256 MiB that is begun; of a device that was taken over, a report that is really sent."""
        said = b"\x10\xff\xff\xff\x7f" + bytes(self._rng.randint(1, _TOO_MUCH))
        if self._account is not None:
            name, password, lead = self._account
            report = f"propagator/1/{lead}/shadows/{name}/report"
            said = self._rng.choice([said, connect(name, password) + publish(report, bytes(_TOO_MUCH))])
        await self._throw("oversize packets", tls=True, said=said)

    async def _wrong_password(self) -> None:
        name = self._account[0] if self._account else "device-0001"
        await self._throw("wrong passwords", tls=True, said=connect(name, "guessed"))

    async def _junk_of_a_device(self) -> None:
        assert self._account is not None
        name, password, lead = self._account
        root = f"propagator/1/{lead}"
        junk = self._rng.choice([b"", self._rng.randbytes(300), b"{}", b"[" * 5000, b'{"payload":"e30"}'])
        topics = [f"{root}/registration", f"{root}/heartbeat"]
        topics += [f"{root}/shadows/{who}/{leaf}" for who in (name, "device-0001") for leaf in ("report", "presence")]
        wants = packet(0x82, b"\x00\x01" + text("#") + b"\x00")
        said = connect(name, password) + wants + b"".join(publish(topic, junk) for topic in topics)
        await self._throw(OF_A_DEVICE, tls=True, said=said)


async def _tell(hostile: Hostile, path: Path) -> None:
    while True:
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(hostile.counts))
        fresh.replace(path)
        await asyncio.sleep(0.5)


async def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.hostile")
    parser.add_argument("port", type=int)
    parser.add_argument("counts", type=Path)
    parser.add_argument("--seed", type=int, default=46)
    parser.add_argument("--idle", type=int, default=500)
    parser.add_argument("--account", nargs=2, metavar=("FILE", "LEAD"))
    asked = parser.parse_args()
    account = None if asked.account is None else _read_account(*asked.account)
    hostile = Hostile(asked.port, random.Random(asked.seed), asked.idle, account)
    await asyncio.gather(hostile.run(), _tell(hostile, asked.counts))


def _read_account(file: str, lead: str) -> tuple[str, str, str]:
    credentials = json.loads(Path(file).read_text())
    return credentials["username"], credentials["password"], lead


def read_counts(path: Path) -> Counter[str]:
    """Read how often each was tried until now."""
    return Counter(json.loads(path.read_text())) if path.exists() else Counter()


if __name__ == "__main__":
    asyncio.run(_main())
