"""What this lead has signed: every version as signed, the current one, its lives, and how the downlink stands."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from propagator.core import version
from propagator.core.state import Event, Origin
from propagator.core.version import Life, Version
from propagator.core.wire import path_of
from propagator.store import changes, held

if TYPE_CHECKING:
    from propagator.core.decide import Path
    from propagator.core.difference import JsonObject
    from propagator.core.record import Record
    from propagator.core.state import DownlinkState
    from propagator.store.connection import Tx


@dataclass(frozen=True, slots=True)
class Issue:
    """One signed version: the bytes are published as they are."""

    version: Version
    hash: str
    path: Path
    raw: bytes
    issued_at: str


async def current(tx: Tx) -> Issue | None:
    """Give what this lead announces; None for a lost lead, which publishes no record."""
    row = await tx.one("SELECT issue.* FROM issue JOIN downlink ON issue.version = downlink.current")
    issued = None if row is None else version.parse(row["version"])
    return (
        None
        if row is None or issued is None
        else Issue(issued, row["hash"], held.read_path(row["path"]), row["raw"], row["issued_at"])
    )


async def lives(tx: Tx) -> tuple[Life, ...]:
    """Give the last lives of this lead, oldest first."""
    row = await tx.one("SELECT lives FROM downlink")
    listed = [] if row is None else cast("list[tuple[int, str, int]]", json.loads(row["lives"]))
    return tuple(Life(*life) for life in listed)


async def life(tx: Tx) -> int:
    """Give the number of the lead session that began the last life; 0 for `init`."""
    row = await tx.one("SELECT life FROM downlink")
    return 0 if row is None else int(row["life"])


async def create(tx: Tx, broker: str, state: DownlinkState) -> None:
    """Begin a downlink."""
    await tx.run("INSERT INTO downlink (one, broker, state) VALUES (1, ?, ?)", broker, state)


async def exists(tx: Tx) -> bool:
    """Say whether this server has a downlink."""
    return await tx.one("SELECT 1 FROM downlink") is not None


async def note(tx: Tx, *, broker: str, state: DownlinkState, finding: JsonObject | None) -> None:
    """Remember how the downlink stands."""
    await tx.run(
        "UPDATE downlink SET broker = ?, state = ?, finding = ?",
        *(broker, state, None if finding is None else json.dumps(finding)),
    )


async def adopt(tx: Tx, record: Record, raw: bytes, *, fingerprint: str, at: str) -> None:
    """Take back a version of a life that this store has forgotten; the next change begins a life of its own."""
    await changes.write_own(
        tx, record.registration, event=Event.ADOPTED, origin=Origin.FIELD, pending=False, at=at, detail="from the field"
    )
    await issue(tx, record, raw, fingerprint, life=-1)


async def issue(tx: Tx, record: Record, raw: bytes, fingerprint: str, *, life: int) -> None:
    """Store a newly signed version as the current one; the record in force carries it, and so does its history.

    `life` is the number of the lead session that began this version's life. Raises StoreError if this version was ever
    signed before.
    """
    written = str(record.version)
    path = json.dumps(path_of(record.path))
    await tx.run(
        "INSERT INTO issue (version, hash, path, raw, issued_at) VALUES (?, ?, ?, ?, ?)",
        *(written, record.hash, path, raw, record.issued_at),
    )
    listed = [(life.generation, life.epoch, life.revision) for life in record.lives]
    await tx.run("UPDATE downlink SET current = ?, lives = ?, life = ?", written, json.dumps(listed), life)
    await tx.run("UPDATE record SET pending = 0, version = ?, path = ? WHERE lead IS NULL", written, path)
    await tx.run(  # an earlier line without a version was replaced before it ever went out
        "UPDATE history SET version = ?, fingerprint = ? WHERE version IS NULL AND (SELECT lead FROM record) IS NULL"
        " AND id = (SELECT max(id) FROM history WHERE event IN ('registered', 'undone', 'associated', 'withdrawn'))",
        *(written, fingerprint),
    )
