"""What stands before every request, and puts its headers on every answer.

Size and form are looked at before anything reads the request; the headers keep a browser from being turned against its
user.

Refused here: bodies over 64 KiB (counted as they come, so that nobody needs to say how long they are), other hosts than
the portal's own (what a rebound name or a forged Host would bring), and paths that two readers could read differently:
encoded slashes, NUL and control characters, what is not UTF-8.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes, urlsplit

import structlog
from starlette.datastructures import MutableHeaders
from starlette.requests import Request

from propagator.portal.settings import split_address

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send
    from structlog.typing import FilteringBoundLogger

    from propagator.portal.context import Portal
    from propagator.portal.settings import Settings

log: FilteringBoundLogger = structlog.get_logger(logger_name="portal.door")

BODY_LIMIT: Final = 64 * 1024
_PATH_LIMIT: Final = 1024
_QUERY_LIMIT: Final = 4096
_HEADERS_LIMIT: Final = 16 * 1024

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})

POLICY: Final = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; font-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)


class _TooLarge(Exception):  # noqa: N818  never leaves this module
    """The body passed its limit while it was read."""


class Door:
    """The ASGI application in front of the application. `refuse` makes the answer: status, word, sentence."""

    def __init__(self, app: ASGIApp, *, portal: Portal, refuse: Callable[[Request, int, str, str], Response]) -> None:
        settings = portal.settings
        self._app = app
        self._refuse = refuse
        self._refusals = portal.refusals
        self._https = settings.is_https
        self._hosts = _hosts(settings)
        self._url = settings.url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Look at the request, and pass it on or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        began = False

        async def with_headers(message: Message) -> None:
            nonlocal began
            if message["type"] == "http.response.start":
                began = True
                self._add_headers(scope, MutableHeaders(scope=message))
            await send(message)

        refusal = self._problem(scope)
        if refusal is None:
            try:
                await self._app(scope, _counted(receive), with_headers)
            except _TooLarge:
                refusal = (413, "too_large", f"A request may be {BODY_LIMIT // 1024} KiB long.")
            except asyncio.CancelledError:  # told to stop, and the time for what is under way is over
                refusal = (503, "unavailable", "The portal is being stopped. Try again in a minute.")
            except Exception:  # the last door: whatever it was, it is written down here once, and nobody sees it
                path = _TOKEN.sub(r"\1/…", scope["path"])
                log.exception("portal.request_failed", method=scope["method"], path=path)
                refusal = (500, "server_error", "The portal made a mistake. It was written down.")
            if began:
                return
        if refusal is not None:
            status, code, text = refusal
            self._refusals.note(log.warning, "portal.request_refused", reason=code, status=status)
            await self._refuse(Request(scope), status, code, text)(scope, receive, with_headers)

    def _problem(self, scope: Scope) -> tuple[int, str, str] | None:
        """Say what is wrong with a request, before its body is read. The first rule that applies wins."""
        headers: list[tuple[bytes, bytes]] = list(scope["headers"])
        if sum(len(name) + len(value) for name, value in headers) > _HEADERS_LIMIT:
            return 431, "too_large", "The headers of the request are too large."
        hosts = [value.decode("latin-1").lower() for name, value in headers if name == b"host"]
        if len(hosts) != 1 or _without_port(hosts[0]) not in self._hosts:
            return 400, "invalid_host", f"This portal is reached as {self._url}."
        raw: bytes = scope.get("raw_path") or scope["path"].encode("utf-8", "surrogatepass")
        if len(raw) > _PATH_LIMIT or len(scope["query_string"]) > _QUERY_LIMIT:
            return 414, "too_long", "The address is too long."
        if _is_tricky(raw) or _CONTROL.search(_read(scope["query_string"].replace(b"+", b" "))):
            return 400, "invalid_request", "The address holds signs that none of this portal does."
        lengths = [value for name, value in headers if name == b"content-length"]
        if any(not length.isdigit() for length in lengths) or len(set(lengths)) > 1:
            return 400, "invalid_request", "The length of the request does not read."
        if lengths and int(lengths[0][:20]) > BODY_LIMIT:
            return 413, "too_large", f"A request may be {BODY_LIMIT // 1024} KiB long."
        return None

    def _add_headers(self, scope: Scope, headers: MutableHeaders) -> None:
        headers["Content-Security-Policy"] = POLICY
        headers["X-Content-Type-Options"] = "nosniff"
        headers["X-Frame-Options"] = "DENY"
        headers["Referrer-Policy"] = "same-origin"  # `no-referrer` would empty the Origin of our own forms
        headers["Cross-Origin-Opener-Policy"] = "same-origin"
        headers["Cross-Origin-Resource-Policy"] = "same-origin"
        headers["Permissions-Policy"] = "camera=(), geolocation=(), microphone=()"
        if not scope["path"].startswith("/static/"):
            headers["Cache-Control"] = "no-store"
        if self._https:
            headers["Strict-Transport-Security"] = "max-age=31536000"


def _hosts(settings: Settings) -> frozenset[str]:
    """Name the hosts that this portal goes by: its public name, where it listens, and this machine's own."""
    listened, _ = split_address(settings.listen)
    listened = f"[{listened}]" if ":" in listened else listened
    return _LOOPBACK | {_without_port(urlsplit(settings.url).netloc), listened.lower()}


def _without_port(host: str) -> str:
    return _PORT.sub("", host)


_PORT: Final = re.compile(r":[0-9]{1,5}$", re.ASCII)
_TOKEN: Final = re.compile(r"^(/setup|/link)/.*", re.DOTALL)
"""A path that holds a one-time link, which belongs into no log."""

_CONTROL: Final = re.compile(rb"[\x00-\x1f\x7f]")
_TRICKS: Final = re.compile(rb"%2f|%5c|\\|//", re.IGNORECASE)


def _read(raw: bytes) -> bytes:
    return unquote_to_bytes(raw)


def _is_tricky(raw: bytes) -> bool:
    """Say whether two readers could read two paths here."""
    plain = _read(raw)
    if _TRICKS.search(raw) or _CONTROL.search(plain) or b"/../" in plain + b"/" or b"/./" in plain + b"/":
        return True
    try:
        plain.decode()
    except UnicodeDecodeError:
        return True
    return False


def _counted(receive: Receive) -> Receive:
    """Count the body as it comes, and stop where it is too large."""
    size = 0

    async def counted() -> Message:
        nonlocal size
        message = await receive()
        if message["type"] == "http.request":
            size += len(message.get("body", b""))
            if size > BODY_LIMIT:
                raise _TooLarge
        return message

    return counted
