"""What `status`, `record` and `history` look like to a person: values of `view` and `snapshot` made rich tables.

Text from elsewhere goes in as `Text`, never as markup, with its control characters written out. Everything is readable
at 80 columns and without colour. Only a command that draws loads this module: rich takes longer than the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from propagator.cli import visible
from propagator.core import difference
from propagator.core.state import DownlinkState, State, read_word
from propagator.core.view import problems

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator

    from rich.console import RenderableType

    from propagator.core.difference import JsonObject
    from propagator.core.view import Downlink, Portal, Record, Row, Status, Uplink
    from propagator.core.view.problems import Problem
    from propagator.snapshot import Line


def console() -> Console:
    """Give the console of stdout: colours on a terminal only, nothing read into the text."""
    return Console(markup=False, highlight=False, emoji=False, soft_wrap=False)


def draw(picture: RenderableType) -> str:
    """Return a picture as text for stdout, without blanks at the ends of lines."""
    screen = console()
    with screen.capture() as captured:
        screen.print(picture)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def plain(text: str) -> str:
    """Return a text from elsewhere as one harmless line."""
    return visible(text).replace("\n", "\\n")


# The status.


def status(value: Status, most: int | None = None) -> RenderableType:
    """Draw the status: facts, the roster of a lead (of it `most` rows), and what is wrong with what to try."""
    verdict = Text(value.verdict, style="bold green" if value.verdict == "ok" else "bold red")
    parts: list[RenderableType] = [Text.assemble((_named(value.server.name, value.server.id), "bold"), ": ", verdict)]
    parts.append(facts(_of_status(value)))
    if value.downlink is not None and value.downlink.roster:
        parts += [Text(), _roster(value.downlink, value.at, most)]
    for problem in value.problems:
        parts += [Text(), trouble(problem)]
    return Group(*parts)


def trouble(problem: Problem) -> Text:
    """Draw one cause with the one thing to try."""
    return Text.assemble(
        ("Problem: ", "bold red"), plain(problem.text), "\n", ("Try: ", "bold"), plain(problem.hint), overflow="fold"
    )


def _of_status(value: Status) -> Iterator[tuple[str, str]]:
    server, agent = value.server, value.agent
    yield "Role", f"{value.role}, {plain(server.kind)}"
    yield "System ID", plain(server.system_id)
    if agent.running:
        known = [
            f"process {agent.pid}" if agent.pid else "",
            f"version {plain(agent.version)}" if agent.version else "",
        ]
        details = ", ".join(filter(None, [*known, "" if agent.answers else "does not answer"]))
        yield "Agent", f"running since {at(agent.since, value.at)}\n{details}"
    else:
        yield "Agent", "not running"
    yield "Record", "none" if value.record is None else "\n".join(_of_record(value.record, value.at))
    if value.portal is not None:
        yield "Portal", _of_portal(value.portal, value.at)
    if value.uplink is not None:
        yield "Uplink", "\n".join(_of_uplink(value.uplink, value.at))
    if value.downlink is not None:
        yield "Downlink", "\n".join(_of_downlink(value.downlink, value.at))
        yield "Shadows", _of_shadows(value.downlink.shadows)


def _of_record(record: Record, now: dt.datetime) -> Iterator[str]:
    site = record.registration.get("site") if record.registration else None
    names = [str(site[key]) for key in ("name", "company") if key in site] if isinstance(site, dict) else []
    yield plain(", ".join(names)) or "a registration without a name"
    version = "not published yet" if record.pending else f"version {plain(record.version)}" if record.version else ""
    yield ", ".join(filter(None, [_origin(record), version]))
    yield f"stored {at(record.stored_at, now)}"
    if record.detached_from is not None:
        yield _detached(record.detached_from, now)


def _of_portal(portal: Portal, now: dt.datetime) -> str:
    """Say in one line which portal is trusted, what came from it last, and how it answered."""
    taken = "" if portal.system is None else f"{plain(portal.system)} edition {portal.edition}"
    asked = "" if portal.asked_at is None else f"asked {at(portal.asked_at, now)}"
    found = None if portal.finding is None else portal.finding.get("title")
    trouble = "" if portal.finding is None else plain(found) if isinstance(found, str) else "no answer"
    return ", ".join(filter(None, [plain(portal.url or portal.name), taken, asked, trouble]))


def _origin(record: Record) -> str:
    words = {
        "own": "registered here",
        "code": "by a registration code",
        "portal": "by the portal",
        "field": "from the field",
    }
    if record.lead is None:
        return words.get(record.origin, plain(record.origin))
    path = " > ".join(plain(hop.id) for hop in record.path)
    return f"from {plain(record.lead)}" if len(record.path) < 2 else f"from {plain(record.lead)}, by way of {path}"  # noqa: PLR2004


def _detached(mark: JsonObject, now: dt.datetime) -> str:
    when = mark.get("at")
    return f"detached from {plain(str(mark.get('lead')))} {at(when if isinstance(when, str) else None, now)}"


def _of_uplink(link: Uplink, now: dt.datetime) -> Iterator[str]:
    if link.lead is None:
        yield "unattached"
        return
    online = "online" if link.connected else "not connected"
    yield f"follows {_named(link.lead_name or link.lead, link.lead)}: {word(link.state)}, {online}"
    yield f"in this state since {at(link.since, now)}"
    yield f"last heard {at(link.last_heard, now)}"
    if link.upstream is not None:
        state = link.upstream.get("state")
        level = "up to date with the top" if state == State.IN_SYNC else f"{plain(str(state))} to its own lead"
        yield f"the lead itself is {level}"
    if link.address is not None:
        yield f"address {plain(link.address)}"
    for refused in link.refusals:
        yield f"refused {refused.count} × ({plain(refused.reason)}), last {at(refused.last_at, now)}:"
        yield f"  {plain(refused.text)}"


def _of_downlink(link: Downlink, now: dt.datetime) -> Iterator[str]:
    if link.state is DownlinkState.UNATTACHED:
        yield "unattached"
        return
    where = f", listening at {plain(', '.join(link.listening))}" if link.listening else ""
    broker = f"{plain(link.broker)} broker" if "://" not in link.broker else plain(link.broker)
    yield f"{word(link.state)}, {broker}{where}{'' if link.lead_connected else ', not connected'}"
    if link.version is not None:
        yield f"announces version {plain(link.version)}"
        yield f"issued {at(link.issued_at, now)}"


def _of_shadows(counts: dict[str, int]) -> str:
    parts = [f"{count} {word(state)}" for state, count in counts.items() if count and state != "total"]
    return f"{counts['total']}{': ' if parts else ''}{', '.join(parts)}"


def _roster(link: Downlink, now: dt.datetime, most: int | None) -> Table:
    """Draw the shadows, those with a problem first. Online and holding the registration are two facts (R19)."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("Shadow", "Online", "Holds the registration", "Last heard"):
        table.add_column(heading, overflow="fold")
    rows = sorted(link.roster, key=lambda row: (row.state is State.IN_SYNC, row.id))
    for row in rows[:most]:
        online = "yes" if row.connected else "no" if link.lead_connected else "?"
        holds = Text(_holds(row, link), style=_STYLES.get(row.state, "red"))
        name = "" if row.name in {"", row.id} else f"\n{plain(row.name)}"
        table.add_row(Text.assemble(row.id, (name, "dim")), online, holds, ago(row.last_heard, now))
        _add_below(table, row.downlink, depth=1)
    if most is not None and len(rows) > most:
        table.add_row(f"{len(rows) - most} more")
    return table


