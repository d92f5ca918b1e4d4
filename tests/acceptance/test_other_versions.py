"""What comes from another site, an older program or a newer one: accepted whole, or refused whole with the reason.

Records, memberships, report files and configurations, carried by hand to real state directories; a database of another
schema is in tests/faults (F39). A newer program is played with the lead's own keys: it adds members and words.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from propagator import keys
from propagator.core.registration import from_document, hash_of
from propagator.core.signing import PrivateKey
from tests.acceptance.site import Server, eventually
from tests.acceptance.test_bad_input import refuses
from tests.acceptance.test_lost_lead import DATABASE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.acceptance.site import Site

    Members = dict[str, Any]


def payload_of(raw: bytes) -> Members:
    text = raw.split(b".")[1]
    return dict(json.loads(base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))))


def as_lead(lead: Server, payload: Members, typ: str = "record") -> bytes:
    own = keys.load_lead_keys(lead.state_dir)
    header: dict[str, object] = {"typ": typ, "lead": own.lead, "sender": own.lead, "delegation": own.delegation}
    return own.signing.sign(header, json.dumps(payload).encode())


def as_shadow(shadow: Server, payload: Members, typ: str = "report") -> bytes:
    key = PrivateKey.from_pem(credentials(shadow)["device_key"].encode())
    return key.sign({"typ": typ, "lead": "es-1", "sender": shadow.id}, json.dumps(payload).encode())


def credentials(shadow: Server) -> Members:
    return dict(json.loads(credentials_file(shadow).read_text()))


def credentials_file(shadow: Server) -> Path:
    (path,) = (shadow.state_dir / "keys").glob("uplink-*.json")
    return path


def carried(site: Site, name: str, raw: bytes) -> Path:
    path = site.directory / name
    path.write_bytes(raw)
    return path


def next_record(lead: Server, **registration: Any) -> Members:
    """What the lead would say next, of a registration with these members more."""
    (row,) = lead.query("SELECT raw FROM issue ORDER BY number DESC LIMIT 1")
    payload = payload_of(bytes(row["raw"]))
    seq, generation, epoch, revision = payload["version"].split(".")
    payload["version"] = f"{seq}.{generation}.{epoch}.{int(revision) + 1}"
    payload["lives"][-1]["revision"] += 1
    payload["registration"] |= registration
    payload["hash"] = hash_of(from_document(payload["registration"]))
    return payload


# A record.


def test_f06_record_of_another_site_is_refused_whole_with_the_reason(site: Site) -> None:
    _, shadow, _ = site.settled()
    other = site.lead("es-2")
    other.do("export", site.directory / "other.jws")
    before = shadow.content()
    said = shadow.ask("import", site.directory / "other.jws")
    assert (said.code, said.out) == (1, "")
    assert "wrong_lead" in said.err
    assert "'es-2'" in said.err
    assert shadow.content() == before


def test_f51_record_of_a_newer_program_is_accepted_whole(site: Site) -> None:
    lead, shadow, _ = site.settled()
    novel = {"solar": {"peak_kw": 12}}
    raw = as_lead(lead, {**next_record(lead, **novel), "novel": ["member"]})
    assert "Taken over" in shadow.do("import", carried(site, "newer.jws", raw))
    assert shadow.record()["registration"]["solar"] == {"peak_kw": 12}
    assert shadow.query("SELECT raw FROM record") == [{"raw": raw}]


@pytest.mark.parametrize(
    ("change", "names"),
    [
        pytest.param({"registration": {"site": {"type": "campus"}}}, "site.type", id="a newer one says a new word"),
        pytest.param({"lives": None}, "lives", id="an older one leaves a member out"),
    ],
)
def test_f28_record_that_this_program_cannot_read_is_refused_whole_and_kept_for_people(
    site: Site, change: Members, names: str
) -> None:
    lead, shadow, _ = site.settled()
    payload = next_record(lead)
    for name, value in change.items():
        if value is None:
            del payload[name]
        else:
            payload[name]["site"] |= value["site"]
    raw = as_lead(lead, payload)
    before = shadow.record()
    said = shadow.ask("import", carried(site, "odd.jws", raw))
    assert (said.code, said.out) == (1, "")
    assert "unreadable" in said.err
    assert names in said.err
    assert shadow.record() == before
    (kept,) = json.loads(shadow.do("history", "--json", "--event", "quarantined"))
    assert kept["raw"].encode() == raw


def test_f51_unknown_members_pass_through_a_relay_untouched(site: Site) -> None:
    top, relay, device = site.server("ec-1", "lead"), site.server("es-1", "relay"), site.shadow("as-1")
    top.register(site.registration("Harbour Campus"))
    with top.database() as database:  # as a newer program at the top would have written it
        (written,) = database.execute("SELECT registration FROM record").fetchone()
        newer = from_document({**json.loads(written), "solar": {"peak_kw": 12, "note": "±0.5"}})
        database.execute("UPDATE record SET registration = ?, hash = ?", (newer.canonical, newer.hash))
    site.start(top, relay, device)
    site.attach(device, relay)
    site.attach(relay, top)
    eventually(lambda: (device.status().json["record"] or {}).get("hash") == newer.hash, "one hash at the last device")
    assert device.record()["registration"]["solar"] == {"peak_kw": 12, "note": "±0.5"}
    for server in (top, relay, device):
        assert server.query("SELECT registration, hash FROM record") == [
            {"registration": newer.canonical, "hash": newer.hash}
        ]


# A report file.


def report_of(site: Site, lead: Server, shadow: Server) -> Members:
    """The report of a shadow that took over a carried record; the lead has not heard of it."""
    lead.do("export", site.directory / "record.jws")
    shadow.do("import", site.directory / "record.jws", "--report", site.directory / "report.jws")
    return payload_of((site.directory / "report.jws").read_bytes())


def test_f51_report_file_of_a_newer_program_is_accepted_whole(site: Site) -> None:
    lead, shadow, _ = site.settled()
    said = report_of(site, lead, shadow)
    refusal = {"reason": "over_quota", "text": "No room."}
    newer = {**said, "state": "asleep", "refusal": refusal, "name": "Newer", "novel": 1}
    lead.do("import", carried(site, "newer.jws", as_shadow(shadow, newer)))
    row = lead.status().row("as-1")
    assert row is not None
    assert (row["state"], row["reported"], row["version"]) == ("unconfirmed", "asleep", said["version"])
    assert row["refusal"] == {**refusal, "at": None}
    assert "Newer" in lead.query("SELECT report FROM member WHERE id = 'as-1'")[0]["report"]


@pytest.mark.parametrize(
    ("made", "names"),
    [
        pytest.param(
            lambda said, one, _: as_shadow(one, {name: said[name] for name in said if name != "floor"}),
            ("does not parse", "floor"),
            id="an older one leaves a member out",
        ),
        pytest.param(lambda said, _, other: as_shadow(other, said), ("older than",), id="what it said before"),
        pytest.param(
            lambda said, one, _: PrivateKey.generate().sign(
                {"typ": "report", "lead": "es-1", "sender": one.id}, json.dumps(said).encode()
            ),
            ("'as-1' is no shadow of this lead",),
            id="another device of that name signed it",
        ),
        pytest.param(
            lambda said, one, _: PrivateKey.from_pem(credentials(one)["device_key"].encode()).sign(
                {"typ": "report", "lead": "es-2", "sender": one.id}, json.dumps(said).encode()
            ),
            ("not signed for this lead",),
            id="it is for another site",
        ),
    ],
)
def test_report_file_that_does_not_count_here_is_refused_whole_with_the_reason(
    site: Site, made: Callable[[Members, Server, Server], bytes], names: tuple[str, ...]
) -> None:
    lead, shadow, other = site.settled()
    said = report_of(site, lead, shadow)
    if names == ("older than",):
        said["session"] = "1-aaaa"
    refuses(lead, 2, "import", carried(site, "odd.jws", made(said, shadow, other)), names=names)


# A membership, shown to a lead that lost its database.


def shown(lead: Server, shadow: Server, change: Callable[[Members], bytes]) -> None:
    """Let the shadow hold another membership, the lead lose its database, and both run."""
    mine = credentials(shadow)
    changed = change(payload_of(mine["membership"].encode()))
    credentials_file(shadow).write_text(json.dumps({**mine, "membership": changed.decode()}))
    for name in DATABASE:
        (lead.state_dir / name).unlink(missing_ok=True)
    lead.do("init", "--role", "lead", "--id", "es-1", "--state-dir", lead.state_dir)
    lead.site.start(lead, shadow)


def test_f51_membership_of_a_newer_program_is_accepted(site: Site) -> None:
    lead, shadow, _ = site.settled()
    shown(lead, shadow, lambda word: as_lead(lead, {**word, "novel": 1}, "membership"))
    eventually(lambda: lead.status().row("as-1"), "the shadow is known again")


@pytest.mark.parametrize("origin", ["another site", "an older program"])
def test_membership_that_is_not_this_leads_word_is_refused_with_the_reason(site: Site, origin: str) -> None:
    lead, shadow, _ = site.settled()
    signer = site.lead("es-2") if origin == "another site" else lead

    def change(word: Members) -> bytes:
        kept = {name: word[name] for name in word if origin == "another site" or name != "serial"}
        return as_lead(signer, kept, "membership")

    shown(lead, shadow, change)
    (event, *_) = eventually(lambda: lead.events("field.membership_refused"), "the lead says why")
    assert (event["device"], event["level"]) == ("as-1", "warning")
    assert {"another site": "another lead", "an older program": "serial"}[origin] in event["why"]
    assert lead.status().row("as-1") is None


# A configuration.


def commands(site: Site) -> list[tuple[str | Path, ...]]:
    file = site.registration("Other House")
    looks = [("status",), ("record",), ("history",), ("export",)]
    return [*looks, ("register", file), ("undo",), ("invite", "as-9"), ("revoke", "as-1"), ("rotate",), ("run",)]


def test_configuration_of_another_server_is_refused_by_every_command(site: Site) -> None:
    lead, _, _ = site.settled()
    text = lead.config.read_text()
    lead.config.write_text(text.replace('id = "es-1"', 'id = "es-2"', 1))
    for words in commands(site):
        said = refuses(lead, 2, *words, names=("configuration of 'es-2'", "state of 'es-1'"))
        assert said.out == ""


def test_configuration_of_a_newer_program_is_refused_whole_and_names_each_unknown_key(site: Site) -> None:
    lead, _, _ = site.settled()
    lead.config.write_text(lead.config.read_text() + '\n[novel]\nkey = "x"\n')
    for words in (("run",), ("invite", "as-9"), ("revoke", "as-1")):
        refuses(lead, 2, *words, names=("novel",))


def test_configuration_of_an_older_program_is_accepted_with_the_defaults_of_what_it_lacks(site: Site) -> None:
    lead, shadow, _ = site.settled()
    listen = next(line for line in lead.config.read_text().splitlines() if line.startswith("listen = "))
    short = f'state_dir = "{lead.state_dir}"\n[server]\nid = "es-1"\n[downlink]\n{listen}\n'
    lead.config.write_text(short)
    site.start(lead, shadow)
    shadow.wait_state("in_sync")


def test_uplink_of_a_newer_program_is_refused_whole_and_names_the_unknown_key(site: Site) -> None:
    lead, shadow, _ = site.settled()
    lead.do("export", site.directory / "record.jws")
    path = shadow.state_dir / "uplink.toml"
    path.write_text('novel = "x"\n' + path.read_text())
    refuses(shadow, 2, "import", site.directory / "record.jws", names=("uplink.toml", "novel"))
    shadow.launch()
    (event, *_) = eventually(lambda: shadow.events("agent.uplink_unusable"), "the agent says why")
    assert "uplink.toml" in event["error"]
