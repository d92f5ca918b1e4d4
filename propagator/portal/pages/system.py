"""The System Information page of one system, and the forms that change it: installation, consents, warranty."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from fastapi import APIRouter, Request
from starlette.responses import Response

from propagator.portal import audit, changes, forms, registrations, rules, systems
from propagator.portal.errors import Conflict, FieldProblems
from propagator.portal.pages import told
from propagator.portal.pages.listing import page_link, page_number
from propagator.portal.pages.notice import Notice
from propagator.portal.pages.rendering import FormPage, form, go, refused, show
from propagator.portal.rules import Action, Relation
from propagator.portal.web import Db, Form, Logged

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from propagator.core.difference import JsonObject
    from propagator.portal.tables import Account, System

router: Final = APIRouter()


@router.get("/systems/{number}")
async def information(request: Request, db: Db, visit: Logged, number: str, page: str = "1") -> Response:
    """Show a registration: what it says, who has it, what was done with it, and what may be done."""
    who = visit.account
    system = await systems.get(db, who, number)
    standing = changes.standing(who, system)
    may = rules.allowed(standing)
    registration = registrations.document(system)
    shown = page_number(page)
    history = await audit.of_system(db, system.number, shown)
    return show(
        request,
        visit,
        "system.html",
        title=changes.site_name(system),
        crumbs=(("/systems", "Systems"),),
        purpose=_purpose(standing.relation),
        base=f"/systems/{system.number}",
        system=system,
        former=await systems.formers(db, system),
        servers=await systems.bearers(db, system),
        may={action.value for action in may},
        end_user_edits=standing.relation is Relation.INTEGRATOR and standing.has_end_user,
        installation=told.installation(registration),
        contact=told.member(registration, "contact.email"),
        slots=await _slots(db, system, may),
        consents=told.consents(system.consented),
        warranty=told.warranty(registration),
        history=[told.deed(row) for row in history],
        newer=page_link(f"/systems/{system.number}", "", shown - 1, shown),
        older=page_link(f"/systems/{system.number}", "", shown + 1, shown + (len(history) == audit.PAGE)),
    )


def _purpose(relation: Relation) -> str:
    whose = {
        Relation.INTEGRATOR: "You are its system integrator.",
        Relation.END_USER: "You are its end-user.",
        Relation.ADMINISTRATOR: "You see it as administrator, and do not edit what it says.",
    }
    return f"Everything registered about this system. {whose.get(relation, '')}"


async def _slots(db: AsyncSession, system: System, may: frozenset[Action]) -> tuple[dict[str, object], ...]:
    """Show the two places of a system (R1): who has each, and what may be done about it."""
    integrator, end_user = await registrations.accounts(db, system)
    invites = {"integrator": Action.INVITE_INTEGRATOR, "end_user": Action.INVITE_END_USER}
    return tuple(
        {
            "key": key,
            "label": label,
            "account": account,
            "invite": invites[key] in may,
            "free": account is not None and Action.FREE_SLOT in may,
        }
        for key, label, account in (("integrator", "System integrator", integrator), ("end_user", "End-user", end_user))
    )


def crumbs(system: System) -> tuple[tuple[str, str], ...]:
    """Lead back from a page about one system."""
    return (("/systems", "Systems"), (f"/systems/{system.number}", changes.site_name(system)))


async def held(db: AsyncSession, who: Account, number: str, action: Action) -> System:
    """Find a system with which this account may do this. Raises what the service itself would."""
    system = await systems.get(db, who, number)
    changes.require(action, who, system)
    return system


@router.get("/systems/{number}/edit")
async def ask_installation(request: Request, db: Db, visit: Logged, number: str) -> Response:
    """Ask what of the installation information is to change."""
    system = await held(db, visit.account, number, Action.EDIT_INSTALLATION)
    values = forms.values_of(registrations.document(system), forms.fields_of(forms.INSTALLATION))
    return form(request, visit, _installation_page(system, values))


@router.post("/systems/{number}/edit")
async def modify(request: Request, db: Db, visit: Logged, posted: Form, number: str) -> Response:
    """Change installation information."""
    system = await held(db, visit.account, number, Action.EDIT_INSTALLATION)
    fields = forms.fields_of(forms.INSTALLATION)
    page = _installation_page(system, forms.typed(posted, fields))
    before = system.edition
    try:
        system = await systems.modify(db, visit.account, system, forms.document(posted, fields))
    except (FieldProblems, Conflict) as error:
        return refused(request, visit, page, error)
    return _saved(system, before)


def _saved(system: System, edition_before: int) -> Response:
    return go(f"/systems/{system.number}", Notice.SAVED if system.edition != edition_before else Notice.UNCHANGED)


_TOLD: Final = "The end-user, the system integrator and the contact of the site are told by e-mail what was changed."


def _installation_page(system: System, values: dict[str, str]) -> FormPage:
    return FormPage(
        title="Modify a system",
        purpose=f"Correct the installation information of {changes.site_name(system)}.",
        action=f"/systems/{system.number}/edit",
        sections=forms.INSTALLATION,
        go="Save",
        cancel=f"/systems/{system.number}",
        then=_TOLD,
        values=values,
        crumbs=crumbs(system),
    )


@router.get("/systems/{number}/consents")
async def ask_consents(request: Request, db: Db, visit: Logged, number: str) -> Response:
    """Ask which consents are given."""
    system = await held(db, visit.account, number, Action.EDIT_CONSENTS)
    page = _consents_page(visit.account, system)
    values = forms.values_of(registrations.document(system), page.fields)
    return form(request, visit, _consents_page(visit.account, system, values))


@router.post("/systems/{number}/consents")
async def set_consents(db: Db, visit: Logged, posted: Form, number: str) -> Response:
    """Give consents, or take them back."""
    system = await held(db, visit.account, number, Action.EDIT_CONSENTS)
    before = system.edition
    made = forms.document(posted, _consents_page(visit.account, system).fields)
    system = await systems.set_consents(db, visit.account, system, cast("JsonObject", made["consents"]))
    return _saved(system, before)


def _consents_page(who: Account, system: System, values: dict[str, str] | None = None) -> FormPage:
    in_person = who.id == system.end_user_id
    return FormPage(
        title="Change consents",
        purpose="Tick what is consented to. Without its tick a consent is taken back.",
        action=f"/systems/{system.number}/consents",
        sections=(forms.consents(in_person=in_person),),
        go="Save",
        cancel=f"/systems/{system.number}",
        then=_TOLD,
        values=values or {},
        crumbs=crumbs(system),
    )


@router.get("/systems/{number}/warranty")
async def ask_warranty(request: Request, db: Db, visit: Logged, number: str) -> Response:
    """Ask for the warranty."""
    system = await held(db, visit.account, number, Action.EDIT_WARRANTY)
    values = forms.values_of(registrations.document(system), forms.WARRANTY.fields)
    return form(request, visit, _warranty_page(system, values))


@router.post("/systems/{number}/warranty")
async def set_warranty(request: Request, db: Db, visit: Logged, posted: Form, number: str) -> Response:
    """Set the warranty; all fields empty take it away."""
    system = await held(db, visit.account, number, Action.EDIT_WARRANTY)
    page = _warranty_page(system, forms.typed(posted, forms.WARRANTY.fields))
    before = system.edition
    made = forms.document(posted, forms.WARRANTY.fields).get("warranty")
    try:
        system = await systems.set_warranty(db, visit.account, system, cast("JsonObject | None", made))
    except FieldProblems as error:
        return refused(request, visit, page, error)
    return _saved(system, before)


def _warranty_page(system: System, values: dict[str, str]) -> FormPage:
    return FormPage(
        title="Warranty",
        purpose=f"Enter the warranty of {changes.site_name(system)}. Only its system integrator does, at any time.",
        action=f"/systems/{system.number}/warranty",
        sections=(forms.WARRANTY,),
        go="Save",
        cancel=f"/systems/{system.number}",
        then=_TOLD,
        values=values,
        crumbs=crumbs(system),
    )
