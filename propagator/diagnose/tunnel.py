"""Connections to a portal for its diagnosis: by a proxy or without, then TLS; checked, or looked at without trust.

No secret goes over what was not checked. Everything has a deadline, and what comes back is bounded.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime as dt
import email.utils
import secrets
import socket
import ssl
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from propagator.bus import Tls, handshake
from propagator.core.diagnosis.portal import Handshake, ProxySeen
from propagator.core.diagnosis.seen import End
from propagator.core.ticket import plain
from propagator.probe import sockets, tries
from propagator.probe.certificate import certificate_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from propagator.config import Portal, Proxy
    from propagator.enrol.way import Way

STAGE_S: Final = 4.0
_HEAD: Final = 16_384
"""Bytes of an answer's head that are read."""


@dataclass(frozen=True, slots=True)
class Entrance:
    """Where TCP connects to: an address of the portal's, or of the proxy's, that lets us in."""

    address: str
    port: int
    way: Way


async def ask_proxy(entrance: Entrance, proxy: Proxy) -> ProxySeen:
    """Ask the proxy for a connection, and hang up."""
    seen = ProxySeen(str(proxy.address), proxy.source)
    try:
        async with asyncio.timeout(STAGE_S), _tcp(entrance) as sock:
            return await _connect(sock, entrance.way.portal, proxy, seen)
    except TimeoutError:
        return replace(seen, end=End.TIMEOUT)
    except ConnectionResetError:
        return replace(seen, end=End.RESET)
    except OSError:
        return replace(seen, end=End.CLOSED)


async def shake(entrance: Entrance) -> Handshake:
    """Shake hands with what answers as the portal; where that fails, look at what it shows, without trust."""
    way, now = entrance.way, dt.datetime.now(dt.UTC)
    tls = Tls(way.ca, verify_name=True)
    done = Handshake(End.DONE, now, own_ca=way.ca is not None)
    try:
        async with asyncio.timeout(STAGE_S), _through(entrance) as sock:
            secure = await handshake(sock.dup(), tls, way.portal.host)
            with secure:
                raw = secure.getpeercert(binary_form=True)
            return replace(done, certificate=None if raw is None else certificate_of(raw))
    except ssl.SSLCertVerificationError as exc:
        failed = replace(done, end=End.TLS, verify_code=exc.verify_code)
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
        failed = replace(done, end=End.CLOSED)
    except ssl.SSLError as exc:
        failed = replace(done, end=End.TLS, tls_reason=exc.reason or "")
    except TimeoutError:
        failed = replace(done, end=End.TIMEOUT)
    except ConnectionError:
        failed = replace(done, end=End.RESET)
    except OSError as exc:
        failed = replace(done, end=End.TLS, tls_reason=exc.strerror or "")
    return await _looked_at(entrance, failed)


async def _looked_at(entrance: Entrance, failed: Handshake) -> Handshake:
    """See what is shown under the portal's name, and under one that nobody has."""
    stranger = f"{secrets.token_hex(8)}.invalid"
    shown, other = await asyncio.gather(
        _shown(entrance, entrance.way.portal.host, ask=failed.verify_code is not None),
        _shown(entrance, stranger, ask=False),
    )
    certificate = None if shown is None or shown.raw is None else certificate_of(shown.raw)
    under_other = None if other is None or other.raw is None else certificate_of(other.raw)
    minted = (
        certificate is not None
        and under_other is not None
        and stranger in under_other.names
        and under_other.issuer == certificate.issuer
    )
    return replace(
        failed,
        certificate=certificate,
        server_time=None if shown is None else shown.time,
        minted=minted,
        other_name=other is not None,
    )


@dataclass(frozen=True, slots=True)
class _Shown:
    """What a handshake without trust shows: a certificate, and the time that an answer names."""

    raw: bytes | None
    time: dt.datetime | None = None


async def _shown(entrance: Entrance, name: str, *, ask: bool) -> _Shown | None:
    """Shake hands without trust; with `ask`, ask for the time, too. None where there is no handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        async with asyncio.timeout(STAGE_S), _through(entrance) as sock:
            reader, writer = await asyncio.open_connection(sock=sock.dup(), ssl=context, server_hostname=name)
            try:
                raw = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
                return _Shown(raw, await _time(reader, writer, entrance.way.portal) if ask else None)
            finally:
                writer.transport.abort()
    except (OSError, TimeoutError, ValueError):
        return None


async def _time(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, portal: Portal) -> dt.datetime | None:
    """Ask what time it is there: the Date of an answer (RFC 9110 §6.6.1). Nothing of ours is said but the name."""
    writer.write(f"HEAD / HTTP/1.1\r\nHost: {portal.authority}\r\nConnection: close\r\n\r\n".encode())
    with contextlib.suppress(OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
        async with asyncio.timeout(STAGE_S / 2):
            head = await reader.readuntil(b"\r\n\r\n")
        for line in head[:_HEAD].decode("latin-1").splitlines():
            if line.lower().startswith("date:"):
                found = email.utils.parsedate_to_datetime(line[5:].strip())
                return found if found.tzinfo is not None else None
    return None


@contextlib.asynccontextmanager
async def _through(entrance: Entrance) -> AsyncIterator[socket.socket]:
    """Connect to where TLS begins: to the portal, or through the proxy. Raises OSError."""
    async with _tcp(entrance) as sock:
        proxy = entrance.way.proxy
        if proxy is not None:
            seen = await _connect(sock, entrance.way.portal, proxy, ProxySeen(str(proxy.address), proxy.source))
            if seen.status is None or not 200 <= seen.status < 300:  # noqa: PLR2004  it connects us
                raise ConnectionError("the proxy does not connect us")
        yield sock


@contextlib.asynccontextmanager
async def _tcp(entrance: Entrance) -> AsyncIterator[socket.socket]:
    family, where = sockets.sockaddr(entrance.address, entrance.port)
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)  # noqa: FBT003
        attempt = await tries.attempt(sock, where, STAGE_S)
        if attempt.errno is not None:
            raise OSError(attempt.errno, attempt.answer)
        yield sock


async def _connect(sock: socket.socket, portal: Portal, proxy: Proxy, seen: ProxySeen) -> ProxySeen:
    """Say CONNECT, and read the head of the answer (RFC 9110 §9.3.6). Raises OSError."""
    loop = asyncio.get_running_loop()
    account = base64.b64encode(proxy.account.encode()).decode()
    told = f"Proxy-Authorization: Basic {account}\r\n" if account else ""
    target = str(portal.address)
    await loop.sock_sendall(sock, f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{told}\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head and len(head) < _HEAD:
        part = await loop.sock_recv(sock, 1)  # no byte of what comes after the head belongs to it
        if not part:
            return replace(seen, end=End.CLOSED)
        head += part
    return _proxy_said(head, seen)


def _proxy_said(head: bytes, seen: ProxySeen) -> ProxySeen:
    first, *rest = head.decode("latin-1").splitlines()
    words = first.split(" ", 2)
    if len(words) < 2 or not words[0].startswith("HTTP/1.") or not (words[1].isdecimal() and len(words[1]) == 3):  # noqa: PLR2004
        return replace(seen, garbled=True)
    headers = {key.lower(): value.strip() for key, _, value in (line.partition(":") for line in rest)}
    server = headers.get("server") or headers.get("via") or headers.get("proxy-agent") or ""
    reason = plain(words[2], 60) if len(words) > 2 else ""  # noqa: PLR2004
    return replace(seen, status=int(words[1]), reason=reason, server=plain(server, 80))
