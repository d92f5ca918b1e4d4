"""The Registration code: a statement of the portal, written so that a person can type it and a picture can hold it.

    signed document -> bytes:  raw deflate of (length of the header, header, payload), then the signature (64 bytes),
                               then 5 bytes of the SHA-256 over both
    bytes -> text:             base32 with Crockford's signs, in groups of 5 and a sixth that checks them

The first group says the form and how many bytes there are, so that a lost group is missed. The check sign depends on
the five signs, on their order and on the number of the group: one wrong sign, two exchanged ones, a group or a line in
another's place are found, and the place is named. What is rebuilt is the signed document, byte for byte; whether it
counts is for `core.statement` to say.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import zlib
from typing import TYPE_CHECKING, Final, NamedTuple

from propagator.core.errors import InputError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SIGNS: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base32: no I, L, O, U. Who reads O reads 0, who reads I or L reads 1."""

GROUP: Final = 6
GROUPS_A_LINE: Final = 8
COMMENT: Final = "#"

SIZE_LIMIT: Final = 48 * 1024
"""Bytes of a code, and of what it inflates to: as much as a signed document holds (64 KiB of base64)."""

PICTURE_LIMIT: Final = 4296
"""Signs that the largest QR picture holds: version 40, level L, alphanumeric (ISO/IEC 18004, table 7)."""

_FORM: Final = "1"
_SIGNATURE: Final = 64
_CHECK: Final = 5

_USUAL: Final = b"".join(
    (
        b'"replaces":"null"warranty":{"months":24,"reference":"","start":"2026-"}"kind":"branch"type":"multi"false',
        b'{"alg":"Ed25519","kid":"","jwk":{"crv":"Ed25519","kty":"OKP","x":""},"typ":"statement","lead":"portal",',
        b'"sender":"portal"}{"system_id":"","system":"R-","edition":1,"serial":"","issued_at":"2026-",',
        b'"expires_at":"2026-01-01T00:00:00.000Z","replaces":null,"registration":{"accounts":{"end_user":{',
        b'"company":" Ltd","email":"info@"},"integrator":{"company":" GmbH","email":"office@","kind":"partner"}},',
        b'"address":{"city":"","country":"GB","postal_code":"","state":"","street":"1 Street"},',
        b'"consents":{"personal_information":true,"system_information":true},"contact":{"email":"facilities@"},',
        b'"site":{"company":" Estates Ltd","name":" House","type":"single"},',
        b'"system":{"applications":["hvac","lighting"],"segments":["offices"],"transition":[]}}}',
    )
)
"""What a statement usually says: deflate refers to it instead of repeating it. A part of form 1, it never changes."""


class _Place(NamedTuple):
    """Where a group stands, as it is printed: both count from 1."""

    line: int
    group: int

    def __str__(self) -> str:
        return f"line {self.line}, group {self.group}"


def write(jws: bytes) -> str:
    """Write a signed document as a code: lines of groups. Raises InputError for what is none, or too long."""
    packed = _pack(jws)
    signs = [f"{_FORM}{_base32(len(packed), 4)}", *_base32_groups(packed)]
    groups = [data + _check_sign(data, number) for number, data in enumerate(signs)]
    lines = (groups[start : start + GROUPS_A_LINE] for start in range(0, len(groups), GROUPS_A_LINE))
    return "\n".join(" ".join(line) for line in lines)


def commented(text: str, comments: Iterable[str]) -> str:
    """Write a code as a file, with lines for people above it."""
    told = "".join(f"{COMMENT} {' '.join(comment.split())}\n" for comment in comments)
    return f"{told}{text}\n"


def for_picture(text: str) -> str:
    """Give a code as a QR picture holds it: without spaces. Raises InputError where none is large enough."""
    compact = "".join(text.split())
    if len(compact) > PICTURE_LIMIT:
        raise InputError(
            f"The code has {len(compact)} signs, and a QR picture holds {PICTURE_LIMIT}.",
            hint="carry it as text or as a file",
        )
    return compact


