"""A picture of the store, for commands that only look: works with the agent alive, dead or killed in mid-write.

Takes a state directory, reads one consistent picture through a read-only connection, and hands plain facts to `status`
and to the commands `record`, `history` and `decode`. Standard library only (DESIGN §6). The write-ahead log is part of
the picture, so never `immutable=1`.
"""

from __future__ import annotations

import base64
import itertools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from propagator.core import difference
from propagator.core.errors import StateError, StoreError
from propagator.snapshot.connection import opened, schema_of

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

    from propagator.core.difference import JsonObject, JsonValue

Hops: TypeAlias = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Server:
    """The row of `server`."""

    id: str
    name: str
    kind: str
    system_id: str
    wants_uplink: bool
    wants_downlink: bool


@dataclass(frozen=True, slots=True)
class Record:
    """The row of `record`; `hash` as it was stored, `registration` the canonical text."""

    origin: str
    registration: str | None
    hash: str
    lead: str | None
    version: str | None
    path: Hops
    stored_at: str
    pending: bool
    detached_from: JsonObject | None


@dataclass(frozen=True, slots=True)
class Uplink:
    """The row of `uplink`, and the highest delegation seen of this lead (`seq`)."""

    lead: str
    lead_name: str
    identity: str
    state: str
    since: str
    address: str | None
    last_heard: str | None
    period_s: float
    refusal: JsonObject | None
    finding: JsonObject | None
    seq: int | None


@dataclass(frozen=True, slots=True)
class Refusals:
    """A row of `refusal`: how often one reason was met."""

    reason: str
    count: int
    text: str
    last_at: str


@dataclass(frozen=True, slots=True)
class Downlink:
    """The row of `downlink`, with the issue that the lead announces; the last four are None for a lost lead."""

    broker: str
    state: str
    finding: JsonObject | None
    version: str | None
    hash: str | None
    issued_at: str | None
    raw: bytes | None
    identity: str | None = None
    """The thumbprint of the identity key under which that was issued."""


@dataclass(frozen=True, slots=True)
class Member:
    """A row of `member` that is not revoked; `key` is the thumbprint of the device's key."""

    id: str
    name: str
    kind: str
    key: str
    attached_at: str
    confirmed: bool
    cloned: bool
    report: JsonObject | None
    reported_at: str | None
    online: bool
    last_heard: str | None
    trusts: str | None = None
    """The thumbprint of this lead's identity key when it was bound; None where its membership does not say it, empty
    where that was lost with the key."""


@dataclass(frozen=True, slots=True)
class Portal:
    """The row of `portal`, without the token that this server asks with."""

    url: str | None
    name: str
    key: str
    system: str | None
    edition: int | None
    asked_at: str | None
    answered_at: str | None
    finding: JsonObject | None


@dataclass(frozen=True, slots=True)
class Line:
    """A row of `history`."""

    at: str
    event: str
    origin: str
    lead: str | None
    version: str | None
    fingerprint: str | None
    before: JsonObject | None
    after: JsonObject | None
    replaced: JsonObject | None
    raw: bytes | None
    detail: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the store held at one moment."""

    server: Server
    record: Record
    uplink: Uplink | None
    refusals: tuple[Refusals, ...]
    downlink: Downlink | None
    members: tuple[Member, ...]
    portal: Portal | None = None


def read(state_dir: Path) -> Snapshot:
    """Read all that `status` and `record` show.

    Raises StateError where there is no state or no right to read it, StoreError where the database cannot be used.
    """
    with opened(state_dir) as db:
        return Snapshot(
            server=_server(_one(db, "server")),
            record=_record(_one(db, "record")),
            uplink=_uplink(db),
            refusals=tuple(Refusals(*row) for row in db.execute(_REFUSALS)),
            downlink=_downlink(db),
            members=tuple(
                _member(row) for row in db.execute("SELECT * FROM member WHERE revoked_at IS NULL ORDER BY id")
            ),
            portal=_portal(db),
        )


def owner(state_dir: Path) -> str | None:
    """Give the id of the server whose state this is; None where it cannot be read, which others tell better."""
    try:
        with opened(state_dir) as db:
            row = _first(db, "SELECT id FROM server")
    except (StateError, StoreError):
        return None
    return None if row is None else str(row["id"])


_REFUSALS: Final = "SELECT reason, count, text, last_at FROM refusal ORDER BY reason"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which lines of the history are asked for: those that fit all of this. Times as `core.moment` writes them.

    `since` is the first moment, `before` the first one that is not meant any more; `field` names a member of the
    registration that the line changed, or a group of them.
    """

    since: str | None = None
    before: str | None = None
    events: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    version: str | None = None
    field: str | None = None


def history(state_dir: Path, limit: int | None = None, wanted: Wanted | None = None) -> tuple[Line, ...]:
    """Read the history, newest first; at most `limit` lines of those that are `wanted`. Raises as `read` does."""
    asked = wanted or Wanted()
    facts = {
        "since": asked.since,
        "before": asked.before,
        "events": json.dumps(asked.events),
        "origins": json.dumps(asked.origins),
        "version": asked.version,
    }
    with opened(state_dir) as db:
        lines = (_line(row) for row in db.execute(_HISTORY, facts))
        return tuple(itertools.islice((line for line in lines if _changed(line, asked.field)), limit))


