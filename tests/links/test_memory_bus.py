"""The broker in memory beyond the contract of a bus: the bad network that simulations need is the one they ask for."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING

import pytest

from propagator.bus import BusKind, Message, Session, Will
from propagator.core.errors import BusError
from tests.memory_bus import INBOX_LIMIT, KEEPALIVE_S, MemoryBroker, Weather, matches
from tests.support_broker import account

if TYPE_CHECKING:
    from propagator.broker import Right

TOPIC = "a/b"


async def heard(session: Session, seconds: float) -> list[bytes]:
    """Take what comes in a while."""
    taken: list[bytes] = []

    async def take() -> None:
        async for message in session.messages():
            taken.append(message.payload)  # noqa: PERF401  it is cut short

    task = asyncio.create_task(take())
    await asyncio.sleep(seconds)
    task.cancel()
    await asyncio.wait([task])
    return taken


@pytest.mark.parametrize(
    ("wanted", "topic", "covers"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/b/c", False),
        ("a/+/c", "a/b/c", True),
        ("a/+", "a/b/c", False),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("#", "a/b", True),
        ("+", "a/b", False),
    ],
)
def test_filter_covers_what_mqtt_says(wanted: str, topic: str, covers: bool) -> None:  # noqa: FBT001
    assert matches(wanted, topic) is covers


async def test_delayed_messages_keep_their_order() -> None:
    broker = MemoryBroker(rng=Random(3))
    broker.weather = Weather(delay_s=(0.1, 5.0))
    async with broker.bus("one").connect() as one, broker.bus("two").connect() as two:
        await two.subscribe(TOPIC)
        await asyncio.gather(*(one.publish(TOPIC, b"%d" % number) for number in range(30)))
        assert await heard(two, 60) == [b"%d" % number for number in range(30)]


async def test_reordered_messages_all_arrive_in_another_order() -> None:
    broker = MemoryBroker(rng=Random(3))
    broker.weather_of["two"] = Weather(delay_s=(0.1, 5.0), reorder=True)
    async with broker.bus("one").connect() as one, broker.bus("two").connect() as two:
        await two.subscribe(TOPIC)
        for number in range(30):
            await one.publish(TOPIC, b"%d" % number)
        taken = await heard(two, 60)
    assert taken != sorted(taken, key=int)
    assert sorted(taken, key=int) == [b"%d" % number for number in range(30)]


async def test_duplicates_are_as_frequent_as_asked_for() -> None:
    broker = MemoryBroker(rng=Random(3))
    broker.weather = Weather(duplicate=0.5)
    async with broker.bus("one").connect() as one:
        await one.subscribe(TOPIC)
        for number in range(200):
            await one.publish(TOPIC, b"%d" % number)
        assert 260 < len(await heard(one, 1)) < 340


async def test_one_seed_is_one_run() -> None:
    runs = []
    for seed in (1, 1, 2):
        broker = MemoryBroker(rng=Random(seed))
        broker.weather = Weather(duplicate=0.3, delay_s=(0.0, 5.0), reorder=True)
        async with broker.bus("one").connect() as one, broker.bus("two").connect() as two:
            await two.subscribe(TOPIC)
            for number in range(30):
                await one.publish(TOPIC, b"%d" % number)
            runs.append(await heard(two, 60))
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


async def test_short_cut_of_the_network_loses_nothing() -> None:
    broker = MemoryBroker()
    async with broker.bus("one").connect() as one, broker.bus("two").connect() as two:
        await two.subscribe(TOPIC)
        broker.part("two")
        await one.publish(TOPIC, b"while it was cut")
        broker.part("one")
        late = asyncio.create_task(one.publish(TOPIC, b"from behind the cut"))
        await asyncio.sleep(5)
        assert not late.done()
        broker.heal("one")
        broker.heal("two")
        await late
        assert await heard(two, 1) == [b"while it was cut", b"from behind the cut"]


async def test_publish_into_a_cut_network_ends_with_its_deadline() -> None:
    broker = MemoryBroker()
    async with broker.bus("one").connect() as one:
        broker.part("one")
        with pytest.raises(BusError) as late:
            await one.publish(TOPIC, b"x")
        assert late.value.kind == BusKind.MUTE


async def test_long_cut_publishes_the_will_and_then_ends_the_client() -> None:
    broker = MemoryBroker()
    async with broker.bus("two").connect() as two:
        await two.subscribe(TOPIC)
        async with broker.bus("one").connect(Will(TOPIC, b"gone")) as one:
            broker.part("one")
            await asyncio.sleep(1.5 * KEEPALIVE_S - 1)
            assert "one" in broker.connected()
            assert await heard(two, 2) == [b"gone"]
            assert "one" not in broker.connected()
            with pytest.raises(BusError) as lost:
                await anext(aiter(one.messages()))
            assert lost.value.kind == BusKind.LOST
        with pytest.raises(BusError) as unreached:
            async with broker.bus("one").connect():
                pass
        assert unreached.value.kind == BusKind.TIMEOUT
        broker.heal("one")
        async with broker.bus("one").connect():
            pass


async def test_client_behind_a_mended_network_hears_that_the_broker_gave_it_up() -> None:
    broker = MemoryBroker()
    async with broker.bus("one").connect() as one:
        broker.part("one")
        await asyncio.sleep(1.6 * KEEPALIVE_S)
        broker.heal("one")
        with pytest.raises(BusError) as lost:
            await one.publish(TOPIC, b"x")
        assert lost.value.kind == BusKind.LOST


async def test_goodbye_behind_a_cut_is_heard_when_it_is_mended() -> None:
    broker = MemoryBroker()
    async with broker.bus("one").connect(Will(TOPIC, b"gone")):
        broker.part("one")
    assert broker.connected() == ("one",)
    broker.heal("one")
    assert broker.connected() == ()
    assert broker.retained == {}


async def test_changed_account_ends_its_session_and_no_other() -> None:
    everything: Right = ("readwrite", "#")
    accounts = [account("one", everything), account("two", everything)]
    broker = MemoryBroker(accounts)
    async with (
        broker.bus("one", "secret-of-one").connect() as one,
        broker.bus("two", "secret-of-two").connect() as two,
    ):
        broker.reload([account("one", everything, password="another"), accounts[1]])
        await two.publish(TOPIC, b"x")
        with pytest.raises(BusError) as ended:
            await one.publish(TOPIC, b"x")
        assert ended.value.kind == BusKind.LOST


async def test_swallowed_messages_are_acknowledged_and_reach_nobody() -> None:
    broker = MemoryBroker()
    broker.swallow = lambda said: said.payload == b"lost"
    async with broker.bus("one").connect() as one:
        await one.subscribe(TOPIC)
        await one.publish(TOPIC, b"lost", retain=True)
        await one.publish(TOPIC, b"heard")
        assert await heard(one, 1) == [b"heard"]
        assert broker.retained == {}


async def test_f56_broker_without_retained_messages_for_wildcards() -> None:
    broker = MemoryBroker()
    broker.retains_for_wildcards = False
    broker.inject(TOPIC, b"kept", retain=True)
    async with broker.bus("one").connect() as one:
        await one.subscribe("a/+", TOPIC)
        assert await anext(aiter(one.messages())) == Message(TOPIC, b"kept", retained=True)
        assert await heard(one, 1) == []


async def test_client_that_takes_nothing_is_ended() -> None:
    broker = MemoryBroker()
    async with broker.bus("one").connect() as one:
        await one.subscribe(TOPIC)
        for _ in range(INBOX_LIMIT + 1):
            broker.inject(TOPIC, b"x")
        with pytest.raises(BusError) as overflow:
            await one.publish(TOPIC, b"x")
        assert overflow.value.kind == BusKind.OVERFLOW
