"""A server asks for its registration by a code that a person enters here (RFC 8628): who asks, approve or deny."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from starlette.responses import Response

from propagator.portal import changes, grants, rules, systems
from propagator.portal.errors import Denied, NotFound
from propagator.portal.forms import Field
from propagator.portal.pages.choosing import ChoicePage, choose
from propagator.portal.pages.notice import Notice
from propagator.portal.pages.rendering import go, sentence_of, show
from propagator.portal.rules import Action, General
from propagator.portal.web import Db, Form, Logged

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from propagator.portal.tables import Account, Grant

router: Final = APIRouter()

TITLE: Final = "Connect a server"
_CODE: Final = Field(
    "user_code",
    "Code shown at the server",
    hint="Eight letters, like BDGH-KMPQ. The hyphen and capitals do not matter.",
    width="short",
    code=True,
)
_KINDS: Final = {
    "enterprise-central": "Enterprise Central",
    "enterprise-server": "Enterprise Server",
    "server-device": "server device",
}


@router.get("/device")
async def ask(request: Request, db: Db, visit: Logged, user_code: str | None = None) -> Response:
    """Ask for the code, or show which server waits under it and what may be answered."""
    _require(visit.account)
    if user_code is None:
        return _code_page(request, visit, "")
    if not user_code.strip():
        return _code_page(request, visit, user_code, "Code shown at the server is missing; enter it.")
    try:
        grant = await grants.find(db, visit.account, user_code)
    except NotFound as error:
        return _code_page(request, visit, user_code, sentence_of(error))
    return await _answer_page(request, db, visit, grant, user_code)


def _require(who: Account) -> None:
    if not rules.may(who.kind, General.ANSWER_DEVICE):
        raise Denied("An administrator connects no servers.", hint="log on as an integrator or an end-user")


def _code_page(request: Request, visit: Logged, user_code: str, problem: str = "") -> Response:
    return show(
        request,
        visit,
        "device_code.html",
        title=TITLE,
        field_of_code=_CODE,
        user_code=user_code,
        fields=(_CODE,),
        problems={_CODE.path: problem} if problem else {},
        status=422 if problem else 200,
    )


async def _answer_page(request: Request, db: AsyncSession, visit: Logged, grant: Grant, user_code: str) -> Response:
    who = visit.account
    holder = await grants.holder(db, who, grant)
    gives = holder is not None and Action.ISSUE_CODE in rules.allowed(changes.standing(who, holder))
    return show(
        request,
        visit,
        "device.html",
        title=TITLE,
        purpose="A server asks for its registration. Look whether it is yours, and say what it gets.",
        user_code=user_code.strip().upper(),
        told=_told(grant),
        approve=holder if gives else None,
        site=changes.site_name(holder) if holder is not None else "",
        ways=() if holder is not None else _ways(grant, user_code),
    )


def _told(grant: Grant) -> tuple[tuple[str, str, bool], ...]:
    return (
        ("System ID", grant.system_id, True),
        ("Name of the server", grant.server_name, False),
        ("Kind of server", _KINDS.get(grant.kind, grant.kind), False),
        ("Asks from", grant.address, True),
    )


def _ways(grant: Grant, user_code: str) -> tuple[dict[str, str], ...]:
    """Offer both ways to a registration, first the one that the server asked for."""
    query = urlencode({"user_code": user_code})
    new = {
        "href": f"/systems/new?{query}",
        "label": "Register it as a new system",
        "purpose": "It was never registered: enter who and where it is.",
    }
    known = {
        "href": f"/device/system?{query}",
        "label": "Associate it with a system",
        "purpose": "It had another System ID before its database was deleted: choose which system it is.",
    }
    return (known, new) if grant.purpose == "associate" else (new, known)


@router.get("/device/system")
async def ask_system(request: Request, db: Db, visit: Logged, user_code: str = "", q: str = "") -> Response:
    """Ask whose registration the server gets."""
    _require(visit.account)
    grant = await grants.find(db, visit.account, user_code)
    return await choose(request, db, visit, _choice(grant, user_code, q))


def _choice(grant: Grant, user_code: str, query: str = "", *, missing: bool = False) -> ChoicePage:
    return ChoicePage(
        title="Choose the system",
        purpose="Choose the registration that this server takes over.",
        crumbs=(("/device", TITLE),),
        told_title="The server that asks",
        told=_told(grant),
        action="/device/system",
        kept={"user_code": user_code},
        then="Its System ID takes over the registration, and the server receives it by itself. The former System ID is "
        "kept in the history. All concerned are told by e-mail.",
        cancel=f"/device?{urlencode({'user_code': user_code})}",
        query=query,
        missing=missing,
    )


@router.post("/device/system")
async def approve(request: Request, db: Db, visit: Logged, posted: Form) -> Response:
    """Let the server have the registration of a system: its own, or one that its System ID takes over."""
    _require(visit.account)
    user_code, number = posted.get("user_code", ""), posted.get("number", "")
    grant = await grants.find(db, visit.account, user_code)
    if not number:
        return await choose(request, db, visit, _choice(grant, user_code, missing=True))
    system = await systems.get(db, visit.account, number)
    system = await grants.approve(db, visit.account, grant, system)
    return go(f"/systems/{system.number}", Notice.APPROVED)


@router.post("/device/deny")
async def deny(db: Db, visit: Logged, posted: Form) -> Response:
    """Refuse the server."""
    _require(visit.account)
    grant = await grants.find(db, visit.account, posted.get("user_code", ""))
    await grants.deny(db, visit.account, grant)
    return go("/device", Notice.DENIED)
