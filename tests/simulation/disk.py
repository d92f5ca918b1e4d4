"""The disk of the simulation: real SQLite on real files, without the thread that aiosqlite works in.

A thread answers when it likes, and two of them in any order, so no run would be like another. This connection does its
work at once and lets a drawn time pass around each commit: there others get their turn, and there a process may die.
"""

from __future__ import annotations

import asyncio
import functools
import re
import sqlite3
from typing import TYPE_CHECKING, Final, Self

from tests.simulation import process

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence
    from pathlib import Path

    from tests.simulation.process import Process

COMMIT_S: Final = 0.02
"""The longest that a commit takes."""

BUSY_S: Final = 5.0
"""How long a writer waits for another process: `BUSY_TIMEOUT_MS` of the store, which would wait in real time."""

_RETRY_S: Final = 0.01
_WRITES: Final = ("INSERT", "UPDATE", "DELETE")
_SETTINGS: Final = ("PRAGMA journal_mode", "PRAGMA synchronous", "PRAGMA foreign_keys")


_WATCHED: Final = re.compile(r"\b(INTO|UPDATE|FROM)\s+(record|floor|history|downlink)\b")

_idle: dict[Path, list[sqlite3.Connection]] = {}
"""Connections of processes that ended: the next one on this disk takes one, whose statements are compiled already."""


async def connect(path: Path, *, isolation_level: str | None, check_same_thread: bool = True) -> Connection:
    """Stand in for `aiosqlite.connect`."""
    if _idle.get(path):
        return Connection(_idle[path].pop(), path, process.current(), is_warm=True)
    raw = sqlite3.connect(path, 0, isolation_level=isolation_level, check_same_thread=check_same_thread)  # type: ignore[arg-type]
    return Connection(raw, path, process.current(), is_warm=False)


def unplug(path: Path) -> None:
    """Let go of a database that is about to be replaced."""
    for raw in _idle.pop(path, ()):
        raw.close()


@functools.cache
def _touches_watched(sql: str) -> bool:
    """Whether a statement writes one of the tables that `watch` looks at."""
    return sql.startswith(_WRITES) and _WATCHED.search(sql) is not None


class Connection:
    """What the store uses of an aiosqlite connection."""

    def __init__(self, raw: sqlite3.Connection, path: Path, owner: Process, *, is_warm: bool) -> None:
        self.raw = raw
        self.path = path
        self.owner = owner
        self.touched = False
        """Whether the transaction that ends wrote what `watch` looks at."""
        self._is_warm = is_warm
        self._writes = False
        owner.open.append(self)

    @property
    def row_factory(self) -> object:
        return self.raw.row_factory

    @row_factory.setter
    def row_factory(self, factory: type[sqlite3.Row]) -> None:
        self.raw.row_factory = factory

    def execute(self, sql: str, values: Sequence[object] = ()) -> Statement:
        return Statement(self, sql, values)

    async def run(self, sql: str, values: Sequence[object]) -> sqlite3.Cursor:
        """Run a statement; one that begins a transaction waits for its turn."""
        self._look_alive()
        if sql.startswith("PRAGMA busy_timeout") or (self._is_warm and sql.startswith(_SETTINGS)):
            return self.raw.execute("SELECT 1")
        if not sql.startswith("BEGIN"):
            return self.run_at_once(sql, values)
        await asyncio.sleep(0)
        self._writes, self.touched = sql == "BEGIN IMMEDIATE", False
        give_up_s = asyncio.get_running_loop().time() + BUSY_S
        while True:
            self._look_alive()
            try:
                return self._begin(sql)
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or asyncio.get_running_loop().time() > give_up_s:
                    raise
            await asyncio.sleep(_RETRY_S)

    def _begin(self, sql: str) -> sqlite3.Cursor:
        if self._writes and self.owner.finds_disk("locked"):
            raise sqlite3.OperationalError("database is locked")
        if self._writes and self.owner.finds_disk("read-only"):
            raise sqlite3.OperationalError("attempt to write a readonly database")
        return self.raw.execute(sql)

    def run_at_once(self, sql: str, values: Sequence[object]) -> sqlite3.Cursor:
        """Run a statement that waits for nobody."""
        self._look_alive()
        if sql.startswith(_WRITES) and self.owner.finds_disk("full"):
            raise sqlite3.OperationalError("database or disk is full")
        self.touched = self.touched or _touches_watched(sql)
        return self.raw.execute(sql, values)

    @property
    def _conn(self) -> AtOnce:
        return AtOnce(self)

    @property
    def in_transaction(self) -> bool:
        return self.owner.alive and self.raw.in_transaction

    async def executescript(self, script: str) -> None:
        self._look_alive()
        self.raw.executescript(script)

    async def commit(self) -> None:
        self._look_alive()
        await asyncio.sleep(self.owner.rng.uniform(0, COMMIT_S))
        self._look_alive()
        if self._writes and self.owner.finds_disk("failing"):
            raise sqlite3.OperationalError("disk I/O error")
        self.owner.passes("before")
        self.raw.commit()
        if self._writes:
            self._writes = False
            self.owner.committed(self)
        self.owner.passes("after")

    async def rollback(self) -> None:
        if self.owner.alive:
            self._writes = False
            self.raw.rollback()

    async def close(self) -> None:
        if not self.owner.alive or self not in self.owner.open:
            return
        self.owner.open.remove(self)
        self._leave()

    def let_go(self) -> None:
        """Lose it, as a killed process does."""
        self.raw.rollback()
        self._leave()

    def _leave(self) -> None:
        """Leave the connection to the next process; not that to a database which gets another name."""
        if self.raw.in_transaction or self.path.name.startswith("."):
            self.raw.close()
        else:
            _idle.setdefault(self.path, []).append(self.raw)

    def _look_alive(self) -> None:
        if not self.owner.alive:
            raise asyncio.CancelledError


class AtOnce:
    """What the store runs without a turn of the loop."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def execute(self, sql: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        """Run a statement in a transaction, or begin or end reading."""
        if sql == "ROLLBACK" and not self._connection.owner.alive:
            return sqlite3.connect(":memory:").execute("SELECT 1")
        return self._connection.run_at_once(sql, values)


class Statement:
    """One statement: awaited, or entered for its rows."""

    def __init__(self, connection: Connection, sql: str, values: Sequence[object]) -> None:
        self._connection = connection
        self._sql = sql
        self._values = values
        self._cursor: sqlite3.Cursor | None = None

    def __await__(self) -> Generator[object, None, Self]:
        return self.__aenter__().__await__()

    async def __aenter__(self) -> Self:
        self._cursor = await self._connection.run(self._sql, self._values)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._connection.owner.alive:
            self._run.close()

    @property
    def rowcount(self) -> int:
        return self._run.rowcount

    async def fetchone(self) -> sqlite3.Row | None:
        row: sqlite3.Row | None = self._run.fetchone()
        return row

    async def fetchall(self) -> Iterable[sqlite3.Row]:
        return self._run.fetchall()

    @property
    def _run(self) -> sqlite3.Cursor:
        assert self._cursor is not None, "the statement was not awaited"
        return self._cursor
