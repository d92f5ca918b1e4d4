"""Each case shows what the table says, at the level of sockets and without the product: the lab is no fiction.

The lead is its broker alone here; `test_cases.py` has the real one.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.acceptance.site import eventually, is_alive
from tests.firewall.cases import CASES, Case
from tests.firewall.lab import Lab
from tests.firewall.room import PLACES
from tests.firewall.side_by_side import asked_for, parametrized, side_by_side
from tests.firewall.sight import differences, look_at

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from concurrent.futures import Future

DEADLINE_S: Final = 600.0
"""For a case's turn to come, and its look."""


@pytest.fixture(scope="module")
def sights(request: pytest.FixtureRequest, site_files: bytes) -> Iterator[Mapping[str, Future[dict[str, str]]]]:
    """What is seen of every case that is asked for."""

    def seen_of(case: Case) -> dict[str, str]:
        with Lab(case.topology, site_files, real=False) as lab:
            lab.stand_in("lead", "door", "22")
            case.make(lab)
            return look_at(lab, case.question)

    with side_by_side(seen_of, asked_for(request)) as coming:
        yield coming


@parametrized(CASES.values())
def test_case_shows(case: Case, sights: Mapping[str, Future[dict[str, str]]]) -> None:
    seen = sights[case.name].result(DEADLINE_S)
    assert not differences(case.sees, seen), seen


def test_the_table_is_whole() -> None:
    assert len(CASES) == 109
    assert {case.row for case in CASES.values()} == set(range(1, 25))


_MAKE_A_LAB: Final = """
import sys, time
from tests.firewall.lab import Lab
from tests.firewall.room import PLACES
with Lab() as lab:
    lab.stand_in("lead", "door", "22")
    print(lab.first, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_lab_ends_with_the_run_that_made_it(number: signal.Signals) -> None:
    run = subprocess.Popen(
        [sys.executable, "-c", _MAKE_A_LAB], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )
    with run:
        assert run.stdout is not None
        first = int(run.stdout.readline())
        networks = [Path(f"/proc/{first}/root/run/netns/{place}") for place in PLACES]
        assert all(network.exists() for network in networks)
        run.send_signal(number)
    eventually(lambda: not is_alive(first), "the first process of the lab is gone, and all others with it")
    assert not any(network.exists() for network in networks)
