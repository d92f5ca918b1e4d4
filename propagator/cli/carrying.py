"""`undo`, `export`, `import`: take a change back; carry a record, and the report of it, by hand."""

from __future__ import annotations

import asyncio
import datetime as dt
import random
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, assert_never

import click

from propagator import carry, control, files
from propagator import register as registering
from propagator.bus import MqttBus
from propagator.cli import Place, ending, located, visible
from propagator.cli.configured import print_difference
from propagator.cli.outcome import outcome
from propagator.core import difference, moment, session
from propagator.core.decide import Decision, Keep, Overwrite, RaiseFloor, Refuse
from propagator.core.errors import InputError, RefusedError, StateError
from propagator.core.state import State
from propagator.core.wire import Typ
from propagator.following import Link, load_link
from propagator.reconcile import reconcile
from propagator.shadow import Shadow
from propagator.store import Store, connection, held

if TYPE_CHECKING:
    from propagator.core.difference import JsonObject

POKE_S: Final = 5.0
SIZE_LIMIT: Final = 64 * 1024


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


@click.command(
    epilog=ending(
        {0: "the registration before is in force again", 1: "there is nothing to undo, or a lead's applies here"},
        ["propagator undo", "propagator history && propagator undo"],
    )
)
@located
def undo(place: Place) -> None:
    """Put the previous registration of this server's own in force again.

    A lead publishes it as a new change. Undoing the first registration withdraws it: shadows keep theirs, marked.
    """

    async def act() -> registering.Undone:
        async with connection.opened(place.state_dir) as store:
            return await registering.undo(store, at=moment.write(_now()))

    undone = asyncio.run(act())
    before = None if undone.before is None else undone.before.document
    print_difference(difference.between(before, None if undone.after is None else undone.after.document))
    click.echo(outcome(place.state_dir, leads=undone.leads))


@click.command(
    epilog=ending(
        {0: "the signed record is on stdout, or in FILE", 3: "there is no signed record here"},
        ["propagator export record.jws", "propagator export | propagator decode"],
    )
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), required=False)
@located
def export(place: Place, file: Path | None) -> None:
    """Write the signed record in force, to carry it to a device that its lead cannot reach."""

    async def act() -> bytes:
        async with connection.opened(place.state_dir) as store:
            return await carry.export(store)

    raw = asyncio.run(act())
    if file is None:
        click.echo(raw.decode())
    else:
        files.write_public(file, raw + b"\n", owner_of=file.parent)
        click.echo(f"Written: {file}", err=True)


@click.command(
    name="import",
    epilog=ending(
        {
            0: "taken over, or held already; at a lead: the report is in the roster",
            1: "refused, with the reason; nothing was changed",
            2: "neither a record nor a report for this server",
            3: "there is no state here, or no agent running where one is needed",
        },
        ["propagator import record.jws --report report.jws", "propagator import report.jws"],
    ),
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--report", "report_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the report here.")
@located
def import_(place: Place, file: Path, report_file: Path | None) -> int:
    """Take a record that was carried here by hand (FILE, or - for stdin), or at a lead a device's report.

    A device judges the record as if it had come over the network. With --report its signed answer is written to a file,
    which the lead can import; the lead shows it as unconfirmed.
    """
    raw = _read(file)
    return asyncio.run(_import(place.state_dir, raw, carry.kind(raw), report_file))


def _read(file: Path) -> bytes:
    try:
        raw = sys.stdin.buffer.read(SIZE_LIMIT + 1) if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}.", hint="name the file that was exported") from error
    return raw.strip()


async def _import(state_dir: Path, raw: bytes, kind: str, report_file: Path | None) -> int:
    async with connection.opened(state_dir) as store:
        async with store.reading() as tx:
            server = await held.server(tx)
        if kind == Typ.REPORT:
            device = await carry.take_report(store, server.id, raw, at=moment.write(_now()))
            click.echo(f"The report of {visible(device)} is in the roster, unconfirmed until it is heard itself.")
            return 0
        link = await load_link(store, state_dir, server, moment.write(_now()))
        if link is not None:
            return await _take_record(store, state_dir, link, raw, report_file)
    if not server.wants_downlink:
        raise InputError(
            "This server follows no lead, so no lead's record applies to it.", hint="propagator attach TOKEN"
        )
    return _give_evidence(state_dir, raw)


async def _take_record(store: Store, state_dir: Path, link: Link, raw: bytes, report_file: Path | None) -> int:
    decision = await reconcile(store, link.following, raw, moment.write(_now()))
    if files.is_locked(state_dir):
        control.ask(state_dir, "poke", POKE_S)
    if report_file is not None:
        await _write_report(store, link, report_file, decision)
    return _tell(decision)


async def _write_report(store: Store, link: Link, report_file: Path, decision: Decision) -> None:
    rng = random.SystemRandom()
    async with store.transaction() as tx:
        begun = session.begin(time.time(), await held.last_session(tx), rng)
        await held.begin_session(tx, begun.number)
    shadow = Shadow(store, link.following, MqttBus(link.endpoint), begun, now=_now, rng=rng)
    state = State.REFUSED if isinstance(decision, Refuse) else State.IN_SYNC
    if isinstance(decision, RaiseFloor):
        state = decision.state
    files.write_public(report_file, await shadow.written_report(state) + b"\n", owner_of=report_file.parent)
    click.echo(f"Report: {report_file}", err=True)


def _tell(decision: Decision) -> int:
    match decision:
        case Overwrite(record=record):
            click.echo(f"Taken over: version {record.version}.")
        case Keep(record=record):
            click.echo(f"Held already: version {record.version}.")
        case RaiseFloor(state=state):
            click.echo(f"The lead has no registration ({state}); this server keeps its own.")
        case Refuse(reason=reason, text=text):
            raise RefusedError(f"Refused ({reason}). {visible(text)}", hint="export the record at the lead again")
        case _:
            assert_never(decision)
    return 0


def _give_evidence(state_dir: Path, raw: bytes) -> int:
    """A lead's own record, carried back to it, is evidence: the agent weighs it (DESIGN §3)."""
    answer: JsonObject | None = None
    if files.is_locked(state_dir):
        answer = control.ask(state_dir, "evidence", POKE_S, record=raw.decode())
    if answer is None:
        raise StateError("No agent runs here, and only the agent weighs a record of its own.", hint="propagator run")
    if answer.get("ok") is not True:
        raise RefusedError(visible(str(answer.get("error"))), hint=visible(str(answer.get("hint") or "")))
    words = {
        "changed": "The record was taken into account; the lead announces a new version.",
        "left": "The record is shown by `propagator status`; nothing was changed.",
        "nothing": "The record says nothing new to this lead.",
    }
    click.echo(words.get(str(answer.get("weighed")), "Nothing was changed."))
    return 0
