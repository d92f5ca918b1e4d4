"""What a lead's view adds to a shadow's verdict: each line of FIREWALL.md §4's second table, and what it says alone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from propagator.core.conntrack import Flow, Handshake, Table
from propagator.core.diagnosis import Code, Confidence, Verdict
from propagator.core.diagnosis.advice import remedies
from propagator.core.diagnosis.joint import BURST, join, judge_lead, listening
from propagator.core.diagnosis.seen import Counters, Filter, HalfOpen, LeadSide

if TYPE_CHECKING:
    from collections.abc import Iterable

LEAD = "10.3.0.2"
EVERYWHERE = "0.0.0.0"  # noqa: S104  nobody listens there
READY = LeadSide(8883, (EVERYWHERE,), own=("127.0.0.1", LEAD))
EATEN = replace(READY, passed=Counters(swallowed=BURST))
FULL = replace(READY, at_cap=True, unread=3)
C, P, Q = Confidence.CERTAIN, Confidence.PROBABLE, Confidence.POSSIBLE

SILENT = Code.DROPPED_AT_LEAD_OR_LAST_HOP


def shadow(code: Code, address: str | None = LEAD, **facts: str) -> Verdict:
    return Verdict(code, P, "as the shadow saw it", address, {"port": "8883", **facts})


def passed(**counters: int) -> LeadSide:
    return replace(READY, passed=Counters(**counters))


def half_open(retransmits: int, **counters: int) -> LeadSide:
    return replace(passed(**counters), half_open=(HalfOpen("10.1.0.2", retransmits),))


def table(count: int, dropped: int | None, limit: int = 100) -> LeadSide:
    return replace(EATEN, conntrack=Table(count, limit, dropped))


def tracked(handshake: Handshake, age_s: int = 9, unrouted: tuple[str, ...] = ()) -> LeadSide:
    """The packets of a device are in the table of connections, and others' are eaten."""
    flows = (Flow(8883, "10.1.0.2", handshake, age_s),)
    return replace(EATEN, flows=flows, about=("10.1.0.2",), unrouted=unrouted)


OTHERS = replace(passed(swallowed6=BURST), dialled=LEAD)
NO_PLACE = table(100, 6)
CAME, ANSWERED = tracked(Handshake.UNANSWERED), tracked(Handshake.ANSWERED)

