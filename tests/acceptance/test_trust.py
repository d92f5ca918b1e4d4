"""Trust: who is let in, by which token, and how it ends."""

from __future__ import annotations

import base64
import json
import re
import shutil
import time
import zlib
from typing import TYPE_CHECKING, Any

import pytest

from tests.acceptance.site import Server, eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.acceptance.site import Said, Site


def test_invite_prints_the_token_alone(site: Site) -> None:
    lead, _, _ = site.settled()
    said = lead.ask("invite", "as-3")
    assert (said.code, said.err) == (0, "")
    assert re.fullmatch(r"propagator1\.[A-Za-z0-9_-]+\.[a-z2-7]{8}\n", said.out)


def test_invite_refuses_whom_it_cannot_invite(site: Site) -> None:
    lead, shadow, _ = site.settled()
    for device, code, text in (
        ("es-1", 2, "this lead itself"),
        ("AS-1", 2, "is no id"),
        ("as_1", 2, "is no id"),
        ("as-1", 1, "attached already"),
    ):
        said = lead.ask("invite", device)
        assert (said.code, said.out) == (code, ""), said
        assert text in said.err
        assert "Try:" in said.err
    assert "--again" in lead.ask("invite", "as-1").err
    said = shadow.ask("invite", "as-3")
    assert said.code == 1
    assert "is no lead" in said.err


def test_attach_shows_what_it_overwrites_and_asks(site: Site) -> None:
    lead, _, _ = site.settled()
    shadow = site.newcomer()
    site.start(lead, shadow)
    token = site.invite(lead, "as-3")
    before = shadow.content(), shadow.files()

    unasked = shadow.ask("attach", "-", stdin=token)
    assert unasked.code == 2
    assert "--yes" in unasked.err
    refused = shadow.answer("n", "attach", token)
    assert refused.code == 1
    assert "site.name: Third House → Riverside House" in refused.err
    assert "Nothing was changed" in refused.err
    assert (shadow.content(), shadow.files()) == before

    accepted = shadow.answer("y", "attach", token)
    assert accepted.code == 0
    assert "Attached to es-1" in accepted.out
    assert "in_sync" in accepted.out
    lead.wait_rows(as_3="in_sync")
    assert shadow.record()["registration"]["site"]["name"] == "Riverside House"


def test_the_token_may_come_from_a_file(site: Site) -> None:
    lead, _, _ = site.settled()
    shadow = site.newcomer()
    lead.start()
    file = site.directory / "token"
    file.write_text(f"  {site.invite(lead, 'as-3')}\n\n")
    said = shadow.ask("attach", file, "--yes")
    assert said.code == 0, said
    assert "once its agent runs" in said.out
    shadow.start()
    shadow.wait_state("in_sync")


def test_f14_each_token_that_is_refused_has_its_own_reason(site: Site) -> None:
    lead, shadow, other = site.settled()
    new = site.newcomer()
    token, again, expired = (
        site.invite(lead, "as-3"),
        *(site.invite(lead, name, "--again") for name in ("as-1", "as-2")),
    )
    past = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() - 60))
    with lead.database() as database:
        database.execute("UPDATE invitation SET expires_at = ? WHERE device = 'as-2'", (past,))

    middle = len(token) // 2
    typo = token[:middle] + ("B" if token[middle] == "A" else "A") + token[middle + 1 :]
    refused(new, typo, "typing error")  # found without a lead
    refused(new, "", "three parts")
    refused(new, again, "for 'as-1'")
    refused(new, token, "nobody listens there")  # the lead is not there
    lead.do("revoke", "as-3")
    lead.start()
    refused(new, token, "was revoked")
    refused(other, expired, "has expired")
    shadow.do("attach", "-", "--yes", stdin=again)
    refused(shadow, again, "used already")


def refused(device: Server, token: str, reason: str) -> Said:
    before = device.content(), (device.state_dir / "uplink.toml").exists()
    said = device.ask("attach", "-", "--yes", stdin=token)
    assert (said.code, said.out) == (1, ""), (reason, said)
    assert reason in said.err, said
    assert "Try: " in said.err
    assert (device.content(), (device.state_dir / "uplink.toml").exists()) == before
    return said


def test_f14_a_token_that_was_replaced_is_worth_nothing(site: Site) -> None:
    lead, _, _ = site.settled()
    shadow = site.newcomer()
    lead.start()
    replaced = site.invite(lead, "as-3")
    token = site.invite(lead, "as-3")
    assert shadow.ask("attach", "-", "--yes", stdin=replaced).code == 1
    shadow.do("attach", "-", "--yes", stdin=token)


