"""Registered systems: find, register, modify, associate (R12), free a slot, withdraw.

Every function that changes something takes the acting account, asks the rules, and is one transaction with its audit
row, the next edition and the mails of R11 (`changes`). They raise FieldProblems, Denied, NotFound and Conflict.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import func, or_, select

from propagator.core import moment
from propagator.core.registration import plain_text
from propagator.portal import changes, context, database, registrations, rules, tokens
from propagator.portal.changes import Changing, changing
from propagator.portal.errors import Conflict, Denied, FieldProblems, NotFound
from propagator.portal.rules import Action, General, Kind, Slot
from propagator.portal.tables import Bearer, Former, System

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Select
    from sqlalchemy.ext.asyncio import AsyncSession

    from propagator.core.difference import JsonObject
    from propagator.core.registration import Registration
    from propagator.portal.tables import Account

PAGE: Final = 50
_SYSTEM_ID: Final = re.compile(r"[\x21-\x7e]{1,64}", re.ASCII)

TAKEN: Final = "This System ID is registered already."
TAKEN_HINT: Final = "ask its integrator or end-user, or an administrator"


@dataclass(frozen=True, slots=True)
class Page:
    """One page of registered systems. `page` counts from 1; `total` is of all pages."""

    systems: Sequence[System]
    page: int
    pages: int
    total: int


async def visible(db: AsyncSession, who: Account, query: str = "", page: int = 1) -> Page:
    """List the systems that an account sees, newest first, 50 a page: an administrator all, others their own.

    `query` is looked for in number, System ID, site, company and city, in any case.
    """
    rows: Select[System] = select(System)
    if who.kind is not Kind.ADMINISTRATOR:
        rows = rows.where(or_(System.integrator_id == who.id, System.end_user_id == who.id))
    words = _plain(query).lower().split()[:8]
    for word in words:
        rows = rows.where(System.search.contains(word, autoescape=True))
    total = await db.scalar(select(func.count()).select_from(rows.subquery())) or 0
    pages = max(1, -(-total // PAGE))
    shown = min(max(1, page), pages)
    listed = rows.order_by(System.created_at.desc(), System.number).limit(PAGE).offset(PAGE * (shown - 1))
    return Page((await db.scalars(listed)).all(), shown, pages, total)


def _plain(text: str) -> str:
    """Take what was typed into a search; what no text can hold is looked for as nothing that is there."""
    try:
        return plain_text(text[:200])
    except ValueError:
        return "\ufffd"


async def get(db: AsyncSession, who: Account, number: str) -> System:
    """Give one system. Raises NotFound where there is none, or none for this account: both read the same."""
    system = await db.get(System, number) if _NUMBER.fullmatch(number) else None
    if system is None:
        raise NotFound("There is no such system.", hint="look among your registered systems")
    changes.require(Action.VIEW, who, system)
    return system


_NUMBER: Final = re.compile(r"R-[0-9A-Z]{6}", re.ASCII)


async def formers(db: AsyncSession, system: System) -> Sequence[Former]:
    """List the System IDs that held this registration before, newest first."""
    return (await db.scalars(select(Former).where(Former.number == system.number).order_by(Former.id.desc()))).all()


async def bearers(db: AsyncSession, system: System) -> Sequence[Bearer]:
    """List the servers that ask for later editions: since when, when they asked last, which edition they have."""
    rows = select(Bearer).where(Bearer.number == system.number, Bearer.revoked_at.is_(None))
    return (await db.scalars(rows.order_by(Bearer.issued_at.desc()))).all()


async def register(db: AsyncSession, who: Account, system_id: str, form: JsonObject) -> System:
    """Register a system; who registers takes the slot of its kind (R1).

    `form` is a registration without accounts; both consents are asked for (R8), warranty from integrators only (R10).
    Raises Denied (an administrator), FieldProblems, Conflict with `field` system_id (registered already).
    """
    read = _new(who, system_id, form)
    async with database.edit(db):
        return await _add(db, who, system_id, read)


def _new(who: Account, system_id: str, form: JsonObject) -> Registration:
    """Hold a new registration to all rules at once."""
    if not rules.may(who.kind, General.REGISTER):
        raise Denied("An administrator registers no systems.", hint="log on as an integrator or an end-user")
    problems = dict(_system_id_problem(system_id))
    try:
        read = registrations.validated(form)
    except FieldProblems as error:
        raise FieldProblems({**problems, **error.problems, **consent_problems(form)}) from error
    problems |= consent_problems(form)
    if "warranty" in read.document and rules.SLOT_OF[who.kind] != "integrator":
        problems["warranty"] = "is the integrator's to enter"
    if problems:
        raise FieldProblems(problems)
    return read


def _system_id_problem(system_id: str) -> dict[str, str]:
    if not system_id:
        return {"system_id": "is missing; `propagator status` shows it at the server"}
    if not _SYSTEM_ID.fullmatch(system_id):
        return {"system_id": "must be 1 to 64 letters, digits and signs without spaces, exactly as the server shows it"}
    return {}


def consent_problems(form: JsonObject) -> dict[str, str]:
    """R8: two separate consents, both given before a registration is confirmed."""
    given = form.get("consents")
    members = given if isinstance(given, dict) else {}
    return {
        f"consents.{name}": "is needed before a registration is confirmed"
        for name in registrations.CONSENTS
        if members.get(name) is not True
    }


async def register_within(db: AsyncSession, who: Account, system_id: str, form: JsonObject) -> System:
    """Do as `register` does, inside an `edit` that is held already."""
    return await _add(db, who, system_id, _new(who, system_id, form))


async def _add(db: AsyncSession, who: Account, system_id: str, read: Registration) -> System:
    await _free_system_id(db, system_id)
    now = context.now(db)
    slot = rules.SLOT_OF[who.kind]
    system = System(
        number=await _unused_number(db),
        system_id=system_id,
        consented=_consented(who, now=moment.write(now), in_person=slot == "end_user"),
        edition=1,
        state="registered",
        integrator_id=who.id if slot == "integrator" else None,
        end_user_id=who.id if slot == "end_user" else None,
        created_at=now,
        updated_at=now,
    )
    registrations.keep(system, read)
    db.add(system)
    await db.flush()
    change = Changing(system, "registered", f"A system was registered under the System ID {system_id}")
    change.detail["system_id"] = system_id
    await changes.finish(db, who, change, first=True)
    return system


def _consented(who: Account, *, now: str, in_person: bool) -> JsonObject:
    return {
        name: {"given": True, "by": who.email, "at": now, "in_person": in_person} for name in registrations.CONSENTS
    }


async def _free_system_id(db: AsyncSession, system_id: str) -> None:
    """See that nobody holds a System ID; a registration that was withdrawn lets go of it."""
    holder = (await db.scalars(select(System).where(System.system_id == system_id).with_for_update())).first()
    if holder is None:
        return
    if holder.state != "withdrawn":
        raise Conflict(TAKEN, hint=TAKEN_HINT, field="system_id")
    await _leave_system_id(db, holder)
    holder.system_id = None
    await db.flush()


async def _leave_system_id(db: AsyncSession, system: System) -> None:
    """Write the present System ID among the former ones."""
    if system.system_id is None:
        return
    since = await db.scalar(select(func.max(Former.until)).where(Former.number == system.number))
    db.add(
        Former(
            number=system.number,
            system_id=system.system_id,
            since=since or system.created_at,
            until=context.now(db),
        )
    )


async def _unused_number(db: AsyncSession) -> str:
    while True:
        number = tokens.system_number()
        if await db.get(System, number) is None:
            return number


async def modify(db: AsyncSession, who: Account, system: System, form: JsonObject) -> System:
    """Change installation information: the members site, address, contact and system; the rest stays as it is.

    The end-user may, and the integrator while no end-user is associated (R9).
    """
    async with changing(
        db,
        who,
        system.number,
        Action.EDIT_INSTALLATION,
        noted="modified",
        what="The installation information of a system was changed",
    ) as change:
        unknown = {name: "is not installation information" for name in form if name not in registrations.INSTALLATION}
        if unknown:
            raise FieldProblems(unknown)
        kept = registrations.document(change.system)
        rest = {name: value for name, value in kept.items() if name not in registrations.INSTALLATION}
        registrations.keep(change.system, registrations.validated({**form, **rest}))
        return change.system


async def set_warranty(db: AsyncSession, who: Account, system: System, form: JsonObject | None) -> System:
    """Set the warranty block, or take it away (None); the integrator's alone, at any time (R10)."""
    async with changing(
        db, who, system.number, Action.EDIT_WARRANTY, noted="warranty_changed", what="The warranty was changed"
    ) as change:
        made = registrations.document(change.system)
        made.pop("warranty", None)
        if form is not None:
            made["warranty"] = form
        registrations.keep(change.system, registrations.validated(made))
        return change.system


