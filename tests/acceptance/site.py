"""Whole servers for tests: the installed command in processes of its own, told and asked as a person would.

A `Site` makes servers in a short temporary directory (Unix sockets have 107 bytes), and at its end nothing may be left
of it: no process, no broker, no port. `eventually` is the one place that waits.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

T = TypeVar("T")

DEADLINE_S: Final = 30.0
"""For a state to come about: far beyond what it takes, because two cores may have other work as well."""

COMMAND_S: Final = 60.0
END_S: Final = 10.0
_POLL_S: Final = 0.02

LIVE: Final[list[Site]] = []
"""The sites that stand now: a failing test shows the ends of their logs."""

LEADS = frozenset({"lead", "relay"})
"""The roles that have shadows below them."""


def eventually(check: Callable[[], T | None], what: str, timeout_s: float = DEADLINE_S) -> T:
    """Wait until `check()` is true, and give its value; AssertionError with the last one when the time is up."""
    asked_s = time.monotonic()
    deadline_s = asked_s + timeout_s
    while not (value := check()):
        now_s = time.monotonic()
        assert now_s < deadline_s, f"not within {timeout_s:g} s: {what}; last was {value!r}"
        time.sleep(max(_POLL_S, now_s - asked_s))  # what costs is asked less often: the agents need the time
        asked_s = time.monotonic()
    assert value is not None
    return value


def program(name: str, package: str) -> str:
    """Find a program; the test fails, and says which is missing, where it is not."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin")
    assert found, f"this test needs {name}: apt-get install {package}"
    return found


