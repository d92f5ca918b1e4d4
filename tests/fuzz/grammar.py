"""What the fuzzer says: inputs of the readers' own making, spoiled where a reader could trip.

Every strategy gives bytes, so that one input is one file of the corpus, whoever thought of it. A JSON document is kept
as a tree of `Table`, `list`, `Verbatim` and plain values until it is written: a table may hold a name twice, and a
value may be what no writer of JSON would write.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hypothesis.strategies import DrawFn, SearchStrategy


@dataclass(frozen=True, slots=True)
class Verbatim:
    """Text that is written as it stands, be it JSON or not."""

    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """The members of an object in their order; a name may stand twice."""

    members: tuple[tuple[str, Tree], ...]


Tree: TypeAlias = "Table | list[Tree] | Verbatim | str | int | float | bool | None"

LIMIT: Final = 2**53
NUMBERS: Final = (
    *("NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1E2", "1.0", "-0", "-0.0", "5e-324", "01", "+1", ".5", "1."),
    *(str(LIMIT - 1), str(LIMIT), str(LIMIT + 1), str(-LIMIT), f"{LIMIT}.0", "9007199254740991.5", "1" * 400),
)
TEXTS: Final = (
    *(
        '"\\ud800"',
        '"\\udc00\\ud800"',
        '"\\ud83d\\ude00"',
        '"\\u0000"',
        '"\\u001b[2J"',
        '"\\u202e"',
        '"a\tb"',
        '"\\x41"',
    ),
    *('"e\u0301"', '"\u0958"', f'"{chr(0x958) * 499}"', '"\u0435s-1"', '"es-1\\n"', '" es-1"', '"\u0661.1.aaaa.1"'),
    *('""', '"null"', f'"{"x" * 70_000}"', '"1.4.k7f3q2.9007199254740991"', '"1764000001-zzzz"', '"in_sync"', '"A=="'),
)
OTHERS: Final = ("null", "true", "false", "{}", "[]", "[[]]", '{"a":1,"a":2}', "undefined", "", ",", "//", "\ufeff")
SPACES: Final = (" ", "\n", "\t", "\r", "\u00a0", "\ufeff", "\0", "\x0c")


def tree(value: object) -> Tree:
    """Take a JSON value as a tree."""
    if isinstance(value, dict):
        return Table(tuple((name, tree(member)) for name, member in value.items()))
    if isinstance(value, list):
        return [tree(item) for item in value]
    assert value is None or isinstance(value, str | int | float | bool)
    return value


def text(value: Tree) -> str:
    """Write a tree, compact."""
    match value:
        case Verbatim(verbatim):
            return verbatim
        case Table(members):
            return f"{{{','.join(f'{json.dumps(name)}:{text(member)}' for name, member in members)}}}"
        case list():
            return f"[{','.join(map(text, value))}]"
        case _:
            return json.dumps(value, ensure_ascii=False)


def junk() -> SearchStrategy[Tree]:
    """Give what stands where something else should."""
    return st.one_of(
        st.sampled_from([*NUMBERS, *TEXTS, *OTHERS]).map(Verbatim),
        st.integers(2, 40).map(lambda levels: Verbatim("[" * levels + "]" * levels)),
        st.integers(2, 40).map(lambda levels: Verbatim('{"a":' * levels + "1" + "}" * levels)),
        st.integers(-2, 2**70),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=20),
    )


@st.composite
def spoiled(draw: DrawFn, value: Tree) -> Tree:
    """Spoil one place of a tree: put junk there, leave it out, say it twice, name it otherwise, or go deeper."""
    if isinstance(value, Table) and value.members and draw(st.integers(0, 9)):
        at = draw(st.integers(0, len(value.members) - 1))
        name, member = value.members[at]
        return Table((*value.members[:at], *draw(_members(name, member)), *value.members[at + 1 :]))
    if isinstance(value, list) and value and draw(st.integers(0, 9)):
        at = draw(st.integers(0, len(value) - 1))
        more = draw(st.sampled_from([[draw(spoiled(value[at]))], [], [value[at]] * 2, [value[at]] * 70]))
        return [*value[:at], *more, *value[at + 1 :]]
    return draw(junk())


@st.composite
def _members(draw: DrawFn, name: str, member: Tree) -> list[tuple[str, Tree]]:
    match draw(st.sampled_from(["within", "within", "within", "without", "twice", "other", "named", "more"])):
        case "without":
            return []
        case "twice":
            return [(name, member), (name, member)]
        case "other":
            return [(name, draw(junk())), (name, member)]
        case "named":
            return [(draw(st.sampled_from([name.upper(), f"{name} ", f"\u200b{name}", "__proto__"])), member)]
        case "more":
            return [(name, member), (draw(st.text(max_size=8)), draw(junk()))]
        case _:
            return [(name, draw(spoiled(member)))]


@st.composite
def documents(draw: DrawFn, seeds: Sequence[object]) -> bytes:
    """Give the JSON text of a seed, with up to three places spoiled, and now and then bytes that are none."""
    value = tree(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 3))):
        value = draw(spoiled(value))
    return draw(bitten(text(value).encode("utf-8", "surrogatepass"), often=6))


@st.composite
def bitten(draw: DrawFn, raw: bytes, *, often: int = 1) -> bytes:
    """Spoil bytes without knowing what they mean, once in `often` times."""
    if draw(st.integers(1, often)) > 1 or not raw:
        return raw
    at = draw(st.integers(0, len(raw) - 1))
    match draw(st.sampled_from(["flip", "cut", "drop", "insert", "space", "twice", "after"])):
        case "flip":
            return raw[:at] + bytes([raw[at] ^ (1 << draw(st.integers(0, 7)))]) + raw[at + 1 :]
        case "cut":
            return raw[:at]
        case "drop":
            return raw[:at] + raw[at + draw(st.integers(1, 8)) :]
        case "insert":
            return raw[:at] + draw(st.binary(min_size=1, max_size=6)) + raw[at:]
        case "space":
            return raw[:at] + draw(st.sampled_from(SPACES)).encode() + raw[at:]
        case "twice":
            return raw[:at] + raw
        case _:
            return raw + draw(st.sampled_from([b"\n", b"\0", b" ", b".", b"=", raw]))


@st.composite
def base64url(draw: DrawFn, raw: bytes) -> bytes:
    """Write base64url as RFC 7515 has it, and now and then as a lenient reader would take it too."""
    written = base64.urlsafe_b64encode(raw)
    plain = written.rstrip(b"=")
    match draw(st.sampled_from([*["plain"] * 12, "padded", "usual", "loose", "space", "comma"])):
        case "padded":
            return written + draw(st.sampled_from([b"", b"=", b"=="]))
        case "usual":
            return base64.b64encode(raw).rstrip(b"=")
        case "loose":
            return _loose(plain)
        case "space":
            at = draw(st.integers(0, len(plain)))
            return plain[:at] + draw(st.sampled_from([b"\n", b" ", b"\r\n", b"\t"])) + plain[at:]
        case "comma":
            return plain + draw(st.sampled_from([b",", b"!", b"A"]))
        case _:
            return plain


_SIGNS: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def _loose(plain: bytes) -> bytes:
    """Set a bit of the last sign that stands for nothing, where there is one: the same bytes in another spelling."""
    return plain[:-1] + bytes([_SIGNS[_SIGNS.index(plain[-1:]) | 1]]) if len(plain) % 4 else plain


TOML: Final = (
    *('""', '"\\u0000"', '"\\u001b[2J"', '"\\u202e"', '"\\ud800"', '"a\\nb"', "'''x'''", '"\U0010ffff"', '"\u0958"'),
    *("nan", "inf", "-inf", "-1", "0", "1e400", "9" * 5000, "0x10", "1_0", "0.1", "3600.5", "true", "2026-01-01"),
    *("2026-01-01T00:00:00Z", "07:32:00", "{}", "{a.b = 1}", "[]", '[1, "x"]', "[[[]]]", "[" * 2000, "", "=", '"'),
    *('"[::1]:0"', '"[::1"', '"a:b:c"', '"host:99999"', '"host:1"', '":"', '"[::]:8883"', '"mqtts://"', '"mqtts://h"'),
    *(
        '"mqtts://u:p@h:1"',
        '"http://"',
        '"http://p:3128"',
        '"https://u:p@h"',
        '"embedded"',
        '"/a"',
        '"a/b"',
        '"/a\\u0000"',
    ),
    *(
        f'"{"x" * 101}"',
        f'"{"x" * 9000}"',
        '["es-1", "es-1"]',
        '["192.0.2.300"]',
        '["fe80::1%eth0"]',
        '"\u0661:\u0662"',
    ),
)
_LINES: Final = (
    *("[server]", "[uplink]", "[downlink]", "[[server]]", "[server.id]", "[a.b]", "server = 1", "server.id = 1", "[]"),
    *(
        "x = 1",
        '"" = 1',
        '"\\u001b[2J" = 1',
        '"a.b" = 1',
        "'\u202e' = 1",
        "[portal]\nportal = {}",
        "uplink = []",
        "\ufeff",
    ),
)
_NAME: Final = "abc_.-\u0435"


@st.composite
def toml(draw: DrawFn, seeds: Sequence[str]) -> bytes:
    """Give the text of a seed, with up to four lines spoiled: another value or name, left out, twice, or a new one."""
    lines = draw(st.sampled_from(seeds)).splitlines()
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, max(0, len(lines) - 1)))
        lines[at : at + 1] = draw(_lines(lines[at] if lines else ""))
    return draw(bitten("\n".join(lines).encode("utf-8", "surrogatepass"), often=8))


@st.composite
def _lines(draw: DrawFn, line: str) -> list[str]:
    name, _, value = line.partition("=")
    match draw(st.sampled_from(["value", "value", "value", "without", "twice", "named", "new"])):
        case "value":
            return [f"{name.removeprefix('# ') or 'x'}= {draw(st.sampled_from(TOML) | st.text(max_size=12))}"]
        case "without":
            return []
        case "twice":
            return [line, line]
        case "named":
            return [f"{draw(st.text(_NAME, min_size=1, max_size=12))} = {value}"]
        case _:
            return [line, draw(st.sampled_from(_LINES))]


@st.composite
def changed_signs(draw: DrawFn, seeds: Sequence[str], signs: str, mend: Callable[[str], str]) -> bytes:
    """Give a text that a person types, with signs changed, exchanged, lost or added; `mend` puts its checks right."""
    written = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, max(0, len(written) - 1)))
        more = draw(st.sampled_from(["", written[at : at + 1] * 2, "\u00df", "\u0131", "\x1b", "\u202e", "#", "\n"]))
        written = written[:at] + draw(st.sampled_from([more, draw(st.text(signs, max_size=7))])) + written[at + 1 :]
    return (mend(written) if draw(st.booleans()) else written).encode("utf-8", "surrogatepass")
