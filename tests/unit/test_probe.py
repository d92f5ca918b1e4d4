"""The probes: what they read of the kernel's bytes and texts, and of sockets on loopback alone: no packet leaves."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import socket
import struct
import threading
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propagator.core.diagnosis.seen import Address, Answer, Attempt, Counters, Icmp, Lookup, Neighbour, Route
from propagator.probe import counters, kernel, names, path, sockets, tries
from propagator.probe.sockets import Complaint, TcpInfo
from tests.ports import free_port, mute_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from propagator.probe.sockets import SockAddr

# What ICMP says: struct sock_extended_err with the address of whoever sent it (linux/errqueue.h).

V4 = struct.pack("=HH4s8x", socket.AF_INET, 0, bytes([10, 1, 0, 1]))
V6 = struct.pack("=HHI16sI", socket.AF_INET6, 0, 0, ipaddress.ip_address("fd00:1::1").packed, 0)
LOCAL, ICMP, ICMP6 = 1, 2, 3


def queued(origin: int, kind: int, code: int, offender: bytes, number: int = errno.EHOSTUNREACH) -> bytes:
    return struct.pack("=IBBBBII", number, origin, kind, code, 0, 0, 0) + offender


V4_CODES: Final = {
    0: Icmp.NET,
    1: Icmp.HOST,
    2: Icmp.OTHER,  # protocol
    3: Icmp.PORT,
    5: Icmp.OTHER,  # source route
    6: Icmp.NET,
    7: Icmp.HOST,
    8: Icmp.OTHER,  # isolated
    9: Icmp.PROHIBITED,
    10: Icmp.PROHIBITED,
    11: Icmp.OTHER,  # for this type of service
    12: Icmp.OTHER,
    13: Icmp.PROHIBITED,
    14: Icmp.OTHER,  # precedence
    15: Icmp.OTHER,
}
V6_CODES: Final = {
    0: Icmp.NET,
    1: Icmp.PROHIBITED,
    2: Icmp.OTHER,  # beyond the scope
    3: Icmp.HOST,
    4: Icmp.PORT,
    5: Icmp.PROHIBITED,
    6: Icmp.PROHIBITED,
}


@pytest.mark.parametrize(("code", "icmp"), V4_CODES.items())
def test_an_unreachable_of_ipv4_is_told_by_its_code(code: int, icmp: Icmp) -> None:
    assert sockets._complaint(queued(ICMP, 3, code, V4)) == Complaint("10.1.0.1", expired=False, icmp=icmp)


@pytest.mark.parametrize(("code", "icmp"), V6_CODES.items())
def test_an_unreachable_of_ipv6_is_told_by_its_code(code: int, icmp: Icmp) -> None:
    assert sockets._complaint(queued(ICMP6, 1, code, V6)) == Complaint("fd00:1::1", expired=False, icmp=icmp)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        pytest.param(queued(ICMP, 11, 0, V4), Complaint("10.1.0.1", expired=True, icmp=None), id="time exceeded"),
        pytest.param(
            queued(ICMP6, 3, 0, V6), Complaint("fd00:1::1", expired=True, icmp=None), id="time exceeded of v6"
        ),
        pytest.param(
            queued(ICMP, 3, 4, V4, errno.EMSGSIZE),
            Complaint("10.1.0.1", expired=False, icmp=Icmp.OTHER),
            id="fragmentation needed",
        ),
        pytest.param(
            queued(ICMP, 12, 0, V4), Complaint("10.1.0.1", expired=False, icmp=Icmp.OTHER), id="a parameter problem"
        ),
        pytest.param(
            queued(ICMP6, 2, 0, V6), Complaint("fd00:1::1", expired=False, icmp=Icmp.OTHER), id="packet too big"
        ),
        pytest.param(queued(LOCAL, 0, 0, V4), None, id="an error of this kernel"),
        pytest.param(queued(0, 3, 1, V4), None, id="of no origin"),
        pytest.param(queued(ICMP, 3, 1, b""), None, id="without its sender"),
        pytest.param(queued(ICMP, 3, 1, V4[:6]), None, id="half a sender"),
        pytest.param(queued(ICMP6, 1, 1, V6[:20]), None, id="half a sender of v6"),
        pytest.param(queued(ICMP, 3, 1, struct.pack("=H14x", socket.AF_UNIX)), None, id="a sender of another kind"),
        pytest.param(b"", None, id="nothing"),
        pytest.param(queued(ICMP, 3, 1, b"")[:15], None, id="a byte too few"),
    ],
)
def test_what_lies_in_the_error_queue(data: bytes, complaint: Complaint | None) -> None:
    assert sockets._complaint(data) == complaint


@given(st.binary(max_size=64))
def test_no_bytes_of_an_error_queue_raise(data: bytes) -> None:
    sockets._complaint(data)


# What TCP knows.


class Answering(socket.socket):
    """A socket whose kernel says this of its TCP."""

    says: bytes | None = None

    def getsockopt(self, *_: object) -> bytes:  # type: ignore[override]
        if self.says is None:
            raise OSError(errno.ENOPROTOOPT, "no TCP_INFO here")
        return self.says


@pytest.mark.parametrize(
    ("raw", "info"),
    [
        pytest.param(None, TcpInfo(), id="a kernel without it"),
        pytest.param(b"", TcpInfo(), id="nothing"),
        pytest.param(bytes([2, 0, 3]), TcpInfo(retransmits=3), id="the first bytes alone"),
        pytest.param(
            bytes([2, 0, 3]) + bytes(21) + struct.pack("=I", 4) + bytes(72) + struct.pack("=I", 5),
            TcpInfo(retransmits=3, unacked=4, total_retrans=5),
            id="104 bytes, as Linux 2.6 gave",
        ),
        pytest.param(
            bytes(120) + struct.pack("=Q", 519) + bytes(96) + struct.pack("=I", 1) + bytes(4),
            TcpInfo(acked=519, gap=1),
            id="232 bytes, as Linux 5 gives",
        ),
    ],
)
def test_what_an_older_kernel_does_not_know_is_nought(raw: bytes | None, info: TcpInfo) -> None:
    with Answering() as sock:
        sock.says = raw
        assert sockets.tcp_info(sock) == info


# The kernel's counters.

SNMP = """Ip: Forwarding DefaultTTL InReceives InDelivers ForwDatagrams OutNoRoutes
Ip: 1 64 1000 900 70 3
Tcp: RtoAlgorithm OutRsts
Tcp: 1 12
"""
NETSTAT = """TcpExt: TCPRetransFail TCPSynRetrans ListenOverflows ListenDrops TCPReqQFullDrop IPReversePathFilter
TcpExt: 1 2 3 4 5 6
IpExt: InOctets
IpExt: 7
"""
SNMP6 = "Ip6InReceives\t50\nIp6InDelivers\t40\nIp6OutForwDatagrams\t4\nIp6OutNoRoutes\t1\nUdp6InErrors 1 2\n"
TCP = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0200030A:22B3 00000000:0000 0A 00000000:00000002 00:00000000 00000000     0        0 41 1 0 100 0 0 10 0
   1: 0200030A:22B3 0200010A:D431 03 00000000:00000000 01:00000019 00000004     0        0 0 1 0
   2: 0200030A:0016 0200010A:D432 01 00000000:00000000 00:00000000 00000000     0        0 42 1 0
"""
TCP6 = """  sl  local_address                         remote_address                        st tx_queue rx_queue
   0: 00000000000000000000000000000000:22B3 00000000000000000000000000000000:0000 0A 00000000:00000000 00:0 00 0 0 43
   1: 0000000000000000FFFF00000200030A:22B3 0000000000000000FFFF00000200010A:D433 01 00000000:00000025 00:0 00 0 0 0
"""


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A /proc/self/net of our own, with nothing in it."""
    monkeypatch.setattr(counters, "_NET", tmp_path)
    return tmp_path


def write(folder: Path, **texts: str) -> None:
    for name, text in texts.items():
        (folder / name).write_text(text)


def test_counters_are_read_of_three_tables(proc: Path) -> None:
    write(proc, snmp=SNMP, netstat=NETSTAT, snmp6=SNMP6)
    assert counters.read() == Counters(
        swallowed=30,
        swallowed6=6,
        unsent=1,
        syn_retrans=2,
        out_resets=12,
        no_routes=4,
        listen_overflows=3,
        listen_drops=4,
        queue_full=5,
        rpfilter=6,
    )


def test_what_happened_between_is_the_difference(proc: Path) -> None:
    write(proc, snmp=SNMP)
    earlier = counters.read()
    write(proc, snmp=SNMP.replace("1000 900", "1009 902"))
    assert counters.read() - earlier == Counters(swallowed=7)


@pytest.mark.parametrize(
    "texts",
    [
        pytest.param({}, id="no proc at all"),
        pytest.param({"snmp": "", "netstat": "", "snmp6": ""}, id="empty files"),
        pytest.param({"snmp": "Ip: InReceives\n", "netstat": "TcpExt: A\n"}, id="names without values"),
    ],
)
def test_counters_that_are_not_to_be_had_are_nought(proc: Path, texts: dict[str, str]) -> None:
    write(proc, **texts)
    assert counters.read() == Counters()
    assert counters.sockets(8883) == ()


def test_counters_that_an_older_kernel_has_not_are_nought(proc: Path) -> None:
    write(proc, snmp="Ip: InReceives InDelivers\nIp: 9 9\n", netstat="TcpExt: ListenDrops\nTcpExt: 2\n")
    assert counters.read() == Counters(listen_drops=2)


def test_sockets_of_a_port_are_read_of_both_tables(proc: Path) -> None:
    write(proc, tcp=TCP, tcp6=TCP6)
    listening, half_open, listening6, waiting = counters.sockets(8883)
    assert (listening.address, listening.state, listening.queue) == ("10.3.0.2", counters.LISTEN, 2)
    assert (half_open.peer, half_open.state, half_open.retransmits) == ("10.1.0.2", counters.SYN_RECV, 4)
    assert (listening6.address, listening6.inode) == ("::", 43)
    assert (waiting.address, waiting.peer, waiting.queue, waiting.inode) == ("10.3.0.2", "10.1.0.2", 0x25, 0)
    assert [each.state for each in counters.sockets(22)] == [counters.ESTABLISHED]


def test_this_kernel_can_be_read() -> None:
    assert counters.read().out_resets >= 0
    with listening() as (_, port):
        (own,) = (each for each in counters.sockets(port) if each.state == counters.LISTEN)
    assert own.address == "127.0.0.1"


# Netlink: answers that were captured in a namespace with 10.1.0.2/24 and fd00:1::2/64 on the device of index 3.

_METRICS = "080019000000000024000c00020000000000000000000000000000000000000000000000000000000000"
ROUTED = (
    "700000001800000001000000f82d000002200000fe0000010002000008000f00fe000000080001000a0300020800040003000000"
    "080007000a010002080005000a010001" + _METRICS + "0000"
)
ON_LINK = (
    "680000001800000001000000f82d000002200000fe0000010002000008000f00fe000000080001000a01004d0800040003000000"
    "080007000a010002" + _METRICS + "0000"
)
BY_V6 = (
    "800000001800000001000000f82d000002200000fe0000010002000008000f00fe000000080001000a0900010800040003000000"
    "080007000a010002160012000a00fd0000010000000000000000000000010000" + _METRICS + "0000"
)
ROUTED6 = (
    "b00000001800000001000000f82d00000a808000fe0300010000000008000f00fe00000014000100fd000003000000000000000000000002"
    "140002000000000000000000000000000000000014000700fd000001000000000000000000000002080006000004000014000500"
    "fd000001000000000000000000000001080004000300000024000c00020000000000000000000000000000000000000000000000"
    "00000000000000000500140000000000"
)
UNREACHABLE = (
    "380000000200000001000000f82d00009bffffff240000001a000100010000000000000002200000000000000000000008000100cb007109"
)
NEIGHBOURS = (
    "4c0000001c00020001000000f82d0000020000000300000080000001080001000a0100010a00020002000000000900000800040000000000"
    "140003002c0000002c0000002c0000000000000040000000"
    "1c00020001000000f82d0000020000000300000020000001080001000a010005080004000000000014000300"
    "9c1700002c0000002c000000000000004c000000"
    "1c00020001000000f82d0000020000000300000004000001080001000a0100060a0002000200000000060000"
    "0800040000000000140003009a1700002a0000002a00000000000000140000000300020001000000f82d000000000000"
)
ADDRESSES = (
    "4c0000001400020001000000f82d0000020880fe01000000080001007f000001080002007f000001070003006c6f00000800080080000000"
    "14000600ffffffffffffffff5a601a005a601a00"
    "4c0000001400020001000000f82d00000218800003000000080001000a010002080002000a01000207000300643000000800080080000000"
    "14000600ffffffffffffffff5c601a005c601a00"
    "480000001400020001000000f82d00000a4082000300000014000100fd00000100000000000000000000000214000600ffffffffffffffff"
    "5d601a005d601a000800080082000000140000000300020001000000f82d000000000000"
)


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let the kernel answer with what was captured; of its own networks it always says the same."""

    def answer(text: str) -> None:
        def ask(kind: int, _: bytes, *, dump: bool) -> Iterator[tuple[int, bytes]]:
            del dump
            packed = bytes.fromhex(ADDRESSES if kind == kernel._GETADDR else text)
            yield from (each for each in kernel._messages(packed) if each[0] not in {kernel._ERROR, kernel._DONE})

        monkeypatch.setattr(kernel, "_ask", ask)
        monkeypatch.setattr(kernel, "_device", lambda index: f"number {index}")
        monkeypatch.setattr(kernel, "_source_to", lambda _: "")

    return answer


