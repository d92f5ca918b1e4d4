"""What a lead signed: every version once, the bytes as they were signed, and the content in force in each of them."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from propagator.core import version
from propagator.core.decide import Overwrite, decide
from propagator.core.errors import StoreError
from propagator.core.record import Record, read
from propagator.core.state import DownlinkState
from propagator.core.version import Order
from propagator.issuing import Issuer
from propagator.keys import LeadKeys
from propagator.register import register
from propagator.store import held, issued
from tests.store.contents import AT, ES, LATER, LEAD, lead_keys, opened_for, rows
from tests.unit.builders import opened, registered, v

if TYPE_CHECKING:
    from pathlib import Path

    from propagator.core.record import Document
    from propagator.core.version import Version
    from propagator.store import Store

FIRST, SECOND = registered("First"), registered("Second")


@pytest_asyncio.fixture
async def born(lead_store: Store) -> Store:
    """The store of a lead after `init`: it has signed its first record, which is null."""
    async with lead_store.transaction() as tx:
        await issued.create(tx, "embedded", DownlinkState.OK)
        await issuer(0).sign(tx, v("1.1.aaaa.1"), AT)
    return lead_store


def issuer(session: int = 7) -> Issuer:
    """Who issues in one start of a lead: the first change of a session begins a life."""
    return Issuer(lead_keys(), Random(session), session)


async def current(store: Store) -> issued.Issue:
    async with store.reading() as tx:
        found = await issued.current(tx)
    assert found is not None
    return found


def record_in(raw: bytes) -> Record:
    record = read(Record, opened(raw).payload)
    assert isinstance(record, Record)
    return record


async def issue(store: Store, by: Issuer | None = None) -> Version:
    found, is_new = await (by or issuer()).issue(store, LATER)
    assert found is not None
    assert is_new
    return found.version


async def test_first_record_of_a_lead_is_null_and_verifies(born: Store) -> None:
    first = await current(born)
    assert str(first.version) == "1.1.aaaa.1"
    record = record_in(first.raw)
    assert (record.registration, record.system_id, record.lead) == (None, "SYS-1", "es-1")
    assert [(hop.id, hop.identity) for hop in record.path] == [("es-1", LEAD.identity.thumbprint)]


async def test_issued_record_is_taken_over_by_who_was_invited(born: Store) -> None:
    await register(born, FIRST, at=AT)
    await issue(born)
    decision = decide(None, (await _local(born)).in_force, opened((await current(born)).raw), LEAD.trust())
    assert isinstance(decision, Overwrite)
    assert decision.record.registration == FIRST


async def _local(store: Store) -> held.LocalRecord:
    async with store.reading() as tx:
        return await held.local(tx)


async def test_signing_a_version_twice_is_refused_by_the_store(born: Store) -> None:
    before = await current(born)
    await register(born, FIRST, at=AT)
    with pytest.raises(StoreError, match="UNIQUE"):
        async with born.transaction() as tx:
            await issuer().sign(tx, v("1.1.aaaa.1"), LATER)
    assert await current(born) == before
    assert (await _local(born)).pending


async def test_first_change_of_a_start_begins_a_life(born: Store) -> None:
    """Generation + 1, a new epoch, the revision goes on; a second change stays in this life."""
    by = issuer()
    await register(born, FIRST, at=AT)
    first = await issue(born, by)
    await register(born, SECOND, at=AT)
    second = await issue(born, by)
    assert (first.seq, first.generation, first.revision) == (1, 2, 2)
    assert first.epoch != "aaaa"
    assert second == first.next_revision()
    record = record_in((await current(born)).raw)
    assert [(life.generation, life.epoch, life.revision) for life in record.lives] == [
        (1, "aaaa", 1),
        (2, first.epoch, 3),
    ]


async def test_nothing_is_issued_without_a_change(born: Store) -> None:
    before = await current(born)
    found, is_new = await issuer().issue(born, LATER)
    assert (found, is_new) == (before, False)
    assert rows(born.path.parent, "SELECT count(*) FROM issue") == [(1,)]


async def test_issued_content_is_no_longer_pending_and_carries_its_version(born: Store) -> None:
    await register(born, FIRST, at=AT)
    assert (await _local(born)).pending
    assert (await _local(born)).version is None
    number = await issue(born)
    record = await _local(born)
    assert (record.pending, record.version, record.lead) == (False, number, None)
    assert rows(born.path.parent, "SELECT version, fingerprint FROM history WHERE event = 'registered'") == [
        (str(number), LEAD.signing.thumbprint)
    ]


async def test_history_gives_a_version_only_to_what_that_version_carried(born: Store) -> None:
    """Registered twice before the agent looked: the first was in force here, and never out."""
    await register(born, FIRST, at=AT)
    await register(born, SECOND, at=LATER)
    number = await issue(born)
    history = rows(born.path.parent, "SELECT after, version FROM history WHERE event = 'registered' ORDER BY id")
    assert history == [(FIRST.canonical, None), (SECOND.canonical, str(number))]
    await register(born, FIRST, at=LATER)
    again = await issue(born)
    history = rows(born.path.parent, "SELECT version FROM history WHERE event = 'registered' ORDER BY id")
    assert history == [(None,), (str(number),), (str(again),)]


async def test_every_version_stays_as_it_was_signed(born: Store) -> None:
    by, signed = issuer(), [(await current(born)).raw]
    for content in (FIRST, SECOND, FIRST):
        await register(born, content, at=AT)
        await issue(born, by)
        signed.append((await current(born)).raw)
    assert [row[0] for row in rows(born.path.parent, "SELECT raw FROM issue ORDER BY number")] == signed


async def test_record_lists_its_last_eight_lives(born: Store) -> None:
    for number in range(12):
        await register(born, registered(f"House {number}"), at=AT)
        await issue(born, issuer(number + 1))
    lives = record_in((await current(born)).raw).lives
    assert [life.generation for life in lives] == list(range(6, 14))


async def test_no_version_is_ever_signed_twice_also_when_the_transaction_fails_after_signing(
    born: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F08: bytes once signed exist, whatever became of them: another record may never carry their version."""
    signed: list[Version] = []
    seal = LeadKeys.seal

    def remembering(keys: LeadKeys, typ: str, document: Document) -> bytes:
        if isinstance(document, Record):
            signed.append(document.version)
        return seal(keys, typ, document)

    monkeypatch.setattr(LeadKeys, "seal", remembering)
    by = issuer()
    for _ in range(3):
        await register(born, registered(f"House {len(signed)}"), at=AT)
        with monkeypatch.context() as broken:
            broken.setattr(issued, "issue", _disk_full)
            for _ in range(3):
                with pytest.raises(StoreError):
                    await by.issue(born, LATER)
        await issue(born, by)
    assert len(signed) == 12
    assert len(set(signed)) == 12
    kept = [row[0] for row in rows(born.path.parent, "SELECT version FROM issue ORDER BY number")]
    assert kept == ["1.1.aaaa.1", *map(str, signed[3::4])]
    assert all(version.parse(str(text)) is not None for text in kept)


