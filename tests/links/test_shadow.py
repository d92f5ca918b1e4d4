"""The shadow: what it takes over, what it says of itself, and what no message and no disk can make it do."""

from __future__ import annotations

import asyncio
import contextlib
import json
from random import Random
from typing import TYPE_CHECKING

import pytest

from propagator.core.session import Session
from propagator.core.state import Reason, State
from propagator.core.wire import Answer, Heartbeat, Leaf, Report, Request, Topic, Typ
from tests.links.site import HEARTBEAT, LEAD, PERIOD_S, RECORD, current, opened, until
from tests.memory_bus import Weather
from tests.store.contents import rows
from tests.unit.builders import Lead, key, registered

if TYPE_CHECKING:
    from propagator.core.registration import Registration
    from propagator.core.version import Version
    from tests.links.site import Leading, Shadowing, Site

FIRST, SECOND, THIRD = registered("First"), registered("Second"), registered("Third")
DEVICE = "device-1"


def said_states(site: Site, device: str = DEVICE) -> list[State | str]:
    """The states that a shadow reported, without repetitions."""
    states = [report.state for _, report in site.reports(device)]
    return [state for index, state in enumerate(states) if index == 0 or states[index - 1] != state]


def silence_heartbeats(site: Site) -> None:
    site.broker.swallow = lambda said: said.topic == HEARTBEAT


def hear_heartbeats(site: Site) -> None:
    site.broker.swallow = lambda _: False


async def in_sync(site: Site, lead: Leading, content: Registration = FIRST, device: str = DEVICE) -> None:
    await lead.register(content)
    await site.in_sync(device)


# The record.


async def test_f23_change_that_was_lost_on_the_way_is_fetched_at_the_next_heartbeat(site: Site) -> None:
    await site.enrol(DEVICE)
    async with site.leading() as lead, site.following(DEVICE) as shadow:
        await in_sync(site, lead)
        site.broker.swallow = lambda said: said.topic == RECORD
        await lead.register(SECOND)
        issue = await current(lead.store)
        assert issue is not None
        site.broker.retained[RECORD] = issue.raw  # the broker has it, the shadow never got it
        site.broker.swallow = lambda _: False
        await asyncio.sleep(PERIOD_S / 2)
        assert (await shadow.record()).registration == FIRST
        await site.in_sync(DEVICE, within_s=PERIOD_S)
        assert (await shadow.record()).registration == SECOND


@pytest.mark.parametrize("first", ["the change", "the shadow"])
@pytest.mark.parametrize("steps", range(8))
async def test_f23_change_in_the_midst_of_subscribing_is_never_missed(site: Site, first: str, steps: int) -> None:
    """Whether it comes as what is retained or as news; no heartbeat helps within the hour."""
    await site.enrol(DEVICE)
    async with site.leading(heartbeat_s=3600.0) as lead:
        await lead.register(FIRST)
        change = asyncio.create_task(lead.register(SECOND)) if first == "the change" else None
        await take_steps(steps if change else 0)
        async with site.following(DEVICE) as shadow:
            await take_steps(0 if change else steps)
            changed = await (change or lead.register(SECOND))
            await until(lambda: changed in [report.version for _, report in site.reports(DEVICE)], within_s=5)
            assert (await shadow.record()).registration == SECOND


async def take_steps(count: int) -> None:
    """Let everybody come so much further: time passes only while nobody is at work."""
    for _ in range(count):
        await asyncio.sleep(1e-6)


async def test_shadow_that_cannot_fetch_the_record_says_that_it_is_behind(site: Site) -> None:
    await site.enrol(DEVICE)
    async with site.leading() as lead, site.following(DEVICE) as shadow:
        await in_sync(site, lead)
        site.broker.swallow = lambda said: said.topic == RECORD
        await lead.register(SECOND)
        await until(lambda: shadow.state == State.BEHIND, within_s=PERIOD_S + 1)
        assert said_states(site)[-1] == State.BEHIND
        assert (await shadow.record()).registration == FIRST


async def test_f26_shadow_that_was_away_takes_the_record_when_it_comes(site: Site) -> None:
    await site.enrol(DEVICE)
    async with site.leading(heartbeat_s=3600.0) as lead:
        await lead.register(FIRST)
        await lead.register(SECOND)
        await asyncio.sleep(4 * 24 * 3600)
        async with site.following(DEVICE) as shadow:
            await site.in_sync(DEVICE, within_s=1)
            assert (await shadow.record()).registration == SECOND