@pytest.mark.parametrize(
    ("text", "address", "route"),
    [
        pytest.param(ROUTED, "10.3.0.2", Route("10.1.0.2", "10.1.0.1", "number 3", "10.1.0.0/24"), id="by a gateway"),
        pytest.param(ON_LINK, "10.1.0.77", Route("10.1.0.2", None, "number 3", "10.1.0.0/24"), id="on the link"),
        pytest.param(
            ROUTED6, "fd00:3::2", Route("fd00:1::2", "fd00:1::1", "number 3", "fd00:1::/64"), id="IPv6 by a gateway"
        ),
        pytest.param(
            BY_V6, "10.9.0.1", Route("10.1.0.2", "fd00:1::1", "number 3", "10.1.0.0/24"), id="IPv4 by a gateway of IPv6"
        ),
        pytest.param(UNREACHABLE, "203.0.113.9", None, id="there is none"),
        pytest.param("", "10.3.0.2", None, id="no answer"),
        pytest.param(ROUTED.replace("fe000001", "fe000007", 1), "10.3.0.2", None, id="an unreachable route"),
        pytest.param(NEIGHBOURS, "10.3.0.2", None, id="an answer to something else"),
    ],
)
def test_a_route(captured: Callable[[str], None], text: str, address: str, route: Route | None) -> None:
    captured(text)
    assert kernel.route(address) == route


