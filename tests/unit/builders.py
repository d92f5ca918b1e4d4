"""What several tests make: keys that are the same in every run, leads, records, and documents forged by hand."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from propagator.core import registration, signing, version
from propagator.core.decide import Trust
from propagator.core.record import Document, Hop, Record, life_entries
from propagator.core.signing import Envelope, PrivateKey
from propagator.core.wire import Typ

if TYPE_CHECKING:
    from collections.abc import Mapping

    from propagator.core.difference import JsonObject
    from propagator.core.registration import Registration
    from propagator.core.version import Version

DOCUMENT: Final[JsonObject] = {
    "site": {"type": "single", "name": "Riverside House", "company": "Riverside Estates Ltd"},
    "address": {"street": "1 Quay", "city": "Bristol", "state": "Avon", "postal_code": "BS1 4DJ", "country": "GB"},
    "contact": {"email": "facilities@riverside.example"},
}
"""A registration with what is required and nothing else."""

ISSUED_AT: Final = "2026-11-24T11:20:31.123Z"


def registered(name: str = "Riverside House", **members: object) -> Registration:
    """Give a registration of the site `name`; `members` stand beside the known ones, or replace them."""
    site = {"type": "single", "name": name, "company": "Riverside Estates Ltd"}
    return registration.from_document({**DOCUMENT, "site": site, **members})  # type: ignore[dict-item]


def v(text: str) -> Version:
    """Read a version that is one."""
    parsed = version.parse(text)
    assert parsed is not None, text
    return parsed


@cache
def secret(name: str) -> Ed25519PrivateKey:
    """Make the Ed25519 key of this name: its seed is the SHA-256 of the name."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())


@cache
def key(name: str) -> PrivateKey:
    """Give the same key as one of ours."""
    return PrivateKey.from_pem(secret(name).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def b64(raw: bytes) -> bytes:
    """Write base64url without padding (RFC 7515)."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def unb64(text: str | bytes) -> bytes:
    """Read base64url without padding."""
    raw = text.encode() if isinstance(text, str) else text
    return base64.urlsafe_b64decode(raw + b"=" * (-len(raw) % 4))


def forged(header: Mapping[str, object] | bytes, payload: bytes = b"{}", *, by: str = "stranger") -> bytes:
    """Sign any bytes as a header, and any payload, with the key named `by`: a valid signature over what nobody makes.

    Of a header given as members, `alg`, `kid` and `jwk` are those of the key unless they are given.
    """
    if not isinstance(header, bytes):
        header = json.dumps({"alg": "Ed25519", "kid": key(by).thumbprint, "jwk": key(by).public.jwk, **header}).encode()
    signed = b64(header) + b"." + b64(payload)
    return signed + b"." + b64(secret(by).sign(signed))


def flipped(raw: bytes, index: int) -> bytes:
    """Flip the lowest bit of one byte."""
    return raw[:index] + bytes([raw[index] ^ 1]) + raw[index + 1 :]


def opened(raw: bytes) -> Envelope:
    """Open what is a signed document."""
    envelope = signing.open_envelope(raw)
    assert isinstance(envelope, Envelope), envelope
    return envelope


@dataclass(frozen=True)
class Lead:
    """A lead with its two keys. The keys of `es-1` are the default; its other seqs sign with keys of their own."""

    id: str = "es-1"
    identity: PrivateKey = field(default_factory=lambda: key("es-1 identity"))
    signing: PrivateKey = field(default_factory=lambda: key("es-1 signing 1"))
    seq: int = 1

    @property
    def delegation(self) -> str:
        """The delegation that its documents carry."""
        return signing.delegate(self.identity, self.signing.public, lead=self.id, seq=self.seq)

    @property
    def hop(self) -> Hop:
        """Its own entry in a path."""
        return Hop(id=self.id, identity=self.identity.thumbprint)

    def rotated(self) -> Lead:
        """Give the same lead after `rotate`: the next seq, another signing key."""
        return replace(self, seq=self.seq + 1, signing=key(f"{self.id} signing {self.seq + 1}"))

    def trust(self, **changes: object) -> Trust:
        """What a shadow that was invited by this lead trusts."""
        return replace(Trust(self.id, self.identity.thumbprint, self.seq), **changes)  # type: ignore[arg-type]

    def record(
        self, written: str, content: Registration | None = None, *, above: tuple[Hop, ...] = (), **changes: object
    ) -> Record:
        """Make a record of this version; `above` are the hops before its own."""
        issued = v(written)
        members = {
            "lead": self.id,
            "system_id": "SYS-1",
            "version": issued,
            "lives": life_entries(version.lives_after((), issued)),
            "hash": registration.hash_of(content),
            "path": (*above, self.hop),
            "issued_at": ISSUED_AT,
            "registration": content,
            **changes,
        }
        return Record(**members)  # type: ignore[arg-type]

    def seal(self, typ: Typ, document: Document) -> bytes:
        """Sign a document as this lead."""
        return signing.seal(typ, document, self.signing, lead=self.id, sender=self.id, delegation=self.delegation)

    def signed(
        self, written: str, content: Registration | None = None, *, above: tuple[Hop, ...] = (), **changes: object
    ) -> bytes:
        """Sign a record of this version."""
        return self.seal(Typ.RECORD, self.record(written, content, above=above, **changes))

    def forged(self, payload: bytes, **header: object) -> bytes:
        """Sign any payload under a record's header, of which members may be replaced."""
        members = {"typ": "record", "lead": self.id, "sender": self.id, "delegation": self.delegation, **header}
        carried = {"alg": "Ed25519", "kid": self.signing.thumbprint, "jwk": self.signing.public.jwk, **members}
        return forged(json.dumps(carried).encode(), payload, by=f"{self.id} signing {self.seq}")
