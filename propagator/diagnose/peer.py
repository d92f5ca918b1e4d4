"""Whom this server follows, for a diagnosis without the agent: from `uplink.toml`, the store and the account file.

What this user may not read is left out, and the stages that need it are `not checked`.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from propagator import keys, settings, snapshot
from propagator.bus import split_address
from propagator.core import session, signing
from propagator.core.decide import Trust
from propagator.core.errors import PropagatorError, StateError
from propagator.core.wire import PROBE_SUFFIX, Presence, Typ
from propagator.diagnose.conversation import Account, Peer
from propagator.following import pem, tls
from propagator.probe import pictures

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from propagator.core.diagnosis.seen import Picture
    from propagator.keys import Credentials
    from propagator.settings import Uplink


@dataclass(frozen=True, slots=True)
class Wanted:
    """The lead that is followed, where it is dialled, as whom, and how the ways to it looked when all was well."""

    lead: str
    lead_name: str
    server: str
    targets: tuple[tuple[str, int], ...]
    peer: Peer
    pictures: Mapping[str, Picture] = field(default_factory=dict)


def load(state_dir: Path, target: tuple[str, int] | None = None) -> Wanted:
    """Load whom to diagnose. Raises StateError where this server follows nobody or its link cannot be read."""
    uplink = settings.load_uplink(state_dir / settings.UPLINK_FILE)
    if uplink is None:
        raise StateError(
            "This server follows no lead, so there is no way to one to be checked.",
            hint="on the lead: propagator invite ID; then here: propagator attach TOKEN",
        )
    picture = snapshot.read(state_dir)
    link = picture.uplink
    name = link.lead_name if link is not None and link.lead == uplink.lead else uplink.lead
    seq = link.seq if link is not None and link.lead == uplink.lead and link.seq is not None else 1
    targets = (target,) if target is not None else tuple(split_address(str(each)) for each in uplink.addresses)
    account, no_account = _account(uplink, picture.server.id)
    authority, no_tls = _authority(uplink)
    peer = Peer(
        lead=uplink.lead,
        tls=tls(authority),
        trust=Trust(uplink.lead, uplink.lead_key, seq),
        account=account,
        no_account=no_account,
        no_tls=no_tls,
    )
    return Wanted(uplink.lead, name, picture.server.id, targets, peer, pictures.load(state_dir))


def _authority(uplink: Uplink) -> tuple[str | None, str]:
    try:
        return pem(uplink.ca_file), ""
    except StateError as error:
        return None, f"this user cannot tell the lead's certificate from another: {error}"


def _account(uplink: Uplink, server: str) -> tuple[Account | None, str]:
    try:
        credentials = keys.load_credentials(uplink.credential_file)
    except PropagatorError as error:
        return None, f"this server's account at the lead cannot be read by this user: {error}"
    return account_of(credentials, lead=uplink.lead, server=server), ""


def account_of(credentials: Credentials, *, lead: str, server: str) -> Account:
    """Give the account that a diagnosis speaks as: at an embedded broker the helper account `ID_probe`.

    At an external broker the accounts are the operator's: ours is used under a client id of its own.
    """
    if credentials.username != server:
        return Account(credentials.username, f"{server}{PROBE_SUFFIX}", credentials.password)
    name = f"{server}{PROBE_SUFFIX}"
    begun = session.begin(time.time(), 0, random.Random())  # noqa: S311  a suffix that tells sessions apart

    def ask() -> bytes:
        presence = Presence(session=begun, counter=1, online=True)
        return signing.seal(Typ.PRESENCE, presence, credentials.key, lead=lead, sender=server)

    return Account(name, name, credentials.password, ask)