def _add_below(table: Table, said: JsonObject | None, *, depth: int) -> None:
    """Draw what a relay said of the servers below it, indented; of one not heard from, only how many they are."""
    listed = [] if said is None else said.get("roster")
    for below in listed if isinstance(listed, list) else []:
        if not isinstance(below, dict):
            continue
        state = read_word(State, below.get("state"), State.UNKNOWN)
        holds = "yes" if state is State.IN_SYNC else f"no ({word(state)})"
        online = "yes" if below.get("connected") is True else "no"
        name = f"{'  ' * depth}└ {plain(str(below.get('id')))}"
        table.add_row(name, online, Text(holds, style=_STYLES.get(state, "red")), "")
        deeper = below.get("downlink")
        _add_below(table, deeper if isinstance(deeper, dict) else None, depth=depth + 1)
    shadows = {} if said is None else said.get("shadows")
    if not listed and isinstance(shadows, dict) and shadows.get("total"):
        table.add_row(f"{'  ' * depth}└ {shadows['total']} below", "?", Text("not known", style="yellow"), "")


_STYLES: Final = {State.IN_SYNC: "green", State.BEHIND: "yellow", State.UNCONFIRMED: "yellow", State.UNKNOWN: "yellow"}


def _holds(row: Row, link: Downlink) -> str:
    """Say whether a shadow holds the record that its lead announces, and in which state that is."""
    state, version = word(row.state), plain(row.version or "")
    match row.state:
        case State.IN_SYNC:
            text = "yes"
        case State.UNKNOWN if row.reported is not None:
            text = f"not known ({plain(word(row.reported))})"
        case State.UNKNOWN | State.UNCONFIRMED:
            text = f"not known ({state})"
        case State.REFUSED if row.refusal is not None:
            text = f"no (refused: {plain(row.refusal.reason)})"
        case _ if link.version is not None and (row.version, row.hash) == (link.version, link.hash):
            text = f"yes ({state})"
        case _:
            text = f"no ({state}{f', has {version}' if version else ''})"
    text = text if row.invite is None else f"{text}; invite again"
    return f"{text}, two machines!" if row.cloned else text


