"""`propagator demo`: what it tells is so, and of what it starts nothing stays but what it was asked to keep."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RUN_S: Final = 120
SOON_S: Final = 20.0
"""Deadlines of a whole run, and of an end."""

STORY: Final = (
    "The lead es-1 runs",
    "Registered on their own",
    "All 3 shadows invited and attached",
    "Change 1",
    "Change 2",
    "Change 3",
    "as-3  SIGKILL",
    "The lead shows as-3 as not connected",
    "as-3 is started again",
    "Everybody holds version",
    "All 4 servers asked",
    "Enterprise Server (es-1): ok",
    "Stopped: no process left",
    "It held",
)


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A short folder for temporary files (Unix sockets lie below it); ends with what works in it."""
    made = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))
    monkeypatch.setenv("TMPDIR", str(made))
    yield made
    for pid in at_work_in(made):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(made, ignore_errors=True)


def test_demo_through_a_pipe_tells_what_held_and_leaves_nothing(command: str, folder: Path) -> None:
    ended = run(command)
    assert (ended.returncode, ended.stderr) == (0, "")
    places = [ended.stdout.find(part) for part in STORY]
    assert -1 not in places, ended.stdout
    assert places == sorted(places)
    assert max(map(len, ended.stdout.splitlines())) <= 80
    assert "\x1b" not in ended.stdout
    for arrival in (
        "1  Harbour Mill → Riverside House",
        "2  Old Granary  → Riverside House",
        "3  – +→ Riverside House",
    ):
        assert re.search(rf"  as-{arrival} +[\d.]+ m?s\n", ended.stdout), ended.stdout
    assert_nothing_stays(folder, ended.stdout)


def test_demo_kept_runs_on_until_it_is_stopped(command: str, folder: Path) -> None:
    """The pipe ends with the command although its agents live: they inherited none of it."""
    ended = run(command, "--shadows", "1", "--keep", "--json")
    assert ended.returncode == 0, ended.stderr
    figures = json.loads(ended.stdout)
    assert (figures["ok"], figures["shadows"], len(figures["changes"])) == (True, 1, 3)
    directory = Path(figures["directory"])
    assert directory.parent == folder
    look = [command, "status", "--json", "--config", str(directory / "es-1.toml")]
    status = json.loads(subprocess.run(look, capture_output=True, check=True, timeout=SOON_S).stdout)
    assert (status["verdict"], status["record"]["hash"]) == ("ok", figures["changes"][2]["hash"])
    assert f"demo --stop {directory}" in ended.stderr

    stopped = run(command, "--stop", str(directory))
    assert (stopped.returncode, stopped.stdout) == (0, f"Stopped 2 processes; {directory} is removed.\n")
    assert_nothing_stays(folder, ended.stderr)
    assert run(command, "--stop", str(directory)).returncode == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=["SIGTERM", "Ctrl-C", "hang-up"])
def test_demo_told_to_stop_in_the_middle_leaves_nothing(command: str, folder: Path, number: signal.Signals) -> None:
    with begun(command, "--shadows", "1") as (demo, told):
        demo.send_signal(number)
        assert demo.wait(SOON_S) == 128 + number
    assert_nothing_stays(folder, told)


def test_demo_killed_takes_its_processes_with_it(command: str, folder: Path) -> None:
    with begun(command, "--shadows", "1") as (demo, told):
        demo.kill()
        demo.wait(SOON_S)
    until(lambda: not at_work_in(folder))
    assert is_free(port_in(told))


def test_demo_whose_reader_leaves_leaves_nothing(command: str, folder: Path) -> None:
    with begun(command, "--shadows", "1") as (demo, told):
        assert demo.stdout is not None
        demo.stdout.close()
        assert demo.wait(SOON_S) == 141
    assert_nothing_stays(folder, told)


def test_demo_in_which_an_agent_dies_fails_and_keeps_its_logs(command: str, folder: Path) -> None:
    with begun(command, "--shadows", "1") as (demo, told):
        lines = next(folder.glob("pd-*/processes")).read_text().splitlines()
        lead, pid, _ = lines[1].split()
        os.kill(int(pid), signal.SIGKILL)
        assert demo.wait(RUN_S) == 1
        assert demo.stderr is not None
        error, hint = demo.stderr.read().decode().splitlines()
    assert lead == "es-1"
    assert error.startswith("Error: ")
    log = re.fullmatch(r"Try: less (.+)", hint)
    assert log is not None
    assert Path(log[1]).is_file()
    assert not at_work_in(folder)
    assert is_free(port_in(told))


@pytest.mark.parametrize(
    "words",
    [["--shadows", "0"], ["--shadows", "251"], ["--stop", "."], ["--stop", "/nowhere"], ["--stop", "x", "--keep"]],
    ids=" ".join,
)
def test_demo_asked_wrongly_says_so_and_starts_nothing(command: str, folder: Path, words: list[str]) -> None:
    ended = run(command, *words)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert re.fullmatch(r"Error: .+\nTry: .+\n", ended.stderr)
    assert not list(folder.iterdir())


def test_demo_stop_touches_no_process_that_it_did_not_start(command: str, folder: Path) -> None:
    """A pid that was given to another process since then has another start time."""
    directory = folder / "pd-old"
    directory.mkdir()
    (directory / "processes").write_text(
        f"# propagator demo: server, process id, start time\nes-1 {os.getpid()} 1\nas-1 x\n"
    )
    ended = run(command, "--stop", str(directory))
    assert (ended.returncode, ended.stdout) == (0, f"Stopped 0 processes; {directory} is removed.\n")
    assert not directory.exists()


# Running it.


def run(command: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [command, "demo", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=RUN_S
    )


@contextlib.contextmanager
def begun(command: str, *words: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Start it, and wait until its shadows are being attached: by then all that it starts has been started."""
    pipe = subprocess.PIPE
    with subprocess.Popen([command, "demo", *words], stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe) as demo:
        try:
            yield demo, _told(demo, "Registered on their own")
        finally:
            demo.kill()


def _told(demo: subprocess.Popen[bytes], text: str) -> str:
    assert demo.stdout is not None
    told = b""
    deadline_s = time.monotonic() + RUN_S
    while text.encode() not in told:
        readable, _, _ = select.select([demo.stdout], [], [], deadline_s - time.monotonic())
        part = os.read(demo.stdout.fileno(), 4096) if readable else b""
        assert part, told
        told += part
    return told.decode()


# What stays.


def assert_nothing_stays(folder: Path, told: str) -> None:
    assert not at_work_in(folder)
    assert not list(folder.iterdir())
    assert is_free(port_in(told))


def at_work_in(folder: Path) -> list[int]:
    """Give the processes whose working directory lies in the folder: that of all that a demonstration starts does."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended, or it is another user's
            if (process / "cwd").readlink().is_relative_to(folder):
                found.append(int(process.name))
    return found


def port_in(told: str) -> int:
    found = re.search(r"TLS at 127\.0\.0\.1:(\d+)", told)
    assert found is not None, told
    return int(found[1])


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return True
    return False


def until(reached: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + SOON_S
    while not reached():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
