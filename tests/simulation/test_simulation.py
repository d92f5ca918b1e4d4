"""The simulation: a thousand seeds hold every invariant, a seed repeats, and what is broken is noticed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from unittest.mock import patch

import pytest

from propagator import reconcile
from propagator.core import decide as rules
from propagator.core.decide import Keep, Overwrite
from propagator.core.errors import Unreadable
from propagator.core.record import Record, read
from propagator.reports import Reports
from propagator.store import history
from tests.simulation import faults, many
from tests.simulation.run import run

if TYPE_CHECKING:
    from propagator.core.decide import Decision, Floor, InForce, Trust
    from propagator.core.signing import Envelope
    from propagator.store import Tx

SEEDS = 1000
BLOCK = 250
"""Seeds of one test: some tens of seconds, so that a run shows that it goes on."""

PATIENCE = 40
"""Seeds within which a broken rule has to be noticed."""


@pytest.mark.parametrize("first", range(0, SEEDS, BLOCK))
def test_every_seed_holds_every_invariant(first: int) -> None:
    failed = [outcome for outcome in many.run_many(range(first, first + BLOCK)) if outcome.faults]
    told = (f"{len(outcome.faults)} faults; {many.replay(outcome.seed)}\n{outcome.faults[0]}" for outcome in failed)
    assert not failed, "\n".join(told)


def test_seed_repeats_byte_for_byte() -> None:
    schedule = faults.draw(15)
    assert run(schedule) == run(schedule)


def test_seeds_differ() -> None:
    assert run(faults.draw(6)).trace != run(faults.draw(13)).trace


def test_hardly_a_fault_is_left_out() -> None:
    """Whoever adds a verb gives it a weight, and a thousand seeds draw each of them often."""
    drawn = [step.verb for seed in range(SEEDS) for step in faults.draw(seed).steps]
    rare = {verb: drawn.count(verb) for verb in set(drawn) if drawn.count(verb) < 50}
    assert not rare
    assert max(len(faults.draw(seed).layout.lead_of) for seed in range(SEEDS)) == 20


# What is broken is noticed.


def _anything_goes(_floor: Floor | None, in_force: InForce, offer: Envelope | Unreadable, trust: Trust) -> Decision:
    """Rules 6 and 7 taken away: whatever the lead once signed is taken over."""
    return rules.decide(None, in_force, offer, replace(trust, lowest=None))


def _anybody_may(floor: Floor | None, in_force: InForce, offer: Envelope | Unreadable, trust: Trust) -> Decision:
    """Rules 2 and 3 taken away: any record of anybody is taken over."""
    record = None if isinstance(offer, Unreadable) else read(Record, offer.payload)
    if record is None or isinstance(record, Unreadable) or record.registration is None:
        return rules.decide(floor, in_force, offer, trust)
    path = tuple((hop.id, hop.identity) for hop in record.path)
    return Overwrite(record, rules.Floor(record.version, record.hash, path, registered=True))


def _kept(floor: Floor | None, in_force: InForce, offer: Envelope | Unreadable, trust: Trust) -> Decision:
    """Rule 10 taken away: what is higher is taken for what is held."""
    decision = rules.decide(floor, in_force, offer, trust)
    return Keep(decision.record) if isinstance(decision, Overwrite) and floor is not None else decision


async def _no_history(_tx: Tx, **_: object) -> None:
    """Write down nothing of what was overwritten."""


async def _never_ask(_reports: Reports, _device: str, _period_s: float) -> None:
    """Ask no shadow to report again."""


@pytest.mark.parametrize(
    ("where", "name", "broken"),
    [
        pytest.param(reconcile, "decide", _anything_goes, id="old records are taken over"),
        pytest.param(reconcile, "decide", _anybody_may, id="records of anybody are taken over"),
        pytest.param(reconcile, "decide", _kept, id="higher records are not taken over"),
        pytest.param(history, "add", _no_history, id="history is not written"),
        pytest.param(Reports, "ask", _never_ask, id="doubted shadows are not asked"),
    ],
)
def test_broken_rule_is_noticed(where: object, name: str, broken: object) -> None:
    with patch.object(where, name, broken):
        assert any(run(faults.draw(seed)).faults for seed in range(PATIENCE))