JOINT = [
    pytest.param(SILENT, NO_PLACE, Code.LEAD_CONNTRACK_FULL, C, id="conntrack-full"),
    pytest.param(Code.FLAKY, NO_PLACE, Code.LEAD_CONNTRACK_FULL, C, id="conntrack-full, now and then a place"),
    pytest.param(SILENT, table(100, None), Code.LEAD_CONNTRACK_FULL, P, id="conntrack-full, drops are not counted"),
    pytest.param(SILENT, table(100, 0), Code.LEAD_FIREWALL_DROPS, P, id="conntrack-full, and nothing was dropped"),
    pytest.param(SILENT, table(99, 6), Code.LEAD_FIREWALL_DROPS, P, id="a table with a place"),
    pytest.param(Code.PORT_CLOSED, NO_PLACE, Code.LEAD_FIREWALL_REJECTS, C, id="a full table refuses nobody"),
    pytest.param(Code.OK, NO_PLACE, Code.OK, P, id="a full table, and it gets through"),
    pytest.param(SILENT, ANSWERED, Code.REPLY_LOST, P, id="reply-drop, by conntrack"),
    pytest.param(SILENT, CAME, Code.ACCEPT_QUEUE_FULL, P, id="backlog-full, by conntrack"),
    pytest.param(
        SILENT,
        tracked(Handshake.UNANSWERED, unrouted=("10.1.0.2",)),
        Code.LEAD_NO_ROUTE_BACK,
        C,
        id="reply-noroute, by conntrack",
    ),
    pytest.param(SILENT, tracked(Handshake.ANSWERED, 121), Code.LEAD_FIREWALL_DROPS, P, id="too long ago"),
    pytest.param(SILENT, tracked(Handshake.COMPLETE), Code.LEAD_FIREWALL_DROPS, P, id="an older one came about"),
    pytest.param(SILENT, replace(ANSWERED, about=("10.1.0.3",)), Code.LEAD_FIREWALL_DROPS, P, id="another's"),
    pytest.param(
        SILENT, replace(ANSWERED, filter=Filter("drop")), Code.LEAD_FIREWALL_DROPS, C, id="the rules drop it since"
    ),
    pytest.param(SILENT, passed(listen_overflows=6), Code.ACCEPT_QUEUE_FULL, C, id="backlog-full"),
    pytest.param(SILENT, passed(queue_full=1), Code.ACCEPT_QUEUE_FULL, C, id="request queue full"),
    pytest.param(Code.NO_ANSWER_AT_ALL, passed(rpfilter=4), Code.LEAD_RPFILTER, C, id="reply-rpfilter"),
    pytest.param(Code.NO_ANSWER_AT_ALL, passed(no_routes=4), Code.LEAD_NO_ROUTE_BACK, C, id="reply-noroute"),
    pytest.param(SILENT, half_open(3), Code.REPLY_LOST, C, id="reply-drop"),
    pytest.param(SILENT, half_open(0, syn_retrans=9), Code.REPLY_LOST, C, id="reply-drop, by the counter"),
    pytest.param(SILENT, half_open(0), Code.LEAD_OUTPUT_DROPS, C, id="reply-drop-lead"),
    pytest.param(SILENT, EATEN, Code.LEAD_FIREWALL_DROPS, P, id="drop-port"),
    pytest.param(Code.NO_ANSWER_AT_ALL, EATEN, Code.LEAD_FIREWALL_DROPS, P, id="policy-drop-all"),
    pytest.param(Code.LEAD_FIREWALL_DROPS, EATEN, Code.LEAD_FIREWALL_DROPS, C, id="drop-port-onlink"),
    pytest.param(SILENT, passed(swallowed=BURST - 1), Code.DROPPED_BEFORE_LEAD, P, id="a few may be anything"),
    pytest.param(SILENT, replace(READY, wire=7), Code.LEAD_FIREWALL_DROPS, C, id="drop-port, seen on the wire"),
    pytest.param(SILENT, replace(READY, filter=Filter("drop")), Code.LEAD_FIREWALL_DROPS, P, id="by the rules alone"),
    pytest.param(SILENT, replace(EATEN, filter=Filter("drop")), Code.LEAD_FIREWALL_DROPS, C, id="rules and counters"),
    pytest.param(SILENT, READY, Code.DROPPED_BEFORE_LEAD, P, id="drop-r2"),
    pytest.param(SILENT, replace(READY, wire=0), Code.DROPPED_BEFORE_LEAD, C, id="drop-r2, nothing on the wire"),
    pytest.param(Code.DROPPED_ON_PATH, READY, Code.DROPPED_ON_PATH, P, id="drop-r1"),
    pytest.param(Code.DROPPED_ON_PATH, replace(READY, wire=0), Code.DROPPED_ON_PATH, C, id="drop-r1, as root"),
    pytest.param(Code.PORT_CLOSED, replace(READY, listeners=()), Code.NOT_LISTENING, C, id="closed"),
    pytest.param(
        Code.PORT_CLOSED, replace(READY, listeners=("127.0.0.1",)), Code.LISTENING_ON_LOOPBACK, C, id="loopback-only"
    ),
    pytest.param(
        Code.PORT_CLOSED,
        replace(READY, listeners=("fd00::2",)),
        Code.LISTENING_ON_OTHER_ADDRESS,
        C,
        id="v6-only-bind",
    ),
    pytest.param(Code.PORT_CLOSED, EATEN, Code.LEAD_FIREWALL_REJECTS, C, id="reject-rst"),
    pytest.param(Code.REJECTED_BY_FIREWALL, READY, Code.LEAD_FIREWALL_REJECTS, C, id="firewalld"),
    pytest.param(Code.PORT_CLOSED, READY, Code.PORT_CLOSED, P, id="a closed port that listens: nothing to add"),
    pytest.param(Code.ACCEPTED_BUT_MUTE, replace(READY, unread=1), Code.SERVICE_STOPPED, C, id="sigstop"),
    pytest.param(Code.ACCEPTED_BUT_MUTE, READY, Code.ACCEPTED_BUT_MUTE, P, id="mute, and nothing unread"),
    pytest.param(Code.CLOSED_BEFORE_CONNACK, FULL, Code.CONNECTIONS_AT_CAP, C, id="turned away (F55)"),
    pytest.param(Code.RESET_ON_PAYLOAD, FULL, Code.CONNECTIONS_AT_CAP, C, id="turned away at the first word (F55)"),
    pytest.param(Code.ACCEPTED_BUT_MUTE, FULL, Code.CONNECTIONS_AT_CAP, C, id="left waiting (F55)"),
    pytest.param(
        SILENT, replace(FULL, passed=Counters(queue_full=1)), Code.CONNECTIONS_AT_CAP, C, id="no room to wait (F55)"
    ),
    pytest.param(SILENT, FULL, Code.DROPPED_BEFORE_LEAD, P, id="a full broker silences nobody"),
    pytest.param(Code.CLOSED_BEFORE_CONNACK, READY, Code.CLOSED_BEFORE_CONNACK, P, id="hung up, not for a full broker"),
    pytest.param(Code.OWN_FIREWALL_DROPS, EATEN, Code.OWN_FIREWALL_DROPS, P, id="out-drop: the lead has no say"),
    pytest.param(Code.OK, EATEN, Code.OK, P, id="ok"),
    pytest.param(SILENT, OTHERS, Code.DROPPED_BEFORE_LEAD, P, id="packets of the other family"),
]


