"""The mails that tell of an edit (R11): written into the outbox in the edit's own transaction, sent by `sending`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from propagator.portal import context
from propagator.portal.tables import Outbox

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.ext.asyncio import AsyncSession

    from propagator.core.difference import Change

_NOTHING: Final = "(nothing)"


def put(db: AsyncSession, recipient: str, subject: str, body: str) -> None:
    """Put one mail into the outbox. Without a mail server nothing is put: it would leave years later."""
    portal = context.of(db)
    if portal.settings.mail is None:
        return
    now = portal.clock()
    closing = f"\n-- \n{portal.settings.name}\n{portal.settings.url}\n"
    db.add(
        Outbox(recipient=recipient, subject=_line(subject), body=body + closing, created_at=now, next_at=now, tries=0)
    )


def _line(text: str) -> str:
    """A subject is one line; what people wrote in it cannot begin another header."""
    return " ".join(text.split())[:200]


def tell_change(  # noqa: PLR0913  each is one part of the mail
    db: AsyncSession,
    recipients: Iterable[str],
    *,
    number: str,
    site: str,
    what: str,
    by: str,
    changes: Iterable[Change],
) -> None:
    """Tell each of `recipients` once what was changed, from what, to what."""
    listed = "".join(
        f"  {change.path}\n    from: {change.before or _NOTHING}\n    to:   {change.after or _NOTHING}\n"
        for change in changes
    )
    url = f"{context.of(db).settings.url}/systems/{number}"
    changed = f"\nChanged:\n{listed}" if listed else ""
    body = f"{what}\n\nSystem: {site} ({number})\nBy:     {by}\n{changed}\nSee {url}\n"
    for recipient in sorted({address.lower() for address in recipients}):
        put(db, recipient, f"{site}: {what}", body)


def tell_link(  # noqa: PLR0913  the same
    db: AsyncSession, recipient: str, *, subject: str, why: str, url: str, hours: int
) -> None:
    """Send a one-time link."""
    within = "an hour" if hours == 1 else f"{hours} hours"
    body = f"{why}\n\nOpen this link within {within}. It works once:\n\n{url}\n\nNot expected? Then do nothing.\n"
    put(db, recipient, subject, body)
