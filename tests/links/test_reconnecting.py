"""Coming back: how soon, how often and how many at once; and what is said of it meanwhile."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING

import pytest

from propagator.core.session import Session
from propagator.core.state import State
from propagator.patience import HOLD_S
from propagator.shadow import Shadow
from tests.links.site import HEARTBEAT, LEAD, PERIOD_S, opened, running, until
from tests.unit.builders import registered
from tests.virtual_time import now

if TYPE_CHECKING:
    from tests.links.site import Shadowing, Site

DEVICE = "device-1"
PROBE_S = 60.0


def tries(site: Site, account: str = DEVICE) -> list[float]:
    return [at_s for who, at_s in site.broker.tries if who == account]


def waits(site: Site, account: str = DEVICE) -> list[float]:
    return [later - earlier for earlier, later in pairwise(tries(site, account))]


def finding_of(shadow: Shadowing) -> str | None:
    finding = shadow.shadow.live()["finding"]
    return str(finding["code"]) if isinstance(finding, dict) else None


async def connected(shadow: Shadowing) -> None:
    await until(lambda: shadow.shadow.live()["connected"])


async def test_r17_three_tries_come_a_second_apart_and_then_one_a_probe_interval_at_most(site: Site) -> None:
    await site.enrol(DEVICE)
    site.broker.refused.add(DEVICE)
    async with site.following(DEVICE):
        await asyncio.sleep(3600)
    first, second, *others = waits(site)
    assert first <= 1.0
    assert second == pytest.approx(1.0, abs=0.01)
    assert max(others) <= PROBE_S + 0.01
    assert others[0] <= 2.01
    assert len(others) > 100, "half an interval on average"


async def test_shadow_that_was_probed_holds_still_while_its_lead_counts_what_is_usual(site: Site) -> None:
    await site.enrol(DEVICE)
    site.broker.refused.add(DEVICE)
    async with site.following(DEVICE) as shadow:
        await asyncio.sleep(0.5)  # within the three tries that are a second apart
        await shadow.shadow.probed("nonce-of-the-lead-22-x")
        probed_s = asyncio.get_running_loop().time()
        await asyncio.sleep(HOLD_S + 0.01)
    later = [at_s - probed_s for at_s in tries(site) if at_s > probed_s]
    assert later == pytest.approx([HOLD_S])


async def test_r17_unreachable_is_said_after_the_third_failure_only(site: Site) -> None:
    await site.enrol(DEVICE)
    async with site.leading() as lead, site.following(DEVICE) as shadow:
        await lead.register(registered("First"))
        await site.in_sync(DEVICE)
        await asyncio.sleep(60)
        site.broker.refused.add(DEVICE)
        before = len(tries(site))
        site.broker.drop(DEVICE)
        seen: dict[int, set[str]] = {}
        for _ in range(100):
            await asyncio.sleep(0.05)
            seen.setdefault(len(tries(site)) - before, set()).add(f"{shadow.state} {finding_of(shadow)}")
        assert seen[0] == {"in_sync None"}, "the loss itself is the first failure"
        assert seen[1] == {"in_sync None"}
        assert seen[2] == {"unreachable PORT_CLOSED"}
        site.broker.refused.clear()
        await until(lambda: shadow.state == State.IN_SYNC, within_s=PROBE_S)
        assert finding_of(shadow) is None


@pytest.mark.parametrize(
    ("trouble", "code"), [("refused", "PORT_CLOSED"), ("parted", "NO_ANSWER_AT_ALL"), ("revoked", "MQTT_REFUSED")]
)
async def test_finding_says_what_the_failure_proves(site: Site, trouble: str, code: str) -> None:
    await site.enrol(DEVICE)
    async with site.following(DEVICE) as shadow:
        await connected(shadow)
        await asyncio.sleep(60)
        if trouble == "refused":
            site.broker.refused.add(DEVICE)
        elif trouble == "parted":
            site.broker.part(DEVICE)
        else:
            site.broker.reload([])
        site.broker.drop(DEVICE)
        await until(lambda: finding_of(shadow) == code, within_s=60)
        assert shadow.state == State.UNREACHABLE


async def test_lead_is_back_within_ten_seconds_of_its_broker(site: Site) -> None:
    async with site.leading() as lead:
        site.broker.stop()
        await asyncio.sleep(3600)
        site.broker.start()
        await until(lambda: lead.lead.live()["connected"], within_s=10.1)
        assert max(waits(site, LEAD)) <= 10.1


async def test_lead_whose_connection_stood_is_back_at_once(site: Site) -> None:
    async with site.leading() as lead:
        for _ in range(5):
            await asyncio.sleep(30)
            before = len(tries(site, LEAD))
            site.broker.drop(LEAD)
            await until(lambda: len(tries(site, LEAD)) > before and lead.lead.live()["connected"], within_s=0.5)  # noqa: B023


# The herd.


async def test_f30_250_shadows_come_back_spread_and_bounded(site: Site) -> None:
    """Power returns: nobody waits longer than an interval, and no second sees a herd."""
    await site.enrol(DEVICE)
    devices = [f"device-{number}" for number in range(250)]
    async with opened(site.directory / DEVICE) as store, AsyncExitStack() as stack:
        for device in devices:
            bus = site.broker.bus(device)
            shadow = Shadow(store, site.speaker(device), bus, Session(1764000000, "aaaa"), now=now, rng=Random(device))
            await stack.enter_async_context(running(shadow.run()))
        await until(lambda: len(site.broker.connected()) == 250)
        await asyncio.sleep(60)
        loop = asyncio.get_running_loop()
        lost_s = loop.time()
        site.broker.stop()
        await asyncio.sleep(200)
        site.broker.start()
        back_s = loop.time()
        await until(lambda: len(site.broker.connected()) == 250, within_s=PROBE_S + 1)
    first = [at_s - lost_s for _, at_s in site.broker.tries if lost_s < at_s <= lost_s + 1.0]
    assert len({round(wait, 3) for wait in first}) > 200, "the first tries are spread, too"
    outage = Counter(int(at_s - lost_s) for _, at_s in site.broker.tries if lost_s + 90 < at_s <= back_s)
    assert max(outage.values()) <= 30
    returned = Counter(int(at_s - back_s) for _, at_s in site.broker.tries if at_s > back_s)
    assert max(returned.values()) <= 30
    assert len(returned) > 30


async def test_f30_shadow_of_one_seed_waits_the_same_in_every_run_and_no_other_does(site: Site) -> None:
    await site.enrol(DEVICE)
    site.broker.refused.add(DEVICE)
    seen = []
    for seed in (1, 1, 2):
        site.broker.tries.clear()
        async with site.following(DEVICE, seed=seed):
            await asyncio.sleep(600)
        seen.append([round(wait, 3) for wait in waits(site)])
    assert seen[0] == seen[1]
    assert seen[0][2:] != seen[2][2:]


# Two agents of one id.


async def test_connection_lost_within_ten_seconds_three_times_names_the_cause_at_once(site: Site) -> None:
    await site.enrol(DEVICE)
    async with site.leading(), site.following(DEVICE) as shadow:
        for loss in range(3):
            await until(lambda: shadow.shadow.live()["connected"], within_s=5)
            assert finding_of(shadow) is None, f"after {loss} losses"
            await asyncio.sleep(3)
            site.broker.drop(DEVICE)
            await until(lambda: not shadow.shadow.live()["connected"], within_s=1)
        assert finding_of(shadow) == "ID_IN_USE"
        assert shadow.state == State.UNREACHABLE
        await until(lambda: shadow.shadow.live()["connected"], within_s=10)
        assert finding_of(shadow) is None


async def test_waits_of_who_is_always_cut_off_grow_up_to_five_minutes(site: Site) -> None:
    await site.enrol(DEVICE)
    async with site.leading(), site.following(DEVICE):
        for _ in range(4 * 3600):
            await asyncio.sleep(1)
            site.broker.drop(DEVICE)
    seen = waits(site)
    assert max(seen) <= 301
    assert max(seen[-20:]) > 150
    assert len(seen) < 150


async def test_connection_that_stood_longer_begins_the_count_anew(site: Site) -> None:
    await site.enrol(DEVICE)
    async with site.leading(), site.following(DEVICE) as shadow:
        for lasting_s in (3, 3, 30, 3, 3, 30):
            await until(lambda: shadow.shadow.live()["connected"], within_s=5)
            await asyncio.sleep(lasting_s)
            site.broker.drop(DEVICE)
            await until(lambda: not shadow.shadow.live()["connected"])
        await until(lambda: shadow.shadow.live()["connected"], within_s=5)
        assert finding_of(shadow) is None


async def test_f18_two_agents_of_one_id_do_not_take_turns_for_ever(site: Site) -> None:
    """Each login ends the other's. Both back off, so an hour sees tens of logins and not thousands."""
    await site.enrol(DEVICE)
    async with (
        site.leading(),
        site.following(DEVICE, begun=Session(1764000000, "aaaa"), seed=1) as first,
        opened(site.directory / DEVICE) as store,
    ):
        bus = site.broker.bus(DEVICE)
        other = Shadow(store, site.speaker(DEVICE), bus, Session(1764000000, "bbbb"), now=now, rng=Random(2))
        async with running(other.run()):
            await asyncio.sleep(3600)
            assert len(tries(site)) < 120
            assert site.member(DEVICE)["cloned"] == 1
            assert not first.task.done()


