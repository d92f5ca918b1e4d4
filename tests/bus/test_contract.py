"""What every bus must do, whatever carries it. `world` is one broker after another; nothing here knows which."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from propagator.bus import BusKind, Message, Session, Will
from propagator.core.errors import BusError
from tests.support_broker import LEAD, ROOT, World, eventually, next_message, resources, within

RECORD = f"{ROOT}/registration"
HEARTBEAT = f"{ROOT}/heartbeat"


def topic_of(name: str, what: str) -> str:
    return f"{ROOT}/shadows/{name}/{what}"


async def test_message_reaches_who_listens(world: World) -> None:
    async with world.bus(LEAD).connect() as lead, world.bus("es-1").connect() as shadow:
        await shadow.subscribe(HEARTBEAT)
        await lead.publish(HEARTBEAT, b"alive")
        assert await next_message(shadow) == Message(HEARTBEAT, b"alive", retained=False)


async def test_retained_message_reaches_who_comes_later(world: World) -> None:
    async with world.bus(LEAD).connect() as lead:
        await lead.publish(RECORD, b"first", retain=True)
        await lead.publish(RECORD, b"second", retain=True)
    async with world.bus("es-1").connect() as shadow:
        await shadow.subscribe(RECORD)
        assert await next_message(shadow) == Message(RECORD, b"second", retained=True)


async def test_retained_message_is_not_marked_so_for_who_was_there(world: World) -> None:
    async with world.bus(LEAD).connect() as lead, world.bus("es-1").connect() as shadow:
        await shadow.subscribe(RECORD)
        await lead.publish(RECORD, b"new", retain=True)
        assert await next_message(shadow) == Message(RECORD, b"new", retained=False)


async def test_unretained_message_does_not_reach_who_comes_later(world: World) -> None:
    async with world.bus(LEAD).connect() as lead, world.bus("es-1").connect() as shadow:
        await lead.publish(HEARTBEAT, b"early")
        await shadow.subscribe(HEARTBEAT)
        await lead.publish(HEARTBEAT, b"late")
        assert (await next_message(shadow)).payload == b"late"


async def test_empty_retained_message_clears(world: World) -> None:
    async with world.bus(LEAD).connect() as lead, world.bus("es-1").connect() as shadow:
        await lead.publish(RECORD, b"old", retain=True)
        await lead.publish(RECORD, b"", retain=True)
        await shadow.subscribe(RECORD)
        await lead.publish(RECORD, b"live")
        assert await next_message(shadow) == Message(RECORD, b"live", retained=False)


async def test_lead_hears_every_shadow_by_one_wildcard(world: World) -> None:
    async with (
        world.bus(LEAD).connect() as lead,
        world.bus("es-1").connect() as first,
        world.bus("es-2").connect() as second,
    ):
        await lead.subscribe(f"{ROOT}/shadows/+/report")
        await first.publish(topic_of("es-1", "report"), b"1", retain=True)
        await second.publish(topic_of("es-2", "report"), b"2", retain=True)
        heard = {(await next_message(lead)).topic for _ in range(2)}
        assert heard == {topic_of("es-1", "report"), topic_of("es-2", "report")}


async def test_messages_of_one_sender_keep_their_order_and_none_is_missing(world: World) -> None:
    async with world.bus(LEAD).connect() as lead, world.bus("es-1").connect() as shadow:
        await shadow.subscribe(HEARTBEAT)
        for number in range(300):
            await lead.publish(HEARTBEAT, b"%d" % number)
        assert [int((await next_message(shadow)).payload) for _ in range(300)] == list(range(300))


async def test_many_publishes_at_once_are_all_acknowledged(world: World) -> None:
    async with world.bus(LEAD).connect() as lead, world.bus("es-1").connect() as shadow:
        await shadow.subscribe(HEARTBEAT)
        await asyncio.gather(*(lead.publish(HEARTBEAT, b"%d" % number) for number in range(200)))
        assert {int((await next_message(shadow)).payload) for _ in range(200)} == set(range(200))


async def test_payload_of_64_kib_passes_unchanged(world: World) -> None:
    payload = bytes(range(256)) * 256
    async with world.bus(LEAD).connect() as lead, world.bus("es-1").connect() as shadow:
        await shadow.subscribe(RECORD)
        await lead.publish(RECORD, payload, retain=True)
        assert (await next_message(shadow)).payload == payload


async def test_unsubscribed_topic_delivers_nothing_more(world: World) -> None:
    async with world.bus(LEAD).connect() as lead, world.bus("es-1").connect() as shadow:
        await shadow.subscribe(HEARTBEAT, RECORD)
        await shadow.unsubscribe(HEARTBEAT)
        await lead.publish(HEARTBEAT, b"unheard")
        await lead.publish(RECORD, b"heard")
        assert (await next_message(shadow)).payload == b"heard"


async def test_will_is_published_and_retained_when_the_peer_dies(world: World) -> None:
    presence = topic_of("es-1", "presence")

    async def live_and_die() -> None:
        async with world.bus("es-1").connect(Will(presence, b"gone")) as shadow:
            await shadow.publish(presence, b"here", retain=True)
            await world.cut("es-1")
            await next_message(shadow)

    async with world.bus(LEAD).connect() as lead:
        await lead.subscribe(presence)
        with pytest.raises(BusError) as lost:
            await live_and_die()
        assert (await next_message(lead)).payload == b"here"
        assert lost.value.kind == BusKind.LOST
        assert await next_message(lead) == Message(presence, b"gone", retained=False)
        await lead.unsubscribe(presence)
        await lead.subscribe(presence)
        assert await next_message(lead) == Message(presence, b"gone", retained=True)


async def test_will_is_not_published_after_a_goodbye(world: World) -> None:
    presence = topic_of("es-1", "presence")
    async with world.bus(LEAD).connect() as lead:
        await lead.subscribe(f"{ROOT}/shadows/es-1/+")
        async with world.bus("es-1").connect(Will(presence, b"gone")):
            pass
        async with world.bus("es-1").connect() as again:
            await again.publish(topic_of("es-1", "report"), b"back")
            assert (await next_message(lead)).payload == b"back"


async def test_f19_will_is_held_to_the_topic_rules(world: World) -> None:
    async with world.bus(LEAD).connect() as lead:
        await lead.subscribe(f"{ROOT}/#")
        with contextlib.suppress(BusError):  # a broker may say so
            async with world.bus("es-1").connect(Will(RECORD, b"forged")) as shadow:
                await world.cut("es-1")
                await next_message(shadow)
        await lead.publish(HEARTBEAT, b"end")
        assert (await next_message(lead)).payload == b"end"


async def test_second_connection_of_one_account_ends_the_first(world: World) -> None:
    async with world.bus("es-1").connect() as first, world.bus("es-1").connect() as second:
        with pytest.raises(BusError) as lost:
            await next_message(first)
        assert lost.value.kind == BusKind.LOST
        await second.publish(topic_of("es-1", "report"), b"mine now")


async def test_connection_of_another_account_ends_nobodys(world: World) -> None:
    async with world.bus("es-1").connect() as first, world.bus("es-2").connect() as second:
        await first.publish(topic_of("es-1", "report"), b"1")
        await second.publish(topic_of("es-2", "report"), b"2")


async def test_forbidden_subscription_delivers_nothing(world: World) -> None:
    async with world.bus(LEAD).connect() as lead, world.bus("es-1").connect() as spy:
        for forbidden in (topic_of("es-2", "request"), f"{ROOT}/shadows/+/request", "#"):
            with contextlib.suppress(BusError):  # a broker may say no, most are silent
                await spy.subscribe(forbidden)
        await spy.subscribe(topic_of("es-1", "request"))
        await lead.publish(topic_of("es-2", "request"), b"for es-2")
        await lead.publish(topic_of("es-1", "request"), b"for es-1")
        assert (await next_message(spy)).payload == b"for es-1"


async def test_f19_forbidden_publish_arrives_nowhere(world: World) -> None:
    async with world.bus(LEAD).connect() as lead:
        await lead.subscribe(f"{ROOT}/#")
        for forbidden in (RECORD, HEARTBEAT, topic_of("es-2", "report")):
            with contextlib.suppress(BusError):  # a broker may say no or hang up
                async with world.bus("es-1").connect() as forger:
                    await forger.publish(forbidden, b"forged", retain=True)
        async with world.bus("es-1").connect() as shadow:
            await shadow.publish(topic_of("es-1", "report"), b"honest")
            assert (await next_message(lead)).payload == b"honest"


async def test_wrong_password_is_refused(world: World) -> None:
    with pytest.raises(BusError) as refused:
        async with world.bus("es-1", password="wrong").connect():
            pass
    assert refused.value.kind == BusKind.NOT_AUTHORISED
    assert refused.value.hint


async def test_unknown_account_is_refused(world: World) -> None:
    with pytest.raises(BusError) as refused:
        async with world.bus("stranger").connect():
            pass
    assert refused.value.kind == BusKind.NOT_AUTHORISED


async def test_session_ends_when_the_broker_does_and_a_new_one_works(world: World) -> None:
    bus = world.bus(LEAD)
    async with bus.connect() as before:
        await before.subscribe(HEARTBEAT)
        await world.restart()
        with pytest.raises(BusError) as lost:
            await next_message(before)
        assert lost.value.kind == BusKind.LOST
    async with bus.connect() as after:
        await after.subscribe(HEARTBEAT)
        await after.publish(HEARTBEAT, b"again")
        assert (await next_message(after)).payload == b"again"


async def test_what_came_before_the_end_is_handed_out_before_the_error(world: World) -> None:
    async with world.bus(LEAD).connect() as lead:
        await lead.subscribe(HEARTBEAT)
        await lead.publish(HEARTBEAT, b"last words")
        assert (await next_message(lead)).payload == b"last words"
        await world.cut(LEAD)
        for _ in range(2):  # and the end stays the end
            with pytest.raises(BusError, match="lost"):
                await next_message(lead)


async def test_lost_session_refuses_every_call_at_once(world: World) -> None:
    async with world.bus(LEAD).connect() as lead:
        await world.cut(LEAD)
        with pytest.raises(BusError):
            await next_message(lead)
        for call in (lead.publish(HEARTBEAT, b"late"), lead.subscribe(HEARTBEAT), lead.unsubscribe(HEARTBEAT)):
            with pytest.raises(BusError) as lost:
                await within(call, 0.5)
            assert lost.value.kind == BusKind.LOST


async def test_left_session_refuses_every_call(world: World) -> None:
    async with world.bus(LEAD).connect() as lead:
        pass
    with pytest.raises(BusError) as closed:
        await within(lead.publish(HEARTBEAT, b"late"), 0.5)
    assert closed.value.kind == BusKind.CLOSED
    with pytest.raises(BusError) as closed:
        await next_message(lead, 0.5)
    assert closed.value.kind == BusKind.CLOSED


async def test_cancelled_user_says_goodbye_within_a_second(world: World) -> None:
    presence = topic_of("es-1", "presence")
    inside = asyncio.Event()

    async def shadow() -> None:
        async with world.bus("es-1").connect(Will(presence, b"gone")) as session:
            inside.set()
            await listen_for_ever(session)

    async with world.bus(LEAD).connect() as lead:
        await lead.subscribe(f"{ROOT}/shadows/es-1/+")
        task = asyncio.create_task(shadow())
        await within(inside.wait())
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=1.0)
        assert done
        assert task.cancelled()
        async with world.bus("es-1").connect() as again:  # and so its will was not published
            await again.publish(topic_of("es-1", "report"), b"back")
            assert (await next_message(lead)).payload == b"back"


async def test_connections_leave_nothing_behind(world: World) -> None:
    async with world.bus(LEAD).connect() as warm:
        await warm.publish(HEARTBEAT, b"")
    await eventually(lambda: not any("_RelayEnd" in task for task in resources()["tasks"]))
    before = resources()
    for _ in range(20):
        async with world.bus(LEAD).connect(Will(HEARTBEAT, b"")) as lead:
            await lead.subscribe(HEARTBEAT)
            await lead.publish(HEARTBEAT, b"x")
            await next_message(lead)
    assert resources()["tasks"] == before["tasks"]
    await eventually(lambda: len(resources()["descriptors"]) == len(before["descriptors"]))
    assert resources()["threads"] == before["threads"]


async def listen_for_ever(session: Session) -> None:
    async for _ in session.messages():
        pass
