"""`associate`, `rotate`, `take-over`: a lead that lost something, and what a person decides about it."""

from __future__ import annotations

import asyncio
import datetime as dt
import sys
from typing import TYPE_CHECKING, Final

import click

from propagator import control, files
from propagator.cli import Place, coding, ending, located, visible
from propagator.cli.configured import print_difference
from propagator.core import difference, moment
from propagator.core.errors import InputError, RefusedError, StateError
from propagator.rotate import rotate as renew
from propagator.store import connection

if TYPE_CHECKING:
    from pathlib import Path

    from propagator.core.difference import JsonObject
    from propagator.core.version import Version

ASK_S: Final = 10.0


def _agent(state_dir: Path, op: str, **members: str) -> JsonObject:
    """Let the agent do it. Raises StateError (no agent), RefusedError (it said no)."""
    answer = control.ask(state_dir, op, ASK_S, **members) if files.is_locked(state_dir) else None
    if answer is None:
        raise StateError("No agent runs here, and this goes through the agent.", hint="propagator run")
    if answer.get("ok") is not True:
        raise RefusedError(visible(str(answer.get("error"))), hint=visible(str(answer.get("hint") or "")))
    return answer


def _published(answer: JsonObject) -> str:
    version = answer.get("published")
    return "Saved; not yet published." if version is None else f"Published as version {visible(str(version))}."


@click.command(
    epilog=ending(
        {
            0: "the registration is this server's own again",
            1: "the field holds nothing of this lead; refused, with the reason; or you said no",
            2: "wrong usage; a question without a terminal and without --yes",
            3: "there is no state here; no agent runs, where shadows are asked",
        },
        [
            "propagator associate --from-field",
            "propagator associate --online https://portal.example",
            "propagator associate --code code.txt --yes",
        ],
    )
)
@click.option("--from-field", is_flag=True, help="Take the record that the shadows of this lead hold.")
@coding.options
@located
def associate(place: Place, from_field: bool, named: coding.Named) -> int:
    """Take an existing registration over under this server's new System ID.

    After the database of a server was deleted its registration is still at the portal, which associates the new System
    ID with it: --online asks for that, --code takes the code that the portal makes. The shadows of a lead still hold
    the record that it signed: --from-field takes the highest that verifies under the surviving identity key. Every
    shadow then follows.
    """
    if named.source(coding.Source.FIELD, is_given=from_field) is coding.Source.FIELD:
        return _from_field(place, yes=named.yes)
    return coding.from_portal(place, named, associates=True)


def _from_field(place: Place, *, yes: bool) -> int:
    answer = _agent(place.state_dir, "ask-field")
    found = answer.get("found")
    if not isinstance(found, dict):
        raise RefusedError(
            f"{answer.get('answered')} shadows answered, and none holds a record of this lead.",
            hint="wait until shadows are connected (propagator status); if none holds it: propagator register FILE,"
            " then propagator rotate",
        )
    click.echo(f"The field holds version {found['version']}, of the System ID {found['system_id']},", err=True)
    agree = f"{answer['agree']} of {answer['answered']} shadows agree"
    click.echo(f"issued {found['issued_at']}; {agree}:", err=True)
    registration = found.get("registration")
    print_difference(difference.between(None, registration if isinstance(registration, dict) else None), err=True)
    if not yes:
        if not sys.stdin.isatty():
            raise InputError("Associating asks first, and there is no terminal.", hint="add --yes")
        if not click.confirm("Proceed?", err=True):
            click.echo("Nothing was changed.", err=True)
            return 1
    click.echo(_published(_agent(place.state_dir, "associate", version=str(found["version"]))))
    return 0


@click.command(
    name="take-over",
    epilog=ending(
        {0: "this lead goes on, above the other", 1: "there is no second lead", 3: "no agent runs here"},
        ["propagator take-over", "propagator status && propagator take-over"],
    ),
)
@located
def take_over(place: Place) -> None:
    """Decide that this one of two leads under the same key goes on.

    Two copies of one machine both speak as this lead. Switch the other off first; then this one issues its record
    again, above whatever the other issued.
    """
    click.echo(_published(_agent(place.state_dir, "take-over")))


@click.command(
    epilog=ending(
        {0: "the signing key is renewed", 1: "this server is no lead", 3: "the identity key is not here"},
        ["propagator rotate", "propagator rotate --config /etc/propagator/propagator.toml"],
    )
)
@located
def rotate(place: Place) -> None:
    """Renew this lead's signing key, with the identity key; whatever the old one signs is refused from then on.

    Every shadow follows, also those that are off now. Do this when a signing key may have been copied.
    """

    async def act() -> Version:
        async with connection.opened(place.state_dir) as store:
            return await renew(store, place.state_dir, at=moment.write(dt.datetime.now(dt.UTC)))

    version = asyncio.run(act())
    running = files.is_locked(place.state_dir) and control.ask(place.state_dir, "poke", ASK_S) is not None
    published = "" if running else "; it is published when the agent runs (propagator run)"
    click.echo(f"The signing key is renewed: version {version}{published}.")
