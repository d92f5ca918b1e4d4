"""What this server holds of the Registration Portal that it trusts: key, what was taken from it, how it answered."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from propagator.core.statement import PORTAL, Standing
from propagator.store import held

if TYPE_CHECKING:
    import datetime as dt

    from propagator.core.difference import JsonObject
    from propagator.core.statement import Proven
    from propagator.store.connection import Tx


@dataclass(frozen=True, slots=True)
class Portal:
    """The portal that this server trusts. `key` is the thumbprint that its statements are signed under.

    `system` and `edition` are of the statement in force; `url` and `token` are None for a portal that was never asked
    online; `finding` says why its last answer was none.
    """

    key: str
    name: str
    url: str | None = None
    system: str | None = None
    edition: int | None = None
    token: str | None = None
    asked_at: str | None = None
    answered_at: str | None = None
    finding: JsonObject | None = None


async def portal(tx: Tx) -> Portal | None:
    """Give the portal that this server trusts, if any."""
    row = await tx.one("SELECT * FROM portal")
    if row is None:
        return None
    return Portal(
        *(row["key"], row["name"], row["url"], row["system"], row["edition"], row["token"]),
        *(row["asked_at"], row["answered_at"]),
        finding=None if row["finding"] is None else cast("JsonObject", json.loads(row["finding"])),
    )


async def trust(tx: Tx, key: str, *, name: str = PORTAL) -> None:
    """Trust the portal with this key from now on, and no other; what was known of another one is forgotten."""
    await tx.run("DELETE FROM portal WHERE key <> ?", key)
    await tx.run(
        "INSERT INTO portal (one, key, name) VALUES (1, ?, ?) ON CONFLICT (one) DO UPDATE SET name = excluded.name",
        *(key, name),
    )


async def connect(tx: Tx, url: str, token: str | None) -> None:
    """Remember where the trusted portal is, and what it gave this server to ask with for later editions."""
    await tx.run("UPDATE portal SET url = ?, token = ?", url, token)


async def note_asked(tx: Tx, *, asked_at: str, answered_at: str | None, finding: JsonObject | None) -> None:
    """Remember how the portal answered last: `answered_at` None if it did not, then `finding` says why."""
    await tx.run(
        "UPDATE portal SET asked_at = ?, answered_at = coalesce(?, answered_at), finding = ?",
        *(asked_at, answered_at, None if finding is None else json.dumps(finding)),
    )


async def take(tx: Tx, proven: Proven, *, at: str) -> None:
    """Note that a statement was taken: its serial is used up, and its edition is the one in force."""
    said = proven.statement
    await tx.run("INSERT INTO used_code (serial, at) VALUES (?, ?)", said.serial, at)
    await tx.run("UPDATE portal SET system = ?, edition = ?", said.system, said.edition)


async def standing(tx: Tx, now: dt.datetime, *, trusted: str | None = None) -> Standing:
    """Give what a statement is held against here; `trusted` is a key that a person says to trust from now on."""
    known = await portal(tx)
    own = (await held.server(tx)).system_id
    used = frozenset(row["serial"] for row in await tx.all("SELECT serial FROM used_code"))
    key = trusted if trusted is not None else None if known is None else known.key
    keys = frozenset() if key is None else frozenset({key})
    if known is None:
        return Standing(own, now, keys, used)
    return Standing(own, now, keys, used, known.key, known.system, known.edition)
