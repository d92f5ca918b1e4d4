"""The real `propagator portal`, as somebody starts it: a process, a free port, a data directory."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final

from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import httpx

PROGRAM: Final = (sys.executable, "-m", "propagator")

_DEADLINE_S: Final = 30


@dataclass(frozen=True, slots=True)
class Served:
    """A portal that answers. `setup_path` makes its administrator, once."""

    url: str
    setup_path: str
    lines: list[str]


class _Ear:
    """Reads what a process says, line by line and to its end, so that it never waits for a reader."""

    def __init__(self, stream: IO[str], awaited: str) -> None:
        self.lines: list[str] = []
        self.found = threading.Event()
        self._stream, self._awaited = stream, awaited
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        for line in self._stream:
            self.lines.append(line.rstrip())
            if self._awaited in line:
                self.found.set()
        self.found.set()

    def close(self) -> None:
        self._thread.join()
        self._stream.close()


@contextlib.contextmanager
def served(data_dir: Path, *options: str, program: Sequence[str] = PROGRAM) -> Iterator[Served]:
    """Run a portal; SIGTERM ends it, and it must end well."""
    port = free_port()
    command = [*program, "portal", "--data-dir", str(data_dir), "--listen", f"127.0.0.1:{port}"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    ear = _Ear(process.stderr, "Make its administrator")
    try:
        assert ear.found.wait(_DEADLINE_S), ear.lines
        link = re.search(r"/setup/\S+", "\n".join(ear.lines))
        assert link is not None, ear.lines
        yield Served(f"http://127.0.0.1:{port}", link[0], ear.lines)
        process.terminate()
        assert process.wait(_DEADLINE_S) == 0, ear.lines
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        ear.close()


async def ask(server: httpx.AsyncClient, system_id: str, purpose: str) -> dict[str, str]:
    """Ask for a registration as a server does."""
    said = {"client_id": "propagator", "system_id": system_id, "server_name": "Roof", "kind": "enterprise-server"}
    answer = await server.post("/device_authorization", data={**said, "purpose": purpose})
    assert answer.status_code == 200, answer.text
    begun: dict[str, str] = answer.json()
    return begun
