"""What `status` takes, wall clock, beside a Python that only imports sqlite3: what is left is ours."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from benchmarks.site import Site

ROUNDS: Final = 21
GOAL_S: Final = 0.15
_PROGRAM: Final = str(Path(sys.executable).with_name("propagator"))


def measure(site: Site) -> dict[str, float]:
    """Time `status` and `status --json` of a lead with a running agent and shadows, in turns with the floor."""
    where = ("--config", str(site.lead_config))
    commands = {
        "status_s": [_PROGRAM, "status", *where],
        "status_json_s": [_PROGRAM, "status", "--json", *where],
        "sqlite3_s": [sys.executable, "-c", "import sqlite3"],
    }
    times: dict[str, list[float]] = {what: [] for what in commands}
    for _ in range(ROUNDS):
        for what, command in commands.items():
            times[what].append(_seconds(command))
    found = {what: round(median(seconds), 4) for what, seconds in times.items()}
    return {**found, "ratio": round(found["status_json_s"] / found["sqlite3_s"], 2)}


def _seconds(command: list[str]) -> float:
    """Time one command. Exit code 1 is an answer, too: a problem was found."""
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    seconds = time.perf_counter() - began
    if done.returncode not in {0, 1}:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr}")
    return seconds
