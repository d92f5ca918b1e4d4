"""`diagnose` at both ends, with real processes: what it shows, that it is quick, and what the agents make of it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.acceptance.site import eventually

if TYPE_CHECKING:
    from tests.acceptance.site import Server, Site

STAGES = ["resolve", "route", "tcp", "tls", "mqtt", "authorised", "record", "heartbeat"]


@pytest.fixture
def pair(site: Site) -> tuple[Server, Server]:
    """A registered lead and a shadow that holds its registration, both running."""
    lead, shadow, _ = site.settled()
    site.start(lead, shadow)
    shadow.wait_state("in_sync")  # connected now, not as the store remembers it
    lead.wait_rows(as_1="in_sync")
    return lead, shadow


def open_for_probes(site: Site, shadow: Server) -> int:
    """Let the device listen for the reverse probe; gives the port."""
    port = site.port()
    shadow.set("probe_listen", f'"127.0.0.1:{port}"')
    shadow.restart()
    eventually(lambda: shadow.events("reverse_probe.listening"), "the device listens for the reverse probe")
    return port


def test_a_healthy_way_is_gone_to_its_end_and_nobody_is_disturbed(pair: tuple[Server, Server]) -> None:
    lead, shadow = pair
    connected = len(shadow.events("shadow.connected"))
    begun_s = time.monotonic()
    said = shadow.ask("diagnose", "--json")
    assert (said.code, said.json["verdict"]["code"], said.json["verdict"]["confidence"]) == (0, "OK", "certain")
    assert [(stage["stage"], stage["result"]) for stage in said.json["stages"]] == [(name, "passed") for name in STAGES]
    assert sum(stage["took_s"] or 0 for stage in said.json["stages"]) < 1.0
    assert time.monotonic() - begun_s < 20
    table = shadow.ask("diagnose")
    assert (table.code, table.err) == (0, "")
    assert "The lead is reached, and its registration arrives." in table.out
    assert len(shadow.events("shadow.connected")) == connected, "the running agent lost its session"
    assert lead.status().row(shadow.id) is not None


def test_f47_without_the_account_the_rest_is_not_checked_and_never_failed(pair: tuple[Server, Server]) -> None:
    _, shadow = pair
    for path in (shadow.state_dir / "keys").glob("uplink-*.json"):
        path.rename(path.with_suffix(".away"))
    said = shadow.ask("diagnose", "--json")
    results = {stage["stage"]: stage["result"] for stage in said.json["stages"]}
    assert (results["tls"], results["mqtt"], results["record"]) == ("passed", "not_checked", "not_checked")
    assert (said.code, said.json["verdict"]["code"]) == (1, "CANNOT_TELL")
    assert "account" in said.json["verdict"]["reason"]
    assert said.json["as_root"]
    for path in (shadow.state_dir / "keys").glob("uplink-*.crt"):
        path.rename(path.with_suffix(".away"))
    said = shadow.ask("diagnose", "--json")
    results = {stage["stage"]: stage["result"] for stage in said.json["stages"]}
    assert (results["tcp"], results["tls"], said.json["verdict"]["code"]) == ("passed", "not_checked", "CANNOT_TELL")


def test_a_stopped_lead_is_named_by_the_shadows_agent_and_once_back_the_lead_knows(pair: tuple[Server, Server]) -> None:
    lead, shadow = pair
    lead.stop()
    eventually(lambda: shadow.events("shadow.diagnosed"), "the shadow's agent has diagnosed its lead")
    status = shadow.status()
    assert (status.uplink["state"], status.uplink["finding"]["code"]) == ("unreachable", "PORT_CLOSED")
    assert status.uplink["finding"]["last_good"] == status.uplink["last_heard"]
    assert "refuses port" in status.problems
    said = shadow.ask("diagnose")
    assert said.code == 1
    assert "PORT_CLOSED, probable" in said.out
    assert "Try: on the lead: propagator status" in said.out
    assert "· record" in said.out
    still = shadow.ask("diagnose", "--recheck")
    assert (still.code, "The case stays open: PORT_CLOSED" in still.out) == (1, True)
    lead.start()
    lead.wait_rows(as_1="in_sync")

    def told() -> bool:
        row = lead.status().row(shadow.id)
        return row is not None and row["finding"] is not None and row["finding"]["over_since"] is not None

    eventually(told, "the lead shows what its shadow found while it was away")
    row = lead.status().row(shadow.id)
    assert row is not None
    assert row["finding"]["code"] == "PORT_CLOSED"
    eventually(lambda: lead.status().code == 0, "what is over is no problem")
    closed = shadow.ask("diagnose", "--recheck")
    assert (closed.code, "The case is closed: PORT_CLOSED" in closed.out) == (0, True), closed
    assert "No case is open" in shadow.do("diagnose", "--recheck")


def test_a_way_that_works_is_drawn_so_that_silence_later_has_a_place(pair: tuple[Server, Server]) -> None:
    lead, shadow = pair
    paths, shown = shadow.state_dir / "paths.json", (lead.state_dir / "keys" / "server.crt").read_text()

    def picture() -> dict[str, Any] | None:
        """Give the picture of this lead's run: what was drawn before shows another certificate."""
        drawn = json.loads(paths.read_text())["ways"].get("127.0.0.1") if paths.exists() else None
        return drawn if drawn is not None and drawn["certificate"].split() == shown.split() else None

    drawn = eventually(picture, "the way to the lead is drawn", timeout_s=60)
    assert (drawn["hops"], drawn["ttl"]) == (1, 64)
    lead.stop()
    said = shadow.ask("diagnose", "--json")
    tcp = next(stage for stage in said.json["stages"] if stage["stage"] == "tcp")
    assert f"on {drawn['at']} it answered from hop 1 with a TTL of 64" in tcp["evidence"]