def test_f14_the_same_token_with_the_same_key_is_bound_again(site: Site) -> None:
    """A crash between the lead's answer and the device's own files: trying again must do."""
    lead, _, _ = site.settled()
    shadow = site.newcomer()
    lead.start()
    earlier = site.directory / "earlier"
    shutil.copytree(shadow.state_dir, earlier)
    token = site.attach(shadow, lead)
    (won,) = (shadow.state_dir / "keys").glob("uplink-*.json")
    credentials = {**json.loads(won.read_bytes()), "membership": ""}
    trying = earlier / "keys" / "attaching.json"
    trying.touch(mode=0o600)
    trying.write_text(json.dumps(credentials))
    shutil.rmtree(shadow.state_dir)
    earlier.rename(shadow.state_dir)
    bound = lead.query("SELECT key, membership FROM member WHERE id = 'as-3'")

    shadow.do("attach", "-", "--yes", stdin=token)

    assert lead.query("SELECT key, membership FROM member WHERE id = 'as-3'") == bound
    shadow.start()
    lead.wait_rows(as_3="in_sync")
    assert shadow.history()[0]["before"]["site"]["name"] == "Third House"


def test_a_device_attached_to_an_unregistered_lead_keeps_its_own_until_there_is_one(site: Site) -> None:
    lead, shadow = site.lead(), site.shadow()
    shadow.register(site.registration("First House"))
    site.start(lead, shadow)
    said = shadow.ask("attach", "-", "--yes", stdin=site.invite(lead, "as-1"))
    assert said.code == 0, said
    assert "keeps its own until it has" in said.err
    shadow.wait_state("lead_unregistered")
    assert shadow.record()["registration"]["site"]["name"] == "First House"
    assert shadow.record()["origin"] == "own"
    lead.register(site.registration("Riverside House"))
    shadow.wait_state("in_sync")
    assert shadow.record()["registration"]["site"]["name"] == "Riverside House"


def test_f25_a_device_is_attached_anew_with_again(site: Site) -> None:
    lead, shadow, _ = site.settled()
    site.start(lead, shadow)
    key = lead.query("SELECT key FROM member WHERE id = 'as-1'")
    site.attach(shadow, lead, "--again")
    assert lead.query("SELECT key FROM member WHERE id = 'as-1'") != key
    shadow.wait_state("in_sync")
    lead.register(site.registration("Harbour House"))
    lead.wait_rows(as_1="in_sync")
    assert len(list((shadow.state_dir / "keys").glob("uplink-*.json"))) == 1


def test_a_device_moves_to_another_lead(site: Site) -> None:
    lead, shadow, _ = site.settled()
    second = site.lead("es-2")
    second.register(site.registration("Second Site"))
    site.start(lead, second, shadow)
    shadow.wait_state("in_sync")
    said = shadow.ask("attach", "-", "--yes", stdin=site.invite(second, "as-1"))
    assert said.code == 0, said
    assert "follows es-1 now; that ends" in said.err
    second.wait_rows(as_1="in_sync")
    status = shadow.status()
    assert (status.uplink["lead"], status.record["registration"]["site"]["name"]) == ("es-2", "Second Site")


def test_r16_an_attached_shadow_refuses_to_register_and_names_its_lead(site: Site) -> None:
    _, shadow, _ = site.settled()
    before = shadow.content()
    said = shadow.ask("register", site.registration("Own House"))
    assert said.code == 1
    assert "es-1" in said.err
    assert "Try: " in said.err
    assert shadow.content() == before


@pytest.mark.parametrize("running", [True, False], ids=["with the agent running", "with the agent stopped"])
def test_detach_keeps_the_registration_and_the_lead_learns_of_it(site: Site, *, running: bool) -> None:
    lead, shadow, _ = site.settled()
    lead.start()
    if running:
        shadow.start()
        shadow.wait_state("in_sync")
    hash_before = shadow.record()["hash"]

    shadow.do("detach")

    status = shadow.status()
    assert (status.record["hash"], status.record["origin"]) == (hash_before, "lead")
    assert status.record["detached_from"]["lead"] == "es-1"
    assert (status.code, status.uplink["state"]) == (1, "unattached")
    rows = lead.wait_rows(as_1="detached")
    assert rows.code == 0, rows.problems  # nobody has to act on it
    assert shadow.ask("detach").code == 3
    assert shadow.history()[0]["event"] == "detached"
    if not running:
        shadow.start()
    lead.register(site.registration("Harbour House"))
    assert shadow.record()["hash"] == hash_before


def test_f48_what_was_restored_is_overwritten_again_by_an_unchanged_lead(site: Site) -> None:
    lead, shadow, _ = site.settled()
    site.start(lead, shadow)
    shadow.wait_state("in_sync")
    version = lead.status().record["version"]

    assert "in force again" in shadow.do("detach", "--restore")

    own = shadow.record()
    assert (own["registration"]["site"]["name"], own["origin"], own["version"]) == ("First House", "own", None)
    site.attach(shadow, lead, "--again")
    shadow.wait_state("in_sync")
    assert shadow.record()["version"] == version == lead.status().record["version"]
    events = [line["event"] for line in shadow.history()]
    assert events[:4] == ["overwritten", "attached", "restored", "detached"]

    assert "in force again" in shadow.do("detach", "--restore")
    assert shadow.record()["registration"]["site"]["name"] == "First House"


