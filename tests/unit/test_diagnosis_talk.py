"""Connections that stand and do not bring the registration: rows 12 to 15, 19 and 22 to 24 of FIREWALL.md §2."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given

from propagator.core.diagnosis import FINE, Code, Confidence
from propagator.core.diagnosis.seen import Conversation, End, Stage, Talk
from propagator.core.diagnosis.talk import intercepted_at, judge
from tests.unit.sights import (
    CONNECTED,
    DONE,
    LATE,
    LEAD,
    OPEN,
    R2,
    address,
    addresses,
    certificate,
    connecting,
    conversations,
    said,
)

if TYPE_CHECKING:
    from propagator.core.diagnosis.seen import Address

TRUE_DISTANCE = connecting(target=OPEN, control=OPEN)
IN_ITS_PLACE = connecting(target="SYN-ACK", control=OPEN)
FORWARDED = connecting(target=OPEN, control="r1 RST", address=R2)

WITH_TLS: dict[str, Any] = {"passed": ((Stage.TLS, 0.01),)}
GREETED: dict[str, Any] = {"passed": ((Stage.TLS, 0.01), (Stage.MQTT, 0.01))}
MUTE = Talk(Stage.TLS, End.TIMEOUT, 3.0, sent=518, acked=519)
VANISHED = Talk(Stage.TLS, End.TIMEOUT, 3.0, sent=518, acked=1, unacked=1)


def heard(stage: Stage, end: End, **more: Any) -> Conversation:
    """A conversation that ended so, at once."""
    other_way, shown = more.pop("other_way", False), more.pop("certificate", None)
    return Conversation(Talk(stage, end, **more), other_way=other_way, certificate=shown)


def aba(first: Talk, small: Talk, again: Talk | None = None) -> Conversation:
    """A silence, the same with small segments, and the same as before."""
    return Conversation(first, small, first if again is None else again)


CASES = {
    # 12
    "idle-kill": ("OK C", TRUE_DISTANCE, DONE),  # a new connection works at once: the pause is not seen from here
    # 13
    "mtu-hole": ("MTU_BLACKHOLE C", TRUE_DISTANCE, aba(replace(MUTE, gap=1), DONE.first)),
    "mtu-hole-down": ("MTU_BLACKHOLE C", TRUE_DISTANCE, aba(MUTE, Talk(Stage.MQTT, End.REFUSED, **WITH_TLS))),
    "mtu-hole-plain": (
        "MTU_BLACKHOLE C",
        TRUE_DISTANCE,
        aba(Talk(Stage.RECORD, End.NOTHING, acked=900, gap=1, **GREETED), DONE.first),
    ),
    "loss30 between two that work": (
        "FLAKY C",
        TRUE_DISTANCE,
        aba(replace(MUTE, gap=1), DONE.first, DONE.first),
    ),
    # 14
    "dpi-rst": ("RESET_ON_PAYLOAD C", TRUE_DISTANCE, heard(Stage.TLS, End.RESET, sent=518, acked=1)),
    "dpi-rst-plain": ("RESET_ON_PAYLOAD C", TRUE_DISTANCE, heard(Stage.MQTT, End.RESET, sent=31, acked=1)),
    "dpi-drop": ("SILENT_AFTER_CONNECT C", TRUE_DISTANCE, aba(VANISHED, VANISHED)),
    "captive-http": (
        "INTERCEPTED C",
        IN_ITS_PLACE,
        heard(Stage.TLS, End.TLS, tls_reason="WRONG_VERSION_NUMBER"),
    ),
    "tarpit": ("INTERCEPTED C", IN_ITS_PLACE, aba(MUTE, MUTE)),
    "tls-intercept": (
        "TLS_INTERCEPTED C",
        IN_ITS_PLACE,
        heard(Stage.TLS, End.TLS, verify_code=20, certificate=certificate()),
    ),
    "http-on-port": (
        "NOT_MQTT C",
        TRUE_DISTANCE,
        heard(Stage.TLS, End.TLS, tls_reason="WRONG_VERSION_NUMBER"),
    ),
    "http-on-port, plain": ("NOT_MQTT C", TRUE_DISTANCE, heard(Stage.MQTT, End.NOT_MQTT)),
    "accept-close": ("CLOSED_BEFORE_CONNACK C", TRUE_DISTANCE, heard(Stage.TLS, End.CLOSED)),
    "accept-close, plain": ("CLOSED_BEFORE_CONNACK C", TRUE_DISTANCE, heard(Stage.MQTT, End.CLOSED)),
    # 15
    "tls-wrong-ca": ("TLS_UNKNOWN_CA C", TRUE_DISTANCE, heard(Stage.TLS, End.TLS, verify_code=20)),
    "tls-selfsigned": ("TLS_UNKNOWN_CA C", TRUE_DISTANCE, heard(Stage.TLS, End.TLS, verify_code=18)),
    "tls-selfsigned in its chain": ("TLS_UNKNOWN_CA C", TRUE_DISTANCE, heard(Stage.TLS, End.TLS, verify_code=19)),
    "tls-expired": ("TLS_EXPIRED C", TRUE_DISTANCE, heard(Stage.TLS, End.TLS, verify_code=10)),
    "tls-future": ("TLS_NOT_YET_VALID C", TRUE_DISTANCE, heard(Stage.TLS, End.TLS, verify_code=9)),
    "tls-name": ("TLS_NAME_MISMATCH C", TRUE_DISTANCE, heard(Stage.TLS, End.TLS, verify_code=62)),
    "tls-name, an address": ("TLS_NAME_MISMATCH C", TRUE_DISTANCE, heard(Stage.TLS, End.TLS, verify_code=64)),
    "tls-plain-server": ("TLS_NOT_TLS C", TRUE_DISTANCE, heard(Stage.TLS, End.CLOSED, other_way=True)),
    "tls-wanted": ("TLS_WANTED C", TRUE_DISTANCE, heard(Stage.MQTT, End.CLOSED, other_way=True)),
    "tls-client-cert": (
        "TLS_CLIENT_CERT C",
        TRUE_DISTANCE,
        heard(Stage.MQTT, End.TLS, tls_reason="TLSV13_ALERT_CERTIFICATE_REQUIRED", **WITH_TLS),
    ),
    "tls-client-cert, of a server that only hangs up": (
        "CLOSED_BEFORE_CONNACK P",
        TRUE_DISTANCE,
        heard(Stage.MQTT, End.CLOSED, **WITH_TLS),
    ),
    # 19
    "sigstop": ("ACCEPTED_BUT_MUTE C", TRUE_DISTANCE, aba(MUTE, MUTE)),
    "sigstop-plain": (
        "ACCEPTED_BUT_MUTE C",
        TRUE_DISTANCE,
        aba(Talk(Stage.MQTT, End.TIMEOUT, acked=700, **WITH_TLS), Talk(Stage.MQTT, End.TIMEOUT, **WITH_TLS)),
    ),
    # 20
    "dnat": ("TLS_NAME_MISMATCH C", FORWARDED, heard(Stage.TLS, End.TLS, verify_code=64)),
    "dnat-masq": ("TLS_NAME_MISMATCH C", FORWARDED, heard(Stage.TLS, End.TLS, verify_code=64)),
    "dnat-named": ("TLS_NAME_MISMATCH C", FORWARDED, heard(Stage.TLS, End.TLS, verify_code=62)),
    "shadow-nat": ("OK C", TRUE_DISTANCE, DONE),
    # 22 to 24
    "mqtt-auth": ("MQTT_REFUSED C", TRUE_DISTANCE, heard(Stage.MQTT, End.REFUSED, **WITH_TLS)),
    "mqtt-sub": ("MQTT_SUBSCRIBE_REFUSED C", TRUE_DISTANCE, heard(Stage.AUTHORISED, End.SUBSCRIPTION, **GREETED)),
    "mqtt-norecord": ("NO_RECORD C", TRUE_DISTANCE, heard(Stage.RECORD, End.NOTHING, **GREETED)),
}


@pytest.mark.parametrize(("verdict", "seen", "conversation"), CASES.values(), ids=CASES)
def test_case(verdict: str, seen: Address, conversation: Conversation) -> None:
    assert said(judge(seen, conversation)) == verdict


@pytest.mark.parametrize(
    ("verdict", "conversation"),
    [
        pytest.param("NO_HEARTBEAT P", heard(Stage.HEARTBEAT, End.NOTHING, **GREETED), id="a record and no heartbeat"),
        pytest.param("NOT_THE_LEAD C", heard(Stage.RECORD, End.UNTRUSTED, **GREETED), id="a record of somebody else"),
        pytest.param("CANNOT_TELL ?", heard(Stage.MQTT, End.UNCHECKED, **WITH_TLS), id="an account that is not ours"),
        pytest.param("TLS_FAILED C", heard(Stage.TLS, End.TLS, tls_reason="HANDSHAKE_FAILURE"), id="another TLS alert"),
        pytest.param("TLS_FAILED C", heard(Stage.TLS, End.TLS), id="a handshake that ends without a reason"),
        pytest.param(
            "TLS_FAILED C",
            heard(Stage.TLS, End.TLS, verify_code=66, detail="EE certificate key too weak"),
            id="a certificate whose CA is known, and that is too weak",
        ),
        pytest.param(
            "TLS_NOT_TLS C",
            heard(Stage.TLS, End.TLS, tls_reason="WRONG_VERSION_NUMBER", other_way=True),
            id="a plain broker that answers the ClientHello with bytes",
        ),
        pytest.param(
            "TLS_NOT_TLS C",
            heard(Stage.TLS, End.RESET, acked=1, other_way=True),
            id="a plain broker that resets the ClientHello, and greets without",
        ),
        pytest.param(
            "TLS_WANTED C", heard(Stage.MQTT, End.NOT_MQTT, other_way=True), id="a TLS port that answers with an alert"
        ),
        pytest.param(
            "CLOSED_BEFORE_CONNACK P",
            heard(Stage.MQTT, End.CLOSED, other_way=True, **WITH_TLS),
            id="a port of both, with TLS spoken already",
        ),
        pytest.param(
            "CLOSED_BEFORE_CONNACK P", heard(Stage.TLS, End.RESET, acked=519), id="a reset after our bytes were taken"
        ),
        pytest.param(
            "MQTT_SUBSCRIBE_REFUSED P",
            heard(Stage.AUTHORISED, End.CLOSED, acked=900, **GREETED),
            id="a broker that hangs up on the subscription",
        ),
        pytest.param(
            "CANNOT_TELL ?", heard(Stage.RECORD, End.CLOSED, acked=900, **GREETED), id="a broker that hangs up later"
        ),
        pytest.param(
            "CANNOT_TELL ?", heard(Stage.HEARTBEAT, End.RESET, acked=900, **GREETED), id="a broker that resets later"
        ),
        pytest.param(
            "CANNOT_TELL ?", heard(Stage.AUTHORISED, End.NOT_MQTT, **GREETED), id="nonsense after a good greeting"
        ),
        pytest.param(
            "MTU_BLACKHOLE C",
            aba(
                Talk(Stage.RECORD, End.NOTHING, gap=1, **GREETED),
                Talk(Stage.HEARTBEAT, End.NOTHING, **GREETED),
            ),
            id="the record comes with small segments, and no heartbeat does",
        ),
        pytest.param(
            "NO_RECORD C",
            aba(
                Talk(Stage.RECORD, End.NOTHING, gap=1, **GREETED),
                Talk(Stage.RECORD, End.NOTHING, **GREETED),
            ),
            id="no record with small segments either",
        ),
        pytest.param("MTU_BLACKHOLE P", Conversation(MUTE, DONE.first), id="small segments work, and time was up"),
        pytest.param(
            "FLAKY P",
            aba(MUTE, Talk(Stage.MQTT, End.TIMEOUT, 3.0, passed=((Stage.TLS, 2.9),))),
            id="small segments that took as long",
        ),
        pytest.param("ACCEPTED_BUT_MUTE P", Conversation(MUTE), id="mute, and small segments were not tried"),
        pytest.param("SILENT_AFTER_CONNECT P", Conversation(VANISHED), id="vanished, and small were not tried"),
        pytest.param(
            "SILENT_AFTER_CONNECT C",
            aba(
                Talk(Stage.MQTT, End.TIMEOUT, acked=700, unacked=1, **WITH_TLS),
                Talk(Stage.MQTT, End.TIMEOUT, **WITH_TLS),
            ),
            id="a filter that lets TLS pass and drops what follows",
        ),
        pytest.param(
            "FLAKY P", aba(Talk(Stage.TLS, End.TIMEOUT), MUTE), id="it let us in, and does not a moment later"
        ),
        pytest.param("FLAKY P", aba(MUTE, MUTE, DONE.first), id="it works a moment later, and nothing was lost"),
        pytest.param(
            "FLAKY C", aba(replace(MUTE, unacked=1), MUTE, DONE.first), id="it works a moment later, and was lost once"
        ),
    ],
)
def test_and_where(verdict: str, conversation: Conversation) -> None:
    assert said(judge(TRUE_DISTANCE, conversation)) == verdict


# The order of the rules.


def test_a_full_round_trip_comes_before_its_distance() -> None:
    """Whoever brings the lead's signed heartbeat is the lead, wherever it stands."""
    assert judge(IN_ITS_PLACE, DONE).code is Code.OK


