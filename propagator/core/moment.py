"""Times as everybody reads them: RFC 3339, UTC, milliseconds. For display only; nothing is ordered by them."""

from __future__ import annotations

import datetime as dt
import re
from typing import Final

WRITTEN: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)


def write(when: dt.datetime) -> str:
    """Write an aware time, like `2026-11-24T11:20:31.123Z`."""
    return when.astimezone(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def read(text: str) -> dt.datetime:
    """Read what `write` wrote. Raises ValueError for anything else."""
    if WRITTEN.fullmatch(text) is None:
        raise ValueError("is no time; written like 2026-11-24T11:20:31.123Z")
    return dt.datetime.fromisoformat(text)
