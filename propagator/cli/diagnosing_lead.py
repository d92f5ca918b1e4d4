"""`diagnose` at a lead: what its own port, kernel and firewall say, alone or joined with what a device sees."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import TYPE_CHECKING, Final

import click

from propagator.cli import print_json, visible
from propagator.cli.configured import wanted as wanted_settings
from propagator.cli.verdicts import say, tell_ticket, tell_verdict
from propagator.diagnose import lead_side

if TYPE_CHECKING:
    from propagator.cli import Place
    from propagator.core.diagnosis.seen import LeadSide
    from propagator.diagnose.lead_side import Found

WATCH_S: Final = 3.0


def diagnose(
    place: Place,
    watch: float | None,
    device: str | None,
    at: tuple[str, int] | None,
    means: lead_side.Means,
    *,
    as_json: bool,
    ticket: bool,
) -> int:
    """Look at this lead's port for `watch` seconds, or join the view of `device`; gives the exit code."""
    settings = wanted_settings(place)
    if device is not None:
        say(f"Asking {device} to try its way here (up to 20 s).")
        found = asyncio.run(lead_side.probe(settings, device, at, dt.datetime.now(dt.UTC), means))
    else:
        seconds = WATCH_S if watch is None else watch
        say(f"Watching the lead's port for {seconds:g} s.")
        found = asyncio.run(lead_side.look(settings, seconds, dt.datetime.now(dt.UTC), means))
    if as_json:
        print_json(found.as_json())
    else:
        _tell_side(found)
        tell_verdict(found.verdict, found.side.filter)
        tell_ticket(found.verdict, found.at, wanted=ticket)
    return 0 if found.verdict.is_fine else 1


def _tell_side(found: Found) -> None:
    side = found.side
    facts = {
        "Listens": ", ".join(side.listeners) or "nowhere",
        "Connected": f"{len(side.connected)} addresses" if side.connected else "nobody",
        "Waiting": f"{side.queue} connections" if side.queue else "none",
        "Half-open": ", ".join(f"{each.peer} (answered {each.retransmits + 1} times)" for each in side.half_open),
        "Not delivered": f"{side.swallowed} packets in {side.window_s:.0f} s",
        "On the wire": "" if side.wire is None else f"{side.wire} first packets for this port",
        "Firewall": _told_filter(found),
        "Conntrack": _told_table(side),
        "The device says": "" if found.shadow is None else f"{found.shadow.code}: {found.shadow.cause}",
    }
    for name, told in facts.items():
        if told:
            click.echo(visible(f"  {name:<15} {told}"))
    for each in found.missing:
        heard = "was never heard" if each.last_heard is None else f"last heard {each.last_heard}"
        said = "" if each.code is None else f"; said then: {each.code}"
        now = f"; {each.told}" if each.told else ""
        click.echo(visible(f"  {'Not connected':<15} {each.id} ({each.name}), {heard}{said}{now}"))


def _told_table(side: LeadSide) -> str:
    table = side.conntrack
    if table is None or not table.count:
        return ""
    dropped = f", {table.dropped} packets dropped for want of a place" if table.dropped else ""
    unread = f"; whose they are cannot be told: {side.flows_unread}" if side.filter and side.flows_unread else ""
    return f"{table.count} of {table.limit} connections{dropped}{unread}"


def _told_filter(found: Found) -> str:
    rules = found.side.filter
    if rules is None:
        return found.unread
    told = f"{rules.outcome.replace('_', ' ')} for {rules.source}"
    named = f", by {rules.rule}" if rules.rule else ""
    doubts = f" ({'; '.join(rules.caveats)})" if rules.caveats else ""
    return f"{told}{named}{doubts}"
