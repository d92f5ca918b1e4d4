"""The diagnosis of the way from this server to its lead: probes the way, judges what was seen, tells it.

Takes whom to reach (`peer`) and hands on a `Diagnosis`: every stage with its evidence and one verdict with its remedy.
Needs no privilege and no agent. Law: it only ever probes the lead that this server follows, or what its user names.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING

from propagator.core import moment
from propagator.core.diagnosis import judge, judge_each
from propagator.diagnose import course
from propagator.diagnose.telling import SCHEMA, as_root, finding, verdict_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from propagator.core.diagnosis import Verdict
    from propagator.core.diagnosis.seen import Seen
    from propagator.core.difference import JsonObject, JsonValue
    from propagator.diagnose.course import Step
    from propagator.diagnose.peer import Wanted

__all__ = ["Diagnosis", "as_root", "diagnose", "finding", "verdict_of"]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found: the steps, what was seen, the verdict on each address, and the one verdict."""

    lead: str
    targets: tuple[tuple[str, int], ...]
    steps: tuple[Step, ...]
    seen: Seen
    each: tuple[Verdict, ...]
    verdict: Verdict
    at: str

    def as_finding(self) -> JsonObject:
        """The finding of DESIGN §9, as `status` shows it and reports carry it."""
        return finding(self.verdict, at=self.at)

    def as_json(self) -> JsonObject:
        """The JSON of `propagator diagnose`."""
        host, port = self.targets[0]
        addresses: list[JsonValue] = [
            {"address": each.address, "code": each.code.value, "confidence": each.confidence.value}
            for each in self.each
        ]
        return {
            "schema": SCHEMA,
            "at": self.at,
            "target": {"host": host, "port": port},
            "stages": [step.as_json() for step in self.steps],
            "addresses": addresses,
            "verdict": self.as_finding(),
            "as_root": [as_root(self.verdict)] if as_root(self.verdict) else [],
        }


async def diagnose(wanted: Wanted, *, tell: Callable[[Step], None] = lambda _: None, idle_s: float = 0.0) -> Diagnosis:
    """Diagnose the way to a lead, in 20 s at most and `idle_s` more; `tell` hears of each stage as it ends."""
    at = moment.write(dt.datetime.now(dt.UTC))
    seen, steps = await course.run(wanted.targets, wanted.peer, tell, wanted.pictures, idle_s)
    verdict = judge(seen).knowing(lead=wanted.lead_name)
    return Diagnosis(wanted.lead, wanted.targets, steps, seen, judge_each(seen), verdict, at)
