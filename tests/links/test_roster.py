"""The roster: what the lead makes of its shadows' words, whatever order, age, machine or forger they come from."""

from __future__ import annotations

import asyncio
import json
import shutil
from contextlib import AsyncExitStack, suppress
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from propagator import subtree
from propagator.core import signing
from propagator.core.errors import BusError
from propagator.core.record import read
from propagator.core.session import Session
from propagator.core.wire import FloorEntry, Leaf, Presence, Report, Topic, Typ
from propagator.store import members
from tests.links.site import LEAD, PERIOD_S, current, opened, until
from tests.memory_bus import Weather
from tests.store.contents import AT, bound, rows
from tests.unit.builders import key, registered, v
from tests.unit.builders import opened as opened_envelope

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.links.site import Leading, Site

DEVICE = "device-1"
FIRST, SECOND = registered("First"), registered("Second")

LATE = Session(2**50, "zzzz")

REPORT = str(Topic(LEAD, Leaf.REPORT, DEVICE))
PRESENCE = str(Topic(LEAD, Leaf.PRESENCE, DEVICE))


async def in_sync(site: Site, lead: Leading) -> None:
    await lead.register(FIRST)
    await site.in_sync(DEVICE)


async def lose_order(lead: Leading) -> None:
    """Forget what the shadows said, as a lead restored from a backup of long ago has."""
    async with lead.store.transaction() as tx:
        await tx.run(
            "UPDATE member SET session = NULL, counter = NULL, confirmed = 0, report = NULL, superseded = NULL"
        )


def report_of(site: Site, session: Session, counter: int, *, by: str = DEVICE, **changes: object) -> bytes:
    """Sign a report by hand."""
    members_ = {
        "session": session,
        "counter": counter,
        "nonce": None,
        "floor": None,
        "version": None,
        "hash": None,
        "stored_at": None,
        "lead_session": None,
        "state": "in_sync",
        "refusal": None,
        "finding": None,
        "subtree": None,
        "name": "Forged",
        "kind": "server-device",
        "system_id": None,
        **changes,
    }
    return site.speaker(by).seal(Typ.REPORT, Report.model_validate(members_))


def present(site: Site, session: Session, counter: int, *, online: bool, by: str = DEVICE) -> bytes:
    """Sign a birth or a will by hand."""
    return site.speaker(by).seal(Typ.PRESENCE, Presence(session=session, counter=counter, online=online))


# Asking.


async def test_report_that_echoes_the_nonce_confirms(site: Site) -> None:
    """A lost roster is unconfirmed, and confirmed within one request."""
    await site.enrol(DEVICE)
    async with site.leading() as lead, site.following(DEVICE):
        await in_sync(site, lead)
        await asyncio.sleep(PERIOD_S)
        await lose_order(lead)
        asked = len(site.requests(DEVICE))
        site.broker.inject(REPORT, site.broker.retained[REPORT])  # the broker's own copy: it may be old
        await site.in_sync(DEVICE, within_s=2)
        assert len(site.requests(DEVICE)) == asked + 1
        assert site.reports(DEVICE)[-1][1].nonce == site.requests(DEVICE)[-1][1].nonce


async def test_report_of_a_shadow_whose_order_was_lost_is_shown_and_not_confirmed(site: Site) -> None:
    await site.enrol(DEVICE)
    async with site.leading() as lead, site.following(DEVICE) as shadow:
        await in_sync(site, lead)
        await site.die(DEVICE, shadow.task)
        await lose_order(lead)
        site.broker.inject(REPORT, site.broker.retained[REPORT])
        await asyncio.sleep(5 * PERIOD_S)
        row = site.member(DEVICE)
        assert (row["state"], row["confirmed"]) == ("in_sync", 0)


