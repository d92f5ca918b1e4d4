"""When all are done: a lead's database is asked, as any other process would ask it.

`Reports` is the database of the floor and of NATS: which number each device durably holds, a commit for what came
together, with synchronous=FULL as everywhere.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

POLL_S: Final = 0.002
ROUND_S: Final = 120.0


def opened(path: Path, schema: str) -> sqlite3.Connection:
    """Open a database as our own stores are opened, and make its table."""
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    for statement in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", schema):
        database.execute(statement)
    return database


class Reports:
    """What a bare lead knows of its devices. What comes in while a commit is under way is the next commit."""

    def __init__(self, path: Path) -> None:
        table = "CREATE TABLE IF NOT EXISTS report (device TEXT PRIMARY KEY, body BLOB) STRICT"
        self._database = opened(path, table)
        self._heard: list[tuple[str, bytes]] = []
        self._some = asyncio.Event()

    def hear(self, device: str, report: bytes) -> None:
        """Take a report; `keep` stores it."""
        self._heard.append((device, report))
        self._some.set()

    async def keep(self) -> None:
        """Store what is heard until cancelled, in a thread, so that more can be heard meanwhile."""
        while True:
            await self._some.wait()
            self._some.clear()
            batch, self._heard = self._heard, []
            await asyncio.get_running_loop().run_in_executor(None, self._store, batch)

    def _store(self, batch: list[tuple[str, bytes]]) -> None:
        self._database.execute("BEGIN IMMEDIATE")
        self._database.executemany("INSERT OR REPLACE INTO report VALUES (?, ?)", batch)
        self._database.execute("COMMIT")


COUNT_BARE: Final = "SELECT count(*) FROM report WHERE substr(body, 1, length(:what)) = CAST(:what AS BLOB)"
"""A bare report begins with the number of the change that it is about."""

COUNT_OURS: Final = (
    "SELECT count(*) FROM member, downlink WHERE report ->> 'hash' = :what AND report ->> 'version' = current"
    " AND report ->> 'state' = 'in_sync' AND confirmed AND online"
)


async def until_all(path: Path, count: str, what: str, shadows: int, *, within_s: float = ROUND_S) -> float:
    """Wait until the database counts `shadows` that hold `what`; give when that was seen (`time.perf_counter`).

    It is looked at every 2 ms whether somebody wrote to it, and counted only then. Raises TimeoutError.
    """
    deadline_s = time.perf_counter() + within_s
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        seen = None
        while time.perf_counter() < deadline_s:
            (changed,) = database.execute("PRAGMA data_version").fetchone()
            if changed != seen:
                seen = changed
                (done,) = database.execute(count, {"what": what}).fetchone()
                if done == shadows:
                    return time.perf_counter()
            await asyncio.sleep(POLL_S)
    raise TimeoutError(f"not all of {shadows} reported {what} within {within_s:g} s")
