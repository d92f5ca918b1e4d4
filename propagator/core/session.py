"""Sessions: one start of an agent, and the order of what it said (DESIGN §4).

A session is `max(unix seconds at start, last session + 1)` with a random suffix, written `1764000000-k7f3q2`. A higher
number wins; the same number with another suffix is a clone (F18). Counters count within one session.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from propagator.core.version import LIMIT, new_epoch

if TYPE_CHECKING:
    from random import Random

_WRITTEN: Final = re.compile(r"([1-9]\d{0,15})-([0-9a-z]{4,16})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Session:
    """One start of an agent. `suffix` tells two starts of one number apart; it orders nothing."""

    number: int
    suffix: str

    def __str__(self) -> str:
        return f"{self.number}-{self.suffix}"


@dataclass(frozen=True, slots=True)
class Mark:
    """The place of one document in what its sender said: its session, and its counter within it."""

    session: Session
    counter: int

    def is_after(self, other: Mark | None) -> bool:
        """Say whether this was said after `other`. Of two sessions of one number neither is after the other."""
        if other is None:
            return True
        if self.session == other.session:
            return self.counter > other.counter
        return self.session.number > other.session.number

    def is_clone_of(self, other: Mark | None) -> bool:
        """Say whether two starts took the same session number: two machines are one server (F18)."""
        return (
            other is not None
            and self.session.number == other.session.number
            and self.session.suffix != other.session.suffix
        )


def parse(text: str) -> Session | None:
    """Read a written session; None if it is none."""
    match = _WRITTEN.fullmatch(text)
    return Session(int(match[1]), match[2]) if match and int(match[1]) <= LIMIT else None


def begin(now_s: float, last: int, rng: Random) -> Session:
    """Begin a session at `now_s` (Unix seconds) after the session number `last` (0: none yet)."""
    return Session(max(int(now_s), last + 1, 1), new_epoch(rng))