async def test_connected_shadow_that_is_not_confirmed_is_asked_once_a_period(site: Site) -> None:
    await site.enrol(DEVICE)
    async with site.leading() as lead, site.following(DEVICE):
        await in_sync(site, lead)
        site.broker.swallow = lambda said: said.topic == REPORT
        await lose_order(lead)
        asked = len(site.requests(DEVICE))
        await asyncio.sleep(5 * PERIOD_S + 1)
        times = [said.at_s for said, _ in site.requests(DEVICE)[asked:]]
        assert len(times) == 5
        assert all(later - earlier > 0.99 * PERIOD_S for earlier, later in pairwise(times))
        nonces = {request.nonce for _, request in site.requests(DEVICE)}
        assert len(nonces) == len(site.requests(DEVICE)), "each is fresh"


async def test_shadow_that_does_not_hold_the_current_version_is_asked(site: Site) -> None:
    """Its report was lost, not the record."""
    await site.enrol(DEVICE)
    async with site.leading() as lead, site.following(DEVICE):
        await in_sync(site, lead)
        site.broker.swallow = lambda said: said.topic == REPORT
        await lead.register(SECOND)
        await asyncio.sleep(2)
        site.broker.swallow = lambda _: False
        await site.in_sync(DEVICE, within_s=PERIOD_S + 1)


async def test_echo_counts_within_one_period_only(site: Site) -> None:
    await site.enrol(DEVICE)
    async with site.leading() as lead, site.following(DEVICE) as shadow:
        await in_sync(site, lead)
        await lose_order(lead)
        await site.die(DEVICE, shadow.task)
        low, high = Session(5, "aaaa"), Session(9, "aaaa")
        site.broker.inject(REPORT, report_of(site, high, 1))
        await until(lambda: site.requests(DEVICE))
        nonce = site.requests(DEVICE)[-1][1].nonce
        await asyncio.sleep(PERIOD_S + 1)
        site.broker.inject(REPORT, report_of(site, low, 1, nonce=nonce))
        await asyncio.sleep(1)
        assert (site.member(DEVICE)["session"], site.member(DEVICE)["confirmed"]) == (str(high), 0)


async def test_echo_counts_once(site: Site) -> None:
    await site.enrol(DEVICE)
    async with site.leading() as lead:
        await lose_order(lead)
        low, high = Session(5, "aaaa"), Session(9, "aaaa")
        site.broker.inject(REPORT, report_of(site, high, 1))
        await until(lambda: site.requests(DEVICE))
        nonce = site.requests(DEVICE)[-1][1].nonce
        site.broker.inject(REPORT, report_of(site, high, 2, nonce=nonce))
        await until(lambda: site.member(DEVICE)["confirmed"])
        site.broker.inject(REPORT, report_of(site, low, 1, nonce=nonce))
        await asyncio.sleep(1)
        assert site.member(DEVICE)["session"] == str(high)


# Replays and forgeries.


async def test_f10_replayed_reports_move_nothing(site: Site) -> None:
    await site.enrol(DEVICE)
    async with site.leading() as lead:
        async with site.following(DEVICE, seed=1):
            await in_sync(site, lead)
            await asyncio.sleep(2 * PERIOD_S)
        async with site.following(DEVICE, seed=2):
            await lead.register(SECOND)
            await asyncio.sleep(2 * PERIOD_S)
            await site.in_sync(DEVICE)
            recorded = [said.payload for said, _ in site.reports(DEVICE)]
            before, asked = site.member(DEVICE), len(site.requests(DEVICE))
            site.broker.swallow = lambda said: said.account == DEVICE  # its own answers would move it
            for raw in [*recorded, *reversed(recorded)] * 3:
                site.broker.inject(REPORT, raw)
                await asyncio.sleep(0.1)
                assert site.member(DEVICE) == before
            assert len(site.requests(DEVICE)) - asked <= 1, "an old session is asked about, once"


