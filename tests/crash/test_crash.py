"""Crash at every step of the disk, with what was not synced lost (F24, F32, F33, F34, F39): see README, "Crashes".

Every scenario of one recorded life, hundreds of its states drawn; `-m slow` takes all of them. A state that fails is
named with its number, and the recording is kept: `python -m tests.crash --scenario … --state … --recording …`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.crash import judge as judging
from tests.crash.conftest import WANTED
from tests.crash.drive import BEGINNING, SHORT
from tests.crash.judge import SCENARIOS
from tests.crash.recording import record
from tests.crash.weaken import WAYS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.crash.judge import Judged
    from tests.crash.recording import Recording

STATES = 100
REPEATS = 8
LEAST = 400
"""States that each scenario has at least: a recording that lost its steps would pass for one without a fault."""


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_f32_a_crash_at_any_step_leaves_the_old_or_the_new_and_nothing_said_is_lost(
    recording: Recording, memory: Path, scenario: str
) -> None:
    judged = judging.run(recording, scenario, memory, STATES, REPEATS)
    _hold(judged, recording)


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_f32_every_crash_of_every_step_and_what_was_under_way_is_done_again(
    recording: Recording, memory: Path, scenario: str
) -> None:
    judged = judging.run(recording, scenario, memory, drawn=30)
    _hold(judged, recording)


def _hold(judged: Judged, recording: Recording) -> None:
    if judged.failed:
        (recording.folder / WANTED).touch()
    replay = f"python -m tests.crash --scenario {judged.scenario} --recording {recording.folder} --state …"
    assert not judged.failed, "\n".join([replay, *judged.failed[:10]])
    assert judged.states >= LEAST


# What is broken is noticed.

NOTICED = {
    "synchronous=OFF": ("init", "malformed|lost"),
    "no fsync of a file": ("init", "half written"),
    "no fsync of a folder": ("init", "missing|before the last word"),
    "files written in place": ("init", "half written|not put there whole"),
    "history in a transaction of its own": ("migrate", "history ends with another record"),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_harness_notices(tmp_path: Path, memory: Path, way: str) -> None:
    scenario, words = NOTICED[way]
    weakened = record(tmp_path, weakened=way, much=BEGINNING if scenario == "init" else SHORT)
    judged = judging.run(weakened, scenario, memory, STATES, 0)
    assert judged.failed
    assert any(any(word in line for word in words.split("|")) for line in judged.failed), judged.failed[:5]
