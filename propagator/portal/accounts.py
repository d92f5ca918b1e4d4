"""Accounts: log on, the first administrator, invitations, passwords, deactivation.

Whoever asks for an account that is not there gets the same answer, after the same time, as for one with another
password. Links work once, expire, and are kept as hashes.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StrictStr, ValidationError
from sqlalchemy import func, select, update

from propagator.core.registration import Mail, Text, problems_of
from propagator.portal import audit, context, database, mail, passwords, rules, sessions, tokens
from propagator.portal.errors import Conflict, Denied, FieldProblems, NotFound
from propagator.portal.limits import Try
from propagator.portal.rules import General, Kind
from propagator.portal.tables import Account, Link

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncSession

    from propagator.core.difference import JsonObject
    from propagator.portal.sessions import Visit

FAILURES: Final = 10
LOCKED: Final = dt.timedelta(minutes=15)
SETUP_HOURS: Final = 24
LINK_HOURS: Final = 7 * 24
OF_PASSWORD: Final = ("invite", "reset", "forgotten")
"""The purposes of links by which somebody chooses a password; an invitation may be one into a system as well."""

_REFUSED: Final = "The e-mail address or the password is wrong, or the account is locked after too many tries."


async def authenticate(db: AsyncSession, email: str, password: str) -> Account:
    """Find the account that this address and password open. Raises Denied with one text for all reasons, TooMany."""
    limits = context.of(db).limits
    limits.hold(Try.LOG_ON_ADDRESS, context.address(db))
    of_account = tokens.hashed(email.strip().lower())
    limits.hold(Try.LOG_ON_ACCOUNT, of_account)
    found = await by_email(db, email)
    matches = await context.of(db).passwords.verify(None if found is None else found.password_hash, password)
    refused = False
    async with database.edit(db):
        account = None if found is None else await database.locked(db, Account, found.id)
        now = context.now(db)
        locked = account is not None and account.locked_until is not None and now < account.locked_until
        if account is None or not matches or locked or not account.active:
            _count_failure(db, account, locked=locked)
            refused = True
        else:
            account.failures, account.locked_until = 0, None
            audit.note(db, account, "logged_on")
    if refused or account is None:
        raise Denied(_REFUSED, hint="try again, or choose a new password")
    limits.give_back(Try.LOG_ON_ADDRESS, context.address(db))
    limits.give_back(Try.LOG_ON_ACCOUNT, of_account)
    return account


def _count_failure(db: AsyncSession, account: Account | None, *, locked: bool) -> None:
    """Note a failed log on; at the tenth in a row the account is locked for a while, and its owner told."""
    audit.note(db, None, "log_on_refused", of=None if account is None else account.email)
    if account is None or locked:
        return
    account.failures += 1
    if account.failures >= FAILURES:
        account.failures, account.locked_until = 0, context.now(db) + LOCKED
        audit.note(db, None, "locked", of=account.email)
        text = f"{FAILURES} log ons in a row failed. The account is locked for 15 minutes.\n"
        text += f"The last came from {context.address(db)}.\n"
        mail.put(db, account.email, "Your account is locked for a while", text)


async def by_email(db: AsyncSession, email: str) -> Account | None:
    """Find an account by its e-mail address, in any case."""
    plain = email.strip().lower()
    if len(plain) > 254 or not plain.isprintable():  # noqa: PLR2004  no address is longer (RFC 5321)
        return None
    return (await db.scalars(select(Account).where(Account.email == plain))).first()


class _Address(BaseModel):
    model_config = ConfigDict(extra="forbid")

    email: Mail


def read_email(text: str) -> str:
    """Read an e-mail address, in small letters as accounts have it. Raises FieldProblems."""
    try:
        return _Address(email=text).email.lower()
    except ValidationError as error:
        raise FieldProblems.of(problems_of(error), "is no e-mail address") from error


class Person(_Address):
    """Who somebody is, held to the same rules as in a registration."""

    name: Text
    company: Text


class NewPerson(Person):
    """Somebody who makes an account now, and its password."""

    password: StrictStr = Field(repr=False)


def _person(form: JsonObject, kind: type[P], problems: dict[str, str]) -> P:
    """Read who somebody is; `problems` are those found elsewhere in the form. Raises FieldProblems with all."""
    try:
        person = kind.model_validate({name: form.get(name, "") for name in kind.model_fields})
    except ValidationError as error:
        raise FieldProblems({**{one.path: one.text for one in problems_of(error)}, **problems}) from error
    if problems:
        raise FieldProblems(problems)
    return person


P = TypeVar("P", bound=Person)


def new_person(form: JsonObject) -> NewPerson:
    """Read who makes an account: email, name, company and password, all problems at once. Raises FieldProblems."""
    password, email = form.get("password"), form.get("email")
    problem = passwords.problem(
        password if isinstance(password, str) else "", email=email.lower() if isinstance(email, str) else ""
    )
    return _person(form, NewPerson, {"password": problem} if problem else {})


async def is_set_up(db: AsyncSession) -> bool:
    """Say whether there is an administrator."""
    rows = select(func.count()).select_from(Account).where(Account.kind == Kind.ADMINISTRATOR)
    return bool(await db.scalar(rows))


async def setup_link(db: AsyncSession) -> str | None:
    """Make the one-time link for the first administrator, in place of earlier ones; None where there is one."""
    if await is_set_up(db):
        return None
    async with database.edit(db):
        await db.execute(
            update(Link).where(Link.purpose == "setup", Link.used_at.is_(None)).values(used_at=context.now(db))
        )
        return link_within(db, "setup", kind=Kind.ADMINISTRATOR, hours=SETUP_HOURS)


def link_within(  # noqa: PLR0913  what a link may name
    db: AsyncSession,
    purpose: Literal["setup", "invite", "reset", "forgotten"],
    *,
    kind: Kind,
    email: str = "",
    account: Account | None = None,
    number: str | None = None,
    hours: int = LINK_HOURS,
) -> str:
    """Make a one-time link inside an `edit`; give its URL, which holds its token."""
    token, now = tokens.new(), context.now(db)
    db.add(
        Link(
            hash=tokens.hashed(token),
            purpose=purpose,
            account_id=None if account is None else account.id,
            email=email,
            kind=kind,
            number=number,
            created_at=now,
            expires_at=now + dt.timedelta(hours=hours),
        )
    )
    path = "setup" if purpose == "setup" else "link"
    return f"{context.of(db).settings.url}/{path}/{token}"


async def find_link(db: AsyncSession, token: str, *purposes: str) -> Link:
    """Find a link that still works, of one of these purposes. Raises NotFound: unknown, used and expired read alike."""
    context.of(db).limits.hold(Try.LINK, context.address(db))
    link = (await db.scalars(select(Link).where(Link.hash == tokens.hashed(token)))).first()
    if link is None or link.used_at is not None or link.expires_at <= context.now(db) or link.purpose not in purposes:
        raise NotFound("This link does not work: it was used, has expired, or is not complete.", hint=_ASK_LINK)
    return link


_ASK_LINK: Final = 'ask whoever invited you for a new one, or choose "Forgot your password?" where you log on'


async def use_link_within(db: AsyncSession, link: Link) -> Link:
    """Use a link up, inside an `edit`. Of two who come at once, one is refused."""
    held = await database.locked(db, Link, link.id)
    if held.used_at is not None:
        raise NotFound("This link was used a moment ago.", hint=_ASK_LINK)
    held.used_at = context.now(db)
    return held


async def end_links_within(db: AsyncSession, account: Account, *purposes: str) -> None:
    """End the links of an account that were not used, inside an `edit`: those of some purposes, or all."""
    ended = update(Link).where(Link.account_id == account.id, Link.used_at.is_(None))
    await db.execute((ended.where(Link.purpose.in_(purposes)) if purposes else ended).values(used_at=context.now(db)))


async def set_up(db: AsyncSession, token: str, form: JsonObject) -> Account:
    """Make the first administrator: `form` holds email, name, company and password. Raises FieldProblems, NotFound."""
    link = await find_link(db, token, "setup")
    person = new_person(form)
    hashed = await context.of(db).passwords.hashed(person.password)
    async with database.edit(db):
        await use_link_within(db, link)
        if await is_set_up(db):
            raise Conflict("There is an administrator already.", hint="log on")
        return await add_within(db, None, person.email, person.name, person.company, Kind.ADMINISTRATOR, hashed)


async def add_within(  # noqa: PLR0913, PLR0917  the columns of an account
    db: AsyncSession, by: Account | None, email: str, name: str, company: str, kind: Kind, hashed: str | None
) -> Account:
    """Add an account inside an `edit`. Raises Conflict with `field` email where the address has one."""
    if await by_email(db, email) is not None:
        raise Conflict("This e-mail address has an account already.", field="email")
    account = Account(
        kind=kind,
        email=email.lower(),
        name=name,
        company=company,
        password_hash=hashed,
        active=True,
        failures=0,
        created_at=context.now(db),
    )
    db.add(account)
    await db.flush()
    audit.note(db, by or account, "account_made", of=account.email, kind=kind.value)
    return account


def _text(form: JsonObject, name: str) -> str:
    value = form.get(name, "")
    return value if isinstance(value, str) else ""


def require_administrator(who: Account) -> None:
    """Refuse everybody else. Raises Denied."""
    if not rules.may(who.kind, General.KEEP_ACCOUNTS):
        raise Denied("Accounts are kept by an administrator.")


async def listed(db: AsyncSession, who: Account) -> Sequence[Account]:
    """List all accounts, by address. An administrator's alone."""
    require_administrator(who)
    return (await db.scalars(select(Account).order_by(Account.email))).all()


