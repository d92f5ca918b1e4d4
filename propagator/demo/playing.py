"""Plays the story in a fresh directory, and sees to it that nothing of it stays: no process, no port, no file."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import re
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from propagator.broker.child import check_programs
from propagator.core.errors import InputError, PropagatorError
from propagator.demo import processes
from propagator.demo.site import COMMANDS_LOG, GRACE_S, LOGS, PROCESSES, PROCESSES_HEAD, DemoError, Site, check_left
from propagator.demo.story import play

if TYPE_CHECKING:
    from propagator.demo.story import Figures
    from propagator.demo.telling import Teller

AGENT_KB: Final = 45_000
"""Memory of one agent that is its own (measured: 37 MB a shadow), with room for commands."""

_TMP_BYTES: Final = 60
"""A Unix socket's path holds 107 bytes (unix(7)): a longer $TMPDIR is not used."""

_PREFIX: Final = "pd-"

_PATIENCE: Final = 20
"""From so many shadows on it is said beforehand how long it takes."""


class StoppedError(Exception):
    """The demonstration was told to stop, by the signal `number`; all of it has ended and is removed."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def run(shadows: int, *, keep: bool, tell: Teller) -> Figures:
    """Play it with so many shadows; with `keep` it stays up, in `directory` of the figures.

    Raises InputError where this machine cannot do it, DemoError where something did not hold (its hint names the log
    that was kept), StoppedError.
    """
    check_programs()
    _check_memory(shadows)
    return asyncio.run(_run(shadows, keep=keep, tell=tell))


def stop(directory: Path) -> int:
    """End a demonstration that was kept, and remove its directory; give how many processes were ended.

    Only processes that it recorded are ended, each told apart by its start time. Raises InputError if this is no
    directory of a demonstration of ours, DemoError if something is left.
    """
    directory = directory.resolve()  # as /proc names what a process works in
    named = _recorded(directory)
    alive = sum(1 for process in named if processes.is_alive(process))
    processes.end(named[1:], GRACE_S + 0.1 * len(named))
    processes.end(named[:1], GRACE_S)
    check_left(directory)
    shutil.rmtree(directory)
    return alive


def _recorded(directory: Path) -> list[processes.Process]:
    """Read which processes were started, the lead's first."""
    file = directory / PROCESSES
    try:
        owner, lines = file.stat().st_uid, file.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        owner, lines = os.geteuid(), []
    if lines[:1] != [PROCESSES_HEAD] or not directory.name.startswith(_PREFIX):
        raise InputError(
            f"There is no demonstration in {directory}.", hint="name the directory that `propagator demo --keep` told"
        )
    if owner != os.geteuid():
        raise InputError(f"The demonstration in {directory} is another user's.", hint="stop it as that user")
    return [process for process in map(processes.read, lines[1:]) if process is not None]


async def _run(shadows: int, *, keep: bool, tell: Teller) -> Figures:
    signals = _Signals()
    site = _fresh_site(shadows, bound=not keep)
    try:
        figures = await _play(site, tell, keep=keep)
    except asyncio.CancelledError:
        _clear(site)
        raise StoppedError(signals.caught) from None
    except BrokenPipeError:  # whoever read the story has left
        _clear(site)
        raise
    except (PropagatorError, OSError) as error:
        site.end()
        if signals.caught:  # whoever told us to stop may have told our agents, too
            shutil.rmtree(site.directory, ignore_errors=True)
            raise StoppedError(signals.caught) from None
        log = error.log if isinstance(error, DemoError) else COMMANDS_LOG
        raise DemoError(str(error), log=log, hint=f"less {site.directory / LOGS / log}") from error
    except BaseException:
        site.end()
        raise
    return figures


async def _play(site: Site, tell: Teller, *, keep: bool) -> Figures:
    count = len(site.shadows)
    tell.title(f"Propagator: a lead, its broker and {count} shadow{'s' * (count > 1)} on this machine")
    tell.plain("")
    stays = "stays when this ends" if keep else "is removed at the end"
    tell.step(f"Everything lies in {site.directory}, and {stays}.")
    if count > _PATIENCE:
        tell.more("With so many this takes minutes: each command is a program of its own.", dim=True)
    figures = await play(site, tell)
    if keep:
        figures = dataclasses.replace(figures, directory=str(site.directory))
    else:
        _end(site, tell)
    kept = "All of it keeps running." if keep else "Nothing of it is left."
    tell.plain("")
    tell.title(f"It held: 3 changes, {count} shadow{'s' * (count > 1)}, 1 kill -9, {tell.elapsed_s:.1f} s. {kept}")
    return figures


def _end(site: Site, tell: Teller) -> None:
    tell.waiting("stopping")
    if faults := site.end():
        raise DemoError(f"Not every agent ended well: {', '.join(faults[:3])}.", log=f"{faults[0].split()[0]}.log")
    site.check_gone()
    shutil.rmtree(site.directory)
    tell.step(f"Stopped: no process left, port {site.port} free, {site.directory} removed.")


def _clear(site: Site) -> None:
    site.end()
    shutil.rmtree(site.directory, ignore_errors=True)


class _Signals:
    """Turns the first SIGINT, SIGTERM or SIGHUP into a cancellation of this task; more of them change nothing."""

    def __init__(self) -> None:
        self.caught = 0
        self._task = asyncio.current_task()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, self._catch, number)

    def _catch(self, number: int) -> None:
        if not self.caught and self._task is not None:
            self.caught = number
            self._task.cancel()


def _fresh_site(shadows: int, *, bound: bool) -> Site:
    try:
        usual = tempfile.gettempdir()
        short = usual if len(os.fsencode(usual)) <= _TMP_BYTES else "/tmp"  # noqa: S108  mkdtemp makes ours alone
        return Site(Path(tempfile.mkdtemp(prefix=_PREFIX, dir=short)).resolve(), shadows, bound=bound)
    except OSError as error:
        hint = "name another directory for temporary files: TMPDIR=DIR propagator demo"
        raise DemoError(f"No directory for temporary files can be made: {error.strerror}.", hint=hint) from error


def _check_memory(shadows: int) -> None:
    """Refuse what would drive this machine out of memory. Raises InputError."""
    with contextlib.suppress(OSError):
        found = re.search(r"^MemAvailable: +(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
        free_kb = shadows * 2 * AGENT_KB if found is None else int(found[1])
        fits = free_kb // AGENT_KB - 1
        if fits < shadows:
            raise InputError(
                f"{shadows} shadows need about {shadows * AGENT_KB // 1000} MB; {free_kb // 1000} MB are free.",
                hint=f"propagator demo --shadows {max(fits, 1)}",
            )
