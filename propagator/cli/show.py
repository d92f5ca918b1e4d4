"""The commands that only look: `status` and `record`. They need neither the agent nor the broker.

What they load is light, so that they answer at once on a small device; `drawing` and rich come only with a table.
"""

from __future__ import annotations

import datetime as dt
import sys
import time
from typing import TYPE_CHECKING, Final

import click

from propagator import snapshot
from propagator import status as statuses
from propagator.cli import Place, ending, json_option, located, print_json
from propagator.core import view as views
from propagator.core.errors import InputError, StateError, StoreError
from propagator.core.view.problems import Problem

if TYPE_CHECKING:
    from rich.console import RenderableType

WATCH_PERIOD_S: Final = 1.0

_NO_STATE: Final = "there is no state here, or it cannot be read"


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


@click.command(
    epilog=ending(
        {0: "all is well", 1: "a problem was found: it stands below the table", 2: "wrong usage", 3: _NO_STATE},
        ["propagator status", "propagator status --json | jq .verdict"],
    )
)
@json_option
@click.option("--watch", is_flag=True, help="Look again every second, until Ctrl-C.")
@located
def status(place: Place, as_json: bool, watch: bool) -> int:
    """Show how this server and its links stand.

    A lead shows its shadows. "Online" and "holds the registration" are two facts: a shadow can be online while
    something keeps the registration from it.
    """
    if watch:
        return _watch(place, as_json=as_json)
    if as_json:
        return _print_status(place)
    from propagator.cli import drawing  # noqa: PLC0415  rich is for tables alone

    value = _read(place)
    click.echo(drawing.draw(drawing.status(value)), color=True)
    return value.exit_code


def _read(place: Place) -> views.Status:
    return statuses.read(place.state_dir, _now(), heartbeat_s=_heartbeat_s(place))


def _heartbeat_s(place: Place) -> float:
    """Return the period of this server's own downlink; where only `--state-dir` is given no file need be there."""
    try:
        table = place.found.table.get("downlink")
    except InputError:
        if place.config_file is not None or place.explicit_state_dir is None:
            raise
        return _HEARTBEAT_S
    period = table.get("heartbeat_s") if isinstance(table, dict) else None
    return float(period) if isinstance(period, int | float) and period > 0 else _HEARTBEAT_S


_HEARTBEAT_S: Final = 60.0


def _print_status(place: Place) -> int:
    """Print the JSON; also where nothing can be read, so that a script always has a verdict."""
    try:
        value = _read(place)
    except (StateError, StoreError) as error:
        print_json(views.cannot_tell(str(error), error.hint, _now()))
        raise
    print_json(value.as_json())
    return value.exit_code


def _watch(place: Place, *, as_json: bool) -> int:
    if as_json or not sys.stdout.isatty():
        raise click.UsageError("--watch draws on a terminal; without one, or with --json, leave it out.")
    from rich.live import Live  # noqa: PLC0415  as above

    from propagator.cli import drawing  # noqa: PLC0415  as above

    code = 0
    try:
        screen = drawing.console()
        with Live(console=screen, auto_refresh=False) as live:
            while True:
                picture, code = _picture(place, screen.height)
                live.update(picture, refresh=True)
                time.sleep(WATCH_PERIOD_S)
    except KeyboardInterrupt:
        return code


_FACTS_LINES: Final = 14
"""Lines above the roster of a lead, about; each row takes one or two."""


def _picture(place: Place, height: int) -> tuple[RenderableType, int]:
    """Draw the status as far as it fits; a state that cannot be read now may be readable in a second."""
    from propagator.cli import drawing  # noqa: PLC0415  as above

    try:
        value = _read(place)
    except (StateError, StoreError) as error:
        return drawing.trouble(Problem(str(error), error.hint)), error.exit_code
    room = height - _FACTS_LINES - 3 * len(value.problems)  # what is wrong stands below the roster, and shall be seen
    return drawing.status(value, most=max(room // 2, 3)), value.exit_code


@click.command(
    epilog=ending(
        {0: "it is shown", 1: "there is no registration, or what is stored is damaged", 2: "wrong usage", 3: _NO_STATE},
        ["propagator record", "propagator record --json > registration.json"],
    )
)
@json_option
@located
def record(place: Place, as_json: bool) -> int:
    """Show the registration that applies to this server, and where it came from."""
    value = statuses.record(snapshot.read(place.state_dir))
    if as_json:
        print_json(None if value is None else views.plain(value))
    elif value is None:
        click.echo("This server has no registration.")
        click.echo("Try: propagator register FILE, or follow a lead: propagator attach TOKEN", err=True)
    else:
        from propagator.cli import drawing  # noqa: PLC0415  as above

        click.echo(drawing.draw(drawing.record(value, _now())), color=True)
    if value is not None and value.damaged:
        click.echo(
            "Problem: The stored registration was damaged: its hash is not the one it was stored with.", err=True
        )
        click.echo("Try: propagator status", err=True)
    return 1 if value is None or value.damaged else 0