@pytest.mark.parametrize(
    ("address", "state"),
    [
        pytest.param("10.1.0.1", Neighbour.REACHABLE, id="permanent"),
        pytest.param("10.1.0.5", Neighbour.FAILED, id="failed"),
        pytest.param("10.1.0.6", Neighbour.REACHABLE, id="stale"),
        pytest.param("10.1.0.7", Neighbour.UNKNOWN, id="not asked for"),
        pytest.param("fe80::1%lo", Neighbour.UNKNOWN, id="of the other family"),
    ],
)
def test_a_neighbour(captured: Callable[[str], None], address: str, state: Neighbour) -> None:
    captured(NEIGHBOURS)
    assert kernel.neighbour(address) is state


def test_own_networks(captured: Callable[[str], None]) -> None:
    captured("")
    assert [str(own) for own in kernel.own_networks()] == ["127.0.0.1/8", "10.1.0.2/24", "fd00:1::2/64"]
    assert kernel.network_of("10.1.0.2") == "10.1.0.0/24"
    assert kernel.network_of("10.1.0.3") == ""


@given(st.binary(max_size=200))
def test_no_bytes_of_netlink_raise_or_go_on_for_ever(data: bytes) -> None:
    for _, payload in kernel._messages(data):
        list(kernel._attributes(payload))


