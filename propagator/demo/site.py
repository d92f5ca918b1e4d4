"""A lead and its shadows in one directory: each with its configuration, its state and its own agent process."""

from __future__ import annotations

import asyncio
import os
import random
import shlex
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from propagator import control, snapshot
from propagator.core.errors import PropagatorError
from propagator.demo import processes

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence
    from pathlib import Path
    from typing import TextIO

    from propagator.snapshot import Snapshot

PROCESSES: Final = "processes"
PROCESSES_HEAD: Final = "# propagator demo: server, process id, start time"
"""The file that names every agent that was started, and its first line."""

LOGS: Final = "logs"
COMMANDS_LOG: Final = "commands.log"

GRACE_S: Final = 3.0
"""How long an agent may take from SIGTERM to its end; a herd of them shares the processors."""

POLL_S: Final = 0.01

# Below the ports that Linux gives to outgoing connections, so that none of those is in the way.
_PORTS: Final = range(20000, 30000)

_T = TypeVar("_T")


class DemoError(PropagatorError):
    """Something did not hold. `log` is the file of `logs/` that tells more."""

    def __init__(self, message: str, *, log: str = COMMANDS_LOG, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.log = log


@dataclass(frozen=True, slots=True)
class Server:
    """One server: who it is, and where its things lie."""

    id: str
    name: str
    directory: Path
    leads: bool = False

    @property
    def config(self) -> Path:
        """Its configuration."""
        return self.directory / f"{self.id}.toml"

    @property
    def state_dir(self) -> Path:
        """Its state directory."""
        return self.directory / self.id

    @property
    def log(self) -> str:
        """The name of its agent's log."""
        return f"{self.id}.log"

    def look(self) -> Snapshot:
        """Read its store, as it is right now."""
        return snapshot.read(self.state_dir)


class Site:
    """The lead `es-1` and its shadows. `bound`: their agents end with this process, whatever ends it."""

    def __init__(self, directory: Path, shadows: int, *, bound: bool) -> None:
        width = len(str(shadows))
        self.directory = directory
        self.lead = Server("es-1", "Enterprise Server", directory, leads=True)
        self.shadows = tuple(
            Server(f"as-{number:0{width}}", f"Automation Server {number}", directory)
            for number in range(1, shadows + 1)
        )
        self.port = _free_port()
        self.deadline_s = 20.0 + shadows
        self._bound = bound
        self._agents: dict[str, tuple[subprocess.Popen[bytes], processes.Process]] = {}
        self._slots = asyncio.Semaphore(len(os.sched_getaffinity(0)))
        (directory / LOGS).mkdir()
        (directory / PROCESSES).write_text(f"{PROCESSES_HEAD}\n")

    @property
    def servers(self) -> tuple[Server, ...]:
        """The lead first."""
        return (self.lead, *self.shadows)

    @property
    def address(self) -> str:
        """Where the lead's broker listens."""
        return f"127.0.0.1:{self.port}"

    async def command(
        self,
        server: Server,
        *words: str,
        given: str | None = None,
        onto: TextIO | None = None,
        fine: Container[int] = (0,),
    ) -> tuple[str, str]:
        """Run `propagator WORDS` for a server, as many at once as there are processors; give its stdout and stderr.

        `given` goes to its stdin; with `onto` its stdout goes there. Raises DemoError if it does not end in time with
        an exit code that is `fine`.
        """
        command = [*_PROPAGATOR, *words, "--config", str(server.config)]
        async with self._slots:
            began_s = time.monotonic()
            try:
                async with asyncio.timeout(self.deadline_s):
                    code, out, talk = await self._child(command, given, onto)
            except TimeoutError:
                raise DemoError(f"`propagator {words[0]}` for {server.id} took {self.deadline_s:g} s.") from None
        self._keep(command, talk, f"exit code {code}, {time.monotonic() - began_s:.2f} s")
        if code not in fine:
            said = next((line for line in talk.splitlines() if line.startswith("Error:")), f"It ended with {code}.")
            raise DemoError(f"`propagator {words[0]}` for {server.id} failed. {said.removeprefix('Error: ')}")
        return out, talk

    async def _child(self, command: Sequence[str], given: str | None, onto: TextIO | None) -> tuple[int, str, str]:
        """Run a command to its end: exit code, stdout, stderr. None of our own pipes goes to it."""
        child = await asyncio.create_subprocess_exec(
            *processes.bound(command),
            stdin=asyncio.subprocess.DEVNULL if given is None else asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE if onto is None else onto,
            stderr=asyncio.subprocess.PIPE,
            cwd=self.directory,
            start_new_session=True,
        )
        try:
            out, talk = await child.communicate(None if given is None else given.encode())
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        return child.returncode or 0, (out or b"").decode(), talk.decode()

    def _keep(self, command: Sequence[str], talk: str, end: str) -> None:
        """Write down what was run; its stdout may have been a token, and is not kept."""
        typed = shlex.join(["propagator", *command[len(_PROPAGATOR) :]])
        with (self.directory / LOGS / COMMANDS_LOG).open("a") as log:
            log.write(f"$ {typed}\n{talk}{end}\n")

    async def start(self, server: Server) -> None:
        """Start a server's agent; returns when it answers (a lead: when it is connected to its broker)."""
        async with self._slots:
            self._spawn(server)
            await self.until(lambda: _is_up(server), f"the agent of {server.id} answers", log=server.log)

    def _spawn(self, server: Server) -> None:
        command = [*_PROPAGATOR, "run", "--config", str(server.config)]
        with (self.directory / LOGS / server.log).open("ab") as log:
            agent = subprocess.Popen(
                processes.bound(command) if self._bound else command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                start_new_session=True,
            )
        named = processes.name(server.id, agent.pid)
        self._agents[server.id] = agent, named
        with (self.directory / PROCESSES).open("a") as file:
            file.write(f"{named}\n")

    def kill(self, server: Server) -> None:
        """End an agent with SIGKILL, at once."""
        agent, _ = self._agents.pop(server.id)
        agent.kill()
        agent.wait()

    async def until(
        self, reached: Callable[[], _T], what: str, *, poll_s: float = POLL_S, log: str = COMMANDS_LOG
    ) -> _T:
        """Wait until `reached` gives something true. Raises DemoError at the deadline, or if an agent ends."""
        deadline_s = time.monotonic() + self.deadline_s
        while not (found := reached()):
            self._check_agents()
            if time.monotonic() > deadline_s:
                raise DemoError(f"Waited {self.deadline_s:g} s, in vain, until {what}.", log=log)
            await asyncio.sleep(poll_s)
        return found

    def _check_agents(self) -> None:
        for owner, (agent, _) in self._agents.items():
            if (code := agent.poll()) is not None:
                raise DemoError(f"The agent of {owner} ended by itself ({_ending(code)}).", log=f"{owner}.log")

    def end(self) -> tuple[str, ...]:
        """End every agent, the shadows before their lead; say which did not end well. Waits, at most some seconds."""
        agents, self._agents = self._agents, {}
        lead = {owner: agents.pop(owner) for owner in (self.lead.id,) if owner in agents}
        return *_end(agents), *_end(lead)

    def check_gone(self) -> None:
        """Raise DemoError if any process of ours is left, or the broker's port is taken."""
        check_left(self.directory)
        if not _is_free(self.port):
            raise DemoError(f"The broker's port {self.port} is still taken.", log=self.lead.log)


def check_left(directory: Path) -> None:
    """Raise DemoError if, a second from now at the latest, any of our processes is left in the directory."""
    deadline_s = time.monotonic() + 1.0
    while left := processes.left_in(directory):
        if time.monotonic() > deadline_s:
            raise DemoError(f"These processes are left: {', '.join(map(str, left))}.")
        time.sleep(POLL_S)


# This very program, wherever it is installed; -P, so that no `propagator` of the current directory is taken for it.
_PROPAGATOR: Final = (sys.executable, "-P", "-m", "propagator")


def _is_up(server: Server) -> bool:
    answer = control.ask(server.state_dir, "live", 0.2)
    downlink = None if answer is None else answer.get("downlink")
    if not server.leads:
        return answer is not None
    return isinstance(downlink, dict) and downlink.get("connected") is True


def _end(agents: dict[str, tuple[subprocess.Popen[bytes], processes.Process]]) -> list[str]:
    processes.end((named for _, named in agents.values()), GRACE_S + 0.1 * len(agents))
    codes = {owner: agent.wait() for owner, (agent, _) in agents.items()}
    return [f"{owner} ({_ending(code)})" for owner, code in codes.items() if code != 0]


def _ending(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {-code}"


def _free_port() -> int:
    ports = random.SystemRandom().sample(_PORTS, 100)
    return next((port for port in ports if _is_free(port)), ports[0])


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
