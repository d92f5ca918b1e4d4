"""`diagnose`: why the registration does not arrive, stage by stage, with proof and remedy."""

from __future__ import annotations

import asyncio
import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from propagator import config, control
from propagator import diagnose as diagnosis
from propagator.bus import split_address
from propagator.cli import Place, diagnosing_lead, ending, gathered, json_option, located, print_json
from propagator.cli.verdicts import quiet, tell_case, tell_step, tell_ticket, tell_verdict
from propagator.diagnose import lead_side, memory, peer, verdict_of
from propagator.diagnose.conversation import LONGEST_PAUSE_S
from propagator.diagnose.course import step_of

if TYPE_CHECKING:
    from propagator.core.difference import JsonObject
    from propagator.diagnose import Diagnosis


class Target(click.ParamType):  # type: ignore[type-arg]  # generic in the stubs only
    """A host and a port."""

    name = "HOST:PORT"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int] | object:
        """Read it; what is none ends the command with 2."""
        try:
            return split_address(str(value))
        except ValueError:
            self.fail(f"{value!r} is no address: host:port or [IPv6]:port", param, ctx)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the options say."""

    as_json: bool
    target: tuple[str, int] | None
    idle: float | None
    recheck: bool
    ticket: bool
    watch: float | None
    device: str | None
    at: tuple[str, int] | None
    firewall: bool
    source: str | None
    portal: str | None
    portal_ca: Path | None
    wire: bool

    @property
    def names_the_lead(self) -> bool:
        """Whether something is asked for that only a lead can look at."""
        at_port = self.watch is not None or self.device is not None or self.wire
        return at_port or self.firewall or self.source is not None

    @property
    def names_a_server(self) -> bool:
        """Whether something is asked for on the way between servers."""
        on_device = self.target or self.idle
        at_lead = self.watch is not None or self.device or self.at or self.firewall or self.source or self.wire
        return bool(on_device or at_lead)

    def means(self) -> lead_side.Means:
        """What a lead looks with. Raises UsageError where the source is no address."""
        rules = self.firewall or self.source is not None
        return lead_side.Means(wire=self.wire, rules=rules, source=_address(self.source))


def _address(text: str | None) -> str | None:
    try:
        return None if text is None else str(ipaddress.ip_address(text))
    except ValueError:
        raise click.UsageError(f"--source: {text!r} is no IP address.") from None


@click.command(
    epilog=ending(
        {
            0: "the registration gets through; at a lead: nothing of this host stands in the way; the portal answers",
            1: "it does not: the verdict says why",
            2: "wrong usage",
            3: "there is no state here, or nothing that can be diagnosed",
        },
        [
            "propagator diagnose",
            "propagator diagnose --json | jq .verdict.code",
            "propagator diagnose --recheck",
            "propagator diagnose --device plant-room-2 --at 192.0.2.20:8884",
            "propagator diagnose --firewall --source 192.0.2.20",
            "propagator diagnose --portal",
            "propagator diagnose --portal --recheck",
        ],
    )
)
@json_option
@click.option("--target", type=Target(), help="On a device: probe this address instead of the lead's known ones.")
@click.option(
    "--idle",
    type=click.FloatRange(1, LONGEST_PAUSE_S),
    metavar="SECONDS",
    help="Keep a connection quiet so long, and see whether it lives: some firewalls forget it.",
)
@click.option("--recheck", is_flag=True, help="Go to what failed last, and to nothing else; close the case.")
@click.option("--ticket", is_flag=True, help="Print the text for a network team, too.")
@click.option("--watch", type=click.FloatRange(0, 600), metavar="SECONDS", help="On a lead: watch its port so long.")
@click.option("--device", metavar="ID", help="On a lead: let this device probe its way here, and join both views.")
@click.option("--at", type=Target(), help="Ask it there (its probe_listen); else over the broker, if it is connected.")
@click.option(
    "--firewall", is_flag=True, help="On a lead: read its firewall's rules, too, and name the one that drops."
)
@click.option("--source", metavar="ADDRESS", help="On a lead: reckon the rules for a device at this address.")
@click.option(
    "--portal",
    is_flag=False,
    flag_value="",
    metavar="[URL]",
    help="The way to the Registration Portal instead: the one that is known here, or this one.",
)
@click.option(
    "--portal-ca",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="With --portal: the CA that vouches for its certificate.",
)
@click.option("--wire", is_flag=True, help="On a lead, as root: count what arrives at the interface.")
@gathered(Asked, "asked")
@located
def diagnose(place: Place, asked: Asked) -> int:
    """Find out why the registration does not arrive, and show the proof.

    On a device it goes the way to the lead stage by stage: name, route, TCP, TLS, MQTT, account, record, heartbeat. On
    a lead it looks at its own port: listeners, queues, and what the kernel counts while somebody tries. Ends with one
    verdict, how sure it is and why, and what to do. Needs no root and no agent, and changes nothing.

    With --portal it goes the way to the Registration Portal: proxy, name, TCP, TLS, HTTP, its answer, key and right.
    """
    if asked.portal is not None:
        return _of_portal(place, asked)
    if asked.portal_ca is not None:
        raise click.UsageError("--portal-ca goes with --portal.")
    if asked.at is not None and asked.device is None:
        raise click.UsageError("--at says where a device listens for a probe: say which with --device ID.")
    if asked.names_the_lead or _leads_only(place):
        return diagnosing_lead.diagnose(
            *(place, asked.watch, asked.device, asked.at, asked.means()), as_json=asked.as_json, ticket=asked.ticket
        )
    return _of_device(place, asked)


def _of_portal(place: Place, asked: Asked) -> int:
    from propagator.cli import diagnosing_portal  # noqa: PLC0415  HTTP is for who asks a portal

    if asked.names_a_server:
        raise click.UsageError("--portal goes with --portal-ca, --recheck, --json and --ticket alone.")
    wanted = diagnosing_portal.Wanted(asked.portal or None, asked.portal_ca, recheck=asked.recheck)
    return diagnosing_portal.diagnose(place, wanted, as_json=asked.as_json, ticket=asked.ticket)


def _leads_only(place: Place) -> bool:
    """Whether this server leads and follows nobody: known from its configuration, if there is one here."""
    named = place.config_file is not None or place.explicit_state_dir is None
    return named and place.found.exists and config.role(place.found.table) == "lead"


def _of_device(place: Place, asked: Asked) -> int:
    case = memory.case(place.state_dir) if asked.recheck else None
    if asked.recheck and case is None:
        click.echo("No case is open: what was diagnosed last went well, or nothing was.")
        return 0
    wanted = peer.load(place.state_dir, asked.target if case is None else case.target)
    needs_agent = not (asked.target or case or asked.idle or wanted.peer.is_complete)
    by_agent = _ask_agent(place) if needs_agent else None
    if by_agent is not None:
        return _tell_agents(by_agent, as_json=asked.as_json, ticket=asked.ticket)
    tell = quiet if asked.as_json else tell_step
    found = asyncio.run(diagnosis.diagnose(wanted, tell=tell, idle_s=asked.idle or 0.0))
    if asked.as_json:
        print_json(found.as_json())
    else:
        tell_verdict(found.verdict)
        tell_ticket(found.verdict, found.at, wanted=asked.ticket)
        if case is not None:
            tell_case(case, found.verdict)
    _keep_case(place, found, case)
    return 0 if found.verdict.is_fine else 1


AGENT_S: Final = 45.0
"""A diagnosis takes 20 s at most, and one of somebody else may be before."""


def _ask_agent(place: Place) -> JsonObject | None:
    """Let the agent diagnose: it may use the account that this user may not read. None without an agent."""
    reply = control.ask(place.state_dir, "diagnose", AGENT_S)
    told = None if reply is None else reply.get("diagnosis")
    return told if isinstance(told, dict) else None


def _tell_agents(told: JsonObject, *, as_json: bool, ticket: bool) -> int:
    """Tell what the agent found, as if it had been found here."""
    found = told.get("verdict")
    verdict = verdict_of(found if isinstance(found, dict) else {})
    if as_json:
        print_json(told)
        return 0 if verdict.is_fine else 1
    click.echo("The agent looked: this user may not read the account of this server.")
    stages = told.get("stages")
    for each in stages if isinstance(stages, list) else []:
        if isinstance(each, dict):
            tell_step(step_of(each))
    tell_verdict(verdict)
    tell_ticket(verdict, str(told.get("at")), wanted=ticket)
    return 0 if verdict.is_fine else 1


def _keep_case(place: Place, found: Diagnosis, case: memory.Case | None) -> None:
    """Remember what was no good, for `--recheck`; forget it once it is well."""
    verdict = found.verdict
    if verdict.is_fine:
        memory.keep_case(place.state_dir, None)
        return
    failed = next((where for where in found.targets if verdict.address is None or where[0] == verdict.address), None)
    memory.keep_case(place.state_dir, memory.opened(verdict, case, found.at, failed or found.targets[0]))