@pytest.mark.parametrize(
    "conversation",
    [
        pytest.param(heard(Stage.TLS, End.RESET, acked=1), id="a reset"),
        pytest.param(aba(MUTE, DONE.first), id="small segments that work"),
        pytest.param(heard(Stage.MQTT, End.NOT_MQTT), id="another protocol"),
        pytest.param(heard(Stage.TLS, End.CLOSED, other_way=True), id="MQTT without TLS"),
    ],
)
def test_an_answer_from_too_near_comes_before_every_other_explanation(conversation: Conversation) -> None:
    verdict = judge(IN_ITS_PLACE, conversation)
    assert said(verdict) == "INTERCEPTED C"
    assert "at hop 1" in verdict.cause


def test_lost_first_packets_come_before_small_segments() -> None:
    lossy = address(CONNECTED, LATE, CONNECTED, target=OPEN, control=OPEN)
    verdict = judge(lossy, aba(MUTE, DONE.first))
    assert said(verdict) == "FLAKY C"
    assert "1 of 3 first packets" in verdict.cause


def test_lost_first_packets_come_before_a_connection_that_does_not_come_about() -> None:
    """They are what it failed for: it is certain then, where the second failure alone would leave it probable."""
    lossy = address(CONNECTED, LATE, CONNECTED, target=OPEN, control=OPEN)
    verdict = judge(lossy, aba(Talk(Stage.TLS, End.TIMEOUT), MUTE))
    assert said(verdict) == "FLAKY C"
    assert "1 of 3 first packets" in verdict.cause


