"""`rotate`: a new signing key under the next seq; the record and every membership are signed anew (DESIGN §5)."""

from __future__ import annotations

import random
import secrets
from typing import TYPE_CHECKING

from propagator import accounts, keys
from propagator.core import signing, version
from propagator.core.errors import RefusedError, Unreadable
from propagator.core.version import Version
from propagator.core.wire import Membership, Typ
from propagator.issuing import Issuer
from propagator.store import held, issued, members

if TYPE_CHECKING:
    from pathlib import Path

    from propagator.accounts import Bound
    from propagator.keys import LeadKeys
    from propagator.store import Store, Tx


async def rotate(store: Store, state_dir: Path, *, at: str) -> Version:
    """Renew the signing key; gives the version that every shadow will follow. The old key signs nothing that counts.

    A lead that lost its record, and was registered anew, begins again by it: the next seq stands above all that any
    shadow may still hold. Raises StateError without the identity key, RefusedError for a lead that lost its record and
    was not registered since. A crash at any line leaves the old key or the new one in force.
    """
    async with store.transaction() as tx:
        if await issued.current(tx) is None and (await held.local(tx)).registration is None:
            hint = "propagator associate --from-field; if no shadow holds it: propagator register FILE, then this again"
            raise RefusedError("This lead has lost its record.", hint=hint)
        following = await renew(tx, state_dir, at=at)
    await finish(store, state_dir)
    return following


async def renew(tx: Tx, state_dir: Path, *, at: str) -> Version:
    """Renew the signing key in a transaction of the caller's, who lets `finish` follow. Raises StateError as above."""
    rng = random.SystemRandom()
    known = await members.members(tx)
    lost = accounts.read_beside_keys(state_dir)
    devices = sorted({*lost, *(member.id for member in known)})
    lead = (await held.server(tx)).id
    current = await issued.current(tx)
    if current is not None:
        keys.finish_rotation(state_dir, current.version.seq)
    renewed = keys.next_lead_keys(state_dir, keys.own_lead_keys(state_dir, lead, devices), devices)
    following = Version(renewed.seq, 1, version.new_epoch(rng), 1)
    await Issuer(renewed, rng).sign(tx, following, at)
    for member in known:
        if _trusts(member.membership, renewed.identity):
            word = Membership(device=member.id, key=member.key, serial=member.serial)
            await members.renew_membership(tx, member.id, renewed.seal(Typ.MEMBERSHIP, word).decode())
    if current is None:
        await _remember(tx, renewed, lost, at)
    return following


def _trusts(membership: str, identity: str) -> bool:
    """Say whether a shadow was bound under this identity key; one that was not has to be invited again."""
    opened = signing.open_envelope(membership.encode())
    authority = None if isinstance(opened, Unreadable) else signing.authority(opened)
    return authority is not None and authority.identity == identity


async def _remember(tx: Tx, renewed: LeadKeys, lost: dict[str, Bound], at: str) -> None:
    """Know the shadows of a lost database again by the files beside the keys.

    The memberships that they hold were signed under a lower seq, and count no more (DESIGN §5).
    """
    for device, bound in lost.items():
        word = Membership(device=device, key=bound["key"], serial=secrets.token_hex(16))
        membership = renewed.seal(Typ.MEMBERSHIP, word).decode()
        await members.remember(tx, device, **bound, serial=word.serial, membership=membership, at=at)


async def finish(store: Store, state_dir: Path) -> None:
    """Take over the key of a rotation that a crash cut short, or forget it: its record is stored, or it is not.

    In a transaction that writes, and so never in the midst of a rotation: it would take its key for a forgotten one.
    """
    async with store.transaction() as tx:
        current = await issued.current(tx)
        if current is not None:
            keys.finish_rotation(state_dir, current.version.seq)
