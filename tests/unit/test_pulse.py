"""A lead's pulse: heartbeats in order, and the proof of a second lead (F03)."""

from __future__ import annotations

import pytest

from propagator.core.errors import Unreadable
from propagator.core.pulse import HIGHEST, SECOND_LEAD, Pulse, Trail
from propagator.core.session import Session
from propagator.core.signing import Authority, Envelope
from propagator.core.wire import Heard, Heartbeat, Typ
from tests.unit.builders import Lead, key, opened, v

LEAD = Lead()
AUTHORITY = Authority("es-1", LEAD.identity.thumbprint, 1)
OURS, THEIRS = Session(1764000000, "aaaa"), Session(1764000050, "bbbb")
ABOVE = Session(1764000051, "dddd")


def pulse() -> Pulse:
    return Pulse(AUTHORITY, OURS, 60.0)


def heartbeat(session: Session = THEIRS, heard: Session | None = None, counter: int = 4) -> Heartbeat:
    echo = None if heard is None else Heard(session=heard, counter=1)
    return Heartbeat(
        session=session, counter=counter, version=None, hash=None, heard=echo, upstream=None, period_s=60.0
    )


def said(document: Heartbeat, by: Lead = LEAD) -> Envelope:
    return opened(by.seal(Typ.HEARTBEAT, document))


def hear(ours: Pulse, document: Heartbeat, now_s: float = 0.0, by: Lead = LEAD) -> bool:
    return ours.hear(said(document, by), now_s)


def state_of(ours: Pulse) -> str:
    return "second_lead" if ours.second_lead else "alone"


def test_heartbeats_count_and_carry_what_is_announced() -> None:
    ours = pulse()
    first, second = ours.beat(None, None, None), ours.beat(v("1.2.aaaa.3"), "0" * 64, None)
    assert (first.session, first.counter, first.version) == (OURS, 1, None)
    assert (second.counter, second.version, second.hash, second.period_s) == (2, v("1.2.aaaa.3"), "0" * 64, 60.0)


def test_f03_another_session_is_only_told_on_until_it_names_ours() -> None:
    ours = pulse()
    assert not hear(ours, heartbeat())
    assert state_of(ours) == "alone"
    assert ours.beat(None, None, None).heard == Heard(session=THEIRS, counter=4)
    assert hear(ours, heartbeat(heard=OURS))
    assert state_of(ours) == "second_lead"
    assert not hear(ours, heartbeat(heard=OURS)), "it is proven once"


@pytest.mark.parametrize(
    "word",
    [
        pytest.param(said(heartbeat(session=OURS, heard=OURS)), id="our own"),
        pytest.param(said(heartbeat(heard=Session(1763000000, "aaaa"))), id="an echo of an earlier session of ours"),
        pytest.param(said(heartbeat(heard=OURS), Lead(identity=key("thief"))), id="another identity key"),
        pytest.param(Unreadable("junk"), id="no document"),
        pytest.param(opened(LEAD.seal(Typ.RECORD, heartbeat(heard=OURS))), id="another document"),
        pytest.param(opened(LEAD.forged(b"{}", typ="heartbeat")), id="no heartbeat inside"),
    ],
)
def test_f03_what_proves_no_second_lead(word: Envelope | Unreadable) -> None:
    ours = pulse()
    assert not ours.hear(word, 0.0)
    assert not ours.second_lead


def test_f02_heartbeat_of_a_replaced_delegation_proves_nothing() -> None:
    renewed = Pulse(Authority("es-1", LEAD.identity.thumbprint, 2), OURS, 60.0)
    assert not hear(renewed, heartbeat(heard=OURS))
    assert hear(renewed, heartbeat(heard=OURS), by=LEAD.rotated())


def test_take_over_overrules_the_session_that_was_heard_and_no_other() -> None:
    ours = pulse()
    hear(ours, heartbeat(heard=OURS))
    assert ours.heard_number == THEIRS.number
    ours.overrule(ABOVE)
    assert not ours.second_lead
    assert ours.beat(None, None, None).session == ABOVE
    assert not hear(ours, heartbeat(heard=ABOVE))
    assert hear(ours, heartbeat(session=Session(1764000199, "cccc"), heard=ABOVE))


