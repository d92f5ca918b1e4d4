"""Three tiers (DESIGN §1): Enterprise Central > Enterprise Server > server device, from real processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.acceptance.site import Server, eventually

if TYPE_CHECKING:
    from tests.acceptance.site import Site


def central(site: Site, server_id: str = "ec-1") -> Server:
    return site.server(server_id, "lead")


def tower(site: Site, top: Server, relay_id: str, *devices: str) -> tuple[Server, list[Server]]:
    """Make an Enterprise Server below `top`, with devices below itself, all attached and running."""
    relay, shadows = site.server(relay_id, "relay"), [site.shadow(device) for device in devices]
    site.start(relay, *shadows)
    for shadow in shadows:
        site.attach(shadow, relay)
    site.attach(relay, top)
    return relay, shadows


def below(top: Server, relay_id: str) -> dict[str, str]:
    """Give the states that the top's status shows below one Enterprise Server."""
    row = top.status().row(relay_id)
    subtree: dict[str, Any] = (row or {}).get("downlink") or {}
    return {str(device["id"]): str(device["state"]) for device in subtree.get("roster", [])}


def held(server: Server) -> tuple[str, list[str]]:
    record = server.status().record
    return record["hash"], [hop["id"] for hop in record["path"]]


def test_registration_reaches_every_tier_unchanged_and_the_top_shows_the_tree(site: Site) -> None:
    top = central(site)
    top.start()
    one, (a, b) = tower(site, top, "es-1", "as-1", "as-2")
    two, (c, d) = tower(site, top, "es-2", "as-3", "as-4")
    top.register(site.registration("Harbour Campus"))
    top.wait_rows(es_1="in_sync", es_2="in_sync")
    wanted = {"es-1": {"as-1": "in_sync", "as-2": "in_sync"}, "es-2": {"as-3": "in_sync", "as-4": "in_sync"}}
    eventually(lambda: {relay: below(top, relay) for relay in wanted} == wanted, "the top shows the whole tree")
    content, path = held(top)
    assert path == ["ec-1"]
    for relay, devices in ((one, (a, b)), (two, (c, d))):
        assert held(relay) == (content, ["ec-1"])
        for device in devices:
            assert held(device) == (content, ["ec-1", relay.id])
    table = top.do("status")
    assert "└ as-1" in table
    assert "└ as-4" in table
    assert "up to date with the top" in a.do("status")
    assert a.status().uplink["upstream"]["state"] == "in_sync"


def test_device_in_sync_says_that_its_lead_has_lost_the_top(site: Site) -> None:
    top = central(site)
    top.start()
    relay, (device,) = tower(site, top, "es-1", "as-1")
    top.register(site.registration("Harbour Campus"))
    device.wait_state("in_sync")
    top.kill()
    relay.wait_state("unreachable")
    eventually(lambda: device.status().uplink["upstream"]["state"] == "unreachable", "the device hears of it")
    status = device.status()
    assert (status.code, status.uplink["state"]) == (0, "in_sync")


def test_of_a_relay_that_is_not_heard_from_the_subtree_is_unknown(site: Site) -> None:
    top = central(site)
    top.start()
    relay, _ = tower(site, top, "es-1", "as-1")
    eventually(lambda: "as-1" in below(top, "es-1"), "the top knows the device")
    relay.kill()
    eventually(lambda: not below(top, "es-1"), "the top no longer speaks for the device")
    row = top.status().row("es-1")
    assert row is not None
    assert row["downlink"]["shadows"] == {"total": 1, "unknown": 1}


def test_f32_relay_that_was_killed_carries_on_what_it_missed_under_a_version_of_its_own(site: Site) -> None:
    top = central(site)
    top.register(site.registration("Harbour Campus"))
    top.start()
    relay, (device,) = tower(site, top, "es-1", "as-1")
    eventually(lambda: held(device) == (held(top)[0], ["ec-1", "es-1"]), "the device holds the registration")
    before, version = held(device), device.status().record["version"]
    relay.kill()
    top.register(site.registration("Marina Campus"))
    device.wait_state("unreachable")
    assert held(device) == before
    relay.start()
    eventually(lambda: held(device) == (held(top)[0], ["ec-1", "es-1"]), "what was missed arrives")
    assert device.status().record["version"] not in {version, top.status().record["version"]}
    eventually(lambda: below(top, "es-1") == {"as-1": "in_sync"}, "the top sees it in sync")


