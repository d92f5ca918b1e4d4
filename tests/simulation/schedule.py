"""What one run goes through: which servers there are, and what happens to them, step by step.

A schedule is a value: it is drawn from a seed (`faults.draw`), printed one line a step, shrunk (`shrink`), and written
as one line of JSON from which it runs again (`--schedule`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection


@dataclass(frozen=True, slots=True)
class Step:
    """Something that happens: `wait_s` after the step before it. `args` are what its verb needs."""

    wait_s: float
    verb: str
    who: str
    args: tuple[str | float, ...] = ()

    def __str__(self) -> str:
        return " ".join([f"+{self.wait_s:6.2f} s  {self.verb:<16} {self.who:<6}", *map(_plain, self.args)]).rstrip()


@dataclass(frozen=True, slots=True)
class Layout:
    """Who is there: each server's lead (None: it stands at the top), and which leads use an external broker.

    `plain` are those of them whose broker answers no wildcard with what it retains (F56).
    """

    lead_of: dict[str, str | None] = field(default_factory=dict)
    external: frozenset[str] = frozenset()
    plain: frozenset[str] = frozenset()

    @property
    def leads(self) -> list[str]:
        return [server for server in self.lead_of if server.startswith(("ec", "es"))]

    @property
    def tops(self) -> list[str]:
        return [server for server in self.leads if self.lead_of[server] is None]

    @property
    def relays(self) -> list[str]:
        return [server for server in self.leads if self.lead_of[server] is not None]

    @property
    def devices(self) -> list[str]:
        return [server for server in self.lead_of if server.startswith("as")]

    def role(self, server: str) -> str:
        if server.startswith("as"):
            return "shadow"
        return "lead" if self.lead_of[server] is None else "relay"

    def below(self, lead: str) -> list[str]:
        return [server for server, its in self.lead_of.items() if its == lead]

    def without(self, gone: Collection[str]) -> Layout:
        """Leave servers out, and what hangs on them."""
        kept: dict[str, str | None] = {}
        for server, lead in self.lead_of.items():
            if server not in gone and (lead is None or lead in kept):
                kept[server] = lead
        return Layout(kept, self.external & kept.keys(), self.plain & kept.keys())

    def __str__(self) -> str:
        marks = {lead: "**" if lead in self.plain else "*" if lead in self.external else "" for lead in self.leads}
        return "; ".join(f"{lead}{marks[lead]} > {', '.join(self.below(lead))}" for lead in self.leads)


@dataclass(frozen=True)
class Schedule:
    """The whole of one run. `seed` draws what a schedule leaves open: keys, delays, what a rogue picks."""

    seed: int
    layout: Layout
    steps: tuple[Step, ...]

    def only(self, numbers: Collection[int]) -> Schedule:
        """Keep the steps of these numbers, as they are printed: from 1."""
        return replace(self, steps=tuple(step for number, step in enumerate(self.steps, 1) if number in numbers))

    def without(self, gone: Collection[str]) -> Schedule:
        """Leave servers out, and every step that names one of them."""
        layout = self.layout.without(gone)
        names = self.layout.lead_of.keys() - layout.lead_of.keys()
        steps = tuple(step for step in self.steps if not names & {step.who, *step.args})
        return replace(self, layout=layout, steps=steps)

    def __str__(self) -> str:
        head = f"seed {self.seed}, {len(self.layout.lead_of)} servers: {self.layout}  (*: external broker, no rules)"
        return "\n".join([head, *(f"{number:4}  {step}" for number, step in enumerate(self.steps, 1))])


def write(schedule: Schedule) -> str:
    """Write a schedule as one line of JSON."""
    layout = schedule.layout
    document = {
        "seed": schedule.seed,
        "lead_of": layout.lead_of,
        "external": sorted(layout.external),
        "plain": sorted(layout.plain),
        "steps": [[step.wait_s, step.verb, step.who, *step.args] for step in schedule.steps],
    }
    return json.dumps(document)


def read(text: str) -> Schedule:
    """Read what `write` wrote."""
    document = json.loads(text)
    layout = Layout(document["lead_of"], frozenset(document["external"]), frozenset(document["plain"]))
    steps = (Step(wait_s, verb, who, tuple(args)) for wait_s, verb, who, *args in document["steps"])
    return Schedule(document["seed"], layout, tuple(steps))


def _plain(arg: str | float) -> str:
    return f"{arg:g}" if isinstance(arg, float) else str(arg)
