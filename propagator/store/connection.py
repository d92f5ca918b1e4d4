"""Opening the database, and transactions. The only import of aiosqlite.

What may wait goes to aiosqlite's thread: to begin writing (another process may be at it) and to commit (the disk). What
stands between runs where it is called: it finds its rows in memory, and each turn to the thread and back would cost
more than the statement itself (measured: 22 of them for one overwrite, 5 ms of a shadow's time). SQLite is built so
that threads may take turns at a connection. The one private name used is `_conn`, the connection that aiosqlite drives.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from contextlib import asynccontextmanager
from importlib import resources
from typing import TYPE_CHECKING, Final, TypeAlias

import aiosqlite

from propagator.core.errors import StateError, StoreError
from propagator.store import leftover
from propagator.store.migration import SCHEMA_VERSION, migrate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

FILE_NAME: Final = "propagator.db"
BUSY_TIMEOUT_MS: Final = 5000
"""How long a writer waits for another process: commands write in one short transaction each."""

TRIES: Final = 10
"""How often the log is claimed. One is lost to who looks at the store within the same few milliseconds."""

CACHE_KIB: Final = 256
"""Of pages that SQLite keeps in memory. Its own measure, 2 MiB, fills with the history: 0.5 MB for each 100 changes."""

Value: TypeAlias = str | int | float | bytes | None


class Tx:
    """One transaction's view of the database. Its statements run at once, without a turn of the loop."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._now = connection._conn  # noqa: SLF001  see above

    async def one(self, sql: str, *values: Value) -> sqlite3.Row | None:
        """Give the first row, or None."""
        row: sqlite3.Row | None = self._now.execute(sql, values).fetchone()
        return row

    async def all(self, sql: str, *values: Value) -> list[sqlite3.Row]:
        """Give every row."""
        return self._now.execute(sql, values).fetchall()

    async def run(self, sql: str, *values: Value) -> int:
        """Write; give how many rows were touched."""
        return self._now.execute(sql, values).rowcount


class Store:
    """The open database. One transaction at a time; other processes wait their turn."""

    def __init__(self, connection: aiosqlite.Connection, path: Path) -> None:
        self._connection = connection
        self._lock = asyncio.Lock()
        self.path = path

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Tx]:
        """Write: all of it or nothing, durable once the block ends. Raises StoreError if the disk says no."""
        async with self._lock:
            try:
                with _as_store_error(self.path):
                    await self._connection.execute("BEGIN IMMEDIATE")
                    yield Tx(self._connection)
                    await self._connection.commit()
            except BaseException:  # also when cancelled: an open transaction would lock every command out
                with contextlib.suppress(sqlite3.Error):
                    await asyncio.shield(self._connection.rollback())
                raise

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Tx]:
        """Read one consistent picture."""
        async with self._lock:
            with _as_store_error(self.path):
                if self._connection.in_transaction:  # its owner was cancelled twice: the thread is still ending it
                    await self._connection.rollback()
                tx = Tx(self._connection)
                try:
                    await tx.run("BEGIN")
                    yield tx
                finally:
                    await tx.run("ROLLBACK")


@asynccontextmanager
async def opened(state_dir: Path) -> AsyncIterator[Store]:
    """Open the database of a state directory; one of an older program is migrated first.

    Raises StateError if there is none, StoreError if it cannot be used.
    """
    path = state_dir / FILE_NAME
    _look(path)
    connection = await _connect_to_write(path)
    try:
        store = Store(connection, path)
        if await _is_older(connection, path):
            async with store.transaction() as tx:
                await migrate(tx)
        yield store
    finally:
        await connection.close()


