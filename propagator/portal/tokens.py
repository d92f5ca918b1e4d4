"""Random texts that open something, and what is kept of them.

A token is 256 random bits; kept is its SHA-256, from which nobody can find it, and which is looked up instead of
compared, so that no comparison takes longer the nearer a guess comes. A user code is typed by a person: short, of signs
that nobody confuses, and good for minutes (RFC 8628 §6.1).
"""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Final

USER_ALPHABET: Final = "BCDFGHJKMPQRSTVWXZ"
"""Without vowels, so that no word comes out; without L, N, Y and digits, which look or sound like others."""

NUMBER_ALPHABET: Final = "23456789ABCDEFGHJKMNPQRSTVWXYZ"


def new() -> str:
    """Make a token: 43 characters of base64url."""
    return secrets.token_urlsafe(32)


def hashed(token: str) -> str:
    """Give what is kept of a token. Any text has a hash, also one that cannot be written as UTF-8."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def serial() -> str:
    """Make the serial of a statement: 128 random bits in base64url."""
    return secrets.token_urlsafe(16)


def user_code() -> str:
    """Make a user code, like `BDGH-KMPQ`: 33 bits, good for 15 minutes and few tries."""
    signs = "".join(secrets.choice(USER_ALPHABET) for _ in range(8))
    return f"{signs[:4]}-{signs[4:]}"


def plain_user_code(typed: str) -> str:
    """Give a typed user code as it was issued: any case, with or without its hyphen and spaces."""
    signs = _SEPARATORS.sub("", typed).upper()
    return f"{signs[:4]}-{signs[4:]}"


_SEPARATORS: Final = re.compile(r"[\s\u2010-\u2015_.-]+")


def system_number() -> str:
    """Make the portal's number of a system, like `R-7KQ2M9`."""
    return f"R-{''.join(secrets.choice(NUMBER_ALPHABET) for _ in range(6))}"
