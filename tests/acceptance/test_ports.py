"""`ports`: the sheet that goes out before anyone travels, from the configuration alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.acceptance.site import Site


def test_a_lead_asks_for_its_port_from_the_devices_network(site: Site) -> None:
    lead = site.lead()
    lead.set("listen", '"[::]:8883"')
    said = lead.ask("ports", "--network", "10.1.0.0/24", "--json")
    assert said.code == 0
    row = said.json["ports"][0]
    assert (row["way"], row["protocol"], row["port"], row["source"]) == ("in", "TCP", 8883, "10.1.0.0/24")
    commands = {each["tool"]: each["commands"][0] for each in said.json["remedies"]}
    assert "ufw" in commands
    assert all("8883" in command and "10.1.0.0/24" in command for command in commands.values())
    sheet = lead.do("ports")
    assert "in    TCP 8883  from the devices' network to this server" in sheet
    assert "back: " in sheet


def test_a_device_asks_for_the_way_out_and_for_nothing_more(site: Site) -> None:
    _, shadow, _ = site.settled()
    said = shadow.ask("ports", "--json")
    assert [(row["way"], row["protocol"]) for row in said.json["ports"]] == [("out", "TCP"), ("both", "ICMP")]
    assert said.json["ports"][0]["destination"] == "127.0.0.1"
    assert said.json["remedies"] == []
    shadow.set("probe_listen", '"[::]:8884"')
    said = shadow.ask("ports", "--json")
    assert [(row["way"], row["port"]) for row in said.json["ports"]][:2] == [
        ("out", said.json["ports"][0]["port"]),
        ("in", 8884),
    ]


def test_a_network_that_is_none_is_told(site: Site) -> None:
    said = site.lead().ask("ports", "--network", "10.1.0.0/99")
    assert (said.code, said.out) == (2, "")
    assert "is no network" in said.err
