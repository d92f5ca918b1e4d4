"""How an uplink stands: no connection hides silence, silence hides what was decided last."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from propagator.core.decide import Refuse
from propagator.core.session import Session
from propagator.core.standing import Standing
from propagator.core.state import Reason, State
from propagator.core.wire import Heartbeat
from tests.unit.builders import ISSUED_AT, v

if TYPE_CHECKING:
    from propagator.core.difference import JsonObject

FINDING: JsonObject = {"code": "tcp-refused"}
ROLLBACK = Refuse(Reason.ROLLBACK, "It is old.", verified=True)
STRANGER = Refuse(Reason.SECOND_LEAD, "It is a stranger's.")


def _beat(written: str | None = "1.4.k7f3.41", period_s: float = 60.0) -> Heartbeat:
    version = None if written is None else v(written)
    return Heartbeat(
        session=Session(5, "aaaa"), counter=1, version=version, hash=None, heard=None, upstream=None, period_s=period_s
    )


def _standing(decided: State = State.IN_SYNC, floor: str | None = "1.4.k7f3.41") -> Standing:
    """An uplink that was reached at 0 s, and heard a heartbeat at 10 s."""
    standing = Standing(floor=None if floor is None else v(floor), decided=decided)
    standing.reached("192.0.2.10:8883", 0.0, ISSUED_AT)
    standing.heard(_beat(), 10.0, ISSUED_AT)
    return standing


def test_what_was_decided_last_is_shown() -> None:
    standing = _standing()
    assert (standing.state(11.0), standing.connected, standing.address) == (State.IN_SYNC, True, "192.0.2.10:8883")
    assert standing.last_heard == ISSUED_AT
    assert _standing(State.WITHDRAWN).state(11.0) is State.WITHDRAWN


def test_nothing_is_known_before_anything_happened() -> None:
    assert Standing().state(0.0) is State.UNKNOWN


@pytest.mark.parametrize(
    ("spoken", "floor", "state"),
    [
        pytest.param("1.4.k7f3.42", "1.4.k7f3.41", State.BEHIND, id="the lead speaks of a later version"),
        pytest.param("1.4.zzzz.41", "1.4.k7f3.41", State.BEHIND, id="the lead speaks of a fork"),
        pytest.param("1.4.k7f3.41", None, State.BEHIND, id="nothing was accepted yet"),
        pytest.param("1.4.k7f3.41", "1.4.k7f3.41", State.IN_SYNC, id="the lead speaks of the version accepted"),
        pytest.param("1.4.k7f3.40", "1.4.k7f3.41", State.IN_SYNC, id="the lead speaks of an earlier one"),
        pytest.param(None, "1.4.k7f3.41", State.LEAD_LOST, id="the lead knows no record"),
    ],
)
def test_a_heartbeat_says_whether_a_shadow_is_behind(spoken: str | None, floor: str | None, state: State) -> None:
    standing = _standing(floor=floor)
    standing.heard(_beat(spoken), 20.0, ISSUED_AT)
    assert standing.state(21.0) is state


def test_without_a_heartbeat_nobody_is_behind() -> None:
    standing = Standing(decided=State.IN_SYNC)
    standing.reached("a:1", 0.0, ISSUED_AT)
    assert standing.state(1.0) is State.IN_SYNC


@pytest.mark.parametrize("period_s", [60.0, 2.0])
def test_f12_three_periods_without_a_heartbeat_are_stale(period_s: float) -> None:
    standing = _standing()
    standing.heard(_beat(period_s=period_s), 100.0, ISSUED_AT)
    assert standing.stale_s == 100.0 + 3 * period_s
    assert standing.state(standing.stale_s - 0.1) is State.IN_SYNC
    assert standing.state(standing.stale_s) is State.STALE
    standing.heard(_beat(period_s=period_s), standing.stale_s, ISSUED_AT)
    assert standing.state(standing.stale_s - 0.1) is State.IN_SYNC


def test_f12_reconnecting_is_no_heartbeat() -> None:
    """A broker that withholds heartbeats cannot hide it by ending the connection now and then."""
    standing = _standing()
    for now_s in range(60, 600, 60):
        standing.lost(FINDING)
        standing.reached("a:1", float(now_s), ISSUED_AT)
    assert standing.state(600.0) is State.STALE


def test_silence_is_counted_from_the_connection_after_a_heartbeat() -> None:
    """After a long outage the lead has its three periods again."""
    standing = _standing()
    standing.lost(FINDING)
    standing.reached("a:1", 10_000.0, ISSUED_AT)
    assert standing.state(10_001.0) is State.IN_SYNC
    assert standing.state(10_180.0) is State.STALE


def test_r17_offline_is_said_after_three_failed_tries() -> None:
    standing = _standing()
    for _ in range(2):
        standing.lost(FINDING)
        assert (standing.state(20.0), standing.finding) == (State.IN_SYNC, None)
    standing.lost(FINDING)
    assert (standing.state(20.0), standing.finding) == (State.UNREACHABLE, FINDING)
    assert standing.state(9999.0) is State.UNREACHABLE
    standing.reached("a:1", 30.0, ISSUED_AT)
    assert (standing.state(31.0), standing.finding, standing.failures) == (State.IN_SYNC, None, 0)


def test_a_diagnosis_outranks_what_the_error_alone_says_until_a_connection_stands() -> None:
    standing = _standing()
    for _ in range(3):
        standing.lost(FINDING)
    standing.find({"code": "LEAD_FIREWALL_DROPS"}, "2026-11-24T12:00:00.000Z")
    standing.lost(FINDING)
    found = {"code": "LEAD_FIREWALL_DROPS", "at": "2026-11-24T12:00:00.000Z", "last_good": ISSUED_AT}
    assert standing.finding == found
    standing.reached("a:1", 30.0, ISSUED_AT)
    after = standing.past
    assert after == {**found, "over_since": ISSUED_AT}
    for _ in range(3):
        standing.lost(FINDING)
    assert standing.finding == FINDING


def test_a_connection_after_a_short_loss_leaves_no_finding_behind() -> None:
    standing = _standing()
    standing.lost(FINDING)
    standing.reached("a:1", 30.0, ISSUED_AT)
    assert standing.past is None


def test_the_leads_own_refused_word_shows_and_a_strangers_does_not() -> None:
    standing = _standing()
    standing.refuse(STRANGER, 20.0, ISSUED_AT)
    assert standing.state(21.0) is State.IN_SYNC
    standing.refuse(ROLLBACK, 20.0, ISSUED_AT)
    assert standing.state(21.0) is State.REFUSED
    standing.heard(_beat("1.4.k7f3.99"), 22.0, ISSUED_AT)
    assert standing.state(23.0) is State.REFUSED


def test_f58_refusals_are_counted_and_written_down_once_a_minute_and_reason() -> None:
    standing = _standing()
    written = [standing.refuse(STRANGER, float(now_s), ISSUED_AT) for now_s in range(0, 120, 10)]
    assert [refused is not None for refused in written] == [number in {0, 6} for number in range(12)]
    assert standing.refuse(ROLLBACK, 119.0, "later") is not None
    assert standing.refusals() == [
        {"reason": Reason.ROLLBACK, "count": 1, "text": "It is old.", "last_at": "later"},
        {"reason": Reason.SECOND_LEAD, "count": 12, "text": "It is a stranger's.", "last_at": ISSUED_AT},
    ]
    assert standing.refused[Reason.SECOND_LEAD].unwritten == 12  # whoever writes it down sets it back


def test_the_last_refusal_is_shown() -> None:
    standing = _standing()
    assert standing.refusal() is None
    standing.refuse(STRANGER, 1.0, ISSUED_AT)
    standing.refuse(ROLLBACK, 2.0, "later")
    assert standing.refusal() == {"reason": Reason.ROLLBACK, "text": "It is old.", "at": "later"}