def test_attaching_a_lead_previews_how_many_servers_below_will_change(site: Site) -> None:
    top, relay = central(site), site.server("es-1", "relay")
    devices = [site.shadow("as-1"), site.shadow("as-2")]
    top.register(site.registration("Harbour Campus"))
    site.start(top, relay, *devices)
    for device in devices:
        site.attach(device, relay)
    said = relay.ask("attach", "-", "--yes", stdin=site.invite(top, "es-1"))
    assert said.code == 0, said
    assert "2 servers below this one will change, too." in said.err


def test_attaching_an_enterprise_server_that_leads_250_devices_previews_all_of_them(site: Site) -> None:
    """The rows are copies of one that is real: 250 processes would show the same number."""
    top, relay, device = central(site), site.server("es-1", "relay"), site.shadow("as-1")
    top.register(site.registration("Harbour Campus"))
    relay.register(site.registration("Riverside House"))
    site.start(top, relay, device)
    site.attach(device, relay)
    relay.wait_rows(as_1="in_sync")
    device.stop()
    relay.stop()
    with relay.database() as database:
        columns = [row["name"] for row in database.execute("PRAGMA table_info(member)") if row["name"] != "id"]
        for number in range(2, 251):
            copied = (
                f"INSERT INTO member (id, {', '.join(columns)}) SELECT ?, {', '.join(columns)} FROM member WHERE id = ?"  # noqa: S608
            )
            database.execute(copied, (f"as-{number}", "as-1"))
    token, before = site.invite(top, "es-1"), relay.content()
    asked = relay.ask("attach", "-", stdin=token)
    assert (asked.code, asked.out) == (2, "")
    (site.directory / "token").write_text(token)
    said = relay.answer("n", "attach", site.directory / "token")
    assert said.code == 1
    assert "250 servers below this one will change, too." in said.err
    assert "site.name: Riverside House → Harbour Campus" in said.err
    assert relay.content() == before
    said = relay.ask("attach", site.directory / "token", "--yes")
    assert said.code == 0, said
    assert "250 servers below this one will change, too." in said.err


def test_f50_relay_moved_between_two_centrals_takes_its_devices_along(site: Site) -> None:
    first, second = central(site, "ec-1"), central(site, "ec-2")
    first.register(site.registration("First Campus"))
    second.register(site.registration("Second Campus"))
    site.start(first, second)
    relay, (device,) = tower(site, first, "es-1", "as-1")
    eventually(lambda: held(device) == (held(first)[0], ["ec-1", "es-1"]), "the device holds the first")
    relay.do("detach")
    eventually(lambda: held(device) == (held(first)[0], ["es-1"]), "the path of a detached relay begins at itself")
    site.attach(relay, second)
    eventually(lambda: held(device) == (held(second)[0], ["ec-2", "es-1"]), "the device holds the second")


def test_f17_tiers_that_form_a_circle_are_refused(site: Site) -> None:
    upper, lower = site.server("es-1", "relay"), site.server("es-2", "relay")
    upper.register(site.registration("Harbour Campus"))
    site.start(upper, lower)
    site.attach(lower, upper)
    lower.wait_state("in_sync")
    before = held(upper)
    site.attach(upper, lower)
    eventually(lambda: upper.status().refused("loop") > 0, "the circle is named")
    assert held(upper)[0] == before[0]


def test_init_adds_the_link_that_is_missing_and_touches_nothing_else(site: Site) -> None:
    lead = site.lead()
    lead.register(site.registration("Harbour Campus"))
    keys = {name: content for name, content in lead.files().items() if "keys" in name}
    lead.do("init", "--role", "relay", "--id", "es-1", "--state-dir", lead.state_dir)
    status = lead.status()
    assert (status.json["role"], status.uplink["state"]) == ("relay", "unattached")
    assert status.record["registration"]["site"]["name"] == "Harbour Campus"
    assert {name: content for name, content in lead.files().items() if "keys" in name} == keys
