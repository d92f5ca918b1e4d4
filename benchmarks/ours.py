"""Propagator in the race: `propagator run` of a lead with its own broker, and many real shadow agents in one process.

    python -m benchmarks.ours DIRECTORY       the process of the shadows: every agent of the site, as `run` runs one

Each agent has its own state directory, database, keys, TLS connection and control socket, and logs as the service does.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import sqlite3
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks import children, roster, shadows
from benchmarks.race import Arm
from benchmarks.site import Site, content
from propagator import control, files, log
from propagator.broker.embedded import PID_FILE
from propagator.core import moment
from propagator.register import register
from propagator.store import connection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from propagator.store import Store

SETTLE_S: Final = 240.0
POKE_S: Final = 60.0

_PROGRAM: Final = str(Path(sys.executable).with_name("propagator"))
_SETTLED: Final = (
    "SELECT count(*) FROM member WHERE report ->> 'hash' = :what AND report ->> 'lead_session' IS NOT NULL"
    " AND confirmed AND online"
)


class Ours(Arm):
    """A running site."""

    name = "propagator"

    def __init__(self, site: Site, store: Store, pids: dict[str, int]) -> None:
        super().__init__(pids)
        self._site = site
        self._store = store
        self._database = site.lead_dir / connection.FILE_NAME

    async def change(self, number: int) -> float:
        """Do as `propagator register` does; give the seconds until the roster has every shadow's durable report."""
        new = content(number)
        began = time.perf_counter()
        await register(self._store, new, at=moment.write(dt.datetime.now(dt.UTC)))
        poke = asyncio.get_running_loop().run_in_executor(None, control.ask, self._site.lead_dir, "poke", POKE_S)
        ended = await roster.until_all(self._database, roster.COUNT_OURS, new.hash, len(self._site.devices))
        await poke
        return ended - began

    def check(self, number: int) -> None:
        """Hold every shadow's own database to what it reported. Raises AssertionError."""
        wanted = content(number).hash
        for device in self._site.devices:
            with closing(sqlite3.connect(self._site.shadow_dir(device) / connection.FILE_NAME)) as database:
                if database.execute("SELECT hash FROM record").fetchone() != (wanted,):
                    raise AssertionError(f"{device} reported what its database does not hold")


@asynccontextmanager
async def running(site: Site) -> AsyncIterator[Ours]:
    """Run a lead and its shadows; they are in sync when the block begins."""
    lead_log, shadows_log = site.directory / "lead.log", site.directory / "shadows.log"
    async with AsyncExitStack() as stack:
        command = (_PROGRAM, "run", "--config", str(site.lead_config))
        lead = await stack.enter_async_context(children.program(*command, log=lead_log))
        rig = children.python("benchmarks.ours", str(site.directory), log=shadows_log)
        process = await stack.enter_async_context(rig)
        await process.ready()
        database = site.lead_dir / connection.FILE_NAME
        await roster.until_all(database, _SETTLED, content(0).hash, len(site.devices), within_s=SETTLE_S)
        store = await stack.enter_async_context(connection.opened(site.lead_dir))
        broker = int((site.lead_dir / files.BROKER_DIR / PID_FILE).read_text().split()[0])
        yield Ours(site, store, {"shadows": process.pid, "lead": lead.pid, "broker": broker})


if __name__ == "__main__":
    log.configure("info", "json")
    site = Site(Path(sys.argv[1]))
    asyncio.run(shadows.follow(map(site.shadow_settings, site.devices)))
