"""What a portal signed, entered by a person: shown, asked about, put in force; by code and online alike."""

from __future__ import annotations

import asyncio
import datetime as dt
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import click

from propagator import control, files, status
from propagator import register as registering
from propagator.cli import Place, visible
from propagator.cli.configured import print_difference
from propagator.cli.outcome import ATTACHABLE, outcome
from propagator.core import difference
from propagator.core.errors import InputError, RefusedError, StateError
from propagator.core.statement import Refusal, StatementReason, grouped
from propagator.store import connection

if TYPE_CHECKING:
    from pathlib import Path

    from propagator.core.difference import JsonObject
    from propagator.core.registration import Registration
    from propagator.core.statement import Proven, Statement
    from propagator.entering import Entered, Offer

ASSOCIATE_S: Final = 30.0
"""The agent asks every shadow, and may have to renew its key."""


def enter(place: Place, offer: Offer, *, yes: bool) -> int:
    """Put an offer in force as a person decides; gives the exit code of the command.

    Raises RefusedError, with the reason, for what does not count here; InputError where a question needs a terminal.
    """
    proven, offer, before, is_lost = asyncio.run(_looked(place.state_dir, offer))
    _show(proven.statement, before)
    if not yes and not _agreed("Proceed?", "This asks first", "add --yes"):
        click.echo("Nothing was changed.", err=True)
        return 1
    if is_lost:
        click.echo(_associated(place.state_dir, offer))
    else:
        _tell(place.state_dir, asyncio.run(_entered(place.state_dir, offer)))
    _tell_invitations(place.state_dir)
    return 0


async def _looked(state_dir: Path, offer: Offer) -> tuple[Proven, Offer, Registration | None, bool]:
    """Judge an offer before anything is asked; an unknown portal may be trusted at the terminal."""
    async with connection.opened(state_dir) as store:
        told = await registering.look(store, offer, _now())
        if isinstance(told.judged, Refusal) and told.judged.reason is StatementReason.UNKNOWN_PORTAL:
            offer = replace(offer, trusted=_trusted(told.judged))
            told = await registering.look(store, offer, _now())
        if isinstance(told.judged, Refusal):
            raise _refused(told.judged)
        return told.judged, offer, told.before, told.is_lost


async def _entered(state_dir: Path, offer: Offer) -> Entered:
    async with connection.opened(state_dir) as store:
        entered = await registering.accept(store, offer, _now())
    if isinstance(entered, Refusal):
        raise _refused(entered)
    return entered


def _refused(refusal: Refusal) -> RefusedError:
    return RefusedError(f"Refused ({refusal.reason}). {visible(refusal.text)}", hint=refusal.hint)


def _trusted(refusal: Refusal) -> str | None:
    """Ask whether a portal is to be trusted; None, which leaves it refused, if nobody can be asked or says no."""
    if refusal.kid is None or not sys.stdin.isatty():
        return None
    click.echo(f"Signed by a portal that this server does not know: {visible(refusal.portal or '')}, key", err=True)
    click.echo(f"  {grouped(refusal.kid)}", err=True)
    click.echo("Compare it with the one that the portal shows on its page /key.", err=True)
    return refusal.kid if click.confirm("Trust this portal from now on?", err=True) else None


def _agreed(question: str, otherwise: str, hint: str) -> bool:
    if not sys.stdin.isatty():
        raise InputError(f"{otherwise}, and there is no terminal.", hint=hint)
    return click.confirm(question, err=True)


def _show(said: Statement, before: Registration | None) -> None:
    """Show what is offered: for which System ID, from where, and what it would change."""
    click.echo(f"Registered system {said.system}, edition {said.edition}, for the System ID {said.system_id}", err=True)
    if said.replaces is not None:
        click.echo(f"It takes the place of the System ID {said.replaces}.", err=True)
    after = said.registration
    if after is None:
        click.echo("The registration was withdrawn at the portal.", err=True)
    changes = difference.between(None if before is None else before.document, None if after is None else after.document)
    print_difference(changes, err=True)


def _tell(state_dir: Path, entered: Entered) -> None:
    if not entered.changed:
        click.echo("This registration is in force already; nothing was changed.")
        return
    click.echo(outcome(state_dir, leads=entered.leads))
    if entered.may_be_attached:
        click.echo(ATTACHABLE, err=True)


# A lead that lost its record.


def _associated(state_dir: Path, offer: Offer) -> str:
    """Let the agent of a lost lead take the registration over, above whatever its shadows hold."""
    answer = control.ask(state_dir, "enter", ASSOCIATE_S, **_members(offer)) if files.is_locked(state_dir) else None
    if answer is None:
        raise StateError(
            "No agent runs here, and a lead that lost its record asks its shadows first.", hint="propagator run"
        )
    if answer.get("ok") is not True:
        raise RefusedError(visible(str(answer.get("error"))), hint=visible(str(answer.get("hint") or "")))
    return _above(answer)


def _members(offer: Offer) -> dict[str, str | None]:
    said = {"statement": offer.raw.decode(), "origin": offer.origin.value, "trusted": offer.trusted}
    return said if offer.access is None else {**said, "url": offer.access.url, "token": offer.access.token}


def _above(answer: JsonObject) -> str:
    version = answer.get("published")
    done = "Saved; not yet published." if version is None else f"Published as version {visible(str(version))}."
    if answer.get("renewed") is True:
        return f"No shadow answered, so the signing key was renewed: whatever they hold is below. {done}"
    return f"{answer.get('answered')} shadows answered; the highest that they hold is {answer.get('above')}. {done}"


def _tell_invitations(state_dir: Path) -> None:
    """Name the shadows that trust an identity key which this lead has no more (docs/decisions/0011)."""
    downlink = status.read(state_dir, _now()).downlink
    commands = [] if downlink is None else [row.invite for row in downlink.roster if row.invite is not None]
    if commands:
        click.echo("These devices trust another identity key, and hear nothing of this. For each of them:", err=True)
        for command in commands:
            click.echo(f"  {visible(command)}", err=True)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
