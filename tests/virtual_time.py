"""Virtual time: a loop whose clock stands still while anything runs and jumps to the next timer when nothing does.

An hour of heartbeats takes as long as its work. Work in threads (SQLite) is told to the loop by `standing_still`: the
clock must not jump while a thread is about to answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import selectors
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

START_S: Final = 1_000.0
EPOCH: Final = dt.datetime(2026, 11, 24, 11, 0, tzinfo=dt.UTC)
"""The wall clock at START_S."""

_OVERSHOOT_S: Final = 1e-6
"""Timers fire a little late, as they do in the world: nothing may wait for `a + b - a == b`."""

_STUCK: Final = 500_000
"""Turns of the loop without any time passing after which a test is told that it goes round in circles."""

_DEAD_S: Final = 20.0
"""Real seconds without any event after which a test is told that nothing will ever happen again."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop in virtual time. `busy`: pieces of work in threads that are on their way."""

    def __init__(self) -> None:
        self.now_s = START_S
        self.busy = 0
        super().__init__(_Selector(self))

    def time(self) -> float:
        return self.now_s

    @contextlib.contextmanager
    def standing_still(self) -> Iterator[None]:
        """Keep the clock from jumping."""
        self.busy += 1
        try:
            yield
        finally:
            self.busy -= 1


def running_loop() -> VirtualLoop:
    """Give the running loop, which must be a virtual one."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop), "this test needs tests/virtual_time.py's loop"
    return loop


def now() -> dt.datetime:
    """Tell the wall clock: it goes with the loop's."""
    return EPOCH + dt.timedelta(seconds=asyncio.get_running_loop().time() - START_S)


class _Selector(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop
        self._turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        self._turns += 1
        assert self._turns < _STUCK, "everybody is busy and no time passes: something goes round in circles"
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if self._loop.busy or timeout is None:
            ready = super().select(_DEAD_S)
            assert ready, "nothing happens any more: a thread hangs, or everybody waits for everybody"
            return ready
        self._turns = 0
        self._loop.now_s += timeout + _OVERSHOOT_S
        return []
