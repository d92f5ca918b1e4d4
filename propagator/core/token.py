"""The invitation token: all that a device needs to find its lead, to know it, and to prove that it was invited.

Written `propagator1.BODY.CHECK`: BODY is base64url over deflated JSON, CHECK eight characters of its SHA-256, so that
a typing error is found before any connection. The secret in it never travels: what travels is derived from it (HKDF,
RFC 5869).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import zlib
from dataclasses import dataclass
from typing import Annotated, Final

import rfc8785
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import Field, StrictStr

from propagator.core import record
from propagator.core.errors import RefusedError, Unreadable
from propagator.core.record import Document, Moment, Number, ServerId, Thumbprint, VersionText

PREFIX: Final = "propagator1"
SIZE_LIMIT: Final = 16 * 1024
"""Characters of a token, and bytes of its members: the largest that the fields allow is below 14,000."""

_CHECK_LENGTH: Final = 8


class Account(Document):
    """A broker account that the operator of an external broker made for the device."""

    username: Annotated[StrictStr, Field(min_length=1, max_length=128)]
    password: Annotated[StrictStr, Field(min_length=1, max_length=256)]


class Token(Document):
    """What an invitation carries. `ca` is the lead's CA certificate, DER in base64, or empty for a public CA."""

    addresses: Annotated[tuple[Annotated[StrictStr, Field(max_length=262)], ...], Field(min_length=1, max_length=16)]
    lead: ServerId
    identity: Thumbprint
    ca: Annotated[StrictStr, Field(max_length=4096)]
    device: ServerId
    secret: Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9_-]{43}$")]
    seq: Number
    version: VersionText | None = None
    expires_at: Moment
    account: Account | None = None


@dataclass(frozen=True, slots=True)
class Derived:
    """What is made of the secret: the attach account's password, the key of the MACs, and a name for the token."""

    password: str
    mac_key: bytes
    token_id: str


def write(token: Token) -> str:
    """Write a token for a person to copy."""
    members = json.dumps(token.model_dump(mode="json", exclude_none=True), separators=(",", ":"))
    body = base64.urlsafe_b64encode(zlib.compress(members.encode(), 9)).decode().rstrip("=")
    return f"{PREFIX}.{body}.{_check(body)}"


def read(text: str) -> Token:
    """Read what a person pasted; white space in it does not matter. Raises RefusedError, saying what to do."""
    compact = "".join(text.split())
    parts = compact.split(".")
    if len(compact) > SIZE_LIMIT or not compact.isascii() or len(parts) != 3 or parts[0] != PREFIX:  # noqa: PLR2004
        raise RefusedError(
            f"This is no token: a token has three parts and begins with {PREFIX}.",
            hint="copy the whole line that `propagator invite` printed",
        )
    _, body, check = parts
    if not hmac.compare_digest(check.lower().encode(), _check(body).encode()):
        raise RefusedError(
            "The token has a typing error: its checksum does not fit.", hint="copy it again, or scan its QR picture"
        )
    token = record.read(Token, _inflated(body))
    if isinstance(token, Unreadable):
        raise RefusedError(
            f"The token was made by a program that this one does not understand ({token.detail}).",
            hint="bring this server to the version of its lead",
        )
    return token


def derive(secret: str) -> Derived:
    """Derive from the token's secret what may be stored at the lead and what travels."""
    return Derived(
        password=_hkdf(secret, b"propagator attach password").hex(),
        mac_key=_hkdf(secret, b"propagator attach mac"),
        token_id=_hkdf(secret, b"propagator attach id")[:8].hex(),
    )


def mac(key: bytes, typ: str, members: dict[str, str]) -> str:
    """HMAC-SHA256 over the RFC 8785 form of a document's members without `mac`, bound to its `typ`."""
    plain = {name: value for name, value in members.items() if name != "mac"}
    return hmac.new(key, typ.encode() + b"\n" + rfc8785.dumps(plain), hashlib.sha256).hexdigest()


def _inflated(body: str) -> bytes:
    """Inflate, bounded: a token of a few bytes must not grow to gigabytes."""
    try:
        packed = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
        return zlib.decompressobj().decompress(packed, SIZE_LIMIT)
    except (binascii.Error, zlib.error, ValueError):
        return b""


def _check(body: str) -> str:
    return base64.b32encode(hashlib.sha256(body.encode()).digest()).decode().lower()[:_CHECK_LENGTH]


def _hkdf(secret: str, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(secret.encode())
