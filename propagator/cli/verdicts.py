"""How a diagnosis is told: each stage as it ends, the one verdict, and the text for those who run the network."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import click

from propagator import diagnose as diagnosis
from propagator.cli import visible
from propagator.core.diagnosis import Stage, advice
from propagator.core.diagnosis.portal import PortalStage

if TYPE_CHECKING:
    from propagator.core.diagnosis import Verdict
    from propagator.core.diagnosis.seen import Filter
    from propagator.diagnose.course import Step
    from propagator.diagnose.memory import Case

_SIGNS: Final = {"passed": "✓", "failed": "✗", "not_checked": "·"}
_NAMES: Final[dict[str, str]] = {
    PortalStage.PROXY: "proxy",
    PortalStage.HTTP: "HTTP",
    PortalStage.API: "portal",
    PortalStage.KEY: "key",
    PortalStage.RIGHT: "right",
    Stage.RESOLVE: "name",
    Stage.ROUTE: "route",
    Stage.TCP: "TCP",
    Stage.TLS: "TLS",
    Stage.MQTT: "MQTT",
    Stage.AUTHORISED: "account",
    Stage.RECORD: "record",
    Stage.HEARTBEAT: "heartbeat",
}


def quiet(_step: Step) -> None:
    """Tell nothing while it runs."""


def tell_step(step: Step) -> None:
    """Tell a stage as it ends."""
    took = "" if step.took_s is None else f"{step.took_s * 1000:,.0f} ms"
    told = "; ".join(step.evidence)
    line = f"{_SIGNS[step.result]} {_NAMES[step.stage]:<9} {step.address or '':<24} {took:>9}  {told}"
    click.echo(visible(line.rstrip()))
    sys.stdout.flush()
    if step.stage.value == Stage.TCP.value and step.result == "failed":
        say("  Looking for where it is lost (up to 15 s).")


def tell_verdict(verdict: Verdict, found: Filter | None = None) -> None:
    """Tell the one verdict, how sure it is, and what to do."""
    lines = ["", f"{verdict.entry.title}.", verdict.cause]
    lines.append(f"{verdict.code}, {verdict.confidence}: {verdict.reason}.")
    first, *others = advice.remedies(verdict, found) or (None,)
    if first is not None:
        lines.append(f"Try: {first.commands[0]}")
    if verdict.settled_by is not None:
        lines.append(f"To be certain: {verdict.settled_by}")
    if more := diagnosis.as_root(verdict):
        lines.append(f"With more rights: {more}")
    if others:
        named = "with the tool that manages its firewall" if len(others) > 1 else "with its own tool"
        lines += ["", f"On {others[0].where}, {named}:"]
    for each in others:
        if each is not None:
            lines += [f"  {each.tool}", *(f"    {command}" for command in each.commands)]
            lines += [f"    back: {command}" for command in each.undo]
    for line in lines:
        click.echo(visible(line))


def tell_ticket(verdict: Verdict, at: str, *, wanted: bool, command: str = "propagator diagnose") -> None:
    """Tell the text for those who run the network, or that there is one."""
    text = advice.ticket_text(verdict, at)
    if wanted and text is not None:
        click.echo(f"\n{visible(text)}".rstrip())
    elif text is not None:
        click.echo(f"For a network team: {command} --ticket")


def tell_case(case: Case, verdict: Verdict) -> None:
    """Tell what became of the case that was gone to."""
    click.echo(visible(f"The case is closed: {case}." if verdict.is_fine else f"The case stays open: {case}."))


def say(text: str) -> None:
    """Say what goes on, beside what is told."""
    click.echo(text, err=True)
