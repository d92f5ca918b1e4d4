"""`register`: give a server a registration of its own; a lead publishes it."""

from __future__ import annotations

import asyncio
import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING

import click

from propagator import register as registering
from propagator.cli import Place, coding, ending, located
from propagator.cli.configured import print_difference
from propagator.cli.outcome import ATTACHABLE, outcome
from propagator.core import difference, moment
from propagator.register import Registered, read_file
from propagator.store import connection

if TYPE_CHECKING:
    from propagator.core.registration import Registration


@click.command(
    name="register",
    epilog=ending(
        {
            0: "the registration is in force here (and published, or will be when the agent runs)",
            1: "refused, with the reason (a shadow, another System ID, a typing error, …), or you said no",
            2: "wrong usage, or the file is no registration; a question without a terminal and without --yes",
            3: "there is no state here",
        },
        [
            "propagator register registration.toml",
            "propagator register --online https://portal.example",
            "propagator register --code code.png --yes",
            "propagator record --json > r.json && propagator register r.json",
        ],
    ),
)
@click.argument("file", type=click.Path(path_type=Path), required=False)
@coding.options
@located
def register(place: Place, file: Path | None, named: coding.Named) -> int:
    """Give this server a registration: from FILE (TOML or JSON), or from a Registration Portal.

    Where this server can reach the portal, --online asks it, and later changes there come by themselves. Where it
    cannot, the portal makes a Registration code for this server's System ID (propagator status shows it), and --code
    takes it. A lead publishes what it got to its shadows. Where something is wrong, nothing is changed.
    """
    source = named.source(coding.Source.FILE, is_given=file is not None)
    if source is coding.Source.FILE and file is not None:
        return _from_file(place, file)
    return coding.from_portal(place, named, associates=False)


def _from_file(place: Place, file: Path) -> int:
    content = read_file(file)
    registered = asyncio.run(_register(place.state_dir, content))
    changes = difference.between(None if registered.before is None else registered.before.document, content.document)
    if not registered.changed:
        click.echo("This registration is in force already; nothing was changed.")
        return 0
    print_difference(changes)
    click.echo(outcome(place.state_dir, leads=registered.leads))
    if registered.may_be_attached:
        click.echo(ATTACHABLE, err=True)
    return 0


async def _register(state_dir: Path, content: Registration) -> Registered:
    async with connection.opened(state_dir) as store:
        return await registering.register(store, content, at=moment.write(dt.datetime.now(dt.UTC)))
