"""The local record: overwritten in one piece with its history and its floor, never lost, brought back on request."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from propagator import attach as attaching
from propagator.core.decide import Keep, Overwrite, RaiseFloor, Refuse
from propagator.core.errors import RefusedError, StateError, StoreError
from propagator.core.session import Mark, Session
from propagator.core.state import Origin, Reason, State
from propagator.reconcile import reconcile
from propagator.register import register
from propagator.store import floors, held, uplinks
from tests.store.contents import AT, DEVICE, ES, LATER, LEAD, attach, following, in_force, offer, opened_for, rows
from tests.unit.builders import Lead, key, registered, v

if TYPE_CHECKING:
    from pathlib import Path

    from propagator.core.registration import Registration
    from propagator.store import Store

OWN = registered("Own House")
FIRST, SECOND, THIRD = registered("First"), registered("Second"), registered("Third")


async def detach(store: Store, *, restore: bool, at: str = LATER) -> held.LocalRecord | None:
    async with store.transaction() as tx:
        return await uplinks.detach(tx, restore=restore, at=at)


async def floor_of(store: Store, lead: Lead = LEAD) -> str | None:
    async with store.reading() as tx:
        floor = await floors.floor(tx, lead.id, lead.identity.thumbprint)
    return None if floor is None else str(floor.version)


def texts(*registrations: Registration | None) -> list[str | None]:
    return [None if registration is None else registration.canonical for registration in registrations]


def events(store: Store) -> list[object]:
    return [row[0] for row in rows(store.path.parent, "SELECT event FROM history ORDER BY id")]


# The beginning.


async def test_new_database_holds_an_empty_record_of_its_own(store: Store) -> None:
    record = await in_force(store)
    assert (record.origin, record.registration, record.lead, record.version) == (Origin.OWN, None, None, None)
    async with store.reading() as tx:
        assert await held.server(tx) == DEVICE
        assert await uplinks.uplink(tx) is None


async def test_database_has_one_server_and_one_record(store: Store) -> None:
    with pytest.raises(StoreError):
        async with store.transaction() as tx:
            await held.create_server(tx, DEVICE, AT)
    assert rows(store.path.parent, "SELECT count(*) FROM record") == [(1,)]


async def test_renamed_server_keeps_its_system_id(store: Store) -> None:
    async with store.transaction() as tx:
        await held.rename_server(tx, held.Server("x", "New name", "enterprise-server", "SYS-X", False, True))  # noqa: FBT003
        server = await held.server(tx)
    assert (server.id, server.name, server.system_id, server.wants_downlink) == ("device-1", "New name", "SYS-D", True)


# An overwrite.


async def test_overwrite_writes_record_history_and_floor(store: Store) -> None:
    await register(store, OWN, at=AT)
    await attach(store)
    raw = LEAD.signed("1.2.aaaa.2", FIRST)
    assert isinstance(await offer(store, raw, at=LATER), Overwrite)
    record = await in_force(store)
    assert (record.origin, record.registration, record.lead, record.version) == (
        *(Origin.LEAD, FIRST, "es-1", v("1.2.aaaa.2")),
    )
    assert (record.raw, record.stored_at, record.pending) == (raw, LATER, False)
    assert await floor_of(store) == "1.2.aaaa.2"
    line = rows(
        store.path.parent,
        "SELECT at, origin, lead, version, fingerprint, before, after, raw FROM history WHERE event = 'overwritten'",
    )
    assert line == [(LATER, "lead", "es-1", "1.2.aaaa.2", LEAD.signing.thumbprint, *texts(OWN, FIRST), raw)]


async def test_history_keeps_everything_that_was_overwritten(store: Store) -> None:
    await register(store, OWN, at=AT)
    await attach(store)
    offered = [
        LEAD.signed(f"1.2.aaaa.{revision}", content) for revision, content in ((2, FIRST), (3, SECOND), (9, THIRD))
    ]
    for raw in offered:
        assert isinstance(await offer(store, raw), Overwrite)
    found = rows(store.path.parent, "SELECT before, after, raw FROM history WHERE event = 'overwritten' ORDER BY id")
    contents = texts(OWN, FIRST, SECOND, THIRD)
    assert found == [(before, after, raw) for before, after, raw in zip(contents, contents[1:], offered, strict=False)]


async def test_history_row_says_what_was_replaced_and_whose_it_was(store: Store) -> None:
    await attach(store)
    await offer(store, LEAD.signed("1.2.aaaa.2", FIRST), at=AT)
    await offer(store, LEAD.signed("1.2.aaaa.3", SECOND), at=LATER)
    (written,) = rows(store.path.parent, "SELECT replaced FROM history ORDER BY id DESC LIMIT 1")
    assert json.loads(str(written[0])) == {
        "origin": "lead",
        "lead": "es-1",
        "version": "1.2.aaaa.2",
        "hash": FIRST.hash,
        "stored_at": AT,
        "detached_from": None,
    }


async def test_same_record_again_is_kept_and_writes_no_history(store: Store) -> None:
    """F21."""
    await attach(store)
    raw = LEAD.signed("1.2.aaaa.2", FIRST)
    await offer(store, raw)
    assert isinstance(await offer(store, raw), Keep)
    assert events(store) == ["attached", "overwritten"]


@pytest.mark.parametrize("content", [pytest.param(FIRST, id="in force"), pytest.param(None, id="null")])
async def test_record_that_is_offered_again_and_again_is_not_written_again(
    store: Store, content: Registration | None
) -> None:
    """Every announcement of a lead, and every replay of a rogue, would cost the disk a write."""
    await attach(store)
    offered = [LEAD.signed("1.2.aaaa.2", content), LEAD.signed("1.2.aaaa.1", SECOND), b"junk"]
    for raw in offered:
        await offer(store, raw)
    with closing(sqlite3.connect(store.path)) as other:
        before = other.execute("PRAGMA data_version").fetchone()
        for raw in offered * 3:
            await offer(store, raw)
        assert other.execute("PRAGMA data_version").fetchone() == before


async def test_null_record_raises_the_floor_and_keeps_ours(store: Store) -> None:
    await register(store, OWN, at=AT)
    await attach(store)
    decision = await offer(store, LEAD.signed("1.1.aaaa.1"))
    assert isinstance(decision, RaiseFloor)
    assert decision.state is State.LEAD_UNREGISTERED
    assert (await in_force(store)).registration == OWN
    assert await floor_of(store) == "1.1.aaaa.1"


async def test_withdrawn_registration_stays_in_force_here(store: Store) -> None:
    await attach(store)
    await offer(store, LEAD.signed("1.2.aaaa.2", FIRST))
    decision = await offer(store, LEAD.signed("1.2.aaaa.3"))
    assert isinstance(decision, RaiseFloor)
    assert decision.state is State.WITHDRAWN
    assert (await in_force(store)).registration == FIRST


async def test_f49_replay_of_the_first_day_null_record_is_a_rollback(store: Store) -> None:
    await attach(store)
    first_day = LEAD.signed("1.1.aaaa.1")
    await offer(store, first_day)
    await offer(store, LEAD.signed("1.2.bbbb.2", FIRST))
    decision = await offer(store, first_day)
    assert isinstance(decision, Refuse)
    assert decision.reason is Reason.ROLLBACK
    assert (await in_force(store)).registration == FIRST


async def test_f01_replayed_record_is_a_rollback_also_after_a_restart(tmp_path: Path) -> None:
    old, new = LEAD.signed("1.2.aaaa.2", FIRST), LEAD.signed("1.2.aaaa.3", SECOND)
    async with opened_for(tmp_path) as store:
        await attach(store)
        await offer(store, old)
        await offer(store, new)
    async with opened_for(tmp_path) as store:
        decision = await offer(store, old)
        assert isinstance(decision, Refuse)
        assert decision.reason is Reason.ROLLBACK
        assert (await in_force(store)).registration == SECOND


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(
            "UPDATE record SET registration = replace(registration, 'First', 'Firsu')", id="in the registration"
        ),
        pytest.param("UPDATE record SET raw = CAST(replace(raw, '.', '..') AS BLOB)", id="in the signed bytes"),
        pytest.param("UPDATE record SET raw = NULL", id="signed bytes are gone"),
    ],
)
async def test_f35_flipped_bit_is_found_and_the_record_fetched_again(store: Store, damage: str) -> None:
    await attach(store)
    raw = LEAD.signed("1.2.aaaa.2", FIRST)
    await offer(store, raw)
    with closing(sqlite3.connect(store.path)) as other:
        other.execute(damage)
        other.commit()
    assert isinstance(await offer(store, raw), Overwrite)
    assert (await in_force(store)).registration == FIRST
    assert isinstance(await offer(store, raw), Keep)


async def test_higher_delegation_of_a_kept_record_is_remembered(store: Store) -> None:
    """F02: after `rotate` the old key's records are refused, for good."""
    await attach(store)
    await offer(store, LEAD.signed("1.2.aaaa.2", FIRST))
    await offer(store, LEAD.rotated().signed("2.1.bbbb.1", FIRST))
    decision = await offer(store, LEAD.signed(f"1.{2**53 - 1}.cccc.{2**53 - 1}", SECOND))
    assert isinstance(decision, Refuse)
    assert decision.reason is Reason.REVOKED_KEY
    async with store.reading() as tx:
        trust = await floors.trust(tx, "es-1", LEAD.identity.thumbprint, None)
    assert trust.seq == 2


