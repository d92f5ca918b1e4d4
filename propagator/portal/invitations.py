"""Invitations into the second slot of a system: an integrator invites its end-user, an end-user its integrator.

The link goes to the invited address by mail. Whoever has no account there makes one by it; whoever has one logs on
first, so that a link opens nobody's account. The slot is taken on acceptance, under the lock of the system (R1), and
an end-user gives both consents in person (R8).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from propagator.portal import accounts, audit, changes, context, database, mail, registrations, rules, systems
from propagator.portal.changes import Changing
from propagator.portal.errors import Conflict, Denied, FieldProblems, NotFound
from propagator.portal.limits import Try
from propagator.portal.rules import Action, Kind
from propagator.portal.tables import Account, System

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from propagator.core.difference import JsonObject
    from propagator.portal.tables import Link

_NAMED: Final = {"integrator": "integrator", "end_user": "end-user"}


async def invite(db: AsyncSession, who: Account, system: System, email: str, kind: Kind) -> str | None:
    """Invite somebody into the free slot of a system, as an account of `kind`.

    Gives the link where there is no mail server, to be handed over by other means; else None: it was mailed. Raises
    NotFound, Denied, Conflict (the slot is taken), FieldProblems, TooMany.
    """
    if kind is Kind.ADMINISTRATOR:
        raise FieldProblems({"kind": "must be branch, partner or end_user"})
    slot = rules.SLOT_OF[kind]
    action = Action.INVITE_INTEGRATOR if slot == "integrator" else Action.INVITE_END_USER
    changes.require(action, who, system)
    address = accounts.read_email(email)
    context.of(db).limits.hold(Try.INVITE, str(who.id))
    held = await accounts.by_email(db, address)
    if held is not None and (not held.active or rules.SLOT_OF.get(held.kind) != slot):
        raise FieldProblems({"email": f"cannot join as {_NAMED[slot]}; enter another address"})
    async with database.edit(db):
        locked = await database.locked(db, System, system.number)
        changes.require(action, who, locked)
        url = accounts.link_within(db, "invite", kind=kind, email=address, number=system.number)
        site = changes.site_name(locked)
        why = f"{who.name} ({who.company}) invites you to join {site} ({locked.number}) as its {_NAMED[slot]}."
        mail.tell_link(db, address, subject=f"{site}: an invitation", why=why, url=url, hours=accounts.LINK_HOURS)
        audit.note(db, who, "invited", system.number, slot=slot, of=address)
    return url if context.of(db).settings.mail is None else None


async def accept(db: AsyncSession, token: str, form: JsonObject, who: Account | None) -> tuple[Account, System]:
    """Accept an invitation into a slot. `who` is who is logged on, or nobody.

    `form` holds name, company and password where the address has no account yet, and for an end-user `consents` with
    both given. Raises NotFound (no such link), Denied (log on as the invited address first), FieldProblems, Conflict
    (the slot was taken meanwhile, or the registration withdrawn).
    """
    link = await accounts.find_link(db, token, "invite")
    if link.number is None:
        raise NotFound("This link does not work: it was used, has expired, or is not complete.")
    held = await accounts.by_email(db, link.email)
    if held is not None and (who is None or who.id != held.id):
        raise Denied(
            f"{link.email} has an account: accept this as that account.", hint="log on, and open the link again"
        )
    problems = systems.consent_problems(form) if link.kind is Kind.END_USER else {}
    person, hashed = None, None
    if held is None:
        person = _new_person(link, form, problems)
        hashed = await context.of(db).passwords.hashed(person.password)
    elif problems:
        raise FieldProblems(problems)
    async with database.edit(db):
        await accounts.use_link_within(db, link)
        if person is not None:
            account = await accounts.add_within(db, None, link.email, person.name, person.company, link.kind, hashed)
        else:
            account = await database.locked(db, Account, held.id if held is not None else 0)
        return account, await _take_slot(db, account, link.number, form)


def _new_person(link: Link, form: JsonObject, problems: dict[str, str]) -> accounts.NewPerson:
    try:
        person = accounts.new_person({**form, "email": link.email})
    except FieldProblems as error:
        raise FieldProblems({**error.problems, **problems}) from error
    if problems:
        raise FieldProblems(problems)
    return person


async def _take_slot(db: AsyncSession, account: Account, number: str, form: JsonObject) -> System:
    """Take the slot of the account's kind, unless somebody has it (R1)."""
    slot = rules.SLOT_OF.get(account.kind)
    system = await database.locked(db, System, number)
    if system.state == "withdrawn":
        raise Conflict("The registration was withdrawn.")
    if slot is None or not account.active:
        raise Conflict("This account cannot join a system.")
    if (system.integrator_id if slot == "integrator" else system.end_user_id) is not None:
        raise Conflict(f"This system has its {_NAMED[slot]} already.", hint="an administrator can free the place")
    before, told = await registrations.full(db, system), await changes.people(db, system)
    if slot == "integrator":
        system.integrator_id = account.id
    else:
        system.end_user_id = account.id
        consents = form["consents"]
        systems.keep_consents(db, account, system, consents if isinstance(consents, dict) else {})
    change = Changing(system, "joined", f"The {_NAMED[slot]} {account.company} joined a system")
    change.detail["slot"] = slot
    await changes.finish(db, account, change, before, told)
    return system
