"""`register --online` and `associate --online`: a person approves this server at the Registration Portal.

Nothing of this server changes before the portal's statement is verified: whoever says no, or presses Ctrl-C, leaves
everything as it was.
"""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click

from propagator import config, control, entering, settings
from propagator.cli import Place, visible
from propagator.cli.entering import enter
from propagator.core.errors import InputError, RefusedError
from propagator.core.state import Origin
from propagator.core.statement import grouped
from propagator.enrol import device
from propagator.enrol.device import Asked, No, Purpose
from propagator.enrol.way import keep_ca, way_to
from propagator.store import connection, held, portals

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import RenderableType

    from propagator.enrol.way import Way
    from propagator.enrol.words import About, Begun, Token

POKE_S: Final = 5.0


def enrol(place: Place, url: str, *, trusted: str | None, portal_ca: Path | None, yes: bool, associates: bool) -> int:
    """Let a person approve this server at the portal of `url`, and take what it signs; gives the exit code.

    `trusted` is the thumbprint that `--portal-key` named. Raises PortalError for the way to it, RefusedError where
    somebody says no or time runs out, InputError for a portal that nobody vouches for.
    """
    way = way_to(config.parse_portal(url), _table(place), place.state_dir, portal_ca)
    try:
        return _enrol(place, way, trusted, portal_ca, yes=yes, associates=associates)
    except KeyboardInterrupt:
        click.echo("Nothing was changed.", err=True)
        raise


def _enrol(place: Place, way: Way, trusted: str | None, portal_ca: Path | None, *, yes: bool, associates: bool) -> int:
    asked, known = asyncio.run(_fit(place.state_dir, associates=associates))
    about = asyncio.run(device.about(way))
    key = _vouched(about, known, trusted)
    if associates and not yes and not _agreed(asked):
        click.echo("Nothing was changed.", err=True)
        return 1
    token = asyncio.run(_approved(way, asked, about))
    access = entering.Access(str(way.portal), token.access_token)
    offer = entering.Offer(token.statement.encode(), Origin.PORTAL, key, associates=associates, access=access)
    code = enter(place, offer, yes=True)  # a person approved it at the portal
    keep_ca(place.state_dir, way, portal_ca)
    control.ask(place.state_dir, "poke", POKE_S)  # with the CA at hand, it asks for later editions
    return code


def _table(place: Place) -> settings.PortalTable:
    return settings.load(place.found).portal if place.found.exists else settings.PortalTable()


async def _fit(state_dir: Path, *, associates: bool) -> tuple[Asked, str | None]:
    """Say who asks, and which portal is trusted. Raises RefusedError where this server may not, before anybody is."""
    async with connection.opened(state_dir) as store, store.reading() as tx:
        await entering.hold_open(tx, associates=associates)
        server, known = await held.server(tx), await portals.portal(tx)
    purpose = Purpose.ASSOCIATE if associates else Purpose.REGISTER
    return Asked(server.system_id, server.name, server.kind, purpose), None if known is None else known.key


def _vouched(about: About, known: str | None, trusted: str | None) -> str:
    """Give the key to trust: the one known here or named by the person, or one that the person says yes to."""
    key = about.thumbprint
    if trusted is not None and key != trusted:
        raise RefusedError(
            f"{visible(about.name)} signs with another key than the one that --portal-key names: {grouped(key)}.",
            hint="compare the key with the one that the portal shows on its page /key; somebody may be in between",
        )
    if key in {known, trusted}:
        return key
    click.echo(f"The portal calls itself {visible(about.name)}, and this server does not know its key:", err=True)
    click.echo(f"  {grouped(key)}", err=True)
    click.echo("Compare it with the one that the portal shows on its page /key.", err=True)
    if known is not None:
        click.echo(f"Until now this server trusts another portal, with the key\n  {grouped(known)}", err=True)
    if not sys.stdin.isatty():
        raise InputError("Trusting a portal is asked about, and there is no terminal.", hint="add --portal-key with it")
    if not click.confirm("Trust this portal from now on?", err=True):
        raise RefusedError("The portal is not trusted; nothing was changed.", hint="ask whoever runs the portal")
    return key


def _agreed(asked: Asked) -> bool:
    """Ask whether this server's System ID is to take an existing registration over (R12: Proceed or Cancel)."""
    if not sys.stdin.isatty():
        raise InputError("Associating asks first, and there is no terminal.", hint="add --yes")
    click.echo(f"The System ID {asked.system_id} takes the place of the one that holds the registration now.", err=True)
    return click.confirm("Proceed?", err=True)


async def _approved(way: Way, asked: Asked, about: About) -> Token:
    begun = await device.begin(way, asked)
    _invite(begun, about, asked)
    waiting = _Waiting(time.monotonic() + begun.expires_in)
    with waiting.shown():
        token = await device.wait(way, begun, waiting.tell)
    again = f"propagator {asked.purpose} --online {way.portal}"
    match token:
        case No.DENIED:
            raise RefusedError("The person at the portal refused this server; nothing was changed.", hint=again)
        case No.EXPIRED:
            minutes = round(begun.expires_in / 60)
            raise RefusedError(
                f"Nobody approved this server within {minutes} minutes; nothing was changed.", hint=again
            )
        case _:
            return token


def _invite(begun: Begun, about: About, asked: Asked) -> None:
    """Say where to go and what to enter there; nothing is opened by itself."""
    click.echo(f"To {asked.purpose} the System ID {asked.system_id} at {visible(about.name)}:", err=True)
    click.echo(f"  open   {visible(begun.verification_uri)}", err=True)
    click.echo(f"  enter  {begun.user_code}", err=True)
    complete = begun.verification_uri_complete
    if complete is not None and sys.stderr.isatty():
        import segno  # noqa: PLC0415  only a terminal shows a picture

        click.echo("or scan:", err=True)
        segno.make(complete, micro=False).terminal(sys.stderr, border=2, compact=True)


@dataclass(slots=True)
class _Waiting:
    """What is shown while a person decides: a spinner and the time left; lines where there is no terminal."""

    until_s: float
    trouble: str = ""

    def tell(self, trouble: str) -> None:
        """Tell of trouble on the way to the portal, and of its end."""
        if trouble != self.trouble and not sys.stderr.isatty():
            click.echo(visible(f"{trouble} Asking again." if trouble else "The portal answers again."), err=True)
        self.trouble = trouble

    def shown(self) -> AbstractContextManager[object]:
        """Show it for the length of a block."""
        if not sys.stderr.isatty():
            minutes = round((self.until_s - time.monotonic()) / 60)
            click.echo(
                f"Waiting for approval, {minutes} minutes at most; Ctrl-C ends it and changes nothing.", err=True
            )
            return nullcontext()
        from rich.console import Console  # noqa: PLC0415  only a terminal shows it
        from rich.live import Live  # noqa: PLC0415  as above
        from rich.spinner import Spinner  # noqa: PLC0415  as above

        spinner = Spinner("dots")

        def drawn() -> RenderableType:
            left_s = max(0, round(self.until_s - time.monotonic()))
            told = f"; {visible(self.trouble)}" if self.trouble else ""
            spinner.update(text=f"Waiting for approval, {left_s // 60}:{left_s % 60:02} left{told}")
            return spinner

        return Live(get_renderable=drawn, console=Console(stderr=True), transient=True, refresh_per_second=4)
