"""The lead: what it announces, how it watches its own topics, how its lives begin, and when it holds its tongue."""

from __future__ import annotations

import asyncio
import datetime as dt
import shutil
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from propagator.core.record import Record
from propagator.core.session import parse
from propagator.core.state import DownlinkState
from propagator.core.wire import Heard, Heartbeat, Leaf, Presence, Topic, Typ
from propagator.keys import LeadKeys
from propagator.register import register
from tests.links.site import HEARTBEAT, LEAD, PERIOD_S, RECORD, current, opened, until
from tests.store.contents import AT, rows
from tests.unit.builders import Lead, registered, v

if TYPE_CHECKING:
    from collections.abc import Callable

    from propagator.core.record import Document
    from propagator.core.registration import Registration
    from propagator.core.session import Session
    from propagator.core.version import Version
    from tests.links.site import Leading, Site

FIRST, SECOND, THIRD = registered("First"), registered("Second"), registered("Third")


def state_of(lead: Leading) -> object:
    return lead.lead.live()["state"]


def versions(site: Site) -> list[str]:
    """The versions that the lead published, each once, in order."""
    seen = [str(record.version) for said, record in site.records() if said.account == LEAD]
    return list(dict.fromkeys(seen))


def announcements(site: Site) -> list[float]:
    return [said.at_s for said, _ in site.records() if said.account == LEAD]


# What it announces.


async def test_lead_announces_the_stored_bytes_retained_at_every_connect(site: Site) -> None:
    async with site.leading() as lead:
        issue = await current(lead.store)
        assert issue is not None
        assert site.broker.retained[RECORD] == issue.raw
        site.broker.retained.clear()  # F27: the broker comes back with nothing
        site.broker.drop(LEAD)
        await until(lambda: RECORD in site.broker.retained)
        assert site.broker.retained[RECORD] == issue.raw


async def test_lead_announces_again_on_its_timer(site: Site) -> None:
    async with site.leading():
        first = len(announcements(site))
        await asyncio.sleep(31 * PERIOD_S)
        times = announcements(site)[first:]
    assert len(times) == 3
    assert all(later - earlier == pytest.approx(10 * PERIOD_S, abs=0.1) for earlier, later in pairwise(times))


async def test_change_is_published_at_once(site: Site) -> None:
    async with site.leading() as lead:
        begun_s = asyncio.get_running_loop().time()
        version = await lead.register(FIRST)
        assert versions(site)[-1] == str(version)
        assert announcements(site)[-1] - begun_s < 0.1


async def test_change_that_no_command_told_of_is_published_with_the_next_heartbeat(site: Site) -> None:
    """A command that was killed after its write, before it poked the agent."""
    async with site.leading() as lead:
        await register(lead.store, FIRST, at=AT)
        await asyncio.sleep(PERIOD_S + 1)
        issue = await current(lead.store)
        assert issue is not None
        assert versions(site)[1:] == [str(issue.version)]
        assert issue.hash == FIRST.hash


async def test_change_while_the_broker_is_away_waits_for_it(site: Site) -> None:
    async with site.leading() as lead:
        site.broker.stop()
        await until(lambda: not lead.lead.live()["connected"])
        assert await lead.register(FIRST) is None
        site.broker.start()
        await until(lambda: len(versions(site)) == 2)


async def test_heartbeats_come_every_period_and_count_up(site: Site) -> None:
    async with site.leading() as lead:
        await asyncio.sleep(5 * PERIOD_S + 1)
        beats = site.heartbeats()
        issue = await current(lead.store)
    assert issue is not None
    times = [said.at_s for said, _ in beats]
    assert len(beats) == 6
    assert all(later - earlier == pytest.approx(PERIOD_S, abs=0.01) for earlier, later in pairwise(times))
    assert [beat.counter for _, beat in beats] == [1, 2, 3, 4, 5, 6]
    assert {beat.session for _, beat in beats} == {lead.session}
    assert {(beat.version, beat.hash, beat.period_s) for _, beat in beats} == {(issue.version, issue.hash, PERIOD_S)}


async def test_reconnected_lead_beats_at_once_in_the_same_session(site: Site) -> None:
    async with site.leading():
        await asyncio.sleep(10)
        site.broker.drop(LEAD)
        await until(lambda: len(site.heartbeats()) == 2, within_s=5)
    (_, first), (_, second) = site.heartbeats()
    assert second.mark.is_after(first.mark)
    assert second.session == first.session


