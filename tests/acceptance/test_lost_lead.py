"""Every way a lead can lose itself (DESIGN §3), from real processes."""

from __future__ import annotations

import shutil
import signal
from functools import partial
from typing import TYPE_CHECKING

from tests.acceptance.site import Server, Status, eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.acceptance.site import Site

DATABASE = ("propagator.db", "propagator.db-wal", "propagator.db-shm")


def name_of(server: Server) -> str:
    return str(server.status().record["registration"]["site"]["name"])


def version_of(server: Server) -> str:
    return str(server.status().record["version"])


def session_heard(shadow: Server) -> str:
    """Give the lead's session that a shadow follows; every other one that is no higher is an old one to it."""
    with shadow.database() as database:
        return str(database.execute("SELECT session FROM trust").fetchone()["session"])


def back_up(lead: Server) -> Path:
    """Copy the database of a stopped lead."""
    kept = lead.state_dir.with_name("backup")
    kept.mkdir()
    for name in DATABASE:
        if (lead.state_dir / name).exists():
            shutil.copy2(lead.state_dir / name, kept / name)
    return kept


def lose(lead: Server) -> None:
    for name in DATABASE:
        (lead.state_dir / name).unlink(missing_ok=True)


def restore(lead: Server, kept: Path) -> None:
    lose(lead)
    for path in kept.iterdir():
        shutil.copy2(path, lead.state_dir / path.name)


def test_f08_lead_restored_from_a_backup_and_untouched_adopts_what_the_field_holds(site: Site) -> None:
    lead, one, other = site.settled()
    kept = back_up(lead)
    site.start(lead, one, other)
    lead.register(site.registration("Later House"))
    lead.wait_rows(as_1="in_sync", as_2="in_sync")
    later = version_of(lead)
    lead.stop()
    restore(lead, kept)
    lead.start()
    eventually(lambda: name_of(lead) == "Later House", "the lead adopts its own later word")
    assert version_of(lead) == later
    assert lead.history()[0]["event"] == "adopted"
    lead.wait_rows(as_1="in_sync", as_2="in_sync")
    lead.register(site.registration("Newest House"))
    eventually(lambda: {name_of(one), name_of(other)} == {"Newest House"}, "the next change reaches every shadow")


def test_f08_backup_that_was_edited_while_all_shadows_were_off_stands_in_a_higher_life(site: Site) -> None:
    lead, one, other = site.settled()
    kept = back_up(lead)
    site.start(lead, one, other)
    lead.register(site.registration("Later House"))
    lead.wait_rows(as_1="in_sync", as_2="in_sync")
    for server in (one, other, lead):
        server.stop()
    restore(lead, kept)
    lead.register(site.registration("Edited House"))
    lead.start()
    site.start(one, other)
    eventually(lambda: {name_of(one), name_of(other)} == {"Edited House"}, "the edit stands at every shadow")
    assert "overruled" in {line["event"] for line in lead.history()}
    assert name_of(lead) == "Edited House"


def test_f07_lead_whose_database_was_deleted_takes_its_registration_back_from_the_field(site: Site) -> None:
    lead, one, other = site.settled()
    site.start(one, other)
    held, system_id = version_of(one), one.status().record["registration"]
    lose(lead)
    lead.do("init", "--role", "lead", "--id", "es-1", "--state-dir", lead.state_dir)
    lead.start()
    one.wait_state("lead_lost")
    status = eventually(lambda: _holding(lead, held), "status says what the field still holds")
    assert (status.code, status.downlink["state"]) == (1, "lost")
    assert "associate --from-field" in status.problems
    assert (one.status().record["version"], one.status().record["registration"]) == (held, system_id)

    asked = lead.ask("associate", "--from-field")
    assert (asked.code, asked.out) == (2, "")
    assert "--yes" in asked.err
    assert lead.answer("n", "associate", "--from-field").code == 1
    assert lead.status().downlink["state"] == "lost"

    said = lead.ask("associate", "--from-field", "--yes")
    assert said.code == 0, said
    assert "2 of 2 shadows agree" in said.err
    lead.wait_rows(as_1="in_sync", as_2="in_sync")
    assert name_of(lead) == "Riverside House"
    assert lead.status().record["origin"] == "field"
    assert lead.history()[0]["event"] == "associated"
    lead.register(site.registration("Next House"))
    eventually(lambda: {name_of(one), name_of(other)} == {"Next House"}, "every shadow follows again")


