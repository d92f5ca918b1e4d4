"""A schedule that fails, made as short as it can be while it still fails in the same way.

Delta debugging (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002): ddmin over the
steps, then whole servers, then the waits, and again, until nothing can be left out. "The same way" is the text of a
fault without its times, names and versions: another fault that a shorter schedule shows instead is another bug.
"""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from tests.simulation.run import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.simulation.run import Outcome
    from tests.simulation.schedule import Schedule, Step

TRIES: Final = 400
"""Runs after which it is short enough."""

_SHORTER_WAITS_S: Final = (0.0, 1.0, 10.0, 60.0)

_NAMES: Final = re.compile(
    r"\b(?:e[cs]|as|hub-e[cs])-\d+(?:~\d+)?\b|\b[0-9a-z]+(?:\.[0-9a-z]+){3}\b|\b[0-9a-f]{8,}\b|[\d.]+"
)


def kinds(outcome: Outcome) -> frozenset[str]:
    """Say in which ways a run failed."""
    return frozenset(_NAMES.sub("#", fault.strip().splitlines()[-1]) for fault in outcome.faults)


def shrink(schedule: Schedule, say: Callable[[str], None] = lambda _: None, *, tries: int = TRIES) -> Schedule:
    """Give the shortest schedule found that fails in the same way; the same one if it does not fail."""
    wanted = kinds(run(schedule))
    return _Shrinking(wanted, say, tries).shrink(schedule) if wanted else schedule


class _Shrinking:
    """One search. `wanted` are the ways of failing, of which one must stay."""

    def __init__(self, wanted: frozenset[str], say: Callable[[str], None], tries: int) -> None:
        self._wanted = wanted
        self._say = say
        self._left = tries

    def shrink(self, schedule: Schedule) -> Schedule:
        before: Schedule | None = None
        while schedule != before and self._left > 0:
            before = schedule
            for shorten in (self._fewer_steps, self._fewer_servers, self._shorter_waits):
                schedule = shorten(schedule)
        return schedule

    def _fails(self, schedule: Schedule) -> bool:
        if self._left <= 0:
            return False
        self._left -= 1
        is_same = bool(kinds(run(schedule)) & self._wanted)
        if is_same:
            size = f"{len(schedule.steps)} steps, {len(schedule.layout.lead_of)} servers"
            self._say(f"{size}: the same fault; {self._left} tries left")
        return is_same

    def _fewer_steps(self, schedule: Schedule) -> Schedule:
        """Leave steps out by ddmin: ever smaller parts, until no single one can be missed."""
        parts = 2
        while schedule.steps:
            shorter = next(filter(self._fails, self._without_a_part(schedule, parts)), None)
            if shorter is not None:
                schedule, parts = shorter, max(parts - 1, 2)
            elif parts >= len(schedule.steps):
                break
            else:
                parts = min(2 * parts, len(schedule.steps))
        return schedule

    @staticmethod
    def _without_a_part(schedule: Schedule, parts: int) -> Iterator[Schedule]:
        """Leave out one part of the steps after the other. Who waits for a step that is gone waits as long."""
        steps = schedule.steps
        edges = [len(steps) * number // parts for number in range(parts + 1)]
        for start, end in pairwise(edges):
            if start < end:
                yield replace(schedule, steps=(*steps[:start], *_later(steps[end:], steps[start:end])))

    def _fewer_servers(self, schedule: Schedule) -> Schedule:
        for server in reversed(list(schedule.layout.lead_of)):
            if server in schedule.layout.lead_of and len(schedule.layout.lead_of) > 1:
                shorter = schedule.without({server})
                schedule = shorter if shorter.layout.tops and self._fails(shorter) else schedule
        return schedule

    def _shorter_waits(self, schedule: Schedule) -> Schedule:
        for number, step in enumerate(schedule.steps):
            for wait_s in (wait_s for wait_s in _SHORTER_WAITS_S if wait_s < step.wait_s):
                steps = (*schedule.steps[:number], replace(step, wait_s=wait_s), *schedule.steps[number + 1 :])
                if self._fails(shorter := replace(schedule, steps=steps)):
                    schedule = shorter
                    break
        return schedule


def _later(steps: Sequence[Step], gone: Sequence[Step]) -> tuple[Step, ...]:
    """Let the first of these steps happen when it did: after the waits of what is gone, too."""
    if not steps:
        return ()
    waited_s = round(sum(step.wait_s for step in gone), 2)
    return (replace(steps[0], wait_s=round(steps[0].wait_s + waited_s, 2)), *steps[1:])
