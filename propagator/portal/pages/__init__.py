"""The pages for people. `app` mounts `routers`, and shows what went wrong with `error_page`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fastapi import APIRouter, Depends

from propagator.portal.pages import (
    accounts,
    association,
    codes,
    device,
    forgotten,
    front,
    key,
    links,
    listing,
    registering,
    rendering,
    slots,
    system,
)

if TYPE_CHECKING:
    from fastapi import Request
    from starlette.responses import Response

_PAGES: Final = (
    front,
    forgotten,
    links,
    listing,
    registering,
    system,
    slots,
    codes,
    association,
    device,
    accounts,
    key,
)
"""In this order: `/systems/new` is asked before `/systems/{number}`."""


def _together() -> APIRouter:
    """Put all pages together; each remembers who asked, so that an error is shown in the same frame."""
    whole = APIRouter(dependencies=[Depends(rendering.remember)])
    for page in _PAGES:
        whole.include_router(page.router)
    return whole


routers: Final[tuple[APIRouter, ...]] = (_together(),)


def error_page(request: Request, status: int, title: str, text: str) -> Response:
    """Make the page that says what went wrong; it needs neither the database nor somebody logged on."""
    return rendering.show(
        request,
        rendering.remembered(request),
        "error.html",
        title=title,
        text=text,
        href="",
        link="",
        status=status,
    )
