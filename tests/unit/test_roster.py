"""The roster fold: which report counts, which is a replay, and when two machines answer as one (F10, F18, F52)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propagator.core.roster import Folded, Ignored, Seen, fold
from propagator.core.session import Mark, Session

A, A2, B = Session(5, "aaaa"), Session(5, "zzzz"), Session(6, "bbbb")
OPEN = "n" * 16


def _seen(session: Session = A, counter: int = 3, **changes: object) -> Seen:
    return Seen(Mark(session, counter), **{"confirmed": True, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seen", "mark", "nonce", "folded"),
    [
        pytest.param(_seen(), Mark(A, 4), None, _seen(A, 4), id="the next word of a session counts"),
        pytest.param(_seen(), Mark(A, 9), None, _seen(A, 9), id="a later word counts, some were lost"),
        pytest.param(_seen(), Mark(A, 3), None, Ignored.REPLAY, id="the same word again is a replay"),
        pytest.param(_seen(), Mark(A, 2), None, Ignored.REPLAY, id="an earlier word is a replay"),
        pytest.param(_seen(), Mark(B, 0), None, _seen(B, 0, superseded=A), id="a higher session replaces"),
        pytest.param(_seen(B), Mark(A, 9), None, Ignored.DOUBTED, id="a lower session is doubted"),
        pytest.param(_seen(B), Mark(A, 9), "m" * 16, Ignored.DOUBTED, id="another nonce proves nothing"),
        pytest.param(_seen(), Mark(A, 2), "m" * 16, Ignored.REPLAY, id="a replay with an old nonce stays one"),
        pytest.param(_seen(), Mark(A2, 0), None, _seen(cloned=True), id="one number, two suffixes: a clone (F18)"),
        pytest.param(_seen(cloned=True), Mark(A, 4), None, _seen(A, 4, cloned=True), id="a clone stays one"),
        pytest.param(
            Seen(None, confirmed=False), Mark(A, 3), None, _seen(confirmed=False), id="after a lost roster: unconfirmed"
        ),
        pytest.param(
            _seen(confirmed=False), Mark(A, 4), None, _seen(A, 4, confirmed=False), id="unconfirmed until it answers"
        ),
        pytest.param(
            Seen(None, confirmed=False), Mark(A, 3), OPEN, _seen(), id="an answer after a lost roster confirms"
        ),
        pytest.param(_seen(confirmed=False), Mark(A, 4), OPEN, _seen(A, 4), id="an answer confirms"),
        pytest.param(
            _seen(B), Mark(A, 1), OPEN, _seen(A, 1, superseded=B), id="an answer counts from a lower session (F52)"
        ),
        pytest.param(_seen(), Mark(A, 1), OPEN, _seen(A, 1), id="an answer counts with a lower counter (F52)"),
        pytest.param(
            _seen(B, superseded=A),
            Mark(A, 4),
            OPEN,
            _seen(A, 4, superseded=B, cloned=True),
            id="the replaced answers: a clone",
        ),
        pytest.param(_seen(), Mark(A2, 0), OPEN, _seen(A2, 0, superseded=A, cloned=True), id="a clone answers"),
        pytest.param(_seen(cloned=True), Mark(A, 4), OPEN, _seen(A, 4, cloned=True), id="an answer acquits no clone"),
        pytest.param(
            _seen(B, superseded=A), Mark(B, 4), None, _seen(B, 4, superseded=A), id="what was replaced is kept"
        ),
        pytest.param(_seen(B, superseded=A), Mark(B, 4), OPEN, _seen(B, 4, superseded=A), id="also over an answer"),
    ],
)
def test_fold(seen: Seen, mark: Mark, nonce: str | None, folded: Folded) -> None:
    assert fold(seen, mark, nonce, OPEN) == folded


def test_f10_no_nonce_is_no_echo_where_none_is_outstanding() -> None:
    assert fold(_seen(B), Mark(A, 9), None, None) is Ignored.DOUBTED
    assert fold(_seen(B), Mark(A, 9), OPEN, None) is Ignored.DOUBTED


MARKS = st.builds(Mark, st.sampled_from([A, A2, B, Session(7, "cccc")]), st.integers(0, 3))


@given(st.lists(MARKS, max_size=12))
def test_f10_replays_in_any_order_move_nothing(marks: list[Mark]) -> None:
    """What was folded once moves nothing when a broker repeats it, in any order."""
    seen = Seen(None, confirmed=False)
    for mark in marks:
        folded = fold(seen, mark, None, OPEN)
        seen = seen if isinstance(folded, Ignored) else folded
    for mark in marks:
        folded = fold(seen, mark, None, OPEN)
        assert isinstance(folded, Ignored) or folded == Seen(seen.mark, seen.confirmed, seen.superseded, cloned=True)


@given(st.lists(st.tuples(MARKS, st.booleans()), max_size=12))
def test_only_an_answer_confirms_and_nothing_but_an_answer_goes_back(steps: list[tuple[Mark, bool]]) -> None:
    seen = Seen(None, confirmed=False)
    for mark, answers in steps:
        folded = fold(seen, mark, OPEN if answers else None, OPEN)
        if isinstance(folded, Ignored):
            assert not answers
            continue
        if answers:
            assert (folded.confirmed, folded.mark) == (True, mark)
        else:
            assert folded.confirmed is seen.confirmed
            assert folded.mark == seen.mark or mark.is_after(seen.mark)
        assert folded.cloned >= seen.cloned
        seen = folded