@pytest.mark.parametrize("seed", range(5))
async def test_f21_f22_duplicates_delays_and_reordering_never_lower_a_version(site: Site, seed: int) -> None:
    site.broker.weather = Weather(duplicate=0.5, delay_s=(0.0, 5.0), reorder=True)
    site.broker._rng = Random(seed)
    await site.enrol(DEVICE)
    async with site.leading() as lead, site.following(DEVICE) as shadow:
        for number in range(12):
            await lead.register(registered(f"House {number}"))
        site.broker.weather = Weather()
        await site.in_sync(DEVICE, within_s=2 * PERIOD_S)
        assert (await shadow.record()).registration == registered("House 11")
    history = rows(site.directory / DEVICE, "SELECT version FROM history WHERE event = 'overwritten' ORDER BY id")
    revisions = [int(str(version[0]).rsplit(".", 1)[1]) for version in history]
    assert revisions == sorted(set(revisions))


@pytest.mark.parametrize("leaves", ["nothing", "an older record"])
async def test_f27_broker_that_lost_its_store_is_filled_again(site: Site, leaves: str) -> None:
    await site.enrol(DEVICE)
    async with site.leading() as lead, site.following(DEVICE) as shadow:
        await in_sync(site, lead)
        older = dict(site.broker.retained)
        await in_sync(site, lead, SECOND)
        site.broker.stop()
        await until(lambda: not lead.lead.live()["connected"])
        site.broker.retained.clear()
        if leaves == "an older record":
            site.broker.retained.update(older)
        site.broker.start()
        await asyncio.sleep(2 * PERIOD_S)
        await site.in_sync(DEVICE, within_s=5)
        assert (await shadow.record()).registration == SECOND
        assert shadow.state == State.IN_SYNC


async def test_f49_first_day_null_record_replayed_is_a_rollback_and_not_unregistered(site: Site) -> None:
    await site.enrol(DEVICE)
    async with site.leading() as lead, site.following(DEVICE) as shadow:
        await until(lambda: shadow.state == State.LEAD_UNREGISTERED)
        first_day = site.broker.retained[RECORD]
        await in_sync(site, lead)
        site.broker.inject(RECORD, first_day)
        await asyncio.sleep(1)
        assert said_states(site)[-2:] == [State.REFUSED, State.IN_SYNC], "the lead repaired it at once"
        assert shadow.shadow.live()["refusal"]["reason"] == Reason.ROLLBACK  # type: ignore[index, call-overload]
        assert (await shadow.record()).registration == FIRST


async def test_f28_poison_is_quarantined_and_the_next_good_record_heals(site: Site) -> None:
    await site.enrol(DEVICE)
    async with site.leading() as lead, site.following(DEVICE) as shadow:
        await in_sync(site, lead)
        poison = site.lead_keys.seal(Typ.RECORD, Request(nonce="n" * 16, wanted="report"))
        site.broker.inject(RECORD, poison)
        await asyncio.sleep(1)
        assert State.REFUSED in said_states(site)
        assert (await shadow.record()).registration == FIRST
        await in_sync(site, lead, SECOND)
        assert shadow.state == State.IN_SYNC
    assert rows(site.directory / DEVICE, "SELECT raw FROM history WHERE event = 'quarantined'") == [(poison,)]


async def test_withdrawn_and_unregistered_lead_are_told_apart(site: Site) -> None:
    await site.enrol(DEVICE)
    async with site.leading() as lead, site.following(DEVICE) as shadow:
        await until(lambda: shadow.state == State.LEAD_UNREGISTERED)
        await in_sync(site, lead)
        site.broker.inject(RECORD, site.forged_record("1.3.zzzz.3", None), retain=True)
        await until(lambda: shadow.state == State.WITHDRAWN)
        assert (await shadow.record()).registration == FIRST
        assert said_states(site)[-3:] == [State.LEAD_UNREGISTERED, State.IN_SYNC, State.WITHDRAWN]


