"""The command `history`: what happened to the record, and which of it is asked for."""

from __future__ import annotations

import base64
import datetime as dt
import difflib
import re
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

import click

from propagator import snapshot
from propagator.cli import Place, ending, json_option, located, print_json
from propagator.config import quoted
from propagator.core import difference, moment, version
from propagator.core.errors import InputError
from propagator.core.state import Event, Origin
from propagator.snapshot import Wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from enum import StrEnum

    from propagator.core.difference import JsonObject, JsonValue
    from propagator.snapshot import Line


F = TypeVar("F", bound="Callable[..., object]")


class Span(NamedTuple):
    """The time that a person's words name, from its first moment to the first one after it."""

    start: dt.datetime
    end: dt.datetime


def _when(ctx: click.Context, _param: click.Parameter, value: str | None) -> Span | None:
    span = None if value is None else span_of(value, dt.datetime.now(dt.UTC))
    if value is not None and span is None:
        raise click.BadParameter(f"{quoted(value)} is no time. {_WRITTEN_LIKE}", ctx)
    return span


_WRITTEN_LIKE: Final = "Write a day (2026-11-24), a time in UTC (2026-11-24 11:20, or 11:20), or how long ago (2h, 3d)."
_AGO: Final = re.compile(r"(\d{1,6}) ?(s|min|m|h|d|w)(?: ago)?", re.ASCII)
_UNITS: Final = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_TIME: Final = re.compile(
    r"(?:(?P<day>\d{4}-\d\d-\d\d)[T ])?(?P<time>\d\d:\d\d(?P<s>:\d\d(?P<ms>\.\d{1,3})?)?)(?P<zone>Z|[+-]\d\d:\d\d)?",
    re.ASCII,
)


def span_of(text: str, now: dt.datetime) -> Span | None:
    """Read a day, a time or how long ago; None for anything else. A time alone is the last such one."""
    try:
        if (ago := _AGO.fullmatch(text)) is not None:
            then = now - dt.timedelta(seconds=int(ago[1]) * _UNITS[ago[2]])
            return Span(then, then)
        if _DAY.fullmatch(text):
            day = dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)
            return Span(day, day + dt.timedelta(days=1))
        written = _TIME.fullmatch(text)
        return None if written is None else _time_of(written, now)
    except (ValueError, OverflowError):  # the 30th of February, the hour 25, before the year 1
        return None


def _time_of(written: re.Match[str], now: dt.datetime) -> Span:
    zone = dt.datetime.fromisoformat(f"2000-01-01T00:00{written['zone'] or 'Z'}").tzinfo
    day = written["day"] or f"{now.astimezone(zone):%Y-%m-%d}"
    start = dt.datetime.fromisoformat(f"{day}T{written['time']}").replace(tzinfo=zone)
    if written["day"] is None and start > now:
        start -= dt.timedelta(days=1)
    step = dt.timedelta(milliseconds=1) if written["ms"] else dt.timedelta(seconds=1 if written["s"] else 60)
    first = start.astimezone(dt.UTC)
    return Span(first, first + step)


