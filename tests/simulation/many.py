"""Many seeds, split over processes; each begins with PYTHONHASHSEED=0, so that sets have an order of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.simulation.run import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

PORTION: Final = 125
"""Seeds of one process: it takes half a second to begin."""

ROOT: Final = Path(__file__).parents[2]


def environment() -> dict[str, str]:
    """Give the environment of a process whose runs repeat."""
    return {**os.environ, "PYTHONHASHSEED": "0"}


def replay(seed: int) -> str:
    """Give the command that runs one seed again, and makes it as short as it can be."""
    return f".venv/bin/python -m tests.simulation --seed {seed} --shrink"


def run_many(seeds: range, jobs: int | None = None) -> Iterator[Outcome]:
    """Run seeds, `jobs` processes at a time (None: one a core). A portion that dies is a fault of its first seed."""
    portions = [seeds[start : start + PORTION] for start in range(0, len(seeds), PORTION)]
    with ThreadPoolExecutor(jobs or os.cpu_count() or 1) as pool:
        for outcomes in pool.map(_portion, portions):
            yield from outcomes


def _portion(seeds: range) -> list[Outcome]:
    command = [sys.executable, "-m", "tests.simulation", "--seeds", f"{seeds.start}:{seeds.stop}", "--lines"]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    outcomes = [
        Outcome(**{**line, "faults": tuple(line["faults"])}) for line in map(json.loads, done.stdout.splitlines())
    ]
    if done.returncode not in {0, 1} or len(outcomes) != len(seeds):
        missing = seeds.start + len(outcomes)
        outcomes.append(Outcome(missing, 0, 0, "", 0.0, (f"the process ended with {done.returncode}: {done.stderr}",)))
    return outcomes