def test_where_netlink_is_not_to_be_had_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    def refusing(family: int = -1, *args: int) -> socket.socket:
        if family == socket.AF_NETLINK:
            raise OSError(errno.EAFNOSUPPORT, "not in RestrictAddressFamilies")
        return real(family, *args)

    monkeypatch.setattr(socket, "socket", refusing)
    assert kernel.route("127.0.0.1") == Route("127.0.0.1", "")  # and no `no route`, which would be a verdict
    assert kernel.neighbour("127.0.0.1") is Neighbour.UNKNOWN
    assert kernel.own_networks() == ()


def test_this_kernel_knows_its_own_loopback() -> None:
    way = kernel.route("127.0.0.1")
    assert way is not None
    assert (way.source, way.gateway, way.device, way.network) == ("127.0.0.1", None, "lo", "127.0.0.0/8")
    assert kernel._source_to("127.0.0.1") == "127.0.0.1"
    assert kernel._device(0) == ""
    assert kernel.host_name()


# Names.


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the resolver give these addresses, or this error."""

    def answer(*found: str, error: int | None = None) -> None:
        said = list(found) if error is None else socket.gaierror(error, "as told")
        monkeypatch.setattr(names, "_ask", lambda _: said)

    return answer


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.0", "127.0.0.1", "127.3.2.1", "224.0.0.1", "239.1.1.1", "255.255.255.255", "169.254.169.254"),  # noqa: S104
        *("::", "::1", "ff02::1", "fd00:ec2::254"),
        *("::ffff:127.0.0.1", "::ffff:0.0.0.0", "::ffff:169.254.169.254"),
    ],
)
async def test_f16_no_name_may_lead_to(resolver: Callable[..., None], address: str) -> None:
    resolver(address)
    name = await names.look_up("es-1.example")
    assert (name.lookup, name.addresses, name.left_out) == (Lookup.UNUSABLE, (), (address,))


async def test_a_usable_address_among_others_is_tried(resolver: Callable[..., None]) -> None:
    resolver("0.0.0.0", "10.3.0.2", "fe80::1%lo", "224.0.0.1")  # noqa: S104
    name = await names.look_up("es-1.example")
    assert (name.lookup, name.addresses) == (Lookup.FOUND, ("10.3.0.2", "fe80::1%lo"))
    assert name.left_out == ("0.0.0.0", "224.0.0.1")  # noqa: S104


async def test_f44_of_fifty_addresses_six_are_tried(resolver: Callable[..., None]) -> None:
    resolver(*(f"10.3.0.{number}" for number in range(50)))
    name = await names.look_up("es-1.example")
    assert name.addresses == tuple(f"10.3.0.{number}" for number in range(6))
    assert len(name.left_out) == 44
    assert name.left_out[0] == "10.3.0.6 (more than 6)"


async def test_localhost_may_be_loopback(resolver: Callable[..., None]) -> None:
    resolver("127.0.0.1", "::1")
    assert (await names.look_up("localhost")).addresses == ("127.0.0.1", "::1")


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("FD00:3:0::2", "fd00:3::2"),
        ("0.0.0.0", "0.0.0.0"),  # noqa: S104
    ],
)
async def test_an_address_that_somebody_wrote_is_its_own_answer(written: str, address: str) -> None:
    name = await names.look_up(written)
    assert (name.lookup, name.addresses) == (Lookup.FOUND, (address,))


@pytest.mark.parametrize(
    ("error", "lookup"),
    [
        pytest.param(socket.EAI_NONAME, Lookup.NO_SUCH_NAME, id="dns-nx"),
        pytest.param(socket.EAI_NODATA, Lookup.NO_SUCH_NAME, id="dns-nodata"),
        pytest.param(socket.EAI_AGAIN, Lookup.UNAVAILABLE, id="dns-servfail"),
        pytest.param(socket.EAI_FAIL, Lookup.UNAVAILABLE, id="another failure"),
    ],
)
async def test_a_name_without_an_address(resolver: Callable[..., None], error: int, lookup: Lookup) -> None:
    resolver(error=error)
    assert (await names.look_up("es-1.example")).lookup is lookup


async def test_a_resolver_that_never_answers_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    forever = threading.Event()

    def hang(_: str) -> list[str]:
        forever.wait()
        return ["10.3.0.2"]

    monkeypatch.setattr(names, "_ask", hang)
    name = await names.look_up("es-1.example", limit_s=0.05)
    assert name.lookup is Lookup.UNAVAILABLE
    assert name.took_s >= 0.05
    forever.set()
    await asyncio.sleep(0.05)  # what comes late has nobody to tell


@pytest.mark.parametrize("host", ["a" * 300, ".", "a..b", "\udcff"])
def test_a_text_that_is_no_name_is_no_such_name(host: str) -> None:
    """Without asking anybody: the C library, or Python's codec, refuses it."""
    assert isinstance(names._ask(host), socket.gaierror)


