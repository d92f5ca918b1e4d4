"""Each trap of Mosquitto that our configuration steps around, as servers meet it."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from propagator.broker import EmbeddedBroker
from propagator.bus import BusKind, MqttBus
from propagator.core.errors import BusError
from tests.support_broker import (
    LEAD,
    ROOT,
    Relay,
    account,
    endpoint,
    eventually,
    lead_account,
    next_message,
    shadow_account,
    within,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from propagator.bus import Session
    from tests.broker.conftest import Site

REPORTS = 2000
HEARTBEAT = f"{ROOT}/heartbeat"


def report_of(name: str) -> str:
    return f"{ROOT}/shadows/{name}/report"


async def _publish_reports(session: Session) -> None:
    """2,000 retained reports, as of 2,000 shadows, 100 on the way at a time."""
    for first in range(0, REPORTS, 100):
        numbers = range(first, first + 100)
        await asyncio.gather(*(session.publish(report_of(f"s{n}"), b"%d" % n, retain=True) for n in numbers))


async def _received(session: Session) -> set[int]:
    return {int((await next_message(session)).payload) for _ in range(REPORTS)}


async def test_lead_that_comes_late_gets_every_one_of_2000_retained_reports(running: Site) -> None:
    """The default of max_queued_messages gives 1,020 of them, in silence."""
    async with running.lead().connect() as lead:
        await _publish_reports(lead)
    async with running.lead().connect() as late:
        await late.subscribe(f"{ROOT}/shadows/+/report")
        assert await _received(late) == set(range(REPORTS))


async def test_lead_that_is_slow_gets_every_one_of_2000_live_reports(running: Site) -> None:
    running.accounts.append(account("all", ("readwrite", f"{ROOT}/#")))
    await running.broker.reload(running.accounts)
    async with (
        Relay().to(running.listener.port) as slow_network,
        MqttBus(endpoint(running.authority, slow_network.address)).connect() as lead,
        running.bus("all").connect() as shadows,
    ):
        await lead.subscribe(f"{ROOT}/shadows/+/report")
        slow_network.stall()
        await _publish_reports(shadows)
        slow_network.resume()
        assert await _received(lead) == set(range(REPORTS))


@pytest.mark.parametrize("way", ["TLS", "Unix socket"])
async def test_client_id_is_the_user_name_on_both_listeners(running: Site, way: str) -> None:
    """`use_username_as_clientid` before a listener line has no effect: then a shadow could end the lead's session."""
    socket_ = replace(endpoint(None, f"unix:{running.broker.socket}", name="es-1"), identifier=LEAD)
    thief = running.bus("es-1", identifier=LEAD) if way == "TLS" else MqttBus(socket_)
    async with running.lead().connect() as lead, running.bus(LEAD).connect() as lead_over_tls:
        with pytest.raises(BusError):  # so the lead itself takes over its own, whichever the listener
            await next_message(lead)
        async with thief.connect() as shadow:
            await shadow.publish(report_of("es-1"), b"under the lead's id")
            await lead_over_tls.publish(HEARTBEAT, b"still there")


async def test_second_connection_of_a_user_ends_its_first_whatever_the_client_id(running: Site) -> None:
    async with running.bus("es-1", identifier="a").connect() as first, running.bus("es-1", identifier="b").connect():
        with pytest.raises(BusError) as lost:
            await next_message(first)
        assert lost.value.kind == BusKind.LOST


async def test_probe_account_does_not_end_the_session_of_its_server(running: Site) -> None:
    running.accounts.append(account("es-1_probe", ("read", HEARTBEAT)))
    await running.broker.reload(running.accounts)
    async with running.bus("es-1").connect() as shadow, running.bus("es-1_probe").connect() as probe:
        await probe.subscribe(HEARTBEAT)
        await shadow.publish(report_of("es-1"), b"undisturbed")


