"""A wrong clock for one agent, by libfaketime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tests.acceptance.site import Server

NOW: Final = "+0"
A_DAY_AGO: Final = "-1d"
TEN_YEARS_AHEAD: Final = "+3650d"


class Clock:
    """The wall clock of one server's agent. Its monotonic clock goes on: no operator can set that one."""

    def __init__(self, server: Server, time: str = NOW) -> None:
        self._file = server.site.directory / f"{server.id}.clock"
        self.set(time)
        server.environment = {
            "LD_PRELOAD": str(_library()),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, time: str) -> None:
        """Set it, whether the agent runs or not: libfaketime's own writing."""
        self._file.with_suffix(".next").write_text(f"{time}\n")
        self._file.with_suffix(".next").rename(self._file)


def _library() -> Path:
    """Find what stands between a program and the clock."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    assert found, "this test needs libfaketime: apt-get install faketime"
    return found[0]