def test_a_lead_looks_at_its_own_port(pair: tuple[Server, Server]) -> None:
    lead, _ = pair
    said = lead.ask("diagnose", "--watch", "0.2", "--json")
    assert (said.code, said.json["role"], said.json["verdict"]["code"]) == (0, "lead", "LEAD_READY")
    assert said.json["lead"]["listeners"] == ["127.0.0.1"]
    assert [each["id"] for each in said.json["missing"]] == ["as-2"]
    lead.stop()
    said = lead.ask("diagnose", "--watch", "0.2")
    assert said.code == 1
    assert "as-2" in said.out
    assert "NOT_LISTENING, certain" in said.out
    assert "Listens         nowhere" in said.out


def test_f16_a_reverse_probe_joins_what_both_ends_see_and_serves_nobody_else(
    site: Site, pair: tuple[Server, Server]
) -> None:
    lead, shadow = pair
    port = open_for_probes(site, shadow)
    words = ("diagnose", "--device", shadow.id, "--at", f"127.0.0.1:{port}", "--json")
    said = lead.ask(*words)
    assert (said.code, said.json["verdict"]["code"], said.json["shadow"]["code"]) == (0, "OK", "OK"), said
    again = lead.ask(*words)
    assert again.code == 1
    assert "does not probe now (too soon)" in again.err
    stranger, device = site.lead("es-2"), site.newcomer()
    site.start(stranger, device)
    site.attach(device, stranger)
    said = stranger.ask("diagnose", "--device", device.id, "--at", f"127.0.0.1:{port}")
    assert said.code == 1
    assert "does not take this lead for its own" in said.err
    assert shadow.events("reverse_probe.refused")[-1]["caller"] == "127.0.0.1"


def test_a_connected_device_is_asked_over_the_broker(pair: tuple[Server, Server]) -> None:
    lead, shadow = pair
    said = lead.ask("diagnose", "--device", shadow.id, "--json")
    assert (said.code, said.json["shadow"]["code"], said.json["verdict"]["code"]) == (0, "OK", "OK"), said
    assert "is no shadow of this lead" in lead.ask("diagnose", "--device", "nobody").err
    lead.stop()
    assert "No agent answers here" in lead.ask("diagnose", "--device", shadow.id).err


def test_both_views_together_say_that_the_broker_is_stopped(site: Site, pair: tuple[Server, Server]) -> None:
    lead, shadow = pair
    port = open_for_probes(site, shadow)
    lead.wait_rows(as_1="in_sync")
    assert lead.agent is not None
    os.kill(lead.agent.pid, signal.SIGSTOP)  # its supervisor would start another broker
    os.kill(broker := lead.broker_pid(), signal.SIGSTOP)
    try:
        said = lead.ask("diagnose", "--device", shadow.id, "--at", f"127.0.0.1:{port}", "--json")
    finally:
        os.kill(broker, signal.SIGCONT)
        os.kill(lead.agent.pid, signal.SIGCONT)
    assert said.json["shadow"]["code"] == "ACCEPTED_BUT_MUTE", said
    assert (said.json["verdict"]["code"], said.json["verdict"]["confidence"]) == ("SERVICE_STOPPED", "certain")


def test_f16_the_reverse_probe_is_no_door_for_strangers(site: Site, pair: tuple[Server, Server]) -> None:
    _, shadow = pair
    port = open_for_probes(site, shadow)
    for junk in (b"GET / HTTP/1.1\r\n\r\n", b"{}\n", b'{"target": "127.0.0.1:22"}\n', b"x" * 10_000):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as stranger:
            stranger.sendall(junk)
            with contextlib.suppress(ConnectionError):
                assert stranger.recv(100) == b"", "not a word to a stranger"
    assert not shadow.events("reverse_probe.begun")
    eventually(lambda: shadow.events("reverse_probe.unheard"), "a word without end is noted, and no error")
    assert shadow.events("reverse_probe.unheard")[-1]["why"] == "LimitOverrunError"
