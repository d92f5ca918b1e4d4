"""Passwords: argon2id (RFC 9106), a few at a time, and never on the event loop."""

from __future__ import annotations

import asyncio
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

SHORTEST: Final = 12
LONGEST: Final = 256
_AT_ONCE: Final = 2
"""Each takes 64 MiB for a while; a flood of tries waits in line instead of filling the memory."""

_hasher: Final = PasswordHasher()
_nobodys: Final = _hasher.hash("the password of nobody")
"""Verified against where there is no account, so that the answer takes as long as for one that is there."""


class Passwords:
    """Hashes and verifies, at most `_AT_ONCE` at once."""

    def __init__(self) -> None:
        self._room = asyncio.Semaphore(_AT_ONCE)

    async def hashed(self, password: str) -> str:
        """Hash a new password."""
        async with self._room:
            return await asyncio.to_thread(_hasher.hash, _bytes(password))

    async def verify(self, hashed: str | None, password: str) -> bool:
        """Say whether this is the password. Without a hash it is not, and that takes as long."""
        async with self._room:
            matches = await asyncio.to_thread(_matches, hashed or _nobodys, password)
        return matches and hashed is not None


def _bytes(password: str) -> bytes:
    return password.encode("utf-8", "surrogatepass")


def _matches(hashed: str, password: str) -> bool:
    try:
        return _hasher.verify(hashed, _bytes(password))
    except (VerificationError, InvalidHashError):
        return False


def problem(password: str, *, email: str) -> str | None:
    """Say what is wrong with a new password, None if nothing is (NIST SP 800-63B: length, and nothing obvious)."""
    if not password:
        return "is missing; choose one"
    if len(password) < SHORTEST:
        return f"is too short; at least {SHORTEST} characters, for example four words"
    if len(password) > LONGEST:
        return f"is too long; at most {LONGEST} characters"
    if password.lower() in {email, email.partition("@")[0] * 2} or len(set(password)) < 4:  # noqa: PLR2004
        return "is too easy to guess"
    return None
