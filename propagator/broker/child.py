"""One Mosquitto process: started so that it dies with us, read always, ended for certain.

Its end is bound to ours twice. The kernel kills it when the thread that started it ends (PDEATHSIG, by `setpriv`); and
the file that names it, by pid and start time, lets the next start end what survived after all.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import resource
import shutil
import signal
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from propagator import log
from propagator.broker.configuration import CONFIGURATION
from propagator.core.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from propagator.broker.arrivals import Arrivals

_LINES: Final = 50
_LINE_BYTES: Final = 4096
_GRACE_S: Final = 1.0
_KILL_S: Final = 5.0
# Not in the PATH of ordinary users on Debian.
_ELSEWHERE: Final = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
_DESCRIPTORS_OF_ITS_OWN: Final = 100
_TURNED_AWAY: Final = re.compile(r"Client connection from \S+ denied: max_connections exceeded\.", re.ASCII)
# A silent connection lives 96 s (measured): for so long after a denial the limit counts as reached.
_SILENCE_S: Final = 96.0

_log = log.get(__name__)


class Child(asyncio.SubprocessProtocol):
    """A running Mosquitto. `ended` holds its exit status when it is gone and its last line is read."""

    def __init__(self, arrivals: Arrivals) -> None:
        self._arrivals = arrivals
        self._loop = asyncio.get_running_loop()
        self._rest = b""
        self.started_at = self._loop.time()
        self._denied_at: float | None = None
        self._descriptors: int | None = None
        self.lines: deque[str] = deque(maxlen=_LINES)
        self.ended: asyncio.Future[int] = self._loop.create_future()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._transport.get_pid()

    def bound_descriptors(self, max_connections: int) -> None:
        """Give it descriptors for twice its connections, and no more.

        The usual 1,024 are too few for a herd. And this is the bound that holds: Mosquitto counts each connection that
        ends twice, so `max_connections` allows one more with each of them (tried on 2.0.11; its issue 1460, open).
        """
        wanted = 2 * max_connections + _DESCRIPTORS_OF_ITS_OWN
        try:
            _, most = resource.prlimit(self.pid, resource.RLIMIT_NOFILE)
            self._descriptors = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
            resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (self._descriptors, self._descriptors))
        except ProcessLookupError:  # ended already; whoever waits for it will see
            return
        if self._descriptors < max_connections + _DESCRIPTORS_OF_ITS_OWN:
            _log.warning("broker.descriptors_limited", limit=self._descriptors, wanted=wanted)

    def is_full(self) -> bool:
        """Whether it turns connections away: it did so lately, and let no account in since.

        It does not say so when descriptors are the reason.
        """
        if self._denied_at is not None and self._loop.time() - self._denied_at < _SILENCE_S:
            return True
        try:
            used = sum(1 for _ in Path(f"/proc/{self.pid}/fd").iterdir())
        except OSError:  # it has ended
            return False
        return self._descriptors is not None and used >= self._descriptors - 1

    def hang_up(self) -> None:
        """Let it read passwords, topic rules and certificates again."""
        with contextlib.suppress(ProcessLookupError):
            self._transport.send_signal(signal.SIGHUP)

    async def end(self) -> None:
        """SIGTERM, and SIGKILL where that has not ended it within 1 s; returns when it is gone (within 5 s more)."""
        try:
            with contextlib.suppress(ProcessLookupError):
                self._transport.terminate()
            await asyncio.wait((self.ended,), timeout=_GRACE_S)
        finally:
            with contextlib.suppress(ProcessLookupError):
                self._transport.kill()
        await asyncio.wait((self.ended,), timeout=_KILL_S)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.SubprocessProtocol."""
        self._transport = cast("asyncio.SubprocessTransport", transport)

    def pipe_data_received(self, fd: int, data: bytes) -> None:  # noqa: ARG002
        """See asyncio.SubprocessProtocol."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[:_LINE_BYTES]
        self._keep(whole)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """See asyncio.SubprocessProtocol: it has exited and its pipe is empty."""
        self._keep([self._rest] if self._rest else [])
        self._transport.close()
        self.ended.set_result(self._transport.get_returncode() or 0)

    def _keep(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            text = line[:_LINE_BYTES].decode(errors="replace")
            self.lines.append(text)
            if _TURNED_AWAY.fullmatch(text):
                self._denied_at = self._loop.time()
            elif self._arrivals.hear(text):
                self._denied_at = None


async def spawn(directory: Path, max_connections: int, arrivals: Arrivals) -> Child:
    """Start Mosquitto in `directory` with the configuration there. Call from the thread that lives as long as we do.

    Its own stdio: an inherited pipe would keep `... | tee` waiting. An empty environment: a NOTIFY_SOCKET of systemd
    is not its to answer. A session of its own: Ctrl-C in the terminal is for the agent, which ends it in order.
    """
    command = [_program("setpriv", "util-linux"), "--pdeathsig", "KILL", _program("mosquitto", "mosquitto")]
    devnull, pipe = asyncio.subprocess.DEVNULL, asyncio.subprocess.PIPE
    try:
        _, child = await asyncio.get_running_loop().subprocess_exec(
            lambda: Child(arrivals), *command, "-c", CONFIGURATION, stdin=devnull, stdout=devnull, stderr=pipe,
            cwd=directory, env={}, umask=0o077, start_new_session=True,
        )  # fmt: skip
    except OSError as exc:
        hint = "Look whether this machine is out of memory or of processes."
        raise BrokerError(f"mosquitto cannot be started ({exc.strerror}).", hint=hint) from exc
    child.bound_descriptors(max_connections)
    return child


def check_programs() -> None:
    """Raise BrokerError, with the command that installs it, if what `spawn` needs is missing."""
    _program("mosquitto", "mosquitto")
    _program("setpriv", "util-linux")


def _program(name: str, package: str) -> str:
    found = shutil.which(name) or shutil.which(name, path=_ELSEWHERE)
    if found is None:
        sudo = "" if os.geteuid() == 0 else "sudo "
        raise BrokerError(
            f"{name}, which the embedded broker needs, is not installed.", hint=f"{sudo}apt-get install {package}"
        )
    return found


def catches_hangup(pid: int) -> bool:
    """Whether the process has a handler for SIGHUP; without one, the signal would end it.

    Mosquitto sets it when every listener stands (traced), so this is also when it is ready.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    caught = next((line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")), "0")
    return bool(int(caught, 16) >> (signal.SIGHUP - 1) & 1)


def name_of(pid: int) -> bytes:
    """Return what names a process for certain, to be kept for `end_leftover`: its id and its start time."""
    return f"{pid} {_start_time(pid)}\n".encode()


async def end_leftover(named: bytes) -> None:
    """End the process that `name_of` named, if it still is the same one. Raises BrokerError."""
    found = re.fullmatch(rb"([1-9]\d{0,6}) (\d{1,19})\n", named)
    if found is None:
        return
    pid, started = int(found[1]), int(found[2])
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if _start_time(pid) == started:  # asked while we hold it, so that it cannot become another one
            await _end(process, pid)
    finally:
        os.close(process)


async def _end(process: int, pid: int) -> None:
    try:
        signal.pidfd_send_signal(process, signal.SIGTERM)
        if not await _exits(process, _GRACE_S):
            signal.pidfd_send_signal(process, signal.SIGKILL)
            await _exits(process, _KILL_S)
    except ProcessLookupError:
        return
    except PermissionError as exc:
        text = f"A broker that an earlier start left behind (process {pid}) belongs to another user."
        raise BrokerError(text, hint=f"sudo kill {pid}") from exc


async def _exits(process: int, timeout_s: float) -> bool:
    loop = asyncio.get_running_loop()
    gone = asyncio.Event()
    loop.add_reader(process, gone.set)
    try:
        async with asyncio.timeout(timeout_s):
            await gone.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(process)
    return True


def _start_time(pid: int) -> int | None:
    """Return when a process started, in ticks since boot (proc(5), stat, field 22); None if there is none."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
    except OSError:
        return None
