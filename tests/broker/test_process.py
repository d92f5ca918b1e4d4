"""Mosquitto as a child: it starts, restarts and ends with us, and leaves nothing behind, however we end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from propagator.broker import EmbeddedBroker, child, embedded, port
from propagator.core.errors import BrokerError, PropagatorError
from tests.logged import logged
from tests.support_broker import (
    ROOT,
    eventually,
    is_alive,
    is_listening,
    lead_account,
    listener,
    resources,
    shadow_account,
    within,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from structlog.typing import EventDict

    from propagator.broker.arrivals import Arrivals
    from tests.broker.conftest import Site


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The pids that were sent a SIGHUP."""
    sent: list[int] = []
    hang_up = child.Child.hang_up

    def note(self: child.Child) -> None:
        sent.append(self.pid)
        hang_up(self)

    monkeypatch.setattr(child.Child, "hang_up", note)
    return sent


@contextlib.contextmanager
def process(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(command, stdout=subprocess.PIPE) as started:
        try:
            yield started
        finally:
            started.kill()


@contextlib.asynccontextmanager
async def supervised(site: Site) -> AsyncIterator[list[EventDict]]:
    """A started broker with its supervisor; yields what is logged."""
    await site.start()
    with logged() as lines:
        supervisor = asyncio.create_task(site.broker.supervise())
        try:
            yield lines
        finally:
            supervisor.cancel()
            await asyncio.wait([supervisor])


def events(logged: Sequence[EventDict]) -> list[str]:
    return [entry["event"] for entry in logged]


async def restarted(logged: Sequence[EventDict], times: int = 1) -> None:
    await eventually(lambda: events(logged).count("broker.restarted") == times)


OUR_DESCRIPTORS = Path("/proc/self/fd")


# Files, user, stdio


async def test_files_are_private(running: Site) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in running.directory.iterdir()}
    assert modes == dict.fromkeys(("mosquitto.conf", "passwords", "topics", "broker.pid", "broker.sock"), 0o600)
    assert stat.S_IMODE(running.directory.stat().st_mode) == 0o700


async def test_broker_runs_as_our_own_user(running: Site) -> None:
    """As user `mosquitto` it could not read the key, and would outlive us."""
    assert (running.proc / "status").stat().st_uid == os.geteuid()


async def test_broker_has_its_own_stdio_session_and_environment(running: Site) -> None:
    """An inherited pipe hangs `make demo | tee`; Ctrl-C in our terminal is not for it; nor is systemd's socket."""
    opened = [(running.proc / "fd" / name).readlink() for name in "012"]
    assert opened[:2] == [Path(os.devnull)] * 2
    assert opened[2] not in {(OUR_DESCRIPTORS / name).readlink() for name in "012"}
    assert os.getsid(running.pid) != os.getsid(0)
    assert (running.proc / "environ").read_bytes() == b""


async def test_directory_with_spaces_in_its_path_is_fine(site: Site, tmp_path: Path) -> None:
    """Mosquitto ends the path of a Unix socket at the first space, and unlinks what it then has."""
    bystander = tmp_path / "state"
    bystander.write_text("precious")
    site.broker = EmbeddedBroker(tmp_path / "state of the lead", site.listener)
    await site.start()
    async with site.lead().connect() as lead:
        await lead.publish(f"{ROOT}/heartbeat", b"")
    assert bystander.read_text() == "precious"


# Reload


async def test_reload_without_a_change_signals_nothing(running: Site, signals: list[int]) -> None:
    await running.broker.reload(running.accounts)
    assert signals == []
    for _ in range(2):
        await running.broker.reload([*running.accounts, shadow_account("es-3")])
        assert signals == [running.pid]


async def test_reload_right_after_the_start_ends_nothing(site: Site) -> None:
    """A SIGHUP before Mosquitto has its handler would end it."""
    for _ in range(5):
        await site.start()
        pid = site.pid
        await site.broker.reload([*site.accounts, shadow_account("es-3")])
        async with site.lead().connect():
            assert is_alive(pid)
        await site.broker.stop()


