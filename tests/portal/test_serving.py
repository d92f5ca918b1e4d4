"""The command `propagator portal`, as a process: it starts, says where, and ends; or says why it does not start."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import ssl
import subprocess
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from propagator import certificates
from tests.portal.process import COMMAND, ENDED_S, running
from tests.portal.world import PASSWORD
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.portal.postgres import Postgres

PERSON = {"email": "ada@people.example", "name": "Ada", "company": "Estates", "password": PASSWORD, "again": PASSWORD}


class Manager:
    """A service manager that only listens."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self.told: list[str] = []

    def hear(self) -> list[str]:
        """Give what was told since the last time."""
        heard: list[str] = []
        with contextlib.suppress(BlockingIOError):
            while True:
                heard += self._listener.recv(4096).decode().split("\n")
        self.told += heard
        return heard

    def wait(self, word: str) -> None:
        """Wait until it is told a word that was not told yet."""
        deadline = time.monotonic() + 20
        while word not in self.hear():
            assert time.monotonic() < deadline, (word, self.told)
            time.sleep(0.01)


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    """Listen where the portals of this test are told to speak, with a watchdog of half a second."""
    name = f"propagator-portal-{uuid.uuid4()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as listener:
        listener.bind(f"\0{name}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        monkeypatch.setenv("WATCHDOG_USEC", "500000")
        yield Manager(listener)


def _refused(*words: str | Path) -> tuple[int, str]:
    ended = subprocess.run(
        [COMMAND, "portal", *map(str, words)], capture_output=True, text=True, timeout=60, check=False
    )
    assert "Traceback" not in ended.stderr
    assert re.search(r"(?m)^Try: ", ended.stderr), ended.stderr
    return ended.returncode, ended.stderr


def test_it_starts_makes_its_administrator_by_a_link_and_ends_in_time(tmp_path: Path) -> None:
    data, link_file = tmp_path / "portal", tmp_path / "link"
    with running(data, "--admin-link-file", str(link_file)) as portal:
        link = link_file.read_text().strip()
        assert link.startswith(f"{portal.url}/setup/")
        assert link_file.stat().st_mode & 0o777 == 0o600
        assert (data / "portal.key").stat().st_mode & 0o777 == 0o600
        assert (data / "portal.db").stat().st_mode & 0o077 == 0
        about = httpx.get(f"{portal.url}/api/portal").json()
        assert about["thumbprint"] in portal.said
        made = httpx.post(link, data=PERSON, headers={"Origin": portal.url})
        assert made.status_code == 303
        with httpx.Client() as browser, browser.stream("GET", f"{portal.url}/"):  # a connection that is kept
            assert portal.stop() < ENDED_S
        assert portal.process.returncode == 0
    with running(data, "--admin-link-file", str(link_file)) as again:
        assert not link_file.exists(), "there is an administrator"
        assert httpx.get(f"{again.url}/api/portal").json()["thumbprint"] == about["thumbprint"]
        assert again.stop(signal.SIGINT) < ENDED_S
        assert again.process.returncode == 0


def test_a_request_that_does_not_come_to_an_end_is_answered_when_the_portal_does(tmp_path: Path) -> None:
    with running(tmp_path / "portal") as portal:
        host, port = portal.url.removeprefix("http://").split(":")
        head = f"POST /log-on HTTP/1.1\r\nHost: {host}\r\nOrigin: {portal.url}\r\nContent-Length: 100\r\n"
        with socket.create_connection((host, int(port)), timeout=20) as browser:
            browser.sendall(f"{head}Content-Type: application/x-www-form-urlencoded\r\n\r\nemail=".encode())
            assert httpx.get(f"{portal.url}/api/health").status_code == 200  # it has read what was sent before
            assert portal.stop() < ENDED_S
            assert browser.recv(100).startswith(b"HTTP/1.1 503 ")
        assert portal.process.stderr is not None
        assert "Traceback" not in portal.process.stderr.read()
        assert portal.process.returncode == 0


def test_its_end_is_not_spent_on_what_it_loaded(tmp_path: Path) -> None:
    """Looking for garbage in it once more took half of the time that loading did."""
    with running(tmp_path / "portal") as portal:
        portal.process.send_signal(signal.SIGTERM)
        assert portal.process.stderr is not None
        assert any("portal.stopped" in line for line in portal.process.stderr)
        until_then = _cpu_ticks(portal.process.pid)
        os.waitid(os.P_PID, portal.process.pid, os.WEXITED | os.WNOWAIT)
        assert _cpu_ticks(portal.process.pid) - until_then < 0.15 * until_then


def _cpu_ticks(pid: int) -> int:
    """Say how long a process has worked (proc_pid_stat(5)), also one that ended and was not waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_each_start_without_an_administrator_makes_a_new_link(tmp_path: Path) -> None:
    links = []
    for _ in range(2):
        with running(tmp_path / "portal") as portal:
            portal.said += portal.process.stderr.readline() if portal.process.stderr else ""
            links += re.findall(r"/setup/(\S+)", portal.said)
            if len(links) == 2:
                assert httpx.get(f"{portal.url}/setup/{links[0]}").status_code == 404
                assert httpx.get(f"{portal.url}/setup/{links[1]}").status_code == 200
    assert len(set(links)) == 2


def test_it_serves_https_with_a_certificate(tmp_path: Path) -> None:
    authority = certificates.make_authority("portal")
    pair = certificates.make_server_certificate(authority, ("127.0.0.1", "localhost"))
    files = {"ca.pem": authority.cert_pem, "chain.pem": pair.cert_pem, "key.pem": pair.key_pem}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).chmod(0o600)
    tls = ("--tls-cert", str(tmp_path / "chain.pem"), "--tls-key", str(tmp_path / "key.pem"))
    with running(tmp_path / "portal", *tls, scheme="https") as portal:
        trusting = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        answer = httpx.get(f"{portal.url}/api/health", verify=trusting)
        assert (answer.status_code, "strict-transport-security" in answer.headers) == (200, True)
        assert portal.stop() < ENDED_S
    other = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "key.pem").write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    code, said = _refused("--data-dir", tmp_path / "portal", *tls)
    assert (code, "certificate with its key" in said) == (2, True)
    (tmp_path / "key.pem").chmod(0o644)
    code, said = _refused("--data-dir", tmp_path / "portal", *tls)
    assert (code, "chmod 600" in said) == (2, True)


def test_it_runs_on_postgresql(tmp_path: Path, postgres_server: Postgres) -> None:
    url = postgres_server.database()
    with running(tmp_path / "portal", "--database", url) as portal:
        assert httpx.get(f"{portal.url}/api/health").status_code == 200
        assert not (tmp_path / "portal" / "portal.db").exists()
        assert portal.stop() < ENDED_S
    code, said = _refused("--data-dir", tmp_path / "portal", "--database", url.rpartition("/")[0] + "/nothing")
    assert (code, "nothing" in said) == (3, True)
    code, said = _refused("--data-dir", tmp_path / "portal", "--database", "postgresql://a:secret@127.0.0.1:1/x")
    assert (code, "secret" in said) == (3, False)


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o701])
def test_a_data_directory_that_others_may_look_into_is_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "portal").mkdir(mode=mode)
    (tmp_path / "portal").chmod(mode)
    code, said = _refused("--data-dir", tmp_path / "portal")
    assert (code, "chmod 700" in said) == (2, True)


def test_a_key_that_others_may_read_or_that_is_damaged_is_refused(tmp_path: Path) -> None:
    data = tmp_path / "portal"
    data.mkdir(mode=0o700)
    (data / "portal.key").write_text("no key")
    (data / "portal.key").chmod(0o600)
    code, said = _refused("--data-dir", data)
    assert (code, "damaged" in said) == (2, True)
    (data / "portal.key").chmod(0o640)
    code, said = _refused("--data-dir", data)
    assert (code, "chmod 600" in said) == (2, True)


def test_one_process_holds_a_data_directory_and_a_port(tmp_path: Path) -> None:
    with running(tmp_path / "portal") as portal:
        code, said = _refused("--data-dir", tmp_path / "portal", "--listen", f"127.0.0.1:{free_port()}")
        assert (code, "Another portal" in said) == (1, True)
        code, said = _refused("--data-dir", tmp_path / "other", "--listen", portal.url.removeprefix("http://"))
        assert (code, "in use" in said) == (3, True)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--listen", "nowhere"), "listen"),
        (("--listen", "no-such-host.invalid:8080"), "no address of this machine"),
        (("--public-url", "ftp://x"), "public_url"),
        (("--smtp", "127.0.0.1:25"), "mail.sender"),
        (("--tls-cert", "/nothing.pem"), "tls.key"),
        (("--config", "/nothing.toml"), "cannot be read"),
    ],
)
def test_what_is_wrong_with_the_command_is_told(tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    code, said = _refused("--data-dir", tmp_path / "portal", *words)
    assert (code, told in said) == (2, True), said


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "portal").write_text("")
    code, said = _refused("--data-dir", tmp_path / "portal")
    assert (code, "no directory" in said) == (2, True)


def test_its_service_manager_is_told_when_it_serves_and_when_it_ends(tmp_path: Path, manager: Manager) -> None:
    with running(tmp_path / "portal") as portal:
        manager.wait("READY=1")
        assert httpx.get(f"{portal.url}/api/health").status_code == 200
        assert portal.stop() < ENDED_S
        manager.hear()
        assert portal.process.returncode == 0
    in_order = ["STATUS=starting", f"STATUS=serving at {portal.url}", "READY=1", "STOPPING=1"]
    assert [word for word in manager.told if word in in_order] == in_order


def test_a_portal_that_cannot_serve_is_never_ready(tmp_path: Path, manager: Manager) -> None:
    (tmp_path / "portal").mkdir()
    (tmp_path / "portal").chmod(0o755)
    _refused("--data-dir", tmp_path / "portal")
    assert "READY=1" not in manager.hear()


def test_the_watchdog_hears_from_the_portals_own_loop_and_nothing_while_that_hangs(
    tmp_path: Path, manager: Manager
) -> None:
    """The password of the mail server is read from a pipe that nobody writes to: real work, in which the loop hangs."""
    pipe, settings, link_file = tmp_path / "password", tmp_path / "portal.toml", tmp_path / "link"
    os.mkfifo(pipe, 0o600)
    settings.write_text(
        f'[mail]\nserver = "127.0.0.1:1"\nsender = "p@people.example"\nsecurity = "none"\n'
        f'username = "portal"\npassword_file = "{pipe}"\n'
    )
    with running(tmp_path / "portal", "--config", str(settings), "--admin-link-file", str(link_file)) as portal:
        headers = {"Origin": portal.url}
        assert httpx.post(link_file.read_text().strip(), data=PERSON, headers=headers).status_code == 303
        for _ in range(4):
            manager.wait("WATCHDOG=1")
        asked = httpx.post(f"{portal.url}/forgotten-password", data={"email": PERSON["email"]}, headers=headers)
        assert asked.status_code == 303
        with _opened_by_a_reader(pipe):
            manager.hear()
            time.sleep(1.5)  # three periods of the watchdog
            assert manager.hear() == []
        manager.wait("WATCHDOG=1")
        assert portal.stop() < ENDED_S


@contextlib.contextmanager
def _opened_by_a_reader(pipe: Path) -> Iterator[None]:
    """Hold the other end of a pipe, as soon as somebody reads from it, and say nothing."""
    end = _other_end(pipe)
    try:
        yield
    finally:
        os.close(end)


def _other_end(pipe: Path) -> int:
    deadline = time.monotonic() + 20
    while True:
        with contextlib.suppress(OSError):  # ENXIO: nobody reads yet
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        assert time.monotonic() < deadline
        time.sleep(0.01)
