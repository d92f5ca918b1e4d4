"""Strict JSON: one meaning for all readers, or none (F41)."""

from __future__ import annotations

import contextlib
import json
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propagator.core import strict_json

EXACT = 2**53 - 1
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-EXACT, EXACT)
    | st.floats(-EXACT, EXACT)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=30,
)


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        pytest.param(b"null", None, id="null"),
        pytest.param(b' {"a": [1, -2.5, true, "x"]}\n', {"a": [1, -2.5, True, "x"]}, id="white space around an object"),
        pytest.param(
            b'"%b \\" {{{{ \\\\"' % (b"[" * 40), "[" * 40 + ' " {{{{ \\', id="brackets and escaped quotes in a text"
        ),
        pytest.param(b'"\\ud83d\\ude00"', "\U0001f600", id="a whole surrogate pair"),
        pytest.param(b"9007199254740991", EXACT, id="the largest exact number"),
        pytest.param(b"-9007199254740991", -EXACT, id="the lowest exact number"),
        pytest.param(b"9007199254740991.0", float(EXACT), id="the largest exact number as a float"),
        pytest.param(b"-0", 0, id="minus nought"),
        pytest.param(b"1e-400", 0.0, id="a number too small to tell from nought"),
        pytest.param(b"[" * 32 + b"]" * 32, json.loads("[" * 32 + "]" * 32), id="the deepest nesting allowed"),
        pytest.param(b"[" + b"[]," * 99 + b"[]]", [[]] * 100, id="wide is not deep"),
        pytest.param(b'[{"a":1},{"a":1}]', [{"a": 1}, {"a": 1}], id="one name in two objects"),
    ],
)
def test_loads_reads(raw: bytes, value: object) -> None:
    assert strict_json.loads(raw) == value


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        pytest.param(b"", "Expecting value in line 1, column 1", id="nothing"),
        pytest.param(b"{}{}", "Extra data in line 1, column 3", id="two values"),
        pytest.param(b'{"a":1,}', "line 1, column", id="a comma at the end"),
        pytest.param(b"{'a':1}", "line 1, column 2", id="single quotation marks"),
        pytest.param(b"[01]", "line 1, column 3", id="a leading nought"),
        pytest.param(b'"a\tb"', "Invalid control character", id="a bare control character"),
        pytest.param(b'{"a":1,"b":2,"a":1}', "the name 'a' stands twice", id="a name twice"),
        pytest.param(b'{"a":1,"\\u0061":2}', "the name 'a' stands twice", id="a name twice, once escaped"),
        pytest.param(b'[{"x":{"a":1,"a":2}}]', "the name 'a' stands twice", id="a name twice, deep inside"),
        pytest.param(b'{"\\u001b[2J":1,"\\u001b[2J":1}', r"'\x1b[2J'", id="a terminal code as a name, shown escaped"),
        pytest.param(b"NaN", "NaN is no JSON number", id="NaN"),
        pytest.param(b"[Infinity]", "Infinity is no JSON number", id="Infinity"),
        pytest.param(b"-Infinity", "-Infinity is no JSON number", id="minus Infinity"),
        pytest.param(b"1e400", "beyond 2^53", id="a float beyond all floats"),
        pytest.param(b"9007199254740992", "beyond 2^53", id="the first number that is not exact"),
        pytest.param(b"-9007199254740992", "beyond 2^53", id="the first negative one"),
        pytest.param(b"1e20", "beyond 2^53", id="a float whose canonical form is an inexact integer"),
        pytest.param(b"1" * 5000, "beyond 2^53", id="an integer of thousands of digits"),
        pytest.param(b'"\\ud800"', "half a surrogate pair", id="half a surrogate pair"),
        pytest.param(b'{"\\udc00":1}', "half a surrogate pair", id="half a surrogate pair as a name"),
        pytest.param(b"\xff", "not UTF-8", id="not UTF-8"),
        pytest.param(b'"\xed\xa0\x80"', "not UTF-8", id="a surrogate in UTF-8"),
        pytest.param(b'"\xc0\xaf"', "not UTF-8", id="an overlong sequence"),
        pytest.param('"x"'.encode("utf-16"), "not UTF-8", id="UTF-16"),
        pytest.param(b"\xef\xbb\xbf{}", "BOM", id="a byte order mark"),
        pytest.param(b"[" * 33 + b"]" * 33, "deeper than 32", id="one level too deep"),
        pytest.param(b'{"a":' * 33 + b"1" + b"}" * 33, "deeper than 32", id="objects one level too deep"),
        pytest.param(b"[" * 60_000, "deeper than 32", id="deep enough to drive a reader to its recursion limit"),
        pytest.param(b'"\\"' + b"[" * 33, "line 1", id="brackets in a text that never ends"),
    ],
)
def test_f41_loads_refuses(raw: bytes, says: str) -> None:
    with pytest.raises(strict_json.Invalid) as caught:
        strict_json.loads(raw)
    assert says in str(caught.value)


def test_f41_a_long_name_twice_is_told_short() -> None:
    with pytest.raises(strict_json.Invalid) as caught:
        strict_json.loads(b'{"%b":1,"%b":1}' % (b"n" * 9000, b"n" * 9000))
    assert len(str(caught.value)) < 100


def test_f41_a_name_twice_among_thousands_is_found_in_no_time() -> None:
    """Anybody may send 64 KiB of names: counting each anew took half a second of processor time."""
    names = [f'"{number:x}":1' for number in range(7000)]
    raw = ("{" + ",".join([*names, names[-1]]) + "}").encode()
    begun = time.process_time()
    with pytest.raises(strict_json.Invalid):
        strict_json.loads(raw)
    assert time.process_time() - begun < 0.2


@given(JSON_VALUES)
def test_loads_reads_what_any_writer_wrote(value: object) -> None:
    assert strict_json.loads(json.dumps(value).encode()) == value
    assert strict_json.loads(json.dumps(value, ensure_ascii=False, indent=1).encode()) == value


@given(st.binary())
def test_f41_loads_never_fails_in_another_way(raw: bytes) -> None:
    with contextlib.suppress(strict_json.Invalid):
        strict_json.loads(raw)


@given(st.floats(allow_nan=False))
def test_loads_takes_a_float_exactly_up_to_the_limit(number: float) -> None:
    raw = (str(number) if math.isfinite(number) else "1e999").encode()
    if abs(number) <= EXACT:
        assert strict_json.loads(raw) == number
    else:
        with pytest.raises(strict_json.Invalid):
            strict_json.loads(raw)