@pytest.mark.parametrize(
    "forge",
    [
        pytest.param(lambda site: report_of(site, LATE, 1, by="device-2"), id="by another device"),
        pytest.param(lambda site: present(site, LATE, 1, online=False), id="a presence"),
        pytest.param(
            lambda site: site.lead_keys.seal(Typ.REPORT, Presence(session=LATE, counter=1, online=False)),
            id="by the lead",
        ),
        pytest.param(lambda _: b"junk", id="junk"),
        pytest.param(lambda _: b"", id="nothing"),
    ],
)
async def test_f10_f19_forged_report_moves_nothing(site: Site, forge: Callable[[Site], bytes]) -> None:
    await site.enrol(DEVICE, "device-2")
    async with site.leading() as lead, site.following(DEVICE):
        await in_sync(site, lead)
        await asyncio.sleep(2 * PERIOD_S)
        before = site.member(DEVICE)
        for retain in (False, True):
            site.broker.inject(REPORT, forge(site), retain=retain)
        await asyncio.sleep(2)
        assert site.member(DEVICE) == before


async def test_f53_claimed_version_is_display_and_moves_no_lead(site: Site) -> None:
    await site.enrol(DEVICE)
    async with site.leading() as lead:
        issue = await current(lead.store)
        highest = v(f"1.{2**53 - 1}.zzzz.{2**53 - 1}")
        floor = FloorEntry(version=highest, hash="0" * 64)
        site.broker.inject(
            REPORT, report_of(site, Session(2, "aaaa"), 1, version=str(highest), floor=floor.model_dump())
        )
        await until(lambda: site.member(DEVICE)["version"] == str(highest))
        await asyncio.sleep(2 * PERIOD_S)
        assert await current(lead.store) == issue
        version = await lead.register(FIRST)
        assert version is not None
        assert version.generation == 2


async def test_f13_revoked_shadow_leaves_nothing_and_its_report_moves_nothing(site: Site) -> None:
    await site.enrol(DEVICE)
    async with site.leading() as lead, site.following(DEVICE):
        await in_sync(site, lead)
        async with lead.store.transaction() as tx:
            await members.revoke(tx, DEVICE, AT)
        assert await lead.lead.clear(DEVICE)
        assert {REPORT, PRESENCE}.isdisjoint(site.broker.retained)
        before = rows(site.directory / LEAD, "SELECT * FROM member")
        site.broker.inject(REPORT, report_of(site, Session(2**50, "aaaa"), 1))
        await asyncio.sleep(2 * PERIOD_S)
        assert rows(site.directory / LEAD, "SELECT * FROM member") == before


# Machines.


async def test_f52_restored_image_of_a_shadow_counts_again_within_one_request(site: Site) -> None:
    await site.enrol(DEVICE)
    async with site.leading() as lead:
        async with site.following(DEVICE):
            await in_sync(site, lead)
            await asyncio.sleep(2 * PERIOD_S)
        asked = len(site.requests(DEVICE))
        async with site.following(DEVICE, begun=Session(77, "oldx")):  # of an image that was taken long ago
            await until(lambda: site.member(DEVICE)["session"] == "77-oldx", within_s=2)
            assert len(site.requests(DEVICE)) == asked + 1
            await site.in_sync(DEVICE, within_s=2)
            assert site.member(DEVICE)["cloned"] == 0
            await lead.register(SECOND)
            await site.in_sync(DEVICE, within_s=2)


async def test_f25_installed_anew_with_its_old_key_a_shadow_heals_by_reporting(site: Site) -> None:
    await site.enrol(DEVICE)
    async with site.leading() as lead:
        async with site.following(DEVICE):
            await in_sync(site, lead)
        for path in (site.directory / DEVICE).glob("propagator.db*"):
            path.unlink()
        await site.make_shadow(DEVICE)
        await asyncio.sleep(PERIOD_S)
        async with site.following(DEVICE, seed=7) as shadow:
            await until(lambda: site.member(DEVICE)["session"] == str(shadow.session))
            await site.in_sync(DEVICE, within_s=5)
            assert (await shadow.record()).registration == FIRST
            assert site.member(DEVICE)["cloned"] == 0


