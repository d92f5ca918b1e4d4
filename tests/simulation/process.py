"""One process of a simulated machine: what it has open, and how it dies.

The code under test does not know of it. A process is found through the context that its tasks run in, so that disk and
network know whose they are.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from propagator.control import Answer
    from tests.simulation.disk import Connection

Side = Literal["before", "after"]

DiskFault = Literal["full", "read-only", "failing", "locked"]
"""How a disk may be bad: no room, no writing, commits that fail, a database that another program holds."""


@dataclass
class Trap:
    """`kill -9` at a commit: the how-manieth from now, and on which side of it."""

    commits: int
    side: Side


@dataclass(eq=False)
class Process:
    """`machine` names where it runs; `ended` is called when it dies, to end its tasks."""

    machine: str
    rng: Random
    committed: Callable[[Connection], None]
    cut: Callable[[], None] = lambda: None
    ended: Callable[[], None] = lambda: None
    disk_fault: Callable[[], DiskFault | None] = lambda: None
    met_disk_fault: bool = False
    alive: bool = True
    trap: Trap | None = None
    open: list[Connection] = field(default_factory=list)
    answers: dict[str, Answer] = field(default_factory=dict)

    def die(self) -> None:
        """Die as by `kill -9`: open transactions are rolled back, connections just end, nobody says goodbye."""
        if not self.alive:
            return
        self.alive = False
        self.cut()
        for connection in self.open:
            connection.let_go()
        self.ended()

    def finds_disk(self, *faults: DiskFault) -> bool:
        """Whether the disk is bad in one of these ways; it is remembered, as a reason to end."""
        is_bad = self.disk_fault() in faults
        self.met_disk_fault = self.met_disk_fault or is_bad
        return is_bad

    def passes(self, side: Side) -> None:
        """Pass one side of a commit, or die there."""
        trap = self.trap
        if trap is None or trap.side != side:
            return
        trap.commits -= 1
        if trap.commits <= 0:
            self.trap = None
            self.die()
            raise asyncio.CancelledError


_current: ContextVar[Process] = ContextVar("process")


def current() -> Process:
    """Give the process whose code runs."""
    return _current.get()


def become(process: Process) -> None:
    """Run what follows in this context as a process."""
    _current.set(process)
