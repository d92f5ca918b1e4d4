"""A recording: a site's life under a tracer (`drive.py`), kept as the tracer wrote it, and read as steps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.acceptance.site import program
from tests.crash.disk import Disk
from tests.crash.drive import WHOLE
from tests.crash.launched import MARKS, WEAKENED
from tests.crash.steps import REFUSED, SYSCALLS, Mark, load

if TYPE_CHECKING:
    from collections.abc import Iterator

TREE: Final = Path(__file__).parents[2]
RECORDING_S: Final = 240
"""Far beyond what it takes, for a busy machine."""

IN_MEMORY: Final = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Where states are put: thousands of syncs of a real disk take minutes, and prove nothing."""

LONGEST_WRITE: Final = 1 << 22


@dataclass(frozen=True)
class Recording:
    """What was recorded. `folder` keeps it: `trace`, `marks`, the token and the registrations."""

    folder: Path
    root: str
    disk: Disk

    def part(self, name: str) -> tuple[int, int]:
        """Give the first step of a part, and the one after its last."""
        marks = [(at, step) for at, step in enumerate(self.disk.steps) if isinstance(step, Mark)]
        begun, ended = (
            next(at for at, mark in marks if mark.kind == kind and mark.said["name"] == name)
            for kind in ("part begun", "part ended")
        )
        return begun, ended

    def marks(self, server: str, before: int) -> Iterator[tuple[int, Mark]]:
        """Give what a server said before a step."""
        for at, step in enumerate(self.disk.steps[:before]):
            if isinstance(step, Mark) and step.server == server:
                yield at, step


def record(folder: Path, *, weakened: str = "", much: str = WHOLE) -> Recording:
    """Live the site, so `much` of it, under the tracer. `weakened` takes a care away (`weaken.py`)."""
    marks = folder / "marks"
    command = [program("strace", "strace"), "-f", "-y", "-xx", "-s", str(LONGEST_WRITE), "--seccomp-bpf"]
    command += ["-e", f"trace={SYSCALLS},{REFUSED}", "-e", "signal=none", "-e", "quiet=attach,exit,personality"]
    command += ["-o", str(folder / "trace"), sys.executable, "-m", "tests.crash.drive", str(folder), much]
    environment = {**os.environ, MARKS: str(marks), **({WEAKENED: weakened} if weakened else {})}
    done = subprocess.run(
        command, cwd=TREE, env=environment, capture_output=True, text=True, timeout=RECORDING_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return read(folder)


def read(folder: Path) -> Recording:
    """Read a recording again."""
    marks = folder / "marks"
    told = (json.loads(line) for line in marks.read_text().splitlines())
    root = next(mark["path"] for mark in told if mark["kind"] == "root")
    return Recording(folder, root, Disk(load(folder / "trace", root, str(marks))))
