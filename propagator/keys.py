"""The keys of this server, in `STATE/keys`: a lead's two keys and its CA, a shadow's credentials for its lead.

A lead has an *identity key*, pinned by its tokens and used only by `init` and `rotate`, and a *signing key*, appointed
by a delegation; the identity key may be kept off the machine (DESIGN §5). Everything private is 0600.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, cast

from propagator import certificates, files
from propagator.core import session, signing
from propagator.core.errors import InputError, StateError, Unreadable
from propagator.core.signing import PrivateKey

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path
    from random import Random

    from propagator.core.record import Document
    from propagator.core.session import Session

IDENTITY: Final = "identity.key"
SIGNING: Final = "signing.key"
DELEGATION: Final = "delegation.jws"
CA_KEY: Final = "ca.key"
CA_CERTIFICATE: Final = "ca.crt"
SERVER_KEY: Final = "server.key"
SERVER_CERTIFICATE: Final = "server.crt"
NEXT: Final = ".next"
BORN: Final = "born"
SESSION: Final = "session"
CREDENTIALS: Final = "uplink-{}.json"
ATTACHING: Final = "attaching.json"


@dataclass(frozen=True, slots=True)
class LeadKeys:
    """What a lead signs with: its signing key, and the delegation that appoints it."""

    lead: str
    identity: str
    seq: int
    signing: PrivateKey = field(repr=False)
    delegation: str = field(repr=False)

    def seal(self, typ: str, document: Document) -> bytes:
        """Sign a document as this lead."""
        return signing.seal(typ, document, self.signing, lead=self.lead, sender=self.lead, delegation=self.delegation)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a shadow needs at its lead: its broker account, its device key, and the lead's word that binds it."""

    username: str
    password: str = field(repr=False)
    key: PrivateKey = field(repr=False)
    membership: str = field(repr=False)
    token_id: str

    def write(self) -> bytes:
        """Write them for a private file."""
        members = {
            "username": self.username,
            "password": self.password,
            "device_key": self.key.pem.decode(),
            "membership": self.membership,
            "token_id": self.token_id,
        }
        return json.dumps(members, indent=2).encode()


def create_lead_keys(state_dir: Path, lead: str, *, seq: int = 1) -> LeadKeys:
    """Make a lead's keys and its private CA. `seq` is 1 but for a lead that lost the keys it had before."""
    identity, signer = PrivateKey.generate(), PrivateKey.generate()
    delegation = signing.delegate(identity, signer.public, lead=lead, seq=seq)
    authority = certificates.make_authority(lead)
    for name, content in (
        (IDENTITY, identity.pem),
        (SIGNING, signer.pem),
        (CA_KEY, authority.key_pem),
        (CA_CERTIFICATE, authority.cert_pem),
        (DELEGATION, delegation.encode()),  # last: `has_lead_keys` looks for it
    ):
        files.write_private(_path(state_dir, name), content, owner_of=state_dir)
    return LeadKeys(lead, identity.thumbprint, seq, signer, delegation)


def absent_lead_keys(state_dir: Path) -> tuple[str, ...]:
    """Name what a lead signs with and is not there. The identity key may be kept elsewhere."""
    return tuple(name for name in (SIGNING, DELEGATION) if not files.is_there(_path(state_dir, name)))


def is_without_lead_keys(state_dir: Path) -> bool:
    """Say whether no key of a lead is left: then new ones overwrite nothing."""
    return not any(files.is_there(_path(state_dir, name)) for name in (IDENTITY, SIGNING, DELEGATION))


def own_lead_keys(state_dir: Path, lead: str, devices: Collection[str]) -> LeadKeys:
    """Load what this very lead signs with.

    Raises InputError if they are another lead's, StateError if they are gone: it says which devices to invite again.
    """
    where = state_dir / files.KEYS_DIR
    absent = absent_lead_keys(state_dir)
    if not absent:
        loaded = load_lead_keys(state_dir)
        if loaded.lead == lead:
            return loaded
        raise InputError(
            f"{where} holds the keys of lead {loaded.lead!r}, not of {lead!r}.",
            hint="restore that directory from a backup of this server",
        )
    anew = f"propagator init --role lead --id {lead}"
    begin = anew if is_without_lead_keys(state_dir) else f"move {where} away, {anew}"
    raise StateError(
        f"The keys of lead {lead!r} are gone: {' and '.join(absent)} not found in {where}.",
        hint=f"restore {where} from a backup; if there is none: {begin}, then for each device: {again(devices)}",
    )


def again(devices: Collection[str]) -> str:
    """Say how each of these devices comes to trust another identity key; written so that a shell takes it."""
    return "; ".join(f"propagator invite {device} --again" for device in devices) or "propagator invite DEVICE"


def load_lead_keys(state_dir: Path) -> LeadKeys:
    """Load what a lead signs with. The identity key itself is not needed.

    A crash in the midst of `finish_rotation` leaves the new signing key beside the old delegation; its own is still
    under the name that it was written to, and counts.
    """
    signer = _private_key(_path(state_dir, SIGNING))
    path = _path(state_dir, DELEGATION)
    for written in (path, _path(state_dir, DELEGATION + NEXT)):
        if written == path or files.is_there(written):
            raw = files.read_private(written)
            appointed = signing.open_envelope(raw)
            probe = None if isinstance(appointed, Unreadable) else signing.read_delegation(appointed)
            if probe is not None and probe[1] == signer.thumbprint:
                return LeadKeys(probe[0].lead, probe[0].identity, probe[0].seq, signer, raw.decode())
    raise InputError(f"{path} does not appoint the signing key beside it.", hint="Restore both files from one backup.")