async def get(db: AsyncSession, who: Account, account_id: int) -> Account:
    """Give one account. An administrator's alone. Raises Denied, NotFound."""
    require_administrator(who)
    account = await db.get(Account, account_id) if 0 < account_id < 2**31 else None
    if account is None:
        raise NotFound("There is no such account.")
    return account


async def create(db: AsyncSession, who: Account, form: JsonObject) -> tuple[Account, str]:
    """Make an account: `form` holds kind, email, name and company. Gives it and its one-time link, mailed as well.

    Raises Denied, FieldProblems, Conflict with `field` email.
    """
    require_administrator(who)
    kind = _text(form, "kind")
    problems = {} if kind in set(Kind) else {"kind": "must be administrator, branch, partner or end_user"}
    person = _person(form, Person, problems)
    async with database.edit(db):
        account = await add_within(db, who, person.email, person.name, person.company, Kind(kind), None)
        url = link_within(db, "invite", kind=account.kind, email=account.email, account=account)
        mail.tell_link(db, account.email, subject="Your account", why=_invited(who), url=url, hours=LINK_HOURS)
    return account, url


def _invited(who: Account) -> str:
    return f"{who.name} ({who.company}) made an account for you. Choose a password for it."


async def reset(db: AsyncSession, who: Account, account: Account) -> str:
    """Make a one-time link by which an account gets a new password; mailed as well. An administrator's alone."""
    require_administrator(who)
    async with database.edit(db):
        held = await database.locked(db, Account, account.id)
        if not held.active:
            raise Conflict("This account is deactivated.", hint="activate it first")
        url = link_within(db, "reset", kind=held.kind, email=held.email, account=held)
        why = "An administrator lets you choose a new password."
        mail.tell_link(db, held.email, subject="A new password", why=why, url=url, hours=LINK_HOURS)
        audit.note(db, who, "password_link_made", of=held.email)
    return url


