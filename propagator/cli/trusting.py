"""`invite`, `revoke` at a lead; `attach`, `detach` at a device."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import random
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from propagator import config, control, files
from propagator import invite as inviting
from propagator.attach import Attaching, Preview
from propagator.attach import detach as detach_here
from propagator.bus import MqttBus
from propagator.cli import Place, ending, located, visible
from propagator.cli.configured import print_difference, wanted
from propagator.core import difference, moment, session, token
from propagator.core.errors import BusError, InputError
from propagator.core.token import Account
from propagator.following import Link, load_link
from propagator.shadow import Shadow
from propagator.store import connection, held

if TYPE_CHECKING:
    from propagator.core.token import Token
    from propagator.invite import Invited
    from propagator.store import Store

POKE_S: Final = 5.0
FAREWELL_S: Final = 3.0
SETTLE_S: Final = 5.0


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def _poke(state_dir: Path) -> bool:
    """Let a running agent look at the store again; False: none answers, or it takes that from its owner only."""
    return (control.ask(state_dir, "poke", POKE_S) or {}).get("ok") is True


@click.command(
    epilog=ending(
        {0: "the token is on stdout", 1: "this server is no lead, or the device is attached", 2: "wrong usage"},
        ["propagator invite plant-room-2", "propagator invite plant-room-2 --days 1 | ssh device propagator attach -"],
    )
)
@click.argument("device")
@click.option("--days", type=click.IntRange(1, 365), default=7, show_default=True, help="How long the token is valid.")
@click.option("--again", is_flag=True, help="Invite a device that is attached already.")
@click.option("--account", metavar="NAME", help="The device's account at an external broker.")
@click.option("--password-file", type=click.Path(path_type=Path), help="File with that account's password.")
@located
def invite(
    place: Place,
    device: str,
    days: int,
    again: bool,
    account: str | None,
    password_file: Path | None,
) -> None:
    """Make a token that lets DEVICE follow this lead.

    The token alone goes to stdout. It is a secret until it is used: hand it over like a password. On a terminal its QR
    picture is shown beside it.
    """
    name = config.parse_id(device)
    invited = asyncio.run(_invite(place, name, dt.timedelta(days=days), again, _account(account, password_file)))
    running = files.is_locked(place.state_dir) and _poke(place.state_dir)
    click.echo(invited.token)
    _talk_of(invited, name, running=running)


async def _invite(place: Place, device: str, valid: dt.timedelta, again: bool, account: Account | None) -> Invited:
    settled = wanted(place)
    async with connection.opened(settled.state_dir) as store:
        return await inviting.invite(store, settled, device, now=_now(), valid=valid, again=again, account=account)


def _account(name: str | None, password_file: Path | None) -> Account | None:
    if name is None and password_file is None:
        return None
    if name is None or password_file is None:
        raise InputError("An external account needs --account and --password-file.", hint="propagator invite --help")
    return Account(username=name, password=files.read_private(password_file).decode().strip())


def _talk_of(invited: Invited, device: str, *, running: bool) -> None:
    if not sys.stderr.isatty():
        return
    import segno  # noqa: PLC0415  only a terminal shows the picture

    segno.make(invited.token, error="l").terminal(out=sys.stderr, compact=True)
    click.echo(f"For {device}, at {', '.join(invited.addresses)}, until {invited.expires_at}.", err=True)
    if invited.replaced:
        click.echo("The earlier token of this device no longer works.", err=True)
    if not running:
        click.echo("It can be used once the agent runs: propagator run", err=True)
    click.echo("At the device: propagator attach TOKEN", err=True)


@click.command(
    epilog=ending(
        {0: "its key, account and session are ended", 1: "there is no such device", 3: "there is no state here"},
        ["propagator revoke plant-room-2", "propagator revoke plant-room-2 --config /etc/propagator/propagator.toml"],
    )
)
@click.argument("device")
@located
def revoke(place: Place, device: str) -> None:
    """End DEVICE's trust at this lead: its key, its account, its session and what it left at the broker."""
    settled = wanted(place)

    async def end() -> None:
        async with connection.opened(settled.state_dir) as store:
            await inviting.revoke(store, settled, device, at=moment.write(_now()))

    asyncio.run(end())
    click.echo(f"{visible(device)} is revoked.")
    if not (files.is_locked(settled.state_dir) and _poke(settled.state_dir)):
        click.echo(_NOT_YET if files.is_locked(settled.state_dir) else _NO_AGENT, err=True)
    if settled.downlink is not None and settled.downlink.external is not None:
        click.echo(f"Note: remove its account at {settled.downlink.external}, too: that is its operator's.", err=True)


_NO_AGENT: Final = "Note: no agent runs here; it takes effect at the broker when one starts."
_NOT_YET: Final = "Note: the agent was not told; it takes effect at the broker within 10 minutes, or at once as root."


