"""The kernel's table of connections, read: lines as Linux 6.18 and conntrack 1.4.7 wrote them, a lead on port 8883."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propagator.core.conntrack import Flow, Handshake, Table, dropped_and_clashed, latest, read_flow

PEER, PEER6 = "10.9.0.2", "fd09::2"

FROM_PROC: Final = """\
ipv4     2 tcp      6 114 SYN_SENT src=10.9.0.2 dst=10.9.0.1 sport=47778 dport=8883 [UNREPLIED] src=10.9.0.1 dst=10.9.0.2 sport=8883 dport=47778 mark=0 zone=0 use=2
ipv6     10 tcp      6 59 SYN_RECV src=fd09:0000:0000:0000:0000:0000:0000:0002 dst=fd09:0000:0000:0000:0000:0000:0000:0001 sport=42650 dport=8884 src=fd09:0000:0000:0000:0000:0000:0000:0001 dst=fd09:0000:0000:0000:0000:0000:0000:0002 sport=8884 dport=42650 mark=0 zone=0 use=2
ipv4     2 udp      17 23 src=10.9.0.2 dst=10.9.0.1 sport=46232 dport=53 [UNREPLIED] src=10.9.0.1 dst=10.9.0.2 sport=53 dport=46232 mark=0 zone=0 use=2
ipv4     2 tcp      6 431993 ESTABLISHED src=10.9.0.2 dst=10.9.0.1 sport=47762 dport=8883 src=10.9.0.1 dst=10.9.0.2 sport=8883 dport=47762 [ASSURED] mark=0 zone=0 use=2
ipv4     2 tcp      6 46 CLOSE_WAIT src=10.9.0.2 dst=10.9.0.1 sport=34012 dport=8883 src=10.9.0.1 dst=10.9.0.2 sport=8883 dport=34012 [ASSURED] mark=0 zone=0 use=2
ipv4     2 tcp      6 9 CLOSE src=10.9.0.2 dst=10.9.0.1 sport=34024 dport=8883 src=10.9.0.1 dst=10.9.0.2 sport=8883 dport=34024 mark=0 zone=0 use=2
"""  # noqa: E501  as the kernel writes them
FROM_TOOL: Final = """\
tcp      6 114 SYN_SENT src=10.9.0.2 dst=10.9.0.1 sport=47778 dport=8883 [UNREPLIED] src=10.9.0.1 dst=10.9.0.2 sport=8883 dport=47778 mark=0 use=1
tcp      6 59 SYN_RECV src=fd09::2 dst=fd09::1 sport=42650 dport=8884 src=fd09::1 dst=fd09::2 sport=8884 dport=42650 mark=0 use=1
"""  # noqa: E501
UNANSWERED = Flow(8883, PEER, Handshake.UNANSWERED, 6)
ANSWERED6 = Flow(8884, PEER6, Handshake.ANSWERED, 1)


def test_what_the_kernel_and_its_tool_write_is_read_alike() -> None:
    assert [read_flow(line) for line in FROM_PROC.splitlines()] == [
        UNANSWERED,
        ANSWERED6,
        None,  # UDP
        Flow(8883, PEER, Handshake.COMPLETE, 7),
        Flow(8883, PEER, Handshake.COMPLETE, 14),
        Flow(8883, PEER, Handshake.ANSWERED, 1),  # half-open, and given up
    ]
    assert [read_flow(line) for line in FROM_TOOL.splitlines()] == [UNANSWERED, ANSWERED6]


def test_a_connection_that_was_reset_after_three_words_got_through() -> None:
    line = FROM_PROC.splitlines()[-1].replace("mark=", "[ASSURED] mark=")
    assert read_flow(line) == Flow(8883, PEER, Handshake.COMPLETE, 1)


def test_an_age_is_reckoned_with_the_times_that_this_kernel_keeps() -> None:
    line = FROM_TOOL.splitlines()[0]
    assert read_flow(line, {"syn_sent": 600}) == Flow(8883, PEER, Handshake.UNANSWERED, 486)
    assert read_flow(line, {"syn_sent": 30}) == Flow(8883, PEER, Handshake.UNANSWERED, 0)  # it was set lower just now
    assert read_flow(line.replace("SYN_SENT", "SYN_SENT2")) == UNANSWERED


@pytest.mark.parametrize(
    "line",
    [
        "",
        "tcp",
        "tcp 6 59 SYN_RECV src=10.9.0.2",
        "tcp 6 1 SYN_RECV src=x dport=1",
        "tcp 6 1 SYN_RECV src=::1 dport=y",
        "tcp 6 x SYN_RECV src=::1 dport=1",
        "tcp 6 1 ANOTHER src=::1 dport=1",
    ],
)
def test_what_is_no_connection_is_passed_over(line: str) -> None:
    assert read_flow(line) is None


@given(st.text())
def test_no_line_raises(line: str) -> None:
    read_flow(f"tcp {line}")
    dropped_and_clashed(line)


STATISTICS: Final = """\
entries  clashres found new invalid ignore delete chainlength insert insert_failed drop early_drop icmp_error  expect_new expect_create expect_delete search_restart
00000003  00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000002 0000000a 00000000 00000000  00000000 00000000 00000000 00000000
00000003  00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000010 00000000 00000000  00000000 00000000 00000000 00000000
"""  # noqa: E501


@pytest.mark.parametrize(
    ("text", "read"),
    [
        pytest.param(STATISTICS, (26, 2), id="the sum over the processors, in hexadecimal"),
        pytest.param("", (None, None), id="the kernel does not show them"),
        pytest.param("entries drop\n", (None, None), id="no processor"),
        pytest.param("entries drop\n1 g\n", (None, None), id="no number"),
        pytest.param("entries drop\n1 2\n", (2, None), id="another kernel, which does not have both"),
    ],
)
def test_statistics_are(text: str, read: tuple[int | None, int | None]) -> None:
    assert dropped_and_clashed(text) == read


@pytest.mark.parametrize(
    ("table", "full"),
    [
        pytest.param(Table(99, 100), False, id="a place is left"),
        pytest.param(Table(100, 100), True, id="as many as may be"),
        pytest.param(Table(101, 100), True, id="the limit was lowered"),
        pytest.param(Table(100, 0), False, id="there is no limit"),
    ],
)
def test_a_table_is_full(table: Table, full: object) -> None:
    assert table.is_full is full


def test_a_while_counts_what_was_dropped_in_it_and_the_fullest_moment() -> None:
    assert Table(90, 100, 7, 1).since(Table(100, 100, 3, 1)) == Table(100, 100, 4, 0)
    assert Table(90, 100, 7, None).since(Table(80, 100, None, 1)) == Table(90, 100, None, None)


LATER = Flow(8883, "10.9.0.3", Handshake.ANSWERED, 2)


@pytest.mark.parametrize(
    ("peers", "found"),
    [
        pytest.param([PEER], UNANSWERED, id="an address"),
        pytest.param([PEER, "10.9.0.3"], LATER, id="the latest of two"),
        pytest.param(["10.9.0.0/24"], LATER, id="a network"),
        pytest.param(["fe80::1%eth0", "10.9.0.9/24"], LATER, id="an address in its network"),
        pytest.param([PEER6], None, id="somebody else"),
        pytest.param([], None, id="nobody"),
    ],
)
def test_the_latest_connection_is_found_of(peers: list[str], found: Flow | None) -> None:
    assert latest([UNANSWERED, LATER], peers) == found
