"""What the store holds and what a live agent says, made one status. The agent is a lock and a control socket here."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import threading
from typing import TYPE_CHECKING

import pytest

from propagator import control, files, keys, status
from propagator.core import moment
from propagator.core.state import DownlinkState, State
from propagator.core.wire import Membership, Typ
from propagator.store import connection
from tests import states
from tests.states import AT, CURRENT, FIRST, HOUSE, LATER, MILL
from tests.unit.builders import Lead, key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from propagator.core import view
    from propagator.core.difference import JsonObject

NOW = moment.read("2026-11-24T12:00:00.000Z")

UPLINK: JsonObject = {
    "connected": True,
    "address": "198.51.100.7:8883",
    "state": "refused",
    "since": "2026-11-24T11:59:00.000Z",
    "last_heard": "2026-11-24T11:59:59.000Z",
    "refusal": {"reason": "rollback", "text": "It is old.", "at": "2026-11-24T11:59:00.000Z"},
    "finding": None,
    "refusals": [{"reason": "rollback", "count": 2, "text": "It is old.", "last_at": "2026-11-24T11:59:00.000Z"}],
}
DOWNLINK: JsonObject = {"state": "ok", "connected": True, "listening": ["[::]:8883"], "finding": None}


@contextlib.contextmanager
def agent(state_dir: Path, live: JsonObject | None) -> Iterator[None]:
    """Be the agent of a state directory: hold its lock, and answer `live` (None: do not answer at all)."""

    async def answer(_request: JsonObject) -> JsonObject:
        assert live is not None
        return live

    async def serve(ready: threading.Event, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(control.serve(state_dir, {"live": answer}, owner_uid=0))
            await asyncio.sleep(0)
            ready.set()
            await stop.wait()
            task.cancel()

    with files.lock_state_dir(state_dir, version="9.9.9"):
        if live is None:
            yield
            return
        loop, ready, stop = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
        thread = threading.Thread(target=lambda: loop.run_until_complete(serve(ready, stop)))
        thread.start()
        assert ready.wait(10)
        try:
            yield
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join(10)
            loop.close()


def _read(state_dir: Path) -> view.Status:
    return status.read(state_dir, NOW)


def _uplink(read: view.Status) -> view.Uplink:
    assert read.uplink is not None
    return read.uplink


def _downlink(read: view.Status) -> view.Downlink:
    assert read.downlink is not None
    return read.downlink


# The agent is its lock.


def test_an_agent_that_is_not_there_is_not_running(tmp_path: Path) -> None:
    states.shadow(tmp_path)
    (tmp_path / files.LOCK_FILE).write_text('{"pid": 1, "since": "…", "version": "1"}')  # what a crash leaves behind
    assert not _read(tmp_path).agent.running
    assert _read(tmp_path).agent.pid is None


def test_an_agent_that_holds_the_lock_runs_even_if_it_does_not_answer(tmp_path: Path) -> None:
    states.shadow(tmp_path)
    with agent(tmp_path, None):
        read = _read(tmp_path)
    assert (read.agent.running, read.agent.version, read.agent.answers) == (True, "9.9.9", False)
    assert read.agent.pid is not None
    assert not _uplink(read).connected


@pytest.mark.parametrize(
    "live", [{"ok": False, "error": "no"}, {"ok": True}, {"ok": True, "uplink": None}, {"ok": True, "uplink": "x"}]
)
def test_an_agent_that_says_nothing_of_a_link_leaves_it_as_stored(tmp_path: Path, live: JsonObject) -> None:
    states.shadow(tmp_path, state=State.STALE)
    with agent(tmp_path, live):
        read = _read(tmp_path)
    link = _uplink(read)
    assert (link.state, link.connected, link.since) == (State.STALE, False, LATER)
    assert read.agent.answers is live["ok"]


def test_a_socket_without_the_lock_is_nobody_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    states.shadow(tmp_path, state=State.STALE)
    monkeypatch.setattr(control, "ask", lambda *_: {"ok": True, "uplink": UPLINK})
    assert _uplink(_read(tmp_path)).state is State.STALE


# The uplink.


def test_the_uplink_is_as_stored_without_an_agent(tmp_path: Path) -> None:
    states.shadow(tmp_path, state=State.STALE)
    states.change(tmp_path, "UPDATE uplink SET refusal = ?", '{"reason": "fork", "text": "why", "at": "x"}')
    states.change(tmp_path, "UPDATE uplink SET finding = ?, period_s = 5.0", '{"code": "X"}')
    read = _read(tmp_path)
    link = _uplink(read)
    assert read.role == "shadow"
    assert (link.lead, link.lead_name, link.address) == ("es-1", "Enterprise Server", "192.0.2.10:8883")
    assert (link.state, link.since, link.last_heard, link.period_s) == (State.STALE, LATER, LATER, 5.0)
    assert not link.connected
    assert link.refusal is not None
    assert (link.refusal.reason, link.refusal.text, link.finding) == ("fork", "why", {"code": "X"})


def test_the_uplink_is_as_the_agent_says(tmp_path: Path) -> None:
    states.shadow(tmp_path, state=State.STALE)
    states.change(tmp_path, "UPDATE uplink SET finding = ?", '{"code": "OLD"}')
    with agent(tmp_path, {"ok": True, "uplink": UPLINK, "downlink": None}):
        link = _uplink(_read(tmp_path))
    assert (link.connected, link.address, link.state) == (True, "198.51.100.7:8883", State.REFUSED)
    assert (link.since, link.last_heard) == ("2026-11-24T11:59:00.000Z", "2026-11-24T11:59:59.000Z")
    assert link.refusal is not None
    assert (link.refusal.reason, link.refusal.at) == ("rollback", "2026-11-24T11:59:00.000Z")
    assert link.finding is None  # what was found before is over
    assert [(told.reason, told.count) for told in link.refusals] == [("rollback", 2)]


def test_refusals_are_those_of_the_store_and_what_the_agent_counted_since(tmp_path: Path) -> None:
    states.shadow(tmp_path)
    for row in (("rollback", 1), ("fork", 5)):
        states.change(tmp_path, "INSERT INTO refusal VALUES (?, ?, 'stored', 'then')", *row)
    assert [(told.reason, told.count, told.text) for told in _uplink(_read(tmp_path)).refusals] == [
        ("fork", 5, "stored"),
        ("rollback", 1, "stored"),
    ]
    with agent(tmp_path, {"ok": True, "uplink": {**UPLINK, "refusals": [*_told("fork", 3), *_told("rollback", 2), 7]}}):
        refusals = _uplink(_read(tmp_path)).refusals
    assert [(told.reason, told.count, told.text) for told in refusals] == [
        ("fork", 5, "stored"),
        ("rollback", 2, "live"),
    ]


def _told(reason: str, count: int) -> list[JsonObject]:
    return [{"reason": reason, "count": count, "text": "live", "last_at": "now"}]


def test_an_uplink_that_is_only_wanted_is_unattached(tmp_path: Path) -> None:
    states.shadow(tmp_path, attached=False)
    assert _uplink(_read(tmp_path)).state is State.UNATTACHED


def test_a_downlink_that_is_only_wanted_is_unattached(tmp_path: Path) -> None:
    states.lead(tmp_path)
    states.change(tmp_path, "DELETE FROM downlink")
    assert _downlink(_read(tmp_path)).state is DownlinkState.UNATTACHED


def test_a_server_of_its_own_has_no_link(tmp_path: Path) -> None:
    states.standalone(tmp_path)
    read = _read(tmp_path)
    assert (read.role, read.uplink, read.downlink, read.record, read.verdict) == ("standalone", None, None, None, "ok")


def test_both_links_make_a_relay(tmp_path: Path) -> None:
    states.lead(tmp_path)
    states.change(tmp_path, "UPDATE server SET wants_uplink = 1")
    read = _read(tmp_path)
    assert (read.role, _uplink(read).state, _downlink(read).state) == ("relay", State.UNATTACHED, DownlinkState.OK)


def test_a_word_of_a_newer_program_is_unknown(tmp_path: Path) -> None:
    states.shadow(tmp_path)
    states.change(tmp_path, "UPDATE uplink SET state = 'levitating'")
    assert _uplink(_read(tmp_path)).state is State.UNKNOWN


# The downlink and its roster.


def test_a_lead_shows_what_it_announces_and_how_its_broker_is(tmp_path: Path) -> None:
    states.lead(tmp_path)
    with agent(tmp_path, {"ok": True, "uplink": None, "downlink": DOWNLINK}):
        read = status.read(tmp_path, NOW, heartbeat_s=5.0)
    link = _downlink(read)
    assert (link.version, link.hash, link.issued_at) == (CURRENT, HOUSE.hash, AT)
    assert (link.lead_connected, link.listening, link.heartbeat_s) == (True, ("[::]:8883",), 5.0)


def test_a_lead_shows_what_its_broker_alone_knows(tmp_path: Path) -> None:
    states.lead(tmp_path, reports={"as-1": states.report(), "as-2": states.report()})
    states.change(tmp_path, "UPDATE member SET cloned = 1 WHERE id = 'as-2'")
    told: JsonObject = {"connections_at_cap": True, "addresses": {"as-2": ["10.1.0.2", "10.1.0.3"]}}
    with agent(tmp_path, {"ok": True, "uplink": None, "downlink": {**DOWNLINK, **told}}):
        link = _downlink(_read(tmp_path))
    assert link.connections_at_cap is True
    assert [row.addresses for row in link.roster] == [None, ("10.1.0.2", "10.1.0.3")]


@pytest.mark.parametrize("told", [{}, {"connections_at_cap": None, "addresses": None}, {"connections_at_cap": "x"}])
def test_what_no_broker_of_our_own_knows_is_not_told(tmp_path: Path, told: JsonObject) -> None:
    states.lead(tmp_path, reports={"as-1": states.report()})
    with agent(tmp_path, {"ok": True, "uplink": None, "downlink": {**DOWNLINK, **told}}):
        link = _downlink(_read(tmp_path))
    assert (link.connections_at_cap, [row.addresses for row in link.roster]) == (None, [None])


@pytest.mark.parametrize(
    ("live", "connected"),
    [
        pytest.param({"ok": True, "downlink": DOWNLINK}, True, id="the lead is connected"),
        pytest.param({"ok": True, "downlink": {**DOWNLINK, "connected": False}}, False, id="the lead is not connected"),
        pytest.param({"ok": True, "downlink": None}, False, id="the lead is still starting"),
        pytest.param(None, False, id="the agent does not answer"),
    ],
)
def test_a_shadow_is_online_only_as_far_as_the_lead_can_know(
    tmp_path: Path, live: JsonObject | None, *, connected: bool
) -> None:
    states.lead(tmp_path, reports={"as-1": states.report()})
    with agent(tmp_path, live):
        assert [row.connected for row in _downlink(_read(tmp_path)).roster] == [connected]
    assert [row.connected for row in _downlink(_read(tmp_path)).roster] == [False]  # and never without an agent


@pytest.mark.parametrize(
    ("said", "state", "since"),
    [
        pytest.param(states.report(), State.IN_SYNC, LATER, id="in sync since its report"),
        pytest.param(None, State.UNKNOWN, AT, id="unknown since it was attached"),
        pytest.param(states.report(version=FIRST), State.BEHIND, AT, id="behind since the record was issued"),
        pytest.param(states.report(registration=MILL), State.BEHIND, AT, id="another hash is behind"),
        pytest.param(states.report(version=None), State.BEHIND, AT, id="holding its own is behind"),
        pytest.param(states.report(State.REFUSED, FIRST), State.REFUSED, LATER, id="refused since its report"),
        pytest.param(states.report(State.DETACHED, FIRST), State.DETACHED, LATER, id="detached since its report"),
        pytest.param({**states.report(), "state": "levitating"}, State.UNKNOWN, LATER, id="a word of a newer program"),
    ],
)
def test_a_row_shows(tmp_path: Path, said: JsonObject | None, state: State, since: str) -> None:
    states.lead(tmp_path, reports={"as-1": said})
    (row,) = _downlink(_read(tmp_path)).roster
    assert (row.state, row.since) == (state, since)


def test_a_row_is_behind_no_longer_than_it_is_attached_and_than_there_is_that_record(tmp_path: Path) -> None:
    states.lead(tmp_path, reports={"as-1": states.report(version=None)})
    for attached_at, since in ((LATER, LATER), ("2026-01-01T00:00:00.000Z", AT)):
        states.change(tmp_path, "UPDATE member SET attached_at = ?", attached_at)
        (row,) = _downlink(_read(tmp_path)).roster
        assert row.since == since


def test_a_row_that_is_not_confirmed_is_unconfirmed(tmp_path: Path) -> None:
    states.lead(tmp_path, reports={"as-1": states.report()})
    states.change(tmp_path, "UPDATE member SET confirmed = 0, cloned = 1")
    (row,) = _downlink(_read(tmp_path)).roster
    assert (row.state, row.since, row.cloned) == (State.UNCONFIRMED, LATER, True)


def test_a_row_carries_what_its_shadow_said(tmp_path: Path) -> None:
    said: JsonObject = {
        **states.report(State.REFUSED, FIRST),
        "refusal": {"reason": "fork", "text": "why"},
        "finding": {"code": "X"},
    }
    states.lead(tmp_path, reports={"as-1": said})
    (row,) = _downlink(_read(tmp_path)).roster
    assert (row.id, row.name, row.kind) == ("as-1", "Roof [bold]", "server-device")
    assert (row.version, row.hash, row.stored_at, row.last_heard) == (FIRST, HOUSE.hash, LATER, LATER)
    assert row.refusal is not None
    assert (row.refusal.reason, row.refusal.text, row.finding) == ("fork", "why", {"code": "X"})


@pytest.mark.parametrize(
    ("live", "shadows"),
    [
        pytest.param({"ok": True, "downlink": DOWNLINK}, {"total": 4, "in_sync": 4}, id="as it says while it is heard"),
        pytest.param(None, {"total": 4, "unknown": 4}, id="unknown while it is not"),
    ],
)
def test_the_shadows_below_a_relay_are(tmp_path: Path, live: JsonObject | None, shadows: JsonObject) -> None:
    said: JsonObject = {**states.report(), "subtree": {"state": "ok", "shadows": {"total": 4, "in_sync": 4}}}
    states.lead(tmp_path, reports={"es-2": said})
    with agent(tmp_path, live):
        (row,) = _downlink(_read(tmp_path)).roster
    assert row.downlink == {"state": "ok", "shadows": shadows}


def test_a_lost_lead_calls_nobody_in_sync(tmp_path: Path) -> None:
    states.lead(tmp_path, None, {"as-1": states.report()}, state=DownlinkState.LOST)
    link = _downlink(_read(tmp_path))
    assert (link.state, link.version, link.roster[0].state) == (DownlinkState.LOST, None, State.UNKNOWN)


# The record.


def test_the_record_is_hashed_and_not_believed(tmp_path: Path) -> None:
    states.shadow(tmp_path)
    record = _read(tmp_path).record
    assert record is not None
    assert (record.hash, record.damaged, record.registration) == (HOUSE.hash, False, HOUSE.document)
    assert (record.origin, record.lead, record.version) == ("lead", "es-1", CURRENT)
    states.change(tmp_path, "UPDATE record SET registration = ?", MILL.canonical)
    record = _read(tmp_path).record
    assert record is not None
    assert (record.hash, record.damaged) == (MILL.hash, True)


@pytest.mark.parametrize("text", ["{", "[]", "\x00"])
def test_f35_a_record_that_is_no_json_any_more_is_damaged_and_the_rest_is_shown(tmp_path: Path, text: str) -> None:
    states.shadow(tmp_path)
    states.change(tmp_path, "UPDATE record SET registration = ?", text)
    read = _read(tmp_path)
    assert read.record is not None
    assert (read.record.registration, read.record.damaged, read.verdict) == (None, True, "problem")


def test_a_record_says_that_it_was_detached(tmp_path: Path) -> None:
    states.shadow(tmp_path)
    states.change(tmp_path, "DELETE FROM uplink")
    states.change(tmp_path, "UPDATE record SET detached_from = ?", f'{{"lead": "es-1", "version": null, "at": "{AT}"}}')
    record = _read(tmp_path).record
    assert record is not None
    assert record.detached_from == {"lead": "es-1", "version": None, "at": AT}


def test_time_is_handed_in(tmp_path: Path) -> None:
    states.lead(tmp_path, reports={"as-1": None})
    with agent(tmp_path, {"ok": True, "downlink": DOWNLINK}):
        for seconds, verdict in ((180, "ok"), (181, "problem")):
            now = moment.read(AT) + dt.timedelta(seconds=seconds)
            assert status.read(tmp_path, now).verdict == verdict


def test_the_names_of_files_are_those_of_their_owners() -> None:
    assert status._LEAD_KEYS == (keys.SIGNING, keys.DELEGATION)
    assert files.DATABASE == connection.FILE_NAME


def test_a_device_that_was_bound_under_another_identity_key_is_to_be_invited_again(tmp_path: Path) -> None:
    in_sync = ("as-1", "as-2", "as-3")
    states.lead(tmp_path, reports={**dict.fromkeys(in_sync, states.report()), "as-4": states.report(State.DETACHED)})
    before = Lead(identity=key("stranger"))
    for device, lead in {"as-1": before, "as-2": states.LEAD, "as-4": before}.items():
        word = Membership(device=device, key=key(device).thumbprint, serial="0" * 32)
        raw = lead.seal(Typ.MEMBERSHIP, word).decode()
        states.change(tmp_path, "UPDATE member SET membership = ? WHERE id = ?", raw, device)
    link = _read(tmp_path).downlink
    assert link is not None
    assert {row.id: row.invite for row in link.roster} == {
        "as-1": "propagator invite as-1 --again",
        "as-2": None,
        "as-3": None,  # its membership says nothing
        "as-4": None,  # it follows this lead no more
    }


def test_a_lead_without_its_keys_is_to_invite_everybody(tmp_path: Path) -> None:
    states.lead(tmp_path, reports={"as-1": states.report(), "as-2": states.report()})
    (tmp_path / "keys" / keys.SIGNING).unlink()
    read = _read(tmp_path)
    (problem,) = read.problems
    assert problem.text == "The keys that this lead signs with are gone, and no device trusts other ones: as-1, as-2."
    assert "restore keys/" in problem.hint
    assert problem.hint.endswith("propagator invite as-1 --again; propagator invite as-2 --again")
