"""`register --online` against the real portal: a person approves, and the registration and all that follows arrive."""

from __future__ import annotations

import os
import pty
import re
import signal
import ssl
import subprocess
from typing import TYPE_CHECKING, Any, Final, Self

import httpx
import pytest

from tests.acceptance.site import DEADLINE_S, Said, environment, eventually
from tests.acceptance.visitor import INSTALLATION, PASSWORD, Visitor
from tests.enrol.places import Ca
from tests.portal.browser.serving import Served, served
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.acceptance.site import Server, Site

HARBOUR: Final = {**INSTALLATION, "site.name": "Harbour House"}


@pytest.fixture
def portal(site: Site) -> Iterator[Served]:
    with served(site.directory / "portal", program=(site.command,)) as running:
        yield running


class People:
    """The administrator of a portal, and an integrator whom it invited; both logged on."""

    def __init__(self, where: Served, tls: ssl.SSLContext | None = None) -> None:
        self.ada = Visitor(where, tls)
        self.ada.open(where.setup_path)
        who = {"email": "ada@portal.example", "name": "Ada", "company": "Portal Services"}
        self.ada.press("Make the account", **who, password=PASSWORD, again=PASSWORD)
        _log_on(self.ada, who["email"])
        self.ada.open("/accounts/new")
        self.ada.press("Make the account", kind="partner", email="irene@harbour.example", name="I", company="Harbour")
        link = re.search(r"/link/[\w-]+", self.ada.page.text)
        assert link is not None, self.ada.page.text
        self.irene = Visitor(where, tls)
        self.irene.open(link[0])
        self.irene.press("Set the password", password=PASSWORD, again=PASSWORD)
        _log_on(self.irene, "irene@harbour.example")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.ada.client.close()
        self.irene.client.close()

    def registers(self, code: str) -> str:
        """The integrator registers the server that waits under this code as a new system; gives its number."""
        self.irene.open(f"/device?user_code={code}")
        self.irene.follow("Register it as a new system")
        self.irene.fill("Register", HARBOUR)
        return str(self.irene.page.url).split("/systems/")[1].partition("/")[0]


def _log_on(who: Visitor, email: str) -> None:
    who.open("/log-on")
    who.press("Log on", email=email, password=PASSWORD)
    assert "Log off" in who.page.text


@pytest.fixture
def people(portal: Served) -> Iterator[People]:
    with People(portal) as both:
        yield both