async def set_consents(db: AsyncSession, who: Account, system: System, form: JsonObject) -> System:
    """Set the two consents, each given or taken back: `{"system_information": …, "personal_information": …}` (R8).

    The end-user does so in person; an integrator reports them while no end-user is associated.
    """
    async with changing(
        db, who, system.number, Action.EDIT_CONSENTS, noted="consents_changed", what="The consents were changed"
    ) as change:
        keep_consents(db, who, change.system, form)
        return change.system


def keep_consents(db: AsyncSession, who: Account, system: System, form: JsonObject) -> None:
    """Keep what was consented to, with who said so and when; a consent that stays as it was keeps its first word."""
    made = registrations.document(system)
    made["consents"] = form
    registrations.keep(system, registrations.validated(made))
    in_person = who.id == system.end_user_id
    said: JsonObject = {"by": who.email, "at": moment.write(context.now(db)), "in_person": in_person}
    before, after = dict(system.consented), {}
    for name in registrations.CONSENTS:
        was, given = before.get(name), form[name]
        same = isinstance(was, dict) and was.get("given") == given and (was.get("in_person") or not in_person)
        after[name] = was if same else {"given": given, **said}
    system.consented = after


async def associate(db: AsyncSession, who: Account, system: System, new_system_id: str) -> System:
    """Let a new System ID take over an existing registration (R12), after the database of the server was deleted.

    The former one stays in the history; servers that asked under it are told that it is associated elsewhere. Raises
    FieldProblems (no System ID), Conflict with `field` system_id (registered already, by whichever system).
    """
    async with database.edit(db):
        return await associate_within(db, who, system.number, new_system_id)