async def test_f18_two_machines_with_one_session_number_are_named(site: Site) -> None:
    await site.enrol(DEVICE)
    shutil.copytree(site.directory / DEVICE, site.directory / "clone")
    async with (
        site.leading() as lead,
        site.following(DEVICE, begun=Session(1764000000, "aaaa")),
    ):
        await in_sync(site, lead)
        assert site.member(DEVICE)["cloned"] == 0
        async with site.following(DEVICE, directory="clone", begun=Session(1764000000, "bbbb")):
            await until(lambda: site.member(DEVICE)["cloned"] == 1, within_s=5)


async def test_f18_two_machines_that_take_turns_are_named(site: Site) -> None:
    """The one that was superseded echoes a nonce of later: both are alive."""
    await site.enrol(DEVICE)
    shutil.copytree(site.directory / DEVICE, site.directory / "clone")
    async with site.leading() as lead, site.following(DEVICE, seed=1):
        await in_sync(site, lead)
        await asyncio.sleep(5)
        async with site.following(DEVICE, directory="clone", seed=2):
            for number in range(6):
                await lead.register(registered(f"House {number}"))
                await asyncio.sleep(PERIOD_S)
            assert site.member(DEVICE)["cloned"] == 1


async def test_f18_clone_is_asked_once_a_period_and_no_more(site: Site) -> None:
    """A pair of machines is trouble enough: no storm of requests and reports on top."""
    await site.enrol(DEVICE)
    shutil.copytree(site.directory / DEVICE, site.directory / "clone")
    async with (
        site.leading() as lead,
        site.following(DEVICE, begun=Session(1764000000, "aaaa")),
        site.following(DEVICE, directory="clone", begun=Session(1764000000, "bbbb")),
    ):
        await lead.register(FIRST)
        await until(lambda: site.member(DEVICE)["cloned"] == 1, within_s=PERIOD_S)
        asked = len(site.requests(DEVICE))
        await asyncio.sleep(5 * PERIOD_S)
        assert len(site.requests(DEVICE)) - asked <= 6


async def test_f18_shadow_that_was_asked_a_moment_ago_and_is_doubted_now_is_asked_once_that_is_allowed(
    site: Site,
) -> None:
    """Its copy began later and is gone: by its session it is an old word, by its presence it is not connected."""
    await site.enrol(DEVICE)
    shutil.copytree(site.directory / DEVICE, site.directory / "clone")
    async with site.leading() as lead, site.following(DEVICE, begun=Session(1764000000, "aaaa")):
        await in_sync(site, lead)
        await asyncio.sleep(2 * PERIOD_S)
        async with site.following(DEVICE, directory="clone", begun=Session(1764000009, "bbbb")):
            await until(lambda: str(site.member(DEVICE)["session"]).endswith("bbbb"))
        await until(lambda: not site.member(DEVICE)["online"])
        lead.lead._reports._asked[DEVICE] = (
            None,
            asyncio.get_running_loop().time(),
        )  # and it was the copy that answered
        await lead.register(SECOND)
        await site.in_sync(DEVICE, within_s=3 * PERIOD_S)


async def test_answer_to_a_probe_is_there_whatever_the_shadow_reports_right_after_it(site: Site) -> None:
    await site.enrol(DEVICE)
    async with site.leading() as lead, site.following(DEVICE) as shadow:
        await in_sync(site, lead)
        nonce = await lead.lead.probe(DEVICE)
        assert nonce is not None
        await until(lambda: lead.lead.probed(DEVICE, nonce) is not None)
        await shadow.shadow.report()
        await until(lambda: nonce not in str(site.member(DEVICE)["report"]))
        answer = lead.lead.probed(DEVICE, nonce)
        assert answer is not None
        assert answer["nonce"] == nonce
        assert lead.lead.probed(DEVICE, "another-nonce") is None


