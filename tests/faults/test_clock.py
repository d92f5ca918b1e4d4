"""Clocks that are wrong, and clocks that are put right in mid-flight (F36): the agents' own, by libfaketime."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.acceptance.site import eventually
from tests.faults.clock import NOW, TEN_YEARS_AHEAD, Clock

if TYPE_CHECKING:
    from tests.acceptance.site import Server, Site


def name_of(server: Server) -> str:
    return str(server.record()["registration"]["site"]["name"])


def sessions(lead: Server) -> list[int]:
    """The numbers of the sessions that the shadows were heard in last."""
    return [int(row["session"].split("-")[0]) for row in lead.query("SELECT session FROM member ORDER BY id")]


def revision_of(lead: Server) -> int:
    return int(lead.status().record["version"].split(".")[3])


def test_f36_shadows_in_1970_and_in_ten_years_hold_what_their_lead_says(site: Site) -> None:
    lead, past, future = site.settled()
    Clock(past, "@1970-01-01 00:00:10")
    Clock(future, TEN_YEARS_AHEAD)
    site.start(lead, past, future)
    lead.wait_rows(as_1="in_sync", as_2="in_sync")

    lead.register(site.registration("Harbour House"))

    eventually(lambda: {name_of(past), name_of(future)} == {"Harbour House"}, "both follow")
    lead.wait_rows(as_1="in_sync", as_2="in_sync")
    years = [int(shadow.record()["stored_at"][:4]) for shadow in (past, future)]
    assert (years[0], years[1] > years[0] + 60) == (1970, True), "the clocks were wrong, or this proves nothing"
    before = sessions(lead)
    for shadow in (past, future):
        shadow.stop()
    Clock(past, NOW)  # and back from ten years ahead to 1970: its session still goes up
    Clock(future, "@1970-01-01 00:00:10")
    site.start(past, future)
    lead.register(site.registration("Quay House"))
    lead.wait_rows(as_1="in_sync", as_2="in_sync")
    assert {name_of(past), name_of(future)} == {"Quay House"}
    assert all(after > earlier for after, earlier in zip(sessions(lead), before, strict=True))
    for shadow in (past, future):
        assert [line["before"]["site"]["name"] for line in shadow.history()[:2]] == ["Harbour House", "Riverside House"]


def test_f36_a_clock_that_jumps_in_mid_flight_disturbs_nobody_and_deletes_nothing(site: Site) -> None:
    lead, shadow, _ = site.settled()
    lead.set("heartbeat_s", "10")  # half a minute of silence: no busy machine is taken for it
    clocks = [Clock(server) for server in (lead, shadow)]
    site.start(lead, shadow)
    shadow.wait_state("in_sync")  # the row may be that of the last run
    lead.wait_rows(as_1="in_sync")
    connected = len(shadow.events("shadow.connected"))
    settled = len(shadow.events("shadow.state_changed"))  # it may have waited for a lead that was slow to start
    kept = [server.history() for server in (lead, shadow)]
    revision = revision_of(lead)
    for number, time in enumerate((TEN_YEARS_AHEAD, "-1h", "@1970-01-01 00:00:10", NOW)):
        for clock in clocks:
            clock.set(time)
        lead.register(site.registration(f"House {number}"))
        eventually(lambda number=number: name_of(shadow) == f"House {number}", f"the change after {time} arrives")  # type: ignore[misc]
    lead.wait_rows(as_1="in_sync")
    assert len(shadow.events("shadow.connected")) == connected, "no connection was given up"
    states = [event["state"] for event in shadow.events("shadow.state_changed")[settled:]]
    assert "stale" not in states, "silence is counted by the monotonic clock"
    for server, before in zip((lead, shadow), kept, strict=True):
        assert server.history()[-len(before) :] == before, "what was written down is still there"
    assert revision_of(lead) == revision + 4