def next_lead_keys(state_dir: Path, now: LeadKeys, devices: Collection[str]) -> LeadKeys:
    """Make a new signing key under the next seq, and put it beside the present one; `finish_rotation` takes it over.

    Raises StateError where the identity key is not here: it says which `devices` another one would have to invite.
    """
    path = _path(state_dir, IDENTITY)
    if not files.is_there(path):
        raise StateError(
            f"The identity key of {now.lead!r} is not here, and only it can appoint a signing key.",
            hint=f"bring it back to {path}; if it is lost: move {path.parent} away, propagator init --role lead --id "
            f"{now.lead}, then invite each device again: {again(devices)}",
        )
    identity = _private_key(path)
    signer = PrivateKey.generate()
    delegation = signing.delegate(identity, signer.public, lead=now.lead, seq=now.seq + 1)
    files.write_private(_path(state_dir, SIGNING + NEXT), signer.pem, owner_of=state_dir)
    files.write_private(_path(state_dir, DELEGATION + NEXT), delegation.encode(), owner_of=state_dir)
    return LeadKeys(now.lead, identity.thumbprint, now.seq + 1, signer, delegation)


def _private_key(path: Path) -> PrivateKey:
    try:
        return PrivateKey.from_pem(files.read_private(path))
    except InputError as error:
        if error.hint:
            raise
        raise InputError(f"{path} is damaged. {error}", hint="restore it from a backup") from error


def finish_rotation(state_dir: Path, seq: int) -> None:
    """Take the next signing key over once the store holds a record of its seq; else forget it.

    The key comes before its delegation, on the disk too: in the other order a power cut would leave a key that the next
    start takes for a forgotten one.
    """
    signer, delegation = _path(state_dir, SIGNING + NEXT), _path(state_dir, DELEGATION + NEXT)
    if files.is_there(delegation):
        opened = signing.open_envelope(files.read_private(delegation))
        read = None if isinstance(opened, Unreadable) else signing.read_delegation(opened)
        if read is not None and read[0].seq == seq:
            if files.is_there(signer):
                files.move(signer, _path(state_dir, SIGNING))
            files.move(delegation, _path(state_dir, DELEGATION))
    for path in (signer, delegation):
        path.unlink(missing_ok=True)


def has_lead_keys(state_dir: Path) -> bool:
    """Say whether this server has ever been made a lead here."""
    return files.is_there(_path(state_dir, DELEGATION))


def authority(state_dir: Path) -> certificates.KeyPair:
    """Load the lead's private CA."""
    return certificates.KeyPair(
        files.read_private(_path(state_dir, CA_KEY)), files.read_private(_path(state_dir, CA_CERTIFICATE))
    )


def write_server_certificate(state_dir: Path, names: tuple[str, ...]) -> None:
    """Make the embedded broker's certificate anew: its names may have changed, and its clients trust the CA."""
    pair = certificates.make_server_certificate(authority(state_dir), names)
    files.write_private(_path(state_dir, SERVER_KEY), pair.key_pem, owner_of=state_dir)
    files.write_private(_path(state_dir, SERVER_CERTIFICATE), pair.cert_pem, owner_of=state_dir)


def is_born(state_dir: Path) -> bool:
    """Say whether a lead has signed a first record here: a new store beside this mark is a *lost* lead (DESIGN §3)."""
    return _path(state_dir, BORN).exists()


def mark_born(state_dir: Path) -> None:
    """Mark that the first record was signed."""
    if not is_born(state_dir):
        files.write_private(_path(state_dir, BORN), b"", owner_of=state_dir)


def begin_lead_session(state_dir: Path, now_s: float, rng: Random) -> Session:
    """Begin a lead's session; its number is kept beside the keys, so that it survives a lost database."""
    path = _path(state_dir, SESSION)
    last = 0
    with contextlib.suppress(StateError, ValueError):
        last = int(files.read_private(path)) if path.exists() else 0
    begun = session.begin(now_s, last, rng)
    files.write_private(path, str(begun.number).encode(), owner_of=state_dir)
    return begun


def load_credentials(path: Path) -> Credentials:
    """Load a shadow's credentials. Raises StateError (missing) or InputError (damaged, or readable by others)."""
    raw = files.read_private(path)
    try:
        members = cast("dict[str, str]", json.loads(raw))
        return Credentials(
            username=members["username"],
            password=members["password"],
            key=PrivateKey.from_pem(members["device_key"].encode()),
            membership=members["membership"],
            token_id=members["token_id"],
        )
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged.", hint="Attach this server again with a new token.") from error


def save_credentials(path: Path, credentials: Credentials, state_dir: Path) -> None:
    """Save a shadow's credentials, in one step."""
    files.write_private(path, credentials.write(), owner_of=state_dir)


def credentials_path(state_dir: Path, token_id: str) -> Path:
    """Where the credentials won by a token are: each attaching has its own, so that none breaks the one before."""
    return _path(state_dir, CREDENTIALS.format(token_id))


def forget_credentials(state_dir: Path, *, but: Path | None = None) -> None:
    """Remove the credentials of every link but the one in force, and of every try."""
    for path in (state_dir / files.KEYS_DIR).glob(CREDENTIALS.format("*")):
        if path != but:
            path.unlink(missing_ok=True)
            path.with_suffix(".crt").unlink(missing_ok=True)
    attaching_path(state_dir).unlink(missing_ok=True)


def attaching_path(state_dir: Path) -> Path:
    """Where the credentials of an attaching that has not been answered yet are."""
    return _path(state_dir, ATTACHING)


def _path(state_dir: Path, name: str) -> Path:
    return state_dir / files.KEYS_DIR / name
