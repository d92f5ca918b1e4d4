"""Leading: the downlink of an agent. Its broker is hosted, and the lead runs on it, anew whenever the keys change.

Takes what the configuration wants of a downlink, and, at a relay, the uplink above it. What was put in force here goes
down by `carry` and `change`; what the servers below hold goes up by `Above.report`.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final, Protocol

from propagator import keys, rotate, subtree
from propagator.bus import MqttBus
from propagator.core.errors import BusError
from propagator.core.state import DownlinkState
from propagator.hosting import Hosting
from propagator.issuing import Issuer
from propagator.lead import Lead
from propagator.store import issued
from propagator.tasks import together
from propagator.welcome import Welcome

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable
    from random import Random

    from propagator.bus import Endpoint
    from propagator.core.difference import JsonObject, JsonValue
    from propagator.core.session import Session
    from propagator.core.version import Version
    from propagator.core.wire import Upstream
    from propagator.settings import DownlinkTable, Settings
    from propagator.store import Store, Tx

PASS_UP_PERIOD_S: Final = 1.0
"""How often, at most, a relay reports because something below it changed."""


class Above(Protocol):
    """The uplink of the same server, as its downlink knows it."""

    def upstream(self) -> Upstream | None:
        """Say how the uplink stands, for the heartbeats of the lead; None: there is none."""

    def may_raise(self) -> bool:
        """Whether content of our own may be raised above what the field holds: nothing above us has still to decide."""

    async def report(self) -> None:
        """Report again: what is below this server has changed."""


class Leading:
    """The downlink of one agent. `lead` leads at present; None: no downlink is wanted, or it does not stand yet."""

    def __init__(self, wanted: Settings, store: Store, *, now: Callable[[], dt.datetime], rng: Random) -> None:
        self._wanted = wanted
        self._state_dir = wanted.state_dir
        self._store = store
        self._now = now
        self._rng = rng
        self._hosting: Hosting | None = None
        self._ready = asyncio.Event()
        self._keys_poked = asyncio.Event()
        self.lead: Lead | None = None

    async def run(self, wanted: DownlinkTable, server: str, above: Above) -> None:
        """Lead, and begin anew whenever the signing key was renewed."""
        while True:
            with contextlib.suppress(_KeysChangedError):
                await self._lead_with_keys(wanted, server, above)

    async def until_ready(self) -> None:
        """Wait until the lead that is wanted, if one is, stands."""
        if self._wanted.downlink is not None:
            await self._ready.wait()

    async def refresh(self) -> Version | None:
        """Look at the store again: content, accounts, keys. Gives the version that the broker has now; None: not out.

        Raises BusError or StoreError.
        """
        version = None if self.lead is None else await self.lead.record.change()
        await self.sync()
        self.look_at_keys()
        return version

    async def sync(self) -> None:
        """Bring the broker's accounts up to what the store says of shadows. Raises BusError."""
        if self._hosting is not None:
            await self._hosting.sync(self.lead)

    def look_at_keys(self) -> None:
        """Begin anew if the signing key was renewed."""
        self._keys_poked.set()

    async def carry(self, tx: Tx, at: str) -> None:
        """Issue what an uplink has just overwritten, in the very transaction of the overwrite."""
        if self.lead is not None:
            await self.lead.record.carry(tx, at)

    async def change(self) -> None:
        """Publish what was put in force."""
        if self.lead is not None:
            with contextlib.suppress(BusError):  # the lead's own reconnect announces it
                await self.lead.record.change()

    async def subtree(self) -> JsonObject | None:
        """Sum up the servers below this one; None: it has no downlink."""
        return None if self._wanted.downlink is None else await subtree.summary(self._store)

    def live(self, whence: JsonValue) -> JsonObject | None:
        """Say how the downlink stands right now, and whence these devices came; None: nobody leads here."""
        hosting = {} if self._hosting is None else self._hosting.live(whence)
        return None if self.lead is None else {**self.lead.live(), **hosting}

    # One signing key.

    async def _lead_with_keys(self, wanted: DownlinkTable, server: str, above: Above) -> None:
        await rotate.finish(self._store, self._state_dir)
        lead_keys = keys.load_lead_keys(self._state_dir)
        spoken = keys.begin_lead_session(self._state_dir, self._now().timestamp(), self._rng)
        hosting = self._hosting = Hosting(self._store, self._state_dir, server, wanted, self._now)
        async with hosting.endpoint() as endpoint:
            lead = self.lead = self._made(wanted, lead_keys, spoken, endpoint, above)
            self._ready.set()
            await self._note(wanted)
            await together(
                lead=lead.run(),
                supervise=hosting.supervise(),
                upkeep=hosting.upkeep(lead),
                pass_up=_pass_up(lead, above),
                watch_keys=self._watch_keys(lead_keys),
            )

    def _made(
        self, wanted: DownlinkTable, lead_keys: keys.LeadKeys, spoken: Session, endpoint: Endpoint, above: Above
    ) -> Lead:
        return Lead(
            self._store,
            Issuer(lead_keys, self._rng, spoken.number),
            MqttBus(endpoint),
            spoken,
            state_dir=self._state_dir,
            now=self._now,
            rng=self._rng,
            heartbeat_s=wanted.heartbeat_s,
            welcome=Welcome(self._store, lead_keys, now=self._now, reload=self.sync).answer,
            paused=wanted.paused,
            upstream=above.upstream,
            may_raise=above.may_raise,
            is_relay=self._wanted.uplink is not None,
        )

    async def _note(self, wanted: DownlinkTable) -> None:
        """Write down how the downlink begins, for a `status` without an agent."""
        state = DownlinkState.PAUSED if wanted.paused else DownlinkState.OK
        async with self._store.reading() as tx:
            has_issued = await issued.current(tx) is not None
        if not has_issued:
            state = DownlinkState.LOST
        async with self._store.transaction() as tx:
            await issued.note(tx, broker=wanted.broker, state=state, finding=None)

    async def _watch_keys(self, present: keys.LeadKeys) -> None:
        while True:
            await self._keys_poked.wait()
            self._keys_poked.clear()
            if keys.load_lead_keys(self._state_dir).seq != present.seq:
                raise _KeysChangedError


async def _pass_up(lead: Lead, above: Above) -> None:
    """Let a relay's own lead know what the servers below it hold, at most once a second."""
    while True:
        await lead.roster_changed.wait()
        lead.roster_changed.clear()
        await above.report()
        await asyncio.sleep(PASS_UP_PERIOD_S)


class _KeysChangedError(Exception):
    """The signing key was renewed."""
