"""What happened to the local record, line by line: each says what was in force before, and what after."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from propagator.core.registration import Registration
from propagator.core.state import Event
from propagator.store import held

if TYPE_CHECKING:
    from propagator.core.state import Origin
    from propagator.core.version import Version
    from propagator.store.connection import Tx


async def add(  # noqa: PLR0913  the columns of a history row
    tx: Tx,
    *,
    event: Event,
    origin: Origin,
    after: Registration | None,
    at: str,
    lead: str | None = None,
    version: Version | None = None,
    fingerprint: str | None = None,
    raw: bytes | None = None,
    detail: str = "",
) -> None:
    """Write one line of history; what was in force until now is read from the record row itself."""
    was = await held.local(tx)
    replaced = {
        "origin": was.origin,
        "lead": was.lead,
        "version": held.version_text(was.version),
        "hash": was.hash,
        "stored_at": was.stored_at,
        "detached_from": was.detached_from,
    }
    await tx.run(
        "INSERT INTO history (at, event, origin, lead, version, fingerprint, before, after, replaced, raw, detail)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        *(at, event, origin, lead, held.version_text(version), fingerprint),
        *(held.registration_text(was.registration), held.registration_text(after), json.dumps(replaced), raw, detail),
    )


async def quarantine(tx: Tx, raw: bytes, *, lead: str, detail: str, at: str) -> None:
    """Keep a record that verifies but does not parse, once; the record in force stays."""
    if await tx.one("SELECT 1 FROM history WHERE event = ? AND raw = ?", Event.QUARANTINED, raw) is None:
        was = await held.local(tx)
        await add(
            tx,
            event=Event.QUARANTINED,
            origin=was.origin,
            after=was.registration,
            at=at,
            lead=lead,
            raw=raw,
            detail=detail,
        )


async def note_found(  # noqa: PLR0913  the columns
    tx: Tx, registration: Registration | None, raw: bytes, *, version: Version, lead: str, at: str
) -> None:
    """Keep a record of this lead's own that the field held and that its present content overrules."""
    was = await held.local(tx)
    await add(
        tx,
        event=Event.OVERRULED,
        origin=was.origin,
        after=was.registration,
        at=at,
        lead=lead,
        version=version,
        raw=raw,
        detail="" if registration is None else registration.canonical,
    )


async def undoable(tx: Tx) -> tuple[int, Registration | None] | None:
    """Give the last own change that was not undone yet: its number, and what was in force before it."""
    row = await tx.one(
        "SELECT id, before FROM history WHERE event IN (?, ?, ?, ?) AND NOT EXISTS"
        " (SELECT 1 FROM history AS later WHERE later.event = ? AND later.detail = 'change ' || history.id)"
        " ORDER BY id DESC LIMIT 1",
        *(Event.REGISTERED, Event.ASSOCIATED, Event.WITHDRAWN, Event.ADOPTED, Event.UNDONE),
    )
    if row is None:
        return None
    return row["id"], None if row["before"] is None else Registration(row["before"])
