"""The one verdict of several addresses and names: the best that any of them gives, or the cause that got furthest."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propagator.core.diagnosis import FINE, Code, Confidence, judge, judge_each
from propagator.core.diagnosis.catalogue import CERTAIN_ALONE, CONFIDENCE
from propagator.core.diagnosis.seen import Conversation, End, Icmp, Lookup, Name, Neighbour, Seen, Stage, Talk
from tests.unit.sights import (
    DONE,
    LATE,
    LEAD,
    LEAD6,
    ON_LINK,
    R1,
    RESET,
    ROUTED6,
    SILENT,
    address,
    addresses,
    connecting,
    conversations,
    named,
    names,
    refused,
    said,
    sight,
)

GOOD = connecting()
GOOD6 = connecting(address=LEAD6, route=ROUTED6)
SILENT6 = address(SILENT, address=LEAD6, route=ROUTED6)
REJECTED6 = address(refused(Icmp.PORT, LEAD6), address=LEAD6, route=ROUTED6)
EXPIRED = Conversation(Talk(Stage.TLS, End.TLS, verify_code=10))
UNCHECKED = Conversation(Talk(Stage.MQTT, End.UNCHECKED, detail="no account"))


def nameless(lookup: Lookup, *left_out: str) -> Seen:
    return Seen((Name("es-1.example", lookup, left_out=left_out),), ())


CASES = {
    "ok": ("OK C", sight(GOOD, v4=DONE)),
    "dns-nx": ("DNS_NO_SUCH_NAME C", nameless(Lookup.NO_SUCH_NAME)),
    "dns-nodata": ("DNS_NO_SUCH_NAME C", nameless(Lookup.NO_SUCH_NAME)),
    "dns-mute": ("DNS_UNAVAILABLE C", nameless(Lookup.UNAVAILABLE)),
    "dns-servfail": ("DNS_UNAVAILABLE C", nameless(Lookup.UNAVAILABLE)),
    "dns-none": ("DNS_UNAVAILABLE C", nameless(Lookup.UNAVAILABLE)),
    "dns-slow": ("DNS_SLOW C", sight(GOOD, names=[named(LEAD, took_s=3.0)], v4=DONE)),
    "dns-sinkhole": ("DNS_SINKHOLE C", nameless(Lookup.UNUSABLE, "0.0.0.0")),  # noqa: S104  what filters answer
    "v6-broken": ("OK_BUT_IPV6_BROKEN C", sight(SILENT6, GOOD, v4=DONE)),
    "v6-rejected": ("OK_BUT_IPV6_BROKEN C", sight(REJECTED6, GOOD, v4=DONE)),
    "v6-certificate": ("OK_BUT_IPV6_BROKEN C", sight(GOOD6, GOOD, v6=EXPIRED, v4=DONE)),
    "v4-broken": ("OK C", sight(GOOD6, address(SILENT), v6=DONE)),
    "v6 not tried after v4": ("OK C", sight(GOOD, GOOD6, v4=DONE)),
    "tls-expired behind a broken v6": ("TLS_EXPIRED C", sight(SILENT6, GOOD, v4=EXPIRED)),
    "syn-loss": ("FLAKY C", sight(connecting(5, tries=(LATE,) * 2), v4=DONE)),
    "an account that is not ours": ("CANNOT_TELL ?", sight(GOOD, v4=UNCHECKED)),
}


@pytest.mark.parametrize(("verdict", "seen"), CASES.values(), ids=CASES)
def test_case(verdict: str, seen: Seen) -> None:
    assert said(judge(seen)) == verdict


# Several addresses.


def test_every_address_has_its_own_verdict_in_the_order_of_the_tries() -> None:
    each = judge_each(sight(SILENT6, GOOD, address(RESET, address="10.3.0.3"), v4=DONE))
    assert [said(verdict) for verdict in each] == ["NO_ANSWER_AT_ALL ?", "OK C", "PORT_CLOSED P"]
    assert [verdict.address for verdict in each] == [LEAD6, LEAD, "10.3.0.3"]
    assert {verdict.facts["host"] for verdict in each} == {"es-1.example"}


def test_the_address_that_got_furthest_tells_the_cause() -> None:
    """Even if another's cause is surer: who connects has less before it."""
    down = address(refused(Icmp.HOST, "10.3.0.9", 3.1), route=ON_LINK, address="10.3.0.3", neighbour=Neighbour.FAILED)
    assert judge(sight(down, GOOD, v4=UNCHECKED)).address == LEAD
    assert judge(sight(GOOD, down, v4=EXPIRED)).code is Code.TLS_EXPIRED