def read(text: str) -> bytes:
    """Read a code that a person typed or pasted, or that a picture held; gives the signed document.

    Case, white space, hyphens and lines that begin with # do not matter. Raises RefusedError, which names the place.
    """
    written = _without_comments(text)
    groups = _chunks("".join(written))
    wrong = _problem(groups)
    if wrong is not None:
        in_groups = 2 * sum(len(group) == GROUP for group in written) > len(written)
        told = _problem(written) if in_groups else None  # a lost sign shifts all after it, but for who left spaces
        raise RefusedError(told or wrong, hint="compare that place with the original, and correct it")
    return _unpacked(groups)


def is_whole(text: str) -> bool:
    """Say whether this is a code to its end, every group in its place."""
    return _problem(_chunks("".join(_without_comments(text)))) is None


# Bytes.


def _pack(jws: bytes) -> bytes:
    try:
        header, payload, signature = (_unbase64(part) for part in jws.split(b"."))
    except ValueError as error:
        raise InputError("A Registration code holds a signed document, and this is none.") from error
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_DEFAULT_STRATEGY, _USUAL)
    inner = len(header).to_bytes(2, "big") + header + payload
    body = squeeze.compress(inner) + squeeze.flush() + signature
    if len(signature) != _SIGNATURE or max(len(inner), len(body) + _CHECK) > SIZE_LIMIT:
        raise InputError(f"A Registration code holds a signed document of at most {SIZE_LIMIT} bytes.")
    return body + _digest(body)


def _unpacked(groups: list[str]) -> bytes:
    length = _number(groups[0][1 : GROUP - 1])
    bits = "".join(group[:-1] for group in groups[1:])
    whole = _number(bits) if bits else 0
    padding = 5 * len(bits) - 8 * length
    body = (whole >> padding).to_bytes(length, "big")
    signed, check = body[:-_CHECK], body[-_CHECK:]
    if check != _digest(signed) or whole & ((1 << padding) - 1):
        raise RefusedError(
            "The code has a typing error: its checksum does not fit, though each group does.",
            hint="get the code from the portal again, and copy the whole of it",
        )
    inner = _inflated(signed[:-_SIGNATURE])
    size = int.from_bytes(inner[:2], "big")
    parts = inner[2 : 2 + size], inner[2 + size :], signed[-_SIGNATURE:]
    return b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)


def _inflated(packed: bytes) -> bytes:
    """Inflate, bounded: a code of a few lines must not grow to gigabytes."""
    inflate = zlib.decompressobj(-zlib.MAX_WBITS, _USUAL)
    try:
        inner = inflate.decompress(packed, SIZE_LIMIT)
    except zlib.error:
        inner = b""
    if not inflate.eof or inflate.unused_data:
        raise RefusedError(
            "This program does not understand the code.", hint="bring this server to the version of the portal"
        )
    return inner


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()[:_CHECK]


