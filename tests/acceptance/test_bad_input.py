"""Bad input gets one clear message that names the field and what to do, its exit code, and changes nothing."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from tests.acceptance.site import EXAMPLE, Server, eventually, is_free

if TYPE_CHECKING:
    from pathlib import Path

    from tests.acceptance.site import Said, Site


def refuses(server: Server, code: int, *words: str | Path, names: tuple[str, ...], stdin: str = "") -> Said:
    """One error with one thing to try, this exit code, each of these names; and what lies on the disk stays."""
    before = server.content(), server.files()
    said = server.ask(*words, stdin=stdin)
    assert said.code == code, said
    assert said.err.startswith("Error: "), said
    assert said.err.count("Error: ") == 1
    assert said.err.count("Try: ") == 1
    for name in names:
        assert name in said.err, said
    assert (server.content(), server.files()) == before
    return said


def test_every_problem_of_a_configuration_is_told_at_once(site: Site) -> None:
    lead = site.settled()[0]
    text = lead.config.read_text()
    bad = text.replace("heartbeat_s = 1", "heartbet_s = 1").replace('level = "debug"', 'level = "loud"')
    bad = bad.replace("paused = false", 'paused = "no"').replace('id = "es-1"', 'id = "ES_1"')
    bad = bad.replace('broker = "embedded"', 'broker = "mqtt://somewhere"')
    lead.config.write_text(bad)
    names = ("downlink.heartbet_s", "did you mean heartbeat_s", "log.level", "downlink.paused", "server.id")
    for words in (["run"], ["invite", "as-3"], ["revoke", "as-1"]):
        said = refuses(lead, 2, *words, names=(*names, "downlink.broker", "5 problems", str(lead.config)))
        assert said.out == ""
    lead.config.write_text(text)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        pytest.param(("[server]", "[server"), ("line",), id="it is no TOML"),
        pytest.param(('id = "es-1"', 'id = "es-2"'), ("es-1", "es-2"), id="it is another server's"),
        pytest.param(('broker = "embedded"', 'broker = "embedded"\nusername = "x"'), ("downlink.username",), id="keys"),
        pytest.param(("heartbeat_s = 1", "heartbeat_s = nan"), ("downlink.heartbeat_s",), id="a number that is none"),
        pytest.param(('listen = "127', 'listen = "999'), ("downlink.listen",), id="an address that is none"),
    ],
)
def test_an_agent_does_not_start_with_a_bad_configuration(
    site: Site, change: tuple[str, str], names: tuple[str, ...]
) -> None:
    lead = site.settled()[0]
    text = lead.config.read_text()
    assert change[0] in text
    lead.config.write_text(text.replace(*change, 1))
    refuses(lead, 2, "run", names=names)


def test_a_configuration_or_state_that_is_not_there_is_named(site: Site) -> None:
    said = site.ask("run", "--config", site.directory / "none.toml")
    assert (said.code, said.out) == (2, "")
    assert "none.toml does not exist" in said.err
    lead = site.settled()[0]
    said = lead.ask("run", "--state-dir", site.directory / "nowhere")
    assert (said.code, said.out) == (3, "")
    assert "nowhere" in said.err
    assert "Try: " in said.err


BAD: dict[str, tuple[str | bytes, tuple[str, ...]]] = {
    "several members": (
        EXAMPLE.replace('country = "GB"', 'country = "UK"').replace('name = "Riverside House"', 'name = ""')
        + 'phone = "12"\n[extra]\n',
        ("address.country", "GB", "site.name", "contact.phone", "extra"),
    ),
    "a missing table": (EXAMPLE.split("[contact]")[0], ("contact",)),
    "a control character": (EXAMPLE.replace("Riverside House", "River\\u001b[2Jside"), ("site.name", "control")),
    "a text without end": (EXAMPLE.replace("Riverside House", "R" * 500), ("site.name", "200")),
    "no e-mail": (EXAMPLE.replace("facilities@riverside.example", "facilities"), ("contact.email",)),
    "a wrong type": (EXAMPLE.replace('"Bristol"', "7"), ("address.city",)),
    "no TOML": (EXAMPLE.replace("[site]", "[site"), ("line 1",)),
    "not UTF-8": (EXAMPLE.encode().replace(b"House", b"H\xffuse"), ("UTF-8",)),
    "nothing": ("", ("site",)),
    "too large": (EXAMPLE + "# " + "x" * 40_000, ("28",)),
    "JSON with a name that stands twice": ('{"site": {}, "site": {}}', ("site", "twice")),
    "JSON with NaN": ('{"site": {"name": NaN}}', ("NaN",)),
    "JSON without an object": ("{]", ("line 1",)),
}


@pytest.mark.parametrize(("content", "names"), BAD.values(), ids=BAD.keys())
def test_a_bad_registration_is_refused_whole(site: Site, content: str | bytes, names: tuple[str, ...]) -> None:
    server = site.settled()[0]
    path = site.directory / ("bad.json" if "JSON" in str(names) or str(content).startswith("{") else "bad.toml")
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    said = refuses(server, 2, "register", path, names=names)
    assert said.out == ""
    assert "\x1b" not in said.err


def test_a_registration_file_that_cannot_be_read_is_named(site: Site) -> None:
    server = site.settled()[0]
    refuses(server, 2, "register", site.directory / "none.toml", names=("no file", "none.toml"))
    refuses(server, 2, "register", site.directory, names=(str(site.directory),))


def test_a_bad_token_changes_nothing(site: Site) -> None:
    shadow = site.settled()[1]
    noise = site.directory / "noise"
    noise.write_bytes(os.urandom(3000))
    refuses(shadow, 1, "attach", noise, "--yes", names=("no token",))
    refuses(shadow, 1, "attach", "-", "--yes", names=("no token",), stdin="propagator1." + "A" * 20_000 + ".aaaaaaaa")
    refuses(shadow, 1, "attach", "propagator1.!!.22222222", "--yes", names=("typing error",))


def test_decode_says_whether_a_document_verifies(site: Site) -> None:
    lead, shadow, _ = site.settled()
    raw = bytes(lead.query("SELECT raw FROM issue ORDER BY number DESC LIMIT 1")[0]["raw"]).decode()
    for server, known in ((lead, "this very server"), (shadow, "the lead that this server follows")):
        said = server.ask("decode", stdin=raw)
        assert said.code == 0, said
        assert "verifies" in said.out
        assert known in said.out
        assert "Riverside House" in said.out
    decoded = json.loads(shadow.do("decode", "--json", stdin=raw + "\n"))
    assert (decoded["typ"], decoded["verifies"], decoded["known_as"]) == ("record", True, "lead")
    head, body, signature = raw.split(".")
    other = ("B" if signature[0] == "A" else "A") + signature[1:]
    tampered = shadow.ask("decode", stdin=f"{head}.{body}.{other}")
    assert tampered.code == 1
    assert "DOES NOT VERIFY" in tampered.out

    token = site.invite(lead, "as-3")
    said = lead.ask("decode", stdin=token)
    assert said.code == 0
    assert "as-3" in said.out


@pytest.mark.parametrize(
    ("text", "names"),
    [
        pytest.param("", ("empty",), id="nothing"),
        pytest.param("garbage", ("signed",), id="garbage"),
        pytest.param('{"site": {}}', ("signed",), id="JSON"),
        pytest.param("A" * 100_000, ("65536",), id="too large"),
        pytest.param("e30.e30.e30", (), id="an empty header"),
        pytest.param("propagator1.abc.22222222", ("typing error",), id="a token with a typing error"),
        pytest.param("\x1b[2J\x07", ("signed",), id="control characters"),
    ],
)
def test_decode_refuses_what_it_cannot_read(site: Site, text: str, names: tuple[str, ...]) -> None:
    said = refuses(site.settled()[0], 2, "decode", stdin=text, names=names)
    assert said.out == ""
    assert "\x1b" not in said.err


def test_init_refuses_to_overwrite(site: Site) -> None:
    lead, shadow, _ = site.settled()
    refuses(lead, 2, "init", "--role", "lead", "--id", "es-1", names=("already", "nothing was changed"))
    refuses(lead, 2, "init", "--role", "lead", "--id", "es-9", names=("es-1", "es-9"))
    refuses(shadow, 2, "init", "--role", "shadow", names=("already",))
    refuses(lead, 2, "init", "--role", "standalone", "--id", "es-1", names=("already",))
    refuses(lead, 2, "init", "--role", "king", "--id", "es-1", names=("king",))
    fresh = site.ask(
        "init", "--role", "lead", "--config", site.directory / "f.toml", "--state-dir", site.directory / "f"
    )
    assert fresh.code == 2
    assert "--id " in fresh.err
    wrong = site.ask("init", "--role", "lead", "--id", "No Id", "--config", site.directory / "f.toml")
    assert wrong.code == 2
    assert not (site.directory / "f.toml").exists()


def test_init_does_not_take_a_directory_that_holds_something_else(site: Site) -> None:
    held = site.directory / "held"
    held.mkdir()
    (held / "letter").write_text("mine")
    config = site.directory / "h.toml"
    said = site.ask("init", "--role", "shadow", "--id", "as-9", "--config", config, "--state-dir", held)
    assert (said.code, said.out) == (2, "")
    assert "holds other files" in said.err
    assert [path.name for path in held.iterdir()] == ["letter"]
    assert not config.exists()


def test_init_adds_the_link_that_is_missing_and_touches_nothing_else(site: Site) -> None:
    server = site.server("es-9", "standalone")
    server.register(site.registration("Own House"))
    system_id, record = server.status().json["server"]["system_id"], server.record()
    listen = f"127.0.0.1:{site.port()}"

    said = server.ask("init", "--role", "lead", "--id", "es-9", "--listen", listen)

    assert said.code == 0, said
    server.role = "lead"
    server.set("heartbeat_s", "1")
    server.start()
    status = server.status()
    assert (status.code, status.json["role"], status.json["server"]["system_id"]) == (0, "lead", system_id)
    assert (status.record["hash"], status.record["registration"]) == (record["hash"], record["registration"])
    assert status.downlink["hash"] == record["hash"]
    shadow = site.shadow("as-9")
    site.attach(shadow, server)
    shadow.start()
    shadow.wait_state("in_sync")


def test_f40_a_second_agent_on_one_state_directory_is_refused(site: Site) -> None:
    lead, shadow, _ = site.settled()
    site.start(lead, shadow)
    for server in (lead, shadow):
        assert server.agent is not None
        said = server.ask("run")
        assert (said.code, said.out) == (1, "")
        assert f"Another agent runs on {server.state_dir} (process {server.agent.pid}" in said.err
        assert "Try: " in said.err
        assert server.is_running
    lead.register(site.registration("Harbour House"))
    lead.wait_rows(as_1="in_sync")


def test_a_lead_whose_port_is_taken_says_who_has_it(site: Site) -> None:
    lead, _, _ = site.settled()
    lead.start()
    second = site.lead("es-2")
    second.set("listen", f'"127.0.0.1:{site.ports[0]}"')
    said = second.ask("run")
    assert (said.code, said.out) == (1, "")
    assert f"port {site.ports[0]} is taken by mosquitto" in said.err
    assert "Try: " in said.err
    assert lead.is_running


def test_an_agent_whose_directory_has_too_long_a_path_for_its_sockets_says_so(site: Site) -> None:
    long = site.directory / ("d" * 100)
    config = site.directory / "long.toml"
    made = site.ask("init", "--role", "shadow", "--id", "as-9", "--config", config, "--state-dir", long)
    assert made.code == 0, made
    said = site.ask("run", "--config", config)
    assert (said.code, said.out) == (3, "")
    assert "longer than 107 bytes" in said.err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        pytest.param(["statsu"], "Did you mean status?", id="a command that is none"),
        pytest.param(["status", "--jsno"], "--jsno", id="an option that is none"),
        pytest.param(["register"], "FILE", id="an argument that is missing"),
        pytest.param(["invite", "as-1", "--days", "0"], "--days", id="a number out of range"),
        pytest.param(["history", "--limit", "none"], "--limit", id="a number that is none"),
        pytest.param([], "Commands:", id="nothing"),
    ],
)
def test_wrong_usage_is_told_with_the_help_to_look_at(site: Site, words: list[str], text: str) -> None:
    said = site.ask(*words)
    assert (said.code, said.out) == (2, "")
    assert text in said.err
    assert "--help" in said.err


def test_the_port_of_a_lead_that_could_not_start_is_free(site: Site) -> None:
    lead, _, _ = site.settled()
    (lead.state_dir / "keys" / "ca.key").unlink()
    said = lead.ask("run")
    assert said.code in {2, 3}
    assert "ca.key" in said.err
    eventually(lambda: is_free(site.ports[0]), "the port is free")
