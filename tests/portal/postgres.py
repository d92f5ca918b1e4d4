"""A PostgreSQL of our own: Debian's programs, a folder under /tmp, a free port, no disk syncs; ended by its process."""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

_DEADLINE_S: Final = 30


def _program(name: str) -> str:
    debians = sorted(map(str, Path("/usr/lib/postgresql").glob(f"*/bin/{name}")))
    found = debians[-1] if debians else shutil.which(name)
    if found is None:
        raise RuntimeError(f"{name} is missing: install the Debian package postgresql (make test-system)")
    return found


@dataclass(frozen=True, slots=True)
class Postgres:
    """A server that runs. `database` makes a new, empty database and gives its URL, as people write it."""

    folder: Path
    port: int
    _count: itertools.count[int] = field(default_factory=itertools.count)

    def database(self) -> str:
        """Make a database."""
        name = f"portal_{next(self._count)}"
        command = [_program("createdb"), "--host=127.0.0.1", f"--port={self.port}", "--username=portal", name]
        subprocess.run(command, check=True, capture_output=True)
        return f"postgresql://portal@127.0.0.1:{self.port}/{name}"


@contextlib.contextmanager
def running() -> Iterator[Postgres]:
    """Run a server. It refuses root, so for root it runs as the user `postgres`."""
    user = pwd.getpwnam("postgres").pw_name if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="propagator-postgres-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if user is not None:
            shutil.chown(folder, user)
        data = folder / "data"
        subprocess.run(
            [_program("initdb"), "--auth=trust", "--username=portal", "--no-sync", "--encoding=UTF8", "-D", str(data)],
            check=True,
            capture_output=True,
            user=user,
            cwd=folder,
            env={"LC_ALL": "C.UTF-8", "PATH": os.environ["PATH"]},
        )
        port = free_port()
        options = ["-k", str(folder), "-h", "127.0.0.1", "-p", str(port), "-c", "fsync=off", "-c", "max_connections=50"]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [_program("postgres"), "-D", str(data), *options], stdout=log, stderr=log, user=user, cwd=folder
            )
        try:
            _wait(server, port, folder)
            yield Postgres(folder, port)
        finally:
            server.send_signal(signal.SIGINT)  # fast shutdown: connections are closed
            try:
                server.wait(_DEADLINE_S)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _wait(server: subprocess.Popen[bytes], port: int, folder: Path) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    ready = [_program("pg_isready"), "--quiet", "--host=127.0.0.1", f"--port={port}"]
    while subprocess.run(ready, check=False).returncode != 0:
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"PostgreSQL does not start: {(folder / 'log').read_text()}")
        time.sleep(0.05)
