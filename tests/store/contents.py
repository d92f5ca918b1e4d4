"""What the tests of the store put into it: a server, the lead that it follows, that lead's keys; and pictures of it."""

from __future__ import annotations

import os
import sqlite3
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING, Final

from propagator.core.roster import Seen
from propagator.core.state import State
from propagator.following import Following
from propagator.keys import LeadKeys
from propagator.reconcile import reconcile
from propagator.store import connection, held, members, uplinks
from tests.unit.builders import Lead, key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from propagator.core.decide import Decision
    from propagator.core.version import Version
    from propagator.store import Store

AT: Final = "2026-11-24T11:20:31.123Z"
LATER: Final = "2026-11-25T09:00:00.000Z"

DEVICE: Final = held.Server("device-1", "Device 1", "server-device", "SYS-D", wants_uplink=True, wants_downlink=False)
ES: Final = held.Server("es-1", "ES 1", "enterprise-server", "SYS-1", wants_uplink=False, wants_downlink=True)

LEAD: Final = Lead()


@asynccontextmanager
async def opened_for(state_dir: Path, who: held.Server = DEVICE) -> AsyncIterator[Store]:
    """Open the store of a server, made if there is none yet."""
    if not (state_dir / connection.FILE_NAME).exists():
        os.makedirs(state_dir, exist_ok=True)  # noqa: PTH103  ruff takes pathlib's for a blocking call
        await connection.create(state_dir)
        async with connection.opened(state_dir) as store, store.transaction() as tx:
            await held.create_server(tx, who, AT)
    async with connection.opened(state_dir) as store:
        yield store


def lead_keys(lead: Lead = LEAD) -> LeadKeys:
    """Give a lead's keys as the agent holds them."""
    return LeadKeys(lead.id, lead.identity.thumbprint, lead.seq, lead.signing, lead.delegation)


def link_to(lead: Lead = LEAD) -> uplinks.Uplink:
    """Give the link to a lead, as `attach` writes it."""
    return uplinks.Uplink(lead.id, "The lead", lead.identity.thumbprint, State.UNKNOWN, AT, 60.0)


async def attach(store: Store, lead: Lead = LEAD, lowest: Version | None = None, at: str = AT) -> None:
    """Follow a lead from now on."""
    async with store.transaction() as tx:
        await uplinks.attach(tx, link_to(lead), seq=lead.seq, lowest=lowest, at=at)


def following(lead: Lead = LEAD) -> Following:
    """Give whom device-1 follows."""
    return Following(lead.id, lead.identity.thumbprint, DEVICE, key("device-1"), "")


async def offer(store: Store, raw: bytes, lead: Lead = LEAD, at: str = AT) -> Decision:
    """Offer a record, as the shadow does."""
    return await reconcile(store, following(lead), raw, at)


async def in_force(store: Store) -> held.LocalRecord:
    """Read the local record."""
    async with store.reading() as tx:
        return await held.local(tx)


def bound(device: str = "device-1", device_key: str = "device-1", serial: str = "0" * 32) -> members.Member:
    """Give a shadow as `welcome` binds it."""
    return members.Member(
        id=device,
        name="Device 1",
        kind="server-device",
        system_id="SYS-D",
        key=key(device_key).thumbprint,
        password_hash="$7$101$c2FsdHNhbHRzYWx0$" + "A" * 86 + "==",
        serial=serial,
        membership="a.signed.word",
        attached_at=AT,
        revoked_at=None,
        seen=Seen(None, confirmed=False),
        report=None,
        online=False,
        presence=None,
    )


def invited(device: str = "device-1") -> members.Invitation:
    """Give an invitation as the lead keeps it."""
    return members.Invitation(device, "token-1", b"mac key", "$7$hash", AT, LATER)


def picture(state_dir: Path) -> dict[str, list[tuple[object, ...]]]:
    """Read every row of every table, with SQLite's own check of the file; no connection may be open in this process."""
    with closing(sqlite3.connect(state_dir / connection.FILE_NAME)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []
        tables = [
            row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
        ]
        return {table: database.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall() for table in tables}  # noqa: S608


def rows(state_dir: Path, sql: str, *values: object) -> list[tuple[object, ...]]:
    """Read rows as another process would."""
    with closing(sqlite3.connect(state_dir / connection.FILE_NAME)) as database:
        return database.execute(sql, values).fetchall()