async def test_f18_restarted_shadow_is_no_clone(site: Site) -> None:
    await site.enrol(DEVICE)
    async with site.leading() as lead:
        for seed in range(5):
            async with site.following(DEVICE, seed=seed) as shadow:
                await lead.register(registered(f"House {seed}"))
                await site.in_sync(DEVICE, within_s=2 * PERIOD_S)
                await site.die(DEVICE, shadow.task)
            await asyncio.sleep(seed)
        assert site.member(DEVICE)["cloned"] == 0


# Presence.


async def test_f11_will_of_an_old_connection_after_the_new_birth_is_ignored(site: Site) -> None:
    await site.enrol(DEVICE)
    async with site.leading() as lead, site.following(DEVICE):
        await in_sync(site, lead)
        site.broker.drop(DEVICE)
        await until(lambda: [presence.online for _, presence in site.births(DEVICE)] == [True, False, True])
        await until(lambda: site.member(DEVICE)["online"] == 1)
        will = site.births(DEVICE)[1][0].payload
        site.broker.inject(PRESENCE, will, retain=True)
        await asyncio.sleep(5)
        assert site.member(DEVICE)["online"] == 1


async def test_f11_will_of_an_old_session_is_ignored(site: Site) -> None:
    await site.enrol(DEVICE)
    async with site.leading() as lead:
        async with site.following(DEVICE, seed=1):
            await in_sync(site, lead)
        await asyncio.sleep(2)
        async with site.following(DEVICE, seed=2):
            await until(lambda: site.member(DEVICE)["online"] == 1)
            for said, presence in site.births(DEVICE)[:2]:
                assert presence.session != site.births(DEVICE)[-1][1].session
                site.broker.inject(PRESENCE, said.payload, retain=True)
            await asyncio.sleep(5)
            assert site.member(DEVICE)["online"] == 1


async def test_retained_birth_alone_makes_nobody_connected(site: Site) -> None:
    """It outlives the connection: the shadow is asked, and counts as connected when it answers."""
    await site.enrol(DEVICE)
    async with site.leading(seed=1) as lead, site.following(DEVICE) as shadow:
        await in_sync(site, lead)
        site.broker.swallow = lambda said: said.topic == PRESENCE  # its will is lost: the broker died with it
        await site.die(DEVICE, shadow.task)
        site.broker.swallow = lambda _: False
    async with site.leading(seed=2):
        await asyncio.sleep(5)
        assert site.member(DEVICE)["online"] == 0
        assert site.requests(DEVICE)
        async with site.following(DEVICE, seed=2):
            await until(lambda: site.member(DEVICE)["online"] == 1, within_s=2)


async def test_retained_birth_that_the_lead_never_heard_makes_nobody_connected(site: Site) -> None:
    """The shadow came and went while the lead was away, and its broker lost the will."""
    await site.enrol(DEVICE)
    async with site.following(DEVICE) as shadow:
        await until(lambda: site.births(DEVICE))
        site.broker.swallow = lambda said: said.topic == PRESENCE
        await site.die(DEVICE, shadow.task)
        site.broker.swallow = lambda _: False
    assert PRESENCE in site.broker.retained
    async with site.leading():
        await asyncio.sleep(5)
        assert site.member(DEVICE)["online"] == 0


async def test_living_shadow_counts_as_connected_again_right_after_a_restart_of_the_lead(site: Site) -> None:
    await site.enrol(DEVICE)
    async with site.following(DEVICE):
        async with site.leading(seed=1) as lead:
            await in_sync(site, lead)
        async with site.leading(seed=2):
            await until(lambda: site.member(DEVICE)["online"] == 1, within_s=2)


async def test_f42_shadow_whose_network_is_cut_is_offline_after_the_keepalive(site: Site) -> None:
    """F42: half-open TCP."""
    await site.enrol(DEVICE)
    async with site.leading() as lead, site.following(DEVICE) as shadow:
        await in_sync(site, lead)
        site.broker.part(DEVICE)
        await asyncio.sleep(25)
        assert site.member(DEVICE)["online"] == 1
        await until(lambda: site.member(DEVICE)["online"] == 0, within_s=10)
        await lead.register(SECOND)
        await asyncio.sleep(PERIOD_S)
        assert shadow.state == "unreachable"
        site.broker.heal(DEVICE)
        await site.in_sync(DEVICE, within_s=2 * PERIOD_S)
        assert site.member(DEVICE)["online"] == 1


