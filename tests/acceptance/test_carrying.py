"""Provenance: a change taken back, and a record carried by hand (DESIGN §6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.acceptance.site import Server, eventually

if TYPE_CHECKING:
    from tests.acceptance.site import Site


def name_of(server: Server) -> str | None:
    record = server.status().json["record"]
    return None if record is None else str(record["registration"]["site"]["name"])


def test_undo_puts_the_registration_before_in_force_and_publishes_it(site: Site) -> None:
    lead, one, _ = site.settled()
    site.start(lead, one)
    lead.register(site.registration("Next House"))
    eventually(lambda: name_of(one) == "Next House", "the change arrives")
    said = lead.do("undo")
    assert "site.name: Next House → Riverside House" in said
    eventually(lambda: name_of(one) == "Riverside House", "the undo arrives")
    assert lead.history()[0]["event"] == "undone"


def test_undo_of_the_first_registration_withdraws_it_and_shadows_keep_theirs(site: Site) -> None:
    lead, one, _ = site.settled()
    site.start(lead, one)
    lead.do("undo")
    one.wait_state("withdrawn")
    assert name_of(one) == "Riverside House"
    assert name_of(lead) is None
    said = lead.ask("undo")
    assert (said.code, said.out) == (1, "")


def test_undo_on_an_attached_shadow_is_refused_and_names_its_lead(site: Site) -> None:
    _, one, _ = site.settled()
    said = one.ask("undo")
    assert said.code == 1
    assert "es-1" in said.err


def test_record_carried_on_a_stick_is_taken_over_and_its_report_is_shown_unconfirmed(site: Site) -> None:
    lead, one, _ = site.settled()
    lead.start()
    lead.register(site.registration("Islanded House"))
    stick, answer = site.directory / "record.jws", site.directory / "report.jws"
    lead.do("export", stick)
    old = site.directory / "old.jws"
    one.do("export", old)
    assert "Taken over" in one.do("import", stick, "--report", answer)
    assert name_of(one) == "Islanded House"
    assert one.history()[0]["event"] == "overwritten"
    assert "Held already" in one.do("import", stick)
    refused = one.ask("import", old)
    assert (refused.code, refused.out) == (1, "")
    assert "rollback" in refused.err
    lead.do("import", answer)
    row = lead.status().row("as-1")
    assert row is not None
    assert (row["state"], row["version"]) == ("unconfirmed", one.status().record["version"])


def test_import_of_anything_else_is_wrong_usage_and_changes_nothing(site: Site) -> None:
    lead, one, _ = site.settled()
    junk = site.directory / "junk.jws"
    junk.write_text("junk")
    before = one.content()
    for words in (("import", junk), ("import", site.directory / "nothing.jws")):
        said = one.ask(*words)
        assert (said.code, said.out) == (2, "")
    assert one.content() == before
    stick = site.directory / "record.jws"
    lead.do("export", stick)
    assert lead.ask("import", stick).code == 3


def test_export_where_nothing_was_signed_cannot_tell(site: Site) -> None:
    alone = site.server("alone", "standalone")
    said = alone.ask("export")
    assert (said.code, said.out) == (3, "")
