"""The command `propagator portal` as a process, until it is told to end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = os.environ.get("PROPAGATOR_COMMAND") or str(Path(sys.executable).with_name("propagator"))
ENDED_S = 5
"""It ends within two seconds; the rest is for a machine that is busy with other tests."""


class Running:
    """A portal that runs. `said` is what it printed until it served."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process, self.url, self.said = process, url, ""

    def wait_until_it_serves(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said += line
            if line.startswith("It signs with"):
                return
        raise AssertionError(self.said)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> float:
        """Ask it to end; give how long that took."""
        began = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(20)
        return time.monotonic() - began


@contextlib.contextmanager
def running(data_dir: Path, *words: str, scheme: str = "http") -> Iterator[Running]:
    port = free_port()
    command = [COMMAND, "portal", "--data-dir", str(data_dir), "--listen", f"127.0.0.1:{port}", *words]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        portal = Running(process, f"{scheme}://127.0.0.1:{port}")
        portal.wait_until_it_serves()
        yield portal
    finally:
        process.kill()
        process.communicate()
