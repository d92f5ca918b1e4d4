"""Putting content in force, this server's own or a lead's: the record and its line of history in one transaction."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

from propagator.core.registration import Registration, hash_of
from propagator.core.state import Event, Origin
from propagator.store import floors, held, history

if TYPE_CHECKING:
    import sqlite3

    from propagator.core.decide import Floor, Trust
    from propagator.core.record import Record
    from propagator.store.connection import Tx


async def write_own(  # noqa: PLR0913  what a line of history says
    tx: Tx, registration: Registration | None, *, event: Event, origin: Origin, pending: bool, at: str, detail: str = ""
) -> None:
    """Put content of this server's own in force; a version comes when the agent issues it."""
    await history.add(tx, event=event, origin=origin, after=registration, at=at, detail=detail)
    await _put_own(tx, registration, origin=origin, at=at, pending=pending)


async def overwrite(  # noqa: PLR0913  what came, what it was weighed by, and when
    tx: Tx, record: Record, raw: bytes, *, floor: Floor, trust: Trust, fingerprint: str, at: str
) -> None:
    """Take a lead's record over: history row, record and floor, in this one transaction."""
    await history.add(
        tx,
        event=Event.OVERWRITTEN,
        origin=Origin.LEAD,
        after=record.registration,
        at=at,
        lead=record.lead,
        version=record.version,
        fingerprint=fingerprint,
        raw=raw,
    )
    await tx.run(
        "UPDATE record SET origin = ?, registration = ?, hash = ?, lead = ?, version = ?, path = ?, raw = ?,"
        " stored_at = ?, pending = 0, detached_from = NULL",
        *(Origin.LEAD, held.registration_text(record.registration), record.hash, record.lead),
        *(str(record.version), json.dumps(floor.path), raw, at),
    )
    await floors.raise_floor(tx, floor, trust)


async def restore(tx: Tx, at: str) -> held.LocalRecord | None:
    """Bring back what the first overwrite since the last attaching replaced, with its mark if it was left by a lead."""
    attached = held.required(
        await tx.one("SELECT * FROM history WHERE event = ? ORDER BY id DESC LIMIT 1", Event.ATTACHED)
    )
    row = await tx.one(
        "SELECT before, replaced FROM history WHERE event = ? AND id > ? ORDER BY id LIMIT 1",
        *(Event.OVERWRITTEN, attached["id"]),
    )
    if row is None:
        return None
    origin = Origin(str(_replaced(row)["origin"]))
    earlier = _replaced(attached)["detached_from"]  # attaching took the mark off the record itself
    registration = None if row["before"] is None else Registration(row["before"])
    await history.add(tx, event=Event.RESTORED, origin=origin, after=registration, at=at)
    await _put_own(tx, registration, origin=origin, at=at, detached_from=earlier)
    return await held.local(tx)


def _replaced(row: sqlite3.Row) -> dict[str, str | None]:
    return cast("dict[str, str | None]", json.loads(row["replaced"]))


async def _put_own(  # noqa: PLR0913  the columns
    tx: Tx,
    registration: Registration | None,
    *,
    origin: Origin,
    at: str,
    pending: bool = False,
    detached_from: str | None = None,
) -> None:
    await tx.run(
        "UPDATE record SET lead = NULL, version = NULL, path = '[]', raw = NULL,"
        " origin = ?, registration = ?, hash = ?, stored_at = ?, pending = ?, detached_from = ?",
        *(origin, held.registration_text(registration), hash_of(registration), at, pending, detached_from),
    )
