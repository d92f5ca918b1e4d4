"""Who is in a system: invite the other side, and what an administrator does about it: free a place, withdraw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from fastapi import APIRouter, Request
from starlette.responses import Response

from propagator.portal import changes, forms, invitations, rules, systems
from propagator.portal.errors import Conflict, FieldProblems, NotFound
from propagator.portal.forms import Field, Section
from propagator.portal.pages.notice import Notice
from propagator.portal.pages.rendering import ConfirmPage, FormPage, confirm, form, go, refused, show
from propagator.portal.pages.system import crumbs, held
from propagator.portal.rules import Action, Kind
from propagator.portal.web import Db, Form, Logged

if TYPE_CHECKING:
    from propagator.portal.rules import Slot
    from propagator.portal.tables import Account, System

router: Final = APIRouter()

_EMAIL: Final = Field(
    "email", "Their e-mail address", "email", hint="The invitation is sent there.", autocomplete="off"
)
_KIND: Final = Field(
    "kind", "What they are", "choice", options=(("partner", "Partner"), ("branch", "Branch of the maker"))
)


@router.get("/systems/{number}/invite")
async def ask_invitation(request: Request, db: Db, visit: Logged, number: str) -> Response:
    """Ask whom to invite."""
    system = await systems.get(db, visit.account, number)
    return form(request, visit, _invitation_page(visit.account, system, {}))


@router.post("/systems/{number}/invite")
async def invite(request: Request, db: Db, visit: Logged, posted: Form, number: str) -> Response:
    """Invite; where no mail can be sent, show the link to hand over."""
    system = await systems.get(db, visit.account, number)
    page = _invitation_page(visit.account, system, forms.typed(posted, (_EMAIL, _KIND)))
    try:
        kind = _kind(page, posted)
        url = await invitations.invite(db, visit.account, system, posted.get("email", "").strip(), kind)
    except (FieldProblems, Conflict) as error:
        return refused(request, visit, page, error)
    back = f"/systems/{system.number}"
    if url is None:
        return go(back, Notice.INVITED)
    return show(request, visit, "handover.html", title="Hand over the invitation", url=url, back=back, mailed=False)


def _kind(page: FormPage, posted: Form) -> Kind:
    """Read as what somebody is invited. Raises FieldProblems."""
    if _KIND not in page.fields:
        return Kind.END_USER
    if posted.get("kind") not in {"partner", "branch"}:
        raise FieldProblems({"kind": "is missing; choose one"})
    return Kind(posted["kind"])


def _invitation_page(who: Account, system: System, values: dict[str, str]) -> FormPage:
    """Invite into the place of the other side. Raises what the rules say against it."""
    if who.id == system.integrator_id:
        changes.require(Action.INVITE_END_USER, who, system)
        other = "end-user"
        fields: tuple[Field, ...] = (_EMAIL,)
        then = "Once they have joined, they alone edit installation information and consents. You keep the warranty."
    else:
        changes.require(Action.INVITE_INTEGRATOR, who, system)
        other = "system integrator"
        fields = (_EMAIL, _KIND)
        then = "Once they have joined, they see the registration, enter the warranty and get Registration codes."
    return FormPage(
        title=f"Invite the {other}",
        purpose=f"Let the {other} of {changes.site_name(system)} join. A system has one.",
        action=f"/systems/{system.number}/invite",
        sections=(Section("", "", fields),),
        go="Invite",
        cancel=f"/systems/{system.number}",
        then=f"They get a link that works once, for seven days. {then}",
        values=values,
        crumbs=crumbs(system),
    )


@router.get("/systems/{number}/withdraw")
async def ask_withdrawal(request: Request, db: Db, visit: Logged, number: str) -> Response:
    """Ask before a registration is withdrawn."""
    system = await held(db, visit.account, number, Action.WITHDRAW)
    page = ConfirmPage(
        title="Withdraw the registration",
        purpose=f"Withdraw the registration {system.number} of {changes.site_name(system)}.",
        follows=(
            "Its servers learn that it was withdrawn, and keep it readable, marked as withdrawn.",
            "Nobody edits it any more, and no Registration code is issued for it.",
            "The System ID becomes free: the system can be registered anew, under a new number.",
            "This cannot be undone.",
        ),
        action=f"/systems/{system.number}/withdraw",
        go="Withdraw it",
        cancel=f"/systems/{system.number}",
        crumbs=crumbs(system),
    )
    return confirm(request, visit, page)


@router.post("/systems/{number}/withdraw")
async def withdraw(db: Db, visit: Logged, _: Form, number: str) -> Response:
    """Withdraw a registration."""
    system = await held(db, visit.account, number, Action.WITHDRAW)
    await systems.withdraw(db, visit.account, system)
    return go(f"/systems/{system.number}", Notice.WITHDRAWN)


@router.get("/systems/{number}/free")
async def ask_freeing(request: Request, db: Db, visit: Logged, number: str, slot: str = "") -> Response:
    """Ask before a place is freed."""
    system = await held(db, visit.account, number, Action.FREE_SLOT)
    named = {"integrator": "system integrator", "end_user": "end-user"}[_slot(slot)]
    page = ConfirmPage(
        title=f"Free the place of the {named}",
        purpose=f"Take the {named} out of {changes.site_name(system)}, so that another can be invited.",
        follows=(
            f"The {named} no longer sees this system. Their account and their other systems stay.",
            "The registration itself stays as it is, without that account.",
            "Whoever has the other place can invite somebody. To undo it, the same account can be invited again.",
        ),
        action=f"/systems/{system.number}/free",
        go="Free the place",
        cancel=f"/systems/{system.number}",
        hidden={"slot": slot},
        crumbs=crumbs(system),
    )
    return confirm(request, visit, page)


@router.post("/systems/{number}/free")
async def free(db: Db, visit: Logged, posted: Form, number: str) -> Response:
    """Free a place."""
    system = await held(db, visit.account, number, Action.FREE_SLOT)
    await systems.free_slot(db, visit.account, system, _slot(posted.get("slot", "")))
    return go(f"/systems/{system.number}", Notice.FREED)


def _slot(text: str) -> Slot:
    if text not in rules.SLOT_OF.values():
        raise NotFound("A system has no such place.", hint="go to the system, and choose one there")
    return cast("Slot", text)
