"""Real servers that begin where a recording stood: their trees on a real disk, the real command, agents and broker."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Final

from propagator.core import token
from tests.acceptance.site import COMMAND_S, Process, Said, Server, Site, environment, eventually, program
from tests.crash.disk import Disk, Loss, put
from tests.crash.drive import LEAD, SHADOW

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

    from tests.crash.recording import Recording

SYSCALLS: Final = ("pwrite64", "fdatasync", "fsync", "rename", "unlink", "mkdir", "fchmod", "ftruncate")
"""What is done to a disk by this program and by SQLite, each by a name of its own."""

KILLED: Final = -9


class Life(Site):
    """A lead and a shadow, put where the recording had them."""

    def __init__(self, command: str, recording: Recording) -> None:
        super().__init__(command)
        self._recording = recording
        self._listen = self.port()
        self.es_1, self.as_1 = (self._server(name, role) for name, role in ((LEAD, "lead"), (SHADOW, "shadow")))

    def __enter__(self) -> Self:
        super().__enter__()
        return self

    def _server(self, name: str, role: str) -> Server:
        server = self.servers[name] = Server(self, name, role)
        server.config = self.directory / f"{name}-etc" / f"{name}.toml"
        return server

    def put(self, server: Server, at: int, loss: Loss | None = None) -> None:
        """Put a server where it stood before a step, its process killed, or its machine too."""
        for folder in (server.state_dir, server.config.parent):
            shutil.rmtree(folder, ignore_errors=True)
        put(Disk(self._recording.disk.steps, server.id).tree(at, loss), self.directory)
        port = re.escape(f"127.0.0.1:{self._port_then()}")
        for path in (server.config, server.state_dir / "uplink.toml"):
            if path.exists():
                text = path.read_text().replace(self._recording.root, str(self.directory))
                path.write_text(re.sub(port, f"127.0.0.1:{self._listen}", text))

    def moved(self, written: str) -> str:
        """Give a token of the recording, with the place where this lead listens."""
        read = token.read(written)
        return token.write(read.model_copy(update={"addresses": (f"127.0.0.1:{self._listen}",)}))

    def _port_then(self) -> str:
        begun = next(mark for _, mark in self._recording.marks(LEAD, len(self._recording.disk.steps)))
        return str(begun.said["words"].split("127.0.0.1:")[1].split()[0])

    def killed_at(self, syscall: str, number: int, *words: str | Path) -> Said:
        """Run a command that is killed as it comes to do this for the nth time. Code KILLED: it came so far."""
        done = subprocess.run(
            [*self._killing(syscall, number), self.command, *map(str, words)],
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            env=environment(),
            cwd=self.directory,
            check=False,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    def launch_to_die(self, server: Server, syscall: str, number: int) -> None:
        """Start an agent that is killed so."""
        command = [*self._killing(syscall, number), program("setpriv", "util-linux"), "--pdeathsig", "KILL"]
        server.agent = Process([*command, self.command, "run", "--config", str(server.config)], server.log)

    def _killing(self, syscall: str, number: int) -> list[str]:
        inject = f"inject={syscall}:signal=SIGKILL:when={number}"
        return [program("strace", "strace"), "-f", "--seccomp-bpf", "-o", "/dev/null", "-e", inject]

    def agree(self, name: str) -> None:
        """Wait until the shadow holds this registration of the lead's, and the lead knows it."""
        self.es_1.wait_rows(as_1="in_sync")
        eventually(lambda: self.as_1.record()["registration"]["site"]["name"] == name, f"the shadow holds {name}")
