"""Signatures: JWS compact (RFC 7515) with Ed25519 (RFC 9864) and nothing else; keys named by thumbprint (RFC 7638).

The identity key signs a delegation `{lead, seq, key}`; the signing key that it names signs everything else. What a
document carries about its keys is there to name a stranger, never to be trusted: the caller compares thumbprints with
those it holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, cast

from cryptography.exceptions import UnsupportedAlgorithm
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey
from joserfc.util import urlsafe_b64decode

from propagator.core import strict_json
from propagator.core.errors import InputError, Unreadable
from propagator.core.record import Document, Number, ServerId, Thumbprint, read, write

SIZE_LIMIT: Final = 64 * 1024
"""Bytes of one signed document, checked before anything is parsed."""

ALGORITHM: Final = "Ed25519"
DELEGATION: Final = "delegation"

_registry = jws.JWSRegistry(algorithms=[ALGORITHM], strict_check_header=False)
_registry.max_header_length = _registry.max_payload_length = SIZE_LIMIT


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An Ed25519 public key; `x` is its 32 bytes in base64url (RFC 8037)."""

    x: str

    @property
    def jwk(self) -> dict[str, str]:
        """The key as a JSON Web Key."""
        return {"crv": "Ed25519", "kty": "OKP", "x": self.x}

    @property
    def thumbprint(self) -> str:
        """The RFC 7638 thumbprint: 43 characters of base64url."""
        return _imported(self.x)[1]


@lru_cache(maxsize=4096)
def _imported(x: str) -> tuple[OKPKey, str]:
    """Give a public key and its thumbprint; kept, because the same keys sign nearly all that comes in."""
    key = OKPKey.import_key({"crv": "Ed25519", "kty": "OKP", "x": x})
    return key, key.thumbprint()


class PrivateKey:
    """An Ed25519 private key. Never shown, never sent."""

    __slots__ = ("_key", "public", "thumbprint")

    def __init__(self, key: OKPKey) -> None:
        self._key = key
        self.public = PublicKey(str(key.as_dict(private=False)["x"]))
        self.thumbprint = self.public.thumbprint

    @classmethod
    def generate(cls) -> PrivateKey:
        """Make a new key from the operating system's randomness."""
        return cls(OKPKey.generate_key(ALGORITHM))

    @classmethod
    def from_pem(cls, pem: bytes) -> PrivateKey:
        """Read a PKCS #8 PEM. Raises InputError if it is no Ed25519 private key."""
        try:
            key = OKPKey.import_key(pem)
        except (JoseError, ValueError, TypeError, UnsupportedAlgorithm) as error:  # TypeError: it wants a passphrase
            raise InputError("The key file is no unencrypted PEM private key.") from error
        if key.curve_name != "Ed25519" or not key.is_private:
            raise InputError("The key file holds no Ed25519 private key.")
        return cls(key)

    @property
    def pem(self) -> bytes:
        """The key as an unencrypted PKCS #8 PEM."""
        return self._key.as_pem(private=True)

    def sign(self, header: dict[str, object], payload: bytes) -> bytes:
        """Sign `payload` under a protected header; `alg`, `kid` and `jwk` are filled in."""
        protected = {"alg": ALGORITHM, "kid": self.thumbprint, "jwk": self.public.jwk, **header}
        return jws.serialize_compact(protected, payload, self._key, registry=_registry).encode()


@dataclass(frozen=True, slots=True)
class Envelope:
    """A signed document, opened but not yet judged: what its header says of itself, and whether its signature holds.

    `verified` is under the key that the header carries; `kid` is that key's true thumbprint.
    """

    raw: bytes
    typ: str
    lead: str
    sender: str
    kid: str
    delegation: str | None
    verified: bool
    payload: bytes


class Delegation(Document):
    """What the identity key says: this signing key speaks for this lead, under this seq."""

    lead: ServerId
    seq: Number
    key: Thumbprint


@dataclass(frozen=True, slots=True)
class Authority:
    """In whose name a lead's document was signed: its identity key's thumbprint, and the seq of the delegation."""

    lead: str
    identity: str
    seq: int


