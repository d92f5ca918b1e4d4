"""Choosing one of one's systems: for a new System ID, or for a server that asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from propagator.portal import changes, rules, systems
from propagator.portal.forms import Field
from propagator.portal.pages.listing import row
from propagator.portal.pages.rendering import show
from propagator.portal.rules import Action

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import Request
    from sqlalchemy.ext.asyncio import AsyncSession
    from starlette.responses import Response

    from propagator.portal.sessions import Visit

CHOICE: Final = Field("number", "Your systems")

_FEW: Final = 8
"""Up to so many systems are looked through without a search."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoicePage:
    """Asks which system. `told` are facts (label, text, whether it is code), `kept` what the form carries along."""

    title: str
    purpose: str
    crumbs: tuple[tuple[str, str], ...]
    told_title: str
    told: tuple[tuple[str, str, bool], ...]
    action: str
    kept: Mapping[str, str]
    then: str
    cancel: str
    query: str = ""
    missing: bool = False
    """It was sent without a choice."""


async def choose(request: Request, db: AsyncSession, visit: Visit, page: ChoicePage) -> Response:
    """Make the page: the systems that this account may associate, the first 50 that match."""
    who = visit.account
    found = await systems.visible(db, who, page.query)
    fit = [system for system in found.systems if Action.ASSOCIATE in rules.allowed(changes.standing(who, system))]
    return show(
        request,
        visit,
        "choose.html",
        title=page.title,
        crumbs=page.crumbs,
        page=page,
        rows=[row(who, system) for system in fit],
        more=found.total > len(found.systems),
        searchable=bool(page.query) or found.total > _FEW,
        fields=(CHOICE,),
        problems={CHOICE.path: "Choose one of your systems."} if page.missing else {},
        status=422 if page.missing else 200,
    )
