"""Every change of a registered system goes through here: allowed, done, counted, noted and told, or nothing of it.

`changing` holds one transaction. It reads the system anew under its lock, asks the rules, hands it out to be changed,
and then compares: what differs makes the next edition, one row of the audit and the mails of R11. What changes nothing
leaves no trace.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from propagator.core import difference
from propagator.portal import audit, context, database, mail, registrations, rules
from propagator.portal.errors import Conflict, Denied, NotFound
from propagator.portal.rules import Action, Kind, Relation, Standing, Verdict
from propagator.portal.tables import System

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.ext.asyncio import AsyncSession

    from propagator.core.difference import JsonObject
    from propagator.core.registration import Registration
    from propagator.portal.tables import Account


def standing(who: Account, system: System) -> Standing:
    """Say what an account is to a system, and how the system stands: what the rules look at."""
    relation = Relation.STRANGER
    if who.kind is Kind.ADMINISTRATOR:
        relation = Relation.ADMINISTRATOR
    elif who.id == system.integrator_id:
        relation = Relation.INTEGRATOR
    elif who.id == system.end_user_id:
        relation = Relation.END_USER
    return Standing(
        relation,
        has_integrator=system.integrator_id is not None,
        has_end_user=system.end_user_id is not None,
        withdrawn=system.state == "withdrawn",
    )


def require(action: Action, who: Account, system: System) -> None:
    """Refuse what the rules do not allow. Raises NotFound (a stranger), Denied or Conflict."""
    match rules.verdict(action, standing(who, system)):
        case Verdict.ALLOWED:
            return
        case Verdict.HIDDEN:
            raise NotFound("There is no such system.", hint="look among your registered systems")
        case Verdict.DENIED:
            raise Denied("Your account may not do this with this system.")
        case Verdict.END_USER_EDITS:
            raise Denied("An end-user is associated: from then on only the end-user edits this.", hint=_ASK_END_USER)
        case Verdict.SLOT_TAKEN:
            raise Conflict("That place is taken: a system has one integrator and one end-user.", hint=_ASK_FREE)
        case Verdict.WITHDRAWN:
            raise Conflict("The registration was withdrawn.", hint="register the system anew")


_ASK_END_USER: Final = "ask the end-user of the system"
_ASK_FREE: Final = "an administrator can free it"


@dataclass(slots=True)
class Changing:
    """A system while it is changed. `what` is the sentence of the mail, `detail` goes into the audit."""

    system: System
    action: str
    what: str
    detail: dict[str, object] = field(default_factory=dict)
    also_told: set[str] = field(default_factory=set)
    counts: bool = False
    """It is a change even where the registration reads as before (a new System ID)."""


@asynccontextmanager
async def changing(  # noqa: PLR0913  who changes which system how, and what it is called
    db: AsyncSession, who: Account, number: str, action: Action, *, noted: str, what: str
) -> AsyncIterator[Changing]:
    """Hold one edit of a system, as its own transaction. Raises NotFound, Denied, Conflict."""
    async with database.edit(db), within(db, who, number, action, noted=noted, what=what) as change:
        yield change


@asynccontextmanager
async def within(  # noqa: PLR0913  the same
    db: AsyncSession, who: Account, number: str, action: Action, *, noted: str, what: str
) -> AsyncIterator[Changing]:
    """Do as `changing` does, inside an `edit` that is held already."""
    system = await database.locked(db, System, number)
    require(action, who, system)
    before, told_before = await registrations.full(db, system), await people(db, system)
    change = Changing(system, noted, what)
    yield change
    await finish(db, who, change, before, told_before)


async def finish(  # noqa: PLR0913  what is compared, and with what
    db: AsyncSession,
    who: Account,
    change: Changing,
    before: Registration | None = None,
    told_before: frozenset[str] | set[str] = frozenset(),
    *,
    first: bool = False,
) -> None:
    """Count the edition, note it and tell it, if anything differs. `first`: it is the first edition of a new system."""
    system = change.system
    after = await registrations.full(db, system)
    differs = difference.between(_document(before), _document(after))
    if not differs and not change.counts:
        return
    system.edition += 0 if first else 1
    system.updated_at = context.now(db)
    listed = [{"path": one.path, "from": one.before, "to": one.after} for one in differs]
    audit.note(db, who, change.action, system.number, edition=system.edition, changes=listed, **change.detail)
    mail.tell_change(
        db,
        told_before | await people(db, system) | change.also_told,
        number=system.number,
        site=site_name(system),
        what=change.what,
        by=f"{who.name} <{who.email}>",
        changes=differs,
    )


def _document(registration: Registration | None) -> JsonObject | None:
    return None if registration is None else registration.document


def site_name(system: System) -> str:
    """Name a system for people: its site or building."""
    site = registrations.document(system)["site"]
    return str(site["name"]) if isinstance(site, dict) else system.number


async def people(db: AsyncSession, system: System) -> set[str]:
    """Name whom R11 tells of an edit: the end-user, the integrator, the contact of the site."""
    contact = registrations.document(system)["contact"]
    told = {account.email for account in await registrations.accounts(db, system) if account is not None}
    return told | ({str(contact["email"]).lower()} if isinstance(contact, dict) else set())