_HISTORY: Final = """
    SELECT * FROM history
    WHERE (:since IS NULL OR at >= :since) AND (:before IS NULL OR at < :before)
      AND (:version IS NULL OR version = :version)
      AND (:events = '[]' OR event IN (SELECT value FROM json_each(:events)))
      AND (:origins = '[]' OR origin IN (SELECT value FROM json_each(:origins)))
    ORDER BY id DESC
"""


def _changed(line: Line, field: str | None) -> bool:
    if field is None:
        return True
    paths = [change.path for change in difference.between(line.before, line.after)]
    return any(path == field or path.startswith(f"{field}.") for path in paths)


def _one(db: sqlite3.Connection, table: str) -> sqlite3.Row:
    row = _first(db, f"SELECT * FROM {table}")  # noqa: S608  a name of this module's own
    if row is None:
        raise StoreError(
            f"The store is not complete: {table} is empty.", hint="restore it from a backup, or init again"
        )
    return row


def _first(db: sqlite3.Connection, sql: str) -> sqlite3.Row | None:
    return cast("sqlite3.Row | None", db.execute(sql).fetchone())


def _server(row: sqlite3.Row) -> Server:
    links = bool(row["wants_uplink"]), bool(row["wants_downlink"])
    return Server(row["id"], row["name"], row["kind"], row["system_id"], *links)


def _record(row: sqlite3.Row) -> Record:
    return Record(
        origin=row["origin"],
        registration=row["registration"],
        hash=row["hash"],
        lead=row["lead"],
        version=row["version"],
        path=_hops(row["path"]),
        stored_at=row["stored_at"],
        pending=bool(row["pending"]),
        detached_from=_object(row["detached_from"]),
    )


def _uplink(db: sqlite3.Connection) -> Uplink | None:
    row = _first(db, "SELECT uplink.*, seq FROM uplink LEFT JOIN trust USING (lead, identity)")
    if row is None:
        return None
    return Uplink(
        *(row["lead"], row["lead_name"], row["identity"], row["state"], row["since"]),
        *(row["address"], row["last_heard"], row["period_s"], _object(row["refusal"]), _object(row["finding"])),
        seq=row["seq"],
    )


def _downlink(db: sqlite3.Connection) -> Downlink | None:
    columns = "broker, state, finding, version, hash, issued_at, raw, path"
    row = _first(db, f"SELECT {columns} FROM downlink LEFT JOIN issue ON version = current")  # noqa: S608  as above
    if row is None:
        return None
    issued = row["version"], row["hash"], row["issued_at"], row["raw"]
    return Downlink(row["broker"], row["state"], _object(row["finding"]), *issued, identity=_last_hop(row["path"]))


def _last_hop(path: str | None) -> str | None:
    hops = _hops(path or "[]")
    return hops[-1][1] if hops else None


def _member(row: sqlite3.Row) -> Member:
    return Member(
        *(row["id"], row["name"], row["kind"], row["key"], row["attached_at"]),
        confirmed=bool(row["confirmed"]),
        cloned=bool(row["cloned"]),
        report=_object(row["report"]),
        reported_at=row["reported_at"],
        online=bool(row["online"]),
        last_heard=row["last_heard"],
        trusts=_signer_of(_header(row["membership"]).get("delegation")) if row["membership"] else "",
    )


def _portal(db: sqlite3.Connection) -> Portal | None:
    if schema_of(db) < _KNOWS_PORTALS:
        return None
    row = _first(db, "SELECT url, name, key, system, edition, asked_at, answered_at, finding FROM portal")
    if row is None:
        return None
    known = row["url"], row["name"], row["key"], row["system"], row["edition"]
    return Portal(*known, row["asked_at"], row["answered_at"], _object(row["finding"]))


_KNOWS_PORTALS: Final = 2
"""The schema that brought the portal. An older database is read as it is: only who writes migrates it."""


def _signer_of(document: JsonValue) -> str | None:
    signer = _header(document).get("kid")
    return signer if isinstance(signer, str) else None


def _header(document: JsonValue) -> JsonObject:
    """Read the header of a signed document that was verified before it was stored; empty where it was damaged."""
    first = document.partition(".")[0] if isinstance(document, str) else ""
    try:
        header = json.loads(base64.urlsafe_b64decode(first + "=" * (-len(first) % 4)))
    except ValueError:
        return {}
    return header if isinstance(header, dict) else {}


def _line(row: sqlite3.Row) -> Line:
    return Line(
        *(row["at"], row["event"], row["origin"], row["lead"], row["version"], row["fingerprint"]),
        *(_object(row["before"]), _object(row["after"]), _object(row["replaced"]), row["raw"], row["detail"]),
    )


def _object(text: str | None) -> JsonObject | None:
    """Read a JSON column; one that was damaged counts as empty."""
    try:
        value = json.loads(text or "null")
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _hops(text: str) -> Hops:
    """Read a path column: JSON list of [id, identity thumbprint]."""
    try:
        return tuple((str(identifier), str(identity)) for identifier, identity in json.loads(text))
    except (TypeError, ValueError):
        return ()
