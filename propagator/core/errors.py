"""The one split of errors: what the program cannot do, said once, with one thing to try.

A foreseen outcome (a refused record, a used token) is a value, never one of these.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


class PropagatorError(Exception):
    """Inability, told to a person: `str(error)` is the cause, `hint` the one thing to do about it.

    `exit_code` is what a command ends with (DESIGN §9): 1 a problem was found, 2 wrong usage or input, 3 cannot tell.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with an input: its dotted path (`address.country`), what is wrong, and what would do."""

    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}: {self.text}" if self.path else self.text


class InputError(PropagatorError):
    """Wrong usage, configuration or file: every problem of it at once, each with its path."""

    exit_code: ClassVar[int] = 2

    def __init__(self, message: str, problems: tuple[Problem, ...] = (), *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.problems = problems


class RefusedError(PropagatorError):
    """The other side, or a rule, said no (a refused token, an attached shadow that should register)."""


class StateError(PropagatorError):
    """No state here, or no agent where one is needed: cannot tell."""

    exit_code: ClassVar[int] = 3


class StoreError(PropagatorError):
    """The database cannot be read or written."""

    exit_code: ClassVar[int] = 3


class BusError(PropagatorError):
    """No connection to the broker, or it ended. `kind` is a stable word for logs and findings."""

    def __init__(self, message: str, *, kind: str, address: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.kind = kind
        self.address = address


class BrokerError(PropagatorError):
    """The embedded broker does not start or does not stay up."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A value: bytes from elsewhere that are no document of ours. `detail` says why, for people."""

    detail: str
