"""What the MQTT bus promises beyond the contract: deadlines, words for every failure, and no trace left behind."""

from __future__ import annotations

import asyncio
import gc
import random
import resource
import socket
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import pytest
import pytest_asyncio

from propagator.broker import EmbeddedBroker
from propagator.bus import BusKind, Endpoint, MqttBus, Tls, full_jitter
from propagator.bus.mqtt import _MqttSession
from propagator.core.errors import BusError, InputError
from tests.ports import free_port
from tests.support_broker import (
    DAY,
    LEAD,
    ROOT,
    Authority,
    Pair,
    Relay,
    endpoint,
    eventually,
    lead_account,
    listener,
    next_message,
    resources,
    say_nothing,
    shadow_account,
    tcp_server,
    within,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from propagator.bus import Session

HEARTBEAT = f"{ROOT}/heartbeat"


@pytest_asyncio.fixture
async def port(tmp_path: Path, authority: Authority) -> AsyncIterator[int]:
    """The TLS port of a broker; its Unix socket is `tmp_path / "b" / "broker.sock"`."""
    where = listener(authority, free_port())
    broker = EmbeddedBroker(tmp_path / "b", where)
    await broker.start([lead_account(), *(shadow_account(f"es-{number}") for number in range(1000))])
    yield where.port
    await broker.stop()


async def failure_of(bus: MqttBus, timeout_s: float = 3.0) -> BusError:
    """The error with which connecting fails; it comes with a hint, and with nothing left open."""
    gc.collect()
    before = resources()
    with pytest.raises(BusError) as failed:
        async with asyncio.timeout(timeout_s), bus.connect():
            pass
    assert failed.value.hint
    assert failed.value.address
    after = resources()
    assert len(after["descriptors"]) <= len(before["descriptors"]) + 1  # the other end may be in this process
    assert not [task for task in after["tasks"] if "aiomqtt" in task or "propagator" in task]
    return failed.value


def bus_at(port: int, authority: Authority | None = None, connect_timeout_s: float = 0.3) -> MqttBus:
    return MqttBus(endpoint(authority, f"127.0.0.1:{port}"), connect_timeout_s)


# Deadlines of the connect


async def test_f43_connect_ends_in_time_where_nothing_answers_the_mqtt_connect() -> None:
    async with tcp_server(say_nothing) as port:
        failed = await failure_of(bus_at(port), 1.0)
    assert failed.kind == BusKind.MUTE
    assert str(failed) == f"127.0.0.1:{port} accepts the connection but does not answer as a broker within 0.3 s."


async def test_f43_connect_ends_in_time_where_tls_is_never_finished(authority: Authority) -> None:
    """aiomqtt's own timeout does not bound the handshake."""
    async with tcp_server(say_nothing) as port:
        failed = await failure_of(bus_at(port, authority), 1.0)
    assert failed.kind == BusKind.MUTE
    assert "does not finish the TLS handshake within 0.3 s" in str(failed)


async def test_connect_ends_in_time_where_packets_are_dropped() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):  # the queue is full; further SYNs are dropped
            failed = await failure_of(bus_at(port), 1.0)
    assert failed.kind == BusKind.TIMEOUT
    assert "does not answer within 0.3 s" in str(failed)


async def test_cancelled_connect_leaves_nothing(authority: Authority) -> None:
    async with tcp_server(say_nothing) as port:
        before = resources()
        for tls in (None, authority):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1), bus_at(port, tls, connect_timeout_s=30).connect():
                    pass
        await eventually(lambda: len(resources()["descriptors"]) == len(before["descriptors"]))
        assert resources()["threads"] == before["threads"]


# Every failure in words