def test_handler_for_the_signal_is_seen() -> None:
    with process("sleep", "60") as without:
        assert not child.catches_hangup(without.pid)
    code = "import signal; signal.signal(signal.SIGHUP, print); print(flush=True); signal.pause()"
    with process(sys.executable, "-c", code) as handling:
        assert handling.stdout
        handling.stdout.readline()
        assert child.catches_hangup(handling.pid)
    assert not child.catches_hangup(handling.pid)


async def test_reload_of_a_stopped_broker_does_nothing(site: Site) -> None:
    await site.broker.reload(site.accounts)
    assert not site.directory.exists()


# Start and stop


async def test_stop_and_start_20_times_leaves_nothing(site: Site) -> None:
    await site.start()
    await site.broker.stop()
    before = resources()
    pids = set()
    for _ in range(20):
        await site.start()
        pids.add(site.pid)
        await site.broker.stop()
    assert len(pids) == 20
    assert not any(map(is_alive, pids))
    assert not is_listening(site.listener.port)
    assert {path.name for path in site.directory.iterdir()} == {"mosquitto.conf", "passwords", "topics", "mosquitto.db"}
    await eventually(lambda: resources()["threads"] == before["threads"])  # asyncio waits for a child in one
    after = resources()
    assert after["tasks"] == before["tasks"]
    assert len(after["descriptors"]) == len(before["descriptors"])


async def test_stop_ends_a_broker_that_does_not_answer(running: Site) -> None:
    pid = running.pid
    os.kill(pid, signal.SIGSTOP)
    await within(running.broker.stop(), 2.0)
    assert not is_alive(pid)
    assert not is_listening(running.listener.port)


async def test_cancelled_start_leaves_nothing(site: Site) -> None:
    for delay_s in (0.0, 0.001, 0.005, 0.01, 0.02):
        starting = asyncio.create_task(site.start())
        await asyncio.wait([starting], timeout=delay_s)
        starting.cancel()
        await asyncio.wait([starting])
        await site.broker.stop()
        assert not is_listening(site.listener.port)
        assert not (site.directory / "broker.pid").exists()


async def test_stop_during_a_start_leaves_nothing(site: Site) -> None:
    others = child_pids()  # of other tests of this process
    for delay_s in (0.0, 0.001, 0.005, 0.01):
        starting = asyncio.create_task(site.start())
        await asyncio.wait([starting], timeout=delay_s)
        await site.broker.stop()
        assert child_pids() == others
        with contextlib.suppress(BrokerError):
            await starting
        assert child_pids() == others
        assert not (site.directory / "broker.pid").exists()