# A diagnosis of a shadow asks for a sign of life.

PROBE = str(Topic(LEAD, Leaf.PRESENCE, "device-1_probe"))


def probing(site: Site, signer: str = "device-1", counter: int = 1) -> bytes:
    return site.speaker(signer).seal(Typ.PRESENCE, born(counter))


def born(counter: int = 1) -> Presence:
    session = parse("7-abcd")
    assert session is not None
    return Presence(session=session, counter=counter, online=True)


async def test_a_probe_of_a_shadow_brings_a_heartbeat_at_once_and_moves_no_roster(site: Site) -> None:
    await site.enrol("device-1")
    async with site.leading():
        before, known = len(site.heartbeats()), site.member("device-1")
        site.broker.inject(PROBE, probing(site))
        await until(lambda: len(site.heartbeats()) == before + 1, within_s=0.5)
        assert site.member("device-1") == known
        assert (site.reports("device-1"), site.requests("device-1")) == ([], [])


async def test_probes_bring_at_most_one_heartbeat_a_second(site: Site) -> None:
    await site.enrol("device-1")
    async with site.leading():
        before = len(site.heartbeats())
        for counter in range(1, 31):
            site.broker.inject(PROBE, probing(site, counter=counter))
            await asyncio.sleep(0.1)
        assert 3 <= len(site.heartbeats()) - before <= 4


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(lambda _: b"", id="nothing"),
        pytest.param(lambda _: b"junk", id="what is no document"),
        pytest.param(lambda site: probing(site, "device-2"), id="a word of another device"),
        pytest.param(lambda site: site.lead_keys.seal(Typ.PRESENCE, born()), id="a word of the lead"),
        pytest.param(lambda site: site.speaker("device-1").seal(Typ.REPORT, born()), id="another kind of document"),
        pytest.param(lambda site: probing(site)[:-4] + b"AAAA", id="a signature that does not hold"),
    ],
)
async def test_f16_what_the_device_did_not_sign_brings_nothing(site: Site, raw: Callable[[Site], bytes]) -> None:
    await site.enrol("device-1", "device-2")
    async with site.leading():
        before = len(site.heartbeats())
        site.broker.inject(PROBE, raw(site))
        site.broker.inject(str(Topic(LEAD, Leaf.PRESENCE, "stranger_probe")), probing(site, "stranger"))
        await asyncio.sleep(5)
        assert len(site.heartbeats()) == before
        site.broker.inject(PROBE, probing(site))  # and it does not use up the second of the one that may
        await until(lambda: len(site.heartbeats()) == before + 1, within_s=0.5)


