"""Who may do what at the embedded broker: a projection of the store, made anew at every change (DESIGN §5)."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, TypedDict, TypeVar, cast

from propagator import files
from propagator.broker import Account
from propagator.broker.configuration import PASSWORDS
from propagator.core import moment
from propagator.core.errors import InputError
from propagator.core.wire import ATTACH_SUFFIX, PROBE_SUFFIX, Leaf, Topic
from propagator.store import members

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from propagator.store import Tx

Right: TypeAlias = "tuple[Literal['read', 'write'], Leaf]"

GRACE: Final = dt.timedelta(hours=1)
"""How long after its expiry an invitation is still answered with the reason why it ended (F14)."""

_SHADOW: Final[list[Right]] = [
    ("write", Leaf.REPORT),
    ("write", Leaf.PRESENCE),
    ("write", Leaf.ANSWER),
    ("read", Leaf.REQUEST),
    ("read", Leaf.REGISTRATION),
    ("read", Leaf.HEARTBEAT),
]
_PROBING: Final[list[Right]] = [("write", Leaf.PRESENCE), ("read", Leaf.REGISTRATION), ("read", Leaf.HEARTBEAT)]
"""A diagnosis reads what the shadow reads, and asks for a heartbeat with a presence (docs/decisions/0010)."""

_ATTACHING: Final[list[Right]] = [("write", Leaf.ANSWER), ("read", Leaf.REQUEST)]

BESIDE_KEYS: Final = "accounts.json"
REVOKED: Final = "revoked.json"


class Bound(TypedDict):
    """What binds a shadow: the thumbprint of its key, and what the broker keeps of its password."""

    key: str
    password_hash: str


_Content = TypeVar("_Content")


async def accounts(
    tx: Tx, lead: str, lead_password_hash: str, now: dt.datetime, beside_keys: Mapping[str, Bound]
) -> list[Account]:
    """List every account: the lead, each shadow with its `ID_probe`, and `ID_attach` for each answered invitation.

    A shadow is known by its row or by its line beside the keys: a lead whose database was lost still lets it in.
    """
    bound = await _bound(tx, beside_keys)
    shadows = [
        _account(lead, device + suffix, known["password_hash"], rights)
        for device, known in bound.items()
        for suffix, rights in (("", _SHADOW), (PROBE_SUFFIX, _PROBING))
    ]
    helpers = [
        _account(lead, invitation.device + ATTACH_SUFFIX, invitation.password_hash, _ATTACHING)
        for invitation in await members.invitations(tx)
        if is_answered(invitation, now)
    ]
    return [Account(lead, lead_password_hash, (("readwrite", f"propagator/1/{lead}/#"),)), *shadows, *helpers]


async def _bound(tx: Tx, beside_keys: Mapping[str, Bound]) -> dict[str, Bound]:
    """Join the lines beside the keys with the rows, which are newer; what is revoked is in neither."""
    ended = await members.revoked(tx)
    kept = {device: known for device, known in beside_keys.items() if device not in ended}
    rows = {device: Bound(key=key, password_hash=hashed) for device, key, hashed in await members.bindings(tx)}
    return {**kept, **rows}


def is_answered(invitation: members.Invitation, now: dt.datetime) -> bool:
    """Say whether a device with this token still gets an answer, be it only the reason why the token ended."""
    return now < moment.read(invitation.expires_at) + GRACE


def read_beside_keys(state_dir: Path) -> dict[str, Bound]:
    """Read the shadows' accounts beside the keys. Raises StateError or InputError for a file that cannot be used."""
    return _read(state_dir / files.KEYS_DIR / BESIDE_KEYS, dict[str, Bound]())


def read_former(state_dir: Path, lead: str) -> dict[str, Bound]:
    """Read the shadows of a lead whose database is gone: beside the keys; where those went too, what its broker knew.

    The broker knows no keys of devices, so these are empty then.
    """
    passwords = state_dir / files.BROKER_DIR / PASSWORDS
    lines = files.read_private(passwords).decode().splitlines() if passwords.exists() else []
    named = (line.partition(":") for line in lines)
    at_broker = {name: Bound(key="", password_hash=hashed) for name, _, hashed in named if "_" not in name}
    at_broker.pop(lead, None)
    return {**at_broker, **read_beside_keys(state_dir)}


def read_revoked(state_dir: Path) -> frozenset[str]:
    """Read the serials of memberships that ended. Raises StateError or InputError for a file that cannot be used."""
    return frozenset(_read(state_dir / files.KEYS_DIR / REVOKED, list[str]()))


async def keep_beside_keys(tx: Tx, state_dir: Path) -> None:
    """Write the shadows' accounts and the revoked serials beside the keys: a lost database must not forget them."""
    folder = state_dir / files.KEYS_DIR
    ended = {*_read(folder / REVOKED, list[str]()), *await members.revoked_serials(tx)}
    for path, content in (
        (folder / BESIDE_KEYS, await _bound(tx, read_beside_keys(state_dir))),
        (folder / REVOKED, sorted(ended)),
    ):
        raw = json.dumps(content, indent=1, sort_keys=True).encode()
        if not path.exists() or files.read_private(path) != raw:
            files.write_private(path, raw, owner_of=state_dir)


def _read(path: Path, otherwise: _Content) -> _Content:
    if not files.is_there(path):
        return otherwise
    try:
        return cast("_Content", json.loads(files.read_private(path)))
    except ValueError as error:
        raise InputError(f"{path} is damaged.", hint="Restore it from a backup.") from error


def _account(lead: str, name: str, password_hash: str, rights: list[Right]) -> Account:
    shared = {Leaf.REGISTRATION, Leaf.HEARTBEAT}
    return Account(
        name,
        password_hash,
        tuple((right, str(Topic(lead, leaf, None if leaf in shared else name))) for right, leaf in rights),
    )