async def test_stop_waits_for_a_start_that_has_just_made_its_process(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, go_on = asyncio.Event(), asyncio.Event()
    others = child_pids()

    async def spawn(directory: Path, max_connections: int, arrivals: Arrivals) -> child.Child:
        process = await child.spawn(directory, max_connections, arrivals)
        made.set()
        await go_on.wait()
        return process

    monkeypatch.setattr(embedded, "spawn", spawn)
    starting = asyncio.create_task(site.start())
    await within(made.wait())
    stopping = asyncio.create_task(site.broker.stop())
    await asyncio.wait([stopping], timeout=0.01)
    go_on.set()
    await within(stopping)
    assert child_pids() == others
    with pytest.raises(BrokerError, match="stopped while it started"):
        await starting


def child_pids() -> list[str]:
    return [pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]


# What is in the way of a start


async def failure_of_start(site: Site) -> PropagatorError:
    with pytest.raises(PropagatorError) as failed:
        await site.start()
    assert failed.value.hint
    assert not (site.directory / "broker.pid").exists()
    return failed.value


async def test_port_that_is_taken_is_told_with_its_holder(site: Site) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", site.listener.port))
        taken.listen()
        failed = await failure_of_start(site)
    assert str(failed) == f"The broker's port {site.listener.port} is taken by {_comm()} (process {os.getpid()})."


def _comm() -> str:
    return Path("/proc/self/comm").read_text().strip()


async def test_port_that_is_taken_by_somebody_hidden_is_told_with_his_name(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(port, "_sockets", lambda _: iter(()))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", site.listener.port))
        taken.listen()
        failed = await failure_of_start(site)
    assert f"is taken by a process of {pwd.getpwuid(os.geteuid()).pw_name}." in str(failed)


REFUSALS = {
    "a privileged port": (errno.EACCES, "may not listen on port", "above 1023"),
    "an address of another machine": (errno.EADDRNOTAVAIL, "cannot listen on 127.0.0.1", "[::]"),
}


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS.keys())
async def test_address_that_cannot_be_had_is_told(
    site: Site, monkeypatch: pytest.MonkeyPatch, refusal: tuple[int, str, str]
) -> None:
    number, says, hint = refusal

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(port, "_try_listening", refuse)
    failed = await failure_of_start(site)
    assert says in str(failed)
    assert hint in failed.hint


async def test_broker_that_is_not_installed_is_told_with_the_command(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name, path=None: None if name == "mosquitto" else f"{path}/{name}")
    failed = await failure_of_start(site)
    assert "mosquitto" in str(failed)
    assert failed.hint.endswith("apt-get install mosquitto")


async def test_broker_outside_the_path_of_ordinary_users_is_found(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    await site.start()


async def test_socket_path_that_is_too_long_is_told(site: Site, tmp_path: Path) -> None:
    site.broker = EmbeddedBroker(tmp_path / ("x" * 100), site.listener)
    failed = await failure_of_start(site)
    assert "longer than 107 bytes" in str(failed)
    assert "state_dir" in failed.hint


async def test_directory_that_cannot_be_used_is_told(site: Site) -> None:
    site.directory.write_text("a file")
    with pytest.raises(BrokerError) as failed:
        await site.start()
    assert str(site.directory) in str(failed.value)
    assert failed.value.hint


async def test_certificate_that_is_missing_is_told(site: Site, tmp_path: Path) -> None:
    site.listener.cert_file.rename(tmp_path / "away")
    try:
        failed = await failure_of_start(site)
    finally:
        (tmp_path / "away").rename(site.listener.cert_file)
    assert str(site.listener.cert_file) in str(failed)


async def test_certificate_that_is_none_is_told_in_mosquittos_words(site: Site, tmp_path: Path) -> None:
    rubbish = tmp_path / "rubbish.crt"
    rubbish.write_text("rubbish")
    where = listener(site.authority, site.listener.port)
    site.broker = EmbeddedBroker(site.directory, type(where)("", where.port, rubbish, where.key_file, where.ca_file))
    failed = await failure_of_start(site)
    assert "ended at once" in str(failed)
    assert "certificate" in failed.hint or "SSL" in failed.hint or "PEM" in failed.hint


async def test_broker_that_never_gets_ready_is_ended_and_told(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_START_S", 0.2)
    monkeypatch.setattr(embedded, "catches_hangup", lambda _: False)
    failed = await failure_of_start(site)
    assert "is not ready after 0.2 s" in str(failed)
    assert not is_listening(site.listener.port)


# What an earlier start left


async def test_leftover_named_by_the_pid_file_is_ended(site: Site) -> None:
    await site.start()
    await site.broker.stop()
    program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    orphan = await asyncio.create_subprocess_exec(
        "setpriv", "--pdeathsig", "KILL", program, "-c", "mosquitto.conf", cwd=site.directory, stderr=subprocess.DEVNULL
    )
    await eventually(lambda: is_listening(site.listener.port))
    (site.directory / "broker.pid").write_bytes(child.name_of(orphan.pid))
    await site.start()
    await within(orphan.wait(), 1.0)
    async with site.lead().connect() as lead:
        await lead.publish(f"{ROOT}/heartbeat", b"")


async def test_leftover_that_ignores_sigterm_is_killed(site: Site) -> None:
    code = "import signal; signal.signal(15, signal.SIG_IGN); print(flush=True); signal.pause()"
    with process(sys.executable, "-c", code) as stubborn:
        assert stubborn.stdout
        stubborn.stdout.readline()
        site.directory.mkdir()
        (site.directory / "broker.pid").write_bytes(child.name_of(stubborn.pid))
        await site.start()
        assert stubborn.wait(1) == -signal.SIGKILL


async def test_foreign_process_with_the_pid_of_a_leftover_is_not_touched(site: Site) -> None:
    with process("sleep", "60") as foreign:
        pid, started = child.name_of(foreign.pid).split()
        site.directory.mkdir()
        (site.directory / "broker.pid").write_bytes(b"%s %d\n" % (pid, int(started) - 1))
        await site.start()
        assert foreign.poll() is None


@pytest.mark.parametrize("content", [b"", b"rubbish", b"1\n", b"-1 5\n", b"0 0\n", b"9999999999 1\n", b"4194304 1\n"])
async def test_pid_file_that_names_nobody_is_no_obstacle(site: Site, content: bytes) -> None:
    site.directory.mkdir()
    (site.directory / "broker.pid").write_bytes(content)
    await site.start()


SCRIPT = """
import asyncio, os, sys
from pathlib import Path
from propagator.broker import EmbeddedBroker
from tests.support_broker import Listener, lead_account

async def main(directory, port, cert, key, ca):
    listener = Listener("127.0.0.1", int(port), Path(cert), Path(key), Path(ca))
    broker = EmbeddedBroker(Path(directory), listener)
    await broker.start([lead_account()])
    print((Path(directory) / "broker.pid").read_text().split()[0], flush=True)
    if os.environ.get("THEN") == "exit":
        os._exit(0)
    await asyncio.sleep(60)

asyncio.run(main(*sys.argv[1:]))
"""


@contextlib.contextmanager
def another_parent(site: Site, **environment: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A process of its own that has started the site's broker; yields it and the broker's pid."""
    where = site.listener
    paths = (where.cert_file, where.key_file, where.ca_file)
    command = [sys.executable, "-c", SCRIPT, str(site.directory), str(where.port), *map(str, paths)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, cwd=root, env={**os.environ, "PYTHONPATH": str(root), **environment}
    ) as parent:
        try:
            assert parent.stdout
            pid = int(parent.stdout.readline())
            try:
                yield parent, pid
            finally:
                with contextlib.suppress(ProcessLookupError):  # it should have ended with its parent
                    os.kill(pid, signal.SIGKILL)
        finally:
            parent.kill()


async def test_kill_of_the_parent_ends_the_broker_and_frees_the_port(site: Site) -> None:
    with another_parent(site) as (parent, pid):
        assert is_alive(pid)
        assert is_listening(site.listener.port)
        parent.kill()
        await eventually(lambda: not is_alive(pid), 2.0)
    await eventually(lambda: not is_listening(site.listener.port), 2.0)
    await site.start()  # and what the dead one left is no obstacle


async def test_reader_of_the_parents_output_sees_its_end(site: Site) -> None:
    with another_parent(site, THEN="exit") as (parent, _):
        assert parent.stdout
        assert await within(asyncio.to_thread(parent.stdout.read), 2.0) == b""


# Supervision


async def test_dead_broker_is_started_again_and_its_last_lines_are_logged(site: Site) -> None:
    async with supervised(site) as logged:
        before = site.pid
        async with site.bus().connect():
            await eventually(lambda: any("as es-1" in line for line in site.broker.last_lines))
        await eventually(lambda: "es-1 disconnected" in site.broker.last_lines[-1])
        lines = list(site.broker.last_lines)
        os.kill(before, signal.SIGKILL)
        await restarted(logged)
        assert site.pid != before
        async with site.bus().connect() as shadow:
            await shadow.publish(f"{ROOT}/shadows/es-1/report", b"")
    exited = logged[events(logged).index("broker.exited")]
    assert exited["log_level"] == "warning"
    assert exited["status"] == -signal.SIGKILL
    assert list(exited["lines"]) == lines


async def test_accounts_of_the_last_reload_hold_after_a_restart(site: Site) -> None:
    async with supervised(site) as logged:
        await site.broker.reload([lead_account(), shadow_account("es-9")])
        os.kill(site.pid, signal.SIGKILL)
        await restarted(logged)
        async with site.bus("es-9").connect() as shadow:
            await shadow.publish(f"{ROOT}/shadows/es-9/report", b"")


async def test_restart_waits_twice_as_long_each_time_up_to_a_cap(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def note(_: EmbeddedBroker, timeout_s: float) -> bool:
        waits.append(timeout_s)
        await asyncio.sleep(0)
        return len(waits) == 10

    monkeypatch.setattr(EmbeddedBroker, "_stops_within", note)
    monkeypatch.setattr(EmbeddedBroker, "_relaunch", _do_nothing)
    await site.start()
    os.kill(site.pid, signal.SIGKILL)
    await within(site.broker.supervise())
    assert waits == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30])


async def _do_nothing(_: EmbeddedBroker) -> None:
    await asyncio.sleep(0)


async def test_restart_is_quick_again_after_a_minute_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    wait = EmbeddedBroker._stops_within

    async def note(broker: EmbeddedBroker, timeout_s: float) -> bool:
        waits.append(timeout_s)
        return await wait(broker, 0.01)

    monkeypatch.setattr(EmbeddedBroker, "_stops_within", note)
    async with supervised(site) as logged:
        for count in (1, 2):
            os.kill(site.pid, signal.SIGKILL)
            await restarted(logged, count)
        monkeypatch.setattr(embedded, "_STABLE_S", 0.0)
        os.kill(site.pid, signal.SIGKILL)
        await restarted(logged, 3)
    assert waits == [0.2, 0.4, 0.2]


async def test_restart_that_fails_is_told_and_tried_again(site: Site) -> None:
    async with supervised(site) as logged:
        with socket.socket() as taken:
            os.kill(site.pid, signal.SIGKILL)
            await eventually(lambda: not is_listening(site.listener.port))
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(("127.0.0.1", site.listener.port))
            taken.listen()
            await eventually(lambda: "broker.restart_failed" in events(logged))
        await restarted(logged)
    failed = logged[events(logged).index("broker.restart_failed")]
    assert "is taken by" in failed["reason"]
    assert failed["hint"]


async def test_supervision_ends_with_the_broker(site: Site) -> None:
    await site.start()
    supervisor = asyncio.create_task(site.broker.supervise())
    await asyncio.sleep(0)
    await site.broker.stop()
    await within(supervisor, 1.0)
    assert not is_listening(site.listener.port)


async def test_stop_while_a_restart_waits_starts_nothing(site: Site) -> None:
    async with supervised(site) as logged:
        os.kill(site.pid, signal.SIGKILL)
        await eventually(lambda: "broker.exited" in events(logged))
        await site.broker.stop()
    assert "broker.restarted" not in events(logged)
    assert not is_listening(site.listener.port)


async def test_lines_of_the_broker_are_always_read(running: Site) -> None:
    """More than a pipe holds: an undrained one would stop Mosquitto."""
    for _ in range(30):
        async with running.bus("es-1").connect():
            pass
    assert 0 < len(running.broker.last_lines) <= 50
    protocol = running.broker._child
    assert protocol
    protocol.pipe_data_received(2, b"x" * 200_000)
    protocol.pipe_data_received(2, b"tail\nnext\n")
    assert all(len(line) <= 4096 for line in running.broker.last_lines)
    assert running.broker.last_lines[-1] == "next"
