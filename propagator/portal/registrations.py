"""The registration of a system: read from a form by core's own door, kept without its accounts, put together again.

The two accounts are rows of their own (R1), so what a statement carries is the kept document and those rows as they
are now.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final, cast

import rfc8785

from propagator.core import registration as core
from propagator.core.errors import InputError
from propagator.core.registration import Registration
from propagator.portal.errors import FieldProblems
from propagator.portal.rules import Kind
from propagator.portal.tables import Account

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from propagator.core.difference import JsonObject
    from propagator.portal.tables import System

INSTALLATION: Final = ("site", "address", "contact", "system")
"""The members that are installation information."""

CONSENTS: Final = ("system_information", "personal_information")

_ROOM_FOR_ACCOUNTS: Final = 4 * 1024
"""Bytes that the two accounts may add to a document, at most: three texts of 200 signs and two addresses."""


def validated(form: JsonObject) -> Registration:
    """Read a registration without accounts from a form, as a server would from a file. Raises FieldProblems."""
    try:
        if "accounts" in form:
            raise FieldProblems({"accounts": "are not entered here: they are who joined"})
        read = core.read_file(_written(form), kind="json")
    except InputError as error:
        raise FieldProblems.of(error.problems, str(error)) from error
    if len(read.canonical.encode()) > core.FILE_LIMIT - _ROOM_FOR_ACCOUNTS:
        raise FieldProblems({"": f"It is larger than {core.FILE_LIMIT - _ROOM_FOR_ACCOUNTS} bytes; shorten its texts."})
    return read


def _written(form: JsonObject) -> str:
    """Write a form as JSON, no longer than it is: escapes would count. Half a surrogate pair stays one, for core."""
    text = json.dumps(form, ensure_ascii=False)
    return text if text.isascii() or not _HALF.search(text) else json.dumps(form)


_HALF: Final = re.compile("[\ud800-\udfff]")


def document(system: System) -> JsonObject:
    """Give the kept document: the registration without its accounts."""
    return cast("JsonObject", json.loads(system.document))


def keep(system: System, read: Registration) -> None:
    """Keep a document, and what a search looks in."""
    system.document = read.canonical
    site, address = read.document["site"], read.document["address"]
    words = [system.number, system.system_id or ""]
    if isinstance(site, dict) and isinstance(address, dict):
        words += [str(site["name"]), str(site["company"]), str(address["city"])]
    system.search = "\n".join(words).lower()


async def accounts(db: AsyncSession, system: System) -> tuple[Account | None, Account | None]:
    """Give the integrator and the end-user of a system."""
    integrator = await db.get(Account, system.integrator_id) if system.integrator_id is not None else None
    end_user = await db.get(Account, system.end_user_id) if system.end_user_id is not None else None
    return integrator, end_user


async def full(db: AsyncSession, system: System) -> Registration | None:
    """Put the registration together as it is now; None if it was withdrawn."""
    if system.state == "withdrawn":
        return None
    made = document(system)
    integrator, end_user = await accounts(db, system)
    slots: JsonObject = {}
    if integrator is not None:
        kind = "branch" if integrator.kind is Kind.BRANCH else "partner"
        slots["integrator"] = {"kind": kind, "company": integrator.company, "email": integrator.email}
    if end_user is not None:
        slots["end_user"] = {"company": end_user.company, "email": end_user.email}
    if slots:
        made["accounts"] = slots
    return Registration(rfc8785.dumps(made).decode())