def test_a_second_try_that_works_comes_before_small_segments() -> None:
    assert judge(TRUE_DISTANCE, aba(replace(MUTE, gap=1), DONE.first, DONE.first)).code is Code.FLAKY


@pytest.mark.parametrize(
    ("hop", "seen"),
    [
        pytest.param(1, IN_ITS_PLACE, id="the gateway answers"),
        pytest.param(2, connecting(target="r1 SYN-ACK", control=OPEN), id="the second router answers"),
        pytest.param(1, connecting(target="SYN-ACK", control="- r2 SYN-ACK"), id="a gateway that is not heard answers"),
        pytest.param(None, TRUE_DISTANCE, id="both at one distance"),
        pytest.param(None, FORWARDED, id="farther than other ports: a forwarded port"),
        pytest.param(None, connecting(target="SYN-ACK", control="SYN-ACK"), id="the gateway is the lead's own host"),
        pytest.param(
            None,
            connecting(target="r1 SYN-ACK", control="r1 r2 SYN-ACK", address=R2),
            id="an own port of a router, whose other ports are forwarded",
        ),
        pytest.param(None, connecting(), id="no ladder"),
    ],
)
def test_intercepted_at(hop: int | None, seen: Address) -> None:
    assert intercepted_at(seen) == hop


# What is told.


