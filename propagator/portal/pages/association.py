"""The System Association page (R12): enter the new System ID, Proceed or Cancel, choose the system, Associate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from starlette.responses import Response

from propagator.portal import forms, rules, systems
from propagator.portal.errors import Conflict, Denied, FieldProblems
from propagator.portal.forms import Field, Section
from propagator.portal.pages.choosing import ChoicePage, choose
from propagator.portal.pages.notice import Notice
from propagator.portal.pages.rendering import FormPage, form, go, refused
from propagator.portal.rules import General
from propagator.portal.web import Db, Form, Logged

if TYPE_CHECKING:
    from propagator.portal.tables import Account

router: Final = APIRouter()

TITLE: Final = "System Association page"


@router.get("/associate")
async def ask(request: Request, visit: Logged) -> Response:
    """Ask for the new System ID."""
    _require(visit.account)
    return form(request, visit, _page({}))


@router.post("/associate")
async def proceed(request: Request, visit: Logged, posted: Form) -> Response:
    """Hold the System ID to its form, and go on to choose the system."""
    _require(visit.account)
    system_id = posted.get("system_id", "").strip()
    if problem := forms.system_id_problem(system_id):
        return refused(request, visit, _page(forms.typed(posted, (_NEW,))), FieldProblems({"system_id": problem}))
    return go(f"/associate/system?{urlencode({'system_id': system_id})}")


_NEW: Final = Field(
    "system_id",
    "New System ID",
    hint="The one that the server has now: `propagator status` shows it there. Capital and small letters differ.",
    code=True,
)


def _page(values: dict[str, str]) -> FormPage:
    return FormPage(
        title=TITLE,
        purpose="When the database of a server was deleted, it has a new System ID. Here that new System ID takes over "
        "the registration the server had, so that nothing needs to be entered again.",
        action="/associate",
        sections=(Section("", "", (_NEW,)),),
        go="Proceed",
        cancel="/",
        then="Next, you choose which of your systems it is. Nothing changes before you choose Associate there.",
        values=values,
    )


def _require(who: Account) -> None:
    if not rules.may(who.kind, General.ANSWER_DEVICE):
        raise Denied("An administrator associates no systems.", hint="log on as an integrator or an end-user")


@router.get("/associate/system")
async def ask_system(request: Request, db: Db, visit: Logged, system_id: str = "", q: str = "") -> Response:
    """Ask which registration the new System ID takes over."""
    _require(visit.account)
    if forms.system_id_problem(system_id):
        return go("/associate")
    return await choose(request, db, visit, _choice(system_id, q))


@router.post("/associate/system")
async def associate(request: Request, db: Db, visit: Logged, posted: Form) -> Response:
    """Let the new System ID take over the chosen registration."""
    _require(visit.account)
    system_id, number = posted.get("system_id", ""), posted.get("number", "")
    if not number:
        return await choose(request, db, visit, _choice(system_id, missing=True))
    system = await systems.get(db, visit.account, number)
    try:
        system = await systems.associate(db, visit.account, system, system_id)
    except (FieldProblems, Conflict) as error:
        return refused(request, visit, _page({"system_id": system_id}), error)
    return go(f"/systems/{system.number}/code", Notice.ASSOCIATED)


def _choice(system_id: str, query: str = "", *, missing: bool = False) -> ChoicePage:
    return ChoicePage(
        title="Choose the system",
        purpose="Choose the registration that the new System ID takes over.",
        crumbs=(("/associate", TITLE),),
        told_title="The new System ID",
        told=(("System ID", system_id, True),),
        action="/associate/system",
        kept={"system_id": system_id},
        then="The registration stays as it is. Its former System ID is kept in the history, and servers that still ask "
        "under it are told that it was associated elsewhere. All concerned are told by e-mail.",
        cancel="/",
        query=query,
        missing=missing,
    )