def test_overruling_nobody_changes_nothing() -> None:
    ours = pulse()
    assert ours.heard_number == 0
    ours.overrule(ABOVE)
    assert not ours.second_lead


# A copy that is gone.

EQUAL = Session(OURS.number, "bbbb")
BELOW = Session(OURS.number - 1, "bbbb")


@pytest.mark.parametrize(
    ("theirs", "outlived"),
    [
        pytest.param(THEIRS, True, id="a higher session"),
        pytest.param(EQUAL, True, id="one that began in the same second"),
        pytest.param(BELOW, False, id="a lower session, which nobody prefers"),
    ],
)
def test_f03_a_lead_that_was_no_older_and_fell_silent_is_outlived(theirs: Session, outlived: bool) -> None:  # noqa: FBT001
    ours = pulse()
    hear(ours, heartbeat(theirs), 10.0)
    assert not ours.has_outlived(189.9)
    assert ours.has_outlived(190.0) is outlived


def test_f03_nobody_is_outlived_who_was_never_heard() -> None:
    assert not pulse().has_outlived(1e9)


def test_f03_the_same_words_again_are_no_sign_of_life_and_new_ones_are() -> None:
    ours = pulse()
    hear(ours, heartbeat(counter=4), 0.0)
    hear(ours, heartbeat(counter=4), 170.0)
    hear(ours, heartbeat(BELOW, counter=9), 175.0)
    assert ours.has_outlived(180.0)
    hear(ours, heartbeat(counter=5), 180.0)
    assert not ours.has_outlived(180.0)


def test_f03_silence_counts_while_one_listens() -> None:
    ours = pulse()
    ours.listen_anew(0.0)
    hear(ours, heartbeat(), 0.0)
    ours.listen_anew(500.0)
    assert not ours.has_outlived(500.0)
    assert ours.has_outlived(680.0)


def test_f03_who_is_proven_alive_is_not_outlived() -> None:
    ours = pulse()
    hear(ours, heartbeat(heard=OURS))
    assert not ours.has_outlived(1e9)


def test_f03_whoever_outlived_a_copy_speaks_above_all_that_it_heard_and_once() -> None:
    ours = pulse()
    hear(ours, heartbeat())
    hear(ours, heartbeat(BELOW))
    assert ours.heard_number == THEIRS.number
    ours.speak_in(ABOVE)
    assert ours.beat(None, None, None).session == ABOVE
    hear(ours, heartbeat(counter=5), 500.0)
    assert not ours.has_outlived(1e9)
    assert hear(ours, heartbeat(heard=OURS, counter=6)), "it lives after all, and has heard us in this start"


def test_f02_a_thief_of_the_key_does_not_use_up_the_numbers_of_sessions() -> None:
    ours = pulse()
    hear(ours, heartbeat(Session(HIGHEST + 1, "eeee")))
    assert not ours.has_outlived(1e9)
    assert ours.heard_number == 0
    hear(ours, heartbeat(Session(HIGHEST, "eeee")))
    assert ours.has_outlived(1e9)
    assert ours.heard_number == HIGHEST


def test_finding_names_the_way_out() -> None:
    assert SECOND_LEAD["remedies"] == [{"tool": "propagator", "commands": ["propagator take-over"]}]


def test_f03_the_last_heartbeat_of_each_of_two_sessions_is_kept_whatever_their_order() -> None:
    trail = Trail()
    assert (trail.last, trail.heartbeats) == (None, ())
    for session, raw in ((THEIRS, b"a"), (OURS, b"b"), (THEIRS, b"c"), (ABOVE, b"d"), (THEIRS, b"e")):
        trail.heard(heartbeat(session=session), raw)
        assert trail.last == session
    assert trail.heartbeats == ("d", "e")


def test_f03_the_session_that_is_followed_is_kept_whatever_lower_ones_come() -> None:
    """The lead that outlived it, and was restarted with its clock behind, has to see it."""
    trail = Trail()
    for session, raw in ((ABOVE, b"a"), (BELOW, b"b"), (OURS, b"c")):
        trail.heard(heartbeat(session=session), raw)
    assert trail.heartbeats == ("a", "c")
    assert trail.last == OURS
