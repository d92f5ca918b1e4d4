"""Device grants (RFC 8628): a server asks for its registration, a person approves it here, the server fetches it.

The server holds the device code, the person types the user code; both are kept as hashes and end after 15 minutes. A
device code is good once. A replay gets `invalid_grant`, is logged, and changes nothing.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Final, Literal

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import func, select

from propagator.core.record import SystemId
from propagator.core.registration import Text, problems_of
from propagator.portal import audit, changes, context, database, rules, systems, tokens
from propagator.portal.errors import Conflict, Denied, FieldProblems, NotFound, PortalError, TooMany
from propagator.portal.limits import Try
from propagator.portal.rules import Action, General
from propagator.portal.statements import statement_for
from propagator.portal.tables import Bearer, Grant, System

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession
    from structlog.typing import FilteringBoundLogger

    from propagator.core.difference import JsonObject
    from propagator.portal.tables import Account

log: FilteringBoundLogger = structlog.get_logger(logger_name="portal.grants")

LIFETIME: Final = dt.timedelta(minutes=15)
INTERVAL_S: Final = 5
_SLOWER_S: Final = 5
"""RFC 8628 §3.5: `slow_down` adds five seconds to the interval."""

_PENDING_LIMIT: Final = 2000
"""Grants that wait at once: anybody may begin one."""


class Wanted(BaseModel):
    """What a server says of itself when it asks."""

    model_config = ConfigDict(extra="forbid")

    system_id: SystemId
    server_name: Annotated[Text, Field(max_length=100)]
    kind: Literal["enterprise-central", "enterprise-server", "server-device"]
    purpose: Literal["register", "associate"]


@dataclass(frozen=True, slots=True)
class Begun:
    """A grant that waits for a person."""

    device_code: str = field(repr=False)
    user_code: str = field(repr=False)
    expires_in_s: int
    interval_s: int


class PollError(PortalError):
    """Why there is no token: `code` is one of RFC 8628 §3.5 and RFC 6749 §5.2."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.reason = code


@dataclass(frozen=True, slots=True)
class Granted:
    """What a server gets: its right to ask for later editions, and the statement."""

    access_token: str = field(repr=False)
    statement: str = field(repr=False)


def wanted(form: JsonObject) -> Wanted:
    """Read what a server says of itself. Raises FieldProblems."""
    try:
        return Wanted.model_validate(form)
    except ValidationError as error:
        raise FieldProblems.of(problems_of(error), "is no request of a server") from error


async def begin(db: AsyncSession, asked: Wanted) -> Begun:
    """Begin a grant. Raises TooMany where this address, or all together, began too many."""
    limits = context.of(db).limits
    limits.hold(Try.DEVICE_AUTHORIZATION, context.address(db))
    device_code, user_code, now = tokens.new(), tokens.user_code(), context.now(db)
    async with database.edit(db):
        waiting = select(func.count()).select_from(Grant).where(Grant.state == "pending", Grant.expires_at > now)
        if (await db.scalar(waiting) or 0) >= _PENDING_LIMIT:
            raise TooMany("Too many servers are waiting to be approved.", retry_after_s=60, hint="try again later")
        db.add(
            Grant(
                device_hash=tokens.hashed(device_code),
                user_hash=tokens.hashed(user_code),
                system_id=asked.system_id,
                server_name=asked.server_name,
                kind=asked.kind,
                purpose=asked.purpose,
                state="pending",
                address=context.address(db),
                interval_s=INTERVAL_S,
                created_at=now,
                expires_at=now + LIFETIME,
            )
        )
        log.info("portal.grant_begun", system_id=asked.system_id, purpose=asked.purpose, address=context.address(db))
    return Begun(device_code, user_code, int(LIFETIME.total_seconds()), INTERVAL_S)


async def find(db: AsyncSession, who: Account, user_code: str) -> Grant:
    """Find the grant that waits under a typed user code. Raises Denied, NotFound, TooMany (the code is short)."""
    _require(who)
    context.of(db).limits.hold(Try.USER_CODE, str(who.id))
    found = select(Grant).where(Grant.user_hash == tokens.hashed(tokens.plain_user_code(user_code)))
    grant = (await db.scalars(found)).first()
    if grant is None or grant.state != "pending" or grant.expires_at <= context.now(db):
        raise NotFound("No server waits under this code.", hint="compare it with what the server shows; it may be over")
    context.of(db).limits.give_back(Try.USER_CODE, str(who.id))
    return grant


def _require(who: Account) -> None:
    if not rules.may(who.kind, General.ANSWER_DEVICE):
        raise Denied("An administrator registers no systems.", hint="log on as an integrator or an end-user")