@pytest.mark.parametrize("registered_", [False, True], ids=["a null record", "the record in force"])
async def test_record_that_is_announced_again_makes_no_report(site: Site, registered_: bool) -> None:  # noqa: FBT001
    await site.enrol(DEVICE)
    async with site.leading() as lead, site.following(DEVICE):
        if registered_:
            await in_sync(site, lead)
        await asyncio.sleep(2 * PERIOD_S)
        before = len(site.reports(DEVICE))
        for _ in range(20):
            site.broker.inject(RECORD, site.broker.retained[RECORD])
            await asyncio.sleep(1)
        assert len(site.reports(DEVICE)) == before


async def test_restarted_shadow_knows_what_it_holds_before_it_hears_anything(site: Site) -> None:
    await site.enrol(DEVICE)
    async with site.leading() as lead, site.following(DEVICE):
        await in_sync(site, lead)
    site.broker.stop()
    async with site.following(DEVICE) as shadow:
        await asyncio.sleep(0.5)
        assert shadow.state == State.IN_SYNC


# Silence.


async def test_f12_lead_not_heard_for_exactly_three_periods_is_stale_and_comes_back(site: Site) -> None:
    await site.enrol(DEVICE)
    async with site.leading() as lead, site.following(DEVICE) as shadow:
        await in_sync(site, lead)
        last_s = site.heartbeats()[-1][0].at_s
        silence_heartbeats(site)
        await asyncio.sleep(last_s + 3 * PERIOD_S - 0.1 - asyncio.get_running_loop().time())
        assert shadow.state == State.IN_SYNC
        await asyncio.sleep(0.2)
        assert shadow.state == State.STALE
        assert said_states(site)[-1] == State.STALE
        assert rows(site.directory / DEVICE, "SELECT state FROM uplink") == [("stale",)]
        assert (await shadow.record()).registration == FIRST
        hear_heartbeats(site)
        await until(lambda: shadow.state == State.IN_SYNC, within_s=PERIOD_S + 1)
        assert said_states(site)[-2:] == [State.STALE, State.IN_SYNC]


async def test_silence_is_counted_by_the_period_that_the_lead_named(site: Site) -> None:
    await site.enrol(DEVICE)
    async with site.leading(heartbeat_s=5.0) as lead, site.following(DEVICE) as shadow:
        await in_sync(site, lead)
        await asyncio.sleep(5)
        silence_heartbeats(site)
        await until(lambda: shadow.state == State.STALE, within_s=15.1)


async def test_records_alone_do_not_keep_a_lead_alive(site: Site) -> None:
    """A recorded record can be replayed for ever; only fresh heartbeats count."""
    await site.enrol(DEVICE)
    async with site.leading() as lead, site.following(DEVICE) as shadow:
        await in_sync(site, lead)
        silence_heartbeats(site)
        for _ in range(20):
            site.broker.inject(RECORD, site.broker.retained[RECORD])
            await asyncio.sleep(PERIOD_S / 5)
        assert shadow.state == State.STALE


@pytest.mark.parametrize("restarted", [False, True], ids=["", "and the shadow was restarted"])
async def test_f57_replayed_heartbeats_of_an_old_session_leave_it_stale(site: Site, restarted: bool) -> None:  # noqa: FBT001
    await site.enrol(DEVICE)
    async with site.leading(seed=1) as lead, site.following(DEVICE):
        await in_sync(site, lead)
        await asyncio.sleep(10 * PERIOD_S)
    old = [said.payload for said, _ in site.heartbeats()]
    async with site.following(DEVICE) as shadow:
        async with site.leading(seed=2) as lead:
            await asyncio.sleep(1.1 * PERIOD_S)
            assert site.reports(DEVICE)[-1][1].lead_session == lead.session
        if not restarted:
            await replayed(site, old, shadow)
    if restarted:
        async with site.following(DEVICE) as shadow:
            await replayed(site, old, shadow)


async def replayed(site: Site, old: list[bytes], shadow: Shadowing) -> None:
    for raw in (old * 10)[:40]:
        site.broker.inject(HEARTBEAT, raw)
        await asyncio.sleep(5)
    assert shadow.state == State.STALE
    for raw in old:
        site.broker.inject(HEARTBEAT, raw)
        await asyncio.sleep(1)
        assert shadow.state == State.STALE


