"""The Registration code of a system (R7): issued when somebody asks, shown once, to be typed, carried or photographed.

The code is not kept, so its page is the answer to the form itself, and its files are in the page.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from fastapi import APIRouter, Request
from starlette.responses import Response

from propagator.portal import changes, codes
from propagator.portal.errors import Conflict
from propagator.portal.pages.rendering import ConfirmPage, confirm, show
from propagator.portal.pages.system import crumbs, held
from propagator.portal.rules import Action
from propagator.portal.web import Db, Form, Logged, portal_of

if TYPE_CHECKING:
    from propagator.portal.codes import Code
    from propagator.portal.tables import System

router: Final = APIRouter()


@router.get("/systems/{number}/code")
async def ask(request: Request, db: Db, visit: Logged, number: str) -> Response:
    """Say what a code is for, and ask before one is issued."""
    system = await held(db, visit.account, number, Action.ISSUE_CODE)
    if system.system_id is None:
        raise Conflict("This registration has no System ID any more.", hint="associate one first")
    url = portal_of(request).settings.url
    page = ConfirmPage(
        title="Registration code",
        purpose=f"Carry the registration of {changes.site_name(system)} to a server that cannot reach this portal.",
        follows=(
            f"The code is good for the System ID `{system.system_id}` alone, once, within {codes.LIFETIME.days} days.",
            "You get it as text to type, as a file to carry, and as a QR picture. The page is made to be printed.",
            "It is shown once. Whenever you need another, issue another.",
            f"A server that reaches this portal needs none: `propagator register --online {url}` fetches it.",
        ),
        action=f"/systems/{system.number}/code",
        go="Issue a Registration code",
        cancel=f"/systems/{system.number}",
        danger=False,
        crumbs=crumbs(system),
    )
    return confirm(request, visit, page)


@router.post("/systems/{number}/code")
async def issue(request: Request, db: Db, visit: Logged, _: Form, number: str) -> Response:
    """Issue a code and show it."""
    system = await held(db, visit.account, number, Action.ISSUE_CODE)
    code = await codes.issue(db, visit.account, system)
    return show(
        request,
        visit,
        "code.html",
        title="Registration code",
        crumbs=crumbs(system),
        number=system.number,
        site=changes.site_name(system),
        code=code,
        lines=[line.split() for line in code.text.splitlines()],
        picture="" if code.png is None else _inline("image/png", code.png),
        files=_files(code, system),
        back=f"/systems/{system.number}",
        thumbprint=portal_of(request).key.thumbprint,
    )


def _files(code: Code, system: System) -> tuple[tuple[str, str, str], ...]:
    """Offer the code as files: link, name, label."""
    name = f"registration-code-{system.number}"
    files = [(f"data:text/plain;charset=utf-8,{quote(code.file)}", f"{name}.txt", "Download the file")]
    if code.png is not None:
        files.append((_inline("image/png", code.png), f"{name}.png", "Download the picture"))
    return tuple(files)


def _inline(media: str, content: bytes) -> str:
    return f"data:{media};base64,{base64.b64encode(content).decode()}"
