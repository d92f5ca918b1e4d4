"""The product made careless, to see that the harness notices: each of these takes one care away in a traced process."""

from __future__ import annotations

import os
import stat
from typing import Any, Final

import aiosqlite

from propagator import files
from propagator.store import history


def _synchronous_off() -> None:
    execute = aiosqlite.Connection.execute

    def weaker(connection: aiosqlite.Connection, sql: str, *more: Any) -> Any:
        return execute(connection, sql.replace("synchronous = FULL", "synchronous = OFF"), *more)

    aiosqlite.Connection.execute = weaker  # type: ignore[method-assign]


def _no_sync_of_files() -> None:
    sync = os.fsync

    def weaker(fd: Any) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            sync(fd)

    os.fsync = weaker


def _no_sync_of_folders() -> None:
    files._sync = lambda folder: None  # noqa: ARG005  called by its name


def _written_in_place() -> None:
    def replace(path: Any, data: bytes, mode: int, owner_of: Any) -> None:  # noqa: ARG001  its own signature
        path.write_bytes(data)
        path.chmod(mode)

    files._replace = replace


def _history_apart() -> None:
    add = history.add

    async def apart(tx: Any, **row: Any) -> None:
        await add(tx, **row)
        await tx.run("COMMIT")
        await tx.run("BEGIN IMMEDIATE")

    history.add = apart


WAYS: Final = {
    "synchronous=OFF": _synchronous_off,
    "no fsync of a file": _no_sync_of_files,
    "no fsync of a folder": _no_sync_of_folders,
    "files written in place": _written_in_place,
    "history in a transaction of its own": _history_apart,
}


def apply(way: str) -> None:
    """Take it away."""
    WAYS[way]()
