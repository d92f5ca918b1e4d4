"""What this server holds: its identity, and the local record."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from propagator.core import version
from propagator.core.decide import InForce
from propagator.core.registration import Registration, hash_of
from propagator.core.state import Origin

if TYPE_CHECKING:
    import sqlite3

    from propagator.core.decide import Path
    from propagator.core.version import Version
    from propagator.store.connection import Tx


@dataclass(frozen=True, slots=True)
class Server:
    """Who this server is, and which links it wants."""

    id: str
    name: str
    kind: str
    system_id: str
    wants_uplink: bool
    wants_downlink: bool


@dataclass(frozen=True, slots=True)
class LocalRecord:
    """The local record. `lead`, `version` and `raw` are null for content of this server's own."""

    origin: Origin
    registration: Registration | None
    stored_hash: str
    lead: str | None
    version: Version | None
    path: Path
    raw: bytes | None
    stored_at: str
    pending: bool
    detached_from: str | None

    @property
    def hash(self) -> str:
        """The hash of what is really stored, not of what was once written beside it (F35)."""
        return hash_of(self.registration)

    @property
    def is_damaged(self) -> bool:
        """Whether a bit of the registration flipped since it was stored (F35)."""
        return self.hash != self.stored_hash

    @property
    def in_force(self) -> InForce:
        """What `decide` wants to know of it."""
        return InForce(self.raw, self.hash)


async def server(tx: Tx) -> Server:
    """Give this server's identity."""
    found = await find_server(tx)
    if found is None:
        raise AssertionError("the row that `init` writes is missing")
    return found


async def find_server(tx: Tx) -> Server | None:
    """Give this server's identity, if this database has begun its life."""
    row = await tx.one("SELECT * FROM server")
    if row is None:
        return None
    return Server(
        row["id"], row["name"], row["kind"], row["system_id"], bool(row["wants_uplink"]), bool(row["wants_downlink"])
    )


async def create_server(tx: Tx, who: Server, at: str) -> None:
    """Begin the life of a database: its identity, and an empty record."""
    await tx.run(
        "INSERT INTO server (one, id, name, kind, system_id, wants_uplink, wants_downlink, created_at)"
        " VALUES (1, ?, ?, ?, ?, ?, ?, ?)",
        *(who.id, who.name, who.kind, who.system_id, who.wants_uplink, who.wants_downlink, at),
    )
    await tx.run("INSERT INTO record (one, origin, hash, stored_at) VALUES (1, ?, ?, ?)", Origin.OWN, hash_of(None), at)


async def rename_server(tx: Tx, who: Server) -> None:
    """Take over what the configuration says of this server; its System ID stays."""
    await tx.run(
        "UPDATE server SET name = ?, kind = ?, wants_uplink = ?, wants_downlink = ?",
        *(who.name, who.kind, who.wants_uplink, who.wants_downlink),
    )


async def last_session(tx: Tx) -> int:
    """Give the number of the last session that this server began; 0 if none."""
    return int(required(await tx.one("SELECT session FROM server"))["session"])


async def begin_session(tx: Tx, number: int) -> None:
    """Remember the number of the session that begins."""
    await tx.run("UPDATE server SET session = ?", number)


async def local(tx: Tx) -> LocalRecord:
    """Give the local record."""
    row = required(await tx.one("SELECT * FROM record"))
    return LocalRecord(
        origin=Origin(row["origin"]),
        registration=None if row["registration"] is None else Registration(row["registration"]),
        stored_hash=row["hash"],
        lead=row["lead"],
        version=None if row["version"] is None else version.parse(row["version"]),
        path=read_path(row["path"]),
        raw=row["raw"],
        stored_at=row["stored_at"],
        pending=bool(row["pending"]),
        detached_from=row["detached_from"],
    )


def read_path(text: str) -> Path:
    """Read a path column: JSON list of [id, identity thumbprint]."""
    return tuple((str(hop[0]), str(hop[1])) for hop in cast("list[list[str]]", json.loads(text)))


def version_text(version: Version | None) -> str | None:
    """Write a version column."""
    return None if version is None else str(version)


def registration_text(registration: Registration | None) -> str | None:
    """Write a registration column."""
    return None if registration is None else registration.canonical


def required(row: sqlite3.Row | None) -> sqlite3.Row:
    """Give a row that stands in every database that `init` has begun."""
    if row is None:
        raise AssertionError("a row that `init` writes is missing")
    return row
