"""Register a system: a new one that somebody typed, or that of a server which asks by its code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from propagator.portal import forms, grants, rules, systems
from propagator.portal.errors import Conflict, Denied, FieldProblems
from propagator.portal.forms import Section
from propagator.portal.pages.notice import Notice
from propagator.portal.pages.rendering import FormPage, form, go, refused
from propagator.portal.rules import General, Kind
from propagator.portal.web import Db, Form, Logged, Who

if TYPE_CHECKING:
    from propagator.portal.tables import Account, Grant

router: Final = APIRouter()


@router.get("/systems/new")
async def ask(request: Request, db: Db, visit: Logged, user_code: str = "") -> Response:
    """Ask for a registration."""
    _require(visit.account)
    grant = await grants.find(db, visit.account, user_code) if user_code else None
    return form(request, visit, _page(visit.account, {}, grant, user_code))


@router.post("/systems/new")
async def register(request: Request, db: Db, visit: Logged, posted: Form) -> Response:
    """Register the system; where a server asked for it, let the server have the registration as well."""
    who = visit.account
    _require(who)
    user_code = posted.get("user_code", "")
    grant = await grants.find(db, who, user_code) if user_code else None
    sections = _sections(who)
    made = forms.document(posted, forms.fields_of(sections))
    try:
        if grant is not None:
            system = await grants.approve_new(db, who, grant, made)
        else:
            system = await systems.register(db, who, posted.get("system_id", "").strip(), made)
    except (FieldProblems, Conflict) as error:
        values = forms.typed(posted, (forms.SYSTEM_ID, *forms.fields_of(sections)))
        return refused(request, visit, _page(who, values, grant, user_code), error)
    return go(f"/systems/{system.number}", Notice.APPROVED if grant is not None else Notice.REGISTERED)


def _require(who: Who) -> None:
    if not rules.may(who.kind, General.REGISTER):
        raise Denied("An administrator registers no systems.", hint="log on as an integrator or an end-user")


def _sections(who: Account) -> tuple[Section, ...]:
    """Ask a person for what the rules let them enter."""
    warranty = (forms.WARRANTY,) if rules.SLOT_OF[who.kind] == "integrator" else ()
    return (*forms.INSTALLATION, forms.consents(in_person=who.kind is Kind.END_USER), *warranty)


def _page(who: Account, values: dict[str, str], grant: Grant | None, user_code: str) -> FormPage:
    title, purpose = (
        "Register a system",
        "Say where a system is and whose it is. It is then registered under its System ID.",
    )
    if grant is not None:
        purpose = f"The server {grant.server_name} with the System ID `{grant.system_id}` waits for this registration."
        first: tuple[Section, ...] = ()
        then = "When you register, the server receives the registration by itself, and passes it on to those below it."
    else:
        first = (
            Section(
                "Server", "The server whose registration this is: the lead, not those below it.", (forms.SYSTEM_ID,)
            ),
        )
        then = "Then you get a Registration code for its server, or let the server ask this portal by itself."
    return FormPage(
        title=title,
        purpose=purpose,
        action="/systems/new",
        sections=(*first, *_sections(who)),
        go="Register",
        cancel="/systems",
        then=then,
        values=values,
        hidden={"user_code": user_code} if grant is not None else {},
    )