def test_f07_lead_whose_record_nobody_holds_any_more_begins_again_above_whatever_there_may_be(site: Site) -> None:
    lead, one, _ = site.settled()
    lose(lead)
    lead.do("init", "--role", "lead", "--id", "es-1", "--state-dir", lead.state_dir)
    lead.start()
    refused = lead.ask("rotate")
    assert (refused.code, "register FILE" in refused.err) == (1, True), refused
    said = lead.ask("associate", "--from-field", "--yes")
    assert (said.code, "propagator rotate" in said.err) == (1, True), said
    lead.register(site.registration("Next House"))
    assert lead.status().downlink["state"] == "lost"
    lead.do("rotate")
    eventually(lambda: lead.status().downlink["state"] == "ok", "the lead leads again")
    one.start()  # it was off, and holds a record of the life that was lost
    eventually(lambda: name_of(one) == "Next House", "the shadow follows the lead's new life")


def _holding(lead: Server, version: str) -> Status | None:
    status = lead.status()
    return status if version in status.problems else None


def _is_second_lead(server: Server) -> bool:
    return bool(server.status().downlink["state"] == "second_lead")


def test_revoked_device_stays_revoked_when_the_database_is_lost(site: Site) -> None:
    lead, one, other = site.settled()
    site.start(lead, one, other)
    lead.do("revoke", "as-2")
    lead.stop()
    lose(lead)
    lead.do("init", "--role", "lead", "--id", "es-1", "--state-dir", lead.state_dir)
    lead.start()
    eventually(lambda: lead.status().row("as-1"), "the other one is known again by its membership")
    other.wait_state("unreachable")
    assert lead.status().row("as-2") is None


def test_f27_broker_that_forgot_everything_is_told_again(site: Site) -> None:
    lead, one, other = site.settled()
    for path in (lead.state_dir / "broker").iterdir():
        path.unlink()
    site.start(lead, one, other)
    lead.wait_rows(as_1="in_sync", as_2="in_sync")


def test_f02_renewed_signing_key_reaches_every_shadow_also_one_that_was_off(site: Site) -> None:
    lead, one, other = site.settled()
    site.start(lead, one)
    said = lead.do("rotate")
    assert "The signing key is renewed: version 2.1." in said
    eventually(lambda: version_of(one).startswith("2."), "the shadow follows the new key")
    lead.register(site.registration("Next House"))
    other.start()
    eventually(lambda: (version_of(other), name_of(other)) == (version_of(lead), "Next House"), "the other one, too")
    lead.wait_rows(as_1="in_sync", as_2="in_sync")
    for shadow in (one, other):
        assert shadow.query("SELECT seq FROM trust") == [{"seq": 2}]


def test_rotate_without_the_identity_key_says_what_to_do_and_changes_nothing(site: Site) -> None:
    lead, _, _ = site.settled()
    (lead.state_dir / "keys" / "identity.key").rename(lead.state_dir / "keys" / "elsewhere")
    before = lead.content()
    said = lead.ask("rotate")
    assert (said.code, said.out) == (3, "")
    assert "identity key" in said.err
    assert INVITATIONS in said.err
    assert lead.content() == before


INVITATIONS = "propagator invite as-1 --again; propagator invite as-2 --again"


def refuses_for_its_keys(lead: Server, *words: str) -> None:
    said = lead.ask(*words)
    assert (said.code, said.out) == (3, ""), said
    assert "The keys of lead 'es-1' are gone" in said.err
    assert INVITATIONS in said.err


def test_lead_whose_keys_are_gone_makes_no_new_ones_by_itself_and_names_the_devices(site: Site) -> None:
    """The state directory was restored without its keys."""
    lead, _, _ = site.settled()
    kept = site.directory / "kept"
    (lead.state_dir / "keys").rename(kept)
    before = lead.content()
    for words in (("run",), ("invite", "as-3"), ("invite", "as-1", "--again"), ("rotate",)):
        refuses_for_its_keys(lead, *words)
    status = lead.status()
    assert (status.code, status.downlink["keys_gone"]) == (1, True)
    (problem,) = status.json["problems"]
    assert problem["text"].endswith("as-1, as-2.")
    assert problem["hint"].endswith(f"propagator init --role lead --id es-1, then for each device: {INVITATIONS}")
    assert lead.content() == before
    assert not (lead.state_dir / "keys").exists()

    kept.rename(lead.state_dir / "keys")
    lead.start()
    assert lead.status().problems == ""


def test_lead_of_which_one_key_is_gone_names_it_and_overwrites_none(site: Site) -> None:
    lead, _, _ = site.settled()
    (lead.state_dir / "keys" / "delegation.jws").unlink()
    left = lead.files()
    refuses_for_its_keys(lead, "run")
    assert "delegation.jws" in lead.ask("run").err
    assert lead.ask("init", "--role", "lead", "--id", "es-1").code == 2
    assert lead.files() == left