async def test_heartbeat_repeated_by_the_network_counts_once(site: Site) -> None:
    await site.enrol(DEVICE)
    async with site.leading() as lead, site.following(DEVICE) as shadow:
        await in_sync(site, lead)
        again = site.heartbeats()[-1][0].payload
        silence_heartbeats(site)
        for _ in range(40):
            site.broker.take("", HEARTBEAT, again, retain=False)
            await asyncio.sleep(5)
        assert shadow.state == State.STALE


async def test_heartbeat_is_written_once_a_session_and_once_an_hour(site: Site) -> None:
    """Flash wears out."""
    await site.enrol(DEVICE)
    async with site.leading(heartbeat_s=300.0) as lead, site.following(DEVICE) as shadow:
        await in_sync(site, lead)
        await asyncio.sleep(300)
        noted: set[object] = set()
        for _ in range(8 * 12):
            await asyncio.sleep(150)
            noted.update(rows(site.directory / DEVICE, "SELECT counter FROM trust"))
        assert shadow.state == State.IN_SYNC
        assert len(noted) in {5, 6}, "over four hours, and the one before"


# The lead's sessions.


async def test_f56_new_session_of_the_lead_makes_every_shadow_report_within_a_tenth_of_a_period(site: Site) -> None:
    """On a broker that answers no wildcard with what it retains, the roster is complete all the same."""
    site.broker.retains_for_wildcards = False
    devices = [f"device-{number}" for number in range(8)]
    await site.enrol(*devices)
    async with contextlib.AsyncExitStack() as stack:
        async with site.leading(seed=1) as lead:
            for device in devices:
                await stack.enter_async_context(site.following(device))
            await lead.register(FIRST)
            await site.in_sync(*devices)
        await asyncio.sleep(PERIOD_S)
        async with site.leading(seed=2) as lead:
            await asyncio.sleep(PERIOD_S / 2)
            begun_s = min(said.at_s for said, beat in site.heartbeats() if beat.session == lead.session)
            delays = [
                min(said.at_s - begun_s for said, report in site.reports(device) if report.lead_session == lead.session)
                for device in devices
            ]
            assert all(0 <= delay <= PERIOD_S / 10 for delay in delays)
            assert len({round(delay, 2) for delay in delays}) > 5, "not all at once"
            await site.in_sync(*devices, within_s=1)
            assert all(site.member(device)["online"] for device in devices)


async def test_same_session_of_the_lead_asks_for_no_report(site: Site) -> None:
    await site.enrol(DEVICE)
    async with site.leading() as lead, site.following(DEVICE):
        await in_sync(site, lead)
        await asyncio.sleep(2 * PERIOD_S)
        before = len(site.reports(DEVICE))
        await asyncio.sleep(20 * PERIOD_S)
        assert len(site.reports(DEVICE)) == before


async def test_report_names_the_session_of_the_lead_that_is_followed(site: Site) -> None:
    await site.enrol(DEVICE)
    async with site.leading() as lead, site.following(DEVICE):
        await in_sync(site, lead)
        await asyncio.sleep(1.1 * PERIOD_S)
        assert site.reports(DEVICE)[-1][1].lead_session == lead.session


async def test_f07_lead_that_lost_its_database_is_lead_lost_and_the_record_stays(site: Site) -> None:
    await site.enrol(DEVICE)
    async with site.leading(seed=1) as lead, site.following(DEVICE):
        await in_sync(site, lead)
    for path in (site.directory / LEAD).glob("propagator.db*"):
        path.unlink()
    await site.begin_lead()
    async with site.leading(seed=2), site.following(DEVICE) as shadow:
        await until(lambda: shadow.state == State.LEAD_LOST, within_s=PERIOD_S + 1)
        await asyncio.sleep(12 * PERIOD_S)
        assert shadow.state == State.LEAD_LOST
        assert said_states(site)[-1] == State.LEAD_LOST
        assert (await shadow.record()).registration == FIRST


# Strangers.