def is_free(port: int) -> bool:
    """Say whether somebody could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@dataclass(frozen=True, slots=True)
class Said:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True, slots=True)
class Status:
    """What `status --json` said, and its exit code."""

    code: int
    json: dict[str, Any]

    @property
    def uplink(self) -> dict[str, Any]:
        assert self.json["uplink"] is not None, self.json
        return dict(self.json["uplink"])

    @property
    def downlink(self) -> dict[str, Any]:
        assert self.json["downlink"] is not None, self.json
        return dict(self.json["downlink"])

    @property
    def record(self) -> dict[str, Any]:
        assert self.json["record"] is not None, self.json
        return dict(self.json["record"])

    @property
    def problems(self) -> str:
        return "\n".join(f"{problem['text']} | {problem['hint']}" for problem in self.json["problems"])

    def row(self, device: str) -> dict[str, Any] | None:
        return next((dict(row) for row in self.downlink["roster"] if row["id"] == device), None)

    def refused(self, reason: str) -> int:
        """How often offers were refused for this reason."""
        return next((int(told["count"]) for told in self.uplink["refusals"] if told["reason"] == reason), 0)


class Process:
    """A process of ours: it ends with the test run, however that ends, and it is always reaped."""

    def __init__(
        self, command: list[str], log: Path, cwd: Path | None = None, more: Mapping[str, str] | None = None
    ) -> None:
        with log.open("ab") as out:
            self._popen = subprocess.Popen(
                [program("setpriv", "util-linux"), "--pdeathsig", "KILL", *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=cwd,
                env={**environment(), **(more or {})},
                start_new_session=True,
            )
        self.pid = self._popen.pid

    @property
    def is_running(self) -> bool:
        return self._popen.poll() is None

    def send(self, number: signal.Signals) -> None:
        if self.is_running:
            os.kill(self.pid, number)

    def wait(self, timeout_s: float = END_S) -> int:
        return self._popen.wait(timeout_s)

    def end(self) -> None:
        """End it for certain."""
        if self.is_running:
            self.send(signal.SIGCONT)
            self.send(signal.SIGTERM)
            try:
                self.wait()
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        self.wait()


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PROPAGATOR_")}
    return {**kept, "COLUMNS": "120", "NO_COLOR": "1"}


class Server:
    """One server: its configuration, its state, its agent, and what its operator types."""

    def __init__(self, site: Site, server_id: str, role: str, place: str = "") -> None:
        place = place or server_id
        self.site = site
        self.id = server_id
        self.role = role
        self.config = site.directory / f"{place}.toml"
        self.state_dir = site.directory / place
        self.log = site.directory / f"{place}.log"
        self.agent: Process | None = None
        self.environment: dict[str, str] = {}
        """What its agent finds in its environment, besides ours."""

    # What an operator types.

    def ask(self, *words: str | Path, stdin: str = "") -> Said:
        """Run a command of this server, whatever comes of it."""
        return self.site.ask(*words, "--config", self.config, stdin=stdin)

    def do(self, *words: str | Path, stdin: str = "") -> str:
        """Run a command that has to work; gives its stdout."""
        said = self.ask(*words, stdin=stdin)
        assert said.code == 0, (words, said)
        return said.out

    def register(self, file: Path) -> str:
        return self.do("register", file)

    def answer(self, question_answer: str, *words: str | Path) -> Said:
        """Run a command at a terminal, and answer its question."""
        ours, theirs = pty.openpty()
        try:
            os.write(ours, f"{question_answer}\n".encode())
            return self.site.ask(*words, "--config", self.config, terminal=theirs)
        finally:
            os.close(ours)
            os.close(theirs)

    def status(self) -> Status:
        said = self.ask("status", "--json")
        return Status(said.code, said.json)

    def record(self) -> dict[str, Any]:
        return dict(json.loads(self.do("record", "--json")))

    def history(self) -> list[dict[str, Any]]:
        return list(json.loads(self.do("history", "--json")))

    def set(self, key: str, value: str) -> None:
        """Set a key of the configuration that `init` wrote; `value` as TOML."""
        text, count = re.subn(rf"(?m)^(# )?{key} = .*$", f"{key} = {value}", self.config.read_text(), count=1)
        assert count == 1, f"no {key} in {self.config}"
        self.config.write_text(text)

    # Its agent.

    def start(self) -> None:
        """Start the agent and wait until it answers; a lead's also until it has its broker."""
        self.launch()
        self.wait_started()

    def launch(self) -> None:
        assert self.agent is None or not self.agent.is_running, f"the agent of {self.id} runs already"
        self.agent = Process([self.site.command, "run", "--config", str(self.config)], self.log, more=self.environment)

    def wait_started(self) -> None:
        def answers() -> bool:
            assert self.agent is not None, "nobody started it"
            assert self.agent.is_running, f"the agent of {self.id} ended: {self.lines()[-3:]}"
            live = self.live()
            return live is not None and (self.role not in LEADS or bool((live["downlink"] or {}).get("connected")))

        eventually(answers, f"the agent of {self.id} answers")

    def stop(self) -> float:
        """SIGTERM; gives the seconds until it was gone. It has to end well."""
        assert self.agent is not None, "nobody started it"
        begun_s = time.monotonic()
        self.agent.send(signal.SIGTERM)
        code = self.agent.wait()
        assert code == 0, (code, self.lines()[-3:])
        return time.monotonic() - begun_s

    def kill(self) -> None:
        """kill -9."""
        assert self.agent is not None, "nobody started it"
        self.agent.kill()

    def restart(self) -> None:
        if self.is_running:
            self.stop()
        self.start()

    @property
    def is_running(self) -> bool:
        return self.agent is not None and self.agent.is_running

    def broker_pid(self) -> int:
        """Give the process of the embedded broker; 0 while there is none."""
        try:
            pid = int((self.state_dir / "broker" / "broker.pid").read_text().split()[0])
        except (FileNotFoundError, IndexError):
            return 0
        return pid if is_alive(pid) else 0

    def live(self) -> dict[str, Any] | None:
        """Ask the agent how its links stand, on its control socket; None if it does not answer."""
        with contextlib.suppress(OSError, ValueError), socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(2)
            peer.connect(str(self.state_dir / "control.sock"))
            peer.sendall(b'{"op":"live"}\n')
            heard = b""
            while part := peer.recv(65536):
                heard += part
            return dict(json.loads(heard))
        return None

    @property
    def state(self) -> str | None:
        """How the agent says that its uplink stands now; None without a connection, but for a lead that is away."""
        uplink = (self.live() or {}).get("uplink")
        if uplink is None or not (uplink["connected"] or uplink["state"] == "unreachable"):
            return None
        return str(uplink["state"])

    def wait_state(self, *states: str) -> None:
        eventually(lambda: self.state in states, f"{self.id} is {' or '.join(states)}")

    def wait_rows(self, **wanted: str) -> Status:
        """Wait until this lead's roster shows these states: device (with _ for -) = state."""
        rows = {device.replace("_", "-"): state for device, state in wanted.items()}
        seen: dict[str, str] = {}

        def shown() -> Status | None:
            status = self.status()
            seen.clear()
            seen.update({row["id"]: row["state"] for row in status.downlink["roster"]})
            return status if rows.items() <= seen.items() else None

        try:
            return eventually(shown, f"the roster of {self.id} shows {rows}")
        except AssertionError as error:
            raise AssertionError(f"{error}; shown were {seen}") from None

    # What lies on its disk.

    def lines(self) -> list[str]:
        return self.log.read_text(errors="replace").splitlines() if self.log.exists() else []

    def events(self, event: str) -> list[dict[str, Any]]:
        """Give the lines of the log with this event."""
        found: list[dict[str, Any]] = []
        for line in self.lines():
            with contextlib.suppress(ValueError):
                said = json.loads(line)
                if isinstance(said, dict) and said.get("event") == event:
                    found.append(said)
        return found

    @contextlib.contextmanager
    def database(self) -> Iterator[sqlite3.Connection]:
        """Open its database as another program would; a test that writes does so while the agent is stopped."""
        connection = sqlite3.connect(self.state_dir / "propagator.db", timeout=10, isolation_level=None)
        connection.row_factory = sqlite3.Row
        try:
            yield connection
        finally:
            connection.close()

    def query(self, sql: str, *values: object) -> list[dict[str, Any]]:
        with self.database() as connection:
            return [dict(row) for row in connection.execute(sql, values)]

    def content(self) -> dict[str, list[tuple[Any, ...]]]:
        """Give all that its database holds: two of these are equal if nothing was changed between them."""
        with self.database() as connection:
            tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            return {table: [tuple(row) for row in connection.execute(f"SELECT * FROM {table}")] for table in tables}  # noqa: S608

    def files(self) -> dict[str, bytes]:
        """Give its configuration, keys and uplink as they lie on the disk."""
        found = [self.config, *(self.state_dir / "keys").glob("*"), *self.state_dir.glob("*.toml")]
        return {path.name: path.read_bytes() for path in found if path.is_file()}


