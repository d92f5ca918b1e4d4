"""`diagnose --portal`: why the Registration Portal is not reached."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from propagator import config, settings
from propagator.cli import print_json
from propagator.cli.verdicts import quiet, tell_step, tell_ticket, tell_verdict
from propagator.core.errors import InputError, StateError
from propagator.diagnose import portal as diagnosis
from propagator.diagnose.portal import Known
from propagator.enrol.way import way_to
from propagator.store import connection, portals

if TYPE_CHECKING:
    from pathlib import Path

    from propagator.cli import Place
    from propagator.store.portals import Portal


def diagnose(place: Place, url: str | None, *, as_json: bool, ticket: bool) -> int:
    """Go the way to the portal at `url`, or to the one that is known here; gives the exit code.

    Raises StateError where none is known and none is named.
    """
    known = asyncio.run(_known(place.state_dir))
    named = url or (None if known is None else known.url)
    if named is None:
        raise StateError("This server knows no portal.", hint="propagator diagnose --portal https://portal.example")
    portal = config.parse_portal(named)
    is_same = known is not None and known.url == str(portal)
    ours = Known() if known is None or not is_same else Known(known.key, known.token, known.edition)
    try:
        table = settings.load(place.found).portal if place.found.exists else settings.PortalTable()
        way = way_to(portal, table, place.state_dir)
    except InputError as problem:
        found = diagnosis.unusable(str(portal), problem)
    else:
        found = asyncio.run(diagnosis.diagnose(way, ours, quiet if as_json else tell_step))
    if as_json:
        print_json(found.as_json())
    else:
        tell_verdict(found.verdict)
        tell_ticket(found.verdict, found.at, wanted=ticket, command=f"propagator diagnose --portal {found.portal}")
    return 0 if found.verdict.is_fine else 1


async def _known(state_dir: Path) -> Portal | None:
    """Give the portal that this server knows; without any state, none."""
    try:
        async with connection.opened(state_dir) as store, store.reading() as tx:
            return await portals.portal(tx)
    except StateError:
        return None
