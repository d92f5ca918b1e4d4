"""What a page or an API call asks for: the session of the database, who is logged on, the posted form.

    async def page(db: Db, visit: Logged) -> Response          # somebody is logged on, else the log on page
    async def post(db: Db, visit: Logged, form: Form) -> …     # the form was held to its session's token and origin

A page that posts must ask for `Form` (a test walks all routes): with it come the checks against forged requests. The
Origin, or Sec-Fetch-Site, must be the portal's own, and where somebody is logged on the field `csrf` their token.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Final, cast
from urllib.parse import parse_qsl, quote

import structlog
from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncSession

from propagator.portal import sessions
from propagator.portal.errors import Denied, NotLoggedOn, PortalError
from propagator.portal.sessions import Visit
from propagator.portal.tables import Account

if TYPE_CHECKING:
    from starlette.responses import Response
    from structlog.typing import FilteringBoundLogger

    from propagator.portal.context import Portal
    from propagator.portal.settings import Settings

log: FilteringBoundLogger = structlog.get_logger(logger_name="portal.web")

CSRF: Final = "csrf"
"""The name of the field that carries the session's token."""

_FIELDS_LIMIT: Final = 400


class BadForm(PortalError):  # noqa: N818  what a person reads of it
    """What was posted is no form."""

    status = 400


class NoForm(PortalError):  # noqa: N818
    """What was posted is of another type than a form is."""

    status = 415
    code = "unsupported_media_type"


def portal_of(request: Request) -> Portal:
    """Give the portal that a request came to."""
    return cast("Portal", request.app.state.portal)


def client_address(request: Request, settings: Settings) -> str:
    """Say from where a request comes: the peer, or what a trusted reverse proxy says it is.

    Of X-Forwarded-For the last entry counts that no trusted proxy is: whatever stands before it anybody could write.
    """
    peer = request.client.host if request.client is not None else ""
    if peer not in settings.trusted_proxies:
        return peer
    said = ",".join(request.headers.getlist("x-forwarded-for")).split(",")
    for entry in reversed(said):
        try:
            named = str(ipaddress.ip_address(entry.strip()))
        except ValueError:
            return peer
        if named not in settings.trusted_proxies:
            return named
    return peer


async def open_db(request: Request) -> AsyncIterator[AsyncSession]:
    """Open the session of the database for one request."""
    portal = portal_of(request)
    async with portal.session(client_address(request, portal.settings)) as db:
        yield db


Db = Annotated[AsyncSession, Depends(open_db)]


def cookie_name(settings: Settings) -> str:
    """Name the cookie. The prefix makes a browser hold it to https, this host and every path (RFC 6265bis §4.1.3)."""
    return "__Host-propagator" if settings.is_https else "propagator"


def set_cookie(response: Response, settings: Settings, token: str) -> None:
    """Give a browser its session."""
    response.set_cookie(cookie_name(settings), token, path="/", secure=settings.is_https, httponly=True, samesite="lax")


def clear_cookie(response: Response, settings: Settings) -> None:
    """Take a browser's session away."""
    response.delete_cookie(cookie_name(settings), path="/", secure=settings.is_https, httponly=True, samesite="lax")


async def find_visit(request: Request, db: Db) -> Visit | None:
    """Find who is logged on, or nobody."""
    token = request.cookies.get(cookie_name(portal_of(request).settings))
    return None if not token else await sessions.find(db, token)


Visitor = Annotated[Visit | None, Depends(find_visit)]


async def require_visit(visit: Visitor) -> Visit:
    """Find who is logged on. Raises NotLoggedOn, which `app` answers with the log on page."""
    if visit is None:
        raise NotLoggedOn("You are not logged on.", hint="log on")
    return visit


Logged = Annotated[Visit, Depends(require_visit)]


async def require_account(visit: Logged) -> Account:
    """Give the account that is logged on."""
    return visit.account


Who = Annotated[Account, Depends(require_account)]


class Posted(Mapping[str, str]):
    """A posted form: the last value of each field, and all of them by `all`."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._pairs = pairs
        self._last = dict(pairs)

    def __getitem__(self, name: str) -> str:
        return self._last[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._last)

    def __len__(self) -> int:
        return len(self._last)

    def all(self, name: str) -> list[str]:
        """Give every value of a field, in the order of the form."""
        return [value for key, value in self._pairs if key == name]


async def read_urlencoded(request: Request) -> Posted:
    """Read a posted form, strictly: URL-encoded UTF-8, a bounded number of fields. Raises BadForm, NoForm."""
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/x-www-form-urlencoded":
        raise NoForm("What was sent is no form.", hint="send it as application/x-www-form-urlencoded")
    body = await request.body()
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_FIELDS_LIMIT)
    except ValueError as error:  # UnicodeDecodeError is one
        raise BadForm("The form does not read.", hint="send it again from the portal's own page") from error
    if any("\x00" in name or "\x00" in value for name, value in pairs):
        raise BadForm("The form holds a NUL, which no text does.")
    return Posted(pairs)


async def read_form(request: Request, visit: Visitor) -> Posted:
    """Read a form that one of the portal's own pages posted. Raises Denied for any other."""
    _hold_origin(request)
    form = await read_urlencoded(request)
    if visit is not None and not hmac.compare_digest(
        form.get(CSRF, "").encode("utf-8", "surrogatepass"), visit.csrf.encode()
    ):
        portal_of(request).refusals.note(log.warning, "portal.form_refused", reason="token", account=visit.account.id)
        raise Denied("This form does not belong to your log on.", hint="open the page again, and send it from there")
    return form


Form = Annotated[Posted, Depends(read_form)]


def _hold_origin(request: Request) -> None:
    """Refuse a form that a page of somebody else sent. A browser says where it comes from; what does not is none."""
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    portal = portal_of(request)
    own = {portal.settings.url, f"{request.url.scheme}://{request.headers.get('host', '')}".lower()}
    if site == "same-origin" or (site is None and origin is not None and origin.lower() in own):
        return
    portal.refusals.note(log.warning, "portal.form_refused", reason="origin", origin=origin, site=site)
    raise Denied("This form was not sent from the portal's own page.", hint="open the page, and send it from there")


def log_on_url(request: Request) -> str:
    """Give where to log on, and come back to what was asked for: a path of ours, never another site."""
    if request.method != "GET" or request.url.path == "/":
        return "/log-on"
    asked = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return f"/log-on?next={quote(asked, safe='')}"


def local_path(asked: str) -> str:
    """Take where to go after logging on: a path of this portal, or its home."""
    plain = asked.startswith("/") and not asked.startswith(("//", "/\\")) and asked.isprintable() and "\\" not in asked
    return asked if plain and asked.isascii() else "/"
