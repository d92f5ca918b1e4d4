"""What was done, by whom, when and from where: one row in the transaction of the deed, and one line in the log.

Of what was refused there is a row each time, and one line a minute.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog
from sqlalchemy import select

from propagator.portal import context
from propagator.portal.tables import Audit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncSession
    from structlog.typing import FilteringBoundLogger

    from propagator.core.difference import JsonObject
    from propagator.portal.tables import Account

log: FilteringBoundLogger = structlog.get_logger(logger_name="portal.audit")

PAGE: int = 50

_REFUSALS: Final = frozenset({"log_on_refused", "password_link_refused"})
"""Deeds of nobody, as many as a stranger likes."""


def note(db: AsyncSession, who: Account | None, action: str, number: str | None = None, **detail: object) -> None:
    """Note a deed, inside the `edit` that does it. `action` is a word like `modified`; `who` None: a server, nobody."""
    address = context.address(db)
    db.add(
        Audit(
            at=context.now(db),
            account_id=None if who is None else who.id,
            who="" if who is None else who.email,
            action=action,
            number=number,
            detail=_json(detail),
            address=address,
        )
    )
    told = {name: value for name, value in detail.items() if name != "changes"}
    told |= {"account": None if who is None else who.id, "system": number, "address": address}
    event = f"portal.{action}"
    if action in _REFUSALS:
        context.of(db).refusals.note(log.info, event, **told)
    else:
        log.info(event, **told)


def _json(detail: dict[str, object]) -> JsonObject:
    return detail  # type: ignore[return-value]  # written by our own modules: texts, numbers, lists of them


async def of_system(db: AsyncSession, number: str, page: int = 1) -> Sequence[Audit]:
    """List what was done with a system, newest first, in pages of 50."""
    rows = select(Audit).where(Audit.number == number).order_by(Audit.id.desc())
    return (await db.scalars(rows.limit(PAGE).offset(PAGE * (page - 1)))).all()
