"""The last good picture of each way: how far away the lead was while all was well, and the certificate that it showed.

So that silence later has a place, and whoever answers can be told from the lead. Kept in the state directory. A help:
where it cannot be read or written, nothing else changes. An agent draws the way once a day, so this loads no more of
the diagnosis than it needs.
"""

from __future__ import annotations

import contextlib
import json
import ssl
from typing import TYPE_CHECKING, Final

from propagator import files
from propagator.core.diagnosis.seen import Answer, Picture
from propagator.core.errors import StateError
from propagator.probe import names, tries
from propagator.probe.certificate import certificate_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from propagator.core.diagnosis.seen import Certificate
    from propagator.core.difference import JsonObject, JsonValue

FILE_NAME: Final = "paths.json"
_MOST: Final = 20
"""So many ways are remembered; a name whose addresses change all the time must not fill the disk."""


def load(state_dir: Path) -> dict[str, Picture]:
    """Give the last good picture of each address; what an earlier version did not keep is None in it."""
    found: dict[str, Picture] = {}
    for address, told in _read(state_dir).items():
        if isinstance(told, dict) and isinstance(told.get("hops"), int) and isinstance(told.get("at"), str):
            routers = told.get("routers")
            heard = tuple(map(str, routers)) if isinstance(routers, list) else ()
            hops, ttl = _number(told.get("hops")), _number(told.get("ttl"))
            found[address] = Picture(str(told["at"]), hops, heard, ttl, _certificate(told.get("certificate")))
    return found


def _number(told: JsonValue) -> int | None:
    return told if isinstance(told, int) and 0 < told < 256 else None  # noqa: PLR2004  as many as a TTL has


def _certificate(told: JsonValue) -> Certificate | None:
    try:
        return certificate_of(ssl.PEM_cert_to_DER_cert(str(told)))
    except ValueError:
        return None


async def draw(state_dir: Path, host: str, port: int, at: str, show: Callable[[str], Awaitable[bytes | None]]) -> None:
    """Walk the ladder to a lead that is well, and keep what it shows. Says nothing where nothing can be had.

    `show` gives the certificate (DER) of whoever answers at an address, None if it is not to be trusted: then this is
    no good picture.
    """
    name = await names.look_up(host)
    if not name.addresses:
        return
    address = name.addresses[0]
    certificate = await show(address)
    ladder = await tries.tcp_ladder(address, port, _RUNG_S)
    if certificate is None or ladder.arrival is None:
        return
    routers = [rung.source for rung in ladder.rungs if rung.answer is Answer.EXPIRED and rung.source is not None]
    told: JsonObject = {
        "at": at,
        "hops": ladder.arrival,
        "routers": [*routers],
        "ttl": await tries.answer_ttl(address, port, _USUAL_TTL + 1 - ladder.arrival),
        "certificate": ssl.DER_cert_to_PEM_cert(certificate),
    }
    others = {known: way for known, way in _read(state_dir).items() if known != address}
    newest = [*others.items(), (address, told)][-_MOST:]
    with contextlib.suppress(StateError):
        files.write_shared(state_dir / FILE_NAME, json.dumps({"ways": dict(newest)}, indent=2).encode())


_RUNG_S: Final = 2.4
"""Nobody waits for a picture, and a router that is missing in it is missing for a day: room for two SYNs sent again."""

_USUAL_TTL: Final = 64
"""What most hosts send with; that the way back is as long as the way there is a guess, too."""


def _read(state_dir: Path) -> JsonObject:
    try:
        kept = json.loads((state_dir / FILE_NAME).read_bytes())
    except (OSError, ValueError):
        return {}
    ways = kept.get("ways") if isinstance(kept, dict) else None
    return ways if isinstance(ways, dict) else {}
