"""Registration codes: a signed statement for the current System ID, as text, as a file and as a QR picture."""

from __future__ import annotations

import datetime as dt
import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import segno

from propagator.core import code, moment
from propagator.core.errors import InputError
from propagator.portal import audit, changes, context, database
from propagator.portal.rules import Action
from propagator.portal.statements import statement_for
from propagator.portal.tables import IssuedCode, System

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from propagator.portal.statements import Signed
    from propagator.portal.tables import Account

LIFETIME: Final = dt.timedelta(days=30)
"""A code is carried to a server that is offline, which may be a visit away; lost ones end by themselves."""


@dataclass(frozen=True, slots=True)
class Code:
    """A Registration code in its three forms. `png` is None where it is too long for a QR picture."""

    serial: str
    system_id: str
    edition: int
    issued_at: dt.datetime
    expires_at: dt.datetime
    text: str = field(repr=False)
    file: str = field(repr=False)
    png: bytes | None = field(repr=False)


async def issue(db: AsyncSession, who: Account, system: System) -> Code:
    """Issue a Registration code for the current System ID (R7); good for 30 days, and once.

    Raises NotFound, Denied, and Conflict where the registration was withdrawn or has no System ID.
    """
    async with database.edit(db):
        held = await database.locked(db, System, system.number)
        changes.require(Action.ISSUE_CODE, who, held)
        signed = await statement_for(db, held, lifetime=LIFETIME)
        expires_at = signed.issued_at + LIFETIME
        db.add(
            IssuedCode(
                serial=signed.serial,
                number=held.number,
                system_id=signed.system_id,
                edition=signed.edition,
                issued_at=signed.issued_at,
                expires_at=expires_at,
                account_id=who.id,
            )
        )
        audit.note(db, who, "code_issued", held.number, serial=signed.serial, edition=signed.edition)
    return _in_forms(signed, expires_at, held, context.of(db).settings.name)


def _in_forms(signed: Signed, expires_at: dt.datetime, held: System, portal: str) -> Code:
    text = code.write(signed.jws)
    picture = _picture(text)
    return Code(
        serial=signed.serial,
        system_id=signed.system_id,
        edition=signed.edition,
        issued_at=signed.issued_at,
        expires_at=expires_at,
        text=text,
        file=code.commented(text, _comments(portal, changes.site_name(held), signed, expires_at)),
        png=None if picture is None else _png(picture),
    )


def _comments(portal: str, site: str, signed: Signed, expires_at: dt.datetime) -> tuple[str, ...]:
    """Say in the file what its code is for."""
    return (
        "Registration code",
        f"System ID: {signed.system_id}",
        f"Site: {site}",
        f"Issued: {moment.write(signed.issued_at)}",
        f"Expires: {moment.write(expires_at)}",
        f"Portal: {portal}",
    )


def _picture(text: str) -> segno.QRCode | None:
    try:
        return segno.make_qr(code.for_picture(text), error="l", mode="alphanumeric", boost_error=False)
    except InputError:
        return None


def _png(picture: segno.QRCode) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind="png", scale=4, border=4)
    return out.getvalue()
