"""Versions: written and read, and an order in which two lives of one generation stay apart."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propagator.core import version
from propagator.core.version import LIMIT, Life, Order, Version
from tests.unit.builders import v

NUMBERS = st.integers(1, LIMIT)
EPOCHS = st.text("0123456789abcdefghijklmnopqrstuvwxyz", min_size=4, max_size=16)
VERSIONS = st.builds(Version, NUMBERS, NUMBERS, EPOCHS, NUMBERS)
SMALL = st.integers(1, 3)
CLOSE = st.builds(Version, SMALL, SMALL, st.sampled_from(["aaaa", "bbbb"]), SMALL)
ONE_LIFE_EACH = st.builds(
    lambda seq, generation, revision: Version(seq, generation, "aaaa", revision), SMALL, SMALL, SMALL
)
TURNED = {Order.LOWER: Order.HIGHER, Order.HIGHER: Order.LOWER, Order.EQUAL: Order.EQUAL, Order.FORKED: Order.FORKED}


@given(VERSIONS)
def test_parse_is_the_inverse_of_str(made: Version) -> None:
    assert version.parse(str(made)) == made


@given(st.text("0123456789.ak", max_size=20) | st.text())
def test_parse_takes_one_writing_only(text: str) -> None:
    made = version.parse(text)
    assert made is None or str(made) == text


@pytest.mark.parametrize("text", ["1.1.aaaa.1", "9007199254740991.9007199254740991.0123456789abcdef.9007199254740991"])
def test_parse_takes(text: str) -> None:
    assert str(version.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("1.1.aaaa", id="three parts"),
        pytest.param("1.1.aaaa.1.1", id="five parts"),
        pytest.param("1.1.aaa.1", id="an epoch of three"),
        pytest.param("1.1." + "a" * 17 + ".1", id="an epoch of seventeen"),
        pytest.param("1.1.AAAA.1", id="an epoch in capitals"),
        pytest.param("1.1.ääää.1", id="an epoch that is not ASCII"),
        pytest.param("0.1.aaaa.1", id="a seq of nought"),
        pytest.param("1.0.aaaa.1", id="a generation of nought"),
        pytest.param("1.1.aaaa.0", id="a revision of nought"),
        pytest.param("01.1.aaaa.1", id="a leading nought"),
        pytest.param("-1.1.aaaa.1", id="a minus"),
        pytest.param("1.1.aaaa.+1", id="a plus"),
        pytest.param("1.1.aaaa.9007199254740992", id="a revision beyond 2^53 - 1"),
        pytest.param("9007199254740992.1.aaaa.1", id="a seq beyond it"),
        pytest.param("1.99999999999999999.aaaa.1", id="a generation of too many digits"),
        pytest.param("1.1.aaaa.1\u0661", id="a digit that is not ASCII"),
        pytest.param(" 1.1.aaaa.1", id="a space before"),
        pytest.param("1.1.aaaa.1\n", id="a line feed after"),
    ],
)
def test_f41_parse_refuses(text: str) -> None:
    assert version.parse(text) is None


@pytest.mark.parametrize(
    ("one", "order", "other"),
    [
        pytest.param("1.4.k7f3.41", Order.EQUAL, "1.4.k7f3.41", id="itself"),
        pytest.param("1.4.k7f3.42", Order.HIGHER, "1.4.k7f3.41", id="the next revision of one life"),
        pytest.param("1.4.k7f3.9", Order.LOWER, "1.4.k7f3.10", id="numbers, not texts"),
        pytest.param("1.5.aaaa.1", Order.HIGHER, "1.4.zzzz.99", id="a later generation, whatever its revision"),
        pytest.param("1.10.aaaa.1", Order.HIGHER, "1.9.zzzz.99", id="generations are numbers, too"),
        pytest.param("2.1.aaaa.1", Order.HIGHER, "1.9.zzzz.99", id="a later seq, whatever its generation"),
        pytest.param("1.9.zzzz.99", Order.LOWER, "2.1.aaaa.1", id="an earlier seq"),
        pytest.param("1.4.aaaa.41", Order.FORKED, "1.4.bbbb.41", id="two epochs of one generation"),
        pytest.param("1.4.aaaa.42", Order.FORKED, "1.4.bbbb.41", id="two epochs, whatever their revisions"),
        pytest.param("2.4.aaaa.41", Order.HIGHER, "1.4.bbbb.41", id="two epochs under two seqs"),
    ],
)
def test_compared_to(one: str, order: Order, other: str) -> None:
    assert v(one).compared_to(v(other)) is order
    assert v(other).compared_to(v(one)) is TURNED[order]


@given(CLOSE, CLOSE)
def test_the_order_is_antisymmetric(one: Version, other: Version) -> None:
    assert other.compared_to(one) is TURNED[one.compared_to(other)]
    assert (one.compared_to(other) is Order.EQUAL) is (one == other)


@given(ONE_LIFE_EACH, ONE_LIFE_EACH, ONE_LIFE_EACH)
def test_the_order_is_total_and_transitive_where_each_generation_has_one_epoch(
    one: Version, two: Version, three: Version
) -> None:
    assert Order.FORKED not in {one.compared_to(two), two.compared_to(three)}
    if one.compared_to(two) is Order.HIGHER and two.compared_to(three) is Order.HIGHER:
        assert one.compared_to(three) is Order.HIGHER


@given(CLOSE, CLOSE, CLOSE)
def test_forks_are_transitive_only_within_their_generation(one: Version, two: Version, three: Version) -> None:
    """Above a fork is above both of its sides."""
    if one.compared_to(two) is Order.FORKED and (three.seq, three.generation) != (one.seq, one.generation):
        assert three.compared_to(one) is three.compared_to(two)


@given(VERSIONS)
def test_the_next_change_and_the_next_life_are_higher(made: Version) -> None:
    assert made.next_revision().compared_to(made) is Order.HIGHER
    assert made.next_life("aaaa").compared_to(made) is Order.HIGHER
    assert made.next_life("aaaa").compared_to(made.next_revision()) is Order.HIGHER


def test_the_revision_goes_on_through_all_lives() -> None:
    assert v("1.4.k7f3.41").next_revision() == v("1.4.k7f3.42")
    assert v("1.4.k7f3.41").next_life("zzzz") == v("1.5.zzzz.42")
    assert version.first("k7f3") == v("1.1.k7f3.1")


@pytest.mark.parametrize(
    ("made", "exhausted"),
    [
        (Version(1, 1, "aaaa", 1), False),
        (Version(LIMIT, LIMIT - 1, "aaaa", LIMIT - 1), False),
        (Version(1, LIMIT, "aaaa", 1), True),
        (Version(1, 1, "aaaa", LIMIT), True),
    ],
    ids=["a first version", "the last that has a next", "no further generation", "no further revision"],
)
def test_f53_a_version_is_exhausted_when_no_next_one_can_be_written(made: Version, *, exhausted: bool) -> None:
    assert made.is_exhausted is exhausted
    assert (version.parse(str(made.next_life("bbbb"))) is None) is exhausted


@given(st.integers())
def test_a_new_epoch_can_be_written(seed: int) -> None:
    epoch = version.new_epoch(Random(seed))
    assert v(f"1.1.{epoch}.1").epoch == epoch
    assert version.new_epoch(Random(seed)) == epoch


def test_new_epochs_differ() -> None:
    rng = Random(7)
    assert len({version.new_epoch(rng) for _ in range(1000)}) == 1000


def test_lives_after_follows_one_life_and_begins_the_next() -> None:
    lives = version.lives_after((), v("1.1.aaaa.1"))
    assert lives == (Life(1, "aaaa", 1),)
    lives = version.lives_after(lives, v("1.1.aaaa.7"))
    assert lives == (Life(1, "aaaa", 7),)
    lives = version.lives_after(lives, v("1.2.bbbb.8"))
    assert lives == (Life(1, "aaaa", 7), Life(2, "bbbb", 8))


def test_lives_after_keeps_the_last_eight() -> None:
    lives: tuple[Life, ...] = ()
    for generation in range(1, 13):
        lives = version.lives_after(lives, Version(1, generation, "aaaa", generation))
    assert [life.generation for life in lives] == list(range(5, 13))


@pytest.mark.parametrize(
    ("written", "contained"),
    [
        pytest.param("1.2.bbbb.8", True, id="the last of a life"),
        pytest.param("1.2.bbbb.1", True, id="an earlier one of that life"),
        pytest.param("1.1.aaaa.7", True, id="the last of the life before"),
        pytest.param("1.2.bbbb.9", False, id="one that this life did not reach"),
        pytest.param("1.1.bbbb.1", False, id="another epoch of a generation"),
        pytest.param("1.3.bbbb.1", False, id="another generation of an epoch"),
    ],
)
def test_f08_contains_says_whether_a_version_was_issued(written: str, *, contained: bool) -> None:
    assert version.contains((Life(1, "aaaa", 7), Life(2, "bbbb", 8)), v(written)) is contained
    assert not version.contains((), v(written))