# Attaching and detaching.


async def test_detach_keeps_the_reflected_registration_and_marks_it(store: Store) -> None:
    await attach(store)
    await offer(store, LEAD.signed("1.2.aaaa.2", FIRST))
    assert await detach(store, restore=False) is None
    record = await in_force(store)
    assert record.registration == FIRST
    assert json.loads(record.detached_from or "") == {"lead": "es-1", "version": "1.2.aaaa.2", "at": LATER}
    assert events(store) == ["attached", "overwritten", "detached"]


async def test_detach_restore_brings_back_what_the_first_overwrite_replaced(store: Store) -> None:
    await register(store, OWN, at=AT)
    await attach(store)
    await offer(store, LEAD.signed("1.2.aaaa.2", FIRST))
    await offer(store, LEAD.signed("1.2.aaaa.3", SECOND))
    restored = await detach(store, restore=True)
    record = await in_force(store)
    assert restored == record
    assert (record.registration, record.origin, record.lead, record.version) == (OWN, Origin.OWN, None, None)
    assert (record.raw, record.detached_from, record.pending) == (None, None, False)
    assert events(store) == ["registered", "attached", "overwritten", "overwritten", "detached", "restored"]
    assert rows(store.path.parent, "SELECT before, after FROM history WHERE event = 'restored'") == [
        tuple(texts(SECOND, OWN))
    ]


