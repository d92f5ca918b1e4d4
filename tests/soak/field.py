"""The site under soak: its processes, each of them begun, killed, paused and begun again by name."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from benchmarks import site as benchmark_site
from propagator.core import registration
from propagator.core.wire import Leaf, Topic
from propagator.demo.processes import bound
from tests.acceptance.site import environment, is_alive, program
from tests.ports import free_port
from tests.soak import hostile

if TYPE_CHECKING:
    from collections import Counter

    from benchmarks.site import Site
    from propagator.core.registration import Registration
    from tests.soak.links import Way

COMMAND = str(Path(sys.executable).with_name("propagator"))
ROGUE = "rogue"

_READY_S = 120.0
_END_S = 20.0
_COMMAND_S = 60.0
_GROUP = 50
_TRIES = 5


class Running:
    """One process, by name. It ends with this one, however that ends."""

    def __init__(self, name: str, command: list[str], log: Path, *, says_ready: bool = True) -> None:
        self.name = name
        self._command = command
        self._log = log
        self._says_ready = says_ready
        self._process: asyncio.subprocess.Process | None = None
        self.starts = 0
        self._ended_by_us = True

    @property
    def pid(self) -> int:
        return 0 if self._process is None or self._process.returncode is not None else self._process.pid

    @property
    def fell(self) -> bool:
        """Whether it ended, and not by us."""
        return not self._ended_by_us and self.pid == 0

    def last_lines(self) -> str:
        return self._log.read_text(errors="replace")[-1500:] if self._log.exists() else ""

    async def start(self) -> None:
        with self._log.open("ab") as log:
            pipe = asyncio.subprocess.PIPE
            out = pipe if self._says_ready else log
            self._process = await asyncio.create_subprocess_exec(
                *bound(self._command), stdin=pipe, stdout=out, stderr=log, env=environment()
            )
        self._ended_by_us = False
        self.starts += 1
        if self._says_ready:
            async with asyncio.timeout(_READY_S):
                if (said := await self._line()) != "ready":
                    raise RuntimeError(f"{self.name} did not start, but said {said!r}: {self.last_lines()}")

    async def tell(self, line: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())
        answer = await self._line()
        assert answer == line, (self.name, line, answer, self.last_lines())

    async def _line(self) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        return (await self._process.stdout.readline()).decode().strip()

    async def kill(self) -> None:
        """kill -9."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """SIGTERM, also where it is paused; SIGKILL where that does not end it."""
        self.send(signal.SIGCONT)
        await self._end(signal.SIGTERM)

    def send(self, number: signal.Signals) -> None:
        if self.pid:
            os.kill(self.pid, number)

    async def _end(self, number: signal.Signals) -> None:
        self._ended_by_us = True
        if self._process is None:
            return
        self.send(number)
        try:
            async with asyncio.timeout(_END_S):
                await self._process.wait()
        except TimeoutError:
            self.send(signal.SIGKILL)
            await self._process.wait()


@dataclass
class Field:
    """A lead, its broker, groups of shadows, a link for each of them, and somebody hostile at the broker's port."""

    site: Site
    devices: list[str]
    lead: Running
    links: Running
    enemy: Running
    groups: list[Running]
    port: int
    counts_file: Path
    accepted: list[Registration]
    """What was registered, in its order."""
    known: dict[str, str]
    """The text of every registration that somebody tried to register, by its hash."""
    refused: list[str] = field(default_factory=list)
    """What `register` said when it did not take a change."""

    @classmethod
    def make(cls, directory: Path, shadows: int, seed: int) -> Self:
        """Make a site in an empty directory: one device more than shadows, whose account is in the wrong hands."""
        site = benchmark_site.make(directory, shadows + 1)
        *devices, taken = site.devices
        port = int(site.bare_arguments(taken)[0])
        ports = _distinct_ports(len(devices), port)
        for device, own in zip(devices, ports, strict=True):
            _relink(site.shadow_dir(device) / "uplink.toml", port, own)
        python = [sys.executable, "-m"]

        def running(name: str, *command: str, says_ready: bool = True) -> Running:
            return Running(name, list(command), directory / f"{name}.log", says_ready=says_ready)

        lead = running("lead", COMMAND, "run", "--config", str(site.lead_config), says_ready=False)
        links = running("links", *python, "tests.soak.links", str(port), *map(str, ports))
        counts, account = directory / "hostile.json", site.bare_arguments(taken)[1]
        enemy = running(
            "hostile", *python, "tests.soak.hostile", str(port), str(counts), "--seed", str(seed),
            "--account", account, benchmark_site.LEAD, says_ready=False,
        )  # fmt: skip
        size = min(_GROUP, -(-shadows // 2))
        groups = [
            running(
                f"shadows {first + 1} to {first + len(devices[first : first + size])}",
                *python, "tests.soak.shadows", str(directory), *devices[first : first + size],
            )
            for first in range(0, shadows, size)
        ]  # fmt: skip
        first_content = benchmark_site.content(0)
        known = {first_content.hash: first_content.canonical}
        return cls(site, devices, lead, links, enemy, groups, port, counts, [first_content], known)

    @property
    def processes(self) -> list[Running]:
        return [self.lead, self.links, self.enemy, *self.groups]

    async def start(self) -> None:
        await self.links.start()
        await self.lead.start()
        await asyncio.gather(*(group.start() for group in self.groups))

    async def stop(self) -> None:
        """End everything, shadows first."""
        await self.enemy.stop()
        await asyncio.gather(*(group.stop() for group in self.groups))
        await self.lead.stop()
        await self.links.stop()

    def hostile_counts(self) -> Counter[str]:
        return hostile.read_counts(self.counts_file)

    # What can be done to it.

    async def turn(self, number: int, way: Way) -> None:
        """Let the link of a shadow be open, cut or stalled."""
        await self.links.tell(f"{number} {way}")

    async def register(self) -> None:
        """Type `register FILE` with other content, as an operator would."""
        content = _content(len(self.known))
        file = self.site.directory / "registration.json"
        file.write_text(content.canonical)
        self.known[content.hash] = content.canonical  # a shadow may hold it before the command has ended
        code, said = await _run(COMMAND, "register", str(file), "--config", str(self.site.lead_config))
        file.unlink()
        if code:
            self.refused.append(said)
        else:
            self.accepted.append(content)

    @property
    def broker_folder(self) -> Path:
        return self.site.lead_dir / "broker"

    def broker_pid(self) -> int:
        """Give the process of the embedded broker; 0 while there is none."""
        try:
            pid = int((self.broker_folder / "broker.pid").read_text().split()[0])
        except (FileNotFoundError, IndexError):
            return 0
        return pid if is_alive(pid) else 0

    def signal_broker(self, number: signal.Signals) -> bool:
        """Send the broker a signal; say whether there was one."""
        pid = self.broker_pid()
        with contextlib.suppress(ProcessLookupError):
            if pid:
                os.kill(pid, number)
                return True
        return False

    async def publish_as_rogue(self, leaf: Leaf, payload: bytes) -> bool:
        """Publish with an account that may do everything, written into the broker's own files; say whether it did."""
        topic = str(Topic(benchmark_site.LEAD, leaf))
        command = [
            program("mosquitto_pub", "mosquitto-clients"), "-h", "127.0.0.1", "-p", str(self.port), "--insecure",
            "--cafile", str(self.site.lead_dir / "keys" / "ca.crt"), "-u", ROGUE, "-P", ROGUE, "-q", "1", "-r",
            "-t", topic, *(["-s"] if payload else ["-n"]),
        ]  # fmt: skip
        for _ in range(_TRIES):  # the broker may be away just now, or start again with its own files
            await self._let_rogue_in()
            code, _said = await _run(*command, stdin=payload)
            if code == 0:
                return True
        return False

    async def _let_rogue_in(self) -> None:
        passwords, topics = self.broker_folder / "passwords", self.broker_folder / "topics"
        if f"user {ROGUE}\n" in topics.read_text():
            return
        aside = self.site.directory / "rogue"
        aside.touch(mode=0o600)
        await _run(program("mosquitto_passwd", "mosquitto"), "-b", str(aside), ROGUE, ROGUE)
        with passwords.open("a") as file:
            file.write(aside.read_text())
        with topics.open("a") as file:
            file.write(f"user {ROGUE}\ntopic readwrite #\n")
        aside.unlink()
        self.signal_broker(signal.SIGHUP)

    def sizes(self) -> dict[str, tuple[int, float, int]]:
        """Give pid, resident megabytes and descriptors of each process that runs and is of the product."""
        pids = {"lead": self.lead.pid, "broker": self.broker_pid()}
        pids |= {group.name: group.pid for group in self.groups}
        found: dict[str, tuple[int, float, int]] = {}
        for name, pid in pids.items():
            with contextlib.suppress(OSError):
                resident_mb = _resident_mb(pid) if pid else None
                if pid and resident_mb is not None:
                    found[name] = pid, resident_mb, len(list(Path(f"/proc/{pid}/fd").iterdir()))
        return found


def _content(number: int) -> Registration:
    """Give other content each time, as it is once it was read from a file."""
    return registration.read_file(benchmark_site.content(number).canonical, kind="json")


def _distinct_ports(count: int, lead_port: int) -> list[int]:
    """Find free ports for links; one that is drawn again is free still, but taken."""
    found = {lead_port}
    while len(found) <= count:
        found.add(free_port())
    return sorted(found - {lead_port})


def _relink(uplink: Path, lead_port: int, link_port: int) -> None:
    """Let a shadow find its lead through its link."""
    text = uplink.read_text()
    assert f":{lead_port}" in text, text
    uplink.write_text(text.replace(f":{lead_port}", f":{link_port}"))


def _resident_mb(pid: int) -> float | None:
    """Give what a process takes; None: it was killed a moment ago, and nobody has waited for it yet."""
    _, told, size = Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")
    return int(size.split()[0]) * 1024 / 1e6 if told else None


async def _run(*command: str, stdin: bytes = b"") -> tuple[int, str]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *bound(command), stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.STDOUT, env=environment()
    )
    async with asyncio.timeout(_COMMAND_S):
        out, _ = await process.communicate(stdin)
    return process.returncode or 0, out.decode(errors="replace")
