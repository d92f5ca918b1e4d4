"""The broker forgets, remembers too well, or is paused (F05, F27, F38): the field heals by itself."""

from __future__ import annotations

import os
import shutil
import signal
from typing import TYPE_CHECKING

import pytest

from tests.acceptance.site import eventually

if TYPE_CHECKING:
    from tests.acceptance.site import Site


def test_f27_a_broker_that_restarts_with_an_older_store_is_brought_up_to_date(site: Site) -> None:
    lead, shadow, other = site.settled()
    store = lead.state_dir / "broker" / "mosquitto.db"
    assert store.exists()
    older = site.directory / "older.db"
    shutil.copyfile(store, older)
    site.start(lead, shadow, other)
    lead.register(site.registration("Harbour House"))
    status = lead.wait_rows(as_1="in_sync", as_2="in_sync")
    lead.stop()
    shutil.copyfile(older, store)
    other.restart()

    lead.start()

    lead.wait_rows(as_1="in_sync", as_2="in_sync")
    for server in (shadow, other):
        server.wait_state("in_sync")
        assert server.record()["version"] == status.record["version"]
        rows = server.query("SELECT version FROM history WHERE event = 'overwritten' ORDER BY id")
        assert rows[-1]["version"] == status.record["version"]


def test_f27_a_broker_that_restarts_with_nothing_is_filled_again(site: Site) -> None:
    lead, shadow, other = site.settled()
    (lead.state_dir / "broker" / "mosquitto.db").unlink()
    site.start(lead, shadow, other)
    shadow.wait_state("in_sync")  # the row may be that of the last run
    lead.wait_rows(as_1="in_sync", as_2="in_sync")
    new = site.newcomer()
    site.attach(new, lead)
    new.start()
    new.wait_state("in_sync")


def test_f26_a_shadow_that_was_off_for_many_changes_takes_the_last_one_over(site: Site) -> None:
    lead, shadow, _ = site.settled()
    lead.start()
    for number in range(3):
        lead.register(site.registration(f"House {number}"))
        lead.restart()
    shadow.start()
    lead.wait_rows(as_1="in_sync")
    assert shadow.record()["registration"]["site"]["name"] == "House 2"
    assert shadow.history()[0]["before"]["site"]["name"] == "Riverside House"


def test_f38_a_paused_broker_is_noticed_and_everybody_comes_back(site: Site) -> None:
    """Connections stand and nothing moves: each end gives up on its own keepalive, and then finds it again."""
    lead, shadow, _ = site.settled()
    site.start(lead, shadow)
    shadow.wait_state("in_sync")  # the row may be that of the last run
    lead.wait_rows(as_1="in_sync")
    broker = lead.broker_pid()
    os.kill(broker, signal.SIGSTOP)
    try:
        said = lead.register(site.registration("Harbour House"))
        assert "not yet published" in said
        shadow.wait_state("stale", "unreachable")
        assert shadow.record()["registration"]["site"]["name"] == "Riverside House"
    finally:
        os.kill(broker, signal.SIGCONT)
    lead.wait_rows(as_1="in_sync")
    assert shadow.record()["registration"]["site"]["name"] == "Harbour House"


@pytest.mark.slow
def test_f38_a_shadow_that_was_paused_beyond_its_keepalive_comes_back(site: Site) -> None:
    lead, shadow, _ = site.settled()
    site.start(lead, shadow)
    shadow.wait_state("in_sync")  # the row may be that of the last run
    lead.wait_rows(as_1="in_sync")
    assert shadow.agent is not None
    shadow.agent.send(signal.SIGSTOP)
    eventually(lambda: not (lead.status().row("as-1") or {})["connected"], "its will was published", timeout_s=90)
    lead.register(site.registration("Harbour House"))
    shadow.agent.send(signal.SIGCONT)
    lead.wait_rows(as_1="in_sync")
    assert shadow.record()["registration"]["site"]["name"] == "Harbour House"
