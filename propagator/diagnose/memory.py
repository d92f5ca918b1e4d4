"""The open cases: the last verdict on the way to the lead, and on that to the portal, that was no good.

`diagnose --recheck` goes to it and closes it. Kept in the state directory. A help: where it cannot be read or written,
nothing else changes.
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

    from propagator.core.diagnosis import Verdict

FILE_NAME: Final = "case.json"
PORTAL_FILE_NAME: Final = "portal-case.json"


@dataclass(frozen=True, slots=True)
class Case:
    """A verdict that was no good: since when, its code and title; the host and port, or the portal, it was about."""

    at: str
    code: str
    title: str
    host: str
    port: int
    portal: str = ""

    @property
    def target(self) -> tuple[str, int]:
        """What to go to."""
        return self.host, self.port

    def __str__(self) -> str:
        return f"{self.code} of {self.at}, {self.portal or f'{self.host}:{self.port}'}"


def opened(verdict: Verdict, before: Case | None, at: str, target: tuple[str, int], portal: str = "") -> Case:
    """Make the case of a verdict that is no good; it goes on from `before` where that says the same."""
    since = before.at if before is not None and before.code == verdict.code else at
    return Case(since, verdict.code.value, verdict.entry.title, *target, portal)


def case(state_dir: Path, name: str = FILE_NAME) -> Case | None:
    """Give the open case, if there is one."""
    try:
        told = json.loads((state_dir / name).read_bytes())
        at, code, title, host = (str(told[key]) for key in ("at", "code", "title", "host"))
        return Case(at, code, title, host, int(told["port"]), str(told.get("portal", "")))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def keep_case(state_dir: Path, found: Case | None, name: str = FILE_NAME) -> None:
    """Open a case, or close it with None."""
    path = state_dir / name
    with contextlib.suppress(StateError, OSError):
        if found is None:
            path.unlink(missing_ok=True)
        else:
            files.write_shared(path, json.dumps(dataclasses.asdict(found), indent=2).encode())
