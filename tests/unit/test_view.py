"""The status value: what a row shows, what counts as a problem (every clause of DESIGN §9), and the JSON."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from propagator.core import moment, view
from propagator.core.state import DownlinkState, State
from propagator.core.view import Held, problems

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = dt.datetime(2026, 11, 24, 12, 0, 0, tzinfo=dt.UTC)
CURRENT = Held("1.1.aaaaaa.2", "hash-2")
BEFORE = Held("1.1.aaaaaa.1", "hash-1")
OWN = Held("1.1.aaaaaa.1", "hash-own")


def _ago(seconds: float) -> str:
    return moment.write(NOW - dt.timedelta(seconds=seconds))


def _record() -> view.Record:
    return view.Record(
        origin="own",
        pending=False,
        version=CURRENT.version,
        hash="hash-2",
        stored_at=_ago(100),
        path=(view.Hop("es-1", "thumbprint"),),
        detached_from=None,
        registration={"site": {"name": "Riverside House"}},
        lead=None,
        damaged=False,
    )


def _uplink(state: State = State.IN_SYNC, seconds: float = 3600) -> view.Uplink:
    return view.Uplink(
        lead="es-1",
        address="192.0.2.10:8883",
        connected=True,
        state=state,
        since=_ago(seconds),
        last_heard=_ago(1),
        refusal=None,
        finding=None,
        lead_name="Enterprise Server",
    )


def _row(identifier: str = "as-1", state: State = State.IN_SYNC, seconds: float = 3600) -> view.Row:
    return view.Row(
        id=identifier,
        name="Roof",
        kind="server-device",
        state=state,
        version=CURRENT.version,
        hash=CURRENT.hash,
        stored_at=_ago(100),
        connected=True,
        last_heard=_ago(1),
        refusal=None,
        finding=None,
        upstream=None,
        downlink=None,
        cloned=False,
        since=_ago(seconds),
    )


def _downlink(*rows: view.Row) -> view.Downlink:
    return view.Downlink(
        broker="embedded",
        state=DownlinkState.OK,
        finding=None,
        listening=("[::]:8883",),
        roster=rows,
        version=CURRENT.version,
        hash=CURRENT.hash,
        issued_at=_ago(100),
        lead_connected=True,
    )


def _status(role: str) -> view.Status:
    return view.Status(
        server=view.Server("es-1", "Enterprise Server", "enterprise-server", "SYS-1"),
        role=role,
        agent=view.Agent(running=True, pid=412, since=_ago(3600), version="0.1.0", answers=True),
        record=_record(),
        uplink=None,
        downlink=None,
        at=NOW,
    )


LEAD = replace(_status("lead"), downlink=_downlink(_row()))
SHADOW = replace(_status("shadow"), uplink=_uplink())
RELAY = replace(_status("relay"), uplink=_uplink(), downlink=_downlink(_row()))
ALONE = replace(_status("standalone"), agent=view.Agent(running=False))
DEAD = view.Agent(running=False)


def _following(state: State, seconds: float = 3600, **members: object) -> view.Status:
    return replace(SHADOW, uplink=replace(_uplink(state, seconds), **members))  # type: ignore[arg-type]


def _leading(*rows: view.Row, **members: object) -> view.Status:
    return replace(LEAD, downlink=replace(_downlink(*rows), **members))  # type: ignore[arg-type]


def _unattached(status: view.Status) -> view.Status:
    return replace(status, uplink=replace(_uplink(State.UNATTACHED), lead=None, since=None))


def _texts(status: view.Status) -> list[str]:
    return [problem.text for problem in status.problems]


# What a row shows.


@pytest.mark.parametrize(
    ("reported", "floor", "held", "confirmed", "current", "shown"),
    [
        pytest.param(None, None, None, True, CURRENT, State.UNKNOWN, id="never reported is unknown"),
        pytest.param(
            None, None, None, False, CURRENT, State.UNKNOWN, id="never reported is unknown before unconfirmed"
        ),
        pytest.param(
            State.IN_SYNC,
            CURRENT,
            CURRENT,
            False,
            CURRENT,
            State.UNCONFIRMED,
            id="a word that is not fresh is unconfirmed",
        ),
        pytest.param(
            State.DETACHED,
            BEFORE,
            BEFORE,
            False,
            CURRENT,
            State.UNCONFIRMED,
            id="a goodbye that is not fresh counts no more",
        ),
        pytest.param(State.DETACHED, BEFORE, OWN, True, CURRENT, State.DETACHED, id="who left is not behind"),
        pytest.param(
            State.IN_SYNC, CURRENT, CURRENT, True, CURRENT, State.IN_SYNC, id="who holds the current one is in sync"
        ),
        pytest.param(
            State.IN_SYNC, None, CURRENT, True, CURRENT, State.IN_SYNC, id="without a floor what is held counts"
        ),
        pytest.param(
            State.IN_SYNC, BEFORE, BEFORE, True, CURRENT, State.BEHIND, id="who was in sync with an older one is behind"
        ),
        pytest.param(
            State.IN_SYNC, None, BEFORE, True, CURRENT, State.BEHIND, id="older without a floor is behind, too"
        ),
        pytest.param(
            State.IN_SYNC, CURRENT, OWN, True, CURRENT, State.BEHIND, id="in sync with other content is not believed"
        ),
        pytest.param(
            State.IN_SYNC, CURRENT, None, True, CURRENT, State.BEHIND, id="in sync with nothing is not believed"
        ),
        pytest.param(
            State.IN_SYNC,
            replace(CURRENT, hash="x"),
            CURRENT,
            True,
            CURRENT,
            State.BEHIND,
            id="another hash is another record",
        ),
        pytest.param(State.REFUSED, BEFORE, BEFORE, True, CURRENT, State.REFUSED, id="refused stays refused"),
        pytest.param(State.REFUSED, None, None, True, None, State.REFUSED, id="refused stays refused at a lost lead"),
        pytest.param(
            State.STALE, BEFORE, BEFORE, True, CURRENT, State.BEHIND, id="what it said is older than the record"
        ),
        pytest.param(
            State.STALE, CURRENT, CURRENT, True, CURRENT, State.STALE, id="stale with the current one is stale"
        ),
        pytest.param(
            State.LEAD_UNREGISTERED,
            CURRENT,
            OWN,
            True,
            CURRENT,
            State.LEAD_UNREGISTERED,
            id="the null record was accepted",
        ),
        pytest.param(State.WITHDRAWN, CURRENT, BEFORE, True, CURRENT, State.WITHDRAWN, id="a withdrawal was accepted"),
        pytest.param(State.BEHIND, None, None, True, CURRENT, State.BEHIND, id="fresh from attaching is behind"),
        pytest.param(State.IN_SYNC, CURRENT, CURRENT, True, None, State.UNKNOWN, id="a lost lead cannot say in sync"),
        pytest.param(State.LEAD_LOST, CURRENT, CURRENT, True, None, State.LEAD_LOST, id="a lost lead is told so"),
    ],
)
def test_row_state(
    reported: State | None,
    floor: Held | None,
    held: Held | None,
    *,
    confirmed: bool,
    current: Held | None,
    shown: State,
) -> None:
    assert view.row_state(reported, floor, held, confirmed=confirmed, current=current) is shown


# The exit code: DESIGN §9, clause by clause.


@pytest.mark.parametrize(
    "status",
    [
        pytest.param(LEAD, id="a lead in sync"),
        pytest.param(SHADOW, id="a shadow in sync"),
        pytest.param(RELAY, id="a relay in sync"),
        pytest.param(ALONE, id="a stand-alone server needs no agent"),
        pytest.param(replace(ALONE, record=None), id="a stand-alone server needs no registration"),
        pytest.param(_following(State.BEHIND, 10), id="a shadow behind for 10 s"),
        pytest.param(_following(State.UNKNOWN, 180), id="a shadow unknown for 3 periods"),
        pytest.param(_following(State.UNKNOWN, 1800, period_s=600.0), id="unknown for 3 periods of that lead"),
        pytest.param(_following(State.UNCONFIRMED, 180), id="a shadow unconfirmed for 3 periods"),
        pytest.param(_following(State.DETACHED), id="a shadow that is just leaving"),
        pytest.param(_leading(), id="a lead without shadows"),
        pytest.param(_leading(_row(state=State.DETACHED)), id="a row that left"),
        pytest.param(_leading(_row(state=State.BEHIND, seconds=10)), id="a row behind for 10 s"),
        pytest.param(_leading(_row(state=State.UNKNOWN, seconds=180)), id="a row unknown for 3 periods"),
        pytest.param(_leading(_row(state=State.UNCONFIRMED, seconds=180)), id="a row unconfirmed for 3 periods"),
        pytest.param(
            _leading(_row(state=State.UNKNOWN, seconds=1800), heartbeat_s=600.0),
            id="unknown for 3 of this lead's periods",
        ),
        pytest.param(_leading(_row(), state=DownlinkState.PAUSED), id="a pause that nobody feels"),
        pytest.param(
            _leading(_row(state=State.BEHIND, seconds=5), state=DownlinkState.PAUSED), id="a pause that began just now"
        ),
        pytest.param(
            replace(_leading(_row(), lead_connected=False), agent=replace(LEAD.agent, since=_ago(5))),
            id="a lead that is still connecting",
        ),
        pytest.param(
            replace(SHADOW, agent=replace(SHADOW.agent, answers=False, since=_ago(5))),
            id="an agent that is still starting",
        ),
        pytest.param(
            replace(RELAY, record=None, uplink=_uplink(State.UNKNOWN, 5)), id="a relay that waits for its record"
        ),
    ],
)
def test_status_is_ok_with(status: view.Status) -> None:
    assert _texts(status) == []
    assert (status.verdict, status.exit_code) == ("ok", 0)


@pytest.mark.parametrize(
    ("status", "text", "hint"),
    [
        pytest.param(replace(SHADOW, agent=DEAD), "agent is not running", "systemctl start", id="no agent at a shadow"),
        pytest.param(replace(LEAD, agent=DEAD), "agent is not running", "systemctl start", id="no agent at a lead"),
        pytest.param(replace(RELAY, agent=DEAD), "agent is not running", "systemctl start", id="no agent at a relay"),
        pytest.param(
            replace(_unattached(SHADOW), agent=DEAD),
            "agent is not running",
            "systemctl start",
            id="no agent, no link yet",
        ),
        pytest.param(
            replace(SHADOW, agent=replace(SHADOW.agent, answers=False)),
            "(process 412) does not answer",
            "systemctl restart",
            id="an agent that hangs",
        ),
        pytest.param(
            _following(State.REFUSED), "record that es-1 offers was refused", "on es-1", id="a shadow that refused"
        ),
        pytest.param(_following(State.STALE), "no sign of life", "on es-1: propagator status", id="a stale shadow"),
        pytest.param(
            _following(State.UNREACHABLE), "es-1 cannot be reached", "on es-1: propagator status", id="out of reach"
        ),
        pytest.param(
            _following(State.BEHIND, 10.1), "newer record", "on es-1: propagator status", id="behind for more than 10 s"
        ),
        pytest.param(
            _following(State.BEHIND, -3600),
            "newer record",
            "on es-1: propagator status",
            id="behind since a time to come (F36)",
        ),
        pytest.param(
            _following(State.BEHIND, since=None),
            "newer record",
            "propagator status",
            id="behind since nobody knows when",
        ),
        pytest.param(
            _following(State.UNKNOWN, 181), "not known how", "propagator status", id="unknown for more than 3 periods"
        ),
        pytest.param(
            _following(State.UNCONFIRMED, 181), "not known how", "propagator status", id="unconfirmed for more than 3"
        ),
        pytest.param(
            _following(State.LEAD_UNREGISTERED),
            "has no registration yet",
            "on es-1: propagator register",
            id="its lead unregistered",
        ),
        pytest.param(
            _following(State.LEAD_LOST), "has lost its record", "on es-1: propagator associate", id="its lead lost"
        ),
        pytest.param(
            _following(State.WITHDRAWN), "has withdrawn", "on es-1: propagator register", id="its lead withdrew"
        ),
        pytest.param(_unattached(SHADOW), "not attached", "propagator invite es-1", id="an unattached shadow"),
        pytest.param(_unattached(RELAY), "not attached", "propagator attach TOKEN", id="an unattached relay"),
        pytest.param(
            replace(LEAD, record=None), "This lead has no registration", "propagator register", id="unregistered"
        ),
        pytest.param(
            _leading(state=DownlinkState.LOST),
            "has lost its record",
            "propagator associate --from-field",
            id="a lost lead",
        ),
        pytest.param(
            _leading(state=DownlinkState.SECOND_LEAD), "A second lead", "propagator take-over", id="a second lead"
        ),
        pytest.param(
            _leading(state=DownlinkState.UNATTACHED),
            "no keys for it",
            "propagator init --role lead",
            id="a lead not made",
        ),
        pytest.param(
            _leading(_row(), lead_connected=False), "no connection to its broker", "journalctl", id="no broker"
        ),
        pytest.param(
            _leading(_row(state=State.BEHIND, seconds=10.1)), "1 shadow fell behind: as-1.", "on as-1", id="row behind"
        ),
        pytest.param(
            _leading(_row(state=State.BEHIND, seconds=-60)), "fell behind", "on as-1", id="row behind in time to come"
        ),
        pytest.param(_leading(_row(state=State.REFUSED)), "refused the record: as-1", "on as-1", id="row refused"),
        pytest.param(_leading(_row(state=State.STALE)), "heard nothing from this lead", "on as-1", id="row stale"),
        pytest.param(
            _leading(_row(state=State.UNREACHABLE)), "could not reach this lead", "on as-1", id="row unreachable"
        ),
        pytest.param(
            _leading(_row(state=State.LEAD_LOST)), "found this lead without a record", "on as-1", id="row lost"
        ),
        pytest.param(
            _leading(_row(state=State.LEAD_UNREGISTERED)), "without a registration", "on as-1", id="row unregistered"
        ),
        pytest.param(_leading(_row(state=State.WITHDRAWN)), "this lead withdrew", "on as-1", id="row withdrawn"),
        pytest.param(_leading(_row(state=State.UNKNOWN, seconds=181)), "never reported", "on as-1", id="row unknown"),
        pytest.param(
            _leading(replace(_row(state=State.UNKNOWN, seconds=181), reported="asleep")),
            "1 shadow reported a state that this program does not know: as-1 (asleep).",
            "bring this server to the version",
            id="row of a newer program",
        ),
        pytest.param(
            _leading(_row(state=State.UNCONFIRMED, seconds=181)), "no fresh report", "on as-1", id="row unconfirmed"
        ),
        pytest.param(
            _leading(_row(state=State.UNATTACHED)), "called itself unattached", "on as-1", id="row that says nonsense"
        ),
        pytest.param(
            _leading(replace(_row(), cloned=True)),
            "Two machines answer as as-1",
            "invite as-1 --again",
            id="a clone (F18)",
        ),
        pytest.param(
            _leading(replace(_row(), cloned=True, addresses=("10.1.0.2", "10.1.0.3"))),
            "Two machines answer as as-1, connected from 10.1.0.2 and 10.1.0.3: one is a copy of the other.",
            "invite as-1 --again",
            id="a clone and where it is (F18)",
        ),
        pytest.param(
            _leading(replace(_row(), cloned=True), broker="mqtts://mq.example:8883"),
            "as as-1 (from where, only its external broker knows): one",
            "invite as-1 --again",
            id="a clone at an external broker (F18)",
        ),
        pytest.param(
            _leading(_row(), replace(_row("as-2", State.UNKNOWN), connected=False), connections_at_cap=True),
            "as many connections as it may have, and turns others away.",
            "raise max_connections",
            id="who is kept out is a symptom (F55)",
        ),
        pytest.param(
            _leading(_row(state=State.BEHIND), state=DownlinkState.PAUSED),
            "is paused",
            "paused = false",
            id="a pause felt",
        ),
        pytest.param(
            replace(ALONE, record=replace(_record(), damaged=True)),
            "was damaged",
            "propagator register",
            id="a bit flipped",
        ),
        pytest.param(
            replace(SHADOW, record=replace(_record(), damaged=True, lead="es-1")),
            "was damaged",
            "restart",
            id="one in a copy",
        ),
    ],
)
def test_status_is_a_problem_with(status: view.Status, text: str, hint: str) -> None:
    assert any(text in problem.text and hint in problem.hint for problem in status.problems), status.problems
    assert (status.verdict, status.exit_code) == ("problem", 1)


@pytest.mark.parametrize("state", [state for state in State if state not in {State.IN_SYNC, State.DETACHED}])
def test_every_other_state_is_told_in_the_end(state: State) -> None:
    assert len(_texts(_following(state, 86400))) == 1
    assert len(_texts(_leading(_row(state=state, seconds=86400)))) == 1


# A cause hides its symptoms.


_AGED = [State.BEHIND, State.STALE, State.UNREACHABLE, State.UNKNOWN, State.UNCONFIRMED]


@pytest.mark.parametrize("state", _AGED)
def test_a_dead_agent_hides_what_comes_of_it(state: State) -> None:
    for status in (_following(state), _leading(_row(state=state))):
        assert _texts(replace(status, agent=DEAD)) == ["The agent is not running, so nothing is propagated."]


def test_a_dead_agent_hides_what_was_found_at_the_broker() -> None:
    for status in (_leading(lead_connected=False), _leading(finding=FINDING)):
        assert _texts(replace(status, agent=DEAD)) == ["The agent is not running, so nothing is propagated."]


@pytest.mark.parametrize("state", [State.REFUSED, State.LEAD_UNREGISTERED, State.LEAD_LOST, State.WITHDRAWN])
def test_a_dead_agent_hides_nothing_that_it_did_not_cause(state: State) -> None:
    for status in (_following(state), _leading(_row(state=state))):
        assert len(_texts(replace(status, agent=DEAD))) == 2


def test_an_unattached_shadow_is_told_to_attach_before_to_start_its_agent() -> None:
    texts = _texts(replace(_unattached(SHADOW), agent=DEAD))
    assert ["attached" in text for text in texts] == [True, False]


@pytest.mark.parametrize("state", [DownlinkState.LOST, DownlinkState.SECOND_LEAD])
def test_a_lead_that_announces_nothing_hides_its_shadows(state: DownlinkState) -> None:
    assert len(_texts(_leading(_row(state=State.BEHIND), _row(state=State.LEAD_LOST), state=state))) == 1


@pytest.mark.parametrize("state", [State.LEAD_UNREGISTERED, State.WITHDRAWN])
def test_an_unregistered_lead_hides_the_shadows_that_say_so(state: State) -> None:
    assert len(_texts(replace(_leading(_row(state=state)), record=None))) == 1


@pytest.mark.parametrize("state", _AGED)
def test_a_broken_broker_hides_what_comes_of_it(state: State) -> None:
    assert len(_texts(_leading(_row(state=state), lead_connected=False))) == 1


def test_a_pause_hides_the_shadows_behind_and_no_others() -> None:
    status = _leading(_row(state=State.BEHIND), _row("as-2", State.REFUSED), state=DownlinkState.PAUSED)
    assert _texts(status) == ["Propagation is paused, and shadows are behind.", "1 shadow refused the record: as-2."]


def test_one_problem_names_the_shadows_of_one_state_and_counts_the_rest() -> None:
    rows = [replace(_row(f"as-{number}", State.REFUSED), refusal=view.Refusal("fork", "…")) for number in range(1, 6)]
    assert _texts(_leading(*rows)) == ["5 shadows refused the record: as-1 (fork), as-2 (fork), as-3 (fork), 2 more."]


# Findings and refusals say what to do.


FINDING: dict[str, object] = {
    "code": "PORT_CLOSED",
    "title": "The port is closed",
    "cause": "A firewall on es-1 drops port 8883.",
    "confidence": "certain",
    "remedies": [{"tool": "nft", "commands": ["nft add rule …", "nft list ruleset"]}],
}


@pytest.mark.parametrize(
    "status",
    [
        pytest.param(_following(State.UNREACHABLE, finding=FINDING), id="at the uplink"),
        pytest.param(_leading(_row(), finding=FINDING), id="at the downlink"),
        pytest.param(_leading(state=DownlinkState.SECOND_LEAD, finding=FINDING), id="of a second lead"),
    ],
)
def test_a_finding_is_told_with_its_first_remedy(status: view.Status) -> None:
    assert status.problems == (problems.Problem("A firewall on es-1 drops port 8883.", "nft add rule …"),)


def test_a_row_tells_the_remedy_of_its_finding() -> None:
    status = _leading(replace(_row(state=State.UNREACHABLE), finding=FINDING))  # type: ignore[arg-type]
    assert status.problems == (problems.Problem("1 shadow could not reach this lead: as-1.", "nft add rule …"),)


@pytest.mark.parametrize(
    "finding",
    [
        pytest.param({"title": "T"}, id="without remedies"),
        pytest.param({"title": "T", "remedies": []}, id="with no remedy"),
        pytest.param({"title": "T", "remedies": ["x"]}, id="with a remedy that is none"),
        pytest.param({"title": "T", "remedies": [{"commands": []}]}, id="with a remedy without commands"),
        pytest.param({"title": "T", "remedies": [{"commands": [7]}]}, id="with a command that is none"),
    ],
)
def test_a_finding_is_told_as_far_as_it_goes(finding: object) -> None:
    assert _following(State.UNREACHABLE, finding=finding).problems == (
        problems.Problem("T", "on es-1: propagator status"),
    )


def test_a_finding_of_a_link_in_sync_is_no_problem() -> None:
    assert _following(State.IN_SYNC, finding=FINDING).problems == ()


@pytest.mark.parametrize(
    ("reason", "hint"),
    [
        ("rollback", "on es-1: propagator status"),
        ("fork", "on the lead that shall count: propagator take-over"),
        ("loop", "propagator detach"),
        ("unreadable", "bring this server to the version of es-1"),
        ("a newer {reason}", "on es-1: propagator status"),
    ],
)
def test_a_refusal_is_told_with_its_reason(reason: str, hint: str) -> None:
    status = _following(State.REFUSED, refusal=view.Refusal(reason, "…"))
    assert status.problems == (problems.Problem(f"The record that es-1 offers was refused ({reason}).", hint),)


# The JSON.


def test_json_has_the_fields_of_the_design_first_and_in_order() -> None:
    told = RELAY.as_json()
    server, agent, record, uplink, downlink = (
        told[name] for name in ("server", "agent", "record", "uplink", "downlink")
    )
    assert isinstance(server, dict)
    assert isinstance(agent, dict)
    assert isinstance(record, dict)
    assert isinstance(uplink, dict)
    assert isinstance(downlink, dict)
    assert list(told)[:8] == ["schema", "verdict", "server", "role", "agent", "record", "uplink", "downlink"]
    assert list(server) == ["id", "name", "kind", "system_id"]
    assert list(agent)[:4] == ["running", "pid", "since", "version"]
    assert list(record)[:8] == [
        *("origin", "pending", "version", "hash", "stored_at", "path", "detached_from", "registration")
    ]
    assert list(uplink)[:8] == [*("lead", "address", "connected", "state", "since", "last_heard", "refusal", "finding")]
    assert list(downlink)[:6] == ["broker", "state", "finding", "listening", "shadows", "roster"]
    roster = downlink["roster"]
    assert isinstance(roster, list)
    assert isinstance(roster[0], dict)
    assert list(roster[0])[:13] == [
        *("id", "name", "kind", "state", "version", "hash", "stored_at", "connected", "last_heard", "refusal"),
        *("finding", "upstream", "downlink"),
    ]


def test_json_can_be_written_and_says_what_the_value_says() -> None:
    told = json.loads(json.dumps(_leading(_row(state=State.REFUSED)).as_json()))
    assert (told["schema"], told["verdict"], told["role"], told["uplink"]) == (1, "problem", "lead", None)
    assert told["problems"] == [{"text": "1 shadow refused the record: as-1.", "hint": "on as-1: propagator status"}]
    assert told["at"] == "2026-11-24T12:00:00.000Z"
    assert told["record"]["path"] == [{"id": "es-1", "identity": "thumbprint"}]
    assert told["downlink"]["roster"][0]["state"] == "refused"


def test_json_counts_the_shadows_of_every_state() -> None:
    counts = _downlink(_row(), _row(state=State.BEHIND), _row(state=State.BEHIND)).shadows
    assert list(counts)[:5] == ["total", "in_sync", "behind", "refused", "unreachable"]
    assert (counts["total"], counts["in_sync"], counts["behind"], counts["unconfirmed"]) == (3, 1, 2, 0)
    assert set(counts) == {"total", *State} - {State.UNATTACHED}


def test_json_of_what_cannot_be_read_has_the_same_members() -> None:
    told = view.cannot_tell("There is no state.", "propagator init", NOW)
    assert list(told) == list(SHADOW.as_json())
    assert (told["verdict"], told["record"]) == ("unknown", None)
    assert told["problems"] == [{"text": "There is no state.", "hint": "propagator init"}]


def test_values_are_frozen() -> None:
    for change in _changes():
        with pytest.raises(dataclasses.FrozenInstanceError):
            change()


def _changes() -> list[Callable[[], None]]:
    return [lambda: setattr(LEAD, "role", "x"), lambda: setattr(LEAD.agent, "running", False)]


@pytest.mark.parametrize(
    "text", [None, "", "yesterday", "2026-11-24T12:00:00"], ids=["none", "empty", "no time", "without a zone"]
)
def test_when_reads_no_time(text: str | None) -> None:
    assert problems.when(text) is None


def test_when_reads_what_is_stored_and_what_the_lock_says() -> None:
    assert problems.when("2026-11-24T12:00:00.000Z") == problems.when("2026-11-24T12:00:00Z") == NOW
