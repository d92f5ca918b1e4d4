"""The race: at each size the arms stand side by side, and take turns at a change, so that all meet the same load."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.children import cpu_s

if TYPE_CHECKING:
    from collections.abc import Sequence


class Arm:
    """One way to bring a change to every shadow and its durable report back. `pids`: its processes, by what they do."""

    name = ""

    def __init__(self, pids: dict[str, int]) -> None:
        self._pids = pids

    async def change(self, number: int) -> float:
        """Bring change `number` (from 1) to all; give the seconds from the change to the last report stored."""
        raise NotImplementedError

    def check(self, number: int) -> None:
        """Look whether every shadow really holds change `number`. Raises AssertionError."""

    def cpu(self) -> dict[str, float]:
        """Give the processor time used so far, in seconds, by process."""
        return {what: cpu_s(pid) for what, pid in self._pids.items()}


@dataclass(slots=True)
class Times:
    """What one arm took at one size: seconds of each round, and of its processes the processor time of each round."""

    seconds: list[float] = field(default_factory=list)
    cpu: dict[str, list[float]] = field(default_factory=dict)

    @property
    def median(self) -> float:
        """The median round."""
        return median(self.seconds)

    def add(self, seconds: float, before: dict[str, float], after: dict[str, float]) -> None:
        """Take one round down."""
        self.seconds.append(seconds)
        for what, used in after.items():
            self.cpu.setdefault(what, []).append(used - before[what])

    def as_json(self) -> dict[str, object]:
        """Give it for the JSON file."""
        return {
            "median_s": round(self.median, 4),
            "rounds_s": [round(seconds, 4) for seconds in self.seconds],
            "cpu_median_s": {what: round(median(used), 3) for what, used in self.cpu.items()},
        }


async def run(arms: Sequence[Arm], rounds: int) -> dict[str, Times]:
    """Let the arms take turns; one round more, at first, is for warming up and does not count."""
    times = {arm.name: Times() for arm in arms}
    for number in range(1, rounds + 2):
        for arm in arms:
            before = arm.cpu()
            seconds = await arm.change(number)
            if number > 1:
                times[arm.name].add(seconds, before, arm.cpu())
    for arm in arms:
        arm.check(rounds + 1)
    return times


def load() -> list[float]:
    """Give the load averages of this machine: others may be at work on it."""
    return [round(average, 2) for average in os.getloadavg()]
