"""Addresses that do not connect: each row of FIREWALL.md §2, made by hand of its column "shadow sees".

The names of the cases are those of the table, and of tests/firewall, which makes the same with real packets.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given

from propagator.core.diagnosis import Code, Confidence
from propagator.core.diagnosis.reach import facts, judge, nearer
from propagator.core.diagnosis.seen import Answer, Attempt, Icmp, Neighbour, Picture, Route
from tests.unit.sights import (
    CONNECTED,
    DENIED,
    LATE,
    LEAD,
    LEAD6,
    NO_ROUTE,
    ON_LINK,
    OPEN,
    R1,
    R2,
    RESET,
    ROUTED,
    ROUTED6,
    SHADOW,
    SILENT,
    UP_TO_R2,
    address,
    addresses,
    ladder,
    refused,
    said,
)

if TYPE_CHECKING:
    from propagator.core.diagnosis import Verdict
    from propagator.core.diagnosis.seen import Address

DROPPED = address(SILENT, SILENT, target=UP_TO_R2, control=OPEN)
MUTE = address(SILENT, SILENT, target=UP_TO_R2, control=UP_TO_R2)
CLOSED = address(RESET, target="r1 r2 RST", control=OPEN, ttl=62, control_ttl=62)
LAN = address(SILENT, SILENT, route=ON_LINK, neighbour=Neighbour.REACHABLE, target="- - - -", control="SYN-ACK")
YESTERDAY = Picture("2026-11-23T10:00:00.000Z", hops=3, routers=(R1, R2))


def judged(seen: Address) -> Verdict:
    verdict = judge(seen)
    assert verdict is not None
    return verdict


CASES = {
    # 1 and 2
    "ok": ("connects", address(*[CONNECTED] * 6)),
    "ok-onlink": ("connects", address(*[CONNECTED] * 6, route=ON_LINK)),
    "closed": ("PORT_CLOSED P", CLOSED),
    # 3 and 4
    "down-onlink": (
        "HOST_DOWN_ONLINK C",
        address(refused(Icmp.HOST, "10.3.0.9", 3.08), route=ON_LINK, neighbour=Neighbour.FAILED),
    ),
    "down-routed": ("HOST_UNREACHABLE C", address(refused(Icmp.HOST, R2, 3.08), target=UP_TO_R2)),
    "noroute-hop": ("HOST_UNREACHABLE C", address(refused(Icmp.HOST, R1))),
    "down-just-now": ("NO_ANSWER_AT_ALL ?", MUTE),
    "down-routed-mute": ("NO_ANSWER_AT_ALL ?", MUTE),
    "noroute-blackhole": ("NO_ANSWER_AT_ALL ?", address(SILENT, target="- - - -", control="- - - -")),
    "firewalld-drop-zone": ("NO_ANSWER_AT_ALL ?", MUTE),
    "policy-drop-all": ("NO_ANSWER_AT_ALL ?", replace(MUTE, before=YESTERDAY)),
    "noroute": ("NET_UNREACHABLE C", address(refused(Icmp.NET, R1))),
    "noroute-prohibit": ("REJECTED_ON_PATH C", address(refused(Icmp.PROHIBITED, R1))),
    "noroute-self": ("NO_ROUTE_LOCAL C", address(route=None)),
    "link-down-self": ("NO_ROUTE_LOCAL C", address(NO_ROUTE, route=None)),
    "gateway-down": (
        "GATEWAY_DOWN C",
        address(refused(Icmp.HOST, SHADOW, 3.08), neighbour=Neighbour.FAILED),
    ),
    # 5
    "drop-port": ("DROPPED_AT_LEAD_OR_LAST_HOP P", DROPPED),
    "source-acl": ("DROPPED_AT_LEAD_OR_LAST_HOP P", DROPPED),
    "accept-in-other-table": ("DROPPED_AT_LEAD_OR_LAST_HOP P", DROPPED),
    "drop-port-onlink": ("LEAD_FIREWALL_DROPS P", LAN),
    # 6: only 22 and ICMP answer
    "policy-drop": ("DROPPED_AT_LEAD_OR_LAST_HOP P", DROPPED),
    "ufw": ("DROPPED_AT_LEAD_OR_LAST_HOP P", DROPPED),
    "ufw-other-subnet": ("DROPPED_AT_LEAD_OR_LAST_HOP P", DROPPED),
    "iptables-drop": ("DROPPED_AT_LEAD_OR_LAST_HOP P", DROPPED),
    "iptables-legacy-drop": ("DROPPED_AT_LEAD_OR_LAST_HOP P", DROPPED),
    "policy-drop-all-onlink": ("LEAD_FIREWALL_DROPS P", replace(LAN, control=ladder("- - - -", "UDP"))),
    "firewalld": ("REJECTED_BY_FIREWALL C", address(refused(Icmp.PROHIBITED, LEAD), target="r1 r2 PORT")),
    # 7
    "reject-rst": ("PORT_CLOSED P", CLOSED),
    "ufw-reject": ("PORT_CLOSED P", CLOSED),
    "reject-rst-r1": ("REJECTED_ON_PATH C", address(RESET, target="r1 RST", control=OPEN, ttl=64, control_ttl=62)),
    # 8
    "reject-port": ("REJECTED_BY_FIREWALL C", address(refused(Icmp.PORT, LEAD))),
    "reject-host": ("REJECTED_BY_FIREWALL C", address(refused(Icmp.HOST, LEAD))),
    "reject-host-prohibited": ("REJECTED_BY_FIREWALL C", address(refused(Icmp.PROHIBITED, LEAD))),
    "reject-net": ("REJECTED_BY_FIREWALL C", address(refused(Icmp.NET, LEAD))),
    "reject-v6-admin": (
        "REJECTED_BY_FIREWALL C",
        address(refused(Icmp.PROHIBITED, LEAD6), address=LEAD6, route=ROUTED6),
    ),
    "reject-port-r2": ("REJECTED_ON_PATH C", address(refused(Icmp.PORT, R2))),
    "reject-host-prohibited-r2": ("REJECTED_ON_PATH C", address(refused(Icmp.PROHIBITED, R2))),
    "reject-admin-r2": ("REJECTED_ON_PATH C", address(refused(Icmp.PROHIBITED, R2), target="r1 - - -")),
    "reject-admin-r1": ("REJECTED_ON_PATH C", address(refused(Icmp.PROHIBITED, R1))),
    # 9
    "drop-r1": ("DROPPED_ON_PATH P", address(SILENT, target="r1 - - -", control=OPEN)),
    "drop-r1-all": (
        "DROPPED_ON_PATH P",
        address(SILENT, target="r1 - - -", control="r1 - - -", before=YESTERDAY),
    ),
    "drop-r2": ("DROPPED_AT_LEAD_OR_LAST_HOP P", DROPPED),
    # 10
    "out-drop": ("OWN_FIREWALL_DROPS C", address(SILENT, target="- - - -", control=OPEN, unsent=2)),
    "out-policy-drop": (
        "OWN_FIREWALL_DROPS C",
        address(SILENT, target="- - - -", control=OPEN, unsent=2, udp_denied=True),
    ),
    "out-drop of an old kernel": (
        "OWN_FIREWALL_DROPS P",
        address(SILENT, target="- - - -", control=OPEN, udp_denied=True),
    ),
    "out-reject": ("OWN_FIREWALL_REJECTS C", address(refused(Icmp.PROHIBITED, SHADOW))),
    "out-reject with host-unreachable": ("OWN_FIREWALL_REJECTS C", address(refused(Icmp.HOST, SHADOW))),
    "out-reject-rst": ("OWN_FIREWALL_REJECTS C", address(RESET, target="RST", control=OPEN, ttl=64, control_ttl=62)),
    # 11
    "reply-drop": ("DROPPED_AT_LEAD_OR_LAST_HOP P", DROPPED),
    "reply-drop-lead": ("DROPPED_AT_LEAD_OR_LAST_HOP P", DROPPED),
    "reply-drop-self": ("OWN_FIREWALL_DROPS_REPLY C", replace(MUTE, swallowed=4)),
    "reply-noroute": ("NO_ANSWER_AT_ALL ?", MUTE),
    "reply-rpfilter": ("NO_ANSWER_AT_ALL ?", MUTE),
    # 16: what a wrong name leads to
    "dns-wrong": ("HOST_UNREACHABLE C", address(refused(Icmp.HOST, R2, 3.08), address="10.3.0.77")),
    "dns-wrong-alive": ("PORT_CLOSED P", address(RESET, target="r1 RST", control="r1 RST", address="10.3.0.1")),
    # 17
    "loopback-only": ("PORT_CLOSED P", CLOSED),
    "v6-only-bind": ("PORT_CLOSED P", CLOSED),
    # 18: the IPv6 half of them
    "v6-broken": ("NO_ANSWER_AT_ALL ?", address(SILENT, address=LEAD6, route=ROUTED6)),
    "v6-rejected": ("REJECTED_BY_FIREWALL C", address(refused(Icmp.PORT, LEAD6), address=LEAD6, route=ROUTED6)),
    # 19
    "backlog-full": ("DROPPED_AT_LEAD_OR_LAST_HOP P", DROPPED),
    # 20
    "dnat-wrong": ("PORT_CLOSED P", address(RESET, target="r1 r2 RST", control="r1 RST", address=R2)),
    "dnat-missing": ("PORT_CLOSED P", address(RESET, target="r1 RST", control="r1 RST", address=R2)),
    # 21
    "syn-loss": ("FLAKY C", address(CONNECTED, LATE, CONNECTED, LATE)),
    "syn-limit": ("FLAKY C", address(CONNECTED, CONNECTED, SILENT, SILENT)),
    "loss30": ("FLAKY C", address(SILENT, LATE)),
}


@pytest.mark.parametrize(("verdict", "seen"), CASES.values(), ids=CASES)
def test_case(verdict: str, seen: Address) -> None:
    assert said(judge(seen)) == verdict


# What FIREWALL.md says beside the table, and what keeps a verdict from saying too much.


@pytest.mark.parametrize(
    ("verdict", "seen"),
    [
        pytest.param("NO_ROUTE_LOCAL P", address(NO_ROUTE), id="a kernel that refuses although it has a route"),
        pytest.param(
            "GATEWAY_DOWN C",
            address(NO_ROUTE, neighbour=Neighbour.FAILED),
            id="the gateway is gone, said by a kernel without the ICMP",
        ),
        pytest.param(
            "GATEWAY_DOWN P",
            address(refused(Icmp.HOST, SHADOW, 3.08), route=Route(SHADOW, "")),
            id="nobody answers for a link address, and without netlink it is not known whose",
        ),
        pytest.param("OWN_FIREWALL_REJECTS C", address(DENIED), id="a kernel that was told to refuse"),
        pytest.param(
            "REJECTED_BY_FIREWALL C",
            address(refused(Icmp.PORT, LEAD6), address="FD00:3:0::2", route=ROUTED6),
            id="the lead, written as people write IPv6",
        ),
        pytest.param(
            "HOST_DOWN_ONLINK C",
            address(
                refused(Icmp.HOST, "fe80::9", 3.1),
                address="fe80::1%eth0",
                route=replace(ON_LINK, source="fe80::9%eth0"),
            ),
            id="this server, with a zone",
        ),
        pytest.param(
            "REJECTED_ON_PATH C",
            address(refused(Icmp.OTHER, R1)),
            id="a message that is none of the usual",
        ),
        pytest.param(
            "PORT_CLOSED P",
            address(RESET, target="r1 RST", control="r1 r2 SYN-ACK", address=R2, ttl=63, control_ttl=61),
            id="a closed port of a router that forwards others",
        ),
        pytest.param(
            "PORT_CLOSED P",
            address(RESET, target="r1 r2 RST", control="r1 r2 lead SYN-ACK", ttl=62, control_ttl=61),
            id="a closed port of a host whose other ports are in a container",
        ),
        pytest.param(
            "REJECTED_ON_PATH P",
            address(RESET, target="- RST", control="- - RST", ttl=63, control_ttl=62),
            id="a reset from nearer, where no router was heard",
        ),
        pytest.param(
            "PORT_CLOSED P",
            address(RESET, target="- - RST", control="- - RST", ttl=62),
            id="a reset, and nothing to compare it with",
        ),
        pytest.param(
            "REJECTED_ON_PATH C",
            address(RESET, target="r1 RST", control="r1 - r2 SYN-ACK"),
            id="a router that is heard only beyond the reset",
        ),
        pytest.param(
            "REJECTED_ON_PATH C",
            address(RESET, target="RST", control=OPEN, ttl=61, control_ttl=62),
            id="a reset at once that was counted down on its way",
        ),
        pytest.param("PORT_CLOSED P", address(RESET), id="a reset, and no ladder"),
        pytest.param(
            "DROPPED_AT_LEAD_OR_LAST_HOP P",
            replace(DROPPED, unsent=2, udp_denied=True),
            id="routers hear of the port, so it does leave this server",
        ),
        pytest.param(
            "OWN_FIREWALL_DROPS_REPLY P", replace(MUTE, swallowed=1), id="one packet swallowed, which may be anybody's"
        ),
        pytest.param(
            "OWN_FIREWALL_DROPS_REPLY P", replace(MUTE, swallowed=9, usual=4), id="packets swallowed where many are"
        ),
        pytest.param(
            "DROPPED_AT_LEAD_OR_LAST_HOP P",
            replace(LAN, neighbour=Neighbour.UNKNOWN),
            id="nothing is known of the neighbour",
        ),
        pytest.param(
            "DROPPED_AT_LEAD_OR_LAST_HOP P",
            address(SILENT, target="r1 r2 - -", control="r1 r2 PORT"),
            id="UDP is what answers",
        ),
        pytest.param(
            "DROPPED_ON_PATH P", address(SILENT, target="- - - -", control="r1 r2 - -"), id="routers are heard by UDP"
        ),
        pytest.param("NO_ANSWER_AT_ALL ?", address(SILENT), id="nothing but silence"),
        pytest.param("DROPPED_ON_PATH P", address(SILENT, before=YESTERDAY), id="silence, and a picture of before"),
        pytest.param(
            "NO_ANSWER_AT_ALL ?", address(SILENT, before=Picture("2026-11-23T10:00:00.000Z")), id="a picture of nothing"
        ),
        pytest.param("CANNOT_TELL ?", address(SILENT, NO_ROUTE), id="ends that do not fit"),
        pytest.param("CANNOT_TELL ?", address(), id="nothing was tried"),
        pytest.param("CANNOT_TELL ?", address(Attempt(Answer.EXPIRED, 0.1, 113, None, R2)), id="a loop of routers"),
    ],
)
def test_and_where(verdict: str, seen: Address) -> None:
    assert said(judge(seen)) == verdict


# The order of the rules: a cause hides its symptoms.


@pytest.mark.parametrize(
    ("first", "seen"),
    [
        pytest.param(
            Code.NO_ROUTE_LOCAL, address(SILENT, RESET, route=None, unsent=2), id="no route before everything"
        ),
        pytest.param(Code.FLAKY, address(CONNECTED, refused(Icmp.PORT, LEAD)), id="some connect before a rejection"),
        pytest.param(
            Code.FLAKY, address(CONNECTED, SILENT, neighbour=Neighbour.FAILED), id="some connect before the neighbour"
        ),
        pytest.param(
            Code.GATEWAY_DOWN,
            address(refused(Icmp.HOST, SHADOW, 3.08)),
            id="a neighbour that is asked for before an own rejection",
        ),
        pytest.param(
            Code.GATEWAY_DOWN, address(SILENT, neighbour=Neighbour.FAILED, unsent=2), id="the neighbour before silence"
        ),
        pytest.param(
            Code.HOST_UNREACHABLE,
            address(refused(Icmp.HOST, R2), neighbour=Neighbour.FAILED),
            id="who answers has been reached, whatever the table says now",
        ),
        pytest.param(
            Code.PORT_CLOSED, address(RESET, neighbour=Neighbour.FAILED), id="a reset shows that the gateway is there"
        ),
        pytest.param(
            Code.REJECTED_BY_FIREWALL, address(DENIED, refused(Icmp.PORT, LEAD)), id="a named sender before the kernel"
        ),
        pytest.param(Code.OWN_FIREWALL_REJECTS, address(RESET, DENIED), id="the kernel before a reset"),
        pytest.param(Code.PORT_CLOSED, address(SILENT, RESET, unsent=2, swallowed=2), id="an answer before silence"),
        pytest.param(
            Code.OWN_FIREWALL_DROPS,
            address(SILENT, unsent=1, swallowed=4, udp_denied=True),
            id="what was not sent before what was not let in",
        ),
        pytest.param(
            Code.OWN_FIREWALL_DROPS_REPLY,
            replace(LAN, swallowed=4),
            id="our own filter before the lead's",
        ),
        pytest.param(
            Code.DROPPED_AT_LEAD_OR_LAST_HOP,
            replace(DROPPED, before=replace(YESTERDAY, hops=9)),
            id="what is seen now before the last good picture",
        ),
    ],
)
def test_order(first: Code, seen: Address) -> None:
    assert judged(seen).code is first


# What is said of where.


def test_the_device_that_resets_is_the_router_that_counted_before_it_filtered() -> None:
    """A forward chain rejects after the TTL was counted down: the reset comes back at the TTL of the next hop."""
    near = address(RESET, target="r1 RST", control=OPEN, ttl=64, control_ttl=62)
    assert R1 in judged(near).cause
    assert "at hop 1" in judged(near).cause
    before = replace(near, ttl=63)
    assert f"{R2} at hop 2" in judged(before).cause
    assert "A device" not in judged(before).cause
    assert "at hop 1 or 2" in judged(replace(near, ttl=None)).cause
    assert "at hop 1 or 2" in judged(replace(near, ttl=57)).cause  # the way back is another one


def test_a_router_without_a_name_is_told_by_its_hop() -> None:
    seen = address(RESET, target="r1 RST", control="? r2 SYN-ACK", ttl=64)
    assert judged(seen).facts["hop"] == " at hop 1"
    assert "source" not in judged(seen).facts


def test_a_rejection_says_at_which_hop_its_sender_stands() -> None:
    rejected = address(refused(Icmp.PROHIBITED, R2), target=UP_TO_R2)
    assert f"{R2} at hop 2" in judged(rejected).cause
    assert " at hop" not in judged(replace(rejected, target=None)).cause


def test_a_drop_on_the_path_says_behind_which_hop() -> None:
    assert f"between hop 1 ({R1}) and the next" in judged(address(SILENT, target="r1 - - -", control=OPEN)).cause
    assert "between hop 0 and the next" in judged(address(SILENT, target="- - -", control=OPEN)).cause


def test_silence_says_how_far_the_way_is_heard() -> None:
    assert f"no answer at all beyond hop 2, {R2}" in judged(MUTE).cause
    assert YESTERDAY.at in judged(address(SILENT, before=YESTERDAY)).reason


def test_nearer_wants_a_control_that_goes_farther() -> None:
    assert nearer(address(RESET, target="r1 RST", control=OPEN)) == (2, R2)
    assert nearer(address(RESET, target="RST", control="- r2 SYN-ACK")) == (1, "")
    assert nearer(address(RESET, target="r1 RST", control="r1 RST")) is None
    assert nearer(address(RESET, target="r1 RST")) is None
    assert nearer(address(RESET, control=OPEN)) is None


def test_a_verdict_knows_port_gateway_and_network() -> None:
    assert facts(address(route=ROUTED)) == {"port": "8883", "gateway": R1, "network": "10.1.0.0/24"}
    assert facts(address(route=replace(ON_LINK, network=""))) == {"port": "8883"}
    assert facts(address(route=None)) == facts(address(route=Route(SHADOW, ""))) == {"port": "8883"}


def test_a_ladder_is_told_in_one_line() -> None:
    assert str(ladder("r1 ? - SYN-ACK RST PORT")) == f"{R1} ? - connected reset port unreachable by {LEAD}"


def test_a_ladder_has_an_arrival_and_a_last_router() -> None:
    assert (ladder("r1 r2 RST").arrival, ladder("r1 - -").arrival) == (3, None)
    assert (ladder("r1 r2 ? -").last_router, ladder("- -").last_router) == ((2, R2), None)
    assert (ladder("r1").at(0), ladder("r1").at(2)) == (None, None)


# Whatever is seen.


@given(addresses)
def test_an_address_that_does_not_connect_has_one_verdict(seen: Address) -> None:
    verdict = judge(seen)
    assert (verdict is None) <= seen.connected
    if verdict is not None:
        assert verdict.reason
        assert "{" not in verdict.cause + verdict.advice + (verdict.settled_by or "")


OWN_COUNTERS = {Code.OWN_FIREWALL_DROPS, Code.OWN_FIREWALL_DROPS_REPLY}


@given(addresses)
def test_silence_alone_is_never_certain_but_for_our_own_counters(seen: Address) -> None:
    silent = replace(seen, tries=(SILENT, SILENT), route=seen.route or ROUTED)
    verdict = judged(silent)
    if verdict.confidence is not Confidence.CERTAIN:
        return
    if verdict.code in OWN_COUNTERS:
        assert seen.unsent or seen.swallowed
    else:  # the kernel has asked for the neighbour, and nobody answered
        assert verdict.code in {Code.GATEWAY_DOWN, Code.HOST_DOWN_ONLINK}
        assert seen.neighbour is Neighbour.FAILED


@given(addresses)
def test_a_verdict_that_is_not_certain_says_what_would_settle_it(seen: Address) -> None:
    verdict = judge(seen)
    if verdict is not None:
        undecided = verdict.confidence is not Confidence.CERTAIN and verdict.code is not Code.CANNOT_TELL
        assert (verdict.settled_by is not None) == undecided