async def test_refusals_are_counted_and_written_once_a_minute_and_reason_and_reported_once_a_minute(site: Site) -> None:
    await site.enrol(DEVICE)
    async with site.leading() as lead, site.following(DEVICE) as shadow:
        await in_sync(site, lead)
        await asyncio.sleep(PERIOD_S)
        reports, commits = len(site.reports(DEVICE)), shadow.store.commits
        stranger = Lead(identity=key("a rogue"))
        for _ in range(100):
            site.broker.inject(RECORD, stranger.signed("1.9.aaaa.9", THIRD))
            site.broker.inject(RECORD, b"junk")
            await asyncio.sleep(1.5)
        live = shadow.shadow.live()
        counted = {refused["reason"]: refused["count"] for refused in live["refusals"]}  # type: ignore[union-attr, index, call-overload]
        assert counted == {"unreadable": 100, "second_lead": 100}
        assert len(site.reports(DEVICE)) - reports <= 3
        written = rows(site.directory / DEVICE, "SELECT reason, count FROM refusal ORDER BY reason")
        assert [reason for reason, _ in written] == ["second_lead", "unreadable"]
        assert all(80 <= int(str(count)) <= 100 for _, count in written), "what came since is written with the next one"
        offers = 200 + len(site.records())
        assert shadow.store.commits - commits <= offers + 2 * 3
        assert shadow.state == State.IN_SYNC


async def test_refusal_is_told_in_the_next_report(site: Site) -> None:
    await site.enrol(DEVICE)
    async with site.leading() as lead, site.following(DEVICE):
        await in_sync(site, lead)
        site.broker.inject(RECORD, Lead("es-2").signed("1.9.aaaa.9", THIRD))
        await asyncio.sleep(1)
        report = site.reports(DEVICE)[-1][1]
        assert report.refusal is not None
        assert report.refusal.reason == Reason.WRONG_LEAD
        assert report.state == State.IN_SYNC


def junk_for(site: Site) -> list[tuple[str, bytes]]:
    """Bytes of every kind that is nobody's word here, for every topic of this lead."""
    stranger = Lead(identity=key("a rogue"))
    speaker = site.speaker("device-2")
    report = site.reports(DEVICE)[-1][0].payload
    heartbeat = site.heartbeats()[-1][0].payload
    beat = Heartbeat(
        session=Session(9999999999, "zzzz"), counter=1, version=None, hash=None, heard=None, upstream=None, period_s=1.0
    )
    payloads = [
        b"",
        b"junk",
        b"\xff" * 300,
        b"x" * 70_000,
        b"..",
        stranger.signed("1.9.aaaa.9", THIRD),
        stranger.seal(Typ.HEARTBEAT, beat),
        stranger.seal(Typ.REQUEST, Request(nonce="n" * 16, wanted="report")),
        Lead("es-2").signed("1.9.aaaa.9", THIRD),
        speaker.seal(Typ.HEARTBEAT, beat),
        report,
    ]
    topics = [RECORD, HEARTBEAT]
    topics += [str(Topic(LEAD, leaf, DEVICE)) for leaf in (Leaf.REQUEST, Leaf.REPORT, Leaf.PRESENCE, Leaf.ANSWER)]
    crossed = [(RECORD, heartbeat), (HEARTBEAT, site.broker.retained[RECORD]), (topics[2], heartbeat)]
    return [(topic, payload) for topic in topics for payload in payloads] + crossed


@pytest.mark.parametrize("retain", [False, True], ids=["live", "retained"])
async def test_f04_f58_junk_on_every_topic_changes_no_healthy_shadow(site: Site, retain: bool) -> None:  # noqa: FBT001
    """With the broker's rules off: nothing is applied, nobody's state changes, the roster does not move."""
    await site.enrol(DEVICE, "device-2")
    async with site.leading() as lead, site.following(DEVICE) as shadow, site.following("device-2"):
        await lead.register(FIRST)
        await site.in_sync(DEVICE, "device-2")
        await asyncio.sleep(PERIOD_S)
        states = len(said_states(site))
        for topic, payload in junk_for(site):
            site.broker.inject(topic, payload, retain=retain)
            await asyncio.sleep(0.5)
            assert shadow.state == State.IN_SYNC, (topic, payload[:40])
            assert site.member(DEVICE)["state"] == "in_sync"
        await asyncio.sleep(2 * PERIOD_S)
        assert said_states(site)[states:] == []
        assert (await shadow.record()).registration == FIRST
        await lead.register(SECOND)
        await site.in_sync(DEVICE, "device-2")
    async with site.leading(seed=2), site.following(DEVICE, seed=7):
        await site.in_sync(DEVICE, within_s=2 * PERIOD_S)