def test_an_address_that_is_found_twice_is_told_once() -> None:
    assert names._ask("127.0.0.1") == ["127.0.0.1"]


# Sockets on loopback.


@contextlib.contextmanager
def listening(address: str = "127.0.0.1", backlog: int = 16) -> Iterator[tuple[socket.socket, int]]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as server:
        server.bind((address, 0))
        server.listen(backlog)
        yield server, server.getsockname()[1]


BOTH = pytest.mark.parametrize("address", ["127.0.0.1", "::1"])


@BOTH
async def test_an_open_port_connects(address: str) -> None:
    with listening(address) as (_, port):
        found = await tries.connect(address, port)
    assert (found.answer, found.retransmits, found.errno) == (Answer.CONNECTED, 0, None)


@BOTH
async def test_a_closed_port_resets(address: str) -> None:
    found = await tries.connect(address, free_port())
    assert (found.answer, found.errno, found.icmp) == (Answer.RESET, errno.ECONNREFUSED, None)


async def test_a_full_backlog_is_silent() -> None:
    with mute_port() as port:
        found = await tries.connect("127.0.0.1", port, 1.2)
    assert (found.answer, found.retransmits) == (Answer.SILENT, 1)
    assert 1.2 <= found.took_s < 2.0


@pytest.fixture
def without_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connect for real, and let nobody hear of it before the time is up: so it is on a machine that is busy enough."""

    async def begin(_: object, sock: socket.socket, where: SockAddr) -> None:
        sock.connect_ex(where)
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.SelectorEventLoop, "sock_connect", begin)


@BOTH
@pytest.mark.usefixtures("without_a_turn")
async def test_a_connection_counts_that_came_about_while_this_process_had_no_turn(address: str) -> None:
    with listening(address) as (_, port):
        assert (await tries.connect(address, port, 0.05)).answer is Answer.CONNECTED


@pytest.mark.usefixtures("without_a_turn")
async def test_a_reset_counts_that_came_while_this_process_had_no_turn() -> None:
    """The first SYN finds a queue that is full, the second one nobody."""
    with mute_port() as port:
        coming = asyncio.create_task(tries.connect("127.0.0.1", port, 1.6))
        await asyncio.sleep(0.1)
    found = await coming
    assert (found.answer, found.errno) == (Answer.RESET, errno.ECONNREFUSED)


@BOTH
async def test_a_closed_port_of_udp_is_complained_of(address: str) -> None:
    found = await tries.knock(address, port=free_port())
    assert (found.answer, found.icmp, found.source) == (Answer.REJECTED, Icmp.PORT, address)


async def test_udp_that_nobody_complains_of_is_silent() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        found = await tries.knock("127.0.0.1", 0.1, port=server.getsockname()[1])
    assert found.answer is Answer.SILENT


@BOTH
async def test_a_ladder_to_oneself_has_one_rung(address: str) -> None:
    with listening(address) as (_, port):
        ladder = await tries.tcp_ladder(address, port)
    assert (ladder.of, ladder.arrival, len(ladder.rungs)) == (f"port {port}", 1, 1)
    assert (await tries.udp_ladder(address)).arrival == 1


@BOTH
async def test_the_ttl_of_an_answer_is_found_by_halving(address: str) -> None:
    ttl = await tries.answer_ttl(address, free_port())
    assert ttl in {64, 128, 255}


async def test_the_ttl_of_silence_is_not_known() -> None:
    with mute_port() as port:
        assert await tries.answer_ttl("127.0.0.1", port, wait_s=0.05) is None


@pytest.mark.parametrize(
    ("number", "answer"),
    [
        (None, Answer.SILENT),
        (errno.ETIMEDOUT, Answer.SILENT),
        (errno.ECONNREFUSED, Answer.RESET),
        (errno.ECONNRESET, Answer.RESET),
        (errno.EPERM, Answer.DENIED),
        (errno.EACCES, Answer.DENIED),
        (errno.ENETUNREACH, Answer.NO_ROUTE),
        (errno.EHOSTUNREACH, Answer.NO_ROUTE),
        (errno.EADDRNOTAVAIL, Answer.NO_ROUTE),
        (errno.EPROTO, Answer.SILENT),
    ],
)
def test_an_errno_without_icmp(number: int | None, answer: Answer) -> None:
    with sockets.tcp(socket.AF_INET) as sock:
        found = tries._ended(sock, number, 0.5)
    assert (found.answer, found.errno, found.took_s) == (answer, number, 0.5)


@pytest.mark.parametrize(
    ("complaint", "answer"),
    [
        (Complaint("10.1.0.1", expired=True, icmp=None), Answer.EXPIRED),
        (Complaint("10.1.0.1", expired=False, icmp=Icmp.PORT), Answer.REJECTED),
    ],
)
def test_icmp_counts_more_than_the_errno(monkeypatch: pytest.MonkeyPatch, complaint: Complaint, answer: Answer) -> None:
    """111 is a reset or an ICMP port-unreachable: only the error queue tells."""
    monkeypatch.setattr(sockets, "complaint", lambda _: complaint)
    with sockets.tcp(socket.AF_INET) as sock:
        found = tries._ended(sock, errno.ECONNREFUSED, 0.0)
    assert (found.answer, found.icmp, found.source) == (answer, complaint.icmp, "10.1.0.1")


def _step(answers: dict[int, Answer]) -> Callable[[int], object]:
    async def step(ttl: int) -> Attempt:
        return Attempt(answers.get(ttl, Answer.SILENT), source=f"10.0.0.{ttl}")

    return step


@pytest.mark.parametrize(
    ("answers", "rungs"),
    [
        pytest.param({1: Answer.EXPIRED, 2: Answer.RESET, 3: Answer.RESET}, 2, id="ends with the first answer"),
        pytest.param({1: Answer.EXPIRED}, 8, id="ends after four that are silent"),
        pytest.param({}, 4, id="nobody is there"),
        pytest.param(dict.fromkeys(range(1, 30), Answer.EXPIRED), 12, id="ends at the highest TTL"),
        pytest.param({1: Answer.EXPIRED, 6: Answer.CONNECTED}, 6, id="goes on over a gap"),
    ],
)
async def test_a_ladder(answers: dict[int, Answer], rungs: int) -> None:
    found = await tries.ladder("port 1", _step(answers))  # type: ignore[arg-type]
    assert len(found.rungs) == rungs


# One address.


async def test_an_address_that_works_is_tried_six_times() -> None:
    with listening() as (_, port):
        seen = await path.look("127.0.0.1", port)
    assert [attempt.answer for attempt in seen.tries] == [Answer.CONNECTED] * 6
    assert seen.connected


async def test_an_address_that_resets_is_looked_at_from_other_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(path, "OTHER_PORTS", ())
    port = free_port()
    seen = await path.look_deeper(await path.look("127.0.0.1", port))
    assert [attempt.answer for attempt in seen.tries] == [Answer.RESET]
    assert seen.target is not None
    assert (seen.target.arrival, [other for other, _ in seen.others]) == (1, [port + 1])


async def test_an_address_without_a_route_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "route", lambda _: None)
    seen = await path.look("127.0.0.1", 9)
    assert (seen.route, seen.tries) == (None, ())
    assert await path.look_deeper(seen) == seen


async def test_silence_is_watched_once_more_between_two_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this network loses in a second without us is not ours."""
    readings = iter((Counters(), Counters(swallowed=2), Counters(swallowed=2), Counters(swallowed=10, unsent=3)))
    monkeypatch.setattr(counters, "read", lambda: next(readings))
    monkeypatch.setattr(path, "WINDOW_S", 1.2)
    with mute_port() as port:
        first = await tries.connect("127.0.0.1", port, 0.1)
        found = Address("127.0.0.1", port, kernel.route("127.0.0.1"), (first,))
        seen = await path._watch_one_try(found)
    assert [attempt.answer for attempt in seen.tries] == [Answer.SILENT] * 2
    assert (seen.swallowed, seen.usual, seen.unsent, seen.udp_denied) == (6, 2, 3, False)