async def test_shadow_that_comes_back_after_hours_does_not_flash_stale(site: Site) -> None:
    """Silence is counted from the connection, if the one before was not silent already."""
    await site.enrol(DEVICE)
    async with site.leading() as lead, site.following(DEVICE) as shadow:
        await lead.register(registered("First"))
        await site.in_sync(DEVICE)
        await asyncio.sleep(PERIOD_S)
        site.broker.part(DEVICE)
        await asyncio.sleep(3 * 3600)
        reported = len(site.reports(DEVICE))
        site.broker.heal(DEVICE)
        await until(lambda: shadow.state == State.IN_SYNC, within_s=PROBE_S + 1)
        await asyncio.sleep(PERIOD_S)
        assert State.STALE not in {report.state for _, report in site.reports(DEVICE)[reported:]}
        assert shadow.state == State.IN_SYNC


async def test_f12_silence_goes_on_over_connections_that_bring_no_heartbeat(site: Site) -> None:
    """Whoever cuts the connection now and then cannot hide that he withholds the heartbeats."""
    await site.enrol(DEVICE)
    async with site.leading() as lead, site.following(DEVICE) as shadow:
        await lead.register(registered("First"))
        await site.in_sync(DEVICE)
        await asyncio.sleep(PERIOD_S)
        site.broker.swallow = lambda said: said.topic == HEARTBEAT
        for _ in range(4):
            await asyncio.sleep(PERIOD_S)
            site.broker.drop(DEVICE)
        await asyncio.sleep(PERIOD_S / 2)
        assert shadow.state == State.STALE
