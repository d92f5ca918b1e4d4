"""A process of many real shadows: each agent with a state directory, database, keys and TLS connection of its own.

python -m tests.soak.shadows DIRECTORY DEVICE...
"""

from __future__ import annotations

import asyncio
import datetime as dt
import random
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.children import say
from benchmarks.site import KIND, Site
from propagator import log, notify, settings
from propagator.agent import Agent
from propagator.config import Found
from propagator.store import connection

if TYPE_CHECKING:
    from propagator.settings import Settings

PROBE_INTERVAL_S = 10.0
"""A sixth of the usual: an outage of this site is as long as a wave of faults, not as long as a night."""

STAGGER_S = 0.004


def settings_of(site: Site, device: str) -> Settings:
    table = {
        "state_dir": str(site.shadow_dir(device)),
        "server": {"id": device, "kind": KIND},
        "uplink": {"probe_interval_s": PROBE_INTERVAL_S},
    }
    return settings.load(Found(site.directory / f"{device}.toml", table, exists=True))


async def _follow(site: Site, devices: list[str]) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        for device in devices:
            store = await stack.enter_async_context(connection.opened(site.shadow_dir(device)))
            agent = Agent(
                settings_of(site, device),
                store,
                now=lambda: dt.datetime.now(dt.UTC),
                rng=random.SystemRandom(),
                notifier=notify.Notifier(None),
            )
            group.create_task(agent.run(stop), name=device)
            await asyncio.sleep(STAGGER_S)
        say("ready")


if __name__ == "__main__":
    log.configure("warning", "json")
    asyncio.run(_follow(Site(Path(sys.argv[1])), sys.argv[2:]))