async def set_active(db: AsyncSession, who: Account, account: Account, *, active: bool) -> Account:
    """Deactivate an account, which ends its sessions and links, or activate it again. An administrator's alone.

    Raises Conflict for one's own account: somebody must be left who can undo it.
    """
    require_administrator(who)
    if account.id == who.id:
        raise Conflict("This is your own account.", hint="let another administrator do it")
    async with database.edit(db):
        held = await database.locked(db, Account, account.id)
        if held.active == active:
            return held
        held.active, held.failures, held.locked_until = active, 0, None
        await sessions.end_all_within(db, held)
        await end_links_within(db, held)
        audit.note(db, who, "account_activated" if active else "account_deactivated", of=held.email)
        return held


async def choose_password(db: AsyncSession, token: str, password: str) -> Account:
    """Take a link of an account that is there: its first password, or a new one, which its owner is told of.

    Its sessions and its other links end. Raises FieldProblems, NotFound.
    """
    link = await find_link(db, token, *OF_PASSWORD)
    if link.account_id is None:
        raise NotFound("This link does not work: it was used, has expired, or is not complete.", hint=_ASK_LINK)
    if problem := passwords.problem(password, email=link.email):
        raise FieldProblems({"password": problem})
    hashed = await context.of(db).passwords.hashed(password)
    async with database.edit(db):
        await use_link_within(db, link)
        account = await database.locked(db, Account, link.account_id)
        if not account.active:
            raise NotFound("This link does not work: it was used, has expired, or is not complete.", hint=_ASK_LINK)
        if account.password_hash is not None:
            _tell_password_changed(db, account)
        account.password_hash, account.failures, account.locked_until = hashed, 0, None
        await sessions.end_all_within(db, account)
        await end_links_within(db, account)
        audit.note(db, account, "password_chosen")
        return account


def _tell_password_changed(db: AsyncSession, account: Account) -> None:
    """Tell the owner inside an `edit`, who alone knows whether it was them."""
    url = f"{context.of(db).settings.url}/forgotten-password"
    text = f"The password of your account was changed, from {context.address(db)}.\n"
    text += f"Was it not you? Choose a new one at once: {url}\n"
    mail.put(db, account.email, "Your password was changed", text)


async def change_password(db: AsyncSession, visit: Visit, current: str, new: str) -> None:
    """Change one's own password; other sessions of the account end. Raises FieldProblems, TooMany."""
    who = visit.account
    context.of(db).limits.hold(Try.LOG_ON_ACCOUNT, tokens.hashed(who.email))
    problems: dict[str, str] = {}
    if not await context.of(db).passwords.verify(who.password_hash, current):
        problems["current"] = "is not your password"
    if problem := passwords.problem(new, email=who.email):
        problems["password"] = problem
    if problems:
        raise FieldProblems(problems)
    hashed = await context.of(db).passwords.hashed(new)
    async with database.edit(db):
        account = await database.locked(db, Account, who.id)
        account.password_hash = hashed
        await sessions.end_all_within(db, account, but=visit.hash)
        audit.note(db, account, "password_changed")
        _tell_password_changed(db, account)
