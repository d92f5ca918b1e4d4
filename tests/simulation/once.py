"""Work that is the same in every run, or at every server, and is done once: what the functions give does not change.

Documents are opened, read and followed once, though many shadows take the same bytes. What was signed in this process
counts as verified: Ed25519 gives one signature for one key and text, and `tests/unit` verifies it. Whatever else comes
by, changed bytes or a stranger's, is verified each time.
"""

from __future__ import annotations

import functools
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from propagator import certificates
from propagator.broker import configuration
from propagator.core import record, signing
from propagator.core.signing import PrivateKey
from propagator.store import connection

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType

    from joserfc.jwk import OKPKey
    from joserfc.jws import CompactSignature

_CACHED: Final = 4096
"""Results that are remembered: what one run says in some minutes."""

_PURE: Final = (
    (signing, "open_envelope"),
    (signing, "authority"),
    (record, "read"),
    (configuration, "hash_password"),
)


@contextmanager
def once() -> Iterator[None]:
    """Do each of these things once."""
    _signed.clear()
    before = [vars(owner)[name] for owner, name, _ in _replacements()]
    for owner, name, replacement in _replacements():
        setattr(owner, name, replacement)
    try:
        yield
    finally:
        for (owner, name, _), original in zip(_replacements(), before, strict=True):
            setattr(owner, name, original)


@functools.cache
def _replacements() -> list[tuple[object, str, object]]:
    """List what is replaced, where, and by what: so many that `patch` would cost more than some of it saves."""
    return [
        *((module, name, _remembered(original)) for module, name, original in _places()),
        (PrivateKey, "from_pem", _key),
        (PrivateKey, "sign", _sign),
        (signing, "_verifies", _verifies),
        (connection, "_fill", _fill),
        (certificates, "make_authority", _authority),
    ]


@functools.cache
def _places() -> list[tuple[ModuleType, str, Any]]:
    """List where the product holds a pure function, under its name."""
    found = []
    for home, name in _PURE:
        original = getattr(home, name)
        for module in list(sys.modules.values()):
            ours = getattr(module, "__name__", "").startswith(("propagator", "tests.memory_bus"))
            if ours and vars(module).get(name) is original:
                found.append((module, name, original))
    return found


@functools.cache
def _remembered(function: Any) -> Any:
    return functools.lru_cache(_CACHED)(function)


# Keys and signatures.

_signed: set[bytes] = set()
"""Documents that were signed in this run."""

_empty: list[bytes] = []
"""The empty database, once it was made."""

_read_key = PrivateKey.from_pem
_make_signature = PrivateKey.sign
_truly_verifies = signing._verifies
_make_authority = certificates.make_authority
_make_database = connection._fill


@functools.lru_cache(_CACHED)
def _key(pem: bytes) -> PrivateKey:
    return _read_key(pem)


def _sign(key: PrivateKey, header: dict[str, object], payload: bytes) -> bytes:
    raw = _make_signature(key, header, payload)
    _signed.add(raw)
    return raw


def _verifies(signature: CompactSignature, key: OKPKey) -> bool:
    """Say whether a signature holds under the key that its own header carries, as `_sign` wrote it there."""
    parts = signature.segments
    raw = b".".join((parts["header"], parts["payload"], parts["signature"]))
    return raw in _signed or _truly_verifies(signature, key)


@functools.cache
def _authority(lead: str) -> certificates.KeyPair:
    """Make a CA once: TLS is no part of the simulation, tokens carry its certificate all the same."""
    return _make_authority(lead)


# Disks.


async def _fill(path: Path) -> None:
    """Make an empty database: every one but the first is a copy of that."""
    if _empty:
        _write(path, _empty[0])
    else:
        await _make_database(path)
        _empty.append(_read(path))


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _read(path: Path) -> bytes:
    return path.read_bytes()
