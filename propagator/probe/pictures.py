"""The last good picture of each way: how far away the lead was while all was well, so that silence later has a place.

Kept in the state directory. A help: where it cannot be read or written, nothing else changes. An agent draws the way
once a day, so this loads no more of the diagnosis than it needs.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Final, cast

from propagator import files
from propagator.core.diagnosis.seen import Answer, Picture
from propagator.core.errors import StateError
from propagator.probe import names, tries

if TYPE_CHECKING:
    from pathlib import Path

    from propagator.core.difference import JsonObject

FILE_NAME: Final = "paths.json"
_MOST: Final = 20
"""So many ways are remembered; a name whose addresses change all the time must not fill the disk."""


def load(state_dir: Path) -> dict[str, Picture]:
    """Give the last good picture of each address."""
    found: dict[str, Picture] = {}
    for address, told in _read(state_dir).items():
        if isinstance(told, dict) and isinstance(told.get("hops"), int) and isinstance(told.get("at"), str):
            routers = told.get("routers")
            heard = tuple(map(str, routers)) if isinstance(routers, list) else ()
            found[address] = Picture(str(told["at"]), cast("int", told["hops"]), heard)
    return found


async def draw(state_dir: Path, host: str, port: int, at: str) -> None:
    """Walk the ladder to a lead that is well, and keep what it shows. Says nothing where nothing can be had."""
    name = await names.look_up(host)
    if not name.addresses:
        return
    address = name.addresses[0]
    ladder = await tries.tcp_ladder(address, port)
    if ladder.arrival is None:
        return
    routers = [rung.source for rung in ladder.rungs if rung.answer is Answer.EXPIRED and rung.source is not None]
    told: JsonObject = {"at": at, "hops": ladder.arrival, "routers": [*routers]}
    others = {known: way for known, way in _read(state_dir).items() if known != address}
    newest = [*others.items(), (address, told)][-_MOST:]
    with contextlib.suppress(StateError):
        files.write_shared(state_dir / FILE_NAME, json.dumps({"ways": dict(newest)}, indent=2).encode())


def _read(state_dir: Path) -> JsonObject:
    try:
        kept = json.loads((state_dir / FILE_NAME).read_bytes())
    except (OSError, ValueError):
        return {}
    ways = kept.get("ways") if isinstance(kept, dict) else None
    return ways if isinstance(ways, dict) else {}