async def test_rights_are_each_accounts_own(running: Site) -> None:
    """A `pattern` line would let `es-1_probe` write on topics of its own."""
    running.accounts.append(account("es-1_probe", ("read", HEARTBEAT)))
    await running.broker.reload(running.accounts)
    async with running.lead().connect() as lead, running.bus("es-1_probe").connect() as probe:
        await lead.subscribe(f"{ROOT}/#")
        await probe.publish(report_of("es-1_probe"), b"forged")
        await lead.publish(HEARTBEAT, b"end")
        assert (await next_message(lead)).payload == b"end"


async def test_shadow_neither_hears_nor_reaches_what_is_not_its_own(running: Site) -> None:
    """A forbidden SUBSCRIBE is granted and delivers nothing; a forbidden PUBLISH is acknowledged and goes nowhere."""
    async with running.lead().connect() as lead, running.bus("es-1").connect() as shadow:
        await shadow.subscribe("#", report_of("es-2"), f"{ROOT}/registration")
        await lead.subscribe(f"{ROOT}/#")
        for forbidden in (report_of("es-2"), f"{ROOT}/registration", HEARTBEAT, f"{ROOT}/shadows/es-1/request"):
            await shadow.publish(forbidden, b"forged", retain=True)
        await lead.publish(report_of("es-2"), b"not for es-1")
        await lead.publish(f"{ROOT}/registration", b"for all")
        assert (await next_message(shadow)).payload == b"for all"
        assert [(await next_message(lead)).payload for _ in range(2)] == [b"not for es-1", b"for all"]


async def test_nobody_is_let_in_without_an_account(running: Site) -> None:
    for bus in (running.bus("stranger"), running.bus("es-1", password="wrong"), running.bus(LEAD, password="wrong")):
        with pytest.raises(BusError) as refused:
            await within(_enter(bus))
        assert refused.value.kind == BusKind.NOT_AUTHORISED


async def test_unix_socket_asks_for_the_password_too(running: Site) -> None:
    with pytest.raises(BusError) as refused:
        await _enter(MqttBus(endpoint(None, f"unix:{running.broker.socket}", password="wrong")))
    assert refused.value.kind == BusKind.NOT_AUTHORISED


async def _enter(bus: MqttBus) -> None:
    async with bus.connect():
        pass


@contextlib.contextmanager
def _strangers(site: Site, count: int) -> Iterator[list[socket.socket]]:
    """Silent connections to the TLS port."""
    with contextlib.ExitStack() as stack:
        where = ("127.0.0.1", site.listener.port)
        yield [stack.enter_context(socket.create_connection(where)) for _ in range(count)]


async def _has_sockets(site: Site, count: int) -> None:
    await eventually(lambda: _sockets(site) == count)


