"""The embedded broker as the agent sees it: start, reload, supervise, stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
from typing import TYPE_CHECKING, Final, TypeAlias

from propagator import log
from propagator.broker.arrivals import Arrivals
from propagator.broker.child import Child, catches_hangup, check_programs, end_leftover, name_of, spawn
from propagator.broker.configuration import (
    CONFIGURATION,
    PASSWORDS,
    SOCKET,
    TOPICS,
    configuration_text,
    passwords_text,
    topics_text,
)
from propagator.broker.port import check_port, is_listened_on
from propagator.core.errors import BrokerError, PropagatorError
from propagator.files import write_private

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from propagator.broker.configuration import Account, Listener

PID_FILE: Final = "broker.pid"
_SOCKET_PATH_BYTES: Final = 107  # sun_path less its end, unix(7)
_START_S: Final = 10.0
_POLL_S: Final = 0.01
_BACK_OFF_S: Final = 0.2
_BACK_OFF_CAP_S: Final = 30.0
_STABLE_S: Final = 60.0

_log = log.get(__name__)

_Projection: TypeAlias = tuple[str, str, tuple[tuple[int, int, int], ...]]


class EmbeddedBroker:
    """Mosquitto in `directory` (0700, ours alone). One at a time; after `stop` it may be started again.

    `max_connections` is for the TLS listener; it does not touch `socket`, the lead's own.
    """

    def __init__(self, directory: Path, listener: Listener, max_connections: int = 4000) -> None:
        self.socket = directory.absolute() / SOCKET
        self._directory = directory.absolute()
        self._listener = listener
        self._max_connections = max_connections
        self._accounts: tuple[Account, ...] = ()
        self._arrivals = Arrivals()
        self._child: Child | None = None
        self._in_use: _Projection | None = None
        self._changing = asyncio.Lock()
        self._stopped = asyncio.Event()
        self._stopped.set()

    @property
    def connections_at_cap(self) -> bool:
        """Whether somebody was turned away lately because there were too many connections, and nobody let in since."""
        return self._child is not None and self._child.is_full()

    @property
    def last_lines(self) -> tuple[str, ...]:
        """The last lines, at most 50, that Mosquitto wrote."""
        return tuple(self._child.lines) if self._child else ()

    def addresses(self, account: str) -> tuple[str, ...]:
        """Give the addresses, two at most, that an account connected from since `__init__`, the last one first."""
        return self._arrivals.of(account)

    async def start(self, accounts: Iterable[Account]) -> None:
        """Start it; returns when both listeners take connections. Raises BrokerError or StateError, and is stopped."""
        check_programs()
        if len(os.fsencode(self.socket)) > _SOCKET_PATH_BYTES:
            text = f"The path of the broker's socket is longer than {_SOCKET_PATH_BYTES} bytes: {self.socket}"
            raise BrokerError(text, hint="Set a shorter state_dir.")
        self._accounts = tuple(accounts)
        self._stopped.clear()
        try:
            async with self._changing:
                await self._launch()
        except BaseException:
            await self.stop()
            raise

    async def reload(self, accounts: Iterable[Account]) -> None:
        """Make accounts and certificates those in force, by a signal if anything changed. Raises StateError.

        An account that is gone, or has another password, loses its connection at once; nobody else is disturbed. Renew
        certificate and key before, both: with a pair that does not fit, Mosquitto takes no new connection (tried).
        """
        async with self._changing:
            self._accounts = tuple(accounts)
            wanted = self._project()
            if wanted == self._in_use or self._stopped.is_set():
                return
            self._write(wanted)
            if self._child is not None:
                self._child.hang_up()

    async def stop(self) -> None:
        """End it: SIGTERM, SIGKILL after 1 s. Nothing is left but its files. Stopped already is fine."""
        self._stopped.set()
        try:
            await self._end_child()
            async with self._changing:  # a start under way sees that it is stopped
                await self._end_child()
        finally:
            for left in (self.socket, self._directory / PID_FILE):
                with contextlib.suppress(OSError):  # the next start does not mind
                    left.unlink()

    async def supervise(self) -> None:
        """Start it again whenever it dies, after 0.2 s doubling to 30 s; returns when it is stopped."""
        delay_s = _BACK_OFF_S
        while not self._stopped.is_set():
            if (child := self._child) is not None:
                status = await _end_of(child)
                if self._stopped.is_set():
                    return
                up_s = asyncio.get_running_loop().time() - child.started_at
                delay_s = _BACK_OFF_S if up_s >= _STABLE_S else delay_s
                _log.warning("broker.exited", status=status, up_s=round(up_s, 1), lines=list(child.lines))
            if await self._stops_within(delay_s):
                return
            delay_s = min(2 * delay_s, _BACK_OFF_CAP_S)
            await self._relaunch()

    async def _relaunch(self) -> None:
        try:
            async with self._changing:
                await self._launch()
        except PropagatorError as exc:
            _log.warning("broker.restart_failed", reason=str(exc), hint=exc.hint)
        else:
            _log.info("broker.restarted", pid=self._child.pid if self._child else None)

    async def _stops_within(self, timeout_s: float) -> bool:
        try:
            async with asyncio.timeout(timeout_s):
                await self._stopped.wait()
        except TimeoutError:
            return False
        return True

    async def _launch(self) -> None:
        self._child = None
        try:
            await self._launch_in_directory()
        except OSError as exc:
            hint = f"Look at it with: ls -ld {self._directory}"
            raise BrokerError(f"The broker's directory {self._directory} cannot be used ({exc}).", hint=hint) from exc

    async def _launch_in_directory(self) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if (pid_file := self._directory / PID_FILE).exists():
            await end_leftover(pid_file.read_bytes())
        for path in self._listener.certificates:
            _check_readable(path)
        check_port(self._listener)
        self._write(self._project())
        self.socket.unlink(missing_ok=True)
        self._child = child = await spawn(self._directory, self._max_connections, self._arrivals)
        try:
            write_private(pid_file, name_of(child.pid))
            async with asyncio.timeout(_START_S):
                await self._ready(child)
            self.socket.chmod(0o600)
        except TimeoutError as exc:
            await self._end_child()
            raise _unfit(child, f"is not ready after {_START_S:g} s") from exc
        except BaseException:
            await self._end_child()
            raise

    async def _ready(self, child: Child) -> None:
        """Wait until both listeners stand and it would survive a SIGHUP.

        Looked up, not tried: every connection that ends wears `max_connections` out (see `Child.bound_descriptors`).
        """
        while True:
            if self._stopped.is_set():
                raise BrokerError("The embedded broker was stopped while it started.")
            if child.ended.done():
                raise _unfit(child, f"ended at once (status {child.ended.result()})")
            if catches_hangup(child.pid) and self.socket.is_socket() and is_listened_on(self._listener.port):
                return
            await asyncio.sleep(_POLL_S)

    async def _end_child(self) -> None:
        if self._child is not None:
            await self._child.end()
            self._child = None

    def _project(self) -> _Projection:
        """Return what Mosquitto should have read: two files, and of the certificates which versions."""
        certificates = tuple(_version(path) for path in self._listener.certificates)
        return passwords_text(self._accounts), topics_text(self._accounts), certificates

    def _write(self, wanted: _Projection) -> None:
        self._in_use = None
        passwords, topics, _ = wanted
        configuration = configuration_text(self._listener, _own_name(), self._max_connections)
        for name, text in ((CONFIGURATION, configuration), (PASSWORDS, passwords), (TOPICS, topics)):
            write_private(self._directory / name, text.encode())
        self._in_use = wanted


def _unfit(child: Child, text: str) -> BrokerError:
    said = [line for line in child.lines if "should not be run as root" not in line]
    hint = f"Mosquitto's last line: {said[-1]}" if said else "Mosquitto wrote nothing."
    return BrokerError(f"The embedded broker {text}.", hint=hint)


def _version(path: Path) -> tuple[int, int, int]:
    """Return what changes with a file; zeros where it cannot be looked at."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0, 0
    return status.st_ino, status.st_mtime_ns, status.st_size


def _check_readable(path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as exc:
        hint = f"Look at it with: ls -l {path}"
        raise BrokerError(f"The broker's certificate file {path} cannot be read ({exc.strerror}).", hint=hint) from exc


def _own_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())  # read by Mosquitto only as root, who has a name


async def _end_of(child: Child) -> int:
    await asyncio.wait((child.ended,))
    return child.ended.result()
