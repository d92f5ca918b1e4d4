"""The lead's broker is flooded: silent sockets take every connection (F55); hostile traffic of every kind (F46)."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from tests.acceptance.site import Process, eventually
from tests.faults.link import port_of
from tests.soak.hostile import KINDS, read_counts

if TYPE_CHECKING:
    from tests.acceptance.site import Server, Site

ROOT = Path(__file__).resolve().parents[2]
STRANGERS = 12
FULL = "The broker of this lead has as many connections as it may have, and turns others away."
IDLE = 800


def name_of(server: Server) -> str:
    return str(server.record()["registration"]["site"]["name"])


def test_f55_silent_sockets_at_the_cap_keep_out_who_comes_and_nobody_who_is_there(site: Site) -> None:
    lead, shadow, other = site.settled()
    lead.set("max_connections", "10")
    site.start(lead, shadow)
    shadow.wait_state("in_sync")  # the row may be that of the last run
    lead.wait_rows(as_1="in_sync")
    with contextlib.ExitStack() as stack:
        for _ in range(STRANGERS):
            stack.enter_context(socket.create_connection(("127.0.0.1", port_of(lead))))
        other.launch()
        other.wait_state("unreachable")

        lead.register(site.registration("Harbour House"))

        lead.wait_rows(as_1="in_sync")
        assert name_of(shadow) == "Harbour House"
        assert (lead.live() or {})["downlink"]["connected"]
        said = other.ask("diagnose")
        assert said.code == 1
        assert "limit of connections" in said.out
        eventually(lambda: [each["text"] for each in lead.status().json["problems"]] == [FULL], "the lead says so")
        watched = lead.ask("diagnose", "--watch", "0.2", "--json")
        assert (watched.code, watched.json["verdict"]["code"]) == (1, "CONNECTIONS_AT_CAP")
        assert "127.0.0.1" in watched.json["verdict"]["reason"]
    lead.wait_rows(as_1="in_sync", as_2="in_sync")
    assert name_of(other) == "Harbour House"
    eventually(lambda: lead.status().code == 0, "all is well again")


def wait_for_more(counts: Path) -> None:
    """Wait until each kind was tried once more."""
    wanted = read_counts(counts) + Counter(KINDS)
    eventually(lambda: read_counts(counts) >= wanted, "each of them was tried again")


def test_f46_site_stays_in_sync_while_the_port_is_flooded(site: Site) -> None:
    """Connections, idle sockets, slow ones, garbage, oversize packets, wrong passwords, and a device's own junk."""
    lead, shadow, other = site.settled()
    site.start(lead, shadow)
    shadow.wait_state("in_sync")  # the row may be that of the last run
    lead.wait_rows(as_1="in_sync")
    broker, counts = lead.broker_pid(), site.directory / "counts.json"
    lost = len(shadow.events("shadow.connection_lost"))  # while the lead started
    command = [sys.executable, "-m", "tests.soak.hostile", str(port_of(lead)), str(counts), "--idle", str(IDLE)]
    flood = Process(command, site.directory / "hostile.log", cwd=ROOT)
    try:
        for number in range(3):
            wait_for_more(counts)

            lead.register(site.registration(f"House {number}"))

            lead.wait_rows(as_1="in_sync")
            assert name_of(shadow) == f"House {number}"
        other.start()  # and who comes now is let in
        lead.wait_rows(as_1="in_sync", as_2="in_sync")
        eventually(lambda: read_counts(counts)["idle sockets"] >= IDLE, "all idle sockets were opened")
        assert flood.is_running
        assert lead.broker_pid() == broker
        assert len(shadow.events("shadow.connection_lost")) == lost, "who was there stayed connected"
        assert not lead.events("lead.connection_lost")
    finally:
        flood.end()
