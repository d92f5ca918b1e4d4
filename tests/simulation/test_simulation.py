"""The simulation: every seed holds every invariant and repeats; what is broken is noticed, and shrunk."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

import pytest

from propagator import at_need, reconcile
from propagator.core import decide as rules
from propagator.core.decide import Keep, Overwrite
from propagator.core.errors import Unreadable
from propagator.core.record import Record, read
from propagator.reports import Reports
from propagator.store import history, members
from tests.simulation import faults, many, pinned, rogue, schedule
from tests.simulation.run import run
from tests.simulation.schedule import Layout, Schedule, Step
from tests.simulation.shrink import kinds, shrink

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from propagator.core.decide import Decision, Floor, InForce, Trust
    from propagator.core.signing import Envelope
    from propagator.store import Tx

    Found = Callable[[Tx, str], Awaitable[members.Invitation | None]]

SEEDS = 2000
BLOCK = 250
"""Seeds of one test: some tens of seconds, so that a run shows that it goes on."""

PATIENCE = 40
"""Seeds within which a broken rule has to be noticed."""

SHORT = 6
"""Steps that a shrunk schedule may have."""

REGRESSIONS = sorted((Path(__file__).parent / "regressions").glob("*.json"))


@pytest.mark.parametrize("first", range(0, SEEDS, BLOCK))
def test_every_seed_holds_every_invariant(first: int) -> None:
    failed = [outcome for outcome in many.run_many(range(first, first + BLOCK)) if outcome.faults]
    told = (f"{len(outcome.faults)} faults; {many.replay(outcome.seed)}\n{outcome.faults[0]}" for outcome in failed)
    assert not failed, "\n".join(told)


@pytest.mark.parametrize("written", [pytest.param(path.read_text(), id=path.stem) for path in REGRESSIONS])
def test_what_once_failed_holds_every_invariant(written: str) -> None:
    """Each was found by a seed, shrunk, and seen to fail before it was mended."""
    assert not run(schedule.read(written)).faults


@pytest.mark.parametrize("seed", [15, 79], ids=["a small one", "a large one"])
def test_seed_repeats_byte_for_byte(seed: int) -> None:
    drawn = faults.draw(seed)
    assert run(drawn) == run(drawn)


def test_seeds_differ() -> None:
    assert run(faults.draw(6)).trace != run(faults.draw(13)).trace


def test_hardly_a_fault_is_left_out() -> None:
    """Whoever adds a verb gives it a weight, and the seeds of a run draw each of them often, a rogue's words too."""
    drawn = [faults.draw(seed) for seed in range(SEEDS)]
    verbs = Counter(step.verb for one in drawn for step in one.steps)
    words = Counter(str(step.args[0]) for one in drawn for step in one.steps if step.verb == "rogue")
    assert not {verb: count for verb, count in verbs.items() if count < 50}
    assert not {what: words[what] for what in (*rogue.WITHOUT_KEYS, *rogue.WITH_KEYS) if words[what] < 20}
    assert max(len(one.layout.lead_of) for one in drawn) == 50


def test_every_fault_of_the_list_is_drawn_or_left_to_another_kind_of_test() -> None:
    """The table of `faults` names each id of docs/faults.md."""
    told = re.sub(r"F(\d\d) to F(\d\d)", _spelt_out, faults.__doc__ or "")
    drawn, left = (set(re.findall(r"F\d\d", part)) for part in told.split("What is left to"))
    assert drawn | left == {f"F{number:02}" for number in range(1, 59)}
    assert not drawn & left


def _spelt_out(found: re.Match[str]) -> str:
    return " ".join(f"F{number:02}" for number in range(int(found[1]), int(found[2]) + 1))


def test_nothing_reaches_out_of_the_simulation() -> None:
    """The real diagnosis asks for names in threads, which answer when they like: no run would be like another."""
    away = Schedule(1, Layout({"es-1": None, "as-1": "es-1"}), (Step(0.0, "kill", "es-1"), Step(90.0, "start", "es-1")))
    assert not run(away).faults
    with patch.object(pinned, "NoDiagnosis", at_need.LeadDiagnosis):
        assert any("works without threads" in fault for fault in run(away).faults)


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


async def _never_used(tx: Tx, device: str, found: Found = members.invitation) -> members.Invitation | None:
    """Take every token for a new one."""
    invitation = await found(tx, device)
    return None if invitation is None else replace(invitation, used_at=None)


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
        pytest.param(members, "invitation", _never_used, id="tokens count twice"),
    ],
)
def test_broken_rule_is_noticed(where: object, name: str, broken: object) -> None:
    with patch.object(where, name, broken):
        assert any(run(faults.draw(seed)).faults for seed in range(PATIENCE))


# What fails is shrunk.


def test_failing_schedule_is_shrunk_to_the_shortest_that_fails_in_the_same_way() -> None:
    """Not one of its steps can be left out, and it fails again when it is read back."""
    with patch.object(reconcile, "decide", _anything_goes):
        found = next(drawn for drawn in map(faults.draw, range(PATIENCE)) if run(drawn).faults)
        way = kinds(run(found))
        told: list[str] = []
        short = shrink(found, told.append)
        again = run(schedule.read(schedule.write(short)))
        steps = set(range(1, len(short.steps) + 1))
        shorter = [short.only(steps - {step}) for step in steps]
        assert len(short.steps) <= SHORT < len(found.steps)
        assert told
        assert kinds(again) & way
        assert not any(kinds(run(one)) & way for one in shorter)


def test_schedule_that_holds_is_not_shrunk() -> None:
    drawn = faults.draw(1)
    assert shrink(drawn) is drawn


def test_a_servers_steps_go_with_it() -> None:
    layout = Layout({"ec-1": None, "es-1": "ec-1", "as-1": "es-1", "as-2": "ec-1"})
    steps = (Step(1.0, "kill", "as-1"), Step(1.0, "attach", "as-2", ("es-1",)), Step(1.0, "kill", "as-2"))
    left = Schedule(1, layout, steps).without({"es-1"})
    assert list(left.layout.lead_of) == ["ec-1", "as-2"]
    assert left.steps == (Step(1.0, "kill", "as-2"),)


def test_schedule_is_replayed_from_one_line() -> None:
    """As `--shrink` prints it."""
    written = schedule.write(faults.draw(5).only({1, 2}))
    command = [sys.executable, "-m", "tests.simulation", "--schedule", written]
    done = subprocess.run(command, cwd=many.ROOT, env=many.environment(), capture_output=True, text=True, check=True)
    assert done.stdout.startswith(str(schedule.read(written)))
    assert "trace" in done.stdout
