"""Statements: what the portal signs of a system at the moment when somebody asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from propagator.core import moment, statement
from propagator.core.statement import Statement
from propagator.portal import context, registrations, tokens
from propagator.portal.errors import Conflict
from propagator.portal.tables import Former

if TYPE_CHECKING:
    import datetime as dt

    from sqlalchemy.ext.asyncio import AsyncSession

    from propagator.portal.tables import System


@dataclass(frozen=True, slots=True)
class Signed:
    """A signed statement: its bytes (JWS), and what of it the portal keeps."""

    jws: bytes
    serial: str
    system_id: str
    edition: int
    issued_at: dt.datetime
    expires_at: dt.datetime | None


async def statement_for(db: AsyncSession, system: System, *, lifetime: dt.timedelta | None = None) -> Signed:
    """Sign what is registered for the current System ID of a system. Without `lifetime` it does not expire.

    Raises Conflict where the system has no System ID: another registration took it over.
    """
    if system.system_id is None:
        raise Conflict("This registration has no System ID any more.", hint="associate one first")
    portal = context.of(db)
    issued_at = portal.clock()
    expires_at = None if lifetime is None else issued_at + lifetime
    said = Statement(
        system_id=system.system_id,
        system=system.number,
        edition=system.edition,
        serial=tokens.serial(),
        issued_at=moment.write(issued_at),
        expires_at=None if expires_at is None else moment.write(expires_at),
        replaces=await _former(db, system),
        registration=await registrations.full(db, system),
    )
    jws = statement.seal(said, portal.key, portal=portal.settings.id)
    return Signed(jws, said.serial, said.system_id, said.edition, issued_at, expires_at)


async def _former(db: AsyncSession, system: System) -> str | None:
    """Give the System ID that held this registration before."""
    last = select(Former.system_id).where(Former.number == system.number).order_by(Former.id.desc()).limit(1)
    return (await db.scalars(last)).first()
