"""Who may do what at one server (DESIGN §6): the service's user, root, an operator of its group, and anybody else.

The users are made for the tests on a copy of the machine (tests/machine.py), by the file that a package would install;
the commands are the installed ones, run as these users. The kernel is set as Debian sets it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import stat
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.acceptance.site import EXAMPLE, eventually, program
from tests.machine import KILLED, Machine, needed_by, protected_regular, python_of
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.acceptance.site import Process, Said

__all__ = ["protected_regular"]

pytestmark = pytest.mark.usefixtures("protected_regular")

SYSUSERS: Final = Path(__file__).resolve().parents[2] / "systemd/sysusers.d/propagator.conf"
OWNER: Final = "propagator"
OPERATORS: Final = ("alice", "carol")
STRANGER: Final = "bob"

SLEEPS: Final = KILLED.replace("os.kill(os.getpid(), signal.SIGKILL)", "print(flush=True); signal.pause()")
"""A command that has written, and still has the database open."""

LOOKS: Final = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1])
database.execute("SELECT * FROM server").fetchall()
print(flush=True)
sys.stdin.read()
database.close()
"""
"""One that only reads, until it is told that it has seen enough; what it made is gone then."""

WRITES: Final = """
import asyncio, pathlib, sys
from propagator.store import connection

async def write():
    async with connection.opened(pathlib.Path(sys.argv[1]).parent) as store, store.transaction() as tx:
        await tx.run("UPDATE server SET name = 'by a store'")

asyncio.run(write())
"""
"""The store as a command and the agent open it."""


class Server:
    """One server of the machine, and the words that its users say."""

    def __init__(self, machine: Machine, command: str, name: str, role: str) -> None:
        self.machine = machine
        self.command = command
        self.place = machine.directory / name
        self.config = self.place / "etc/propagator.toml"
        self.state_dir = self.place / "var/state"
        self.log = machine.directory / f"{name}.log"
        self._role = role
        self._agent: Process | None = None

    def init(self, user: str = "root", *words: str | Path) -> Said:
        more = ["--listen", f"127.0.0.1:{free_port()}"] if self._role == "lead" else []
        return self.ask(
            user, "init", "--role", self._role, "--id", "es-1", *more, *words, "--state-dir", self.state_dir
        )

    def ask(self, user: str, *words: str | Path, stdin: str = "") -> Said:
        said = self.machine.run(self.command, *words, "--config", self.config, user=user, stdin=stdin)
        assert "Traceback" not in said.out + said.err, said
        assert "internal error" not in said.err, said
        return said

    def register(self, user: str, street: str) -> Said:
        file = self.machine.directory / "registration.toml"
        file.write_text(EXAMPLE.replace("12 Quay Street", street))
        return self.ask(user, "register", file)

    def status(self, user: str = "root") -> dict[str, Any]:
        said = self.ask(user, "status", "--json")
        assert said.code in {0, 1}, said
        return dict(json.loads(said.out))

    def start(self, user: str = OWNER) -> None:
        self._agent = self.machine.process(self.command, "run", "--config", self.config, user=user, log=self.log)
        agent = self._agent

        def leads() -> bool:
            assert agent.is_running, self.log.read_text()
            # Asked as an operator: where root looks, SQLite gives the log of the database to its owner by the way.
            return bool(self.status("carol")["agent"]["running"]) and (
                self._role != "lead" or self.log.read_text().count("record_announced") > 0
            )

        eventually(leads, "the agent leads")

    def stop(self) -> None:
        if self._agent is not None:
            self._agent.end()
            self._agent = None
            self.log.unlink()

    def kill(self) -> None:
        assert self._agent is not None
        self._agent.kill()

    def killed(self, user: str) -> None:
        """Run a command that is killed after it wrote."""
        said = self.machine.run("/usr/bin/python3", "-c", KILLED, self.state_dir / "propagator.db", user=user)
        assert said.code == -signal.SIGKILL, said

    def owners(self) -> set[tuple[str, str]]:
        """Name the user and the group of every file of the state directory."""
        said = self.machine.do("find", self.state_dir, "-printf", "%u:%g\n")
        return {(user, group) for user, _, group in (line.partition(":") for line in said.split())}

    def mode(self, name: str = "") -> int:
        return stat.S_IMODE((self.state_dir / name).stat().st_mode)


