"""Many real shadow agents in one process: each with a state directory, database, keys and TLS connection of its own."""

from __future__ import annotations

import asyncio
import datetime as dt
import random
import signal
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

from benchmarks.children import say
from propagator import notify
from propagator.agent import Agent
from propagator.store import connection

if TYPE_CHECKING:
    from collections.abc import Iterable

    from propagator.settings import Settings

STAGGER_S: Final = 0.004
"""Between two starts: 1,000 TLS handshakes at once in one process would take longer than any one of them may."""


async def follow(each: Iterable[Settings]) -> None:
    """Run an agent for each, until SIGTERM; says `ready` once all were started."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        for wanted in each:
            store = await stack.enter_async_context(connection.opened(wanted.state_dir))
            notifier = notify.Notifier(None)
            agent = Agent(wanted, store, now=_now, rng=random.SystemRandom(), notifier=notifier)
            group.create_task(agent.run(stop), name=wanted.server.id)
            await asyncio.sleep(STAGGER_S)
        say("ready")


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
