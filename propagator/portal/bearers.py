"""Servers that were registered online ask here for later editions of their registration."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Final

from sqlalchemy import update

from propagator.portal import audit, context, database, tokens
from propagator.portal.errors import NotLoggedOn, PortalError
from propagator.portal.limits import Try
from propagator.portal.statements import Signed, statement_for
from propagator.portal.tables import Bearer, System

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

_ASKED_EVERY: Final = dt.timedelta(minutes=10)
"""How exactly it is noted when a server asked last: not every question is a write."""


class AssociatedElsewhere(PortalError):  # noqa: N818  as the API says it
    """The registration moved to another System ID; this server has none here any more."""

    status = 410
    code = "associated_elsewhere"


async def registration(db: AsyncSession, token: str, known: int | None) -> tuple[Signed | None, int]:
    """Sign the present edition for the server that holds this token, None where it has that; and give its number.

    Raises NotLoggedOn (no such token, or it was revoked), AssociatedElsewhere, TooMany.
    """
    context.of(db).limits.hold(Try.REGISTRATION, context.address(db))
    bearer = await db.get(Bearer, tokens.hashed(token))
    if bearer is None or bearer.revoked_at is not None:
        raise NotLoggedOn("This token opens nothing here.", hint="register this server online again")
    system = await db.get(System, bearer.number)
    if system is None or system.system_id != bearer.system_id:
        raise AssociatedElsewhere("The registration was associated with another System ID.")
    fresh = system.edition != known
    signed = await statement_for(db, system) if fresh else None
    now = context.now(db)
    if bearer.edition != system.edition or bearer.asked_at is None or now - bearer.asked_at >= _ASKED_EVERY:
        async with database.edit(db):
            told = update(Bearer).where(Bearer.hash == bearer.hash)
            await db.execute(told.values(asked_at=now, edition=system.edition))
            if fresh and bearer.edition != system.edition:
                audit.note(db, None, "registration_fetched", system.number, edition=system.edition)
    return signed, system.edition
