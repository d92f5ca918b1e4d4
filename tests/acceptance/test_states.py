"""`status` as a table and as JSON, with its exit code, in each state that a server can be in: from real processes."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

from tests.acceptance.site import Server, Status, eventually

if TYPE_CHECKING:
    from tests.acceptance.site import Site

KEYS = {
    "": "schema verdict server role agent record uplink downlink problems at",
    "server": "id name kind system_id",
    "agent": "running pid since version",
    "record": "origin pending version hash stored_at path detached_from registration",
    "uplink": "lead address connected state since last_heard refusal finding",
    "downlink": "broker state finding listening shadows roster",
}
ROW = "id name kind state version hash stored_at connected last_heard refusal finding upstream downlink"


def shown(server: Server, code: int, *words: str) -> Status:
    """Look at both forms: they agree on the exit code, the JSON keeps its promise, the table has these words."""
    status, table = server.status(), server.ask("status")
    assert (status.code, table.code, table.err) == (code, code, ""), (status.problems, table)
    assert status.json["verdict"] == ("ok" if code == 0 else "problem")
    assert bool(status.json["problems"]) == (code == 1)
    assert ("Problem: " in table.out, "Try: " in table.out) == (code == 1, code == 1)
    for part, names in KEYS.items():
        table_of: dict[str, Any] | None = status.json[part] if part else status.json
        assert table_of is None or set(names.split()) <= table_of.keys()
    for row in (status.json["downlink"] or {"roster": []})["roster"]:
        assert set(ROW.split()) <= row.keys()
    for word in words:
        assert word in table.out, table.out
    return status


def test_status_without_a_state_cannot_tell(site: Site) -> None:
    nowhere = site.directory / "nowhere"
    said = site.ask("status", "--json", "--state-dir", nowhere)
    assert (said.code, said.json["verdict"], said.json["server"]) == (3, "unknown", None)
    for words in (("status",), ("record",), ("history",), ("detach",), ("register", site.registration("A"))):
        said = site.ask(*words, "--state-dir", nowhere)
        assert (said.code, said.out) == (3, ""), words
        assert "no state in" in said.err
        assert "Try: propagator init" in said.err


def test_status_with_a_bad_configuration_is_wrong_usage(site: Site) -> None:
    bad = site.directory / "bad.toml"
    bad.write_text('state_dir = "/nowhere\n')
    for file, text in ((bad, "line 1"), (site.directory / "none.toml", "does not exist")):
        for words in (("status",), ("status", "--json")):
            said = site.ask(*words, "--config", file)
            assert (said.code, said.out) == (2, "")
            assert text in said.err
            assert "Try: " in said.err


def test_a_stand_alone_server_is_ok(site: Site) -> None:
    server = site.server("es-9", "standalone")
    status = shown(server, 0, "standalone", "none")
    assert status.json["role"] == "standalone"
    server.register(site.registration("Riverside House"))
    shown(server, 0, "Riverside House", "registered here")


def test_a_lead_and_its_shadow_in_sync_are_ok_until_the_agent_is_dead(site: Site) -> None:
    lead, shadow, other = site.settled()
    site.start(lead, shadow, other)
    shadow.wait_state("in_sync")
    lead.wait_rows(as_1="in_sync", as_2="in_sync")
    status = shown(lead, 0, "lead", "Riverside House", "as-1", "yes", "2: 2 in sync")
    assert (status.downlink["state"], status.downlink["broker"]) == ("ok", "embedded")
    assert status.downlink["listening"] == [f"127.0.0.1:{site.ports[0]}"]
    assert status.json["agent"]["pid"] == (lead.agent and lead.agent.pid)
    uplink = shown(shadow, 0, "follows es-1: in sync, online", f"127.0.0.1:{site.ports[0]}").uplink
    assert (uplink["state"], uplink["connected"], uplink["refusal"], uplink["finding"]) == ("in_sync", True, None, None)
    assert uplink["last_heard"]

    shadow.kill()
    other.stop()
    for dead in (shadow, other):
        status = shown(dead, 1, "not running", "Try: systemctl start propagator")
        assert (status.json["agent"]["running"], status.uplink["connected"]) == (False, False)
    eventually(lambda: not (lead.status().row("as-1") or {})["connected"], "as-1 is not online")
    shown(lead, 0, "as-1    no")  # holding the registration and being online are two facts (R19)
    lead.kill()
    shown(lead, 1, "not running")


def test_a_lead_without_a_registration_is_a_problem_on_both_sides(site: Site) -> None:
    lead, shadow = site.lead(), site.shadow()
    site.start(lead, shadow)
    status = shown(lead, 1, "has no registration", "Try: propagator register FILE")
    assert (status.downlink["state"], status.json["record"]) == ("ok", None)
    unattached = shown(shadow, 1, "unattached", "propagator invite as-1")
    assert (unattached.uplink["state"], unattached.uplink["lead"]) == ("unattached", None)

    site.attach(shadow, lead)
    shadow.wait_state("lead_unregistered")
    assert shown(shadow, 1, "has no registration yet").uplink["state"] == "lead_unregistered"
    row = lead.wait_rows(as_1="lead_unregistered").row("as-1") or {}
    assert row["connected"]
    assert shown(lead, 1).problems.count("|") == 1  # one cause, not a second time as a symptom


def test_a_paused_lead_says_so_and_keeps_the_pairs(site: Site) -> None:
    lead, shadow, _ = site.settled()
    lead.set("paused", "true")
    site.start(lead, shadow)
    shadow.wait_state("in_sync")
    assert shown(lead, 0, "paused").downlink["state"] == "paused"
    assert "not yet published" in lead.register(site.registration("Harbour House"))
    assert shown(lead, 0, "not published yet").record["pending"]
    assert shadow.record()["registration"]["site"]["name"] == "Riverside House"
    lead.set("paused", "false")
    lead.restart()
    lead.wait_rows(as_1="in_sync")
    assert shadow.record()["registration"]["site"]["name"] == "Harbour House"


def test_f07_a_lead_without_its_database_is_lost_and_publishes_nothing(site: Site) -> None:
    lead, shadow, _ = site.settled()
    for file in lead.state_dir.glob("propagator.db*"):
        file.unlink()
    again = lead.ask("init", "--role", "lead", "--id", "es-1")
    assert again.code == 0, again
    assert "lost its database" in again.err
    site.start(lead, shadow)
    shadow.wait_state("lead_lost")
    status = shown(lead, 1, "lost, embedded broker", "Try: propagator associate --from-field")
    assert (status.downlink["state"], status.downlink["version"]) == ("lost", None)
    followed = shown(shadow, 1, "lead lost", "has lost its record; the last one stays in force")
    assert followed.uplink["state"] == "lead_lost"
    assert followed.record["registration"]["site"]["name"] == "Riverside House"
    assert "not yet published" in lead.register(site.registration("Harbour House"))
    assert shadow.record()["registration"]["site"]["name"] == "Riverside House"


def test_f12_f38_a_lead_that_falls_silent_is_stale_and_its_record_stays_in_force(site: Site) -> None:
    """A paused process: its broker, and so the connection, lives on."""
    lead, shadow, _ = site.settled()
    site.start(lead, shadow)
    shadow.wait_state("in_sync")
    assert lead.agent is not None
    lead.agent.send(signal.SIGSTOP)
    shadow.wait_state("stale")
    status = shown(shadow, 1, "stale, online", "no sign of life for 3 heartbeat periods")
    assert (status.uplink["state"], status.uplink["connected"]) == ("stale", True)
    assert status.record["registration"]["site"]["name"] == "Riverside House"
    lead.agent.send(signal.SIGCONT)
    shadow.wait_state("in_sync")
    lead.wait_rows(as_1="in_sync")
    shown(shadow, 0)


def test_r17_a_lead_that_is_gone_is_unreachable_after_three_failed_probes(site: Site) -> None:
    lead, shadow, _ = site.settled()
    site.start(lead, shadow)
    shadow.wait_state("in_sync")
    before = len(shadow.events("shadow.connection_lost"))  # the lead may have been slower to start
    lead.kill()
    shadow.wait_state("unreachable")
    lost = shadow.events("shadow.connection_lost")[before:]
    assert [line["failures"] for line in lost][:3] == [1, 2, 3]
    changed = next(line for line in shadow.events("shadow.state_changed") if line["state"] == "unreachable")
    third = next(line for line in lost if line["failures"] == 3)
    assert changed["timestamp"] >= third["timestamp"]
    eventually(lambda: shadow.events("shadow.diagnosed"), "the agent has found out why")
    status = shown(shadow, 1, "unreachable, not connected", "nothing listens there")
    finding = status.uplink["finding"]
    assert set(finding) >= {"code", "title", "cause", "confidence", "remedies"}
    assert finding["code"] == "PORT_CLOSED"
    assert status.record["registration"]["site"]["name"] == "Riverside House"
    shadow.kill()
    assert shown(shadow, 1, "not running").uplink["state"] == "unreachable"  # what it stored last
    site.start(lead, shadow)
    shadow.wait_state("in_sync")
    shown(shadow, 0)


def test_f34_shadows_that_cannot_take_the_record_over_are_behind_and_a_problem_after_10_s(site: Site) -> None:
    """The database of the one is held by another program; the other is paused."""
    lead, shadow, other = site.settled()
    site.start(lead, shadow, other)
    for server in (shadow, other):
        server.wait_state("in_sync")
    assert other.agent is not None
    with shadow.database() as database:
        database.execute("BEGIN IMMEDIATE")
        other.agent.send(signal.SIGSTOP)
        lead.register(site.registration("Harbour House"))
        assert lead.wait_rows(as_1="behind", as_2="behind").code == 0
        late = eventually(lambda: [status for status in [lead.status()] if status.code], "behind becomes a problem")[0]
        assert "2 shadows fell behind: as-1, as-2" in late.problems
        shown(lead, 1, "no (behind, has ")
        assert shadow.is_running
        assert shadow.record()["registration"]["site"]["name"] == "Riverside House"
        assert "does not answer" in other.status().problems
        assert other.status().code == 1
        database.execute("ROLLBACK")
    other.agent.send(signal.SIGCONT)
    lead.wait_rows(as_1="in_sync", as_2="in_sync")
    shown(lead, 0)
    shown(shadow, 0)


def test_a_device_that_never_reported_is_unknown_and_a_problem_after_3_periods(site: Site) -> None:
    lead, _, _ = site.settled()
    lead.start()
    shadow = site.newcomer()
    site.attach(shadow, lead)  # and its agent is never started
    assert (lead.status().row("as-3") or {})["state"] == "unknown"
    late = eventually(lambda: [status for status in [lead.status()] if status.code], "unknown becomes a problem")[0]
    assert "never reported: as-3" in late.problems
    shown(lead, 1, "not known (unknown)")


def test_a_report_from_before_the_roster_was_lost_is_unconfirmed_until_the_shadow_answers(site: Site) -> None:
    lead, shadow, other = site.settled()
    with lead.database() as database:
        database.execute("UPDATE member SET session = NULL, counter = NULL, confirmed = 0, report = NULL")
    lead.start()  # its broker still has what the shadows said last
    lead.wait_rows(as_1="unconfirmed", as_2="unconfirmed")
    late = eventually(lambda: [status for status in [lead.status()] if status.code], "it becomes a problem")[0]
    assert "2 shadows sent no fresh report: as-1, as-2" in late.problems
    shown(lead, 1, "not known (unconfirmed)")
    site.start(shadow, other)
    lead.wait_rows(as_1="in_sync", as_2="in_sync")
    shown(lead, 0)


def test_a_detached_shadow_is_no_problem_of_its_lead(site: Site) -> None:
    lead, shadow, _ = site.settled()
    site.start(lead, shadow)
    shadow.wait_state("in_sync")
    shadow.do("detach")
    lead.wait_rows(as_1="detached")
    shown(lead, 0, "yes (detached)", "1 detached")
    status = shown(shadow, 1, "unattached", "detached from es-1")
    assert status.record["detached_from"]["lead"] == "es-1"


def test_watch_needs_a_terminal(site: Site) -> None:
    server = site.settled()[0]
    said = server.ask("status", "--watch")
    assert (said.code, said.out) == (2, "")
    assert "--watch" in said.err
