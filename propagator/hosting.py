"""Hosting: the broker that a lead's shadows meet at, and the accounts on it, kept up to what the store says."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from typing import TYPE_CHECKING, Final

from propagator import accounts, downlink, files, keys, log
from propagator.broker import EmbeddedBroker, hash_password
from propagator.bus import Endpoint
from propagator.core.errors import BusError, StoreError
from propagator.store import members

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from propagator.broker import Account
    from propagator.core.difference import JsonObject, JsonValue
    from propagator.lead import Lead
    from propagator.settings import DownlinkTable
    from propagator.store import Store

UPKEEP_PERIOD_S: Final = 600.0
"""How often invitations that ended are cleared away."""


class Hosting:
    """The broker of one lead: our own child, or an external one, whose accounts are its operator's."""

    def __init__(
        self, store: Store, state_dir: Path, lead: str, wanted: DownlinkTable, now: Callable[[], dt.datetime]
    ) -> None:
        self._store = store
        self._state_dir = state_dir
        self._lead = lead
        self._wanted = wanted
        self._now = now
        self._broker: EmbeddedBroker | None = None
        self._password_hash = ""
        self._log = log.get("agent")

    @property
    def listening(self) -> list[JsonValue]:
        """Where the embedded broker takes connections."""
        return [] if self._broker is None else [str(self._wanted.listen)]

    def live(self, devices: JsonValue) -> JsonObject:
        """Say what the embedded broker knows right now, and whence these devices came; null: the broker is not ours."""
        broker = self._broker
        if broker is None:
            return {"listening": [], "connections_at_cap": None, "addresses": None}
        asked = devices if isinstance(devices, list) else []
        addresses: JsonObject = {str(device): list(broker.addresses(str(device))) for device in asked}
        return {"listening": self.listening, "connections_at_cap": broker.connections_at_cap, "addresses": addresses}

    @contextlib.asynccontextmanager
    async def endpoint(self) -> AsyncIterator[Endpoint]:
        """Give the lead's endpoint: at the external broker, or at one of our own that lives as long as this block."""
        if self._wanted.external is not None:
            yield downlink.external_endpoint(self._wanted, self._lead)
            return
        keys.write_server_certificate(self._state_dir, downlink.advertised(self._wanted))
        password = secrets.token_urlsafe(32)
        self._password_hash = hash_password(password, secrets.token_bytes(12))
        folder = self._state_dir / files.BROKER_DIR
        listener = downlink.listener(self._wanted, self._state_dir)
        broker = EmbeddedBroker(folder, listener, self._wanted.max_connections)
        await broker.start(await self._accounts())
        self._broker = broker
        self._log.info("agent.broker_started", listening=self.listening)
        try:
            yield Endpoint((f"unix:{broker.socket}",), username=self._lead, password=password)
        finally:
            self._broker = None
            await broker.stop()
            for file in folder.iterdir():  # what Mosquitto stored, where root ran this
                files.take_owner(file, self._state_dir)

    async def supervise(self) -> None:
        """Keep the embedded broker up; an external one is its operator's."""
        if self._broker is not None:
            await self._broker.supervise()

    async def sync(self, lead: Lead | None) -> None:
        """Bring the broker, and the files beside the keys, up to what the store says of shadows. Raises BusError."""
        if self._broker is not None:
            await self._broker.reload(await self._accounts())
        async with self._store.reading() as tx:
            await accounts.keep_beside_keys(tx, self._state_dir)
            revoked = await members.revoked(tx)
        for device in revoked:
            if lead is not None and await lead.clear(device):
                async with self._store.transaction() as tx:
                    await members.forget_member(tx, device)

    async def upkeep(self, lead: Lead) -> None:
        """Clear away invitations that ended, now and then; what fails is done the next time."""
        while True:
            with contextlib.suppress(BusError, StoreError):
                await self._forget_ended()
                await self.sync(lead)
            await asyncio.sleep(UPKEEP_PERIOD_S)

    async def _forget_ended(self) -> None:
        async with self._store.transaction() as tx:
            for invitation in await members.invitations(tx):
                if not accounts.is_answered(invitation, self._now()):
                    await members.forget_invitation(tx, invitation.device)

    async def _accounts(self) -> list[Account]:
        async with self._store.reading() as tx:
            known = accounts.read_beside_keys(self._state_dir)
            return await accounts.accounts(tx, self._lead, self._password_hash, self._now(), beside_keys=known)
