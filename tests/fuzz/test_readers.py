"""Readers under fuzzed input (F41): first what once tripped one, then inputs that are drawn, the same in every run.

`python -m tests.fuzz --minutes N` goes on from there.
"""

from __future__ import annotations

import pytest

from tests.fuzz.runs import kept, tried
from tests.fuzz.targets import TARGETS, Target, seeds

_KEPT = [
    pytest.param(target, content, id=f"{target.name}: {name}")
    for target in TARGETS
    for name, content in kept(target).items()
]


@pytest.mark.parametrize(("target", "content"), _KEPT)
def test_f41_an_input_of_the_corpus_is_read_or_refused(target: Target, content: bytes) -> None:
    target.check(content)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_f41_a_fuzzed_input_is_read_or_refused(target: Target) -> None:
    tried(target, target.examples)()


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_the_corpus_has_every_seed(target: Target) -> None:
    """After a change of the golden vectors: `python -m tests.fuzz --seeds`."""
    assert set(kept(target).values()) >= set(seeds()[target.name].values())