async def test_request_of_a_stranger_is_not_answered(site: Site) -> None:
    await site.enrol(DEVICE)
    async with site.leading() as lead, site.following(DEVICE):
        await in_sync(site, lead)
        await asyncio.sleep(PERIOD_S)
        site.broker.swallow = lambda said: said.topic == RECORD
        before = len(site.reports(DEVICE))
        for wanted in ("report", "record"):
            request = Request.model_validate({"nonce": "n" * 16, "wanted": wanted})
            raw = Lead(identity=key("a rogue")).seal(Typ.REQUEST, request)
            site.broker.inject(str(Topic(LEAD, Leaf.REQUEST, DEVICE)), raw)
        await asyncio.sleep(1)
        assert [report.nonce for _, report in site.reports(DEVICE)[before:]] == [None], "one report, of the refusal"
        assert site.said(Typ.ANSWER, Answer) == []


async def test_lead_that_asks_for_the_record_gets_the_signed_bytes(site: Site) -> None:
    await site.enrol(DEVICE)
    async with site.leading() as lead, site.following(DEVICE) as shadow:
        await in_sync(site, lead)
        request = Request(nonce="n" * 16, wanted="record")
        site.broker.inject(str(Topic(LEAD, Leaf.REQUEST, DEVICE)), lead.keys.seal(Typ.REQUEST, request))
        await until(lambda: site.said(Typ.ANSWER, Answer))
        ((_, answer),) = site.said(Typ.ANSWER, Answer)
        raw = (await shadow.record()).raw
        assert raw is not None
        assert (answer.nonce, answer.record) == ("n" * 16, raw.decode())


async def test_own_content_is_never_sent_as_the_leads_record(site: Site) -> None:
    await site.enrol(DEVICE)
    async with site.leading() as lead, site.following(DEVICE) as shadow:
        await until(lambda: shadow.state == State.LEAD_UNREGISTERED)
        request = Request(nonce="n" * 16, wanted="record")
        site.broker.inject(str(Topic(LEAD, Leaf.REQUEST, DEVICE)), lead.keys.seal(Typ.REQUEST, request))
        await until(lambda: site.said(Typ.ANSWER, Answer))
        assert site.said(Typ.ANSWER, Answer)[0][1].record is None


# Its disk.


def successes(site: Site, version: Version | None) -> list[Report]:
    return [
        report
        for _, report in site.reports(DEVICE)
        if report.version == version or (report.floor is not None and report.floor.version == version)
    ]


@pytest.mark.parametrize("trouble", ["fill_disk", "forbid_writing"])
async def test_f33_f34_record_that_cannot_be_stored_is_not_reported_and_heals_with_a_later_heartbeat(
    site: Site, trouble: str
) -> None:
    await site.enrol(DEVICE)
    async with site.leading() as lead, site.following(DEVICE) as shadow:
        await in_sync(site, lead)
        await getattr(shadow.store, trouble)()
        version = await lead.register(SECOND)
        await asyncio.sleep(5 * PERIOD_S)
        assert not shadow.task.done(), "the agent stays up"
        assert shadow.shadow.live()["connected"]
        assert (await shadow.record()).registration == FIRST
        assert successes(site, version) == []
        assert shadow.state == State.BEHIND
        await shadow.store.free_disk()
        await shadow.store.allow_writing()
        await site.in_sync(DEVICE, within_s=PERIOD_S + 5)
        assert (await shadow.record()).registration == SECOND


@pytest.mark.parametrize("trouble", ["fill_disk", "forbid_writing"])
async def test_f33_f34_shadow_that_cannot_write_how_it_stands_says_it_all_the_same(site: Site, trouble: str) -> None:
    """Stale, back, connected anew, unreachable: none of these needs the disk, so none may end the agent."""
    await site.enrol(DEVICE)
    async with site.leading() as lead, site.following(DEVICE) as shadow:
        await in_sync(site, lead)
        await getattr(shadow.store, trouble)()
        if trouble == "fill_disk":
            await shadow.store.forbid_writing()
        silence_heartbeats(site)
        await asyncio.sleep(3 * PERIOD_S + 1)
        assert said_states(site)[-1] == State.STALE
        hear_heartbeats(site)
        await asyncio.sleep(PERIOD_S + 1)
        assert said_states(site)[-1] == State.IN_SYNC
        site.broker.refused.add(DEVICE)
        site.broker.drop(DEVICE)
        await until(lambda: shadow.state == State.UNREACHABLE, within_s=10)
        site.broker.refused.clear()
        await until(lambda: shadow.state == State.IN_SYNC, within_s=2 * PERIOD_S)
        await asyncio.sleep(PERIOD_S + 1)
        assert not shadow.task.done()
        await shadow.store.allow_writing()
        await shadow.store.free_disk()
        silence_heartbeats(site)
        await asyncio.sleep(3 * PERIOD_S + 1)
        assert rows(site.directory / DEVICE, "SELECT state FROM uplink") == [("stale",)]