async def test_detach_restore_brings_back_that_there_was_nothing(store: Store) -> None:
    await attach(store)
    await offer(store, LEAD.signed("1.2.aaaa.2", FIRST))
    restored = await detach(store, restore=True)
    assert restored is not None
    assert restored.registration is None
    assert (await in_force(store)).registration is None


async def test_detach_restore_has_nothing_to_do_where_nothing_was_overwritten(store: Store) -> None:
    await register(store, OWN, at=AT)
    await attach(store)
    assert await detach(store, restore=True) is None
    assert (await in_force(store)).registration == OWN
    assert events(store) == ["registered", "attached", "detached"]


async def test_detach_restore_looks_at_the_last_attaching_only(store: Store) -> None:
    await register(store, OWN, at=AT)
    await attach(store)
    await offer(store, LEAD.signed("1.2.aaaa.2", FIRST))
    await detach(store, restore=False)
    await attach(store)
    await offer(store, LEAD.signed("1.2.aaaa.3", SECOND))
    restored = await detach(store, restore=True)
    assert restored is not None
    assert restored.registration == FIRST
    assert json.loads(restored.detached_from or "")["version"] == "1.2.aaaa.2", "it was left behind by a lead before"


async def test_detach_without_a_link_changes_nothing(store: Store) -> None:
    assert await detach(store, restore=True) is None
    assert events(store) == []
    with pytest.raises(StateError, match="not attached"):
        await attaching.detach(store, store.path.parent, restore=False, at=AT)


async def test_f48_attached_device_is_overwritten_every_time(store: Store) -> None:
    """Its own record looks newer; then detach --restore; then again under an unchanged lead: overwritten both times."""
    await register(store, OWN, at="2031-01-01T00:00:00.000Z")
    unchanged = LEAD.signed("1.2.aaaa.2", FIRST)
    for _ in range(3):
        await attach(store)
        assert isinstance(await offer(store, unchanged), Overwrite)
        assert (await in_force(store)).registration == FIRST
        await detach(store, restore=True)
        assert (await in_force(store)).registration == OWN


