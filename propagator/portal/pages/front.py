"""The way in: the first page, log on, log off, and the one-time links."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from propagator.portal import accounts, forms, rules, sessions, web
from propagator.portal.errors import Conflict, Denied, FieldProblems, TooMany
from propagator.portal.forms import Field, Section
from propagator.portal.pages.notice import Notice
from propagator.portal.pages.rendering import FormPage, form, go, held_up, refused, sentence_of, show
from propagator.portal.rules import General
from propagator.portal.web import Db, Form, Visitor

if TYPE_CHECKING:
    from propagator.core.difference import JsonObject
    from propagator.portal.tables import Account

router: Final = APIRouter()

EMAIL: Final = Field("email", "E-mail address", "email", autocomplete="username")
NAME: Final = Field("name", "Your name", autocomplete="name")
COMPANY: Final = Field("company", "Your company", autocomplete="organization")
NEW_PASSWORD: Final = Field(
    "password",
    "Password",
    "password",
    hint="At least 12 characters. Four words are easy to remember and hard to guess.",
    autocomplete="new-password",
)
AGAIN: Final = Field("again", "The same password again", "password", autocomplete="new-password")
_PASSWORD: Final = Field("password", "Password", "password", autocomplete="current-password")


@router.get("/")
async def home(request: Request, visit: Visitor) -> Response:
    """Show what may be done next."""
    cards = () if visit is None else _cards(visit.account)
    return show(request, visit, "home.html", title="What next?" if visit else "Registration Portal", cards=cards)


def _cards(who: Account) -> tuple[dict[str, str], ...]:
    """Offer what the rules allow this account."""
    cards = []
    if rules.may(who.kind, General.REGISTER):
        cards.append(_card("/systems/new", "Register a system", "Enter its System ID and who and where it is."))
        cards.append(
            _card("/systems", "Modify a system", "See your registered systems and change what is out of date.")
        )
    else:
        cards.append(_card("/systems", "Registered systems", "Find a system, free a place in it, or withdraw it."))
    if rules.may(who.kind, General.ANSWER_DEVICE):
        cards.append(
            _card(
                "/associate",
                "System Association page",
                "A server has a new System ID, because its database was deleted: let it take over its registration.",
            )
        )
        cards.append(_card("/device", "Connect a server", "A server shows a code and waits: enter it and approve."))
    if rules.may(who.kind, General.KEEP_ACCOUNTS):
        cards.append(
            _card("/accounts", "Accounts", "Invite somebody, let them choose a new password, close an account.")
        )
    return tuple(cards)


def _card(href: str, label: str, purpose: str) -> dict[str, str]:
    return {"href": href, "label": label, "purpose": purpose}


def _log_on_page(values: dict[str, str], after: str) -> FormPage:
    return FormPage(
        title="Log on",
        purpose="Log on to register a system, or to keep its registration up to date.",
        action="/log-on",
        sections=(Section("", "", (EMAIL, _PASSWORD)),),
        go="Log on",
        other=("/forgotten-password", "Forgot your password?"),
        then="After ten wrong passwords in a row an account is locked for 15 minutes, or until a new one is set.",
        values=values,
        hidden={"next": after},
    )


@router.get("/log-on")
async def ask_log_on(request: Request, visit: Visitor) -> Response:
    """Ask who it is."""
    after = web.local_path(request.query_params.get("next", "/"))
    if visit is not None:
        return go(after)
    return form(request, visit, _log_on_page({}, after))


@router.post("/log-on")
async def log_on(request: Request, db: Db, visit: Visitor, posted: Form) -> Response:
    """Log on, and go where somebody wanted to go."""
    after = web.local_path(posted.get("next", "/"))
    page = _log_on_page({"email": posted.get("email", "")}, after)
    try:
        account = await accounts.authenticate(db, posted.get("email", ""), posted.get("password", ""))
    except Denied as error:
        return form(request, None, page, problems={"email": sentence_of(error)}, status=422)
    except TooMany as error:
        return held_up(request, None, page, error)
    if visit is not None:
        await sessions.end(db, visit)
    response = go(after)
    web.set_cookie(response, web.portal_of(request).settings, await sessions.begin(db, account))
    return response


@router.post("/log-off")
async def log_off(request: Request, db: Db, visit: Visitor, _: Form) -> Response:
    """Log off. Who is not logged on any more is, too."""
    if visit is not None:
        await sessions.end(db, visit)
    response = go("/", Notice.LOGGED_OFF)
    web.clear_cookie(response, web.portal_of(request).settings)
    return response


def _setup_page(token: str, values: dict[str, str]) -> FormPage:
    return FormPage(
        title="Make the administrator's account",
        purpose="This portal is new. Its administrator invites everybody else, and registers no systems.",
        action=f"/setup/{token}",
        sections=(Section("", "", (EMAIL, NAME, COMPANY, NEW_PASSWORD, AGAIN)),),
        go="Make the account",
        then="Then log on with it, and invite integrators and end-users under Accounts. This link works once.",
        values=values,
    )


@router.get("/setup/{token}")
async def ask_setup(request: Request, db: Db, visit: Visitor, token: str) -> Response:
    """Ask for the first administrator."""
    await accounts.find_link(db, token, "setup")
    return form(request, visit, _setup_page(token, {}))


@router.post("/setup/{token}")
async def set_up(request: Request, db: Db, visit: Visitor, posted: Form, token: str) -> Response:
    """Make the first administrator."""
    await accounts.find_link(db, token, "setup")
    page = _setup_page(token, forms.typed(posted, (EMAIL, NAME, COMPANY)))
    made = forms.document(posted, (EMAIL, NAME, COMPANY, NEW_PASSWORD))
    try:
        hold_new_person(made, posted)
        await accounts.set_up(db, token, made)
    except (FieldProblems, Conflict) as error:
        return refused(request, visit, page, error)
    return go("/log-on", Notice.SET_UP)


def hold_new_person(made: JsonObject, posted: Form) -> None:
    """Hold somebody who makes an account to all rules at once, the second writing of the password too.

    Raises FieldProblems.
    """
    problems: dict[str, str] = {}
    try:
        accounts.new_person(made)
    except FieldProblems as error:
        problems = error.problems
    if problems or not _same_twice(posted):
        raise FieldProblems(problems if _same_twice(posted) else problems | _DIFFER)


def hold_again(posted: Form) -> None:
    """Hold a new password to its second writing. Raises FieldProblems."""
    if not _same_twice(posted):
        raise FieldProblems(_DIFFER)


def _same_twice(posted: Form) -> bool:
    return posted.get(NEW_PASSWORD.path, "") == posted.get(AGAIN.path, "")


_DIFFER: Final = {AGAIN.path: "The two passwords differ; enter the same one twice"}