def _sockets(site: Site) -> int:
    """Its descriptors that are sockets: at each connection it reads /etc/hosts.allow and hosts.deny, too (traced)."""
    found = 0
    for descriptor in (site.proc / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found += str(descriptor.readlink()).startswith("socket:")
    return found


async def test_lead_reaches_its_broker_while_strangers_fill_the_cap(site: Site) -> None:
    site.broker = EmbeddedBroker(site.directory, site.listener, max_connections=5)
    await site.start()
    assert not site.broker.connections_at_cap
    with _strangers(site, 6) as strangers:
        await eventually(lambda: site.broker.connections_at_cap)
        with pytest.raises(BusError) as refused:
            await _enter(site.bus())
        assert refused.value.kind == BusKind.CLOSED
        assert "limit of connections" in refused.value.hint
        async with site.lead().connect() as lead:
            await lead.publish(f"{ROOT}/registration", b"out", retain=True)
        for stranger in strangers:
            stranger.close()
        await _until_let_in(site.bus())
        await eventually(lambda: not site.broker.connections_at_cap)


async def test_addresses_of_an_account_are_known_and_a_wrong_password_leaves_none(running: Site) -> None:
    with pytest.raises(BusError):
        await _enter(running.bus("es-1", password="wrong"))
    assert running.broker.addresses("es-1") == ()
    async with running.bus("es-1").connect():
        await eventually(lambda: running.broker.addresses("es-1") == ("127.0.0.1",))


async def test_descriptors_bound_the_strangers_where_the_cap_has_worn_out(site: Site) -> None:
    """Mosquitto counts every connection that ends twice, so its cap grows by one with each."""
    site.broker = EmbeddedBroker(site.directory, site.listener, max_connections=5)
    await site.start()
    async with site.lead().connect() as lead:
        before = _sockets(site)
        for count in (5, 10, 20, 40, 80):
            with _strangers(site, count):
                await _has_sockets(site, before + count)
                # Mosquitto has one thread: when it answers, its last accept() is done with. A connection that ends
                # before that is counted once only.
                await lead.publish(HEARTBEAT, b"all are in")
            await _has_sockets(site, before)
        assert not site.broker.connections_at_cap
        with _strangers(site, 130):
            await eventually(lambda: site.broker.connections_at_cap)
            assert sum(1 for _ in (site.proc / "fd").iterdir()) <= 2 * 5 + 100
            await lead.publish(HEARTBEAT, b"undisturbed")


async def test_broker_has_descriptors_for_every_connection_it_may_have(running: Site) -> None:
    """The usual soft limit, 1,024, is too few for a herd."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert resource.prlimit(running.pid, resource.RLIMIT_NOFILE)[0] == min(8100, most)


async def _until_let_in(bus: MqttBus) -> None:
    async with asyncio.timeout(5):
        while True:
            with contextlib.suppress(BusError):
                async with bus.connect() as shadow:
                    await shadow.subscribe(f"{ROOT}/registration")
                    assert (await next_message(shadow)).payload == b"out"
                    return


async def test_account_is_added_and_nobody_is_disturbed(running: Site) -> None:
    async with running.lead().connect() as lead, running.bus("es-1").connect() as shadow:
        await running.broker.reload([*running.accounts, shadow_account("es-3")])
        async with running.bus("es-3").connect() as added:
            await lead.subscribe(f"{ROOT}/shadows/+/report")
            await added.publish(report_of("es-3"), b"new")
            assert (await next_message(lead)).payload == b"new"
        await shadow.publish(report_of("es-1"), b"old")
        assert (await next_message(lead)).payload == b"old"


async def test_removed_account_is_disconnected_at_once_and_kept_out(running: Site) -> None:
    async with running.bus("es-1").connect() as removed, running.bus("es-2").connect() as other:
        await running.broker.reload([lead_account(), shadow_account("es-2")])
        with pytest.raises(BusError) as lost:
            await next_message(removed, 2.0)
        assert lost.value.kind == BusKind.LOST
        with pytest.raises(BusError) as refused:
            await _enter(running.bus("es-1"))
        assert refused.value.kind == BusKind.NOT_AUTHORISED
        await other.publish(report_of("es-2"), b"undisturbed")


async def test_changed_password_ends_the_session_and_is_the_one_that_counts(running: Site) -> None:
    async with running.bus("es-1").connect() as before:
        await running.broker.reload([lead_account(), shadow_account("es-1", "new"), shadow_account("es-2")])
        with pytest.raises(BusError):
            await next_message(before, 2.0)
    with pytest.raises(BusError):
        await _enter(running.bus("es-1"))
    await _enter(running.bus("es-1", password="new"))


async def test_changed_rights_hold_for_the_session_that_stands(running: Site) -> None:
    async with running.lead().connect() as lead, running.bus("es-1").connect() as shadow:
        await lead.subscribe(f"{ROOT}/shadows/+/report")
        await running.broker.reload([lead_account(), account("es-1", ("write", report_of("es-9")))])
        await _until_heard(lead, shadow)


async def _until_heard(lead: Session, shadow: Session) -> None:
    """The signal has no answer: try until the new right holds. What the old one allowed may come through meanwhile."""
    async with asyncio.timeout(5):
        while True:
            await shadow.publish(report_of("es-9"), b"by the new right")
            with contextlib.suppress(TimeoutError):
                if (await next_message(lead, 0.1)).topic == report_of("es-9"):
                    return


async def test_certificates_are_read_again(running: Site) -> None:
    """Without a restart: who is connected stays so."""
    port = running.listener.port

    async with running.bus("es-1").connect() as shadow:
        before = await asyncio.to_thread(_certificate_of, port)
        await running.broker.reload(running.accounts)
        assert await asyncio.to_thread(_certificate_of, port) == before
        running.authority.issue()  # writes the same files anew
        await running.broker.reload(running.accounts)
        async with asyncio.timeout(5):
            while await asyncio.to_thread(_certificate_of, port) == before:
                pass
        await shadow.publish(report_of("es-1"), b"undisturbed")
    await _enter(running.bus("es-1"))


def _certificate_of(port: int) -> str:
    import ssl  # noqa: PLC0415

    return ssl.get_server_certificate(("127.0.0.1", port))


async def test_reload_with_a_certificate_missing_still_removes_an_account(running: Site, tmp_path: Path) -> None:
    async with running.bus("es-1").connect() as removed:
        running.listener.cert_file.rename(tmp_path / "away")
        try:
            await running.broker.reload([lead_account()])
        finally:
            (tmp_path / "away").rename(running.listener.cert_file)
        with pytest.raises(BusError):
            await next_message(removed, 2.0)


async def test_retained_messages_outlive_a_restart(running: Site) -> None:
    async with running.lead().connect() as lead:
        await lead.publish(f"{ROOT}/registration", b"kept", retain=True)
    await running.broker.stop()
    await running.start()
    async with running.bus("es-1").connect() as shadow:
        await shadow.subscribe(f"{ROOT}/registration")
        assert (await next_message(shadow)).payload == b"kept"


@pytest.mark.parametrize("host", ["", "::"], ids=["no address", "::"])
async def test_every_address_is_listened_on_ipv4_and_ipv6(site: Site, host: str, tmp_path: Path) -> None:
    site.broker = EmbeddedBroker(tmp_path / "b", replace(site.listener, host=host))
    await site.start()
    for address in (f"127.0.0.1:{site.listener.port}", f"[::1]:{site.listener.port}"):
        await _enter(MqttBus(endpoint(site.authority, address)))


async def test_one_address_is_the_only_one_listened_on(running: Site) -> None:
    with pytest.raises(BusError) as refused:
        await _enter(MqttBus(endpoint(running.authority, f"[::1]:{running.listener.port}")))
    assert refused.value.kind == BusKind.REFUSED
    with pytest.raises(BusError) as refused:
        await _enter(MqttBus(endpoint(running.authority, f"127.0.0.2:{running.listener.port}")))
    assert refused.value.kind == BusKind.REFUSED


async def test_2500_accounts_are_reloaded_while_others_go_on(running: Site) -> None:
    one = shadow_account("es-1")
    many = [replace(one, name=f"s{number}") for number in range(2500)]
    async with running.lead().connect() as lead:
        await running.broker.reload([*running.accounts, *many])
        await lead.publish(HEARTBEAT, b"on and on")
        await _enter(MqttBus(endpoint(running.authority, f"127.0.0.1:{running.listener.port}", name="s2499",
                                      password="secret-of-es-1")))  # fmt: skip


async def test_packet_larger_than_any_of_ours_is_not_taken(running: Site) -> None:
    async with running.bus("es-1").connect() as flooder, AsyncExitStack() as stack:
        other = await stack.enter_async_context(running.bus("es-2").connect())
        with pytest.raises(BusError):
            await flooder.publish(report_of("es-1"), bytes(300_000))
        await other.publish(report_of("es-2"), b"undisturbed")
