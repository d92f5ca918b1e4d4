"""Servers that are attached already when a world begins: the state that `attach` leaves, without its conversation.

The schedule attaches servers anew by the real conversation; doing so for each of them would double the cost of a seed.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from propagator import accounts, keys, settings
from propagator.broker import hash_password
from propagator.config import parse_address
from propagator.core.roster import Seen
from propagator.core.signing import PrivateKey
from propagator.core.state import State
from propagator.core.wire import Membership, Typ
from propagator.following import FIRST_PERIOD_S
from propagator.keys import Credentials, LeadKeys
from propagator.store import members, uplinks
from tests.simulation.network import PORT

if TYPE_CHECKING:
    from propagator.store import Store
    from tests.simulation.machine import Machine


async def enrol(shadow: Machine, lead: Machine) -> None:
    """Let a server follow a lead; neither runs yet."""
    key, password = PrivateKey.generate(), secrets.token_urlsafe(32)
    lead_keys = keys.load_lead_keys(lead.directory)
    member = _member(shadow, lead, lead_keys, key, password)
    path = keys.credentials_path(shadow.directory, "first")
    credentials = Credentials(shadow.id, password, key, member.membership, "first")
    keys.save_credentials(path, credentials, shadow.directory)
    address = parse_address(f"{lead.hub or lead.id}:{PORT}")
    uplink = settings.Uplink(
        lead=lead.id, addresses=(address,), ca_file=None, lead_key=lead_keys.identity, credential_file=path
    )
    (shadow.directory / settings.UPLINK_FILE).write_text(settings.render_uplink(uplink))

    async def bind(store: Store) -> None:
        async with store.transaction() as tx:
            await members.bind(tx, member, at=lead.at)
        async with store.reading() as tx:
            await accounts.keep_beside_keys(tx, lead.directory)

    async def follow(store: Store) -> None:
        link = uplinks.Uplink(lead.id, lead.id.upper(), lead_keys.identity, State.UNKNOWN, shadow.at, FIRST_PERIOD_S)
        async with store.transaction() as tx:
            await uplinks.attach(tx, link, seq=1, lowest=None, at=shadow.at)

    await lead.command(bind)
    await shadow.command(follow)


def _member(shadow: Machine, lead: Machine, by: LeadKeys, key: PrivateKey, password: str) -> members.Member:
    """Give a shadow as its lead binds it."""
    serial = secrets.token_hex(16)
    word = Membership(device=shadow.id, key=key.thumbprint, serial=serial)
    return members.Member(
        id=shadow.id,
        name=shadow.id.upper(),
        kind=shadow.settings.server.kind,
        system_id="",
        key=key.thumbprint,
        password_hash=hash_password(password, secrets.token_bytes(12)),
        serial=serial,
        membership=by.seal(Typ.MEMBERSHIP, word).decode(),
        attached_at=lead.at,
        revoked_at=None,
        seen=Seen(None, confirmed=False),
        report=None,
        online=False,
        presence=None,
        told_seq=by.seq,
    )
