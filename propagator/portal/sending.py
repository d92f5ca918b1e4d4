"""Sends what waits in the outbox, with patience: a mail server that is away gets everything when it is back.

A mail is claimed before it is tried, so two portals on one database send it once, and a crash in between sends it
again rather than never. After the last try it is given up, and said so.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from typing import TYPE_CHECKING, Final

import aiosmtplib
import structlog
from sqlalchemy import select, update
from sqlalchemy.exc import SQLAlchemyError

from propagator.portal import database
from propagator.portal.settings import split_address
from propagator.portal.tables import Outbox

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from propagator.portal.context import Portal
    from propagator.portal.settings import MailServer

log: FilteringBoundLogger = structlog.get_logger(logger_name="portal.sending")

WAITS: Final = tuple(dt.timedelta(minutes=minutes) for minutes in (1, 5, 15, 60, 180, 360, 720, 1440))
"""After each try in vain; after the last one the mail is given up: two days in all."""

_CLAIM: Final = dt.timedelta(minutes=5)
_DEADLINE_S: Final = 30.0
_LOOK_EVERY_S: Final = 30.0
_AT_ONCE: Final = 50


async def run(portal: Portal) -> None:
    """Send mails until cancelled: when an edit put some, and when the next try is due."""
    if portal.settings.mail is None:
        log.warning("portal.mail_off", consequence="nobody is told of edits by mail")
        return
    while True:
        portal.mail_waits.clear()
        try:
            await send_due(portal, portal.settings.mail)
        except (SQLAlchemyError, OSError) as error:
            log.warning("portal.outbox_failed", error=str(error))
        try:
            await asyncio.wait_for(portal.mail_waits.wait(), _LOOK_EVERY_S)
        except TimeoutError:
            continue


async def send_due(portal: Portal, server: MailServer) -> int:
    """Try each mail that is due once; give how many left."""
    sent = 0
    async with portal.session() as db:
        due = select(Outbox).where(Outbox.sent_at.is_(None), Outbox.next_at <= portal.clock())
        for mail in (await db.scalars(due.order_by(Outbox.id).limit(_AT_ONCE))).all():
            tries = mail.tries + 1
            async with database.edit(db):
                claim = update(Outbox).where(Outbox.id == mail.id, Outbox.next_at == mail.next_at)
                claimed = await db.execute(claim.values(next_at=portal.clock() + _CLAIM, tries=tries))
            if claimed.rowcount != 1:  # type: ignore[attr-defined, unused-ignore]
                continue
            error = await _send(portal, server, mail)
            async with database.edit(db):
                outcome = _outcome(portal, mail.id, tries, error)
                await db.execute(update(Outbox).where(Outbox.id == mail.id).values(**outcome))
            if error is None:
                sent += 1
    return sent


def _outcome(portal: Portal, mail: int, tries: int, error: str | None) -> dict[str, object]:
    """Say what is kept of a try: sent, when to try again, or given up."""
    now = portal.clock()
    if error is None:
        log.info("portal.mail_sent", mail=mail, tries=tries)
        return {"sent_at": now, "next_at": None, "body": "", "error": None}
    if tries > len(WAITS):
        log.error("portal.mail_given_up", mail=mail, tries=tries, error=error)
        return {"next_at": None, "body": "", "error": error}
    log.warning("portal.mail_delayed", mail=mail, tries=tries, error=error)
    return {"next_at": now + WAITS[tries - 1], "error": error}


async def _send(portal: Portal, server: MailServer, mail: Outbox) -> str | None:
    """Hand one mail to the server. Gives what went wrong, None if nothing did."""
    host, port = split_address(server.server)
    try:
        password = server.password_file.read_text().strip() if server.password_file is not None else None
        await aiosmtplib.send(
            _message(portal, server, mail),
            hostname=host,
            port=port,
            username=server.username,
            password=password,
            use_tls=server.security == "tls",
            start_tls=server.security == "starttls",
            tls_context=ssl.create_default_context() if server.security != "none" else None,
            timeout=_DEADLINE_S,
        )
    except (aiosmtplib.SMTPException, OSError, ValueError) as error:
        return f"{type(error).__name__}: {error}"[:300]
    return None


def _message(portal: Portal, server: MailServer, mail: Outbox) -> EmailMessage:
    message = EmailMessage()
    message["From"] = server.sender
    message["To"] = mail.recipient
    message["Subject"] = mail.subject
    message["Date"] = format_datetime(portal.clock())
    message["Message-ID"] = make_msgid(f"outbox-{mail.id}", domain=server.sender.rpartition("@")[2])
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(mail.body)
    return message