async def holder(db: AsyncSession, who: Account, grant: Grant) -> System | None:
    """Give the system that is registered under the grant's System ID, if it is one of this account's."""
    system = (await db.scalars(select(System).where(System.system_id == grant.system_id))).first()
    visible = system is not None and rules.verdict(Action.VIEW, changes.standing(who, system)) == "allowed"
    return system if visible else None


async def approve(db: AsyncSession, who: Account, grant: Grant, system: System) -> System:
    """Let the server have the registration of a system of this account.

    Where the server has another System ID, that one takes the registration over (R12). Raises NotFound, Denied,
    Conflict.
    """
    _require(who)
    async with database.edit(db):
        held = await _pending(db, grant)
        current = await database.locked(db, System, system.number)
        changes.require(Action.ISSUE_CODE, who, current)
        if current.system_id != held.system_id:
            current = await systems.associate_within(db, who, current.number, held.system_id)
        _approve(db, who, held, current)
        return current


async def approve_new(db: AsyncSession, who: Account, grant: Grant, form: JsonObject) -> System:
    """Register a new system under the server's System ID, and let the server have it: both or neither.

    Raises what `systems.register` raises, and NotFound where the grant is over.
    """
    _require(who)
    async with database.edit(db):
        held = await _pending(db, grant)
        system = await systems.register_within(db, who, held.system_id, form)
        _approve(db, who, held, system)
        return system


async def deny(db: AsyncSession, who: Account, grant: Grant) -> None:
    """Refuse a server."""
    _require(who)
    async with database.edit(db):
        held = await _pending(db, grant)
        held.state, held.account_id = "denied", who.id
        audit.note(db, who, "grant_denied", system_id=held.system_id)


async def _pending(db: AsyncSession, grant: Grant) -> Grant:
    held = await database.locked(db, Grant, grant.id)
    if held.state != "pending" or held.expires_at <= context.now(db):
        raise NotFound("This server does not wait any more.", hint="let it ask again")
    return held


def _approve(db: AsyncSession, who: Account, grant: Grant, system: System) -> None:
    grant.state, grant.number, grant.account_id = "approved", system.number, who.id
    audit.note(db, who, "grant_approved", system.number, server_name=grant.server_name, server_address=grant.address)


async def poll(db: AsyncSession, device_code: str) -> Granted:
    """Answer a server that asks whether it was approved. Raises PollError, TooMany."""
    refusals = context.of(db).refusals
    context.of(db).limits.hold(Try.TOKEN, context.address(db))
    found = (await db.scalars(select(Grant).where(Grant.device_hash == tokens.hashed(device_code)))).first()
    if found is None:
        refusals.note(log.warning, "portal.device_code_refused", reason="unknown", address=context.address(db))
        raise PollError("invalid_grant", "No grant was begun with this device code.")
    if found.state == "used":
        told = {"reason": "replayed", "grant": found.id, "address": context.address(db)}
        refusals.note(log.warning, "portal.device_code_refused", **told)
        raise PollError("invalid_grant", "This device code was used before.")
    refusal: PollError | None = None
    async with database.edit(db):
        grant = await database.locked(db, Grant, found.id)
        refusal = _refusal(grant, context.now(db))
        if refusal is None:
            return await _grant(db, grant)
    raise refusal


def _refusal(grant: Grant, now: dt.datetime) -> PollError | None:
    """Say why a grant gives nothing now; notes when it was asked. The first rule that applies wins."""
    early = grant.polled_at is not None and now < grant.polled_at + dt.timedelta(seconds=grant.interval_s)
    grant.polled_at = now
    if grant.state == "used":
        return PollError("invalid_grant", "This device code was used before.")
    if grant.expires_at <= now:
        return PollError("expired_token", "Nobody approved this server in time; let it ask again.")
    if grant.state == "denied":
        return PollError("access_denied", "This server was refused.")
    if grant.state == "approved":
        return None
    if early:
        grant.interval_s += _SLOWER_S
        return PollError("slow_down", f"Ask every {grant.interval_s} seconds at most.")
    return PollError("authorization_pending", "Nobody has approved this server yet.")


async def _grant(db: AsyncSession, grant: Grant) -> Granted:
    """Use a grant up: the server gets its bearer and the statement."""
    system = None if grant.number is None else await database.locked(db, System, grant.number)
    if system is None or system.system_id != grant.system_id or system.state == "withdrawn":
        raise Conflict("The registration changed after this server was approved.", hint="let it ask again")
    token, now = tokens.new(), context.now(db)
    signed = await statement_for(db, system)
    grant.state = "used"
    db.add(
        Bearer(
            hash=tokens.hashed(token),
            number=system.number,
            system_id=grant.system_id,
            issued_at=now,
            asked_at=now,
            edition=signed.edition,
        )
    )
    audit.note(db, None, "registration_fetched", system.number, edition=signed.edition, server_name=grant.server_name)
    return Granted(token, signed.jws.decode())
