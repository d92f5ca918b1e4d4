"""One machine of the simulation: a state directory, the real agent on it, and what a person does at it.

A person's command is a process of its own that opens the same database, and asks the agent as the command line does.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import shutil
import sqlite3
from contextvars import copy_context
from functools import cached_property, partial
from random import Random
from typing import TYPE_CHECKING, TypeVar

from propagator import attach, carry, initialise, invite, register, rotate, settings
from propagator.agent import Agent
from propagator.config import Found
from propagator.core import moment, token
from propagator.core.errors import PropagatorError
from propagator.notify import Notifier
from propagator.store import connection, members
from tests.simulation import disk, process
from tests.simulation.network import PORT
from tests.simulation.process import Process, Trap
from tests.virtual_time import now

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from pathlib import Path

    from propagator.control import Answer
    from propagator.core.difference import JsonObject
    from propagator.core.registration import Registration
    from propagator.settings import Settings
    from propagator.store import Store
    from tests.simulation.disk import Connection
    from tests.simulation.network import Network
    from tests.simulation.process import DiskFault, Side
    from tests.simulation.watch import Watch

RESTART_S = 5.0
"""How long systemd waits before it starts an agent again that ended."""

ASK_S = 30.0
"""How long a command waits for the agent."""

KINDS = {"lead": "enterprise-central", "relay": "enterprise-server", "shadow": "server-device"}

_T = TypeVar("_T")


class Machine:
    """`name` is the machine's; `id` the server's on it, which a copy shares. `hub` names an external broker."""

    def __init__(self, world_dir: Path, network: Network, watch: Watch, seed: int, *, name: str, role: str) -> None:
        self.name = name
        self.id = name.partition("~")[0]
        self.role = role
        self.hub: str | None = None
        self.skew_s = 0.0
        self.disk_fault: DiskFault | None = None
        self.directory = world_dir / name
        self.process: Process | None = None
        self._world_dir = world_dir
        self._network = network
        self._watch = watch
        self._seed = seed
        self._starts = 0
        self._commands = 0
        self._task: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._restart: asyncio.TimerHandle | None = None
        self._reader: sqlite3.Connection | None = None
        self._read: dict[tuple[str, tuple[object, ...]], list[sqlite3.Row]] = {}

    @property
    def is_lead(self) -> bool:
        return self.role in {"lead", "relay"}

    @property
    def is_up(self) -> bool:
        return self._task is not None and not self._task.done()

    @cached_property
    def settings(self) -> Settings:
        """Its configuration; `hub` is set before."""
        table: dict[str, object] = {
            "state_dir": str(self.directory),
            "server": {"id": self.id, "name": self.id.upper(), "kind": KINDS[self.role]},
        }
        if self.is_lead:
            hub = {"broker": f"mqtts://{self.hub}:{PORT}"} if self.hub else {}
            table["downlink"] = {"listen": f"[::]:{PORT}", "advertise": [self.id], **hub}
        if self.role in {"relay", "shadow"}:
            table["uplink"] = {}
        return settings.load(Found(self._world_dir / f"{self.name}.toml", table, exists=True))

    def now(self) -> dt.datetime:
        """Its wall clock."""
        return now() + dt.timedelta(seconds=self.skew_s)

    @property
    def at(self) -> str:
        return moment.write(self.now())

    # The agent.

    def start(self) -> None:
        """Start the agent, unless it runs."""
        if self.is_up:
            return
        self._starts += 1
        self._stop = asyncio.Event()
        self.process = self._new_process(f"start-{self._starts}")
        self.process.cut = lambda: self._network.cut(self.name)
        self._watch.started(self.name, self._opened())
        self._task = _run_as(self.process, self._run(self.process, self._stop), name=self.name)
        self.process.ended = self._cancel
        self._task.add_done_callback(partial(self._note_end, self.process, self._stop))

    async def _run(self, of: Process, stop: asyncio.Event) -> None:
        async with connection.opened(self.directory) as store:
            agent = Agent(self.settings, store, now=self.now, rng=of.rng, notifier=Notifier(None))
            await agent.run(stop)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _note_end(self, ended: Process, stop: asyncio.Event, task: asyncio.Task[None]) -> None:
        """An agent may only end by itself where its disk is bad; systemd starts it again."""
        if not ended.alive or stop.is_set():
            return
        error = None if task.cancelled() else task.exception()
        ended.die()
        if isinstance(error, PropagatorError) and ended.met_disk_fault:
            self._restart = asyncio.get_running_loop().call_later(RESTART_S, self.start)
        else:
            self._watch.fault(f"the agent of {self.name} ended by itself: {error!r}")

    async def stop(self) -> None:
        """Stop the agent as SIGTERM does."""
        if self._task is not None and self.is_up:
            self._stop.set()
            await asyncio.wait([self._task], timeout=ASK_S)
            if self.is_up:
                self._watch.fault(f"the agent of {self.name} does not stop within {ASK_S:g} s")
        await self.kill()

    async def kill(self) -> None:
        """End it as `kill -9` does, for good."""
        if self._restart is not None:
            self._restart.cancel()
        task, running = self._task, self.process
        if running is not None:
            running.die()
        while task is not None and not task.done():
            task.cancel()
            await asyncio.sleep(0)
        self.process = None

    def kill_at_commit(self, commits: int, side: Side) -> None:
        """Let it die at a commit to come."""
        if self.process is not None:
            self.process.trap = Trap(commits, side)

    async def ask(self, op: str, **asked: str) -> JsonObject | None:
        """Ask the running agent, as a command does over the control socket; None without an answer."""
        running = self.process
        answer: Answer | None = None if running is None or not self.is_up else running.answers.get(op)
        if running is None or answer is None:
            return None
        task = _run_as(running, _answered(answer(dict(asked))), name=f"{self.name} {op}")
        await asyncio.wait([task], timeout=ASK_S)
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
        return None if task.cancelled() else task.result()

    # A person at this machine.

    async def begin(self) -> None:
        """`propagator init`; on a database that was lost it begins a new one."""
        (self.directory / "keys").mkdir(parents=True, exist_ok=True)
        (self.directory / "broker").mkdir(exist_ok=True)
        work = initialise._begin(self.settings, self._world_dir / f"{self.name}.toml", wrote=True, at=self.at)
        await _run_as(self._command_process(), work, name=f"{self.name} init")

    async def command(self, work: Callable[[Store], Awaitable[_T]]) -> _T:
        """Do what a command does with the store, in a process of its own."""

        async def act() -> _T:
            async with connection.opened(self.directory) as store:
                return await work(store)

        return await _run_as(self._command_process(), act(), name=f"{self.name} command")

    async def register(self, content: Registration) -> None:
        self._watch.registered(content)
        await self.command(lambda store: register.register(store, content, at=self.at))
        await self.ask("poke")

    async def undo(self) -> None:
        await self.command(lambda store: register.undo(store, at=self.at))
        await self.ask("poke")

    async def invite(self, device: str) -> str:
        """Make a token; at an external broker the account is the operator's, and the same for all."""
        account = token.Account(username=device, password="operator") if self.hub else None
        invited = await self.command(
            lambda store: invite.invite(store, self.settings, device, now=self.now(), again=True, account=account)
        )
        await self.ask("poke")
        return invited.token

    async def attach(self, written: str) -> None:
        invitation = token.read(written)
        await self.command(
            lambda store: attach.Attaching(store, invitation, self.directory, self.now).run(lambda _: True)
        )
        await self.ask("poke")

    async def detach(self, *, restore: bool) -> None:
        await self.command(lambda store: attach.detach(store, self.directory, restore=restore, at=self.at))
        await self.ask("poke")

    async def revoke(self, device: str) -> None:
        await self.command(lambda store: invite.revoke(store, self.settings, device, at=self.at))
        await self.ask("poke")

    async def rotate(self) -> None:
        await self.command(lambda store: rotate.rotate(store, self.directory, at=self.at))
        await self.ask("poke")

    async def export(self) -> bytes:
        return await self.command(carry.export)

    async def knows(self, device: str) -> members.Member | None:
        """Give a shadow's row at this lead."""

        async def look(store: Store) -> members.Member | None:
            async with store.reading() as tx:
                return await members.member(tx, device)

        return await self.command(look)

    # Its disk.

    def rows(self, sql: str, *values: object) -> list[sqlite3.Row]:
        """Read rows of its database, as another process would; once between two commits."""
        if (sql, values) not in self._read:
            self._read[sql, values] = self._opened().execute(sql, values).fetchall()
        return self._read[sql, values]

    def _opened(self) -> sqlite3.Connection:
        if self._reader is None:
            self._reader = sqlite3.connect(self.directory / connection.FILE_NAME, isolation_level=None)
            self._reader.row_factory = sqlite3.Row
        return self._reader

    def close(self) -> None:
        """Let go of its database, which is about to be replaced."""
        if self._reader is not None:
            self._reader.close()
        self._reader = None
        self._read.clear()
        disk.unplug(self.directory / connection.FILE_NAME)

    async def flip_bit(self, column: str, chance: Random) -> bool:
        """Let one bit of the record that it took from its lead be another one (F35); False if it has none."""
        found = self.rows(f"SELECT {column} FROM record WHERE raw IS NOT NULL")  # noqa: S608  ours
        if not found or found[0][0] is None:
            return False
        value, path = _flipped(found[0][0], chance), self.directory / connection.FILE_NAME
        with contextlib.closing(sqlite3.connect(path, 0, isolation_level=None)) as raw:
            nobody = Process(self.name, chance, lambda _: None)
            await disk.Connection(raw, path, nobody, is_warm=False).run("BEGIN IMMEDIATE", ())  # between transactions
            raw.execute(f"UPDATE record SET {column} = ?", (value,))  # noqa: S608  ours
            raw.commit()
            self._read.clear()
            self._watch.damaged(self.name, raw)
        return True

    def copy_to(self, place: Path) -> None:
        """Copy the whole machine, as a backup or a cloned VM does. SQLite's log comes along."""
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self.directory, place)

    def put_back(self, place: Path, *, database_only: bool) -> None:
        """Put a copy into its place; the agent is down."""
        self.lose_database() if database_only else self.lose_everything()
        if not database_only:
            shutil.copytree(place, self.directory)
        for file in place.glob(f"{connection.FILE_NAME}*"):
            shutil.copyfile(file, self.directory / file.name)

    def make_own(self, original: Path) -> None:
        """Let a copied disk name itself where its original named itself."""
        path = self.directory / settings.UPLINK_FILE
        if path.exists():
            path.write_text(path.read_text().replace(f"{original}/", f"{self.directory}/"))

    def lose_database(self) -> None:
        """Delete the database; keys and `uplink.toml` stay. Who begins it anew mends the disk first."""
        self.disk_fault = None
        self.close()
        for ending in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                (self.directory / f"{connection.FILE_NAME}{ending}").unlink()
        self._watch.rolled_back(self.name)

    def lose_everything(self) -> None:
        """Lose the whole disk, and what was wrong with it."""
        self.disk_fault = None
        self.close()
        shutil.rmtree(self.directory)
        self._watch.rolled_back(self.name)

    def _new_process(self, what: str) -> Process:
        rng = Random(f"{self._seed}/{self.name}/{what}")
        return Process(self.name, rng, self._note_commit, disk_fault=lambda: self.disk_fault)

    def _note_commit(self, connection: Connection) -> None:
        self._read.clear()
        self._watch.committed(self.name, connection.raw, touched=connection.touched)

    def _command_process(self) -> Process:
        self._commands += 1
        return self._new_process(f"command-{self._commands}")


async def _answered(answer: Awaitable[JsonObject]) -> JsonObject:
    return await answer


def _run_as(who: Process, work: Coroutine[object, object, _T], *, name: str) -> asyncio.Task[_T]:
    """Run something as a process: in a context of its own."""
    context = copy_context()
    context.run(process.become, who)
    task = asyncio.get_running_loop().create_task(work, context=context)
    task.set_name(name)
    return task


def _flipped(was: str | bytes, chance: Random) -> str | bytes:
    raw = was.encode() if isinstance(was, str) else was
    place = chance.randrange(len(raw))
    flipped = raw[:place] + bytes([raw[place] ^ (1 << chance.randrange(7))]) + raw[place + 1 :]
    return flipped.decode() if isinstance(was, str) else flipped
