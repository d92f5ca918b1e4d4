"""The open case: the last verdict that was no good, for `diagnose --recheck` to go to and close.

Kept in the state directory. A help: where it cannot be read or written, nothing else changes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from propagator import files
from propagator.core.errors import StateError

if TYPE_CHECKING:
    from pathlib import Path

FILE_NAME: Final = "case.json"


@dataclass(frozen=True, slots=True)
class Case:
    """A verdict that was no good: since when, its code and title, and the host and port it was about."""

    at: str
    code: str
    title: str
    host: str
    port: int

    @property
    def target(self) -> tuple[str, int]:
        """What to go to."""
        return self.host, self.port


def case(state_dir: Path) -> Case | None:
    """Give the open case, if there is one."""
    try:
        told = json.loads((state_dir / FILE_NAME).read_bytes())
        return Case(str(told["at"]), str(told["code"]), str(told["title"]), str(told["host"]), int(told["port"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def keep_case(state_dir: Path, found: Case | None) -> None:
    """Open a case, or close it with None."""
    path = state_dir / FILE_NAME
    with contextlib.suppress(StateError, OSError):
        if found is None:
            path.unlink(missing_ok=True)
        else:
            files.write_shared(path, json.dumps(dataclasses.asdict(found), indent=2).encode())
