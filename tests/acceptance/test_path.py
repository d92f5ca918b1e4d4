"""The main path: a lead's registration reaches its shadows, and everybody tells the truth about it."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.acceptance.site import eventually, is_alive, is_free

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.acceptance.site import Site

TERMINATE_S = 2.0


def test_a_registration_of_the_lead_overwrites_every_shadow(site: Site) -> None:
    lead = site.lead()
    shadows = [site.shadow(device) for device in ("as-1", "as-2", "as-3")]
    shadows[0].register(site.registration("First House"))
    shadows[1].register(site.registration("Second House"))
    site.start(lead, *shadows[:2])
    for shadow in shadows:
        site.attach(shadow, lead)
    shadows[2].start()  # it was attached while its agent was not running
    for shadow in shadows:
        shadow.wait_state("lead_unregistered")
    kept = [shadow.record()["registration"]["site"]["name"] for shadow in shadows[:2]]
    assert kept == ["First House", "Second House"]  # a lead without a registration never wipes one

    lead.register(site.registration("Riverside House"))
    status = lead.wait_rows(as_1="in_sync", as_2="in_sync", as_3="in_sync")

    assert status.code == 0, status.problems
    assert status.json["verdict"] == "ok"
    assert status.downlink["shadows"]["in_sync"] == status.downlink["shadows"]["total"] == 3
    hashes = {status.record["hash"], *(row["hash"] for row in status.downlink["roster"])}
    for shadow in shadows:
        shown = shadow.status()
        assert (shown.code, shown.json["verdict"], shown.uplink["state"]) == (0, "ok", "in_sync"), shown.problems
        assert shown.record["version"] == status.record["version"]
        assert shown.record["registration"]["site"]["name"] == "Riverside House"
        assert [hop["id"] for hop in shown.record["path"]] == ["es-1"]
        hashes.add(shown.record["hash"])
    assert len(hashes) == 1

    overwritten = shadows[0].history()[0]
    assert (overwritten["event"], overwritten["lead"]) == ("overwritten", "es-1")
    assert overwritten["version"] == status.record["version"]
    assert overwritten["fingerprint"]
    assert overwritten["at"]
    assert overwritten["before"]["site"]["name"] == "First House"
    assert overwritten["after"]["site"]["name"] == "Riverside House"
    assert {"path": "site.name", "before": "First House", "after": "Riverside House"} in overwritten["changes"]
    assert shadows[2].history()[0]["before"] is None

    lead.register(site.registration("Riverside House", city='"Bath"'))
    second = lead.wait_rows(as_1="in_sync", as_2="in_sync", as_3="in_sync")

    assert second.record["version"] != status.record["version"]
    for shadow in shadows:
        assert shadow.record()["hash"] == second.record["hash"]
        newest, earlier = shadow.history()[:2]
        assert newest["changes"] == [{"path": "address.city", "before": "Bristol", "after": "Bath"}]
        assert (newest["before"], newest["version"]) == (earlier["after"], second.record["version"])


def test_the_roster_tells_apart_being_online_and_holding_the_registration(site: Site) -> None:
    lead, shadow, _ = site.settled()
    site.start(lead, shadow)
    eventually(lambda: (lead.status().row("as-1") or {})["connected"], "as-1 is online")

    shadow.stop()
    eventually(lambda: not (lead.status().row("as-1") or {})["connected"], "as-1 is not online")
    assert (lead.status().row("as-1") or {})["state"] == "in_sync"

    shadow.start()
    shadow.wait_state("in_sync")
    eventually(lambda: (lead.status().row("as-1") or {})["connected"], "as-1 is online again")
    shadow.kill()  # no goodbye: its will says it
    eventually(lambda: not (lead.status().row("as-1") or {})["connected"], "as-1 is not online")


def test_a_running_agent_publishes_a_change_of_the_command_line_within_200_ms(site: Site) -> None:
    """`register` itself gives the agent 200 ms: it says `published` only once the broker has the version."""
    lead, _, _ = site.settled()
    lead.set("heartbeat_s", "3600")  # no timer can have been at work
    lead.start()
    for name in ("First House", "Second House", "Third House"):
        said = lead.register(site.registration(name))
        version = lead.status().record["version"]
        assert f"published as version {version}" in said
        announced = [event["version"] for event in lead.events("lead.record_announced")]
        assert announced[-1] == version


def test_a_change_that_the_agent_was_not_told_of_is_published_with_the_next_heartbeat(site: Site) -> None:
    """A command that was killed between its write and its poke: nobody else tells the agent."""
    lead, _, _ = site.settled()
    lead.start()
    (lead.state_dir / "control.sock").rename(lead.state_dir / "aside.sock")
    said = lead.register(site.registration("Harbour House"))
    assert "not yet published" in said
    (lead.state_dir / "aside.sock").rename(lead.state_dir / "control.sock")
    eventually(lambda: lead.status().record["version"] is not None, "the change has a version")


def test_a_registration_without_an_agent_is_saved_and_published_at_the_next_start(site: Site) -> None:
    lead, shadow, _ = site.settled()

    said = lead.register(site.registration("Harbour House"))

    assert "published when the agent runs" in said
    assert (lead.status().record["pending"], lead.status().record["version"]) == (True, None)
    site.start(lead, shadow)
    lead.wait_rows(as_1="in_sync")
    assert shadow.record()["registration"]["site"]["name"] == "Harbour House"


def test_sigterm_ends_the_agent_of_a_lead_and_its_broker_within_2_s(site: Site) -> None:
    lead, shadow, _ = site.settled()
    site.start(lead, shadow)
    shadow.wait_state("in_sync")
    broker = lead.broker_pid()
    assert is_alive(broker)

    assert lead.stop() < TERMINATE_S

    assert not is_alive(broker)
    assert all(is_free(port) for port in site.ports)
    assert not (lead.state_dir / "control.sock").exists()


def test_sigterm_ends_the_agent_of_a_shadow_within_2_s(site: Site) -> None:
    lead, shadow, _ = site.settled()
    site.start(lead, shadow)
    shadow.wait_state("in_sync")
    assert shadow.stop() < TERMINATE_S
    shadow.start()
    shadow.wait_state("in_sync")
    lead.kill()
    eventually(lambda: not (shadow.live() or {})["uplink"]["connected"], "as-1 lost its lead")
    assert shadow.stop() < TERMINATE_S  # also with nobody to say goodbye to


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_what_is_held_can_be_read_with_agent_and_broker_dead(site: Site, end: str) -> None:
    lead, shadow, _ = site.settled()
    site.start(lead, shadow)
    lead.wait_rows(as_1="in_sync")
    for server in (lead, shadow):
        ended: Callable[[], object] = {"stop": server.stop, "kill": server.kill}[end]
        ended()

    for server in (lead, shadow):
        status = server.status()
        assert (status.code, status.json["verdict"], status.json["agent"]["running"]) == (1, "problem", False)
        assert "agent is not running" in status.problems
        assert server.record()["registration"]["site"]["name"] == "Riverside House"
        assert server.history()[0]["after"]["site"]["name"] == "Riverside House"
        assert "Riverside House" in server.do("record")
        assert "Riverside House" in server.do("history")
    assert (lead.status().row("as-1") or {})["state"] == "in_sync"
    assert not shadow.status().uplink["connected"]


def test_killing_the_lead_leaves_no_broker_and_no_taken_port(site: Site) -> None:
    lead, _, _ = site.settled()
    lead.start()
    broker = lead.broker_pid()
    lead.kill()
    eventually(lambda: not is_alive(broker), "the broker died with its agent")
    eventually(lambda: all(map(is_free, site.ports)), "the port is free")
    lead.start()


def test_a_killed_broker_is_started_again_by_the_agent(site: Site) -> None:
    lead, shadow, _ = site.settled()
    site.start(lead, shadow)
    shadow.wait_state("in_sync")
    broker = lead.broker_pid()

    os.kill(broker, signal.SIGKILL)

    eventually(lambda: lead.broker_pid() not in {0, broker}, "there is a new broker")
    eventually(lambda: (lead.live() or {})["downlink"]["connected"], "the lead has its broker again")
    lead.register(site.registration("Harbour House"))
    lead.wait_rows(as_1="in_sync")
    assert shadow.record()["registration"]["site"]["name"] == "Harbour House"


def test_a_stand_alone_server_keeps_its_own_registration(site: Site) -> None:
    server = site.server("es-9", "standalone")
    before = server.status()
    assert (before.code, before.json["role"], before.json["record"]) == (0, "standalone", None)
    assert (before.json["uplink"], before.json["downlink"]) == (None, None)

    assert server.register(site.registration("Riverside House")).rstrip().endswith("Saved.")
    assert "nothing was changed" in server.register(site.registration("Riverside House"))
    server.register(site.registration("Harbour House"))

    status = server.status()
    assert (status.code, status.json["verdict"]) == (0, "ok")
    assert (status.record["origin"], status.record["pending"], status.record["version"]) == ("own", False, None)
    assert [line["event"] for line in server.history()] == ["registered", "registered"]
    assert server.history()[0]["before"]["site"]["name"] == "Riverside House"

    server.start()
    assert server.status().json["agent"]["running"]
    server.register(site.registration("Quay House"))
    assert server.stop() < TERMINATE_S
    assert server.record()["registration"]["site"]["name"] == "Quay House"


def test_a_registration_may_come_from_what_record_printed(site: Site) -> None:
    """The JSON of `record --json` has the names of the file."""
    one, other = site.settled()[0], site.server("es-9", "standalone")
    file = site.directory / "record.json"
    file.write_text(one.do("record", "--json"))
    other.register(file)
    assert other.record()["hash"] == one.record()["hash"]
