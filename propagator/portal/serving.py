"""Serves the portal until it is told to stop: its socket, its certificate, its signals, by uvicorn.

What keeps it from starting is raised before anything is served. At SIGTERM or SIGINT requests under way may end within
a second; those that do not are answered 503.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog
import uvicorn

from propagator.core.errors import InputError, StateError
from propagator.portal import accounts
from propagator.portal.app import create_app
from propagator.portal.opening import opened
from propagator.portal.refusals import Unreadable
from propagator.portal.settings import split_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fastapi import FastAPI
    from structlog.typing import FilteringBoundLogger

    from propagator.portal.refusals import Refusals
    from propagator.portal.settings import Settings

log: FilteringBoundLogger = structlog.get_logger(logger_name="portal.serving")

_GRACE_S: Final = 1
_AT_ONCE: Final = 512
"""Connections at once; more are answered 503."""


@dataclass(frozen=True, slots=True)
class Ready:
    """What is told when the portal serves: where, by which key it signs, and how to make the first administrator."""

    url: str
    listening: str
    thumbprint: str
    setup_url: str | None


class Server(uvicorn.Server):
    """uvicorn's server, which says when it serves, and leaves signals to us: it would end the process by them."""

    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = on_started

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them alone."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve, and say so."""
        await super().startup(sockets)
        if self.started:
            self._on_started()


async def serve(
    settings: Settings,
    *,
    on_ready: Callable[[Ready], None],
    on_stopping: Callable[[], None],
    admin_link_file: Path | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT. Raises InputError, RefusedError, StateError, StoreError before it serves."""
    context = _tls(settings)
    listening = listen(settings)
    os.umask(0o077)  # SQLite makes files of its own beside the database
    with contextlib.closing(listening):
        async with opened(settings) as portal:
            async with portal.session() as db:
                setup_url = await accounts.setup_link(db)
            if admin_link_file is not None:
                _write_link(admin_link_file, setup_url)
            host, port = listening.getsockname()[:2]
            ready = Ready(
                settings.url, f"{f'[{host}]' if ':' in host else host}:{port}", portal.key.thumbprint, setup_url
            )
            config = configured(create_app(portal), context)
            gc.freeze()  # what was loaded stays: else the interpreter's end looks through it all, half a second of work
            with _heard(portal.refusals):
                await _run(Server(config, lambda: on_ready(ready)), listening, on_stopping)
    log.info("portal.stopped")


def configured(app: FastAPI, context: ssl.SSLContext | None = None) -> uvicorn.Config:
    """Say how uvicorn serves the application: what it would read or add by itself is off."""
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        proxy_headers=False,  # `web.client_address` reads them, from trusted proxies alone
        lifespan="on",
        http="h11",
        ws="none",
        loop="none",
        limit_concurrency=_AT_ONCE,
        timeout_keep_alive=10,
        timeout_graceful_shutdown=_GRACE_S,
        h11_max_incomplete_event_size=32 * 1024,
        ssl_context_factory=None if context is None else lambda *_: context,
    )


@contextlib.contextmanager
def _heard(refusals: Refusals) -> Iterator[None]:
    """Note what uvicorn refuses before there is a request."""
    said, noted = logging.getLogger("uvicorn.error"), Unreadable(refusals, log.warning)
    said.addFilter(noted)
    try:
        yield
    finally:
        said.removeFilter(noted)


async def _run(server: Server, listening: socket.socket, on_stopping: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if not server.should_exit:
            on_stopping()
        server.force_exit = server.should_exit  # a second signal waits for nobody
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        await server.serve(sockets=[listening])
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
    if not server.started:
        raise StateError("The portal did not start.", hint="see its log")


def _tls(settings: Settings) -> ssl.SSLContext | None:
    """Load certificate and key. Raises InputError where they are not there, do not fit, or others may read the key."""
    if settings.tls is None:
        return None
    key = settings.tls.key
    try:
        if key.stat().st_mode & 0o077:
            raise InputError(f"{key} is private, but others may read it.", hint=f"chmod 600 {key}")
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(settings.tls.certificate, key, password=lambda: b"")
    except ssl.SSLError as error:
        raise InputError(
            f"{settings.tls.certificate} and {key} are no certificate with its key, both PEM: {error.reason}.",
            hint="name the certificate with its chain, and its unencrypted key",
        ) from error
    except OSError as error:
        raise InputError(
            f"{error.filename or settings.tls.certificate} cannot be read: {error.strerror}.",
            hint="correct --tls-cert and --tls-key",
        ) from error
    return context


def listen(settings: Settings) -> socket.socket:
    """Bind the socket: whoever starts the portal learns at once that its port is taken."""
    host, port = split_address(settings.listen)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise InputError(f"{host} is no address of this machine: {error.strerror}.", hint="correct --listen") from error
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6 and host == "::":
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        bound.bind(address)
        bound.listen(128)
        bound.setblocking(False)  # noqa: FBT003  the socket's own signature
    except OSError as error:
        bound.close()
        raise StateError(
            f"The portal cannot listen at {settings.listen}: {error.strerror}.", hint="name another with --listen"
        ) from error
    return bound


def _write_link(path: Path, url: str | None) -> None:
    """Write the link for a script to find, for this user alone; no file where there is an administrator already."""
    try:
        path.unlink(missing_ok=True)
        if url is None:
            return
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
            file.write(f"{url}\n")
    except OSError as error:
        raise StateError(f"{path} cannot be written: {error.strerror}.", hint="correct --admin-link-file") from error
