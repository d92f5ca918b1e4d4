"""The history, asked as an engineer would: a time, a field, the last of a kind; on real state directories."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.acceptance.site import eventually

if TYPE_CHECKING:
    from tests.acceptance.site import Server, Site


def asked(server: Server, *options: str) -> list[dict[str, Any]]:
    return list(json.loads(server.do("history", "--json", *options)))


def test_history_answers_when_a_field_was_changed_and_by_which_version(site: Site) -> None:
    lead, shadow, _ = site.settled()
    site.start(lead, shadow)
    shadow.wait_state("in_sync")  # else it may miss the first change, and hold both as one
    for name in ("Riverside House", "Harbour House"):
        lead.register(site.registration(name, city='"Bath"'))
        eventually(lambda: shadow.record()["registration"] == lead.record()["registration"], "the change arrives")
    for server in (lead, shadow):
        (named, *_) = asked(server, "--field", "site.name", "-n", "1")
        assert [change["path"] for change in named["changes"]] == ["site.name"]
        assert (named["before"]["site"]["name"], named["after"]["site"]["name"]) == ("Riverside House", "Harbour House")
        assert server.do("history", "--field", "site.name", "-n", "1").count("UTC") == 1
    (moved, *_) = asked(lead, "--field", "address.city")
    assert moved["after"]["address"]["city"] == "Bath"
    version = lead.status().record["version"]
    assert [line["event"] for line in asked(shadow, "--version", version)] == ["overwritten"]


def test_history_answers_for_a_time_and_a_kind(site: Site) -> None:
    server = site.server("es-9", "standalone")
    for name in ("First", "Second", "Third"):
        server.register(site.registration(f"{name} House"))
    server.do("undo")
    with server.database() as database:  # the first two days ago, the second an hour
        database.execute("UPDATE history SET at = strftime('%Y-%m-%dT%H:%M:%f', 'now', '-2 days') || 'Z' WHERE id = 1")
        database.execute("UPDATE history SET at = strftime('%Y-%m-%dT%H:%M:%f', 'now', '-1 hours') || 'Z' WHERE id = 2")

    def names(*options: str) -> list[str]:
        return [line["after"]["site"]["name"] for line in asked(server, *options)]

    assert names() == ["Second House", "Third House", "Second House", "First House"]
    assert names("--since", "30min") == ["Second House", "Third House"]
    assert names("--since", "2h", "--until", "30min") == ["Second House"]
    assert names("--until", "1d") == ["First House"]
    assert names("--event", "registered", "--since", "2h") == ["Third House", "Second House"]
    assert names("--event", "undone") == ["Second House"]
    assert names("--origin", "lead") == []
    assert server.do("history", "--origin", "lead") == "Nothing in the history is like that.\n"


def test_history_of_a_bad_question_is_wrong_usage(site: Site) -> None:
    server = site.settled()[0]
    for words, text in (
        (("--since", "last tuesday"), "how long ago (2h, 3d)"),
        (("--field", "site.nmae"), "did you mean site.name?"),
        (("--event", "changed"), "overwritten"),
    ):
        said = server.ask("history", "--json", *words)
        assert (said.code, said.out) == (2, "")
        assert text in said.err
        assert "Try: propagator history --help" in said.err
