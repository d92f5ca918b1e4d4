"""Inviting and revoking at a lead (DESIGN §5): make a token for one device, or end what a token began."""

from __future__ import annotations

import base64
import datetime as dt
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from propagator import certificates, downlink, keys
from propagator.broker import hash_password
from propagator.core import moment, token
from propagator.core.errors import InputError, RefusedError
from propagator.core.state import State
from propagator.core.token import Token
from propagator.store import issued, members

if TYPE_CHECKING:
    from propagator.core.token import Account
    from propagator.settings import DownlinkTable, Settings
    from propagator.store import Store
    from propagator.store.members import Member

VALID: Final = dt.timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Invited:
    """A token, and what to know of it. `replaced`: an earlier invitation of this device has ended by it."""

    token: str
    addresses: tuple[str, ...]
    expires_at: str
    replaced: bool


async def invite(  # noqa: PLR0913  what a token says
    store: Store,
    wanted: Settings,
    device: str,
    *,
    now: dt.datetime,
    valid: dt.timedelta = VALID,
    again: bool = False,
    account: Account | None = None,
) -> Invited:
    """Make a token for a device. Raises InputError (its id), RefusedError (it is attached already; say `again`)."""
    link = _downlink_for(wanted, device, account)
    async with store.reading() as tx:
        devices = [member.id for member in await members.members(tx)]
    lead_keys = keys.own_lead_keys(wanted.state_dir, wanted.server.id, devices)
    secret = secrets.token_urlsafe(32)
    at, expires_at = moment.write(now), moment.write(now + valid)
    async with store.transaction() as tx:
        if not again and _is_attached(await members.member(tx, device)):
            raise RefusedError(
                f"{device!r} is attached already.", hint=f"to attach it anew: propagator invite {device} --again"
            )
        earlier = await members.invitation(tx, device)
        current = await issued.current(tx)
        await members.invite(tx, _kept(device, secret, at, expires_at))
    written = Token(
        addresses=downlink.addresses(link),
        lead=wanted.server.id,
        identity=lead_keys.identity,
        ca=_ca(wanted, link),
        device=device,
        secret=secret,
        seq=lead_keys.seq,
        version=None if current is None else current.version,
        expires_at=expires_at,
        account=account,
    )
    open_still = earlier is not None and earlier.used_at is None and earlier.expires_at > at
    return Invited(token.write(written), written.addresses, expires_at, open_still)


def _downlink_for(wanted: Settings, device: str, account: Account | None) -> DownlinkTable:
    link = _downlink(wanted)
    if device == wanted.server.id:
        raise InputError(f"{device!r} is this lead itself.", hint="give each device an id of its own")
    if link.external is not None and account is None:
        raise InputError(
            "Accounts at an external broker are made by its operator: a token must carry one.",
            hint=f"propagator invite {device} --account NAME --password-file FILE",
        )
    return link


def _is_attached(member: Member | None) -> bool:
    """A shadow that said goodbye may be invited as if it were new."""
    return member is not None and (member.report is None or member.report["state"] != State.DETACHED)


def _kept(device: str, secret: str, at: str, expires_at: str) -> members.Invitation:
    """What the lead keeps of an invitation: what is derived from the secret, never the secret."""
    derived = token.derive(secret)
    password_hash = hash_password(derived.password, secrets.token_bytes(12))
    return members.Invitation(device, derived.token_id, derived.mac_key, password_hash, at, expires_at)


async def revoke(store: Store, wanted: Settings, device: str, *, at: str) -> None:
    """End a device's key, account and invitation. Raises RefusedError if there is none."""
    _downlink(wanted)
    async with store.transaction() as tx:
        if not await members.revoke(tx, device, at):
            raise RefusedError(
                f"There is no shadow and no invitation {device!r} here.", hint="propagator status lists the shadows"
            )


def _downlink(wanted: Settings) -> DownlinkTable:
    if wanted.downlink is None:
        raise RefusedError(
            f"{wanted.server.id!r} is no lead: its configuration has no [downlink].",
            hint="run this at the Enterprise Server, or add the link: propagator init --role relay",
        )
    return wanted.downlink


def _ca(wanted: Settings, link: DownlinkTable) -> str:
    """The CA that devices pin, DER in base64; empty for a public one."""
    external = (downlink.ca_pem(link) or "").encode()
    pem = keys.authority(wanted.state_dir).cert_pem if link.external is None else external
    return base64.b64encode(certificates.pem_to_der(pem)).decode() if pem else ""
