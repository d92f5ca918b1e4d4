"""A lead and its copy, each on a broker of its own, and a shadow that goes to and fro (F03)."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

import pytest

from propagator.core.state import DownlinkState, State
from tests.links.site import HEARTBEAT, LEAD, PERIOD_S, Site, until
from tests.memory_bus import MemoryBroker
from tests.store.contents import rows
from tests.unit.builders import registered

if TYPE_CHECKING:
    from tests.links.site import Leading, Shadowing

FIRST, SECOND, THIRD = registered("First"), registered("Second"), registered("Third")
DEVICE, STAYING = "device-1", "device-2"


def copied(site: Site) -> Site:
    """Copy the lead's machine; the copy's own broker knows nobody yet."""
    shutil.copytree(site.directory / LEAD, site.directory / "copy")
    return Site(site.directory, MemoryBroker())


def lead_to(shadow: Shadowing, site: Site) -> None:
    """Let the shadow find its lead on another broker from its next connection on, which is made now."""
    bus = shadow.shadow._bus
    bus.broker.drop(DEVICE)  # type: ignore[attr-defined]
    bus.broker = site.broker  # type: ignore[attr-defined]


def is_second(lead: Leading) -> bool:
    return bool(lead.lead.live()["state"] == DownlinkState.SECOND_LEAD)


@pytest.mark.parametrize("seed", range(5))
async def test_f03_a_shadow_that_alternates_between_two_copies_makes_them_known_to_each_other(
    site: Site, seed: int
) -> None:
    """Whichever of the two began later: the shadow holds one of them for the lead, and carries the word of both."""
    await site.enrol(DEVICE, STAYING)
    async with site.leading(seed=seed) as lead, site.following(DEVICE) as shadow, site.following(STAYING):
        await lead.register(FIRST)
        await site.in_sync(DEVICE, STAYING)
        elsewhere = copied(site)
        async with elsewhere.leading(directory="copy", seed=seed + 100) as copy:
            for turn in range(6):
                await asyncio.sleep(3 * PERIOD_S)
                assert turn < 5 or (is_second(lead) and is_second(copy))
                lead_to(shadow, site if turn % 2 else elsewhere)
            assert lead.finding == copy.finding == "SECOND_LEAD"
            issued = [rows(site.directory / name, "SELECT count(*) FROM issue") for name in (LEAD, "copy")]
            assert await lead.register(SECOND) is None
            assert await copy.register(THIRD) is None
            await asyncio.sleep(3 * PERIOD_S)
            assert [rows(site.directory / name, "SELECT count(*) FROM issue") for name in (LEAD, "copy")] == issued
            assert (await shadow.record()).registration == FIRST
            assert len(rows(site.directory / DEVICE, "SELECT 1 FROM history WHERE event = 'overwritten'")) == 1
        lead_to(shadow, site)
        await asyncio.sleep(3 * PERIOD_S)
        await lead.lead.take_over()
        await until(lambda: not is_second(lead))
        await site.in_sync(DEVICE, STAYING, within_s=3 * PERIOD_S)
        assert (await shadow.record()).registration == SECOND


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("shared", "periods"),
    [
        pytest.param(True, 1 / 3, id="on the same broker, gone before it names the original"),
        pytest.param(False, 3 / 2, id="on a broker of its own, from where one shadow comes back"),
    ],
)
async def test_f03_a_copy_that_is_gone_leaves_the_original_heard(
    site: Site, *, shared: bool, periods: float, seed: int
) -> None:
    """A copy of the machine ran by mistake: its session is the higher one, and nobody is left to prove it."""
    await site.enrol(DEVICE, STAYING)
    async with site.leading(seed=seed) as lead, site.following(DEVICE) as shadow, site.following(STAYING) as staying:
        await lead.register(FIRST)
        await site.in_sync(DEVICE, STAYING)
        elsewhere = copied(site)
        if shared:
            elsewhere.broker = site.broker
        async with elsewhere.leading(directory="copy", seed=seed + 100):
            lead_to(shadow, elsewhere)
            await asyncio.sleep(periods * PERIOD_S)
        lead_to(shadow, site)
        await until(lambda: shadow.state == State.STALE, within_s=4 * PERIOD_S)
        await until(lambda: {shadow.state, staying.state} == {State.IN_SYNC}, within_s=3 * PERIOD_S)
        await asyncio.sleep(5 * PERIOD_S)
        assert {shadow.state, staying.state} == {State.IN_SYNC}
        assert not is_second(lead)
        await lead.register(SECOND)
        await site.in_sync(DEVICE, STAYING)


async def test_f03_a_shadow_that_stays_is_asked_for_no_heartbeats_whatever_a_rogue_replays(site: Site) -> None:
    """At most once a period, and nothing is proven: a replay names no present session."""
    await site.enrol(DEVICE)
    async with site.leading(seed=1) as before, site.following(DEVICE):
        await before.register(FIRST)
        await site.in_sync(DEVICE)
        old = [said.payload for said in site.broker.wire if said.topic == HEARTBEAT]
    async with site.leading(seed=2) as lead, site.following(DEVICE, seed=2):
        await site.in_sync(DEVICE)
        await asyncio.sleep(2 * PERIOD_S)
        assert not [word for _, word in site.requests(DEVICE) if word.wanted == "heartbeats"]
        for _ in range(5):
            for raw in old:
                site.broker.inject(HEARTBEAT, raw)
            await asyncio.sleep(PERIOD_S)
        asked = [word for _, word in site.requests(DEVICE) if word.wanted == "heartbeats"]
        assert len(asked) <= 6
        assert not is_second(lead)
