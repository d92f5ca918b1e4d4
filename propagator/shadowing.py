"""Shadowing: the uplink of an agent. A shadow follows the lead that `uplink.toml` names, whenever it names one.

Takes what the configuration wants of an uplink, and the downlink below it, to which an overwrite is carried on. A
command that changed `uplink.toml` lets `refresh` look at it; one whose files cannot be used is looked at now and then.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
from typing import TYPE_CHECKING, Final, Protocol

from propagator import keys, log, settings
from propagator.bus import MqttBus
from propagator.core import moment, session
from propagator.core.errors import PropagatorError
from propagator.following import load_link
from propagator.logbook import Logbook
from propagator.reverse_probe import ReverseProbe
from propagator.shadow import Shadow
from propagator.store import held
from propagator.tasks import together

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable
    from random import Random

    from propagator.core.difference import JsonObject
    from propagator.core.wire import Upstream
    from propagator.finding import Diagnosis
    from propagator.following import Link
    from propagator.settings import Settings
    from propagator.store import Store, Tx

UNUSABLE_PERIOD_S: Final = 60.0
"""How often an uplink whose files cannot be used is looked at again; a poke is quicker."""

PROBE_INTERVAL_S: Final = 60.0
"""How far apart an uplink is tried that the configuration says nothing of."""


class Below(Protocol):
    """The downlink of the same server, as its uplink knows it."""

    async def until_ready(self) -> None:
        """Wait until the lead that is wanted, if one is, stands."""

    async def carry(self, tx: Tx, at: str) -> None:
        """Issue what was just overwritten, in the very transaction of the overwrite."""

    async def change(self) -> None:
        """Publish what was put in force."""

    async def subtree(self) -> JsonObject | None:
        """Sum up the servers below this one; None: it has no downlink."""


class Shadowing:
    """The uplink of one agent. `shadow` follows at present; None: `uplink.toml` names no lead, or cannot be used."""

    def __init__(
        self, wanted: Settings, store: Store, diagnosis: Diagnosis, *, now: Callable[[], dt.datetime], rng: Random
    ) -> None:
        self._wanted = wanted.uplink
        self._state_dir = wanted.state_dir
        self._store = store
        self._diagnosis = diagnosis
        self._now = now
        self._rng = rng
        self._poked = asyncio.Event()
        self._looked = asyncio.Event()
        self._log = log.get("agent")
        self.shadow: Shadow | None = None

    async def run(self, server: held.Server, below: Below) -> None:
        """Follow the lead that `uplink.toml` names, whenever it names one."""
        await below.until_ready()  # an overwrite is carried on in its own transaction
        spoken = await self._begin_session()
        while True:
            self._poked.clear()
            link = await self._link_or_none(server)
            if link is None:
                self._looked.set()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(UNUSABLE_PERIOD_S):
                        await self._poked.wait()
                continue
            await self._follow(link, spoken, below)
            spoken = await self._begin_session()

    async def refresh(self) -> None:
        """Look at the store and at `uplink.toml` again. Raises StoreError."""
        if self.shadow is not None:
            await self.shadow.refresh()
        self._looked.clear()
        self._poked.set()
        await self._looked.wait()

    @property
    def has_looked(self) -> bool:
        """Whether `uplink.toml` was looked at since this start, and since the last poke."""
        return self._looked.is_set()

    def live(self) -> JsonObject | None:
        """Say how the uplink stands right now; None: nobody is followed."""
        return None if self.shadow is None else self.shadow.live()

    # What the downlink below asks.

    def upstream(self) -> Upstream | None:
        """Say how the uplink stands, for the heartbeats of the lead below; None: nobody is followed."""
        return None if self.shadow is None else self.shadow.upstream()

    def may_raise(self) -> bool:
        """Whether content of our own may be raised above what the field holds: nothing above us has still to decide."""
        return self.shadow is None or self.shadow.has_kept_or_overwritten

    async def report(self) -> None:
        """Report again: what is below this server has changed."""
        if self.shadow is not None:
            await self.shadow.report()

    # One link.

    async def _follow(self, link: Link, spoken: session.Session, below: Below) -> None:
        """Follow until another link, or none, is wanted."""
        shadow = self.shadow = self._made(link, spoken, below)
        work = {"follow": shadow.run(), "watch": self._watch_link(link, shadow)}
        if (listen := None if self._wanted is None else self._wanted.probe_listen) is not None:
            trust = Logbook(self._store, link.following).trust
            work["reverse_probe"] = ReverseProbe(listen, trust, shadow.probed, self._now).run()
        try:
            with contextlib.suppress(_LinkChangedError):
                await together(**work)
        finally:
            self.shadow = None

    def _made(self, link: Link, spoken: session.Session, below: Below) -> Shadow:
        return Shadow(
            self._store,
            link.following,
            MqttBus(link.endpoint),
            spoken,
            now=self._now,
            rng=self._rng,
            probe_interval_s=PROBE_INTERVAL_S if self._wanted is None else self._wanted.probe_interval_s,
            carry=below.carry,
            carried=below.change,
            subtree=below.subtree,
            on_membership=functools.partial(self._keep_membership, link),
            diagnosis=self._diagnosis,
        )

    def _keep_membership(self, link: Link, written: str) -> None:
        path = link.wanted.credential_file
        credentials = dataclasses.replace(keys.load_credentials(path), membership=written)
        keys.save_credentials(path, credentials, self._state_dir)

    async def _watch_link(self, link: Link, shadow: Shadow) -> None:
        """End this shadow once another link, or none, is wanted."""
        while True:
            self._looked.set()
            await self._poked.wait()
            self._poked.clear()
            wanted = settings.load_uplink(self._state_dir / settings.UPLINK_FILE)
            if wanted != link.wanted:
                if wanted is None:
                    await shadow.goodbye()
                raise _LinkChangedError

    async def _link_or_none(self, server: held.Server) -> Link | None:
        try:
            return await load_link(self._store, self._state_dir, server, moment.write(self._now()))
        except PropagatorError as error:
            self._log.error("agent.uplink_unusable", error=str(error), hint=error.hint)
            return None

    async def _begin_session(self) -> session.Session:
        async with self._store.transaction() as tx:
            begun = session.begin(self._now().timestamp(), await held.last_session(tx), self._rng)
            await held.begin_session(tx, begun.number)
        return begun


class _LinkChangedError(Exception):
    """Another uplink is wanted."""