async def test_floor_outlives_detaching(store: Store) -> None:
    await attach(store)
    old = LEAD.signed("1.2.aaaa.2", FIRST)
    await offer(store, old)
    await offer(store, LEAD.signed("1.2.aaaa.3", SECOND))
    for restore in (False, True):
        await detach(store, restore=restore)
        assert await floor_of(store) == "1.2.aaaa.3"
        await attach(store)
        decision = await offer(store, old)
        assert isinstance(decision, Refuse)
        assert decision.reason is Reason.ROLLBACK


async def test_floor_of_each_identity_key_is_its_own(store: Store) -> None:
    """A lead set up anew under its old id begins at 1 again, because its invitation pins another identity key."""
    await attach(store)
    await offer(store, LEAD.signed("1.7.aaaa.40", FIRST))
    anew = Lead(identity=key("es-1 identity, second"), signing=key("es-1 signing, second"))
    await attach(store, anew)
    assert isinstance(await offer(store, anew.signed("1.2.bbbb.2", SECOND), anew), Overwrite)
    assert (await floor_of(store), await floor_of(store, anew)) == ("1.7.aaaa.40", "1.2.bbbb.2")


async def test_attaching_again_never_lowers_the_delegation(store: Store) -> None:
    await attach(store, LEAD.rotated())
    await attach(store, LEAD)
    async with store.reading() as tx:
        assert (await floors.trust(tx, "es-1", LEAD.identity.thumbprint, None)).seq == 2


async def test_record_below_the_version_of_the_token_is_a_rollback(store: Store) -> None:
    await attach(store, lowest=v("1.2.aaaa.5"))
    decision = await offer(store, LEAD.signed("1.2.aaaa.4", FIRST))
    assert isinstance(decision, Refuse)
    assert decision.reason is Reason.ROLLBACK


async def test_attaching_forgets_the_refusals_of_the_link_before(store: Store) -> None:
    await attach(store)
    async with store.transaction() as tx:
        await uplinks.note_refusal(tx, reason="rollback", text="It is old.", count=3, at=AT)
    await attach(store)
    assert rows(store.path.parent, "SELECT * FROM refusal") == []


async def test_attaching_ends_that_the_record_was_left_behind(store: Store) -> None:
    await attach(store)
    await offer(store, LEAD.signed("1.2.aaaa.2", FIRST))
    await detach(store, restore=False)
    await attach(store)
    assert (await in_force(store)).detached_from is None


async def test_last_word_on_the_uplink_tells_a_crash_from_a_detaching(store: Store) -> None:
    for change, detached in ((attach(store), False), (detach(store, restore=False), True), (attach(store), False)):
        await change
        async with store.reading() as tx:
            assert await uplinks.was_detached(tx) is detached


async def test_attached_shadow_refuses_to_register_and_names_its_lead(store: Store) -> None:
    """R16."""
    await attach(store)
    with pytest.raises(RefusedError, match="The lead") as refused:
        await register(store, OWN, at=AT)
    assert "es-1" in refused.value.hint
    assert events(store) == ["attached"]


# What is not taken over.


async def test_f28_record_that_does_not_parse_is_quarantined_once(store: Store) -> None:
    await attach(store)
    await offer(store, LEAD.signed("1.2.aaaa.2", FIRST))
    poison = LEAD.forged(b'{"lead": "es-1", "version": "1.2.aaaa.3"}')
    for _ in range(3):
        decision = await offer(store, poison)
        assert isinstance(decision, Refuse)
        assert (decision.reason, decision.verified) == (Reason.UNREADABLE, True)
    assert (await in_force(store)).registration == FIRST
    kept = rows(store.path.parent, "SELECT raw, before, after FROM history WHERE event = 'quarantined'")
    assert kept == [(poison, *texts(FIRST, FIRST))]
    await offer(store, LEAD.forged(b'{"lead": "es-1"}'))
    assert events(store).count("quarantined") == 2


async def test_strangers_bytes_are_not_kept(store: Store) -> None:
    await attach(store)
    for raw in (b"", b"junk", Lead("es-2").signed("1.9.aaaa.9", THIRD), Lead(signing=key("x")).forged(b"{}")):
        assert isinstance(await offer(store, raw), Refuse)
    assert events(store) == ["attached"]
    assert await floor_of(store) is None