@pytest.mark.parametrize(
    ("code", "known", "unknown"),
    [
        pytest.param(10, "until 2026-04-02", "until a past date", id="expired"),
        pytest.param(9, "from 2026-01-02", "from a future date", id="not valid yet"),
        pytest.param(62, "for other.example", "for other names", id="of another name"),
        pytest.param(20, "of CN=Gateway", "of another issuer", id="of another CA"),
    ],
)
def test_a_certificate_is_told_where_it_was_read(code: int, known: str, unknown: str) -> None:
    talk = Talk(Stage.TLS, End.TLS, verify_code=code)
    assert known in judge(TRUE_DISTANCE, Conversation(talk, certificate=certificate())).cause
    assert unknown in judge(TRUE_DISTANCE, Conversation(talk)).cause


def test_a_certificate_without_names_is_told_by_its_subject() -> None:
    talk = Talk(Stage.TLS, End.TLS, verify_code=62)
    verdict = judge(TRUE_DISTANCE, Conversation(talk, certificate=certificate(names=())))
    assert "CN=subject" in verdict.cause


def test_a_verdict_knows_the_address_and_the_port() -> None:
    verdict = judge(TRUE_DISTANCE, heard(Stage.TLS, End.CLOSED))
    assert verdict.address == LEAD
    assert verdict.facts["port"] == "8883"