def _look(path: Path) -> None:
    """Tell no state from no right."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        hint = "propagator init --role lead|shadow|standalone"
        raise StateError(f"There is no state in {path.parent}.", hint=hint) from None
    except PermissionError as error:
        hint = "run this as root, or as a member of the group propagator"
        raise StateError(f"The state in {path.parent} may not be used by this user.", hint=hint) from error


async def create(state_dir: Path) -> None:
    """Make an empty database, whole or not at all: also a killed `init` can be tried again. The caller made the folder.

    It is made under another name, where what an earlier try left is cleared away first.
    """
    path = state_dir / FILE_NAME
    unfinished = path.with_name(f".{FILE_NAME}")
    try:
        _clear(unfinished)
        try:
            await _fill(unfinished)
            unfinished.chmod(0o660)
            unfinished.rename(path)
        finally:
            _clear(unfinished)
    except OSError as error:
        hint = "check that the state directory is writable"
        raise StoreError(f"The database {path} cannot be made: {error.strerror}.", hint=hint) from error


async def _fill(path: Path) -> None:
    connection = await _connect(path)
    try:
        schema = resources.files("propagator").joinpath("schema.sql").read_text()
        with _as_store_error(path):
            await connection.executescript(f"BEGIN;{schema}PRAGMA user_version = {SCHEMA_VERSION};COMMIT;")
    finally:
        await connection.close()


def _clear(path: Path) -> None:
    for ending in ("", "-wal", "-shm"):
        path.with_name(f"{path.name}{ending}").unlink(missing_ok=True)


async def _connect_to_write(path: Path) -> aiosqlite.Connection:
    """Open it with a log that can be written.

    Who looks at a store that nobody has open makes a log in their own name for that moment. One who comes between the
    claim and the opening is noticed at the first write only; then it is claimed once more, and an operator waits.
    """
    tries_left = TRIES
    while True:
        leftover.claim(path)
        connection = await _connect(path)
        with _as_store_error(path):
            try:
                await connection.execute("BEGIN IMMEDIATE")
                await connection.rollback()
            except BaseException as error:
                await connection.close()
                tries_left -= 1
                if not tries_left or "READONLY" not in _words(error):
                    raise
                leftover.wait(path)
            else:
                return connection


async def _connect(path: Path) -> aiosqlite.Connection:
    with _as_store_error(path):
        connection = await aiosqlite.connect(path, isolation_level=None, check_same_thread=False)
        try:
            connection.row_factory = sqlite3.Row
            for pragma in (
                f"busy_timeout = {BUSY_TIMEOUT_MS}",
                "journal_mode = WAL",
                "synchronous = FULL",
                "foreign_keys = ON",
                f"cache_size = -{CACHE_KIB}",
            ):
                await connection.execute(f"PRAGMA {pragma}")
        except BaseException:
            await connection.close()
            raise
        return connection


async def _is_older(connection: aiosqlite.Connection, path: Path) -> bool:
    """Say whether an older program made this database. Raises StoreError for a newer one's, and for what is none."""
    with _as_store_error(path):
        async with connection.execute("PRAGMA user_version") as cursor:
            row = await cursor.fetchone()
    found = 0 if row is None else int(row[0])
    if found > SCHEMA_VERSION:
        raise StoreError(
            f"{path} was written by a newer program (schema {found}; this one knows {SCHEMA_VERSION}).",
            hint="install the newer propagator again; nothing was changed",
        )
    if found < 1:
        raise StoreError(f"{path} holds no state of propagator.", hint="restore it from a backup, or init elsewhere")
    return found < SCHEMA_VERSION


@contextlib.contextmanager
def _as_store_error(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(f"The database {path} cannot be used: {error}.", hint=_hint(error, path)) from error


def _hint(error: sqlite3.Error, path: Path) -> str:
    match _words(error)[:2]:
        case ["SQLITE", "FULL"]:
            return _FULL
        case ["SQLITE", "IOERR"] if path.exists() and not os.statvfs(path).f_bavail:
            return _FULL
        case ["SQLITE", "BUSY"]:
            return "another program holds it; try again"
        case ["SQLITE", "READONLY" | "CANTOPEN" | "PERM"]:
            return "run as root or as a member of the group propagator, and check the disk is writable"
        case ["SQLITE", "CORRUPT" | "NOTADB"]:
            return "restore it from a backup"
        case _:
            return "check the disk and the permissions of the state directory"


def _words(error: BaseException) -> list[str]:
    """Take SQLite's name of an error apart: SQLITE, what it is, and sometimes of which kind."""
    return str(getattr(error, "sqlite_errorname", "")).split("_")


_FULL: Final = "free some space on its disk; the last record is unharmed"
