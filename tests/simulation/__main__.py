"""`python -m tests.simulation`: run seeds, or one of them with all that happens.

--seed 17 [--verbose] [--servers 12] [--only 1,4,5] [--shrink]
--schedule FILE, or what --shrink printed [--verbose] [--only 1,4,5] [--shrink]
--seeds 1000 [--jobs 2]         --seeds 100:200         the first that fail are shrunk
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.simulation import faults, many, schedule
from tests.simulation.run import Outcome, run
from tests.simulation.shrink import shrink

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.simulation.schedule import Schedule

SHRUNK: Final = 3
"""How many of the seeds that fail in a long run are shrunk: each takes some minutes."""


def main() -> int:
    """Do as the command line says. 0: every invariant held; 1: the faults are printed."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.execve(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]], many.environment())  # noqa: S606  itself
    asked = _arguments()
    if asked.seeds is None:
        return _one(_schedule(asked), asked)
    seeds = _seeds(asked.seeds)
    if asked.lines:
        return _lines(run(faults.draw(seed)) for seed in seeds)
    return _progress(many.run_many(seeds, asked.jobs), len(seeds))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--seed", type=int, help="run this one and print its schedule")
    which.add_argument("--schedule", help="run this one: a line of JSON, or a file that holds it")
    which.add_argument("--seeds", help="how many, from 0 on; or FIRST:END")
    parser.add_argument("--servers", type=int, help="how many servers, instead of what the seed draws")
    parser.add_argument("--jobs", type=int, help="processes; one a core otherwise")
    parser.add_argument("--verbose", action="store_true", help="print what the product logs, too")
    parser.add_argument("--only", help="the numbers of the steps to go through, with commas")
    parser.add_argument("--shrink", action="store_true", help="first make it as short as it can be and still fails")
    parser.add_argument("--lines", action="store_true", help="one JSON line a seed, in this process")
    return parser.parse_args()


def _seeds(text: str) -> range:
    first, colon, end = text.rpartition(":")
    return range(int(first) if colon else 0, int(end))


def _schedule(asked: argparse.Namespace) -> Schedule:
    if asked.seed is not None:
        chosen = faults.draw(asked.seed, asked.servers)
    else:
        written = asked.schedule if asked.schedule.startswith("{") else Path(asked.schedule).read_text()
        chosen = schedule.read(written)
    if asked.only is None:
        return chosen
    return chosen.only({int(number) for number in asked.only.split(",") if number})


def _one(chosen: Schedule, asked: argparse.Namespace) -> int:
    if asked.shrink:
        chosen = _shrunk(chosen)
    _say(str(chosen), "")
    outcome = run(chosen, say=_say, verbose=asked.verbose)
    _say("", f"trace {outcome.trace[:16]}, whole again after {outcome.healed_s:.0f} s", *outcome.faults)
    return 1 if outcome.faults else 0


def _shrunk(chosen: Schedule) -> Schedule:
    """Make it short, and say how it is run again."""
    chosen = shrink(chosen, _say)
    _say(
        "", str(chosen), "", f".venv/bin/python -m tests.simulation --verbose --schedule '{schedule.write(chosen)}'", ""
    )
    return chosen


def _lines(outcomes: Iterable[Outcome]) -> int:
    failed = False
    for outcome in outcomes:
        _say(json.dumps(dataclasses.asdict(outcome)))
        failed = failed or bool(outcome.faults)
    return 1 if failed else 0


def _progress(outcomes: Iterable[Outcome], count: int) -> int:
    begun_s = time.monotonic()
    failed = steps = 0
    for number, outcome in enumerate(outcomes, 1):
        steps += outcome.steps
        if outcome.faults:
            failed += 1
            _say(f"seed {outcome.seed} failed; replay: {many.replay(outcome.seed)}", *outcome.faults)
            if failed <= SHRUNK:
                _shrunk(faults.draw(outcome.seed))
        if number % many.PORTION == 0 or number == count:
            _say(f"{number} of {count} seeds, {steps} steps, {failed} failed, {time.monotonic() - begun_s:.0f} s")
    return 1 if failed else 0


def _say(*lines: str) -> None:
    sys.stdout.write("\n".join((*lines, "")))
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