class Asking:
    """A command that waits for somebody at the portal. With `terminal` its stdin is one, where `answers` are typed."""

    def __init__(self, server: Server, url: str, *options: str, word: str = "register", answers: str = "") -> None:
        self._said = server.site.directory / f"asking-{free_port()}"
        ours = theirs = subprocess.DEVNULL
        if answers:
            ours, theirs = pty.openpty()
            os.write(ours, answers.encode())
        with self._said.open("wb") as out:
            self._process = subprocess.Popen(
                [server.site.command, word, "--online", url, *options, "--config", str(server.config)],
                stdin=theirs,
                stdout=subprocess.PIPE,
                stderr=out,
                env=environment(),
                cwd=server.site.directory,
            )
        self._ends = [ours, theirs] if answers else []

    @property
    def talk(self) -> str:
        return self._said.read_text()

    @property
    def code(self) -> str:
        """The code that it shows."""

        def shown() -> str | None:
            found = re.search(r"enter +(\S+)", self.talk)
            assert found or self._process.poll() is None, self.talk
            return None if found is None else found[1]

        return eventually(shown, "a code is shown")

    def interrupt(self) -> None:
        """Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    def end(self) -> Said:
        """Wait until it has ended."""
        out, _ = self._process.communicate(timeout=DEADLINE_S)
        for end in self._ends:
            os.close(end)
        assert "Traceback" not in out.decode() + self.talk
        return Said(self._process.returncode, out.decode(), self.talk)


def key_of(portal: Served) -> str:
    return str(httpx.get(f"{portal.url}/api/portal", trust_env=False).json()["thumbprint"])


def name(server: Server) -> str | None:
    record = server.status().json["record"]
    return None if record is None or record["registration"] is None else str(record["registration"]["site"]["name"])


def has_name(server: Server, wanted: str | None) -> None:
    eventually(lambda: name(server) == wanted, f"{server.id} has the registration of {wanted}")


def finding(server: Server) -> dict[str, Any] | None:
    told = server.status().json["portal"]["finding"]
    return None if told is None else dict(told)


def test_a_person_approves_and_every_later_edition_follows(site: Site, portal: Served, people: People) -> None:
    """Approved, edited, withdrawn at the portal: the lead and its shadows follow, and nobody types at the server."""
    lead, *shadows = site.settled()
    lead.set("interval_s", "10")
    site.start(lead, *shadows)
    lead.wait_rows(as_1="in_sync", as_2="in_sync")

    asking = Asking(lead, portal.url, "--portal-key", key_of(portal))
    number = people.registers(asking.code)
    said = asking.end()
    assert said.code == 0, said
    assert "published" in said.out
    for server in (lead, *shadows):
        has_name(server, "Harbour House")
    told = lead.status()
    assert told.record["origin"] == "portal"
    assert told.json["portal"] | {"asked_at": 0, "answered_at": 0, "edition": 0, "name": ""} == {
        "url": portal.url,
        "name": "",
        "key": key_of(portal),
        "system": number,
        "edition": 0,
        "asked_at": 0,
        "answered_at": 0,
        "finding": None,
    }

    people.irene.open(f"/systems/{number}/edit")
    people.irene.fill("Save", {"site.name": "Harbour Tower"})
    for server in (lead, *shadows):
        has_name(server, "Harbour Tower")
    assert lead.events("enrol.edition_taken")

    people.ada.open(f"/systems/{number}/withdraw")
    people.ada.press("Withdraw it")
    has_name(lead, None)
    for shadow in shadows:
        shadow.wait_state("withdrawn")
        assert name(shadow) == "Harbour Tower"


def test_f20_the_right_to_ask_is_in_nothing_that_is_shown(site: Site, portal: Served, people: People) -> None:
    server, asking = _alone(site, portal)
    people.registers(asking.code)
    assert asking.end().code == 0
    token = str(server.query("SELECT token FROM portal")[0]["token"])
    assert len(token) > 20
    server.start()
    eventually(lambda: server.status().json["portal"]["answered_at"], "the agent asked")
    shown = [*server.lines(), server.do("status"), server.do("status", "--json"), server.do("history", "--json")]
    shown += [server.do("diagnose", "--portal"), server.do("diagnose", "--portal", "--json"), *site.talk]
    assert not any(token in text for text in shown)


def _alone(site: Site, portal: Served, *options: str, **more: str) -> tuple[Server, Asking]:
    """A stand-alone server that asks the portal."""
    server = site.server("as-9", "standalone")
    return server, Asking(server, portal.url, *(options or ("--portal-key", key_of(portal))), **more)


def test_who_is_refused_at_the_portal_is_told_and_nothing_changes(site: Site, portal: Served, people: People) -> None:
    server, asking = _alone(site, portal)
    code, before = asking.code, server.content()
    people.irene.open(f"/device?user_code={code}")
    people.irene.press("Deny")
    said = asking.end()
    assert said.code == 1
    assert "Error: The person at the portal refused this server; nothing was changed." in said.err
    assert f"Try: propagator register --online {portal.url}" in said.err
    assert server.content() == before


def test_ctrl_c_leaves_everything_as_it_was(site: Site, portal: Served) -> None:
    server, asking = _alone(site, portal)
    assert asking.code
    before = server.content()
    asking.interrupt()
    said = asking.end()
    assert said.code == 130
    assert said.err.rstrip().endswith("Nothing was changed.")
    assert server.content() == before


def test_what_is_shown_says_where_to_go_and_what_to_enter(site: Site, portal: Served) -> None:
    server, asking = _alone(site, portal)
    code = asking.code
    assert re.fullmatch(r"[BCDFGHJKLMNPQRSTVWXZ]{4}-[BCDFGHJKLMNPQRSTVWXZ]{4}", code)
    assert f"open   {portal.url}/device" in asking.talk
    assert server.status().json["server"]["system_id"] in asking.talk
    asking.interrupt()
    asking.end()


def test_an_unknown_portal_is_never_trusted_by_itself(site: Site, portal: Served) -> None:
    _, asking = _alone(site, portal, "--yes")
    said = asking.end()
    assert said.code == 2
    key = key_of(portal)
    assert " ".join(key[start : start + 5] for start in range(0, 43, 5)) in said.err
    assert "--portal-key" in said.err


def test_another_key_than_the_one_that_was_named_is_refused(site: Site, portal: Served) -> None:
    server, asking = _alone(site, portal, "--portal-key", "o" * 43)
    said = asking.end()
    assert said.code == 1
    assert "signs with another key" in said.err
    assert server.status().json["portal"] is None


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 1)])
def test_at_a_terminal_a_person_is_asked_whether_to_trust(
    site: Site, portal: Served, people: People, answer: str, code: int
) -> None:
    server, asking = _alone(site, portal, "--yes", answers=answer)
    if code == 0:
        people.registers(asking.code)
    said = asking.end()
    assert said.code == code, said
    assert "Trust this portal from now on?" in said.err
    told = server.status().json["portal"]
    assert (told is not None and told["key"] == key_of(portal)) == (code == 0)


def test_an_attached_shadow_refuses_and_names_its_lead_before_anybody_is_bothered(site: Site) -> None:
    _, shadow, _ = site.settled()
    said = Asking(shadow, f"http://127.0.0.1:{free_port()}").end()
    assert said.code == 1, "the portal that nobody runs was not even asked"
    assert "es-1" in said.err


def test_a_registration_that_moved_elsewhere_is_shown_in_status(site: Site, portal: Served, people: People) -> None:
    """The same system, another System ID: this server keeps what it has, says so, and asks no more."""
    server, asking = _alone(site, portal)
    server.set("interval_s", "10")
    number = people.registers(asking.code)
    assert asking.end().code == 0
    server.start()
    eventually(lambda: server.status().json["portal"]["answered_at"], "the agent asked")
    other = Asking(site.server("as-10", "standalone"), portal.url, "--portal-key", key_of(portal))
    code = other.code
    people.irene.open(f"/device/system?user_code={code}")
    people.irene.press("Associate", number=number)
    assert other.end().code == 0

    told = eventually(lambda: finding(server), "status shows it")
    assert told["code"] == "PORTAL_MOVED"
    assert name(server) == "Harbour House"
    assert "moved to another System ID" in server.ask("status").out


@pytest.fixture
def ca() -> Ca:
    return Ca.made("Riverside Root")


@pytest.fixture
def secure(site: Site, tmp_path: Path, ca: Ca) -> Iterator[Served]:
    """A portal whose certificate is of a CA that no machine knows."""
    (tmp_path / "ca.pem").write_text(ca.pem)
    for path, content in zip((tmp_path / "tls.crt", tmp_path / "tls.key"), ca.leaf("127.0.0.1"), strict=True):
        path.touch(0o600)
        path.write_bytes(content)
    tls = ("--tls-cert", str(tmp_path / "tls.crt"), "--tls-key", str(tmp_path / "tls.key"))
    with served(site.directory / "portal", *tls, program=(site.command,)) as where:
        yield Served(where.url.replace("http://", "https://"), where.setup_path, where.lines)


def test_a_ca_that_is_not_known_is_told_by_register_and_diagnose_alike(site: Site, secure: Served) -> None:
    server = site.server("as-9", "standalone")
    untrusted = Asking(server, secure.url).end()
    assert untrusted.code == 1
    assert "a CA that this machine does not know" in untrusted.err
    assert f"Try: propagator diagnose --portal {secure.url}" in untrusted.err
    found = server.ask("diagnose", "--portal", secure.url, "--json")
    assert (found.code, found.json["verdict"]["code"]) == (1, "PORTAL_TLS_UNKNOWN_CA")
    assert "--portal-ca" in found.json["verdict"]["remedies"][0]["commands"][0]


def test_the_case_of_a_portal_stays_open_until_its_ca_is_named(site: Site, secure: Served, tmp_path: Path) -> None:
    server, recheck, ca = site.server("as-9", "standalone"), ("diagnose", "--portal", "--recheck"), tmp_path / "ca.pem"
    assert "No case of a portal is open" in server.do(*recheck)
    found = server.ask("diagnose", "--portal", secure.url, "--json")
    case = f"PORTAL_TLS_UNKNOWN_CA of {found.json['at']}, {secure.url}."
    still = server.ask(*recheck)
    assert (still.code, f"The case stays open: {case}" in still.out) == (1, True), still
    closed = server.ask(*recheck, "--portal-ca", str(ca))
    assert (closed.code, f"The case is closed: {case}" in closed.out) == (0, True), closed
    assert "No case of a portal is open" in server.do(*recheck)
    assert server.ask("diagnose", "--portal-ca", str(ca)).code == 2
    assert server.ask("diagnose", "--portal", secure.url).code == 1, "what was named for one question is not kept"
    server.config.write_text(server.config.read_text().replace("[portal]\n", f'[portal]\nca_file = "{ca}"\n'))
    configured = server.ask(*recheck)
    assert (configured.code, "The case is closed" in configured.out) == (0, True), configured


def test_a_ca_that_was_named_is_kept_for_the_agent(site: Site, secure: Served, ca: Ca, tmp_path: Path) -> None:
    server = site.server("as-9", "standalone")
    key = next(line.split()[-1].rstrip(".") for line in secure.lines if "signs with the key" in line)
    options = ("--portal-ca", str(tmp_path / "ca.pem"), "--portal-key", key)
    given_up = Asking(server, secure.url, *options)
    assert given_up.code
    given_up.interrupt()
    given_up.end()
    assert not (server.state_dir / "portal-ca.pem").exists()

    asking = Asking(server, secure.url, *options)
    with People(secure, ssl.create_default_context(cadata=ca.pem)) as people:
        people.registers(asking.code)
        assert asking.end().code == 0
    (tmp_path / "ca.pem").unlink()
    server.start()
    eventually(lambda: server.status().json["portal"]["answered_at"], "the agent asked, under the CA that was kept")
    assert finding(server) is None
    assert server.ask("diagnose", "--portal").code == 0


def test_a_terminal_shows_a_picture_of_the_address_and_the_time_left(site: Site, portal: Served) -> None:
    server = site.server("as-9", "standalone")
    ours, theirs = pty.openpty()
    command = [site.command, "register", "--online", portal.url, "--portal-key", key_of(portal)]
    environs = {**environment(), "TERM": "xterm"}
    process = subprocess.Popen(
        [*command, "--config", str(server.config)], stdin=theirs, stdout=theirs, stderr=theirs, env=environs
    )
    os.close(theirs)
    seen = b""

    def shown() -> bool:
        nonlocal seen
        seen += os.read(ours, 65536)
        return b"left" in seen

    try:
        eventually(shown, "the time left is shown")
        process.send_signal(signal.SIGINT)
        eventually(lambda: process.poll() is not None, "it ended")
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    told = seen.decode()
    assert re.search(r"Waiting for approval, 1[45]:\d\d left", told)
    assert "\u2580" in told or "\u2588" in told
    assert process.returncode == 130


def test_diagnose_says_how_the_way_to_the_portal_is(site: Site, portal: Served, people: People) -> None:
    server, asking = _alone(site, portal)
    nobody = server.ask("diagnose", "--portal")
    assert nobody.code == 3
    assert "knows no portal" in nobody.err
    people.registers(asking.code)
    assert asking.end().code == 0
    well = server.ask("diagnose", "--portal")
    assert well.code == 0, well
    assert "PORTAL_OK, certain" in well.out
    closed = server.ask("diagnose", "--portal", f"http://127.0.0.1:{free_port()}", "--json")
    assert (closed.code, closed.json["verdict"]["code"]) == (1, "PORTAL_CLOSED")
    assert server.ask("diagnose", "--portal", "portal.example").code == 2
    again = server.ask("diagnose", "--portal", "--recheck", "--json")
    assert (again.code, again.json["portal"]) == (1, closed.json["portal"]), "it goes to what failed"
    assert server.ask("diagnose", "--portal").code == 0
    assert server.ask("diagnose", "--portal", "--recheck").code == 1, "that another portal is well closes no case"
    assert "No case of a portal is open" in server.do("diagnose", "--portal", portal.url, "--recheck")
    assert server.ask("diagnose", "--portal", "--idle", "2").code == 2