async def test_f36_session_of_a_restarted_lead_is_higher_although_its_clock_went_back(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site.leading() as before:
        pass
    monkeypatch.setattr("tests.links.site.now", _long_ago)
    async with site.leading() as after:
        assert after.session.number == before.session.number + 1


def _long_ago() -> dt.datetime:
    return dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


# Lives.


async def test_first_change_of_a_start_begins_a_life_and_the_next_one_stays_in_it(site: Site) -> None:
    async with site.leading() as lead:
        issue = await current(lead.store)
        first = await lead.register(FIRST)
        second = await lead.register(SECOND)
    assert first is not None
    assert second is not None
    assert issue is not None
    born = issue.version
    assert (born.seq, born.generation, born.revision) == (1, 1, 1)
    assert (first.generation, first.revision) == (2, 2)
    assert first.epoch != born.epoch
    assert second == first.next_revision()


async def test_start_without_a_change_goes_on_announcing_the_life_before(site: Site) -> None:
    async with site.leading(seed=1) as lead:
        version = await lead.register(FIRST)
    async with site.leading(seed=2):
        pass
    assert versions(site)[-1] == str(version)
    assert len(versions(site)) == 2


async def test_killed_and_restarted_lead_begins_a_life_with_its_next_change(site: Site) -> None:
    async with site.leading(seed=1) as lead:
        before = await lead.register(FIRST)
        await site.die(LEAD, lead.task)
    async with site.leading(seed=2) as lead:
        after = await lead.register(SECOND)
        issue = await current(lead.store)
    assert before is not None
    assert after is not None
    assert issue is not None
    assert (after.generation, after.revision) == (before.generation + 1, before.revision + 1)
    assert after.epoch != before.epoch


async def test_change_of_a_lead_that_was_down_begins_a_life_at_its_start(site: Site) -> None:
    async with site.leading(seed=1) as lead:
        await lead.register(FIRST)
        await site.die(LEAD, lead.task)
        await register(lead.store, SECOND, at=AT)
    async with site.leading(seed=2):
        assert [v(text).generation for text in versions(site)] == [1, 2, 3]


async def test_no_version_is_ever_published_with_two_contents(site: Site) -> None:
    for seed in range(4):
        async with site.leading(seed=seed) as lead:
            for name in ("a", "b"):
                await lead.register(registered(f"{name} {seed}"))
            site.broker.drop(LEAD)
            await asyncio.sleep(PERIOD_S)
    contents: dict[str, set[bytes]] = {}
    for said, record in site.records():
        contents.setdefault(str(record.version), set()).add(said.payload)
    assert len(contents) == 9
    assert all(len(payloads) == 1 for payloads in contents.values())


async def test_f08_lead_never_signs_one_version_twice_even_if_its_disk_fills_after_signing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the failed version was out, and another record takes the next number all the same."""
    signed: list[Version] = []
    seal = LeadKeys.seal

    def remembering(keys: LeadKeys, typ: str, document: Document) -> bytes:
        if isinstance(document, Record):
            signed.append(document.version)
        return seal(keys, typ, document)

    monkeypatch.setattr(LeadKeys, "seal", remembering)
    async with site.leading() as lead:
        await lead.register(FIRST)
        await register(lead.store, SECOND, at=AT)
        await lead.store.fill_disk()
        await asyncio.sleep(3 * PERIOD_S)
        await register_elsewhere(lead, THIRD)
        await lead.store.free_disk()
        await asyncio.sleep(PERIOD_S)
        issue = await current(lead.store)
    assert len(signed) > 3
    assert len(set(signed)) == len(signed)
    assert issue is not None
    assert issue.hash == THIRD.hash
    assert versions(site)[-1] == str(issue.version)


async def register_elsewhere(lead: Leading, content: Registration) -> None:
    """Register from another process, whose connection has no limit of its own."""
    async with opened(lead.store.path.parent) as store:
        await register(store, content, at=AT)


# Its own topic.


@pytest.mark.parametrize(
    "junk",
    [
        pytest.param(lambda _: b"", id="F05: nothing, which clears it"),
        pytest.param(lambda _: b"junk", id="no document"),
        pytest.param(lambda site: site.forged_record("1.1.aaaa.1", THIRD), id="a version below its own"),
        pytest.param(lambda _: Lead().signed("1.9.aaaa.9", THIRD), id="F06: signed under another identity key"),
        pytest.param(
            lambda site: site.lead_keys.seal(Typ.HEARTBEAT, heartbeat_of()), id="a document of its own, but no record"
        ),
    ],
)
async def test_f05_f58_junk_on_the_records_topic_is_repaired_at_once(site: Site, junk: Callable[[Site], bytes]) -> None:
    async with site.leading() as lead:
        await lead.register(FIRST)
        await asyncio.sleep(PERIOD_S)
        issue = await current(lead.store)
        assert issue is not None
        site.broker.inject(RECORD, junk(site), retain=True)
        assert site.broker.retained.get(RECORD) != issue.raw
        await until(lambda: site.broker.retained.get(RECORD) == issue.raw, within_s=1)
        assert lead.finding is None


async def test_f05_repairs_are_at_most_one_a_heartbeat_period(site: Site) -> None:
    """A rogue who writes every second makes the lead write once a minute."""
    async with site.leading():
        await asyncio.sleep(PERIOD_S)
        before = len(announcements(site))
        for second in range(300):
            site.broker.inject(RECORD, b"junk %d" % second, retain=True)
            await asyncio.sleep(1)
        times = announcements(site)[before:]
    assert 4 <= len(times) <= 6
    assert all(later - earlier >= PERIOD_S - 0.1 for earlier, later in pairwise(times))


async def test_last_junk_is_repaired_too_once_the_period_is_over(site: Site) -> None:
    async with site.leading() as lead:
        issue = await current(lead.store)
        assert issue is not None
        for _ in range(2):
            await asyncio.sleep(1)
            site.broker.inject(RECORD, b"junk", retain=True)
        await asyncio.sleep(PERIOD_S / 2)
        assert site.broker.retained[RECORD] == b"junk"
        await asyncio.sleep(PERIOD_S / 2 + 1)
        assert site.broker.retained[RECORD] == issue.raw


async def test_record_of_before_the_start_is_overwritten_and_not_repaired(site: Site) -> None:
    """It was right until now: a start with a change is no alarm, and is published once."""
    async with site.leading(seed=1):
        pass
    async with opened(site.directory / LEAD) as store:
        await register(store, FIRST, at=AT)
    before = len(announcements(site))
    async with site.leading(seed=2):
        await asyncio.sleep(PERIOD_S / 2)
    assert len(announcements(site)) == before + 1


async def test_own_announcements_are_no_junk(site: Site) -> None:
    """What the lead itself published, and reads back late, makes it publish nothing more."""
    async with site.leading() as lead:
        for content in (FIRST, SECOND, THIRD):
            await lead.register(content)
        await asyncio.sleep(PERIOD_S / 2)
    assert len(announcements(site)) == 4


@pytest.mark.parametrize(
    "written",
    [
        pytest.param("1.9.zzzz.9", id="a higher version"),
        pytest.param("1.2.zzzz.9", id="another epoch of the same generation"),
    ],
)
async def test_record_under_its_own_key_that_is_not_below_is_a_finding_and_not_repaired(
    site: Site, written: str
) -> None:
    async with site.leading() as lead:
        await lead.register(FIRST)
        await asyncio.sleep(1)
        ahead = site.forged_record(written, THIRD)
        site.broker.inject(RECORD, ahead, retain=True)
        await asyncio.sleep(3 * PERIOD_S)
        assert site.broker.retained[RECORD] == ahead
        assert lead.finding == "FIELD_HOLDS_ANOTHER_LIFE"
        assert state_of(lead) == DownlinkState.OK


# Two leads.


def heartbeat_of(session: str = "1700000000-copy", counter: int = 1, heard: Session | None = None) -> Heartbeat:
    """A heartbeat of another session under the lead's own key: a cloned machine's, or an old one."""
    spoken = parse(session)
    assert spoken is not None
    return Heartbeat(
        session=spoken,
        counter=counter,
        version=None,
        hash=None,
        heard=None if heard is None else Heard(session=heard, counter=1),
        upstream=None,
        period_s=PERIOD_S,
    )


async def test_f03_other_session_under_our_key_is_only_counted_until_it_hears_us(site: Site) -> None:
    async with site.leading() as lead:
        stranger = heartbeat_of()
        site.broker.inject(HEARTBEAT, site.lead_keys.seal(Typ.HEARTBEAT, stranger))
        await asyncio.sleep(PERIOD_S + 1)
        assert state_of(lead) == DownlinkState.OK
        heard = site.heartbeats()[-1][1].heard
        assert heard is not None
        assert (heard.session, heard.counter) == (stranger.session, stranger.counter)
        echo = heartbeat_of(counter=2, heard=lead.session)
        site.broker.inject(HEARTBEAT, site.lead_keys.seal(Typ.HEARTBEAT, echo))
        await until(lambda: state_of(lead) == DownlinkState.SECOND_LEAD, within_s=1)
        assert lead.finding == "SECOND_LEAD"


async def test_f03_echo_of_an_earlier_session_of_ours_proves_nothing(site: Site) -> None:
    """Recorded when two leads were there and replayed after one was stopped: only the present session counts."""
    async with site.leading(seed=1) as before:
        pass
    async with site.leading(seed=2) as lead:
        echo = heartbeat_of(heard=before.session)
        site.broker.inject(HEARTBEAT, site.lead_keys.seal(Typ.HEARTBEAT, echo))
        await asyncio.sleep(PERIOD_S)
        assert state_of(lead) == DownlinkState.OK


@pytest.mark.parametrize(
    "lead_of", [pytest.param(Lead(), id="another identity key"), pytest.param(None, id="no signature")]
)
async def test_f03_echo_that_is_not_under_our_own_identity_key_proves_nothing(site: Site, lead_of: Lead | None) -> None:
    async with site.leading() as lead:
        echo = heartbeat_of(heard=lead.session)
        raw = b"junk" if lead_of is None else lead_of.seal(Typ.HEARTBEAT, echo)
        site.broker.inject(HEARTBEAT, raw)
        await asyncio.sleep(PERIOD_S + 1)
        assert state_of(lead) == DownlinkState.OK
        assert site.heartbeats()[-1][1].heard is None


async def test_f02_heartbeat_under_a_delegation_that_was_replaced_proves_nothing(site: Site) -> None:
    """A thief with the old signing key cannot silence the lead after `rotate`."""
    async with site.leading() as lead:
        lead.lead._pulse._authority = replace(lead.lead._pulse._authority, seq=2)  # as after `rotate`
        echo = heartbeat_of(heard=lead.session)
        site.broker.inject(HEARTBEAT, lead.keys.seal(Typ.HEARTBEAT, echo))
        await asyncio.sleep(1)
        assert state_of(lead) == DownlinkState.OK


async def test_f03_second_lead_beats_on_but_publishes_and_issues_nothing(site: Site) -> None:
    async with site.leading() as lead:
        await lead.register(FIRST)
        echo = heartbeat_of(heard=lead.session)
        site.broker.inject(HEARTBEAT, site.lead_keys.seal(Typ.HEARTBEAT, echo))
        await until(lambda: state_of(lead) == DownlinkState.SECOND_LEAD, within_s=1)
        published, beats = len(announcements(site)), len(site.heartbeats())
        site.broker.inject(RECORD, b"junk", retain=True)
        assert await lead.register(SECOND) is None
        await asyncio.sleep(11 * PERIOD_S)
        assert len(announcements(site)) == published
        assert len(site.heartbeats()) == beats + 11
        assert rows(lead.store.path.parent, "SELECT pending FROM record") == [(1,)]
        assert len(rows(lead.store.path.parent, "SELECT 1 FROM issue")) == 2


async def test_f03_cloned_machines_find_each_other(site: Site) -> None:
    """Two copies of one lead's state, each with its own start, on one broker: both say so, none issues."""
    shutil.copytree(site.directory / LEAD, site.directory / "copy")
    async with site.leading(seed=1) as first, site.leading(directory="copy", seed=2) as second:
        assert first.session != second.session
        await until(lambda: state_of(first) == state_of(second) == DownlinkState.SECOND_LEAD, within_s=3 * PERIOD_S)
        published = len(announcements(site))
        assert await first.register(FIRST) is None
        assert await second.register(SECOND) is None
        await asyncio.sleep(12 * PERIOD_S)
        assert len(announcements(site)) == published


# Not announcing.


async def test_paused_lead_issues_and_publishes_nothing_but_beats(site: Site) -> None:
    """R20."""
    async with site.leading(paused=True) as lead:
        assert await lead.register(FIRST) is None
        await asyncio.sleep(3 * PERIOD_S + 1)
        site.broker.inject(RECORD, b"junk", retain=True)
        await asyncio.sleep(PERIOD_S)
        assert announcements(site) == []
        assert len(site.heartbeats()) == 5
        assert state_of(lead) == DownlinkState.PAUSED
        assert rows(lead.store.path.parent, "SELECT pending FROM record") == [(1,)]
    async with site.leading():
        await until(lambda: len(versions(site)) == 1)
        assert v(versions(site)[0]).generation == 2


async def test_f07_lead_whose_database_was_lost_publishes_no_record_and_says_so(site: Site) -> None:
    async with site.leading() as lead:
        await lead.register(FIRST)
    for path in (site.directory / LEAD).glob("propagator.db*"):
        path.unlink()
    await site.begin_lead()
    published = len(announcements(site))
    async with site.leading(seed=2) as lead:
        assert await lead.register(SECOND) is None
        await asyncio.sleep(11 * PERIOD_S)
        assert len(announcements(site)) == published
        assert {beat.version for _, beat in site.heartbeats() if beat.session == lead.session} == {None}
        assert state_of(lead) == DownlinkState.LOST


# Its disk.


@pytest.mark.parametrize("trouble", ["fill_disk", "forbid_writing"])
async def test_f33_lead_that_cannot_write_stays_connected_and_beats_on(site: Site, trouble: str) -> None:
    """A full disk silences nothing but the change that cannot be kept; then it heals by itself."""
    await site.enrol("device-1")
    async with site.leading(seed=1) as lead, site.following("device-1") as shadow:
        await lead.register(FIRST)
        await site.in_sync("device-1")
        await register(lead.store, SECOND, at=AT)
        await getattr(lead.store, trouble)()
        begun = len(site.heartbeats())
        site.broker.drop(LEAD)
        await asyncio.sleep(4 * PERIOD_S + 5)
        assert lead.lead.live()["connected"]
        assert 4 <= len(site.heartbeats()) - begun <= 6, "neither silence nor a storm of connections"
        assert shadow.state == "in_sync"
        await lead.store.free_disk()
        await lead.store.allow_writing()
        await asyncio.sleep(PERIOD_S + 1)
        await site.in_sync("device-1", within_s=5)
        assert (await shadow.record()).registration == SECOND
