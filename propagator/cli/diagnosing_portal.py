"""`diagnose --portal`: why the Registration Portal is not reached."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from propagator import config, settings
from propagator.cli import print_json
from propagator.cli.verdicts import quiet, tell_case, tell_step, tell_ticket, tell_verdict
from propagator.core.errors import InputError, StateError
from propagator.diagnose import memory
from propagator.diagnose import portal as diagnosis
from propagator.diagnose.portal import Known
from propagator.enrol.way import way_to
from propagator.store import connection, portals

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from propagator.cli import Place
    from propagator.diagnose.course import Step
    from propagator.diagnose.portal import PortalDiagnosis
    from propagator.store.portals import Portal


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which portal is meant (None: the one that is known here), the CA given for it, and whether its case alone."""

    url: str | None
    ca_file: Path | None = None
    recheck: bool = False


def diagnose(place: Place, wanted: Wanted, *, as_json: bool, ticket: bool) -> int:
    """Go the way to the portal; gives the exit code.

    Raises StateError where none is known and none is named.
    """
    named = None if wanted.url is None else config.parse_portal(wanted.url)
    case = memory.case(place.state_dir, memory.PORTAL_FILE_NAME)
    if case is not None and named is not None and case.portal != str(named):
        case = None
    if wanted.recheck:
        if case is None:
            click.echo("No case of a portal is open: what was diagnosed last went well, or nothing was.")
            return 0
        named = config.parse_portal(case.portal)
    found = _found(place, named, wanted.ca_file, quiet if as_json else tell_step)
    if as_json:
        print_json(found.as_json())
    else:
        tell_verdict(found.verdict)
        tell_ticket(found.verdict, found.at, wanted=ticket, command=f"propagator diagnose --portal {found.portal}")
        if wanted.recheck and case is not None:
            tell_case(case, found.verdict)
    _keep_case(place, found, case)
    return 0 if found.verdict.is_fine else 1


def _found(
    place: Place, named: config.Portal | None, ca_file: Path | None, tell: Callable[[Step], None]
) -> PortalDiagnosis:
    kept = asyncio.run(_kept(place.state_dir))
    ours = None if kept is None or kept.url is None else config.parse_portal(kept.url)
    portal = named or ours
    if portal is None:
        raise StateError("This server knows no portal.", hint="propagator diagnose --portal https://portal.example")
    known = Known() if kept is None or portal != ours else Known(kept.key, kept.token, kept.edition)
    try:
        table = settings.load(place.found).portal if place.found.exists else settings.PortalTable()
        way = way_to(portal, table, place.state_dir, ca_file)
    except InputError as problem:
        return diagnosis.unusable(str(portal), problem)
    return asyncio.run(diagnosis.diagnose(way, known, tell))


def _keep_case(place: Place, found: PortalDiagnosis, case: memory.Case | None) -> None:
    """Remember what was no good, for `--recheck`; forget it once that portal is well."""
    if not found.verdict.is_fine:
        portal = config.parse_portal(found.portal)
        opened = memory.opened(found.verdict, case, found.at, portal.address, found.portal)
        memory.keep_case(place.state_dir, opened, memory.PORTAL_FILE_NAME)
    elif case is not None and case.portal == found.portal:
        memory.keep_case(place.state_dir, None, memory.PORTAL_FILE_NAME)


async def _kept(state_dir: Path) -> Portal | None:
    """Give the portal that this server knows; without any state, none."""
    try:
        async with connection.opened(state_dir) as store, store.reading() as tx:
            return await portals.portal(tx)
    except StateError:
        return None
