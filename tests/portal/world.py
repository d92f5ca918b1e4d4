"""A portal under test: its clock, its people, a registration to enter, and a server in front of it."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import datetime as dt
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import httpx
from argon2 import PasswordHasher
from sqlalchemy import select

from propagator.portal import accounts, database, serving, sessions, systems, web
from propagator.portal.app import create_app
from propagator.portal.limits import Limits
from propagator.portal.opening import opened
from propagator.portal.settings import Settings, load
from propagator.portal.tables import Account, Outbox
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncSession

    from propagator.core.difference import JsonObject
    from propagator.portal.context import Portal
    from propagator.portal.rules import Kind
    from propagator.portal.tables import System

PASSWORD: Final = "correct horse battery staple"
HASH: Final = PasswordHasher().hash(PASSWORD)
ADDRESS: Final = "192.0.2.7"

_FORM: Final[JsonObject] = {
    "site": {"type": "single", "name": "Riverside House", "company": "Riverside Estates Ltd"},
    "address": {
        "street": "12 Quay Street",
        "city": "Bristol",
        "state": "Somerset",
        "postal_code": "BS1 4XY",
        "country": "GB",
    },
    "contact": {"email": "facilities@riverside.example"},
    "system": {"segments": ["offices"], "applications": ["hvac", "lighting"], "transition": []},
    "consents": {"system_information": True, "personal_information": True},
}


def form(**members: JsonObject) -> JsonObject:
    """Give a registration to enter, with some members in place of those it has."""
    return {**copy.deepcopy(_FORM), **members}


def installation(**members: JsonObject) -> JsonObject:
    """Give installation information alone."""
    return {name: value for name, value in form(**members).items() if name != "consents"}


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)

    def __call__(self) -> dt.datetime:
        return self.now

    def forward(self, **by: float) -> None:
        """Go on by days, hours, minutes or seconds."""
        self.now += dt.timedelta(**by)


@dataclass
class World:
    """An open portal, and what stands around it."""

    portal: Portal
    clock: Clock
    monotonic: list[float]
    people: dict[str, Account] = field(default_factory=dict)

    def db(self) -> AsyncSession:
        """Open a session, as of a request."""
        return self.portal.session(ADDRESS)

    async def account(self, name: str, kind: Kind, *, company: str | None = None) -> Account:
        """Make an account `name@people.example` with PASSWORD."""
        async with self.db() as db, database.edit(db):
            made = await accounts.add_within(
                db, None, f"{name}@people.example", name.title(), company or f"{name.title()} Ltd", kind, HASH
            )
        self.people[name] = made
        return made

    async def register(self, who: Account, system_id: str = "SYS-1", **members: JsonObject) -> System:
        """Register a system."""
        async with self.db() as db:
            return await systems.register(db, who, system_id, form(**members))

    async def outbox(self) -> list[Outbox]:
        """Give what waits to be mailed, in order."""
        async with self.db() as db:
            return list((await db.scalars(select(Outbox).order_by(Outbox.id))).all())


@contextlib.asynccontextmanager
async def open_world(settings: Settings, *, scale: float = 1.0) -> AsyncIterator[World]:
    """Open a portal with a clock of our own."""
    clock, monotonic = Clock(), [0.0]
    async with opened(settings, clock=clock, limits=Limits(lambda: monotonic[0], scale=scale)) as portal:
        yield World(portal, clock, monotonic)


def settings_in(folder: Path, **beats: object) -> Settings:
    """Give settings of a portal in `folder`, at a free port, with a mail server that nobody asks."""
    named = {"listen": f"127.0.0.1:{free_port()}", "mail.server": "127.0.0.1:1", "mail.sender": "portal@people.example"}
    return load(None, {"data_dir": str(folder / "portal"), "mail.security": "none", **named, **beats})


@contextlib.asynccontextmanager
async def served(world: World) -> AsyncIterator[httpx.AsyncClient]:
    """Serve a portal as the command does; give a client of it that follows no redirect."""
    started = asyncio.Event()
    server = serving.Server(serving.configured(create_app(world.portal)), started.set)
    with contextlib.closing(serving.listen(world.portal.settings)) as listening:
        running = asyncio.create_task(server.serve(sockets=[listening]), name="portal under test")
        try:
            async with asyncio.timeout(10):
                await started.wait()
            url = world.portal.settings.url
            async with httpx.AsyncClient(base_url=url, headers={"Origin": url}, timeout=30) as client:
                yield client
        finally:
            server.should_exit = True
            await running


async def log_on(client: httpx.AsyncClient, world: World, account: Account) -> str:
    """Log a client on by a session of the database; give the token that its forms carry."""
    async with world.db() as db:
        token = await sessions.begin(db, account)
        visit = await sessions.find(db, token)
    assert visit is not None
    client.cookies.clear()
    client.cookies.set(web.cookie_name(world.portal.settings), token)
    return visit.csrf
