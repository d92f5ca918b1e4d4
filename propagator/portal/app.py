"""Puts the portal together: the door, the API for servers, the pages for people, and one place that tells every error.

What the services raise becomes JSON under /api and a page elsewhere. Pages stay out of the API's description.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response
from starlette.staticfiles import StaticFiles

from propagator import __version__
from propagator.portal import api, housekeeping, pages, sending, web
from propagator.portal.door import Door
from propagator.portal.errors import NotLoggedOn, PortalError, TooMany, Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from structlog.typing import FilteringBoundLogger

    from propagator.portal.context import Portal

log: FilteringBoundLogger = structlog.get_logger(logger_name="portal.app")

STATIC: Final = Path(__file__).with_name("static")

_TITLES: Final = {
    400: "That cannot be read",
    401: "Not logged on",
    403: "Not allowed",
    404: "Not found",
    405: "Not allowed here",
    409: "That does not fit",
    413: "Too large",
    415: "No form",
    422: "Something to correct",
    429: "Too many tries",
    500: "Something went wrong",
    503: "Not just now",
}

_WORDS: Final = {404: "not_found", 405: "method_not_allowed", 422: "invalid_request"}
_TEXTS: Final = {404: "There is no such page.", 405: "This is done in another way."}


def create_app(portal: Portal) -> FastAPI:
    """Make the web application of a portal that is open (`opening.opened`)."""
    app = FastAPI(
        title="Registration Portal",
        version=__version__,
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
        redirect_slashes=False,
    )
    app.state.portal = portal
    app.include_router(api.router)
    for router in pages.routers:
        app.include_router(router, include_in_schema=False)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.add_middleware(Door, portal=portal, refuse=refuse)
    app.add_exception_handler(PortalError, _tell)
    app.add_exception_handler(HTTPException, _tell_http)
    app.add_exception_handler(RequestValidationError, _tell_unreadable)
    for kind in (OperationalError, InterfaceError, PoolTimeoutError):
        app.add_exception_handler(kind, _tell_database)
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Run what goes on beside the requests: mails leave, and what expired is removed."""
    portal: Portal = app.state.portal
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(sending.run(portal), name="portal mails"),
            group.create_task(housekeeping.run(portal), name="portal housekeeping"),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


def is_api(request: Request) -> bool:
    """Say whether a server asks, who is answered in JSON."""
    return request.url.path.startswith("/api/") or request.url.path == "/api"


def refuse(request: Request, status: int, code: str, text: str) -> Response:
    """Answer what cannot be done, as a page or as JSON."""
    if is_api(request):
        return api.answer(status, code, text)
    return pages.error_page(request, status, _TITLES.get(status, "That cannot be done"), text)


async def _tell(request: Request, error: Exception) -> Response:
    """Tell an error of the services."""
    if not isinstance(error, PortalError):
        raise TypeError(type(error).__name__) from error
    if is_api(request):
        return api.refused(error)
    if isinstance(error, NotLoggedOn):
        return RedirectResponse(web.log_on_url(request), 303)
    hint = f" {error.hint[:1].upper()}{error.hint[1:]}." if error.hint else ""
    response = refuse(request, error.status, error.code, f"{error}{hint}")
    if isinstance(error, TooMany):
        response.headers["Retry-After"] = str(error.retry_after_s)
    return response


async def _tell_http(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise TypeError(type(error).__name__) from error
    text = _TEXTS.get(error.status_code, str(error.detail))
    response = refuse(request, error.status_code, _WORDS.get(error.status_code, "invalid_request"), text)
    response.headers.update(error.headers or {})
    return response


async def _tell_unreadable(request: Request, _error: Exception) -> Response:
    if is_api(request):
        return api.answer(400, "invalid_request", "The request does not read.")
    return refuse(request, 404, "not_found", _TEXTS[404])


async def _tell_database(request: Request, error: Exception) -> Response:
    refusals = web.portal_of(request).refusals
    refusals.note(log.error, "portal.database_failed", error=str(getattr(error, "orig", error)))
    return await _tell(request, Unavailable("The portal's database does not answer.", hint="try again in a minute"))
