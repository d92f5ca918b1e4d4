"""Accounts: an administrator's list of them, invitations, new passwords; and everybody's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from propagator.portal import accounts, context, forms
from propagator.portal.errors import Conflict, FieldProblems, NotFound
from propagator.portal.forms import Field, Section
from propagator.portal.pages import told
from propagator.portal.pages.front import AGAIN, NEW_PASSWORD, hold_again
from propagator.portal.pages.listing import counted, page_link, page_number
from propagator.portal.pages.notice import Notice
from propagator.portal.pages.rendering import FormPage, form, go, refused, show
from propagator.portal.web import Db, Form, Logged, portal_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from propagator.portal.tables import Account

router: Final = APIRouter()

_PAGE: Final = 50


@router.get("/accounts")
async def listed(request: Request, db: Db, visit: Logged, q: str = "", page: str = "1") -> Response:
    """List the accounts."""
    found = _matching(await accounts.listed(db, visit.account), q)
    pages = max(1, -(-len(found) // _PAGE))
    shown = min(max(1, page_number(page)), pages)
    now = context.now(db)
    return show(
        request,
        visit,
        "accounts.html",
        title="Accounts",
        purpose="Who may log on to this portal. Integrators and end-users register systems; administrators do not.",
        rows=[
            {"account": account, "state": told.account_state(account, now)}
            for account in found[_PAGE * (shown - 1) : _PAGE * shown]
        ],
        query=q,
        counted=counted(len(found), "account", shown, pages),
        previous=page_link("/accounts", q, shown - 1, pages),
        next=page_link("/accounts", q, shown + 1, pages),
    )


def _matching(all_of_them: Sequence[Account], query: str) -> list[Account]:
    words = query.lower().split()
    return [
        account
        for account in all_of_them
        if all(word in f"{account.name}\n{account.company}\n{account.email}".lower() for word in words)
    ]


_EMAIL: Final = Field("email", "E-mail address", "email", hint="What they log on with, and where mails go.")
_PERSON: Final = (
    Field(
        "kind",
        "Kind of account",
        "choice",
        options=(
            ("partner", "System integrator: partner"),
            ("branch", "System integrator: branch"),
            ("end_user", "End-user"),
            ("administrator", "Administrator of this portal"),
        ),
    ),
    _EMAIL,
    Field("name", "Name"),
    Field("company", "Company"),
)


def _new_page(values: dict[str, str]) -> FormPage:
    return FormPage(
        title="Invite somebody",
        purpose="Make an account. Whoever it is for chooses the password by a link.",
        action="/accounts/new",
        sections=(Section("", "", _PERSON),),
        go="Make the account",
        cancel="/accounts",
        then="A link goes to this address, and is shown to you. It works once, for seven days.",
        values=values,
        crumbs=(("/accounts", "Accounts"),),
    )


@router.get("/accounts/new")
async def ask_new(request: Request, visit: Logged) -> Response:
    """Ask for whom an account is."""
    accounts.require_administrator(visit.account)
    return form(request, visit, _new_page({}))


@router.post("/accounts/new")
async def create(request: Request, db: Db, visit: Logged, posted: Form) -> Response:
    """Make an account, and show its link."""
    accounts.require_administrator(visit.account)
    page = _new_page(forms.typed(posted, _PERSON))
    try:
        _, url = await accounts.create(db, visit.account, forms.document(posted, _PERSON))
    except (FieldProblems, Conflict) as error:
        if isinstance(error, FieldProblems) and "kind" in error.problems:  # which names words that no page shows
            error.problems["kind"] = "is missing; choose one"
        return refused(request, visit, page, error)
    return _hand_over(request, visit, url, "The account is made")


def _hand_over(request: Request, visit: Logged, url: str, title: str) -> Response:
    mailed = portal_of(request).settings.mail is not None
    return show(request, visit, "handover.html", title=title, url=url, back="/accounts", mailed=mailed)


@router.get("/accounts/{number}")
async def one(request: Request, db: Db, visit: Logged, number: str) -> Response:
    """Show an account and what may be done with it."""
    account = await _held(db, visit, number)
    state = told.account_state(account, context.now(db))
    return show(
        request,
        visit,
        "account.html",
        title=account.name or account.email,
        crumbs=(("/accounts", "Accounts"),),
        purpose="One account of this portal.",
        state=state,
        rows=(
            ("Kind", told.KINDS[account.kind]),
            ("Company", account.company),
            ("E-mail address", account.email),
            ("Made", f"{account.created_at:%Y-%m-%d}"),
        ),
        offers=() if account.id == visit.account.id else _offers(account, state),
    )


async def _held(db: Db, visit: Logged, number: str) -> Account:
    accounts.require_administrator(visit.account)
    if not (number.isascii() and number.isdigit() and len(number) < 10):  # noqa: PLR2004  what a key may be
        raise NotFound("There is no such account.")
    return await accounts.get(db, visit.account, int(number))


def _offers(account: Account, state: str) -> tuple[dict[str, object], ...]:
    at = f"/accounts/{account.id}"
    if state == "closed":
        text = "Nobody can log on with this account. Open it again, and it has the password it had."
        return ({"action": f"{at}/open", "text": text, "go": "Open the account", "danger": False},)
    link = (
        "The invitation was not taken up yet. A new link replaces none: each works once."
        if state == "invited"
        else "A new link lets them choose a new password, and unlocks the account. Until then the old one works."
    )
    closing = "Nobody can log on with a closed account; who is logged on is logged off. Its systems stay as they are."
    return (
        {"action": f"{at}/link", "text": link, "go": "Make a new link", "danger": False},
        {"action": f"{at}/close", "text": closing, "go": "Close the account", "danger": True},
    )


@router.post("/accounts/{number}/link")
async def new_link(request: Request, db: Db, visit: Logged, _: Form, number: str) -> Response:
    """Make a link by which a new password is chosen, and show it."""
    account = await _held(db, visit, number)
    return _hand_over(request, visit, await accounts.reset(db, visit.account, account), "A new link")


@router.post("/accounts/{number}/close")
async def close(db: Db, visit: Logged, _: Form, number: str) -> Response:
    """Close an account."""
    account = await _held(db, visit, number)
    await accounts.set_active(db, visit.account, account, active=False)
    return go(f"/accounts/{account.id}", Notice.CLOSED)


@router.post("/accounts/{number}/open")
async def reopen(db: Db, visit: Logged, _: Form, number: str) -> Response:
    """Open an account again."""
    account = await _held(db, visit, number)
    await accounts.set_active(db, visit.account, account, active=True)
    return go(f"/accounts/{account.id}", Notice.OPENED)


_CURRENT: Final = Field("current", "Your password now", "password", autocomplete="current-password")
_OWN: Final = (_CURRENT, NEW_PASSWORD, AGAIN)


def _own_page(visit: Logged) -> FormPage:
    who = visit.account
    return FormPage(
        title="Your account",
        purpose=f"You are {who.name}, {told.KINDS[who.kind]}, {who.company}, and log on as {who.email}.",
        action="/account",
        sections=(Section("Change your password", "Enter the one you have, and twice the one you want.", _OWN),),
        go="Change the password",
        then="You stay logged on here, and are logged off everywhere else.",
    )


@router.get("/account")
async def own(request: Request, visit: Logged) -> Response:
    """Show one's own account."""
    return form(request, visit, _own_page(visit))


@router.post("/account")
async def change_password(request: Request, db: Db, visit: Logged, posted: Form) -> Response:
    """Change one's own password."""
    try:
        hold_again(posted)
        await accounts.change_password(db, visit, posted.get("current", ""), posted.get("password", ""))
    except FieldProblems as error:
        return refused(request, visit, _own_page(visit), error)
    return go("/account", Notice.PASSWORD_CHANGED)