@pytest.mark.parametrize(("alone", "lead", "code", "sure"), JOINT)
def test_both_views_give(alone: Code, lead: LeadSide, code: Code, sure: Confidence) -> None:
    found = join(shadow(alone), lead)
    assert (found.code, found.confidence) == (code, sure)
    assert (found.address, found.facts["port"]) == (LEAD, "8883")
    assert "{" not in found.cause + found.advice


def test_what_is_usual_does_not_count() -> None:
    noisy = replace(EATEN, usual=Counters(swallowed=BURST, swallowed6=40))
    assert noisy.swallowed == 0
    assert join(shadow(SILENT), noisy).code is Code.DROPPED_BEFORE_LEAD


def test_the_rule_that_drops_is_named() -> None:
    found = join(shadow(SILENT), replace(EATEN, filter=Filter("drop", "nft: inet filter input: drop")))
    assert "(rule: nft: inet filter input: drop)" in found.cause


@pytest.mark.parametrize("code", [Code.HOST_UNREACHABLE, Code.PORT_CLOSED, Code.NO_ANSWER_AT_ALL])
def test_a_name_that_points_to_another_host_is_told(code: Code) -> None:
    found = join(shadow(code, "10.3.0.9", host="es-1.example"), READY)
    assert (found.code, found.confidence) == (Code.DNS_WRONG_ADDRESS, P)
    assert LEAD in found.cause


def test_a_stray_multicast_is_no_arrival() -> None:
    """IPv6 counts one now and then; a diagnosis sends more."""
    stray = replace(READY, passed=Counters(swallowed6=1))
    assert join(shadow(Code.PORT_CLOSED, "10.3.0.9", host="es-1.example"), stray).code is Code.DNS_WRONG_ADDRESS


@pytest.mark.parametrize(
    ("address", "host", "lead"),
    [
        pytest.param("10.3.0.9", "10.3.0.9", READY, id="an address that was written as one"),
        pytest.param(LEAD, "es-1.example", READY, id="the lead's own address"),
        pytest.param("10.3.0.9", "es-1.example", EATEN, id="packets arrive: a port forward"),
        pytest.param("10.3.0.9", "es-1.example", replace(READY, own=()), id="the own addresses are not known"),
        pytest.param(
            "10.3.0.9", "es-1.example", replace(READY, own=("127.0.0.1", "::1")), id="it has lost its address"
        ),
    ],
)
def test_no_name_is_blamed_without_a_reason(address: str, host: str, lead: LeadSide) -> None:
    found = join(shadow(Code.NO_ANSWER_AT_ALL, address, host=host), lead)
    assert found.code is not Code.DNS_WRONG_ADDRESS


