"""A database of another program version (F39): migrated, or refused whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.acceptance.site import Site


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        pytest.param(99, "newer program (schema 99", id="a newer one"),
        pytest.param(0, "no state of propagator", id="one that is none of ours"),
    ],
)
def test_f39_a_schema_that_is_not_known_is_refused_whole(site: Site, schema: int, text: str) -> None:
    lead, shadow, _ = site.settled()
    file = str(site.registration("Harbour House"))
    writes = {lead: [["invite", "as-3"], ["revoke", "as-1"]], shadow: [["detach"], ["detach", "--restore"]]}
    for server, more in writes.items():
        with server.database() as database:
            database.execute(f"PRAGMA user_version = {schema}")
        before = server.content()
        for words in [["run"], ["status"], ["record"], ["history"], ["register", file], *more]:
            said = server.ask(*words)
            assert (said.code, said.out) == (3, ""), (words, said)
            assert text in said.err
            assert "Try: " in said.err
        assert server.content() == before


def test_f39_a_schema_of_an_older_program_is_read_as_it_is_and_migrated_by_the_agent(site: Site) -> None:
    """Schema 1 knew no Registration Portal; the program of it could lead and follow."""
    servers = site.settled()
    for server in servers:
        with server.database() as database:
            for statement in ("DROP TABLE portal", "DROP TABLE used_code", "PRAGMA user_version = 1"):
                database.execute(statement)
        before = server.content()
        assert server.status().record["registration"]["site"]["name"] == "Riverside House"
        assert server.status().json["portal"] is None
        assert server.history()
        assert server.record()["registration"]["site"]["name"] == "Riverside House"
        assert server.content() == before
    site.start(*servers)
    lead, *_ = servers
    lead.wait_rows(as_1="in_sync", as_2="in_sync")
    for server in servers:
        assert server.query("PRAGMA user_version") == [{"user_version": 2}]
        assert server.query("SELECT * FROM portal") == []
