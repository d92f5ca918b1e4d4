"""JSON as RFC 8259 and I-JSON (RFC 7493) mean it: what two readers could read differently is refused.

Duplicate keys, NaN, Infinity, numbers beyond 2^53 − 1, half a surrogate pair, and any depth: pydantic's own reader and
Python's default accept them all, so two readers could see two documents in the same bytes.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Final, NoReturn, cast

DEPTH_LIMIT: Final = 32
"""Levels of nesting: a registration has 4, and no reader here may be driven to its recursion limit."""

EXACT_LIMIT: Final = 2**53 - 1
"""The largest number that every reader keeps exact (RFC 7493 §2.2). Its canonical form (RFC 8785) stays readable, too:
a float above it is written as an integer that nobody may read back."""


class Invalid(ValueError):  # noqa: N818  a value for the caller to name, not an error shown as it is
    """The bytes are not JSON that everybody reads the same way."""


def loads(raw: bytes) -> object:
    """Read one JSON value. Raises Invalid for anything that two readers could read differently."""
    if _depth(raw) > DEPTH_LIMIT:
        raise Invalid(f"nested deeper than {DEPTH_LIMIT} levels")
    try:
        value = json.loads(
            raw.decode("utf-8", "strict"),
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_float=_float,
            parse_int=_integer,
        )
        if b"\\u" in raw:  # strict UTF-8 holds no half pair; only an escape can
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        raise Invalid("not UTF-8") from error
    except UnicodeEncodeError as error:
        raise Invalid("a text holds half a surrogate pair") from error
    except json.JSONDecodeError as error:
        raise Invalid(f"{error.msg} in line {error.lineno}, column {error.colno}") from error
    return cast("object", value)


_TOKEN: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)
"""A string, to its end or that of the bytes, or a bracket. Possessive: linear for whatever a stranger sends."""


def _depth(raw: bytes) -> int:
    """Count the deepest nesting without parsing; brackets inside strings do not count."""
    depth = deepest = 0
    for token in _TOKEN.findall(raw):
        if token in _OPENING:
            depth += 1
            deepest = max(deepest, depth)
        elif token in _CLOSING:
            depth -= 1
    return deepest


_OPENING: Final = (b"[", b"{")
_CLOSING: Final = (b"]", b"}")


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    table = dict(pairs)
    if len(table) != len(pairs):
        ((name, _),) = Counter(name for name, _ in pairs).most_common(1)  # linear: the bytes may be a stranger's
        raise Invalid(f"the name {name[:40]!r} stands twice in one object")
    return table


def _constant(name: str) -> NoReturn:
    raise Invalid(f"{name} is no JSON number")


def _float(text: str) -> float:
    number = float(text)
    if not abs(number) <= EXACT_LIMIT:
        raise Invalid(_TOO_LARGE)
    return number


def _integer(text: str) -> int:
    if len(text) > len(str(-EXACT_LIMIT)) or abs(int(text)) > EXACT_LIMIT:
        raise Invalid(_TOO_LARGE)
    return int(text)


_TOO_LARGE: Final = "a number is beyond 2^53 − 1"