class Site:
    """Servers in one directory, made, run and ended by one test (or by one file of them)."""

    def __init__(self, command: str, settled: Callable[[], Path] | None = None) -> None:
        self.command = command
        self._settled = settled
        self.directory = Path(tempfile.mkdtemp(prefix="ps-"))
        self.servers: dict[str, Server] = {}
        self.brokers: list[Broker] = []
        self.ports: list[int] = []
        self.talk: deque[str] = deque()
        """All that commands said: stdout and stderr."""
        self._number = 0

    def __enter__(self) -> Self:
        LIVE.append(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        agents = [server.agent for server in self.servers.values() if server.agent is not None]
        for agent in agents:
            agent.send(signal.SIGCONT)
            agent.send(signal.SIGTERM)  # all at once: each takes a moment
        for agent in agents:
            agent.end()
        for broker in self.brokers:
            broker.end()
        LIVE.remove(self)
        left = self.left_behind() if kind is None else []
        shutil.rmtree(self.directory, ignore_errors=True)
        assert not left, f"left behind: {left}"

    def left_behind(self) -> list[str]:
        """Name every process that works in this directory, and every port that is still taken."""

        def found() -> list[str]:
            processes = [f"process {pid}: {what}" for pid, what in _processes_in(self.directory)]
            return processes + [f"port {port}" for port in self.ports if not is_free(port)]

        with contextlib.suppress(AssertionError):
            eventually(lambda: not found(), "nothing is left", timeout_s=3)
        return found()

    def ask(self, *words: str | Path, stdin: str = "", terminal: int | None = None) -> Said:
        """Run the command, whatever comes of it. No traceback may ever reach a user."""
        done = subprocess.run(
            [self.command, *map(str, words)],
            stdin=terminal,
            input=stdin if terminal is None else None,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            env=environment(),
            cwd=self.directory,
            check=False,
        )
        self.talk.extend((done.stdout, done.stderr))
        assert "Traceback" not in done.stdout + done.stderr, (words, done)
        return Said(done.returncode, done.stdout, done.stderr)

    def server(
        self, server_id: str, role: str, *, heartbeat_s: float = 1, broker: Broker | None = None, place: str = ""
    ) -> Server:
        """Make a server: `init`, then the periods that tests have time for. `place` names its files, if not the id."""
        server = Server(self, server_id, role, place)
        words: list[str | Path] = ["init", "--role", role, "--id", server_id, "--state-dir", server.state_dir]
        if role in LEADS:
            words += ["--listen", f"127.0.0.1:{self.port()}"]
        said = self.ask(*words, "--config", server.config)
        assert said.code == 0, said
        self.servers[place or server_id] = server
        server.set("level", '"debug"')
        if role in LEADS:
            server.set("heartbeat_s", f"{heartbeat_s:g}")
        if role in {"shadow", "relay"}:
            server.set("probe_interval_s", "1")
        if role == "lead" and broker is not None:
            server.set("broker", f'"mqtts://127.0.0.1:{broker.port}"')
            server.set("username", f'"{server_id}"')
            server.set("password_file", f'"{broker.password_file(server_id)}"')
            server.set("ca_file", f'"{broker.ca_file}"')
        return server

    def lead(self, server_id: str = "es-1", *, heartbeat_s: float = 1, broker: Broker | None = None) -> Server:
        return self.server(server_id, "lead", heartbeat_s=heartbeat_s, broker=broker)

    def shadow(self, server_id: str = "as-1") -> Server:
        return self.server(server_id, "shadow")

    def settled(self) -> tuple[Server, Server, Server]:
        """Give a lead and two shadows that hold its registration, none of them started.

        They are a copy, moved here: to make them anew takes ten seconds, and other tests look at that.
        """
        assert self._settled is not None
        original = self._settled()
        shutil.copytree(original, self.directory, dirs_exist_ok=True, symlinks=True)
        lead, one, other = (self._copied(original, name) for name in ("es-1", "as-1", "as-2"))
        listen = next(line for line in lead.config.read_text().splitlines() if line.startswith("listen = "))
        was, port = listen.split(":")[-1].strip('"'), str(self.port())
        for path in (lead.config, one.state_dir / "uplink.toml", other.state_dir / "uplink.toml"):
            path.write_text(path.read_text().replace(was, port))
        return lead, one, other

    def newcomer(self) -> Server:
        """Give the shadow as-3 beside those of `settled`: it has a registration of its own, and no lead."""
        assert self._settled is not None
        return self._copied(self._settled(), "as-3")

    def _copied(self, original: Path, server_id: str) -> Server:
        server = Server(self, server_id, "lead" if server_id == "es-1" else "shadow")
        for path in (server.config, server.state_dir / "uplink.toml"):
            if path.exists():
                path.write_text(path.read_text().replace(str(original), str(self.directory)))
        self.servers[server_id] = server
        return server

    def settle(self) -> None:
        """Make what `settled` and `newcomer` give copies of."""
        lead, shadows = self.lead(), [self.shadow("as-1"), self.shadow("as-2")]
        for shadow, name in zip((*shadows, self.shadow("as-3")), ("First", "Second", "Third"), strict=True):
            shadow.register(self.registration(f"{name} House"))
        lead.register(self.registration("Riverside House"))
        self.start(lead, *shadows)
        for shadow in shadows:
            self.attach(shadow, lead)
        lead.wait_rows(as_1="in_sync", as_2="in_sync")
        for server in (*shadows, lead):
            server.stop()
            server.log.unlink()

    def invite(self, lead: Server, device: str, *options: str, broker: Broker | None = None) -> str:
        """Give a token for a device."""
        if broker is not None:
            options = (*options, "--account", device, "--password-file", str(broker.password_file(device)))
        return lead.do("invite", device, *options).strip()

    def attach(self, shadow: Server, lead: Server, *options: str, broker: Broker | None = None) -> str:
        """Invite and attach; gives the token that was used."""
        token = self.invite(lead, shadow.id, *options, broker=broker)
        shadow.do("attach", "-", "--yes", stdin=token)
        return token

    def start(self, *servers: Server) -> None:
        """Start several agents at once."""
        for server in servers:
            server.launch()
        for server in servers:
            server.wait_started()

    def port(self) -> int:
        port = free_port()
        self.ports.append(port)
        return port

    def registration(self, name: str, **more: str) -> Path:
        """Write a registration for a site of this name; `more` replaces whole lines: country='"FR"'."""
        text = EXAMPLE.replace("Riverside House", name)
        for key, value in more.items():
            text, count = re.subn(rf"(?m)^{key} = .*$", f"{key} = {value}", text)
            assert count, key
        self._number += 1
        path = self.directory / f"registration-{self._number}.toml"
        path.write_text(text)
        return path

    def broker(self) -> Broker:
        """Start a stock broker, as an operator would have one: TLS, passwords, and no topic rules."""
        broker = Broker(self, self.directory / f"broker-{len(self.brokers) + 1}", self.port())
        self.brokers.append(broker)
        broker.start()
        return broker


EXAMPLE: Final = """\
[site]
type = "single"
name = "Riverside House"
company = "Riverside Estates Ltd"
[address]
street = "12 Quay Street"
city = "Bristol"
state = "Somerset"
postal_code = "BS1 4XY"
country = "GB"
[contact]
email = "facilities@riverside.example"
"""


def _processes_in(directory: Path) -> Iterator[tuple[int, str]]:
    """Find processes that were started for this directory, or work in it."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if int(process.name) != os.getpid() and (
                str(directory) in line or str((process / "cwd").readlink()).startswith(str(directory))
            ):
                yield int(process.name), line.strip()


class Broker:
    """A stock Mosquitto beside the site: a certificate of a CA of its own, a password for each account, no ACL."""

    ACCOUNTS: Final = ("es-1", "es-2", "as-1", "as-2", "as-3", "hand")

    def __init__(self, site: Site, directory: Path, port: int) -> None:
        from propagator import certificates  # noqa: PLC0415  any CA would do; this one is at hand

        self.site = site
        self.port = port
        self._directory = directory
        directory.mkdir()
        authority = certificates.make_authority("operator")
        pair = certificates.make_server_certificate(authority, ["127.0.0.1"])
        self.ca_file = self._write("ca.crt", authority.cert_pem)
        certificate, key = self._write("server.crt", pair.cert_pem), self._write("server.key", pair.key_pem)
        passwords = self._write("passwords", b"")
        for account in self.ACCOUNTS:
            self._write(f"{account}.password", f"secret-of-{account}\n".encode())
            subprocess.run(
                [program("mosquitto_passwd", "mosquitto"), "-b", passwords, account, f"secret-of-{account}"], check=True
            )
        self._configuration = self._write(
            "mosquitto.conf",
            f"listener {port} 127.0.0.1\ncafile {self.ca_file}\ncertfile {certificate}\nkeyfile {key}\n"
            f"allow_anonymous false\npassword_file {passwords}\nuser root\nset_tcp_nodelay true\n".encode(),
        )
        self._process: Process | None = None

    def password_file(self, account: str) -> Path:
        return self._directory / f"{account}.password"

    def start(self) -> None:
        command = [program("mosquitto", "mosquitto"), "-c", str(self._configuration)]
        self._process = Process(command, self._directory / "log")
        eventually(lambda: not is_free(self.port), "the broker listens")

    def kill(self) -> None:
        """kill -9: it comes back with nothing."""
        assert self._process is not None
        self._process.kill()

    def end(self) -> None:
        if self._process is not None:
            self._process.end()

    def publish(self, topic: str, payload: bytes, *, retain: bool = True) -> None:
        """Publish by hand, with the account of nobody in particular."""
        command = [program("mosquitto_pub", "mosquitto-clients"), *self._login(), "-q", "1", "-t", topic]
        command += ["-r"] if retain else []
        command += ["-s"] if payload else ["-n"]
        subprocess.run(command, input=payload, check=True, timeout=COMMAND_S, capture_output=True)

    def retained(self, topic: str, timeout_s: int = 2) -> bytes | None:
        """Look by hand at what lies on a topic; None if nothing does."""
        command = [program("mosquitto_sub", "mosquitto-clients"), *self._login(), "-t", topic]
        command += ["-C", "1", "-W", str(timeout_s), "-N", "--retained-only"]
        done = subprocess.run(command, check=False, timeout=COMMAND_S, capture_output=True)
        return done.stdout if done.returncode == 0 else None

    def publish_lines(self, topic: str, lines: list[str]) -> None:
        """Publish each line as a message."""
        command = [program("mosquitto_pub", "mosquitto-clients"), *self._login(), "-q", "1", "-t", topic, "-l"]
        subprocess.run(command, input="\n".join(lines), text=True, check=True, timeout=COMMAND_S, capture_output=True)

    def next(self, topic: str) -> bytes:
        """Wait by hand for the next message on a topic."""
        command = [program("mosquitto_sub", "mosquitto-clients"), *self._login(), "-t", topic]
        command += ["-C", "1", "-W", f"{DEADLINE_S:g}", "-N"]
        return subprocess.run(command, check=True, timeout=COMMAND_S, capture_output=True).stdout

    def _login(self) -> list[str]:
        where = ["-h", "127.0.0.1", "-p", str(self.port), "--cafile", str(self.ca_file)]
        return [*where, "-u", "hand", "-P", "secret-of-hand"]

    def _write(self, name: str, content: bytes) -> Path:
        path = self._directory / name
        path.touch(mode=0o600)
        path.write_bytes(content)
        return path