@pytest.fixture(scope="module")
def machine(command: str) -> Iterator[Machine]:
    with (
        tempfile.TemporaryDirectory(prefix="ps-") as directory,
        Machine(Path(directory), needed_by(command)) as machine,
    ):
        Path(directory).chmod(0o755)
        machine.do("systemd-sysusers", SYSUSERS)
        for name in OPERATORS:
            machine.do("useradd", "--groups", "propagator", name)
        machine.do("useradd", STRANGER)
        yield machine


@contextlib.contextmanager
def _lead(machine: Machine, command: str) -> Iterator[Server]:
    server = Server(machine, command, f"lead-{time.monotonic_ns()}", "lead")
    said = server.init()
    assert said.code == 0, said
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def lead(machine: Machine, command: str) -> Iterator[Server]:
    """A lead of one test, not started."""
    with _lead(machine, command) as server:
        yield server


@pytest.fixture(scope="module")
def idle(machine: Machine, command: str) -> Iterator[Server]:
    """A lead for the tests that change nothing; its agent does not run."""
    with _lead(machine, command) as server:
        assert server.register("root", "1 Quay Street").code == 0
        yield server


@pytest.fixture(scope="module")
def running(machine: Machine, command: str) -> Iterator[Server]:
    """The same, and its agent runs."""
    with _lead(machine, command) as server:
        server.start()
        yield server


# What root makes belongs to the service.


def test_a_state_directory_that_root_makes_belongs_to_the_service_and_is_shared_with_its_group(idle: Server) -> None:
    lead = idle
    assert lead.owners() == {(OWNER, OWNER)}
    assert lead.mode() == 0o3770
    assert lead.mode("propagator.db") == 0o660
    assert lead.mode("keys") == lead.mode("broker") == 0o700
    assert {stat.S_IMODE(key.stat().st_mode) for key in (lead.state_dir / "keys").iterdir()} == {0o600}


def test_whatever_the_umask_of_root_the_service_gets_to_its_configuration(machine: Machine, command: str) -> None:
    server = Server(machine, command, "strict", "standalone")
    words = [command, "init", "--role", "standalone", "--id", "es-1", "--state-dir", server.state_dir]
    line = " ".join(map(str, [*words, "--config", server.config]))
    machine.do("bash", "-c", f"umask 077; {line}")
    server.start()
    assert server.status(OWNER)["agent"]["running"]
    server.stop()


def test_every_file_keeps_its_owner_whatever_root_does(lead: Server) -> None:
    """Commands with and without an agent, and an agent that root runs by hand, before the service runs again."""
    assert lead.register("root", "1 Quay Street").code == 0
    for user in ("root", OWNER):
        lead.start(user)
        assert lead.register("root", f"{user} Street").out.splitlines()[-1].startswith("Saved and published")
        assert lead.ask("root", "invite", "as-1").code == 0
        assert lead.ask("root", "revoke", "as-1").code == 0
        assert lead.status()["verdict"] == "ok"
        lead.stop()
        assert lead.owners() == {(OWNER, OWNER)}


def test_f32_the_service_starts_after_an_agent_of_roots_was_killed(lead: Server) -> None:
    """What Mosquitto stored as root the service's cannot read: it is a cache, and is replaced."""
    lead.start("root")
    broker = Path("/proc", (lead.state_dir / "broker/broker.pid").read_text().split()[0])
    lead.kill()
    eventually(lambda: not broker.exists(), "the kernel has ended its broker")
    store = lead.state_dir / "broker/mosquitto.db"
    store.write_bytes(b"root's")
    store.chmod(0o600)
    lead.start()
    assert lead.status()["verdict"] in {"ok", "problem"}
    lead.stop()
    assert lead.owners() == {(OWNER, OWNER)}


