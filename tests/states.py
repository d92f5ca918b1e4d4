"""States of whole servers for the tests that only read them, made with the store's own functions."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Final

from propagator import keys
from propagator.core.decide import Floor
from propagator.core.roster import Seen
from propagator.core.session import Mark, Session
from propagator.core.state import DownlinkState, Event, Origin, State
from propagator.core.wire import path_of
from propagator.store import changes, connection, held, issued, members, uplinks
from tests.unit.builders import Lead, key, registered

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path
    from typing import TypeAlias

    from propagator.core.difference import JsonObject
    from propagator.core.registration import Registration
    from propagator.store import Store, Tx

    Fill: TypeAlias = Callable[[Tx], Awaitable[None]]

AT: Final = "2026-11-24T11:20:31.123Z"
LATER: Final = "2026-11-24T11:30:00.000Z"

LEAD: Final = Lead()
FIRST: Final = "1.1.aaaaaa.1"
CURRENT: Final = "1.2.bbbbbb.2"

HOUSE: Final = registered("Riverside House")
MILL: Final = registered("Riverside Mill")

_ES: Final = held.Server("es-1", "Enterprise Server", "enterprise-server", "SYS-1", False, True)  # noqa: FBT003
_DEVICE: Final = held.Server("as-1", "Roof [bold]", "server-device", "SYS-D", True, False)  # noqa: FBT003
_ALONE: Final = held.Server("as-9", "as-9", "server-device", "SYS-9", False, False)  # noqa: FBT003


def standalone(state_dir: Path, registration: Registration | None = None) -> None:
    """Make a server of its own, registered if a registration is given."""

    async def fill(tx: Tx) -> None:
        await held.create_server(tx, _ALONE, AT)
        if registration is not None:
            await _register(tx, registration, pending=False)

    _made(state_dir, fill)


def lead(
    state_dir: Path,
    registration: Registration | None = HOUSE,
    reports: dict[str, JsonObject | None] | None = None,
    *,
    state: DownlinkState = DownlinkState.OK,
) -> None:
    """Make the lead es-1, whose current version is 1.2.bbbbbb.2; `reports` has its shadows and what each said last."""

    async def fill(tx: Tx) -> None:
        await held.create_server(tx, _ES, AT)
        await issued.create(tx, "embedded", state)
        if registration is not None:
            await _register(tx, registration, pending=True)
        if state is not DownlinkState.LOST:
            record = LEAD.record(CURRENT, registration)
            await issued.issue(tx, record, LEAD.signed(CURRENT, registration), LEAD.signing.thumbprint, life=0)
        for number, (device, report) in enumerate((reports or {}).items(), 1):
            await _bind(tx, device, number, report)

    _made(state_dir, fill)
    (state_dir / "keys").mkdir(mode=0o700)
    for name in (keys.SIGNING, keys.DELEGATION):
        (state_dir / "keys" / name).touch(mode=0o600)


def shadow(state_dir: Path, *, state: State = State.IN_SYNC, attached: bool = True) -> None:
    """Make the shadow as-1, which had a registration of its own and took over that of es-1."""

    async def fill(tx: Tx) -> None:
        await held.create_server(tx, _DEVICE, AT)
        if not attached:
            return
        await _register(tx, MILL, pending=False)
        link = uplinks.Uplink("es-1", "Enterprise Server", LEAD.identity.thumbprint, State.UNKNOWN, AT, 60.0)
        await uplinks.attach(tx, link, seq=1, lowest=None, at=AT)
        record = LEAD.record(CURRENT, HOUSE)
        floor = Floor(record.version, record.hash, path_of(record.path), registered=True)
        raw = LEAD.signed(CURRENT, HOUSE)
        await changes.overwrite(
            tx, record, raw, floor=floor, trust=LEAD.trust(), fingerprint=LEAD.signing.thumbprint, at=LATER
        )
        await uplinks.note_uplink(
            tx, state=state, since=LATER, address="192.0.2.10:8883", last_heard=LATER, finding=None
        )

    _made(state_dir, fill)


def report(
    state: State = State.IN_SYNC, version: str | None = CURRENT, registration: Registration = HOUSE
) -> JsonObject:
    """Say what a shadow says that holds this version."""
    known: JsonObject | None = None if version is None else {"version": version, "hash": registration.hash}
    said: JsonObject = {
        "floor": known,
        "version": version,
        "hash": registration.hash,
        "stored_at": LATER,
        "state": state.value,
        "refusal": None,
        "finding": None,
        "subtree": None,
        "name": "Roof [bold]",
        "kind": "server-device",
    }
    return said


def change(state_dir: Path, sql: str, *values: str | int | bytes | None) -> None:
    """Change rows as no function of the store would."""

    async def write(tx: Tx) -> None:
        await tx.run(sql, *values)

    async def work() -> None:
        async with connection.opened(state_dir) as store:
            await _write(store, write)

    asyncio.run(work())


async def _register(tx: Tx, registration: Registration, *, pending: bool) -> None:
    await changes.write_own(
        tx, registration, event=Event.REGISTERED, origin=Origin.OWN, pending=pending, at=AT, detail="from a file"
    )


async def _bind(tx: Tx, device: str, number: int, said: JsonObject | None) -> None:
    member = members.Member(
        id=device,
        name=device,
        kind="server-device",
        system_id="SYS-D",
        key=key(device).thumbprint,
        password_hash="$7$x",
        serial=f"{number:032x}",
        membership="…",
        attached_at=AT,
        revoked_at=None,
        seen=Seen(None, confirmed=False),
        report=None,
        online=False,
        presence=None,
    )
    await members.bind(tx, member, at=AT)
    if said is not None:
        mark = Mark(Session(1764000000, "aaaa"), 1)
        await members.note_report(tx, device, Seen(mark, confirmed=True), json.loads(json.dumps(said)), LATER)
        await members.note_presence(tx, device, mark, online=True, at=LATER)


def _made(state_dir: Path, fill: Fill) -> None:
    state_dir.mkdir(parents=True, exist_ok=True)

    async def work() -> None:
        await connection.create(state_dir)
        async with connection.opened(state_dir) as store:
            await _write(store, fill)

    asyncio.run(work())


async def _write(store: Store, fill: Fill) -> None:
    async with store.transaction() as tx:
        await fill(tx)