# Others.


async def test_f51_report_of_a_newer_shadow_counts_although_its_words_are_not_known(site: Site) -> None:
    await site.enrol(DEVICE)
    async with site.leading() as lead, site.following(DEVICE) as shadow:
        await in_sync(site, lead)
        await site.die(DEVICE, shadow.task)
        holds = await current(lead.store)
        assert holds is not None
        refusal = {"reason": "over_quota", "text": "No room."}
        held: dict[str, Any] = {"version": holds.version, "hash": holds.hash}
        raw = report_of(site, LATE, 1, **held, floor=held, state="asleep", refusal=refusal, name="Newer")
        site.broker.inject(REPORT, raw)
        await until(lambda: site.member(DEVICE)["state"] == "asleep", within_s=2)
        said = json.loads(str(site.member(DEVICE)["report"]))
        assert (said["name"], said["version"], said["refusal"]) == ("Newer", str(holds.version), refusal)
        below = await subtree.summary(lead.store)
        assert below["shadows"] == {"total": 1, "unknown": 1}


# Many.


async def test_f29_storm_of_2500_reports_costs_some_tens_of_commits(site: Site) -> None:
    devices = [f"device-{number}" for number in range(2500)]
    async with opened(site.directory / LEAD) as store, store.transaction() as tx:
        for device in devices:
            await members.bind(tx, bound(device, DEVICE), at=AT)  # one key for all: making 2,500 takes its time
    word = read(Report, opened_envelope(report_of(site, Session(1764000000, "aaaa"), 1)).payload)
    assert isinstance(word, Report)
    storm = [
        (str(Topic(LEAD, Leaf.REPORT, device)), signing.seal(Typ.REPORT, word, key(DEVICE), lead=LEAD, sender=device))
        for device in devices
    ]
    async with site.leading() as lead:
        before = lead.store.commits
        for topic, raw in storm:
            site.broker.inject(topic, raw)
        counted = "SELECT count(*) FROM member WHERE report IS NOT NULL AND confirmed = 1"
        await until(lambda: rows(site.directory / LEAD, counted) == [(2500,)], within_s=5)
        assert lead.store.commits - before < 30


async def test_full_disk_at_the_lead_loses_no_report_for_good(site: Site) -> None:
    await site.enrol(DEVICE)
    async with site.leading() as lead, site.following(DEVICE):
        await in_sync(site, lead)
        await lead.register(SECOND)
        await lead.store.forbid_writing()
        await asyncio.sleep(2 * PERIOD_S)
        assert not lead.task.done()
        await lead.store.allow_writing()
        await site.in_sync(DEVICE, within_s=PERIOD_S + 5)


async def test_random_weather_ends_in_sync(site: Site) -> None:
    """F31: whatever is cut, delayed and repeated, after the last fault heals everybody holds the lead's record."""
    rng = Random(11)
    devices = [f"device-{number}" for number in range(3)]
    await site.enrol(*devices)
    async with AsyncExitStack() as stack:
        lead = await stack.enter_async_context(site.leading())
        for device in devices:
            await stack.enter_async_context(site.following(device))
        site.broker.weather = Weather(duplicate=0.3, delay_s=(0.0, 2.0))
        for step in range(30):
            victim = rng.choice([*devices, LEAD])
            rng.choice([site.broker.drop, site.broker.part, site.broker.heal])(victim)
            if rng.random() < 0.3:
                with suppress(BusError):
                    await lead.register(registered(f"House {step}"))
            await asyncio.sleep(rng.uniform(0, 30))
        site.broker.weather = Weather()
        for account in (*devices, LEAD):
            site.broker.heal(account)
        await asyncio.sleep(3 * PERIOD_S)
        await site.in_sync(*devices, within_s=PERIOD_S)