def seal(  # noqa: PLR0913  the header's members, each named
    typ: str, payload: Document, key: PrivateKey, *, lead: str, sender: str, delegation: str | None = None
) -> bytes:
    """Sign a document: `typ` says which one, `sender` who speaks, in the realm of which `lead`."""
    header: dict[str, object] = {"typ": typ, "lead": lead, "sender": sender}
    if delegation is not None:
        header["delegation"] = delegation
    return key.sign(header, write(payload))


def delegate(identity: PrivateKey, signing: PublicKey, *, lead: str, seq: int) -> str:
    """Let the identity key appoint a signing key."""
    delegation = Delegation(lead=lead, seq=seq, key=signing.thumbprint)
    return seal(DELEGATION, delegation, identity, lead=lead, sender=lead).decode()


def open_envelope(raw: bytes) -> Envelope | Unreadable:
    """Open a signed document: size, form, header, signature, in this order. The payload is not parsed."""
    if not raw:
        return Unreadable("an empty message")
    if len(raw) > SIZE_LIMIT:
        return Unreadable(f"larger than {SIZE_LIMIT} bytes")
    try:
        header = _header(raw)  # first: joserfc's own reader knows no depth
        if isinstance(header, Unreadable):
            return header
        signature = jws.extract_compact(raw, registry=_registry)
    except (JoseError, ValueError) as error:
        return Unreadable(f"not a signed document: {str(error) or 'no base64url'}")
    carried = _carried_key(header)
    names = [header.get(name) for name in ("typ", "lead", "sender")]
    delegation = header.get("delegation")
    if carried is None or not all(isinstance(name, str) and len(name) <= 64 for name in names):  # noqa: PLR2004
        return Unreadable("its header does not name what it is, whose it is, and its Ed25519 key")
    if delegation is not None and not isinstance(delegation, str):
        return Unreadable("its delegation is no text")
    typ, lead, sender = cast("list[str]", names)
    key, kid = carried
    verified = _verifies(signature, key)
    return Envelope(raw, typ, lead, sender, kid, delegation, verified, signature.payload)


def authority(envelope: Envelope) -> Authority | None:
    """Follow a lead's document to the identity key that it carries. None if any step does not verify."""
    if not envelope.verified or envelope.delegation is None or envelope.sender != envelope.lead:
        return None
    named = _appointed(envelope.delegation)
    if named is None or named != (Authority(envelope.lead, named[0].identity, named[0].seq), envelope.kid):
        return None
    return named[0]


@lru_cache(maxsize=16)
def _appointed(delegation: str) -> tuple[Authority, str] | None:
    """Open a delegation and read it; kept, because every document of a lead carries the same one."""
    opened = open_envelope(delegation.encode())
    return None if isinstance(opened, Unreadable) else read_delegation(opened)


def read_delegation(envelope: Envelope) -> tuple[Authority, str] | None:
    """Read whom a delegation appoints: in whose name, and the signing key's thumbprint. None if it does not verify."""
    if envelope.typ != DELEGATION or not envelope.verified:
        return None
    delegation = read(Delegation, envelope.payload)
    if isinstance(delegation, Unreadable):
        return None
    return Authority(delegation.lead, envelope.kid, delegation.seq), delegation.key


def _header(raw: bytes) -> dict[str, object] | Unreadable:
    """Read the protected header strictly: two readers must not see two headers in the same bytes."""
    header = strict_json.loads(urlsafe_b64decode(raw.split(b".", 1)[0]))
    if not isinstance(header, dict):
        return Unreadable("its header is no JSON object")
    if header.get("alg") != ALGORITHM:
        return Unreadable(f"signed with another algorithm than {ALGORITHM}")
    if "crit" in header or "b64" in header:
        return Unreadable("its header asks for an extension")
    return header


def _carried_key(header: dict[str, object]) -> tuple[OKPKey, str] | None:
    """Give the key that the header carries, with its true thumbprint, if that is the one it names."""
    jwk = header.get("jwk")
    if not isinstance(jwk, dict) or jwk.get("kty") != "OKP" or jwk.get("crv") != "Ed25519":
        return None
    x = jwk.get("x")
    try:
        carried = _imported(x) if isinstance(x, str) else None
        return carried if carried is not None and carried[1] == header.get("kid") else None
    except (JoseError, ValueError):
        return None


def _verifies(signature: jws.CompactSignature, key: OKPKey) -> bool:
    try:
        return jws.validate_compact(signature, key, registry=_registry)
    except (JoseError, ValueError):
        return False
