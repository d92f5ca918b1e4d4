"""`init` and `run`: begin a server's state, and be its agent."""

from __future__ import annotations

import datetime as dt
import socket
import sys
from typing import TYPE_CHECKING, Literal

import click

from propagator import agent, config, initialise, log, settings
from propagator.cli import Place, ending, located
from propagator.cli.configured import configuration_path, wanted
from propagator.core.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from propagator.initialise import Begun
    from propagator.settings import Kind

Role = Literal["lead", "shadow", "standalone", "relay"]
KINDS = ("enterprise-central", "enterprise-server", "server-device")


@click.command(
    epilog=ending(
        {0: "the state is made", 2: "wrong options, or there is such a state already; nothing was overwritten"},
        [
            "propagator init --role lead --id es-1 --name 'Enterprise Server'",
            "propagator init --role shadow --id plant-room-2",
        ],
    )
)
@click.option("--role", required=True, type=click.Choice(["lead", "shadow", "standalone", "relay"]), help="Its links.")
@click.option("--id", "server_id", metavar="ID", help="This server's id for good; without it, one is proposed.")
@click.option("--name", default="", help="Its name for people; else the id.")
@click.option("--kind", type=click.Choice(KINDS), help="What it is; else what the role suggests.")
@click.option("--listen", metavar="HOST:PORT", default="[::]:8883", show_default=True, help="Where a lead listens.")
@located
def init(place: Place, role: Role, server_id: str | None, name: str, kind: Kind | None, listen: str) -> None:
    """Make this server's configuration, keys and state.

    The configuration is written with every key and a comment on each. A lead gets its two keys, a private CA and a
    first signed record without a registration. On existing state with the same id the missing link is added.
    """
    path = configuration_path(place)
    state_dir = place.explicit_state_dir or (place.state_dir if path.exists() else config.DEFAULT_STATE_DIR)
    text = _config_text(path, role, server_id, name, kind, state_dir.absolute(), listen)
    _tell_begun(initialise.initialise(path, text, dt.datetime.now(dt.UTC)), role)


def _config_text(
    path: Path, role: Role, server_id: str | None, name: str, kind: Kind | None, state_dir: Path, listen: str
) -> str:
    """Give the configuration: the one that is there, with the link that it lacks, or a new one."""
    if not path.exists():
        chosen = server_id or _ask_id()
        return settings.render(role=role, server_id=chosen, name=name, kind=kind, state_dir=state_dir, listen=listen)
    content = path.read_bytes()
    table = config.parse_toml(content, path)
    known = settings.load(config.Found(path, table, exists=True))
    if server_id is not None and server_id != known.server.id:
        raise InputError(
            f"{path} is the configuration of {known.server.id!r}, not of {server_id!r}.",
            hint="name another file with --config",
        )
    text = content.decode("utf-8-sig")
    if role in {"lead", "relay"} and known.downlink is None:
        text += f"\n{settings.render_link('downlink', listen=listen)}\n"
    if role in {"shadow", "relay"} and known.uplink is None:
        text += f"\n{settings.render_link('uplink')}\n"
    return text


def _ask_id() -> str:
    proposal = initialise.propose_id(socket.gethostname())
    if not sys.stdin.isatty():
        raise InputError("This server needs an id.", hint=f"--id {proposal}")
    return str(click.prompt("Id of this server", default=proposal, err=True))


def _tell_begun(begun: Begun, role: Role) -> None:
    where = begun.settings.state_dir
    click.echo(f"{begun.settings.server.id} is a {role}." if role != "standalone" else "This server stands alone.")
    click.echo(f"  configuration  {begun.config_path}{'' if begun.wrote_config else ' (as it was)'}")
    click.echo(f"  state          {where}")
    click.echo(f"  System ID      {begun.system_id}")
    if begun.is_lost:
        click.echo("  This lead lost its database: it publishes no record until it is associated again.", err=True)
    if begun.devices:
        click.echo("  This lead has new keys, which no device trusts yet. For each of them:", err=True)
        for device in begun.devices:
            click.echo(f"    propagator invite {device} --again", err=True)
    following = {
        "lead": "propagator run, then: propagator register FILE, propagator invite DEVICE",
        "relay": "propagator run, then: propagator attach TOKEN, propagator invite DEVICE",
        "shadow": "propagator run, then: propagator attach TOKEN (from the lead's `propagator invite`)",
        "standalone": "propagator register FILE",
    }
    click.echo(f"Next: {following.get(role, 'propagator run')}", err=True)


@click.command(
    epilog=ending(
        {
            0: "it was told to stop",
            1: "it cannot serve (another agent runs, a port is taken)",
            2: "the configuration is wrong",
            3: "there is no state here",
        },
        ["propagator run", "propagator run --config /etc/propagator/propagator.toml"],
    )
)
@located
def run(place: Place) -> None:
    """Run the agent in the foreground.

    SIGTERM or Ctrl-C ends it: it says goodbye to its links and stops its broker. systemd starts this.
    """
    settled = wanted(place)
    log.configure(settled.log.level, settled.log.format)
    agent.run(settled)
