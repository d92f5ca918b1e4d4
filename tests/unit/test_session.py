"""Sessions and marks: which word of a sender came after which, and when two machines are one server."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propagator.core import session
from propagator.core.session import Mark, Session
from propagator.core.version import LIMIT

SESSIONS = st.builds(Session, st.integers(1, LIMIT), st.text("0123456789abcz", min_size=4, max_size=16))
CLOSE = st.builds(Mark, st.builds(Session, st.integers(1, 3), st.sampled_from(["aaaa", "bbbb"])), st.integers(0, 2))


@given(SESSIONS)
def test_parse_is_the_inverse_of_str(made: Session) -> None:
    assert session.parse(str(made)) == made


@given(st.text("0123456789-ak", max_size=20) | st.text())
def test_parse_takes_one_writing_only(text: str) -> None:
    made = session.parse(text)
    assert made is None or str(made) == text


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("1764000000", id="no suffix"),
        pytest.param("0-aaaa", id="a number of nought"),
        pytest.param("01-aaaa", id="a leading nought"),
        pytest.param("9007199254740992-aaaa", id="a number beyond 2^53 - 1"),
        pytest.param("1-aaa", id="a suffix of three"),
        pytest.param("1-" + "a" * 17, id="a suffix of seventeen"),
        pytest.param("1-AAAA", id="a suffix in capitals"),
        pytest.param("1-aaaa\n", id="a line feed after"),
        pytest.param("1\u0661-aaaa", id="a digit that is not ASCII"),
    ],
)
def test_f41_parse_refuses(text: str) -> None:
    assert session.parse(text) is None


@pytest.mark.parametrize(
    ("now_s", "last", "number"),
    [
        pytest.param(1_764_000_000.9, 0, 1_764_000_000, id="the first, by the clock"),
        pytest.param(1_764_000_000.0, 1_763_999_999, 1_764_000_000, id="the next, by the clock"),
        pytest.param(1_764_000_000.0, 1_764_000_000, 1_764_000_001, id="two in one second"),
        pytest.param(7.0, 1_764_000_000, 1_764_000_001, id="a clock at 1970 (F36)"),
        pytest.param(0.0, 0, 1, id="the first of all with a clock at nought"),
        pytest.param(-3600.0, 0, 1, id="a clock before 1970"),
    ],
)
def test_f36_a_session_begins_above_the_last_whatever_the_clock_says(now_s: float, last: int, number: int) -> None:
    begun = session.begin(now_s, last, Random(1))
    assert begun.number == number
    assert session.parse(str(begun)) == begun


def test_two_starts_of_one_number_differ_in_their_suffix() -> None:
    assert session.begin(9.0, 0, Random(1)).suffix != session.begin(9.0, 0, Random(2)).suffix


def _mark(number: int, suffix: str, counter: int) -> Mark:
    return Mark(Session(number, suffix), counter)


@pytest.mark.parametrize(
    ("one", "other", "after"),
    [
        pytest.param(_mark(5, "aaaa", 1), None, True, id="anything is after nothing"),
        pytest.param(_mark(5, "aaaa", 2), _mark(5, "aaaa", 1), True, id="a higher counter"),
        pytest.param(_mark(5, "aaaa", 1), _mark(5, "aaaa", 1), False, id="itself"),
        pytest.param(_mark(5, "aaaa", 0), _mark(5, "aaaa", 1), False, id="a lower counter"),
        pytest.param(_mark(6, "aaaa", 0), _mark(5, "zzzz", 9), True, id="a higher session, whatever its counter"),
        pytest.param(_mark(4, "aaaa", 9), _mark(5, "aaaa", 1), False, id="a lower session"),
        pytest.param(_mark(5, "bbbb", 9), _mark(5, "aaaa", 1), False, id="another session of one number"),
    ],
)
def test_is_after(one: Mark, other: Mark | None, *, after: bool) -> None:
    assert one.is_after(other) is after


@pytest.mark.parametrize(
    ("one", "other", "clone"),
    [
        pytest.param(_mark(5, "aaaa", 1), None, False, id="nothing"),
        pytest.param(_mark(5, "aaaa", 1), _mark(5, "aaaa", 9), False, id="the same session"),
        pytest.param(_mark(5, "aaaa", 1), _mark(5, "bbbb", 1), True, id="another session of one number"),
        pytest.param(_mark(6, "aaaa", 1), _mark(5, "bbbb", 1), False, id="a session of another number"),
    ],
)
def test_f18_is_clone_of(one: Mark, other: Mark | None, *, clone: bool) -> None:
    assert one.is_clone_of(other) is clone


@given(CLOSE, CLOSE, CLOSE)
def test_after_is_a_strict_order_among_marks_that_are_no_clones(one: Mark, two: Mark, three: Mark) -> None:
    assert not (one.is_after(two) and two.is_after(one))
    if one != two and not one.is_clone_of(two):
        assert one.is_after(two) or two.is_after(one)
    if one.is_after(two) and two.is_after(three):
        assert one.is_after(three)
