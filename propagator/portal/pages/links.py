"""One-time links: a first or a new password, and the invitation into a system."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from fastapi import APIRouter, Request
from starlette.responses import Response

from propagator.portal import accounts, changes, forms, invitations
from propagator.portal.errors import Conflict, Denied, FieldProblems
from propagator.portal.forms import Section
from propagator.portal.pages import told
from propagator.portal.pages.front import AGAIN, COMPANY, NAME, NEW_PASSWORD, hold_again, hold_new_person
from propagator.portal.pages.notice import Notice
from propagator.portal.pages.rendering import FormPage, form, go, refused, show
from propagator.portal.rules import Kind
from propagator.portal.tables import System
from propagator.portal.web import Db, Form, Visitor

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from propagator.portal.sessions import Visit
    from propagator.portal.tables import Link

router: Final = APIRouter()

_NEW_PERSON: Final = (NAME, COMPANY, NEW_PASSWORD, AGAIN)


@router.get("/link/{token}")
async def ask(request: Request, db: Db, visit: Visitor, token: str) -> Response:
    """Ask for what the link is for: a password, or joining a system."""
    link = await accounts.find_link(db, token, *accounts.OF_PASSWORD)
    if link.number is None:
        return form(request, visit, _password_page(link, token))
    if await _belongs_to_another(db, link, visit):
        return _log_on_first(request, visit, link, token)
    return form(request, visit, await _join_page(db, link, visit, token))


@router.post("/link/{token}")
async def take(request: Request, db: Db, visit: Visitor, posted: Form, token: str) -> Response:
    """Set the password, or join the system."""
    link = await accounts.find_link(db, token, *accounts.OF_PASSWORD)
    if link.number is not None:
        return await _join(request, db, visit, posted, link, token)
    page = _password_page(link, token)
    try:
        hold_again(posted)
        await accounts.choose_password(db, token, posted.get("password", ""))
    except FieldProblems as error:
        return refused(request, visit, page, error)
    return go("/log-on", Notice.PASSWORD_CHOSEN)


def _password_page(link: Link, token: str) -> FormPage:
    return FormPage(
        title="Choose your password",
        purpose=f"Choose the password with which {link.email} logs on here.",
        action=f"/link/{token}",
        sections=(Section("", "", (NEW_PASSWORD, AGAIN)),),
        go="Set the password",
        then="Then log on with it. This link works once.",
    )


async def _belongs_to_another(db: AsyncSession, link: Link, visit: Visit | None) -> bool:
    """Say whether the invited address has an account that is not the one logged on."""
    held = await accounts.by_email(db, link.email)
    return held is not None and (visit is None or visit.account.id != held.id)


def _log_on_first(request: Request, visit: Visit | None, link: Link, token: str) -> Response:
    other = "" if visit is None else f" You are logged on as {visit.account.email}: log off first."
    return show(
        request,
        visit,
        "error.html",
        title="Log on to join",
        text=f"This invitation is for {link.email}, which has an account here.{other}",
        href="/log-on?next=" + quote(f"/link/{token}", safe=""),
        link="Log on",
    )


async def _join_page(
    db: AsyncSession, link: Link, visit: Visit | None, token: str, posted: Form | None = None
) -> FormPage:
    system = await db.get(System, link.number)
    site = "a system" if system is None else changes.site_name(system)
    person = () if visit is not None else (Section("Your account", f"You log on as {link.email}.", _NEW_PERSON),)
    consents = (forms.consents(in_person=True),) if link.kind is Kind.END_USER else ()
    sections = person + consents
    return FormPage(
        title=f"Join {site}",
        purpose=f"You are invited to join {site}, registration {link.number}, as its {told.KINDS[link.kind]}.",
        action=f"/link/{token}",
        sections=sections,
        go="Join",
        then="You then see its registration and are told of each change by e-mail."
        + (" From then on you alone edit its installation information." if link.kind is Kind.END_USER else ""),
        values={} if posted is None else forms.typed(posted, forms.fields_of(sections)),
    )


async def _join(  # noqa: PLR0913, PLR0917  the request, who asks, and what for
    request: Request, db: AsyncSession, visit: Visit | None, posted: Form, link: Link, token: str
) -> Response:
    page = await _join_page(db, link, visit, token, posted)
    made = forms.document(posted, [field for field in page.fields if field is not AGAIN])
    try:
        if visit is None and not await _belongs_to_another(db, link, visit):
            hold_new_person({**made, "email": link.email}, posted)
        _, system = await invitations.accept(db, token, made, None if visit is None else visit.account)
    except Denied:
        return _log_on_first(request, visit, link, token)
    except (FieldProblems, Conflict) as error:
        return refused(request, visit, page, error)
    if visit is None:
        return go("/log-on?next=" + quote(f"/systems/{system.number}", safe=""), Notice.PASSWORD_CHOSEN)
    return go(f"/systems/{system.number}", Notice.JOINED)