def test_the_brokers_words_are_the_reason() -> None:
    assert judge(TRUE_DISTANCE, heard(Stage.MQTT, End.REFUSED, detail="bad password")).reason == "bad password"
    assert "refused" in judge(TRUE_DISTANCE, heard(Stage.MQTT, End.REFUSED)).reason
    assert "not checked" in judge(TRUE_DISTANCE, heard(Stage.MQTT, End.UNCHECKED)).reason


# Whatever is heard.


@given(addresses, conversations)
def test_a_conversation_has_one_verdict_and_only_a_full_one_is_fine(seen: Address, conversation: Conversation) -> None:
    verdict = judge(seen, conversation)
    assert (verdict.code in FINE) == (conversation.first.end is End.DONE)
    assert verdict.reason
    assert "{" not in verdict.cause + verdict.advice + (verdict.settled_by or "")


@given(addresses, conversations)
def test_a_verdict_that_is_not_certain_says_what_would_settle_it(seen: Address, conversation: Conversation) -> None:
    verdict = judge(seen, conversation)
    undecided = verdict.confidence is not Confidence.CERTAIN and verdict.code is not Code.CANNOT_TELL
    assert (verdict.settled_by is not None) == undecided


@given(addresses, conversations)
def test_silence_after_connecting_is_certain_only_after_a_second_look(
    seen: Address, conversation: Conversation
) -> None:
    silent = replace(conversation, first=replace(conversation.first, end=End.TIMEOUT), small=None, again=None)
    verdict = judge(replace(seen, tries=(CONNECTED,)), silent)
    assert verdict.confidence is not Confidence.CERTAIN or verdict.code in {Code.INTERCEPTED, Code.TLS_INTERCEPTED}


# Row 12: a firewall that forgets idle connections.

_WENT_WELL = Talk(Stage.HEARTBEAT, End.DONE)


def _idled(end: End, *, unacked: int = 0, again: Talk | None = _WENT_WELL) -> Conversation:
    return Conversation(_WENT_WELL, again=again, idle=Talk(Stage.HEARTBEAT, end, unacked=unacked), idle_s=30.0)


@pytest.mark.parametrize(
    ("heard", "code"),
    [
        pytest.param(_idled(End.TIMEOUT, unacked=1), Code.IDLE_FLOW_KILLED, id="idle-kill"),
        pytest.param(_idled(End.RESET), Code.IDLE_FLOW_RESET, id="idle-kill-rst"),
        pytest.param(_idled(End.CLOSED), Code.IDLE_FLOW_RESET, id="idle-kill-rst, as TLS tells it"),
        pytest.param(_idled(End.DONE), Code.OK, id="it lives"),
        pytest.param(_idled(End.TIMEOUT), Code.OK, id="acknowledged, and not answered: no firewall's doing"),
        pytest.param(_idled(End.TIMEOUT, unacked=1, again=None), Code.OK, id="no new connection was tried"),
        pytest.param(
            _idled(End.TIMEOUT, unacked=1, again=Talk(Stage.TLS, End.TIMEOUT)), Code.OK, id="a new one does not work"
        ),
    ],
)
def test_what_a_pause_shows(heard: Conversation, code: Code) -> None:
    found = judge(address(), heard)
    assert (found.code, found.confidence) == (code, Confidence.CERTAIN)
    assert code is Code.OK or "30 s" in found.cause
