"""The words that are part of the JSON: another program reads them, so none may change in silence."""

from __future__ import annotations

import pytest

from propagator.core import state


def test_the_states_of_a_shadow() -> None:
    assert {str(word) for word in state.State} == {
        *("in_sync", "behind", "refused", "stale", "lead_unregistered", "lead_lost", "withdrawn", "unreachable"),
        *("unconfirmed", "unknown", "detached", "unattached"),
    }


def test_the_reasons_of_a_refusal() -> None:
    assert {str(word) for word in state.Reason} == {
        *("unreadable", "wrong_lead", "second_lead", "revoked_key", "bad_signature", "loop", "rollback", "fork"),
    }


def test_the_states_of_a_downlink() -> None:
    assert {str(word) for word in state.DownlinkState} == {"ok", "paused", "lost", "second_lead", "unattached"}


def test_the_origins_of_a_record() -> None:
    assert {str(word) for word in state.Origin} == {"own", "lead", "code", "portal", "field"}


def test_the_events_of_the_history() -> None:
    assert {str(word) for word in state.Event} >= {
        *("registered", "overwritten", "attached", "detached", "restored", "undone", "withdrawn", "quarantined"),
    }


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("stale", state.State.STALE),
        ("asleep", state.State.UNKNOWN),
        (None, state.State.UNKNOWN),
        ([], state.State.UNKNOWN),
    ],
)
def test_a_word_of_a_newer_program_is_read_as_what_stands_for_it(said: object, read: state.State) -> None:
    assert state.read_word(state.State, said, state.State.UNKNOWN) is read