async def test_f33_shadow_that_starts_on_a_full_disk_follows_all_the_same(site: Site) -> None:
    await site.enrol(DEVICE)
    async with site.leading(seed=1) as lead, site.following(DEVICE):
        await in_sync(site, lead)
    async with site.leading(seed=2) as lead, site.following(DEVICE) as shadow:
        await shadow.store.forbid_writing()
        await asyncio.sleep(2 * PERIOD_S)
        assert not shadow.task.done()
        assert shadow.state == State.IN_SYNC
        await site.in_sync(DEVICE, within_s=5)


async def test_session_of_the_lead_that_could_not_be_noted_is_noted_once_it_can_be(site: Site) -> None:
    """F57 holds over a full disk, too: the highest session is written as soon as there is room."""
    await site.enrol(DEVICE)
    async with site.leading(seed=1) as lead, site.following(DEVICE):
        await in_sync(site, lead)
    async with site.following(DEVICE) as shadow:
        await shadow.store.forbid_writing()
        async with site.leading(seed=2) as lead:
            await asyncio.sleep(2 * PERIOD_S)
            assert any(report.lead_session == lead.session for _, report in site.reports(DEVICE)), "and it reported"
            await shadow.store.allow_writing()
            await asyncio.sleep(PERIOD_S + 1)
            assert rows(site.directory / DEVICE, "SELECT session FROM trust") == [(str(lead.session),)]


# Leaving.


async def test_shadow_that_was_detached_says_so_on_its_connection(site: Site) -> None:
    await site.enrol(DEVICE)
    async with site.leading() as lead, site.following(DEVICE) as shadow:
        await in_sync(site, lead)
        await shadow.shadow.goodbye()
        await until(lambda: site.member(DEVICE)["state"] == "detached", within_s=1)


async def test_shadow_that_was_detached_while_no_agent_ran_says_so_over_a_connection_of_its_own(site: Site) -> None:
    await site.enrol(DEVICE)
    async with site.leading() as lead:
        async with site.following(DEVICE) as shadow:
            await in_sync(site, lead)
        await asyncio.sleep(5)
        async with opened(site.directory / DEVICE) as store:
            shadow.shadow._voice._store = store
            await shadow.shadow.say_detached()
        await until(lambda: site.member(DEVICE)["state"] == "detached", within_s=1)


async def test_goodbye_is_a_presence_and_a_death_is_a_will(site: Site) -> None:
    await site.enrol(DEVICE)
    async with site.leading() as lead:
        async with site.following(DEVICE, seed=1):
            await in_sync(site, lead)
        assert [presence.online for _, presence in site.births(DEVICE)] == [True, False]
        async with site.following(DEVICE, seed=2) as shadow:
            await until(lambda: site.member(DEVICE)["online"] == 1)
            await site.die(DEVICE, shadow.task)
        await until(lambda: site.member(DEVICE)["online"] == 0)
        assert [presence.online for _, presence in site.births(DEVICE)] == [True, False, True, False]


async def test_status_of_a_stopped_agent_is_what_it_knew_last(site: Site) -> None:
    await site.enrol(DEVICE)
    async with site.leading() as lead, site.following(DEVICE):
        await in_sync(site, lead)
        await asyncio.sleep(PERIOD_S)
        site.broker.inject(RECORD, b"junk")
        await asyncio.sleep(1)
    ((state, address, heard, refusal),) = rows(
        site.directory / DEVICE, "SELECT state, address, last_heard, refusal FROM uplink"
    )
    assert (state, address) == ("in_sync", site.broker.address)
    assert heard is not None
    assert json.loads(str(refusal))["reason"] == "unreadable"
