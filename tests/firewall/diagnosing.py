"""Diagnoses a case from both ends in the same seconds, each end as a user without rights.

The shadow's half is the installed command; the lead's is what `diagnose --watch` does, for just as long.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from propagator.core import diagnosis
from propagator.core.conntrack import Table
from propagator.core.diagnosis import Code, Confidence
from propagator.core.diagnosis.joint import join
from propagator.core.diagnosis.seen import Counters, HalfOpen, LeadSide
from tests.acceptance.site import eventually
from tests.firewall.case import Verdict
from tests.firewall.lab import Lab, propagator
from tests.firewall.room import SHADOW_CONFIG, WAYS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.acceptance.site import Said
    from tests.firewall.case import Case

DEADLINE_S: Final = 900.0
"""For a case's turn to come, and its diagnosis."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What the shadow's command said of a case, how long it took, and what the lead saw meanwhile, if it was asked."""

    said: Said
    took_s: float
    lead: LeadSide | None = None

    @property
    def told(self) -> dict[str, Any]:
        return dict(self.said.json)

    @property
    def alone(self) -> Verdict:
        verdict = self.told["verdict"]
        return Verdict(verdict["code"], verdict["confidence"])

    @property
    def joint(self) -> tuple[str, str]:
        """The code and the confidence of both views."""
        assert self.lead is not None, "the lead was not asked"
        told = self.told["verdict"]
        code, sure = Code(told["code"]), Confidence(told["confidence"])
        shadow = diagnosis.Verdict(code, sure, told["reason"], told["address"], told["facts"])
        found = join(shadow, replace(self.lead, dialled=shadow.address))
        return found.code.value, found.confidence.value

    def __str__(self) -> str:
        stages = [
            f"{stage['stage']} {stage['address'] or ''} {stage['result']}: {'; '.join(stage['evidence'])}"
            for stage in self.told["stages"]
        ]
        told = [
            f"{self.alone} after {self.took_s:.1f} s",
            self.told["verdict"]["reason"],
            *stages,
            str(self.lead or ""),
        ]
        return "\n".join(told)


def diagnose_case(case: Case, site_files: bytes) -> Diagnosis:
    """Make a lab of a case, and diagnose it."""
    with Lab(case.topology, site_files) as lab:
        lab.stand_in("lead", "door", "22")
        if case.seen_before:
            _draw_the_way(lab)
        case.make(lab)
        if case.joint is None:
            pause_s = case.question.get("pause_s")
            return diagnose(lab, *(() if pause_s is None else ("--idle", str(pause_s))))
        with lab.watching() as watched:
            found = diagnose(lab)
        return joined(found, watched())


def joined(found: Diagnosis, lead: dict[str, Any]) -> Diagnosis:
    """Add what the lead saw meanwhile, as `Lab.watching` tells it."""
    return Diagnosis(found.said, found.took_s, _lead_side(lead))


def _draw_the_way(lab: Lab) -> None:
    """Run the shadow's agent in the healthy lab until it has drawn the way, within 30 s of connecting."""
    lead = lab.serve()
    shadow = lab.start("shadow", propagator(), "run", "--config", SHADOW_CONFIG, user="shadow")
    eventually(lambda: lab.path(WAYS).exists(), "the way is drawn", timeout_s=120)
    shadow.stop()
    lead.stop()


def diagnose(lab: Lab, *options: str) -> Diagnosis:
    """Run the command at the shadow."""
    words: tuple[str | Path, ...] = (propagator(), "diagnose", "--json", *options, "--config", SHADOW_CONFIG)
    began_s = time.monotonic()
    said = lab.ask("shadow", *words, user="shadow")
    return Diagnosis(said, time.monotonic() - began_s)


def _lead_side(told: dict[str, Any]) -> LeadSide:
    told["half_open"] = tuple(HalfOpen(**each) for each in told["half_open"])
    told |= {name: Counters(**told[name]) for name in ("passed", "usual")}
    told["conntrack"] = None if told["conntrack"] is None else Table(**told["conntrack"])
    members: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in told.items()}
    return LeadSide(**members)