def test_of_addresses_that_do_not_connect_the_surest_tells_the_cause() -> None:
    seen = sight(
        address(SILENT), address(RESET, address="10.3.0.3"), address(refused(Icmp.NET, R1), address="10.3.0.4")
    )
    assert said(judge(seen)) == "NET_UNREACHABLE C"
    assert said(judge(sight(*seen.addresses[:2]))) == "PORT_CLOSED P"


def test_of_two_alike_the_first_counts() -> None:
    assert judge(sight(address(RESET), address(RESET, address="10.3.0.3"))).address == LEAD


def test_a_good_conversation_over_a_lossy_way_is_lossy() -> None:
    lossy = address(LATE, LATE)
    assert judge(sight(lossy, v4=DONE)).code is Code.FLAKY
    assert judge(sight(lossy, v4=EXPIRED)).code is Code.TLS_EXPIRED


def test_an_address_that_connects_and_was_not_talked_to_says_why() -> None:
    late = replace(sight(GOOD), unchecked="the time was up after 19 s")
    assert said(judge(late)) == "CANNOT_TELL ?"
    assert "the time was up" in judge(late).reason
    assert "another address was used" in judge_each(sight(GOOD6, GOOD, v4=DONE))[0].reason


def test_ipv6_that_does_not_work_says_how() -> None:
    verdict = judge(sight(REJECTED6, GOOD, v4=DONE))
    assert "REJECTED_BY_FIREWALL" in verdict.cause
    assert LEAD6 in verdict.reason
    assert verdict.is_fine


# Names.


def test_a_slow_name_that_was_not_used_is_no_cause() -> None:
    """One of two names fails after five seconds: what the other leads to is all well."""
    gone = Name("old.example", Lookup.UNAVAILABLE, took_s=5.0)
    assert judge(sight(GOOD, names=[gone, named(LEAD)], v4=DONE)).code is Code.OK


def test_a_slow_name_is_told_with_its_time() -> None:
    verdict = judge(sight(GOOD, names=[named(LEAD, took_s=3.0, host="slow.example")], v4=DONE))
    assert "slow.example" in verdict.cause
    assert "3.0 s" in verdict.cause


def test_a_name_that_fails_is_no_cause_where_another_leads_on() -> None:
    gone = Name("old.example", Lookup.NO_SUCH_NAME)
    assert judge(sight(address(RESET), names=[gone, named(LEAD)])).code is Code.PORT_CLOSED


def test_a_sinkhole_says_what_the_name_leads_to() -> None:
    verdict = judge(nameless(Lookup.UNUSABLE, "0.0.0.0", "127.0.0.1"))  # noqa: S104
    assert "0.0.0.0, 127.0.0.1" in verdict.cause


def test_an_address_of_no_name_is_its_own_host() -> None:
    assert judge_each(sight(address(RESET), names=[]))[0].facts["host"] == LEAD


def test_nothing_to_try_is_told_with_its_reason() -> None:
    assert said(judge(Seen((), ()))) == "CANNOT_TELL ?"
    assert judge(Seen((), (), unchecked="the time was up")).reason == "the time was up"
    assert judge(Seen((named(),), ())).reason == "there is no address to try"


# Whatever is seen.


@st.composite
def sights(draw: st.DrawFn) -> Seen:
    tried = draw(st.lists(addresses, max_size=3, unique_by=lambda seen: seen.address))
    talks = [(seen.address, draw(conversations)) for seen in tried if draw(st.booleans())]
    return Seen(tuple(draw(st.lists(names, max_size=2))), tuple(tried), tuple(talks), draw(st.none() | st.just("late")))


@given(sights())
def test_there_is_exactly_one_verdict(seen: Seen) -> None:
    verdict = judge(seen)
    assert verdict.code in Code
    assert verdict.reason
    assert verdict.confidence in CONFIDENCE.get(verdict.code, CERTAIN_ALONE)
    assert "{" not in verdict.cause + verdict.advice + (verdict.settled_by or "")
    assert len(judge_each(seen)) == len(seen.addresses)


@given(sights())
def test_f47_only_a_conversation_that_is_done_is_ok(seen: Seen) -> None:
    """A success is said only of a full round trip (F47)."""
    if judge(seen).code in FINE:
        assert any(talk.first.end is End.DONE for _, talk in seen.talks)


@given(sights())
def test_f47_what_was_not_checked_is_no_failure(seen: Seen) -> None:
    talks = tuple((where, replace(talk, first=replace(talk.first, end=End.UNCHECKED))) for where, talk in seen.talks)
    tried = tuple(replace(each, tries=(), target=None, control=None) for each in seen.addresses)
    for verdict in judge_each(replace(seen, addresses=tried, talks=talks)):
        assert verdict.confidence is not Confidence.CERTAIN or verdict.code in {
            Code.NO_ROUTE_LOCAL,
            Code.GATEWAY_DOWN,
            Code.HOST_DOWN_ONLINK,
        }
