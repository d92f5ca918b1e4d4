"""Looking at what a crash left, with the real program, as the next start would."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import random
import stat
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

from propagator import files, initialise, keys, rotate, settings, snapshot
from propagator.cli import commands
from propagator.config import Found, parse_toml
from propagator.core.errors import StateError, Unreadable
from propagator.core.registration import Registration, hash_of
from propagator.core.signing import authority, open_envelope
from propagator.following import load_link
from propagator.store import connection, held, issued
from tests.acceptance.site import Said

if TYPE_CHECKING:
    from pathlib import Path

    from propagator.store import Tx

AT: Final = "2030-01-01T00:00:00.000Z"

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Seen:
    """What was found in the database; None: there is none."""

    tables: dict[str, Rows] | None

    @property
    def digest(self) -> str:
        return repr(self.tables)

    def __getitem__(self, table: str) -> Rows:
        return (self.tables or {}).get(table, [])

    @property
    def record(self) -> dict[str, Any]:
        return self["record"][0] if self["record"] else {}

    @property
    def name(self) -> str | None:
        """The name of the site that is registered."""
        text = self.record.get("registration")
        return None if text is None else str(json.loads(text)["site"]["name"])


def look(state_dir: Path) -> Seen:
    """Open the database as every command does, check it, and read all of it. AssertionError: it is not whole."""
    try:
        tables = asyncio.run(_tables(state_dir))
    except StateError:
        assert not (state_dir / connection.FILE_NAME).exists()
        return Seen(None)
    seen = Seen(tables)
    if seen["server"]:
        shown = snapshot.read(state_dir).record
        assert (shown.registration, shown.version) == (seen.record["registration"], seen.record["version"])
        _fits_together(seen)
    return seen


async def _tables(state_dir: Path) -> dict[str, Rows]:
    async with connection.opened(state_dir) as store, store.reading() as tx:
        assert [tuple(row) for row in await tx.all("PRAGMA integrity_check")] == [("ok",)]
        assert await tx.all("PRAGMA foreign_key_check") == []
        return {table: await _rows(tx, table) for table in await _names(tx)}


async def _names(tx: Tx) -> list[str]:
    found = await tx.all("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY 1")
    return [row["name"] for row in found]


async def _rows(tx: Tx, table: str) -> Rows:
    return [dict(row) for row in await tx.all(f"SELECT * FROM {table} ORDER BY 1, 2")]  # noqa: S608


def _fits_together(seen: Seen) -> None:
    """Hold the record to its hash, its line of history, its floor, and what was issued: they were written together."""
    record, history = seen.record, seen["history"]
    content = None if record["registration"] is None else Registration(record["registration"])
    assert record["hash"] == hash_of(content), "the record is not what its hash says"
    if history:
        assert history[-1]["after"] == record["registration"], "history ends with another record than the one in force"
    else:
        assert record["registration"] is None
    if record["lead"] is not None:
        floor = next(row for row in seen["floor"] if row["lead"] == record["lead"])
        assert (floor["version"], floor["hash"]) == (record["version"], record["hash"])
        assert any((row["version"], row["raw"]) == (record["version"], record["raw"]) for row in history)
    for downlink in seen["downlink"]:
        current = next((row for row in seen["issue"] if row["version"] == downlink["current"]), None)
        assert current is None or record["pending"] or current["hash"] == record["hash"]


def check_private(state_dir: Path) -> None:
    """Whatever lies with the keys is nobody else's, half-written files too."""
    folder = state_dir / files.KEYS_DIR
    if folder.exists():
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        for path in folder.iterdir():
            assert path.suffix == ".crt" or ".crt." in path.name or not path.stat().st_mode & 0o077, path


def start(config: Path) -> None:
    """Do what an agent's start does before it connects to anything; AssertionError or PropagatorError: it cannot."""
    wanted = settings.load(Found(config, parse_toml(config.read_bytes(), config), exists=True))
    asyncio.run(_start(wanted))


async def _start(wanted: settings.Settings) -> None:
    state_dir = wanted.state_dir
    async with connection.opened(state_dir) as store:
        async with store.transaction() as tx:
            server = await held.server(tx)
            initialise.check_id(server, wanted)
        if wanted.downlink is not None:
            assert not await initialise.begin_downlink(store, state_dir, wanted, AT), "the lead is lost"
            await rotate.finish(store, state_dir)
            await _leads(store, state_dir)
        await load_link(store, state_dir, server, AT)


async def _leads(store: connection.Store, state_dir: Path) -> None:
    """Hold the keys of a lead to what it issued last."""
    lead_keys = keys.load_lead_keys(state_dir)
    async with store.reading() as tx:
        current = await issued.current(tx)
    assert current is not None
    opened = open_envelope(current.raw)
    assert not isinstance(opened, Unreadable)
    signer = authority(opened)
    assert signer is not None
    assert (signer.identity, signer.seq, opened.kid) == (
        lead_keys.identity,
        lead_keys.seq,
        lead_keys.signing.thumbprint,
    ), "the keys are not those of the current record"
    identity = keys._private_key(keys._path(state_dir, keys.IDENTITY))
    assert identity.thumbprint == lead_keys.identity
    keys.write_server_certificate(state_dir, ("127.0.0.1",))
    keys.begin_lead_session(state_dir, 0, random.Random(0))


def device_keys(state_dir: Path) -> set[str]:
    """Give the thumbprints of every key of this device that an attaching may have bound."""
    folder = state_dir / files.KEYS_DIR
    found = [*folder.glob(keys.CREDENTIALS.format("*")), *folder.glob(keys.ATTACHING)]
    return {keys.load_credentials(path).key.thumbprint for path in found}


def follows(config: Path, state_dir: Path) -> str | None:
    """Name the lead that the next start of the agent follows."""
    wanted = settings.load(Found(config, parse_toml(config.read_bytes(), config), exists=True))

    async def named() -> str | None:
        async with connection.opened(state_dir) as store:
            async with store.reading() as tx:
                server = await held.server(tx)
            link = await load_link(store, wanted.state_dir, server, AT)
            return None if link is None else link.following.lead

    return asyncio.run(named())


def do(*words: str | Path, stdin: str = "") -> Said:
    """Run a command in this process."""
    out, err = io.TextIOWrapper(io.BytesIO(), write_through=True), io.TextIOWrapper(io.BytesIO(), write_through=True)
    code: object = 0
    with (
        patch.object(sys, "stdin", io.StringIO(stdin)),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            commands.main([str(word) for word in words])
        except SystemExit as ended:
            code = ended.code
    texts = [stream.buffer.getvalue().decode() for stream in (out, err)]
    return Said(int(str(code)), *texts)
