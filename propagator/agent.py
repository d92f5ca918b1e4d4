"""The agent: one process a server, with the links that its configuration wants (DESIGN §1).

Takes the settings, opens the store, and runs as tasks of one group: the control socket, the downlink (broker and lead),
the uplink (shadow), and what asks the portal. A command that wrote to the store pokes it; it looks at the world again
and does what is due.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import random
import signal
from typing import TYPE_CHECKING

from propagator import __version__, config, files, initialise, log, notify, renewal
from propagator.answers import Answers
from propagator.at_need import LeadDiagnosis
from propagator.core import moment
from propagator.leading import Leading
from propagator.shadowing import Shadowing
from propagator.store import connection, held
from propagator.tasks import together

if TYPE_CHECKING:
    from collections.abc import Callable

    from propagator.core.difference import JsonObject
    from propagator.settings import Settings
    from propagator.store import Store


def run(wanted: Settings) -> None:
    """Run until SIGTERM or SIGINT. Raises PropagatorError where it cannot begin."""
    with files.lock_state_dir(wanted.state_dir, version=__version__):
        asyncio.run(_run(wanted))


async def _run(wanted: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with connection.opened(wanted.state_dir) as store:
        notifier = notify.Notifier(config.service())
        await Agent(wanted, store, now=_now, rng=random.SystemRandom(), notifier=notifier).run(stop)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


class Agent:
    """One server's agent. `now` is the wall clock, for display; `rng` spreads what many agents would do at once."""

    def __init__(
        self,
        wanted: Settings,
        store: Store,
        *,
        now: Callable[[], dt.datetime],
        rng: random.Random,
        notifier: notify.Notifier,
    ) -> None:
        self._wanted = wanted
        self._state_dir = wanted.state_dir
        self._store = store
        self._now = now
        self._notifier = notifier
        diagnosis = LeadDiagnosis(wanted.state_dir, now)
        self._leading = Leading(wanted, store, now=now, rng=rng)
        self._shadowing = Shadowing(wanted, store, diagnosis, now=now, rng=rng)
        change = self._leading.change
        self._portal = renewal.watch(store, wanted.state_dir, wanted.portal, change=change, now=now, rng=rng)
        self._answers = Answers(wanted.state_dir, self._leading, self._shadowing, diagnosis, self._portal)
        self._log = log.get("agent")

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set; then every link says goodbye."""
        server = await self._begin()
        work = {
            "control": self._answers.serve(),
            "uplink": self._shadowing.run(server, self._leading),
            "notify": self._notifier.keep(self._standing),
            "portal": self._portal.run(),
        }
        if self._wanted.downlink is not None:
            work["downlink"] = self._leading.run(self._wanted.downlink, server.id, self._shadowing)
        self._log.info("agent.started", server=server.id, role=self._wanted.role, version=__version__)
        with contextlib.suppress(_StoppedError):
            await together(until_stopped=self._until(stop), **work)
        self._log.info("agent.stopped", server=server.id)

    async def _begin(self) -> held.Server:
        """Take over what the configuration says of this server; complete what an `init` left unfinished."""
        at = moment.write(self._now())
        async with self._store.transaction() as tx:
            known = await held.server(tx)
            initialise.check_id(known, self._wanted)
            server = initialise.described(self._wanted, known.system_id)
            await held.rename_server(tx, server)
        if self._wanted.downlink is not None:
            await initialise.begin_downlink(self._store, self._state_dir, self._wanted, at)
        return server

    def _standing(self) -> notify.Standing:
        """Say how the links that are wanted stand; the first of them that is decided makes the agent ready."""
        lead, shadow = self._leading.lead, self._shadowing.shadow
        settled: list[bool] = []
        texts: list[str] = []
        if self._wanted.downlink is not None:
            settled.append(lead is not None and lead.is_settled)
            texts.append(f"downlink {_told(None if lead is None else lead.live(), 'starting')}")
        if self._wanted.uplink is not None:
            if shadow is not None:
                settled.append(shadow.is_settled)
            elif self._wanted.downlink is None:  # nothing else to wait for than to know that it is unattached
                settled.append(self._shadowing.has_looked)
            texts.append(f"uplink {_told(None if shadow is None else shadow.live(), 'unattached')}")
        return notify.Standing(any(settled) or not settled, f"{self._wanted.role}: {'; '.join(texts) or 'no links'}")

    async def _until(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._notifier.stopping()
        raise _StoppedError


class _StoppedError(Exception):
    """The agent was told to stop."""


def _told(live: JsonObject | None, otherwise: str) -> str:
    """Give a link's standing in two words."""
    return otherwise if live is None else f"{live['state']}, {'connected' if live['connected'] else 'not connected'}"