def test_a_state_directory_of_another_user_stays_that_users(machine: Machine, command: str) -> None:
    server = Server(machine, command, "other", "standalone")
    machine.do("install", "--directory", f"--owner={STRANGER}", server.state_dir)
    assert server.init().code == 0
    assert {user for user, _ in server.owners()} == {STRANGER}


# Operators: members of the group.


def test_an_operator_sees_all_that_root_sees(idle: Server) -> None:
    for words in (("status", "--json"), ("record", "--json"), ("history", "--json")):
        said = [idle.ask(user, *words) for user in ("alice", "root")]
        assert said[0].code == said[1].code
        assert _timeless(said[0].out) == _timeless(said[1].out)


def _timeless(text: str) -> str:
    return re.sub(r'"at": "[^"]*"', "", text)


def test_an_operator_sees_the_live_state_of_a_running_agent(running: Server) -> None:
    status = running.status("alice")
    assert status["agent"]["running"]
    assert status["downlink"]["listening"]


def test_what_an_operator_registers_is_published_at_the_next_heartbeat(lead: Server) -> None:
    text = lead.config.read_text()
    lead.config.write_text(re.sub(r"(?m)^heartbeat_s = .*$", "heartbeat_s = 2", text))
    lead.start()
    said = lead.register("alice", "2 Quay Street")
    assert (said.code, said.out.splitlines()[-1]) == (0, "Saved; not yet published.")
    eventually(lambda: not lead.status("alice")["record"]["pending"], "it is published", timeout_s=10)
    assert lead.status()["record"]["registration"]["address"]["street"] == "2 Quay Street"


def test_an_operator_registers_without_an_agent_too(lead: Server) -> None:
    said = lead.register("alice", "3 Quay Street")
    assert (said.code, said.out.splitlines()[-1]) == (
        0,
        "Saved; it is published when the agent runs (propagator run).",
    )
    assert lead.owners() == {(OWNER, OWNER)}
    lead.start()
    assert lead.status()["record"]["pending"] is False


def test_only_root_and_the_owner_may_poke_the_agent(running: Server) -> None:
    ask = (
        "import json, socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
        "s.sendall(json.dumps({'op': sys.argv[2]}).encode() + b'\\n'); print(s.makefile().readline())"
    )

    def answered(user: str, op: str) -> bool:
        path = running.state_dir / "control.sock"
        said = running.machine.run("/usr/bin/python3", "-c", ask, path, op, user=user)
        return said.code == 0 and bool(json.loads(said.out)["ok"])

    who = ("root", OWNER, "alice", STRANGER)
    assert [answered(user, "live") for user in who] == [True, True, True, False]
    assert [answered(user, "poke") for user in who] == [True, True, False, False]


@pytest.mark.parametrize("line", ["invite as-1", "rotate", "run"])
def test_what_needs_the_keys_an_operator_is_told_to_do_as_the_owner(idle: Server, line: str) -> None:
    said = idle.ask("alice", *line.split())
    assert said.code == 3
    assert said.err.splitlines()[-1] == f"Try: Run this as root, or as {OWNER}."
    assert idle.owners() == {(OWNER, OWNER)}


@pytest.mark.parametrize("line", ["take-over", "associate --from-field --yes"])
def test_what_goes_through_the_agent_an_operator_is_told_to_do_as_root(running: Server, line: str) -> None:
    said = running.ask("alice", *line.split())
    assert said.code != 0
    assert said.err.splitlines()[-1] == "Try: run this as root"


