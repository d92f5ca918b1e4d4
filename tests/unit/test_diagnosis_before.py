"""The last good picture: what it says of an answer's distance, and of a certificate."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from propagator.core.diagnosis.before import compared, hops_of, is_the_leads_key, nearer
from propagator.core.diagnosis.reach import judge
from propagator.core.diagnosis.seen import Answer, Attempt, Conversation, End, Icmp, Picture, Stage, Talk
from propagator.core.diagnosis.talk import judge as judge_talk
from tests.unit.sights import (
    CONNECTED,
    LEAD,
    OPEN,
    R1,
    R2,
    RESET,
    SILENT,
    address,
    certificate,
    connecting,
    ladder,
    refused,
    said,
)

if TYPE_CHECKING:
    from propagator.core.diagnosis.seen import Address, Certificate

AT = "2026-11-23T10:00:00.000Z"
OURS = replace(certificate("CN=es-1"), fingerprint="11" * 32, key="22" * 32)
THEN = Picture(AT, hops=3, routers=(R1, R2), ttl=62, certificate=OURS)
THEIRS = replace(certificate("CN=Gateway"), fingerprint="33" * 32, key="44" * 32)
RENEWED = replace(THEIRS, key=OURS.key)


@pytest.mark.parametrize(("ttl", "hops"), [(64, 1), (62, 3), (128, 1), (120, 9), (255, 1), (250, 6), (1, 64), (65, 64)])
def test_a_ttl_says_how_many_hops_away_its_sender_is(ttl: int, hops: int) -> None:
    assert hops_of(ttl) == hops


@pytest.mark.parametrize(
    ("target", "ttl", "before", "told"),
    [
        pytest.param("r1 RST", 64, THEN, "at hop 2, with a TTL of 64", id="both witnesses"),
        pytest.param("r1 RST", None, THEN, "at hop 2", id="the ladder alone"),
        pytest.param(None, 64, THEN, "with a TTL of 64", id="the TTL alone"),
        pytest.param("r1 RST", 64, replace(THEN, ttl=None), "at hop 2", id="a picture of an earlier version"),
        pytest.param(None, 255, THEN, "with a TTL of 255", id="a system of another kind"),
        pytest.param("r1 r2 RST", 62, THEN, None, id="as it was"),
        pytest.param("r1 r2 RST", 254, THEN, None, id="as near, whatever its sender begins with"),
        pytest.param("r1 RST", 62, THEN, None, id="the TTL says no"),
        pytest.param("r1 r2 RST", 64, THEN, None, id="the ladder says no"),
        pytest.param("r1 r2 r2 RST", 61, THEN, None, id="farther"),
        pytest.param("r1 RST", 64, None, None, id="no picture"),
        pytest.param("- - - -", None, THEN, None, id="no answer"),
        pytest.param("r1 RST", 64, Picture(AT), None, id="a picture of nothing"),
    ],
)
def test_an_answer_is_nearer_if_no_witness_says_no(
    target: str | None, ttl: int | None, before: Picture | None, told: str | None
) -> None:
    found = nearer(address(RESET, target=target, ttl=ttl, before=before))
    assert (found or "").partition(";")[0] == ("" if told is None else f"the answer comes {told}")
    assert found is None or AT in found


RESET_NEARER = address(RESET, target="r1 RST", control="r1 RST", ttl=64, control_ttl=64, before=THEN)
FORGED = address(
    Attempt(Answer.REJECTED, 0.0003, 113, Icmp.PROHIBITED, LEAD, ttl=64), target="r1 PORT", ttl=64, before=THEN
)


@pytest.mark.parametrize(
    ("verdict", "seen"),
    [
        pytest.param("REJECTED_ON_PATH P", RESET_NEARER, id="whatever is reset, from nearer"),
        pytest.param("PORT_CLOSED P", replace(RESET_NEARER, before=None), id="whatever is reset, and no picture"),
        pytest.param(
            "PORT_CLOSED P",
            replace(RESET_NEARER, others=((22, CONNECTED),)),
            id="another port lets us in: the host itself is nearer now",
        ),
        pytest.param("REJECTED_ON_PATH P", FORGED, id="ICMP in the lead's name, from nearer"),
        pytest.param("REJECTED_BY_FIREWALL C", replace(FORGED, before=None), id="ICMP in the lead's name, no picture"),
        pytest.param(
            "REJECTED_BY_FIREWALL C", replace(FORGED, target=ladder("r1 r2 PORT"), ttl=62), id="ICMP of the lead itself"
        ),
        pytest.param(
            "REJECTED_ON_PATH C",
            replace(FORGED, tries=(refused(Icmp.PROHIBITED, R1),)),
            id="ICMP that names another",
        ),
    ],
)
def test_a_refusal(verdict: str, seen: Address) -> None:
    assert said(judge(seen)) == verdict


def test_a_refusal_from_nearer_names_its_hop_and_the_time_of_the_picture() -> None:
    verdict = judge(RESET_NEARER)
    assert verdict is not None
    assert "at hop 2" in verdict.cause
    assert AT in verdict.reason
    assert verdict.facts["ttl"] == "64"


def test_silence_names_the_router_that_was_next() -> None:
    verdict = judge(address(SILENT, target="r1 - - -", before=THEN))
    assert verdict is not None
    assert verdict.reason.endswith(f"the lead answered from hop 3, and {R2} was next")
    gap = judge(address(SILENT, target="r1 - - -", before=replace(THEN, routers=(R1,))))
    assert gap is not None
    assert gap.reason.endswith("the lead answered from hop 3")


NEARER = connecting(target="SYN-ACK", control="SYN-ACK", ttl=64, before=THEN)
WRONG_CA = Talk(Stage.TLS, End.TLS, 0.1, verify_code=20)
ENDS = {
    "NOT_MQTT C": Talk(Stage.TLS, End.TLS, tls_reason="WRONG_VERSION_NUMBER"),
    "TLS_FAILED C": Talk(Stage.TLS, End.TLS, tls_reason="HANDSHAKE_FAILURE"),
    "RESET_ON_PAYLOAD C": Talk(Stage.TLS, End.RESET, sent=518, acked=1),
    "CLOSED_BEFORE_CONNACK C": Talk(Stage.TLS, End.CLOSED, sent=518, acked=519),
    "ACCEPTED_BUT_MUTE P": Talk(Stage.TLS, End.TIMEOUT, 3.0, sent=518, acked=519),
    "SILENT_AFTER_CONNECT P": Talk(Stage.TLS, End.TIMEOUT, 3.0, sent=518, acked=1, unacked=1),
}


@pytest.mark.parametrize(("alone", "first"), ENDS.items(), ids=ENDS)
def test_who_answers_from_nearer_answers_in_the_leads_place(alone: str, first: Talk) -> None:
    heard = Conversation(first)
    assert said(judge_talk(replace(NEARER, before=None), heard)) == alone
    found = judge_talk(NEARER, heard)
    assert (said(found), found.facts["hop"]) == ("INTERCEPTED P", " at hop 1")
    assert said(judge_talk(replace(NEARER, target=ladder(OPEN), ttl=62), heard)) == alone


@pytest.mark.parametrize("first", [Talk(Stage.MQTT, End.REFUSED), Talk(Stage.TLS, End.TLS, verify_code=10)], ids=str)
def test_what_only_the_lead_can_say_stays(first: Talk) -> None:
    heard = Conversation(first)
    assert judge_talk(NEARER, heard).code is judge_talk(replace(NEARER, before=None), heard).code


def test_a_wrong_certificate_from_nearer_is_interception() -> None:
    assert said(judge_talk(NEARER, Conversation(WRONG_CA, certificate=THEIRS))) == "TLS_INTERCEPTED P"


def test_whoever_has_the_leads_key_is_the_lead_however_near() -> None:
    found = judge_talk(NEARER, Conversation(WRONG_CA, certificate=RENEWED))
    assert said(found) == "TLS_UNKNOWN_CA C"
    assert "the lead, renewed" in found.reason
    assert is_the_leads_key(THEN, RENEWED)
    assert not is_the_leads_key(THEN, replace(RENEWED, key=""))
    assert not is_the_leads_key(replace(THEN, certificate=replace(OURS, key="")), replace(RENEWED, key=""))


@pytest.mark.parametrize(
    ("shown", "told"),
    [
        pytest.param(OURS, f"it is the lead's own of {AT}", id="the same"),
        pytest.param(RENEWED, f"it has the key that the lead's had on {AT}, then certified by CN=es-1", id="renewed"),
        pytest.param(
            replace(THEIRS, issuer="CN=es-1"), f"on {AT} the lead's had another key, and an issuer of", id="anew"
        ),
        pytest.param(THEIRS, f"on {AT} the lead's was issued by CN=es-1, with another key", id="of somebody else"),
        pytest.param(None, "", id="none was read"),
    ],
)
def test_a_certificate_is_compared_with_the_last_good_one(shown: Certificate | None, told: str) -> None:
    assert compared(THEN, shown).startswith(told)
    assert compared(None, shown) == compared(replace(THEN, certificate=None), shown) == ""
    if told:
        seen = connecting(target=OPEN, control=OPEN, ttl=62, before=THEN)
        assert told in judge_talk(seen, Conversation(WRONG_CA, certificate=shown)).reason


def test_a_ca_of_the_same_name_is_not_known_either() -> None:
    """OpenSSL says then that the signature does not hold (X509_V_ERR_CERT_SIGNATURE_FAILURE)."""
    heard = Conversation(replace(WRONG_CA, verify_code=7), certificate=replace(THEIRS, issuer="CN=es-1"))
    assert said(judge_talk(connecting(target=OPEN, control=OPEN), heard)) == "TLS_UNKNOWN_CA C"
