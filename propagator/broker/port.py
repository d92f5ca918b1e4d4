"""Asks the system about a TCP port: may we listen there, and who does already."""

from __future__ import annotations

import contextlib
import errno
import pwd
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Final

from propagator.core.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from propagator.broker.configuration import Listener

_PROC: Final = Path("/proc")
_LISTEN: Final = "0A"


def check_port(listener: Listener) -> None:
    """Raise BrokerError, with who is in the way, if nobody could listen there now."""
    hosts = ["0.0.0.0", "::"] if listener.everywhere else [listener.host]  # noqa: S104
    for host in hosts:
        try:
            _try_listening(host, listener.port)
        except OSError as exc:
            if listener.everywhere and exc.errno in {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}:
                continue  # a machine without IPv6, or without IPv4
            raise _failure(listener, exc) from exc


def is_listened_on(port: int) -> bool:
    """Whether somebody listens there."""
    return any(True for _ in _listening(port))


def _try_listening(host: str, port: int) -> None:
    family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Mosquitto does
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        probe.bind(where)


def _failure(listener: Listener, exc: OSError) -> BrokerError:
    port = listener.port
    if exc.errno == errno.EADDRINUSE:
        hint = "Stop it, or set another port in [downlink] listen."
        return BrokerError(f"The broker's port {port} is taken by {_holder(port)}.", hint=hint)
    if exc.errno in {errno.EACCES, errno.EPERM}:
        hint = "Set a port above 1023 in [downlink] listen."
        return BrokerError(f"This user may not listen on port {port}.", hint=hint)
    hint = "Set an address of this machine in [downlink] listen, or [::] for all."
    return BrokerError(f"The broker cannot listen on {listener.host} ({exc.strerror or exc}).", hint=hint)


def _holder(port: int) -> str:
    """Say who listens on a port, as far as /proc tells this user."""
    held = dict(_listening(port))
    for process in _PROC.glob("[0-9]*"):
        if not held.keys().isdisjoint(_sockets(process)):
            with contextlib.suppress(OSError):  # it ended just now
                return f"{(process / 'comm').read_text().strip()} (process {process.name})"
    owners = [f"a process of {_user(uid)}" for uid in held.values()]
    return owners[0] if owners else "another process"


def _listening(port: int) -> Iterator[tuple[str, int]]:
    """Yield inode and owner of each TCP socket that listens on the port."""
    for table in ("tcp", "tcp6"):
        try:
            lines = (_PROC / "net" / table).read_text().splitlines()[1:]
        except OSError:  # no IPv6
            continue
        for line in lines:
            _, local, _, state, _, _, _, uid, _, inode, *_ = line.split()
            if state == _LISTEN and int(local.rpartition(":")[2], 16) == port:
                yield f"socket:[{inode}]", int(uid)


def _sockets(process: Path) -> Iterator[str]:
    with contextlib.suppress(OSError):  # it ended, or it is another user's
        for descriptor in (process / "fd").iterdir():
            with contextlib.suppress(OSError):  # closed just now
                yield str(descriptor.readlink())


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