ALONE = [
    pytest.param(READY, (), Code.LEAD_READY, P, id="its rules were not read"),
    pytest.param(replace(READY, filter=Filter("accept")), (), Code.LEAD_READY, C, id="its rules accept"),
    pytest.param(
        replace(READY, filter=Filter("cannot_tell")), (), Code.LEAD_READY, P, id="its rules are not understood"
    ),
    pytest.param(replace(READY, listeners=()), (), Code.NOT_LISTENING, C, id="closed"),
    pytest.param(replace(READY, listeners=("127.0.0.1",)), (LEAD,), Code.LISTENING_ON_LOOPBACK, C, id="loopback-only"),
    pytest.param(replace(READY, listeners=("127.0.0.1",)), ("127.0.0.1",), Code.LEAD_READY, P, id="a demo on loopback"),
    pytest.param(
        replace(READY, listeners=("fd00::2",)), (LEAD,), Code.LISTENING_ON_OTHER_ADDRESS, C, id="v6-only-bind"
    ),
    pytest.param(replace(READY, listeners=("fd00::2",)), ("es-1",), Code.LEAD_READY, P, id="a name says nothing"),
    pytest.param(passed(listen_overflows=1), (), Code.ACCEPT_QUEUE_FULL, C, id="backlog-full"),
    pytest.param(replace(READY, unread=2), (), Code.SERVICE_STOPPED, C, id="sigstop"),
    pytest.param(FULL, (), Code.CONNECTIONS_AT_CAP, C, id="the broker turns others away (F55)"),
    pytest.param(
        replace(FULL, passed=Counters(listen_overflows=1)), (), Code.CONNECTIONS_AT_CAP, C, id="and the queue is full"
    ),
    pytest.param(replace(FULL, listeners=()), (), Code.NOT_LISTENING, C, id="it does not even listen"),
    pytest.param(half_open(2), (), Code.REPLY_LOST, P, id="reply-drop, without the shadow's word"),
    pytest.param(EATEN, (), Code.LEAD_FIREWALL_DROPS, Q, id="somebody's packets were eaten"),
    pytest.param(NO_PLACE, (), Code.LEAD_CONNTRACK_FULL, C, id="conntrack-full"),
    pytest.param(table(100, 0), (), Code.LEAD_CONNTRACK_FULL, P, id="conntrack-full, and nobody tried meanwhile"),
    pytest.param(ANSWERED, (), Code.REPLY_LOST, P, id="reply-drop, by conntrack"),
    pytest.param(CAME, (), Code.ACCEPT_QUEUE_FULL, P, id="backlog-full, by conntrack"),
    pytest.param(
        replace(CAME, filter=Filter("drop")), (), Code.LEAD_FIREWALL_DROPS, P, id="the rules drop it, by now at least"
    ),
    pytest.param(replace(READY, filter=Filter("drop")), (), Code.LEAD_FIREWALL_DROPS, P, id="the rules drop it"),
    pytest.param(
        replace(READY, filter=Filter("drop", agreed=True)), (), Code.LEAD_FIREWALL_DROPS, C, id="and a replay"
    ),
    pytest.param(
        replace(READY, filter=Filter("reject", agreed=True)), (), Code.LEAD_FIREWALL_REJECTS, C, id="rejected"
    ),
]


@pytest.mark.parametrize(("lead", "dialled", "code", "sure"), ALONE)
def test_a_lead_alone_says(lead: LeadSide, dialled: Iterable[str], code: Code, sure: Confidence) -> None:
    found = judge_lead(lead, dialled)
    assert (found.code, found.confidence) == (code, sure)
    assert "{" not in found.cause + found.advice


def test_an_address_that_is_not_the_hosts_is_no_other_address() -> None:
    assert listening(replace(READY, listeners=("10.9.0.1",)), "198.51.100.7") is None


def test_the_address_that_was_dialled_is_enough_to_listen_on() -> None:
    assert listening(replace(READY, listeners=(LEAD,)), LEAD) is None


@pytest.mark.parametrize(
    ("peers", "told"),
    [
        pytest.param((), "none of those that stand is of another host", id="nobody"),
        pytest.param(("10.1.0.2",), "those that stand are of 10.1.0.2", id="one"),
        pytest.param(("a", "b", "c", "d", "e"), "of a, b, c and 2 more", id="many"),
    ],
)
def test_who_holds_the_connections_is_named(peers: tuple[str, ...], told: str) -> None:
    assert judge_lead(replace(FULL, connected=peers)).reason.endswith(told)


def test_a_full_table_says_how_full_and_its_remedy_doubles_it() -> None:
    found = judge_lead(replace(NO_PLACE, window_s=3.0))
    assert found.reason == "100 of 100 connections are tracked; 6 packets found no place in 3 s"
    assert "Its places are taken (100)" in found.cause
    _, remedy = remedies(found)
    assert remedy.commands[0] == "sysctl -w net.netfilter.nf_conntrack_max=200"
    assert remedy.undo[0] == "sysctl -w net.netfilter.nf_conntrack_max=100"


@pytest.mark.parametrize("limit", ["", "all", "9" * 5000])
def test_a_bound_that_is_none_gets_into_no_command(limit: str) -> None:
    verdict = Verdict(Code.LEAD_CONNTRACK_FULL, P, "as another program says", facts={"limit": limit})
    assert [each.tool for each in remedies(verdict)] == ["hint"]
