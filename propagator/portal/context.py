"""What every service needs beside its session: settings, key, clock, limits. It travels in the session's `info`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import asyncio
    import datetime as dt
    from collections.abc import Callable

    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

    from propagator.core.signing import PrivateKey
    from propagator.portal.limits import Limits
    from propagator.portal.passwords import Passwords
    from propagator.portal.refusals import Refusals
    from propagator.portal.settings import Settings


@dataclass(frozen=True, slots=True)
class Portal:
    """The one portal of this process."""

    settings: Settings
    key: PrivateKey = field(repr=False)
    engine: AsyncEngine = field(repr=False)
    sessions: async_sessionmaker[AsyncSession] = field(repr=False)
    clock: Callable[[], dt.datetime] = field(repr=False)
    limits: Limits = field(repr=False)
    passwords: Passwords = field(repr=False)
    refusals: Refusals = field(repr=False)
    mail_waits: asyncio.Event = field(repr=False)
    """Set after an edit that put mails into the outbox."""

    def session(self, address: str = "") -> AsyncSession:
        """Open a session of the database for one request; `address` is whose it is, for the audit."""
        return self.sessions(info={"portal": self, "address": address})


def of(db: AsyncSession) -> Portal:
    """Give the portal that a session belongs to."""
    return cast("Portal", db.info["portal"])


def now(db: AsyncSession) -> dt.datetime:
    """Ask the portal's clock: aware, UTC."""
    return of(db).clock()


def address(db: AsyncSession) -> str:
    """Say from where the request of this session came; "" where it is nobody's."""
    return cast("str", db.info["address"])