async def test_f09_other_content_of_one_version_is_a_fork_and_the_first_is_kept(store: Store) -> None:
    await attach(store)
    await offer(store, LEAD.signed("1.2.aaaa.2", FIRST))
    decision = await offer(store, LEAD.signed("1.2.aaaa.2", SECOND))
    assert isinstance(decision, Refuse)
    assert decision.reason is Reason.FORK
    assert (await in_force(store)).registration == FIRST


async def test_restored_record_does_not_make_detach_restore_bring_back_a_quarantined_one(store: Store) -> None:
    await register(store, OWN, at=AT)
    await attach(store)
    await offer(store, LEAD.forged(b"{}"))
    assert await detach(store, restore=True) is None
    assert (await in_force(store)).registration == OWN


# What is remembered of the link.


async def test_refusals_are_counted_by_reason(store: Store) -> None:
    await attach(store)
    for reason, text, count in (("rollback", "old", 1), ("fork", "other", 2), ("rollback", "older", 5)):
        async with store.transaction() as tx:
            await uplinks.note_refusal(tx, reason=reason, text=text, count=count, at=LATER)
    assert rows(store.path.parent, "SELECT reason, count, text FROM refusal ORDER BY reason") == [
        ("fork", 2, "other"),
        ("rollback", 6, "older"),
    ]
    ((written,),) = rows(store.path.parent, "SELECT refusal FROM uplink")
    assert json.loads(str(written)) == {"reason": "rollback", "text": "older", "at": LATER}


async def test_heartbeat_mark_is_kept_under_its_delegation(store: Store) -> None:
    await attach(store)
    mark = Mark(Session(1764000000, "aaaa"), 41)
    async with store.transaction() as tx:
        trust = await floors.trust(tx, "es-1", LEAD.identity.thumbprint, None)
        assert await floors.heartbeat_mark(tx, trust) is None
        await floors.note_heartbeat(tx, trust, seq=1, mark=mark, period_s=5.0, at=LATER)
        assert await floors.heartbeat_mark(tx, trust) == mark
        link = await uplinks.uplink(tx)
    assert link is not None
    assert link.period_s == 5.0


async def test_heartbeat_of_a_lower_delegation_does_not_lower_it(store: Store) -> None:
    await attach(store, LEAD.rotated())
    async with store.transaction() as tx:
        trust = await floors.trust(tx, "es-1", LEAD.identity.thumbprint, None)
        await floors.note_heartbeat(tx, trust, seq=1, mark=Mark(Session(1, "aaaa"), 1), period_s=5.0, at=LATER)
        assert (await floors.trust(tx, "es-1", LEAD.identity.thumbprint, None)).seq == 2


async def test_last_heard_is_not_forgotten_by_a_note_without_it(store: Store) -> None:
    await attach(store)
    for heard in (AT, None):
        async with store.transaction() as tx:
            await uplinks.note_uplink(
                tx, state=State.STALE, since=AT, address=None, last_heard=heard, finding={"code": "X"}
            )
    assert rows(store.path.parent, "SELECT state, last_heard, finding FROM uplink") == [("stale", AT, '{"code": "X"}')]


async def test_concurrent_offers_of_all_versions_end_at_the_highest(store: Store) -> None:
    """F22: in whatever order they come, a version never goes down."""
    await attach(store)
    offered = [LEAD.signed(f"1.2.aaaa.{revision}", registered(f"House {revision}")) for revision in (5, 2, 9, 3, 7, 9)]
    await asyncio.gather(*(offer(store, raw) for raw in offered))
    assert await floor_of(store) == "1.2.aaaa.9"
    versions = rows(store.path.parent, "SELECT version FROM history WHERE event = 'overwritten' ORDER BY id")
    revisions = [int(str(version[0]).rsplit(".", 1)[1]) for version in versions]
    assert revisions == sorted(set(revisions))


async def test_lead_that_is_a_loop_is_refused(tmp_path: Path) -> None:
    """F17: our own identity key is in the record's path."""
    async with opened_for(tmp_path, ES) as store:
        await attach(store)
        own = Lead("es-9", key("es-9 identity"), key("es-9 signing"))
        raw = LEAD.signed("1.2.aaaa.2", FIRST, above=(own.hop,))
        relay = held.Server("es-9", "ES 9", "enterprise-server", "SYS-9", wants_uplink=True, wants_downlink=True)
        follows = following()
        decision = await reconcile(store, replace(follows, server=relay, own_identity=own.identity.thumbprint), raw, AT)
    assert isinstance(decision, Refuse)
    assert decision.reason is Reason.LOOP
