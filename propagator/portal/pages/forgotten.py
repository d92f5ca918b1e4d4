"""A forgotten password: asks for the e-mail address, and answers alike whether it has an account or not."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request
from starlette.background import BackgroundTask
from starlette.responses import Response

from propagator.portal import forgotten, web
from propagator.portal.errors import FieldProblems, TooMany
from propagator.portal.forms import Section
from propagator.portal.pages.front import EMAIL
from propagator.portal.pages.notice import Notice
from propagator.portal.pages.rendering import FormPage, form, go, held_up, refused, show
from propagator.portal.web import Form, Visitor

router: Final = APIRouter()

TITLE: Final = "Forgot your password?"


def _page(email: str) -> FormPage:
    return FormPage(
        title=TITLE,
        purpose="Enter the e-mail address that you log on with. A link by which you choose a new password goes to it.",
        action="/forgotten-password",
        sections=(Section("", "", (EMAIL,)),),
        go="Send the link",
        cancel="/log-on",
        then="The link works once, for an hour. When the new password is set, whoever is logged on with the old one is "
        "logged off, and a locked account is open again.",
        values={EMAIL.path: email},
    )


@router.get("/forgotten-password")
async def ask(request: Request, visit: Visitor) -> Response:
    """Ask for the address, or say whom to ask where the portal sends no mail."""
    if web.portal_of(request).settings.mail is not None:
        return form(request, visit, _page(""))
    return show(
        request,
        visit,
        "error.html",
        title=TITLE,
        text="This portal sends no e-mail. Ask whoever runs it for a link by which you choose a new password.",
        href="/log-on",
        link="Back to log on",
    )


@router.post("/forgotten-password")
async def send(request: Request, visit: Visitor, posted: Form) -> Response:
    """Answer, and only then look whether there is such an account and mail it."""
    portal = web.portal_of(request)
    client, typed = web.client_address(request, portal.settings), posted.get(EMAIL.path, "")
    try:
        address = forgotten.asked(portal, client, typed)
    except FieldProblems as error:
        return refused(request, visit, _page(typed), error)
    except TooMany as error:
        return held_up(request, visit, _page(typed), error)
    response = go("/log-on", Notice.LINK_SENT)
    response.background = BackgroundTask(forgotten.mail_link, portal, client, address)
    return response