async def test_hang_up_before_connack_is_noticed_at_once() -> None:
    async def hang_up(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read(1)

    async with tcp_server(hang_up) as port:
        failed = await failure_of(bus_at(port, connect_timeout_s=30), 1.0)
    assert failed.kind == BusKind.CLOSED


async def test_hang_up_during_tls_is_noticed_at_once(authority: Authority) -> None:
    async def hang_up(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read(4096)

    async with tcp_server(hang_up) as port:
        failed = await failure_of(bus_at(port, authority, connect_timeout_s=30), 1.0)
    assert failed.kind == BusKind.CLOSED


async def test_port_without_tls_is_told(authority: Authority) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")

    async with tcp_server(greet) as port:
        failed = await failure_of(bus_at(port, authority))
    assert failed.kind == BusKind.TLS
    assert "does not speak TLS" in str(failed)


async def test_plain_mqtt_to_the_tls_port_is_told(port: int) -> None:
    failed = await failure_of(bus_at(port, connect_timeout_s=5))
    assert failed.kind == BusKind.CLOSED
    assert "TLS" in failed.hint


async def test_refused_port_is_told() -> None:
    assert (await failure_of(bus_at(free_port()))).kind == BusKind.REFUSED


async def test_missing_unix_socket_is_told(tmp_path: Path) -> None:
    failed = await failure_of(MqttBus(endpoint(None, f"unix:{tmp_path}/none.sock")))
    assert failed.kind == BusKind.REFUSED


async def test_unknown_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", _no_such_name)
    failed = await failure_of(MqttBus(endpoint(None, "no-such-host.example:8883")))
    assert failed.kind == BusKind.DNS
    assert "no-such-host.example:8883" in str(failed)


def _no_such_name(*_: object, **__: object) -> list[tuple[object, ...]]:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


async def test_name_that_is_none_is_told() -> None:
    failed = await failure_of(MqttBus(endpoint(None, f"{'x' * 64}.example:8883")))
    assert failed.kind == BusKind.DNS


async def test_unreachable_network_is_told() -> None:
    assert (await failure_of(MqttBus(endpoint(None, "255.255.255.255:8883")))).kind == BusKind.UNREACHABLE


async def test_answer_that_is_no_mqtt_is_told() -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read(4096)

    async with tcp_server(babble) as port:
        failed = await failure_of(bus_at(port))
    assert failed.kind in {BusKind.CLOSED, BusKind.PROTOCOL, BusKind.MUTE}


async def test_broker_that_is_busy_is_told() -> None:
    async def busy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write(bytes([0x20, 2, 0, 3]))  # CONNACK, server unavailable
        await reader.read(4096)

    async with tcp_server(busy) as port:
        failed = await failure_of(bus_at(port))
    assert failed.kind == BusKind.PROTOCOL
    assert "unavailable" in str(failed)


CERTIFICATES = {
    "an unknown CA": ("localhost", "stranger", "signed by a CA that we do not know"),
    "an expired certificate": ("localhost", "expired", "has expired"),
    "a certificate of tomorrow": ("localhost", "tomorrow", "not valid yet"),
    "the certificate of another name": ("localhost", "elsewhere", "for another name"),
    "the certificate of another address": ("127.0.0.1", "elsewhere", "for another name"),
}


@pytest.fixture
def pairs(authority: Authority, tmp_path: Path) -> dict[str, Pair]:
    here = ("127.0.0.1", "localhost")
    return {
        "stranger": Authority(tmp_path / "stranger").issue("stranger", here),
        "expired": authority.issue("expired", here, ends=-DAY),
        "tomorrow": authority.issue("tomorrow", here, begins=DAY),
        "elsewhere": authority.issue("elsewhere", ("elsewhere.example",)),
        "here": authority.issue("here", here),
    }


@pytest.mark.parametrize("wrong", CERTIFICATES.values(), ids=CERTIFICATES.keys())
async def test_certificate_that_is_wrong_is_told(
    authority: Authority, pairs: dict[str, Pair], tmp_path: Path, wrong: tuple[str, str, str]
) -> None:
    host, label, says = wrong
    where = listener(authority, free_port(), pair=pairs[label])
    broker = EmbeddedBroker(tmp_path / "b", where)
    await broker.start([lead_account()])
    try:
        endpoint_ = Endpoint((f"{host}:{where.port}",), LEAD, "secret-of-lead-1", Tls(authority.pem))
        failed = await failure_of(MqttBus(endpoint_))
    finally:
        await broker.stop()
    assert failed.kind == BusKind.TLS
    assert says in str(failed)


async def test_right_name_is_verified_and_accepted(
    authority: Authority, pairs: dict[str, Pair], tmp_path: Path
) -> None:
    where = listener(authority, free_port(), pair=pairs["here"])
    broker = EmbeddedBroker(tmp_path / "b", where)
    await broker.start([lead_account()])
    try:
        for host in ("localhost", "127.0.0.1"):
            wanted = Endpoint((f"{host}:{where.port}",), LEAD, "secret-of-lead-1", Tls(authority.pem))
            async with MqttBus(wanted).connect() as session:
                await session.publish(HEARTBEAT, b"")
    finally:
        await broker.stop()


async def test_pinned_ca_is_enough_whatever_the_name(port: int, authority: Authority) -> None:
    async with bus_at(port, authority, 5).connect() as session:  # the certificate is for broker.example
        await session.publish(HEARTBEAT, b"")


@pytest.mark.parametrize("pem", ["", "-----BEGIN CERTIFICATE-----\nAA\n", "é"])
async def test_ca_that_is_no_certificate_is_told(port: int, pem: str) -> None:
    wanted = Endpoint((f"127.0.0.1:{port}",), LEAD, "x", Tls(pem, verify_name=False))
    failed = await failure_of(MqttBus(wanted))
    assert failed.kind == BusKind.TLS
    assert "the CA given for it is no certificate" in str(failed)


# Several addresses


async def test_second_address_is_tried_when_the_first_fails(port: int, authority: Authority) -> None:
    async with tcp_server(say_nothing) as silent:
        addresses = (f"127.0.0.1:{free_port()}", f"127.0.0.1:{silent}", f"127.0.0.1:{port}")
        async with MqttBus(endpoint(authority, *addresses), 0.5).connect() as session:
            assert session.address == addresses[2]
            await session.publish(HEARTBEAT, b"")


async def test_error_names_what_came_of_every_address_and_takes_the_most_telling_kind(
    port: int, authority: Authority
) -> None:
    closed = free_port()
    addresses = (f"127.0.0.1:{port}", f"127.0.0.1:{closed}", "255.255.255.255:1")
    failed = await failure_of(MqttBus(endpoint(authority, *addresses, password="wrong"), 1.0))
    assert failed.kind == BusKind.NOT_AUTHORISED
    assert failed.address == addresses[0]
    assert all(address in str(failed) for address in addresses)
    assert "nobody listens there" in str(failed)


async def test_ip_addresses_of_one_name_share_its_time(
    port: int, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name with a dead IPv6 address does not take the time that its IPv4 address needs."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        with socket.create_connection(full.getsockname()):

            async def resolve(*_: object, **__: object) -> list[tuple[object, ...]]:
                dead, alive = full.getsockname(), ("127.0.0.1", port)
                return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", where) for where in (dead, alive)]

            monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
            async with MqttBus(endpoint(authority, f"two.example:{port}"), 1.0).connect() as session:
                await session.publish(HEARTBEAT, b"")


async def test_unix_socket_needs_no_tls(port: int, authority: Authority, tmp_path: Path) -> None:  # noqa: ARG001
    address = f"unix:{tmp_path}/b/broker.sock"
    async with MqttBus(endpoint(authority, address)).connect() as session:
        assert session.address == address
        await session.publish(HEARTBEAT, b"")


@pytest.mark.parametrize(("identifier", "expected"), [("", b"\0\6lead-1"), ("another", b"\0\7another")])
async def test_connect_says_the_user_name_as_client_id_unless_told_otherwise(identifier: str, expected: bytes) -> None:
    """And asks for a clean session: the broker shall keep nothing of us."""
    heard = bytearray()

    async def listen(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        heard.extend(await reader.read(4096))

    async with tcp_server(listen) as port:
        await failure_of(MqttBus(endpoint(None, f"127.0.0.1:{port}", identifier=identifier, keepalive_s=20)))
    user_password_clean = 0b1100_0010
    header = bytes([0, 4, *b"MQTT", 4, user_password_clean, 0, 20])
    assert heard[2:].startswith(header + expected + b"\0\6lead-1")


# A session that goes wrong


async def test_connection_that_ends_while_something_is_to_be_written_leaves_no_watch(tmp_path: Path, port: int) -> None:
    """aiomqtt would watch the closed descriptor, or whoever gets its number next."""
    assert port
    trouble: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: trouble.append(context))
    async with MqttBus(endpoint(None, f"unix:{tmp_path}/b/broker.sock")).connect() as session:
        assert isinstance(session, _MqttSession)
        session._client._client.publish(HEARTBEAT, b"to be written in the next turn", qos=1)
        session._client._client._sock_close()
        with pytest.raises(BusError, match="lost"):
            await next_message(session, 1.0)
    assert trouble == []


async def test_publish_that_is_not_acknowledged_ends_in_time(port: int, authority: Authority) -> None:
    async with Relay().to(port) as relay:
        bus = MqttBus(endpoint(authority, relay.address), operation_timeout_s=0.3)
        async with bus.connect() as session:
            relay.stall()
            for call in (session.publish(HEARTBEAT, b"x"), session.subscribe(HEARTBEAT)):
                with pytest.raises(BusError, match=r"does not acknowledge .* within 0.3 s") as failed:
                    await within(call, 1.0)
                assert failed.value.kind == BusKind.MUTE
            started = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - started < 1.5  # so long the goodbye may take


async def test_publish_that_waits_ends_with_the_connection(port: int, authority: Authority) -> None:
    async with Relay().to(port) as relay:
        bus = MqttBus(endpoint(authority, relay.address), operation_timeout_s=30)
        async with bus.connect() as session:
            relay.stall()
            publishing = asyncio.create_task(session.publish(HEARTBEAT, b"x"))
            with pytest.raises(TimeoutError):
                await within(asyncio.shield(publishing), 0.1)
            relay.cut()
            with pytest.raises(BusError) as failed:
                await within(publishing, 1.0)
            assert failed.value.kind == BusKind.LOST


async def test_goodbye_to_a_stalled_broker_takes_a_second_at_most(port: int, authority: Authority) -> None:
    before = resources()
    async with Relay().to(port) as relay:
        async with MqttBus(endpoint(authority, relay.address), operation_timeout_s=0.1).connect() as session:
            relay.stall()
            with pytest.raises(BusError):
                await session.publish(HEARTBEAT, bytes(8_000_000))  # more than the buffers on the way hold
            started = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - started < 1.5
        assert not [task for task in resources()["tasks"] if "aiomqtt" in task]
    await eventually(lambda: len(resources()["descriptors"]) == len(before["descriptors"]))


async def test_f42_silent_broker_is_lost_after_the_keepalive(port: int, authority: Authority) -> None:
    async with Relay().to(port) as relay:
        bus = MqttBus(endpoint(authority, relay.address, keepalive_s=1))
        async with bus.connect() as session:
            relay.stall()
            with pytest.raises(BusError, match="lost") as failed:
                await next_message(session, 5.0)
            assert failed.value.kind == BusKind.LOST


@pytest.mark.parametrize("tls", [True, False], ids=["TLS", "Unix socket"])
async def test_more_than_the_inbox_holds_ends_the_session_and_is_told(
    port: int, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, tls: bool
) -> None:
    """aiomqtt would drop what comes too much, in silence."""
    monkeypatch.setattr("propagator.bus.client.INBOX_LIMIT", 10)
    address = f"127.0.0.1:{port}" if tls else f"unix:{tmp_path}/b/broker.sock"
    bus, other = MqttBus(endpoint(authority, address)), MqttBus(endpoint(authority, address, name="es-1"))
    async with bus.connect() as lead, other.connect() as shadow:
        await lead.subscribe(f"{ROOT}/shadows/es-1/report")
        await asyncio.gather(*(shadow.publish(f"{ROOT}/shadows/es-1/report", b"%d" % n) for n in range(100)))
        received: list[bytes] = []
        failed = await _receive_until_the_end(lead, received)
        assert received == [b"%d" % number for number in range(10)]
        assert failed.kind == BusKind.OVERFLOW
        with pytest.raises(BusError) as again:
            await lead.publish(HEARTBEAT, b"x")
        assert again.value.kind == BusKind.OVERFLOW


async def _receive_until_the_end(session: Session, received: list[bytes]) -> BusError:
    try:
        async with asyncio.timeout(5):
            async for message in session.messages():
                received.append(message.payload)  # noqa: PERF401
    except BusError as exc:
        return exc
    raise AssertionError


async def test_broker_that_sends_rubbish_ends_the_session() -> None:
    async def rubbish(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write(bytes([0x20, 2, 0, 0]))  # CONNACK
        writer.write(bytes([0x32, 6, 0, 2, 0xFF, 0xFE, 0, 1]))  # PUBLISH on a topic that is no UTF-8
        await reader.read(4096)

    async with tcp_server(rubbish) as port, bus_at(port).connect() as session:
        with pytest.raises(BusError) as failed:
            await next_message(session, 2.0)
        assert failed.value.kind == BusKind.LOST


async def test_reason_is_told_where_mqtt_5_gives_one() -> None:
    async def take_over(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write(bytes([0x20, 3, 0, 0, 0, 0xE0, 2, 0x8E, 0]))  # CONNACK, DISCONNECT "session taken over"
        await reader.read(4096)

    async with tcp_server(take_over) as port, _v5_bus_at(port).connect() as session:
        with pytest.raises(BusError, match=r"lost \(Session taken over\)"):
            await next_message(session)


def _v5_bus_at(port: int) -> MqttBus:
    return MqttBus(replace(endpoint(None, f"127.0.0.1:{port}"), protocol="5"))


async def test_topic_that_is_none_is_the_callers_mistake(port: int, authority: Authority) -> None:
    async with bus_at(port, authority, 5).connect() as session:
        with pytest.raises(ValueError, match="wildcards"):
            await session.publish(f"{ROOT}/+", b"")


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
async def test_subscription_that_the_broker_refuses_is_told(protocol: Literal["3.1.1", "5"]) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write(bytes([0x20, 2, 0, 0]) if protocol == "3.1.1" else bytes([0x20, 3, 0, 0, 0]))
        await reader.read(4096)
        writer.write(bytes([0x90, 3, 0, 1, 0x80]) if protocol == "3.1.1" else bytes([0x90, 4, 0, 1, 0, 0x87]))
        await reader.read(4096)

    async with tcp_server(refuse) as port:
        wanted = replace(endpoint(None, f"127.0.0.1:{port}"), protocol=protocol)
        async with MqttBus(wanted).connect() as session:
            with pytest.raises(BusError, match="refuses the subscription") as failed:
                await session.subscribe(HEARTBEAT)
            assert failed.value.kind == BusKind.NOT_AUTHORISED


# Many


async def test_a_thousand_clients_in_one_loop(port: int, authority: Authority) -> None:
    """They need no threads, and all are there at once."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    before = resources()
    names = [f"es-{number}" for number in range(1000)]
    where = f"127.0.0.1:{port}"
    async with AsyncExitStack() as stack:
        connecting = (
            stack.enter_async_context(MqttBus(endpoint(authority, where, name=name), 30.0).connect()) for name in names
        )
        sessions = await asyncio.gather(*connecting)
        lead = await stack.enter_async_context(MqttBus(endpoint(authority, where)).connect())
        await asyncio.gather(*(session.subscribe(HEARTBEAT) for session in sessions))
        await lead.publish(HEARTBEAT, b"all")
        heard = await asyncio.gather(*(next_message(session) for session in sessions))
        assert {message.payload for message in heard} == {b"all"}
        assert resources()["threads"] == before["threads"]
    await eventually(lambda: len(resources()["descriptors"]) == len(before["descriptors"]))
    assert resources()["tasks"] == before["tasks"]


# Values


def test_password_and_ca_are_not_in_the_representation() -> None:
    shown = repr(Endpoint(("a:1",), "name", "hunter2", Tls("the CA")))
    assert "hunter2" not in shown
    assert "the CA" not in shown


GOOD = ["broker.example:8883", "192.0.2.1:1", "[2001:db8::1]:65535", "[fe80::1%eth0]:8883", "unix:/run/b c.sock"]


@pytest.mark.parametrize("address", GOOD)
def test_address_is_taken(address: str) -> None:
    Endpoint((address,), "name", "password")


BAD = [
    "broker.example", "broker.example:", ":8883", "a:0", "a:65536", "a:88٣", "2001:db8::1:8883", "mqtts://a:1", "a b:1",
    "unix:", "unix:relative", "unix:/a\nb", "", "a:1\n",
]  # fmt: skip


@pytest.mark.parametrize("address", BAD)
def test_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(InputError) as refused:
        Endpoint(("fine.example:1", address), "name", "password")
    assert [problem.path for problem in refused.value.problems] == ["addresses.1"]


def test_endpoint_without_an_address_is_refused() -> None:
    with pytest.raises(InputError):
        Endpoint((), "name", "password")


def test_full_jitter_is_uniform_up_to_a_doubling_bound_and_a_cap() -> None:
    rng = random.Random(7)
    for attempt, bound in ((0, 0.5), (1, 1.0), (4, 8.0), (7, 60.0), (5000, 60.0)):
        waits = [full_jitter(attempt, rng) for _ in range(500)]
        assert 0 <= min(waits) < 0.05 * bound
        assert 0.95 * bound < max(waits) <= bound
    assert full_jitter(3, random.Random(1)) == full_jitter(3, random.Random(1))
    assert full_jitter(3, rng, base_s=2.0, cap_s=1.0) <= 1.0
