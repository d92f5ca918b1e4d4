"""Who is logged on. A session lasts 12 hours at most, and one hour without a request."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from sqlalchemy import delete, update

from propagator.portal import context, database, tokens
from propagator.portal.tables import Account, Session

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

LONGEST: Final = dt.timedelta(hours=12)
IDLE: Final = dt.timedelta(hours=1)
_SEEN_EVERY: Final = dt.timedelta(minutes=1)
"""How exactly the last request is noted: not every page is a write."""


@dataclass(frozen=True, slots=True)
class Visit:
    """Somebody who is logged on, and the token that each of their forms must carry."""

    account: Account
    csrf: str = field(repr=False)
    hash: str = field(repr=False)


async def begin(db: AsyncSession, account: Account) -> str:
    """Log an account on; give the token for the cookie. Always a new one: none that was there before is taken over."""
    token, now = tokens.new(), context.now(db)
    async with database.edit(db):
        db.add(
            Session(
                hash=tokens.hashed(token),
                csrf=tokens.new(),
                account_id=account.id,
                created_at=now,
                seen_at=now,
                address=context.address(db),
            )
        )
    return token


async def find(db: AsyncSession, token: str) -> Visit | None:
    """Find who is logged on with this cookie; nobody where it ended, or the account was deactivated."""
    held = await db.get(Session, tokens.hashed(token))
    now = context.now(db)
    if held is None or now - held.created_at >= LONGEST or now - held.seen_at >= IDLE:
        return None
    account = await db.get(Account, held.account_id)
    if account is None or not account.active:
        return None
    if now - held.seen_at >= _SEEN_EVERY:
        async with database.edit(db):
            await db.execute(update(Session).where(Session.hash == held.hash).values(seen_at=now))
    return Visit(account, held.csrf, held.hash)


async def end(db: AsyncSession, visit: Visit) -> None:
    """Log off."""
    async with database.edit(db):
        await db.execute(delete(Session).where(Session.hash == visit.hash))


async def end_all_within(db: AsyncSession, account: Account, *, but: str | None = None) -> None:
    """End every session of an account but one, inside an `edit`: its password changed, or it was deactivated."""
    ended = delete(Session).where(Session.account_id == account.id)
    await db.execute(ended if but is None else ended.where(Session.hash != but))