async def associate_within(db: AsyncSession, who: Account, number: str, new_system_id: str) -> System:
    """Do as `associate` does, inside an `edit` that is held already."""
    if problem := _system_id_problem(new_system_id):
        raise FieldProblems(problem)
    what = f"The System ID {new_system_id} took over the registration of a system"
    async with changes.within(db, who, number, Action.ASSOCIATE, noted="associated", what=what) as change:
        system = change.system
        if system.system_id == new_system_id:
            raise Conflict(
                "This System ID has this registration already.", hint="get a Registration code", field="system_id"
            )
        await _free_system_id(db, new_system_id)
        await _leave_system_id(db, system)
        change.detail |= {"system_id": new_system_id, "former": system.system_id}
        change.counts = True
        system.system_id = new_system_id
        registrations.keep(system, registrations.validated(registrations.document(system)))
        return system


async def withdraw(db: AsyncSession, who: Account, system: System) -> System:
    """Withdraw a registration: its servers learn it, and keep it readable. An administrator's alone."""
    async with changing(
        db, who, system.number, Action.WITHDRAW, noted="withdrawn", what="The registration of a system was withdrawn"
    ) as change:
        change.system.state = "withdrawn"
        return change.system


async def free_slot(db: AsyncSession, who: Account, system: System, slot: Slot) -> System:
    """Free an account slot, so that another integrator or end-user can be invited. An administrator's alone."""
    named = {"integrator": "integrator", "end_user": "end-user"}[slot]
    async with changing(
        db, who, system.number, Action.FREE_SLOT, noted="slot_freed", what=f"The {named} left a system"
    ) as change:
        change.detail["slot"] = slot
        held = change.system.integrator_id if slot == "integrator" else change.system.end_user_id
        if held is None:
            raise Conflict(f"This system has no {named}.")
        change.counts = True
        if slot == "integrator":
            change.system.integrator_id = None
        else:
            change.system.end_user_id = None
        return change.system
