"""The states of one site on the disk: a lead and its shadows, bound to it as `attach` would have left them.

Everything in them is real (keys, memberships, accounts, CA, databases with synchronous=FULL); only the attaching itself
is not played, since it is a command of seconds for each device.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import secrets
import shutil
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from propagator import files, initialise, keys, settings
from propagator.broker import hash_password
from propagator.config import Address, Found
from propagator.core import moment, registration
from propagator.core.roster import Seen
from propagator.core.signing import PrivateKey
from propagator.core.wire import Membership, Typ
from propagator.register import register
from propagator.store import connection, held, members
from tests.ports import free_port

if TYPE_CHECKING:
    from pathlib import Path

    from propagator.core.registration import Registration
    from propagator.keys import Credentials, LeadKeys
    from propagator.settings import Settings
    from propagator.store import Tx

LEAD: Final = "es-1"
HEARTBEAT_S: Final = 20.0
"""A third of the usual: a lead's first heartbeat makes every shadow report once, and that is to be over sooner."""

KIND: Final = "server-device"
_CREDENTIALS: Final = "bench"


@dataclass(frozen=True, slots=True)
class Site:
    """One lead and its shadows; each has a state directory below `directory`."""

    directory: Path

    @property
    def lead_dir(self) -> Path:
        """The lead's state directory."""
        return self.directory / LEAD

    @property
    def lead_config(self) -> Path:
        """The lead's configuration."""
        return self.directory / f"{LEAD}.toml"

    @property
    def devices(self) -> tuple[str, ...]:
        """The ids of the shadows."""
        return tuple(sorted(path.name for path in self.directory.glob("device-*") if path.is_dir()))

    def shadow_dir(self, device: str) -> Path:
        """The state directory of a shadow."""
        return self.directory / device

    def shadow_settings(self, device: str) -> Settings:
        """The configuration of a shadow."""
        table = {"state_dir": str(self.shadow_dir(device)), "server": {"id": device, "kind": KIND}, "uplink": {}}
        return settings.load(Found(self.directory / f"{device}.toml", table, exists=True))

    def credentials(self, device: str) -> Credentials:
        """What a shadow connects with."""
        return keys.load_credentials(keys.credentials_path(self.shadow_dir(device), _CREDENTIALS))

    def bare_arguments(self, device: str) -> tuple[str, str, str]:
        """The lead's port, and the files of a shadow's credentials and of the lead's CA, for a bare client."""
        wanted = settings.load_uplink(self.shadow_dir(device) / settings.UPLINK_FILE)
        if wanted is None or wanted.ca_file is None:
            raise AssertionError("each shadow was given both")
        return str(wanted.addresses[0].port), str(wanted.credential_file), str(wanted.ca_file)

    def tls(self) -> ssl.SSLContext:
        """Trust the lead's CA, as its shadows do: the chain, not the name."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(cafile=str(self.lead_dir / files.KEYS_DIR / keys.CA_CERTIFICATE))
        return context


def content(number: int) -> Registration:
    """Give the registration of one round."""
    return registration.from_document(
        {
            "site": {"type": "single", "name": f"Riverside House {number}", "company": "Riverside Estates Ltd"},
            "address": {
                "street": "12 Quay Street",
                "city": "Bristol",
                "state": "Somerset",
                "postal_code": "BS1 4XY",
                "country": "GB",
            },
            "contact": {"email": "facilities@riverside.example"},
            "system": {"segments": ["offices"], "applications": ["hvac", "lighting"]},
        }
    )


def make(directory: Path, shadows: int) -> Site:
    """Make a site in an empty directory. Call without a running loop."""
    site = Site(directory)
    port = free_port()
    text = settings.render(role="lead", server_id=LEAD, state_dir=site.lead_dir, listen=f"127.0.0.1:{port}")
    text = text.replace("heartbeat_s = 60", f"heartbeat_s = {HEARTBEAT_S:g}")
    initialise.initialise(site.lead_config, text, dt.datetime.now(dt.UTC))
    keys.write_server_certificate(site.lead_dir, ("127.0.0.1",))
    asyncio.run(_bind(site, [f"device-{number:04}" for number in range(1, shadows + 1)], port))
    return site


async def _bind(site: Site, devices: list[str], port: int) -> None:
    lead_keys = keys.load_lead_keys(site.lead_dir)
    at = moment.write(dt.datetime.now(dt.UTC))
    template = site.directory / "template"
    files.make_state_dir(template)
    await connection.create(template)
    async with connection.opened(site.lead_dir) as store:
        await register(store, content(0), at=at)
        async with store.transaction() as tx:
            for device in devices:
                await _make_shadow(tx, site, device, lead_keys, port, at)
    shutil.rmtree(template)


async def _make_shadow(tx: Tx, site: Site, device: str, lead_keys: LeadKeys, port: int, at: str) -> None:  # noqa: PLR0913, PLR0917  what it is made of
    state_dir = site.shadow_dir(device)
    files.make_state_dir(state_dir)
    shutil.copy(site.directory / "template" / connection.FILE_NAME, state_dir / connection.FILE_NAME)
    key, password = PrivateKey.generate(), secrets.token_urlsafe(32)
    serial = secrets.token_hex(16)
    membership = lead_keys.seal(Typ.MEMBERSHIP, Membership(device=device, key=key.thumbprint, serial=serial)).decode()
    server = held.Server(device, device, KIND, f"SYS-{device}", wants_uplink=True, wants_downlink=False)
    async with connection.opened(state_dir) as store, store.transaction() as own:
        await held.create_server(own, server, at)
    mine = keys.credentials_path(state_dir, _CREDENTIALS)
    keys.save_credentials(mine, keys.Credentials(device, password, key, membership, _CREDENTIALS), state_dir)
    _write_uplink(site, state_dir, mine, lead_keys, port)
    member = members.Member(
        id=device,
        name=device,
        kind=KIND,
        system_id=server.system_id,
        key=key.thumbprint,
        password_hash=hash_password(password, secrets.token_bytes(12)),
        serial=serial,
        membership=membership,
        attached_at=at,
        revoked_at=None,
        seen=Seen(None, confirmed=False),
        report=None,
        online=False,
        presence=None,
        told_seq=lead_keys.seq,
    )
    await members.bind(tx, member, at=at)


def _write_uplink(site: Site, state_dir: Path, mine: Path, lead_keys: LeadKeys, port: int) -> None:
    uplink = settings.Uplink(
        lead=LEAD,
        addresses=(Address("127.0.0.1", port),),
        ca_file=site.lead_dir / files.KEYS_DIR / keys.CA_CERTIFICATE,
        lead_key=lead_keys.identity,
        credential_file=mine,
    )
    (state_dir / settings.UPLINK_FILE).write_text(settings.render_uplink(uplink))
