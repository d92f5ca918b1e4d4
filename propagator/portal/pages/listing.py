"""The registered systems: those that an account sees, searched, 50 a page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from starlette.responses import Response

from propagator.portal import changes, registrations, rules, systems
from propagator.portal.pages import told
from propagator.portal.pages.rendering import show
from propagator.portal.rules import Action, General
from propagator.portal.web import Db, Logged

if TYPE_CHECKING:
    from propagator.portal.tables import Account, System

router: Final = APIRouter()


@router.get("/systems")
async def listed(request: Request, db: Db, visit: Logged, q: str = "", page: str = "1") -> Response:
    """List the systems of whoever asks; an administrator sees all."""
    who = visit.account
    found = await systems.visible(db, who, q, page_number(page))
    registers = rules.may(who.kind, General.REGISTER)
    purpose = (
        "Register a new system here, or open one of yours to see and modify its registration."
        if registers
        else "Find a system to free a place in it or to withdraw its registration."
    )
    return show(
        request,
        visit,
        "systems.html",
        title="Register or Modify a system" if registers else "Registered systems",
        purpose=purpose,
        may_register=registers,
        rows=[row(who, system) for system in found.systems],
        query=q,
        counted=counted(found.total, "system", found.page, found.pages),
        previous=page_link("/systems", q, found.page - 1, found.pages),
        next=page_link("/systems", q, found.page + 1, found.pages),
    )


def row(who: Account, system: System) -> dict[str, object]:
    """Say of one system what a list shows."""
    registration = registrations.document(system)
    return {
        "number": system.number,
        "system_id": system.system_id,
        "name": told.member(registration, "site.name"),
        "company": told.member(registration, "site.company"),
        "state": system.state,
        "changed": system.updated_at,
        "modify": Action.EDIT_INSTALLATION in rules.allowed(changes.standing(who, system)),
    }


def page_number(text: str) -> int:
    """Read a page's number; whatever is none is the first."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 7 else 1  # noqa: PLR2004  a million pages


def page_link(path: str, query: str, page: int, pages: int) -> str:
    """Link to a page of a list; "" where there is none."""
    if not 1 <= page <= pages:
        return ""
    return f"{path}?{urlencode({**({'q': query} if query else {}), 'page': page})}"


def counted(total: int, noun: str, page: int, pages: int) -> str:
    """Say how many there are, and which page this is."""
    many = f"{total} {noun}" + ("" if total == 1 else "s")
    return many if pages == 1 else f"{many}, page {page} of {pages}"