def _complete_field(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    return [path for path in _known_fields() if path.startswith(incomplete)]


def _version(ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    if value is not None and version.parse(value) is None:
        text = f"{quoted(value)} is no version; `propagator history` shows them, like 1.4.k7f3q2.41."
        raise click.BadParameter(text, ctx)
    return value


def _one_of(option: str, name: str, words: type[StrEnum], text: str) -> Callable[[F], F]:
    known = [word.value for word in words]
    said = f"{text}; may be repeated: {', '.join(known)}."
    return click.option(option, name, type=click.Choice(known), multiple=True, metavar="WORD", help=said)


@click.command(
    epilog=ending(
        {
            0: "it is shown; or nothing is like that",
            2: "wrong usage",
            3: "there is no state here, or it cannot be read",
        },
        [
            "propagator history --since 2h",
            "propagator history --field site.name -n 1",
            "propagator history --since 2026-11-24 --until 2026-11-26 --event overwritten --json",
        ],
    )
)
@json_option
@click.option("-n", "--limit", type=click.IntRange(min=1), metavar="N", help="At most N events.")
@click.option("--since", callback=_when, metavar="WHEN", help="From then on: 2026-11-24, 11:20, 2h, 3d.")
@click.option("--until", callback=_when, metavar="WHEN", help="Up to then; a day or a minute is meant whole.")
@_one_of("--event", "events", Event, "Only these")
@_one_of("--origin", "origins", Origin, "Only what came in force from there")
@click.option(
    "--field", shell_complete=_complete_field, metavar="PATH", help="Only what changed this field: site.name, address."
)
@click.option("--version", "wanted_version", metavar="VERSION", callback=_version, help="Only this version.")
@located
def history(
    place: Place,
    as_json: bool,
    limit: int | None,
    since: Span | None,
    until: Span | None,
    events: tuple[str, ...],
    origins: tuple[str, ...],
    field: str | None,
    wanted_version: str | None,
) -> None:
    """Show what happened to the record, newest first, and what each event changed.

    Nothing that was overwritten is lost: --json shows the whole registration before and after, and the signed bytes.
    Options add up: an event is shown that fits them all. Times are in UTC, as they are shown.
    """
    if since is not None and until is not None and until.end <= since.start:
        raise click.UsageError("--until is before --since, so nothing lies between them; exchange the two.")
    wanted = Wanted(
        since=None if since is None else moment.write(since.start),
        before=None if until is None else moment.write(until.end),
        events=events,
        origins=origins,
        version=wanted_version,
        field=field,
    )
    lines = snapshot.history(place.state_dir, limit, wanted)
    if not lines and field is not None:
        _hold_field(field, snapshot.history(place.state_dir))
    if as_json:
        print_json([_line(line) for line in lines])
    elif not lines:
        click.echo(_NOTHING if wanted == Wanted() else "Nothing in the history is like that.")
    else:
        from propagator.cli import drawing  # noqa: PLC0415  rich is for tables alone

        click.echo(drawing.draw(drawing.history(lines, dt.datetime.now(dt.UTC))), color=True)


_NOTHING: Final = "Nothing has happened to the record yet."


def _hold_field(field: str, lines: tuple[Line, ...]) -> None:
    """Tell a field that never changed from one that there is not. Raises InputError for the latter."""
    known = {*_known_fields(), *(path for line in lines for path in _fields_of(line))}
    groups = {path[: dot.start()] for path in known for dot in re.finditer(r"\.", path)}
    if field in known | groups:
        return
    near = difflib.get_close_matches(field, sorted(known | groups), n=1)
    meant = f"did you mean {near[0]}?" if near else "`propagator record --json` shows the names."
    raise InputError(f"A registration has no field {quoted(field)}; {meant}", hint="propagator history --help")


def _fields_of(line: Line) -> Iterator[str]:
    for whole in (line.before, line.after):
        yield from (change.path for change in difference.between(None, whole))


def _known_fields() -> tuple[str, ...]:
    from propagator.core import registration  # noqa: PLC0415  the models take longer to load than the answer

    return registration.field_paths()


def _line(line: Line) -> Mapping[str, JsonValue]:
    changes: list[JsonValue] = [
        {"path": change.path, "before": change.before, "after": change.after}
        for change in difference.between(line.before, line.after)
    ]
    told: JsonObject = {
        "at": line.at,
        "event": line.event,
        "origin": line.origin,
        "lead": line.lead,
        "version": line.version,
        "fingerprint": line.fingerprint,
        "detail": line.detail,
        "changes": changes,
        "before": line.before,
        "after": line.after,
        "replaced": line.replaced,
    }
    return {**told, "raw": None if line.raw is None else _signed(line.raw)}


def _signed(raw: bytes) -> str:
    """Give signed bytes as text: what is signed is ASCII; what is not was damaged, and is given as base64."""
    return raw.decode() if raw.isascii() else f"base64:{base64.b64encode(raw).decode()}"
