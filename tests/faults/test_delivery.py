"""Networks that flap, crawl (F31) and forget (F42), and a crash right behind an acknowledgement (F24)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.acceptance.site import eventually
from tests.faults.link import between

if TYPE_CHECKING:
    from tests.acceptance.site import Server, Site


def name_of(server: Server) -> str:
    return str(server.record()["registration"]["site"]["name"])


def is_connected(shadow: Server) -> bool:
    uplink = (shadow.live() or {}).get("uplink")  # none while the agent begins
    return uplink is not None and bool(uplink["connected"])


def test_f24_a_shadow_that_is_killed_between_the_acknowledgement_and_the_commit_holds_the_record_in_the_end(
    site: Site,
) -> None:
    """MQTT has acknowledged, and would never deliver it again: what counts is the report after the commit."""
    lead, shadow, _ = site.settled()
    site.start(lead, shadow)
    shadow.wait_state("in_sync")  # the row may be that of the last run
    lead.wait_rows(as_1="in_sync")
    before = shadow.record()
    with shadow.database() as lock:
        lock.execute("BEGIN IMMEDIATE")  # the shadow gets the record, and cannot commit
        lead.register(site.registration("Harbour House"))
        eventually(lambda: shadow.events("shadow.store_failed"), "it has the record in hand")
        shadow.kill()
        lock.execute("ROLLBACK")
    assert shadow.record() == before
    assert (lead.status().row("as-1") or {})["version"] == before["version"], "nothing was reported that is not held"

    shadow.start()

    lead.wait_rows(as_1="in_sync")
    assert name_of(shadow) == "Harbour House"


def test_f31_a_link_of_two_seconds_that_flaps_delivers_in_the_end(site: Site) -> None:
    """TLS, MQTT and the subscription are six seconds of going to and fro; nothing may lose patience before."""
    lead, shadow, _ = site.settled()
    with between(shadow, lead) as link:
        link.slow_down(1.0)
        site.start(lead, shadow)
        for number in range(2):
            eventually(lambda: is_connected(shadow), "it is connected")
            lead.register(site.registration(f"House {number}"))
            link.cut()  # with the record on its way
            eventually(lambda: not is_connected(shadow), "it lost the connection")
        lead.wait_rows(as_1="in_sync")
        assert name_of(shadow) == "House 1"
        assert shadow.state == "in_sync"
        shadow.stop()


def test_f42_a_connection_that_a_nat_forgot_is_given_up_and_made_anew(site: Site) -> None:
    """Neither end is told. The silence shows at once, and what the shadow says of it is never acknowledged."""
    lead, shadow, _ = site.settled()
    with between(shadow, lead) as link:
        site.start(lead, shadow)
        shadow.wait_state("in_sync")  # the row may be that of the last run
        lead.wait_rows(as_1="in_sync")
        link.forget()
        lead.register(site.registration("Harbour House"))
        shadow.wait_state("stale")
        assert name_of(shadow) == "Riverside House"
        eventually(lambda: name_of(shadow) == "Harbour House", "a new connection brings it", timeout_s=60)
        lead.wait_rows(as_1="in_sync")
        shadow.stop()


def test_f43_a_connection_that_is_taken_and_then_silent_is_named_and_the_lead_is_found_again(site: Site) -> None:
    """The deadline of the link ends each try; the diagnosis says what was missing, and the record stays."""
    lead, shadow, _ = site.settled()
    with between(shadow, lead) as link:
        site.start(lead, shadow)
        shadow.wait_state("in_sync")  # the row may be that of the last run
        link.swallow(everything=True)
        eventually(lambda: shadow.state == "unreachable", "it gave up on the lead", timeout_s=60)
        assert shadow.status().uplink["finding"]["code"] == "ACCEPTED_BUT_MUTE"
        eventually(lambda: shadow.events("shadow.diagnosed"), "it said why", timeout_s=60)
        assert shadow.status().uplink["finding"]["code"] == "ACCEPTED_BUT_MUTE"
        assert name_of(shadow) == "Riverside House"
        lead.register(site.registration("Harbour House"))
        link.swallow(everything=False)
        eventually(lambda: name_of(shadow) == "Harbour House", "it found its lead again", timeout_s=60)
        shadow.stop()