@click.command(
    epilog=ending(
        {
            0: "this server follows the lead",
            1: "the token, or the lead, said no; or you did",
            2: "wrong usage; a question without a terminal and without --yes",
            3: "there is no state here",
        },
        ["propagator attach propagator1.eNq1…", "propagator attach - --yes < token.txt"],
    )
)
@click.argument("token_text", metavar="[TOKEN|FILE|-]", required=False)
@click.option("--yes", is_flag=True, help="Do not ask.")
@located
def attach(place: Place, token_text: str | None, yes: bool) -> int:
    """Follow the lead that made the token.

    Shows what the lead's registration will overwrite, and asks. What is overwritten is kept: `detach --restore` brings
    it back. The token is read from the command line, a file, stdin (-), or a prompt.
    """
    invitation = token.read(_token_text(token_text))
    if not yes and not sys.stdin.isatty():
        raise InputError("Attaching asks before it overwrites, and there is no terminal.", hint="add --yes")
    preview = asyncio.run(_attach(place.state_dir, invitation, yes=yes))
    if preview is None:
        click.echo("Nothing was changed.", err=True)
        return 1
    click.echo(f"Attached to {visible(preview.lead_name)} ({preview.lead}).")
    click.echo(_following(place.state_dir))
    return 0


def _token_text(given: str | None) -> str:
    if given is None:
        return str(click.prompt("Token", err=True)) if sys.stdin.isatty() else sys.stdin.read()
    if given == "-":
        return sys.stdin.read()
    with contextlib.suppress(OSError, ValueError):
        if not given.startswith(token.PREFIX) and Path(given).is_file():
            return Path(given).read_text(errors="replace")
    return given


async def _attach(state_dir: Path, invitation: Token, *, yes: bool) -> Preview | None:
    async with connection.opened(state_dir) as store:

        def confirm(preview: Preview) -> bool:
            _show(preview)
            return yes or click.confirm("Attach?", err=True)

        return await Attaching(store, invitation, state_dir, _now).run(confirm)


def _show(preview: Preview) -> None:
    """Show what would be overwritten, before → after."""
    click.echo(f"Lead: {visible(preview.lead_name)} ({preview.lead})", err=True)
    if preview.attached_to is not None:
        click.echo(f"This server follows {preview.attached_to} now; that ends.", err=True)
    theirs = None if preview.record is None else preview.record.registration
    ours = preview.local.registration
    if theirs is None:
        click.echo("The lead has no registration yet; this server keeps its own until it has.", err=True)
        return
    if preview.below:
        click.echo(
            f"{preview.below} server{'s' if preview.below > 1 else ''} below this one will change, too.", err=True
        )
    changes = difference.between(None if ours is None else ours.document, theirs.document)
    if not changes:
        click.echo("Both have the same registration.", err=True)
        return
    click.echo("Its registration overwrites this server's:", err=True)
    print_difference(changes, err=True)


def _following(state_dir: Path) -> str:
    """Wait a little for the agent to take the record over, and say how far it is."""
    if not (files.is_locked(state_dir) and _poke(state_dir)):
        return "It follows once its agent runs: propagator run"
    deadline_s = time.monotonic() + SETTLE_S
    state = "unknown"
    while time.monotonic() < deadline_s:
        answer = control.ask(state_dir, "live", 1.0)
        uplink = None if answer is None else answer.get("uplink")
        state = str(uplink["state"]) if isinstance(uplink, dict) else "unknown"
        if state != "unknown":
            return f"State: {state}."
        time.sleep(0.05)
    return f"State: {state}; look again with `propagator status`."


@click.command(
    epilog=ending(
        {0: "this server stands alone", 3: "it follows no lead, or there is no state here"},
        ["propagator detach", "propagator detach --restore"],
    )
)
@click.option("--restore", is_flag=True, help="Bring back what the lead's registration overwrote.")
@located
def detach(place: Place, restore: bool) -> None:
    """Stop following the lead.

    The last reflected registration stays, marked as detached; with --restore what it overwrote comes back.
    """
    restored = asyncio.run(_detach(place.state_dir, restore=restore))
    click.echo("This server follows no lead any more.")
    if restored is not None:
        click.echo(
            "What was overwritten is in force again." if restored.registration else "It has no registration, as before."
        )
    elif restore:
        click.echo("Nothing was overwritten since it was attached; its registration is as it was.")


async def _detach(state_dir: Path, *, restore: bool) -> held.LocalRecord | None:
    """Detach here, then let the lead know: through the agent, or by ourselves where none runs."""
    async with connection.opened(state_dir) as store:
        running = files.is_locked(state_dir)
        link = None if running else await _link(store, state_dir)
        restored = await detach_here(store, state_dir, restore=restore, at=moment.write(_now()))
        if running:
            _poke(state_dir)
        elif link is not None:
            await _farewell(store, link)
        return restored


async def _link(store: Store, state_dir: Path) -> Link | None:
    async with store.reading() as tx:
        server = await held.server(tx)
    return await load_link(store, state_dir, server, moment.write(_now()))


async def _farewell(store: Store, link: Link) -> None:
    rng = random.SystemRandom()
    async with store.transaction() as tx:
        begun = session.begin(time.time(), await held.last_session(tx), rng)
        await held.begin_session(tx, begun.number)
    shadow = Shadow(store, link.following, MqttBus(link.endpoint), begun, now=_now, rng=rng)
    try:
        async with asyncio.timeout(FAREWELL_S):
            await shadow.say_detached()
    except (BusError, TimeoutError):
        click.echo("Note: the lead could not be told; it shows this server as not connected.", err=True)