def test_an_operator_who_may_read_no_key_has_the_agent_diagnose(
    running: Server, machine: Machine, command: str
) -> None:
    shadow = Server(machine, command, "shadow", "shadow")
    assert shadow.init("root", "--id", "as-1").code == 0
    shadow.start()
    try:
        token = running.ask("root", "invite", "as-1").out
        assert shadow.ask("root", "attach", "-", "--yes", stdin=token).code == 0
        said = shadow.ask("alice", "diagnose")
        assert (said.code, "The agent looked" in said.out, "OK, certain" in said.out) == (0, True, True), said
        said = shadow.ask("alice", "diagnose", "--json")
        assert {stage["result"] for stage in said.json["stages"]} == {"passed"}, said
    finally:
        shadow.stop()
    said = shadow.ask("alice", "diagnose", "--json")
    assert (said.code, said.json["verdict"]["code"]) == (1, "CANNOT_TELL")
    assert said.json["as_root"]


def test_an_operator_cannot_read_a_key(idle: Server) -> None:
    for key in ("signing.key", "identity.key", "ca.key"):
        assert idle.machine.run("cat", idle.state_dir / "keys" / key, user="alice").code == 1


def test_an_operator_cannot_remove_what_is_the_services(idle: Server) -> None:
    for name in ("propagator.db", "keys", "broker"):
        assert idle.machine.run("mv", idle.state_dir / name, idle.state_dir / "gone", user="alice").code == 1


# Anybody else.

COMMANDS: Final = (
    *("status", "record", "history", "register FILE", "undo", "export", "invite as-1", "revoke as-1", "detach", "run"),
    *("rotate", "take-over", "associate --from-field --yes"),
)


@pytest.mark.parametrize("which", ["idle", "running"])
@pytest.mark.parametrize("line", COMMANDS)
def test_anybody_else_is_told_who_may(request: pytest.FixtureRequest, which: str, line: str) -> None:
    server: Server = request.getfixturevalue(which)
    file = server.machine.directory / "registration.toml"
    file.write_text(EXAMPLE)
    said = server.ask(STRANGER, *line.replace("FILE", str(file)).split())
    assert said.code == 3
    assert said.err.splitlines()[-1].startswith("Try: ")
    assert re.search("as root, or as a member of the group propagator|, or as propagator", said.err.splitlines()[-1])


def test_status_as_json_says_why_it_cannot_tell(idle: Server) -> None:
    said = idle.ask(STRANGER, "status", "--json")
    assert said.code == 3
    assert json.loads(said.out)["verdict"] == "unknown"


# The log of the database, in everybody's hands by turns.


def test_root_service_and_operators_write_by_turns(lead: Server) -> None:
    users = ("alice", "root", "carol", OWNER, "alice", OWNER, "root", "carol")
    for number, user in enumerate(users):
        if number == len(users) // 2:
            lead.start()
        assert lead.register(user, f"{number} Quay Street").code == 0
        assert lead.status("alice")["record"]["registration"]["address"]["street"] == f"{number} Quay Street"
    lead.stop()
    assert lead.owners() == {(OWNER, OWNER)}


@pytest.mark.parametrize("user", [OWNER, "root", "alice"])
def test_f32_a_log_that_a_killed_operator_left_is_taken_over(lead: Server, user: str) -> None:
    """By whoever comes next and may: the agent's user, root, or the operator again. What was committed is there."""
    lead.killed("alice")
    assert ("alice", OWNER) in lead.owners()
    assert lead.register(user, "4 Quay Street").code == 0
    assert lead.status()["server"]["name"] == "by a killed command"
    assert lead.owners() == {(OWNER, OWNER)}


def test_f32_the_agent_starts_on_the_log_that_a_killed_operator_left(lead: Server) -> None:
    lead.killed("alice")
    lead.start()
    assert lead.register("alice", "5 Quay Street").code == 0
    assert lead.register("root", "6 Quay Street").code == 0
    lead.stop()
    assert lead.owners() == {(OWNER, OWNER)}


