"""Processes by pid: begun so that they end with us, named so that no other is ever taken for one, ended for certain."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

KILL_S: Final = 5.0
"""How long the kernel may take to end what was killed."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process for certain: a pid may come again, but not with the same start time (ticks since boot, proc(5))."""

    owner: str
    pid: int
    started: int

    def __str__(self) -> str:
        return f"{self.owner} {self.pid} {self.started}"


def read(line: str) -> Process | None:
    """Read what `str` of a process wrote; None for anything else."""
    owner, _, numbers = line.strip().partition(" ")
    pid, _, started = numbers.partition(" ")
    if not (pid.isascii() and pid.isdigit() and started.isascii() and started.isdigit()):
        return None
    return Process(owner, int(pid), int(started))


def bound(command: Sequence[str]) -> list[str]:
    """Give the command that dies with this process, whatever ends it. Start it from the main thread.

    The kernel sends the signal once it has been asked to; the shell looks whether we were gone before that.
    """
    alive = 'test "$PPID" = "$0" && exec "$@"'
    return ["setpriv", "--pdeathsig", "KILL", "sh", "-c", alive, str(os.getpid()), *command]


def name(owner: str, pid: int) -> Process:
    """Name a process that was just started, or that has ended and was not waited for yet."""
    return Process(owner, pid, _start_time(pid) or 0)


def is_alive(process: Process) -> bool:
    """Whether a process still is who it was."""
    return _start_time(process.pid) == process.started


def end(processes: Iterable[Process], grace_s: float) -> tuple[Process, ...]:
    """SIGTERM to all that still are who they were, SIGKILL after `grace_s`; give those that had to be killed."""
    held: dict[int, Process] = {}
    try:
        for process in processes:
            if (descriptor := _hold(process)) is not None:
                held[descriptor] = process
        _send(held, signal.SIGTERM)
        late = _wait(held, grace_s)
        _send(late, signal.SIGKILL)
        _wait(late, KILL_S)
        return tuple(late.values())
    finally:
        for descriptor in held:
            os.close(descriptor)


def left_in(directory: Path) -> tuple[int, ...]:
    """Give the pids of servers, brokers and commands that work in a directory. A person's shell there is not ours."""
    return tuple(int(folder.name) for folder in Path("/proc").glob("[0-9]*") if _is_ours(folder, directory))


def _is_ours(folder: Path, directory: Path) -> bool:
    if folder.name == str(os.getpid()):
        return False
    try:
        works_there = (folder / "cwd").readlink().is_relative_to(directory)
        command = (folder / "cmdline").read_bytes() if works_there else b""
    except OSError:  # it ended just now, or it is another user's
        return False
    return b"propagator" in command or b"mosquitto" in command


def _hold(process: Process) -> int | None:
    """Open the process, if it is the one that was named: once it is held its pid cannot become another's."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:
        return None
    if _start_time(process.pid) == process.started:
        return descriptor
    os.close(descriptor)
    return None


def _send(held: Mapping[int, Process], number: signal.Signals) -> None:
    for descriptor in held:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, number)


def _wait(held: Mapping[int, Process], timeout_s: float) -> dict[int, Process]:
    """Wait until all have ended; give those that have not."""
    left = dict(held)
    poller = select.poll()
    for descriptor in left:
        poller.register(descriptor, select.POLLIN)
    deadline_s = time.monotonic() + timeout_s
    while left and (rest_s := deadline_s - time.monotonic()) > 0:
        for descriptor, _ in poller.poll(rest_s * 1000):
            poller.unregister(descriptor)
            del left[descriptor]
    return left


def _start_time(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
    except OSError:
        return None