def _unbase64(part: bytes) -> bytes:
    """Read base64url; raises ValueError also where it would not come back the same."""
    try:
        raw = base64.b64decode(part + b"=" * (-len(part) % 4), b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError("no base64url") from error
    if base64.urlsafe_b64encode(raw).rstrip(b"=") != part:
        raise ValueError("base64url that is not canonical")
    return raw


# Signs.


def _base32_groups(raw: bytes) -> Iterator[str]:
    digits = -(-8 * len(raw) // 25) * (GROUP - 1)  # whole groups; what is left of the last one is zero
    text = _base32(int.from_bytes(raw, "big") << (5 * digits - 8 * len(raw)), digits)
    return (text[start : start + GROUP - 1] for start in range(0, digits, GROUP - 1))


def _base32(number: int, digits: int) -> str:
    bits = f"{number:0{5 * digits}b}"
    return "".join(SIGNS[int(bits[start : start + 5], 2)] for start in range(0, len(bits), 5))


def _number(text: str) -> int:
    return int("".join(f"{SIGNS.index(sign):05b}" for sign in text), 2)


def _check_sign(data: str, number: int) -> str:
    """Weigh the signs of a group, each by its place, and the number of the group: a sum in GF(32).

    The weights are five powers of 2 and 1 for the check sign itself: all different, so no exchange of two goes unseen.
    """
    total = _mark_of(number)
    for place, sign in enumerate(data, start=1):
        total ^= _times_power(SIGNS.index(sign), place)
    return SIGNS[total]


def _times_power(value: int, power: int) -> int:
    """Multiply by 2 to this power in GF(32), modulo x^5 + x^2 + 1."""
    for _ in range(power):
        value <<= 1
        if value & 0b100000:
            value ^= 0b100101
    return value


def _mark_of(number: int) -> int:
    """Give what the number of a group adds to its check.

    Neighbours differ in it, also by a group or a line that was lost, and so do any two of 256 lines that follow.
    """
    line, group = divmod(number, GROUPS_A_LINE)
    stride = 2 * (line // 16 % 16) + 1
    return (2 * line + group * stride) % 32


# Reading what a person wrote.


def _without_comments(text: str) -> list[str]:
    """Give what stands between white space and hyphens, each sign as it is meant."""
    lines = (line for line in text.splitlines() if not line.lstrip().startswith(COMMENT))
    return re.sub(r"[-\s]+", " ", " ".join(lines)).upper().translate(_MEANT).split()


_MEANT: Final = str.maketrans("OIL", "011")


def _chunks(signs: str) -> list[str]:
    return [signs[start : start + GROUP] for start in range(0, len(signs), GROUP)]


def _problem(groups: list[str]) -> str | None:
    """Say what is wrong with a code in groups, and where; None if every group fits in its place."""
    if not groups:
        return "There is no code."
    first = groups[0]
    if _fault(first, 0) is not None:
        return f"This is no Registration code, or it has a typing error in {_told(first, 0)}."
    if first[0] != _FORM:
        return f"The code has the form {first[0]}, which this program does not know; it knows form {_FORM}."
    wanted = 1 + -(-8 * _number(first[1 : GROUP - 1]) // 25)
    wrong = [number for number, group in enumerate(groups) if _fault(group, number) is not None]
    if len(groups) != wanted:
        return _miscounted(groups, wanted, wrong)
    if not wrong:
        length = _number(first[1 : GROUP - 1])
        return None if _SIGNATURE + _CHECK < length <= SIZE_LIMIT else "This is no Registration code."
    told = "; ".join(_told(groups[number], number) for number in wrong[:_MOST])
    more = f"; and {len(wrong) - _MOST} more" if len(wrong) > _MOST else ""
    return f"The code has a typing error in {told}{more}."


_MOST: Final = 3
"""Wrong groups that are named: two exchanged lines make sixteen."""


def _miscounted(groups: list[str], wanted: int, wrong: list[int]) -> str:
    """Say that groups are missing or too many, and where the first one stands that does not fit."""
    off = abs(wanted - len(groups))
    count = f"{off} group{'s' if off > 1 else ''}"
    what = f"{count} {'is' if off == 1 else 'are'} {'missing' if len(groups) < wanted else 'too many'}"
    at = wrong[0] if wrong else min(len(groups), wanted)
    where = _told(groups[at], at) if at < len(groups) else str(_place(at))
    return f"The code has a typing error in {where}: there or before it, {what}."


def _fault(group: str, number: int) -> str | None:
    """Say why a group does not fit in its place; None if it does."""
    strange = next((sign for sign in group if sign not in SIGNS), None)
    if strange is not None:
        return f"{strange!r} is no sign of a code"
    if len(group) != GROUP:
        return f"{len(group)} sign{'s' if len(group) > 1 else ''} instead of {GROUP}"
    return None if _check_sign(group[:-1], number) == group[-1] else ""


def _told(group: str, number: int) -> str:
    fault = _fault(group, number)
    return f"{_place(number)}: {group[: 2 * GROUP]}{f' ({fault})' if fault else ''}"


def _place(number: int) -> _Place:
    return _Place(number // GROUPS_A_LINE + 1, number % GROUPS_A_LINE + 1)