@pytest.mark.parametrize("user", [OWNER, "root", "alice"])
def test_f32_a_log_made_between_the_claim_and_the_opening_is_claimed_too(lead: Server, user: str) -> None:
    """A store is stopped as it opens the database, and somebody looks until it has to open it once more."""
    database = lead.state_dir / "propagator.db"
    trace = lead.log.with_suffix(".trace")
    trace.touch()
    trace.chmod(0o666)
    stopping = ("--trace-path", database, "-e", "inject=openat:signal=SIGSTOP:when=1")
    tracer = lead.machine.process(
        *(program("strace", "strace"), "-f", "-o", trace, *stopping, python_of(lead.command), "-c", WRITES, database),
        user=user,
        log=lead.log,
    )

    def is_stopped(times: int) -> bool:
        assert tracer.is_running, lead.log.read_text()
        return trace.read_text().count("--- SIGSTOP") == times

    eventually(lambda: is_stopped(1), "it opens the database")
    (store,) = Path(f"/proc/{tracer.pid}/task/{tracer.pid}/children").read_text().split()
    with subprocess.Popen(
        lead.machine.command("/usr/bin/python3", "-c", LOOKS, database, user="carol"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as looking:
        assert looking.stdout is not None
        assert looking.stdout.readline() == b"\n"
        os.kill(int(store), signal.SIGCONT)
        eventually(lambda: is_stopped(2), "it opens the database again")

    def has_ended() -> bool:  # each of its threads is stopped once
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(store), signal.SIGCONT)
        return not tracer.is_running

    eventually(has_ended, "it has written")
    assert tracer.wait() == 0, lead.log.read_text()
    assert lead.status()["server"]["name"] == "by a store"


def test_f32_another_operator_still_sees_and_is_told_what_helps(lead: Server) -> None:
    lead.killed("alice")
    assert lead.status("carol")["server"]["name"] == "by a killed command"
    said = lead.register("carol", "7 Quay Street")
    assert said.code == 3
    assert "root" in said.err.splitlines()[-1]


def test_f32_an_operator_that_is_killed_while_the_agent_runs_disturbs_nobody(lead: Server) -> None:
    lead.start()
    lead.killed("alice")
    assert lead.register("carol", "8 Quay Street").code == 0
    lead.stop()
    lead.start()
    assert lead.status()["record"]["registration"]["address"]["street"] == "8 Quay Street"


def test_the_agent_waits_for_an_operator_at_work_and_takes_nothing_from_under_it(lead: Server) -> None:
    """A log that is in use is not replaced: what its writer commits later would be lost."""
    database = lead.state_dir / "propagator.db"
    with subprocess.Popen(
        lead.machine.command("/usr/bin/python3", "-c", SLEEPS, database, user="alice"), stdout=subprocess.PIPE
    ) as working:
        assert working.stdout is not None
        assert working.stdout.readline() == b"\n"
        before = (lead.state_dir / "propagator.db-wal").stat().st_ino
        said = lead.register(OWNER, "9 Quay Street")
        assert (said.code, "held by another user's command" in said.err) == (3, True)
        assert (lead.state_dir / "propagator.db-wal").stat().st_ino == before
        working.kill()
    assert lead.register(OWNER, "9 Quay Street").code == 0
    assert lead.status()["server"]["name"] == "by a killed command"


def test_a_planted_link_for_the_log_is_not_followed(lead: Server) -> None:
    victim = lead.machine.directory / "victim"
    victim.write_text("precious")
    victim.chmod(0o644)
    lead.machine.do("ln", "-s", victim, lead.state_dir / "propagator.db-wal", user="alice")
    for user in (OWNER, "root"):
        lead.register(user, f"{user} Street")
    assert (victim.read_text(), victim.stat().st_uid) == ("precious", 0)
    assert lead.register(OWNER, "10 Quay Street").code == 0