def test_f13_a_revoked_device_is_refused_at_the_broker(site: Site) -> None:
    lead, shadow, other = site.settled()
    site.start(lead, shadow, other)
    lead.wait_rows(as_1="in_sync", as_2="in_sync")

    assert "as-1 is revoked" in lead.do("revoke", "as-1")

    eventually(lambda: not (shadow.live() or {})["uplink"]["connected"], "its session ended")
    assert lead.status().row("as-1") is None
    shadow.wait_state("unreachable")
    status = shadow.status()
    assert (status.code, status.uplink["finding"]["code"]) == (1, "MQTT_REFUSED")
    assert status.record["registration"]["site"]["name"] == "Riverside House"
    lead.register(site.registration("Harbour House"))
    lead.wait_rows(as_2="in_sync")
    assert shadow.record()["registration"]["site"]["name"] == "Riverside House"
    assert lead.ask("revoke", "as-1").code == 1

    site.attach(shadow, lead)  # a new token begins anew, without --again
    lead.wait_rows(as_1="in_sync")


def test_f13_a_device_revoked_without_an_agent_is_refused_from_the_next_start(site: Site) -> None:
    lead, shadow, _ = site.settled()
    said = lead.ask("revoke", "as-1")
    assert said.code == 0
    assert "no agent runs" in said.err
    site.start(lead, shadow)
    shadow.wait_state("unreachable")
    assert shadow.status().uplink["finding"]["code"] == "MQTT_REFUSED"
    assert lead.status().row("as-1") is None


def test_f54_a_photographed_token_does_not_end_the_session_of_the_device(site: Site) -> None:
    lead, _, _ = site.settled()
    shadow = site.newcomer()
    thief = site.server("as-3", "shadow", place="thief")
    site.start(lead, shadow)
    token = site.attach(shadow, lead)
    shadow.wait_state("in_sync")

    refused(thief, token, "used already")
    lead.register(site.registration("Harbour House"))
    lead.wait_rows(as_3="in_sync")

    assert (shadow.live() or {})["uplink"]["connected"]
    assert shadow.events("shadow.connection_lost") == []
    assert len(shadow.events("shadow.connected")) == 1


def test_a_private_file_that_others_can_read_is_refused(site: Site) -> None:
    lead, shadow, _ = site.settled()
    for server, pattern in ((lead, "signing.key"), (lead, "delegation.jws"), (shadow, "uplink-*.json")):
        (path,) = (server.state_dir / "keys").glob(pattern)
        path.chmod(0o640)
        told = refuses_to_use(server, path)
        assert f"chmod 600 {path}" in told
        path.chmod(0o600)
    site.start(lead, shadow)
    shadow.wait_state("in_sync")


def refuses_to_use(server: Server, path: Path) -> str:
    """A lead ends at once; a shadow, which may get another link, says so in its log and follows nobody."""
    if server.role == "lead":
        said = server.ask("run")
        assert said.code == 2, said
        assert str(path) in said.err
        return said.err
    server.start()
    found = eventually(lambda: server.events("agent.uplink_unusable"), "the agent says why it follows nobody")
    assert (server.live() or {})["uplink"] is None
    server.stop()
    return json.dumps(found[-1])


def test_f20_no_secret_reaches_a_log_or_an_answer(site: Site) -> None:
    lead, shadow, other = site.settled()
    site.start(lead, shadow, other)
    token = site.attach(shadow, lead, "--again")
    lead.wait_rows(as_1="in_sync", as_2="in_sync")
    lead.do("revoke", "as-2")
    shadow.ask("attach", "-", "--yes", stdin=token)
    answers = [server.do("history", "--json") + server.ask("status", "--json").out for server in (lead, shadow)]
    answers += [server.ask("status").out for server in (lead, shadow, other)]
    secrets = {token.split(".")[1], inside(token)["secret"], *in_files(lead), *in_files(shadow), *in_files(other)}

    said = [text for text in site.talk if token not in text]  # `invite` prints the token: that is its answer
    logs = [server.log.read_text() for server in site.servers.values()]

    assert len(secrets) > 10
    for text in (*said, *logs, *answers):
        assert not [secret for secret in secrets if secret in text]


def inside(token: str) -> dict[str, Any]:
    body = token.split(".")[1]
    return dict(json.loads(zlib.decompress(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))))


def in_files(server: Server) -> set[str]:
    """Find what is secret on the disk of a server: lines of private keys, passwords and their hashes."""
    found: set[str] = set()
    for path in (server.state_dir / "keys").iterdir():
        text = path.read_text()
        if path.suffix == ".json" and path.name.startswith("uplink-"):
            credentials = json.loads(text)
            found |= {credentials["password"], *key_lines(credentials["device_key"])}
        if path.suffix == ".key":
            found |= key_lines(text)
    passwords = server.state_dir / "broker" / "passwords"
    if passwords.exists():
        found |= {line.split(":", 1)[1] for line in passwords.read_text().splitlines()}
    return found


def key_lines(pem: str) -> set[str]:
    return {line for line in pem.splitlines() if line and not line.startswith("-")}