# The record and the history.


_ORDER: Final = ("site", "address", "contact", "system", "accounts", "consents", "warranty")


def record(value: Record, now: dt.datetime) -> RenderableType:
    """Draw the registration with all its members, and where it came from."""
    members = difference.between(None, value.registration)
    members = tuple(sorted(members, key=lambda member: (_place(member.path), member.path)))
    names = [(member.path, _value(member.after)) for member in members]
    origin = [("Origin", _origin(value)), ("Version", plain(value.version or "none of its own"))]
    origin += [("Stored", at(value.stored_at, now)), ("Hash", value.hash)]
    if value.pending:
        origin.append(("Pending", "not published yet"))
    if value.detached_from is not None:
        origin.append(("Detached", _detached(value.detached_from, now)))
    return Group(facts(iter(names)), Text(), facts(iter(origin)))


def _place(path: str) -> int:
    first = path.partition(".")[0]
    return _ORDER.index(first) if first in _ORDER else len(_ORDER)


def history(lines: tuple[Line, ...], now: dt.datetime) -> RenderableType:
    """Draw what happened, newest first, each overwrite with what it changed."""
    parts: list[RenderableType] = []
    for line in lines:
        parts += [] if not parts else [Text()]
        parts.append(Text.assemble((plain(line.event), "bold"), f"  {at(line.at, now)}"))
        parts += [Text(f"  {plain(text)}", overflow="fold") for text in _of_line(line)]
        parts += [_change(change) for change in difference.between(line.before, line.after)]
    return Group(*parts)


_FINGERPRINT_SHOWN: Final = 16


def _of_line(line: Line) -> Iterator[str]:
    known = (
        f"lead {line.lead}" if line.lead else "",
        f"version {line.version}" if line.version else "",
        f"key {line.fingerprint[:_FINGERPRINT_SHOWN]}" if line.fingerprint else "",
    )
    if any(known):
        yield ", ".join(filter(None, known))
    if line.detail:
        yield line.detail


def _change(change: difference.Change) -> Text:
    style = "green" if change.before is None else "red" if change.after is None else "yellow"
    text = f"  {plain(change.path)}: {_value(change.before)} → {_value(change.after)}"
    return Text(text, style=style, overflow="fold")


def _value(text: str | None) -> str:
    return "–" if text is None else plain(text) or "(empty)"


# Words, times and tables.


def facts(lines: Iterator[tuple[str, str]]) -> Table:
    """Draw names and what they stand for, in two columns."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in lines:
        table.add_row(Text(f"  {plain(name)}", style="dim"), Text(value))
    return table


def _named(name: str, identifier: str) -> str:
    return plain(identifier) if name == identifier else f"{plain(name)} ({plain(identifier)})"


def word(state: str) -> str:
    """Return a state as people write it."""
    return state.replace("_", " ")


def at(text: str | None, now: dt.datetime) -> str:
    """Return a stored time as `2026-11-24 11:20:31 UTC (3 min ago)`."""
    read = problems.when(text)
    return "never" if read is None else f"{read:%Y-%m-%d %H:%M:%S} UTC ({_span(read, now)})"


def ago(text: str | None, now: dt.datetime) -> str:
    """Return a stored time in a few signs: how long ago, and the time or the day in UTC."""
    read = problems.when(text)
    if read is None:
        return "never"
    span = _span(read, now)
    return f"{span} ({read:%Y-%m-%d})" if span.endswith(" d ago") else f"{span} ({read:%H:%M})"


_UNITS: Final = ((1, "s", 120), (60, "min", 120 * 60), (3600, "h", 48 * 3600), (86400, "d", float("inf")))


def _span(then: dt.datetime, now: dt.datetime) -> str:
    seconds = (now - then).total_seconds()
    if seconds < 0:
        return "in the future: a clock is wrong"
    size, unit = next((size, unit) for size, unit, end in _UNITS if seconds < end)
    return f"{int(seconds // size)} {unit} ago"
