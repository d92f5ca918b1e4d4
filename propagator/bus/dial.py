"""Opens a socket to a broker, TLS included, without a thread: deadline and cancellation reach every step of it.

aiomqtt would connect in a thread that neither reaches, and its timeout does not bound the TLS handshake (tried: 5 s
against 3). The one thing left to a thread is the resolver of the C library, for names alone. Raises OSError, of which
ssl.SSLError is one; `failure` puts it into words.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import TYPE_CHECKING, TypeAlias

from propagator.bus.contract import UNIX, split_address
from propagator.bus.failure import UnreadableCaError, telling

if TYPE_CHECKING:
    from propagator.bus.contract import Tls


async def dial(address: str, timeout_s: float) -> socket.socket:
    """Return a connected, non-blocking socket. The several IP addresses of a name share the time."""
    if address.startswith(UNIX):
        return await _connect(socket.AF_UNIX, address.removeprefix(UNIX))
    loop = asyncio.get_running_loop()
    until = loop.time() + timeout_s
    found = await _resolve(*split_address(address))
    failures: list[OSError] = []
    for index, (family, _, _, _, where) in enumerate(found):
        try:
            async with asyncio.timeout((until - loop.time()) / (len(found) - index)):
                return await _connect(family, where)
        except OSError as exc:
            failures.append(exc)
    raise max(failures, key=telling)


_Where: TypeAlias = str | tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]


async def _resolve(host: str, port: int) -> list[tuple[socket.AddressFamily, socket.SocketKind, int, str, _Where]]:
    try:
        with contextlib.suppress(socket.gaierror):  # a name, no number
            return [*socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)]
        return [*await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except UnicodeError as exc:  # a label that is too long
        raise socket.gaierror(socket.EAI_NONAME, "no name of a host") from exc


async def _connect(family: int, where: _Where) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)  # noqa: FBT003
        if family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(sock, where)
    except BaseException:
        sock.close()
        raise
    return sock


async def handshake(raw: socket.socket, tls: Tls, host: str) -> ssl.SSLSocket:
    """Put TLS on a connected socket, which belongs to the result then and is closed if this fails."""
    try:
        secure = _context(tls).wrap_socket(raw, server_hostname=host, do_handshake_on_connect=False)
    except BaseException:
        raw.close()
        raise
    try:
        while True:
            try:
                secure.do_handshake()
            except ssl.SSLWantReadError:
                await _ready(secure, write=False)
            except ssl.SSLWantWriteError:
                await _ready(secure, write=True)
            else:
                return secure
    except BaseException:
        secure.close()
        raise


def _context(tls: Tls) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = tls.verify_name
    if tls.ca_pem is None:
        context.load_default_certs()
        return context
    try:
        context.load_verify_locations(cadata=tls.ca_pem)
    except (ssl.SSLError, ValueError, TypeError) as exc:
        raise UnreadableCaError(*exc.args) from exc
    return context


async def _ready(sock: socket.socket, *, write: bool) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    add, remove = (loop.add_writer, loop.remove_writer) if write else (loop.add_reader, loop.remove_reader)
    add(sock, ready.set)
    try:
        await ready.wait()
    finally:
        remove(sock)
