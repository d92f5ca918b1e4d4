"""Stopping: whoever is told to stop stops, whatever else happens in the same moment."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from propagator.core.errors import BusError
from propagator.tasks import together
from tests.links.site import LEAD, until

if TYPE_CHECKING:
    from tests.links.site import Site


async def fails_after(seconds: float) -> None:
    await asyncio.sleep(seconds)
    raise BusError("The connection was lost.", kind="lost")


async def goes_on() -> None:
    await asyncio.Event().wait()


async def fails_when_cancelled() -> None:
    try:
        await goes_on()
    except asyncio.CancelledError:
        raise BusError("The connection was lost.", kind="lost") from None


async def test_first_error_ends_the_others_and_is_raised_as_it_is() -> None:
    for _ in range(3):  # and leaves nothing behind that would end the next try
        with pytest.raises(BusError, match="lost"):
            await together(one=goes_on(), other=fails_after(1))
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0


async def test_tasks_that_all_end_are_awaited() -> None:
    await together(one=asyncio.sleep(1), other=asyncio.sleep(2))


@pytest.mark.parametrize("moment_s", [0.0, 0.5, 1.0, 1.5])
async def test_whoever_is_cancelled_while_a_task_fails_is_cancelled(moment_s: float) -> None:
    async def again_and_again() -> None:
        while True:
            try:
                await together(one=fails_when_cancelled(), other=fails_after(1))
            except BusError:
                await asyncio.sleep(1)

    task = asyncio.create_task(again_and_again())
    await asyncio.sleep(moment_s)
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=5)
    assert done, "it was told to stop, took the error for the reason, and tried again"
    assert task.cancelled()


@pytest.mark.parametrize("of", ["lead", "shadow"])
async def test_agent_told_to_stop_while_its_connection_is_lost_stops(site: Site, of: str) -> None:
    await site.enrol("device-1")
    async with site.leading() as lead, site.following("device-1") as shadow:
        await until(lambda: shadow.shadow.live()["connected"])
        await asyncio.sleep(1)
        account, task = (LEAD, lead.task) if of == "lead" else ("device-1", shadow.task)
        site.broker.drop(account)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=2)
        assert done
        assert task.cancelled()
