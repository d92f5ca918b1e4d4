"""What was refused, written down: one line per kind and minute, with how many there were since the line before.

Strangers decide how often that is. What counts for the history stands in the audit, each time.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

from propagator.core.throttle import Throttle

if TYPE_CHECKING:
    from collections.abc import Callable

PERIOD_S: Final = 60.0


class Refusals:
    """The lines and their counts. `monotonic` is the clock of the minute."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._throttle = Throttle()

    def note(self, say: Callable[..., object], event: str, **why: object) -> None:
        """Say `event` by a method of a log, at most once a minute for each `reason` in `why`."""
        if count := self._throttle.counted((event, why.get("reason")), PERIOD_S, self._monotonic()):
            say(event, **why, count=count)


class Unreadable(logging.Filter):
    """Notes what uvicorn warns of (no HTTP, too many connections) among the refusals; its errors pass as they are."""

    def __init__(self, refusals: Refusals, say: Callable[..., object]) -> None:
        super().__init__()
        self._refusals = refusals
        self._say = say

    def filter(self, record: logging.LogRecord) -> bool:
        """Take a warning out of its way."""
        if record.levelno != logging.WARNING:
            return True
        self._refusals.note(self._say, "portal.connection_refused", reason=record.getMessage())
        return False