async def _disk_full(*_: object, **__: object) -> None:
    raise StoreError("The disk is full.")


async def test_lead_whose_numbers_are_used_up_goes_on_with_what_it_issued_last(born: Store) -> None:
    """Nothing is above them under this signing key; `rotate` begins anew."""
    last = v(f"1.{2**53 - 1}.zzzz.5")
    async with born.transaction() as tx:
        await issuer().sign(tx, last, AT)
    await register(born, FIRST, at=AT)
    found, is_new = await issuer(8).issue(born, AT)
    assert found is not None
    assert (found.version, is_new) == (last, False)
    assert (await _local(born)).pending


async def test_lost_lead_has_no_version_and_issues_none(lead_store: Store) -> None:
    async with lead_store.transaction() as tx:
        assert not await issued.exists(tx)
        await issued.create(tx, "embedded", DownlinkState.LOST)
        assert await issued.exists(tx)
    await register(lead_store, FIRST, at=AT)
    assert await issuer().issue(lead_store, AT) == (None, False)
    assert (await _local(lead_store)).pending


async def test_downlink_is_noted_for_a_status_without_an_agent(born: Store) -> None:
    async with born.transaction() as tx:
        await issued.note(tx, broker="mqtts://b:8883", state=DownlinkState.SECOND_LEAD, finding={"code": "X"})
    assert rows(born.path.parent, "SELECT broker, state, finding FROM downlink") == [
        ("mqtts://b:8883", "second_lead", '{"code": "X"}')
    ]


async def test_current_version_outlives_a_restart(tmp_path: Path) -> None:
    async with opened_for(tmp_path, ES) as store, store.transaction() as tx:
        await issued.create(tx, "embedded", DownlinkState.OK)
        await issuer().sign(tx, v("1.1.aaaa.1"), AT)
        before = await issued.current(tx)
    async with opened_for(tmp_path, ES) as store:
        assert await current(store) == before


@pytest.mark.parametrize("now", ["Firsu", 'Fir"t'], ids=["another text", "no JSON any more"])
async def test_f35_a_damaged_registration_is_not_signed(born: Store, now: str) -> None:
    """Nobody registered what it says by now: what was announced before stays, and a person hears why."""
    await register(born, FIRST, at=AT)
    await issue(born)
    before = await current(born)
    async with born.transaction() as tx:
        await tx.run("UPDATE record SET registration = replace(registration, 'First', ?)", now)
    assert await issuer(8).issue(born, LATER) == (before, False)
    with pytest.raises(StoreError, match="damaged"):
        async with born.transaction() as tx:
            await issuer(8).sign(tx, before.version.next_revision(), LATER)
    await register(born, SECOND, at=LATER)
    assert (await issue(born, issuer(8))).compared_to(before.version) is Order.HIGHER
