"""Removes what is over: sessions, links and device grants, sent mails, and log ons from the audit."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import TYPE_CHECKING, Final

import structlog
from sqlalchemy import delete, or_
from sqlalchemy.exc import SQLAlchemyError

from propagator.portal import database, sessions
from propagator.portal.tables import Audit, Grant, Link, Outbox, Session

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from propagator.portal.context import Portal

log: FilteringBoundLogger = structlog.get_logger(logger_name="portal.housekeeping")

_EVERY_S: Final = 3600.0
_KEPT: Final = dt.timedelta(days=1)
"""What expired stays for a day, so that a late comer is told that it expired, and not that it never was."""

_LOG_ONS_KEPT: Final = dt.timedelta(days=90)
_LOG_ONS: Final = ("logged_on", "log_on_refused", "locked", "password_link_asked", "password_link_refused")


async def run(portal: Portal) -> None:
    """Sweep every hour until cancelled."""
    while True:
        try:
            await sweep(portal)
        except (SQLAlchemyError, OSError) as error:
            log.warning("portal.housekeeping_failed", error=str(error))
        await asyncio.sleep(_EVERY_S)


async def sweep(portal: Portal) -> None:
    """Remove what is over."""
    now = portal.clock()
    async with portal.session() as db, database.edit(db):
        idle = or_(Session.seen_at < now - sessions.IDLE, Session.created_at < now - sessions.LONGEST)
        await db.execute(delete(Session).where(idle))
        await db.execute(delete(Link).where(Link.expires_at < now - _KEPT))
        await db.execute(delete(Grant).where(Grant.expires_at < now - _KEPT))
        await db.execute(delete(Outbox).where(Outbox.next_at.is_(None), Outbox.created_at < now - _LOG_ONS_KEPT))
        await db.execute(delete(Audit).where(Audit.action.in_(_LOG_ONS), Audit.at < now - _LOG_ONS_KEPT))
