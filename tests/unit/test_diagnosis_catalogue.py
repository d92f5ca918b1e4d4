"""The catalogue: an entry for each code, in sentences that can be filled in whatever is known."""

from __future__ import annotations

import re

import pytest

from propagator.core.diagnosis import CATALOGUE, FINE, Code, Confidence, Side, Verdict
from propagator.core.diagnosis.catalogue import CERTAIN_ALONE, CONFIDENCE
from propagator.core.diagnosis.verdict import known_facts, words_of

CODES = pytest.mark.parametrize("code", Code)
KNOWN = {name: f"<{name}>" for name in known_facts()}


def test_every_code_has_an_entry() -> None:
    assert set(CATALOGUE) == set(Code)


def test_a_code_is_written_as_it_is_named() -> None:
    assert [code.value for code in Code] == [code.name for code in Code]


def test_titles_are_unique() -> None:
    titles = [entry.title for entry in CATALOGUE.values()]
    assert len(set(titles)) == len(titles)


@CODES
def test_sentences_want_only_facts_that_there_are(code: Code) -> None:
    entry = CATALOGUE[code]
    for sentence in (entry.cause, entry.advice, entry.settled_by):
        assert words_of(sentence) <= known_facts()
    for plain in (entry.title, entry.proof):
        assert words_of(plain) == set()


@CODES
@pytest.mark.parametrize("facts", [{}, KNOWN], ids=["nothing is known", "all is known"])
def test_nothing_unfilled_is_shown(code: Code, facts: dict[str, str]) -> None:
    verdict = Verdict(code, Confidence.POSSIBLE, "because", facts=facts)
    shown = (verdict.cause, verdict.advice, verdict.settled_by or "", verdict.entry.title, verdict.entry.proof)
    assert not any(set("{}") & set(text) for text in shown)
    assert not any(re.search(r"  | [.,;]|\(\)", text) for text in shown), shown


@CODES
def test_words_are_written_for_people(code: Code) -> None:
    """A title is a headline, a cause is sentences, proof and advice follow a colon."""
    entry = CATALOGUE[code]
    assert entry.title[0].isupper()
    assert not entry.title.endswith(".")
    assert entry.cause.endswith(".")
    assert not any(text.endswith(".") for text in (entry.proof, entry.advice, entry.settled_by))
    assert not entry.proof[0].isupper() or entry.proof.split()[0].isupper()


@CODES
def test_a_code_that_is_not_always_certain_says_what_would_settle_it(code: Code) -> None:
    sure = CONFIDENCE.get(code, CERTAIN_ALONE)
    assert list(sure) == sorted(set(sure), key=list(Confidence).index)
    settled = bool(CATALOGUE[code].settled_by)
    assert settled == (sure != CERTAIN_ALONE) or code is Code.CANNOT_TELL


@CODES
def test_what_is_fine_is_to_be_done_nowhere_but_for_ipv6(code: Code) -> None:
    nowhere = CATALOGUE[code].side is Side.NOWHERE
    assert nowhere == (code in {*FINE, Code.CANNOT_TELL} - {Code.OK_BUT_IPV6_BROKEN})


def test_a_certain_verdict_is_settled() -> None:
    probable = Verdict(Code.PORT_CLOSED, Confidence.PROBABLE, "because")
    assert probable.settled_by == "on the lead: propagator diagnose"
    assert Verdict(Code.PORT_CLOSED, Confidence.CERTAIN, "because").settled_by is None


def test_a_fact_that_is_known_stays() -> None:
    verdict = Verdict(Code.PORT_CLOSED, Confidence.PROBABLE, "because", "10.3.0.2", {"port": "8883"})
    assert verdict.knowing(port="1", network="10.1.0.0/24").facts == {"port": "8883", "network": "10.1.0.0/24"}
    assert "10.3.0.2 answers, and refuses port 8883" in verdict.cause