def test_lead_whose_key_is_damaged_names_its_file(site: Site) -> None:
    lead, _, _ = site.settled()
    (lead.state_dir / "keys" / "signing.key").write_text(
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
    )
    said = lead.ask("run")
    assert (said.code, said.out) == (2, "")
    assert f"{lead.state_dir}/keys/signing.key is damaged" in said.err
    assert "restore it from a backup" in said.err


def test_lead_with_a_new_identity_key_says_whom_to_invite_again_until_each_trusts_it(site: Site) -> None:
    lead, one, other = site.settled()
    (lead.state_dir / "keys" / "identity.key").unlink()
    shutil.rmtree(lead.state_dir / "keys")
    said = lead.ask("init", "--role", "lead", "--id", "es-1")
    assert said.code == 0, said
    for device in ("as-1", "as-2"):
        assert f"    propagator invite {device} --again\n" in said.err
    held = version_of(one)
    site.start(lead, one, other)
    assert needed(lead) == {name: f"propagator invite {name} --again" for name in ("as-1", "as-2")}
    assert lead.status().code == 1
    assert INVITATIONS in lead.status().problems
    assert INVITATIONS in lead.ask("status").out.replace("\n", " ")
    assert (version_of(one), name_of(one)) == (held, "Riverside House")

    site.attach(one, lead, "--again")
    eventually(lambda: needed(lead) == {"as-2": "propagator invite as-2 --again"}, "as-1 trusts the new key")
    site.attach(other, lead, "--again")
    lead.wait_rows(as_1="in_sync", as_2="in_sync")
    assert (needed(lead), lead.status().problems) == ({}, "")
    lead.register(site.registration("Next House"))
    eventually(lambda: {name_of(one), name_of(other)} == {"Next House"}, "both follow the new key")


def needed(lead: Server) -> dict[str, str]:
    """Which devices need a new invitation, and the command for each."""
    return {row["id"]: row["invite"] for row in lead.status().downlink["roster"] if row["invite"] is not None}


def test_keys_of_another_lead_are_refused(site: Site) -> None:
    lead, _, _ = site.settled()
    stranger = site.lead("es-2")
    shutil.rmtree(lead.state_dir / "keys")
    shutil.copytree(stranger.state_dir / "keys", lead.state_dir / "keys")
    before = lead.content()
    for words in (("run",), ("invite", "as-3"), ("rotate",)):
        said = lead.ask(*words)
        assert (said.code, said.out) == (2, ""), said
        assert "holds the keys of lead 'es-2', not of 'es-1'" in said.err
    assert lead.content() == before


def test_f03_second_lead_with_the_same_key_is_named_on_both_and_take_over_settles_it(site: Site) -> None:
    broker = site.broker()
    lead = site.lead(broker=broker)
    lead.register(site.registration("Riverside House"))
    shutil.copytree(lead.state_dir, site.directory / "copy")
    copy = Server(site, "es-1", "lead", "copy")
    copy.config.write_text(lead.config.read_text().replace(str(lead.state_dir), str(site.directory / "copy")))
    site.servers["copy"] = copy
    assert lead.ask("take-over").code == 3
    lead.start()
    assert lead.ask("take-over").code == 1
    copy.launch()
    for server in (lead, copy):
        eventually(partial(_is_second_lead, server), "the copy is named")
        assert server.status().code == 1
    copy.kill()
    lead.do("take-over")
    assert lead.status().downlink["state"] == "ok"


def test_f03_a_lead_outlives_its_copy_and_is_heard_again_without_a_restart(site: Site) -> None:
    """As when a virtual machine is copied: it stands still, and the copy is started, and switched off again."""
    broker = site.broker()
    lead, shadow = site.lead(broker=broker), site.shadow("as-1")
    lead.register(site.registration("Riverside House"))
    site.start(lead, shadow)
    site.attach(shadow, lead, broker=broker)
    lead.wait_rows(as_1="in_sync")
    assert lead.agent is not None
    lead.agent.send(signal.SIGSTOP)
    heard = session_heard(shadow)
    shutil.copytree(lead.state_dir, site.directory / "copy", ignore=shutil.ignore_patterns("control.sock"))
    copy = Server(site, "es-1", "lead", "copy")
    copy.config.write_text(lead.config.read_text().replace(str(lead.state_dir), str(site.directory / "copy")))
    site.servers["copy"] = copy
    copy.launch()
    eventually(lambda: session_heard(shadow) != heard, "the shadow hears the copy")
    copy.kill()
    lead.agent.send(signal.SIGCONT)
    eventually(lambda: lead.events("lead.copy_outlived"), "the lead speaks above its copy")
    shadow.wait_state("in_sync")
    lead.register(site.registration("Riverside Campus"))
    eventually(lambda: name_of(shadow) == "Riverside Campus", "the shadow follows the original")
    assert lead.wait_rows(as_1="in_sync").code == 0
