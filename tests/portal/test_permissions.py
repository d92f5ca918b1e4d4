"""Who gets what: every route × every kind of account, held to one table. A route that is not in it fails the test.

Each cell has a system of its own, whose integrator is `branch` and whose end-user is `end_user`; the others have
nothing to do with it. `ok`: the page, or the deed (or what is wrong with the form that was sent); `log_on`: sent to
log on; `hidden`: 404, as if there were no such thing; a number: that status.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import httpx
import pytest
from fastapi.routing import iter_route_contexts
from sqlalchemy import func, select

from propagator.portal import database, grants, web
from propagator.portal.app import create_app
from propagator.portal.rules import Kind
from propagator.portal.tables import Account, Audit, System
from tests.portal.world import World, log_on, open_world, settings_in

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from fastapi import FastAPI
    from fastapi.dependencies.models import Dependant

VISITORS: Final = (
    "anonymous",
    "administrator",
    "branch",
    "other_branch",
    "other_partner",
    "end_user",
    "other_end_user",
    "deactivated",
)

_KINDS: Final = {
    "administrator": Kind.ADMINISTRATOR,
    "branch": Kind.BRANCH,
    "other_branch": Kind.BRANCH,
    "other_partner": Kind.PARTNER,
    "end_user": Kind.END_USER,
    "other_end_user": Kind.END_USER,
    "deactivated": Kind.BRANCH,
}


def _row(
    *, nobody: str | int = "log_on", admin: str | int, integrator: str | int, end_user: str | int, others: str | int
) -> dict[str, str | int]:
    """Say what each visitor gets. A deactivated account is nobody."""
    return {
        "anonymous": nobody,
        "administrator": admin,
        "branch": integrator,
        "other_branch": others,
        "other_partner": others,
        "end_user": end_user,
        "other_end_user": others,
        "deactivated": nobody,
    }


_EVERYBODY: Final = _row(nobody="ok", admin="ok", integrator="ok", end_user="ok", others="ok")
_ANYBODYS_FORM: Final = _row(nobody=400, admin=400, integrator=400, end_user=400, others=400)  # no request of a server
_BEARERS: Final = _row(nobody=401, admin=401, integrator=401, end_user=401, others=401)  # a log on is no token
_LINK: Final = _row(nobody="hidden", admin="hidden", integrator="hidden", end_user="hidden", others="hidden")
_LOGGED_ON: Final = _row(admin="ok", integrator="ok", end_user="ok", others="ok")
_ADMINISTRATOR: Final = _row(admin="ok", integrator=403, end_user=403, others=403)
_REGISTRANTS: Final = _row(admin=403, integrator="ok", end_user="ok", others="ok")
_OF_SYSTEM: Final = _row(admin="ok", integrator="ok", end_user="ok", others="hidden")
_THE_TWO: Final = _row(admin=403, integrator="ok", end_user="ok", others="hidden")
_INTEGRATOR: Final = _row(admin=403, integrator="ok", end_user=403, others="hidden")
_END_USER: Final = _row(admin=403, integrator=403, end_user="ok", others="hidden")  # R9: an end-user is there
_ITS_ADMINISTRATOR: Final = _row(admin="ok", integrator=403, end_user=403, others="hidden")
_TAKEN: Final = _row(admin=403, integrator=409, end_user=409, others="hidden")

TABLE: Final[dict[tuple[str, str], dict[str, str | int]]] = {
    ("GET", "/api/openapi.json"): _EVERYBODY,
    ("HEAD", "/api/openapi.json"): _EVERYBODY,
    ("GET", "/api/health"): _EVERYBODY,
    ("GET", "/api/portal"): _EVERYBODY,
    ("POST", "/api/device_authorization"): _ANYBODYS_FORM,
    ("POST", "/api/token"): _ANYBODYS_FORM,
    ("GET", "/api/registration"): _BEARERS,
    ("GET", "/"): _EVERYBODY,
    ("GET", "/log-on"): _EVERYBODY,
    ("POST", "/log-on"): _EVERYBODY,
    ("POST", "/log-off"): _EVERYBODY,
    ("GET", "/forgotten-password"): _EVERYBODY,
    ("POST", "/forgotten-password"): _EVERYBODY,
    ("GET", "/setup/{token}"): _LINK,
    ("POST", "/setup/{token}"): _LINK,
    ("GET", "/link/{token}"): _LINK,
    ("POST", "/link/{token}"): _LINK,
    ("GET", "/systems"): _LOGGED_ON,
    ("GET", "/systems/new"): _REGISTRANTS,
    ("POST", "/systems/new"): _REGISTRANTS,
    ("GET", "/systems/{number}"): _OF_SYSTEM,
    ("GET", "/systems/{number}/edit"): _END_USER,
    ("POST", "/systems/{number}/edit"): _END_USER,
    ("GET", "/systems/{number}/consents"): _END_USER,
    ("POST", "/systems/{number}/consents"): _END_USER,
    ("GET", "/systems/{number}/warranty"): _INTEGRATOR,
    ("POST", "/systems/{number}/warranty"): _INTEGRATOR,
    ("GET", "/systems/{number}/invite"): _TAKEN,
    ("POST", "/systems/{number}/invite"): _TAKEN,
    ("GET", "/systems/{number}/withdraw"): _ITS_ADMINISTRATOR,
    ("POST", "/systems/{number}/withdraw"): _ITS_ADMINISTRATOR,
    ("GET", "/systems/{number}/free"): _ITS_ADMINISTRATOR,
    ("POST", "/systems/{number}/free"): _ITS_ADMINISTRATOR,
    ("GET", "/systems/{number}/code"): _THE_TWO,
    ("POST", "/systems/{number}/code"): _THE_TWO,
    ("GET", "/associate"): _REGISTRANTS,
    ("POST", "/associate"): _REGISTRANTS,
    ("GET", "/associate/system"): _REGISTRANTS,
    ("POST", "/associate/system"): _THE_TWO,
    ("GET", "/device"): _REGISTRANTS,
    ("GET", "/device/system"): _REGISTRANTS,
    ("POST", "/device/system"): _THE_TWO,
    ("POST", "/device/deny"): _REGISTRANTS,
    ("GET", "/accounts"): _ADMINISTRATOR,
    ("GET", "/accounts/new"): _ADMINISTRATOR,
    ("POST", "/accounts/new"): _ADMINISTRATOR,
    ("GET", "/accounts/{number}"): _ADMINISTRATOR,
    ("POST", "/accounts/{number}/link"): _ADMINISTRATOR,
    ("POST", "/accounts/{number}/close"): _ADMINISTRATOR,
    ("POST", "/accounts/{number}/open"): _ADMINISTRATOR,
    ("GET", "/account"): _LOGGED_ON,
    ("POST", "/account"): _LOGGED_ON,
    ("GET", "/key"): _EVERYBODY,
    ("GET", "/key/portal.jwk"): _EVERYBODY,
}


@dataclass
class Stage:
    """The portal, and a browser in front of it."""

    world: World
    app: FastAPI
    client: httpx.AsyncClient
    counter: itertools.count[int]

    async def system(self) -> System:
        """Make a system of `branch` and `end_user`."""
        people = self.world.people
        system = await self.world.register(people["branch"], f"SYS-{next(self.counter)}")
        async with self.world.db() as db, database.edit(db):
            held = await database.locked(db, System, system.number)
            held.end_user_id = people["end_user"].id
        return system

    async def user_code(self) -> str:
        """Let a server ask."""
        asked = {"server_name": "ES", "kind": "enterprise-server", "purpose": "register"}
        async with self.world.db() as db:
            begun = await grants.begin(db, grants.wanted({"system_id": f"NEW-{next(self.counter)}", **asked}))
        return begun.user_code


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with open_world(settings_in(tmp_path), scale=1e6) as world:
        for name, kind in _KINDS.items():
            await world.account(name, kind)
        app, url = create_app(world.portal), world.portal.settings.url
        browser = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=url, headers={"Origin": url})
        async with browser:
            yield Stage(world, app, browser, itertools.count())


def routes(app: FastAPI) -> list[tuple[str, str]]:
    """List method and path of every route but the files of `static`."""
    listed = [
        (method, str(context.path))
        for context in iter_route_contexts(app.routes)
        for method in sorted(context.methods or {"MOUNT"})
    ]
    return [route for route in listed if route != ("MOUNT", "/static")]


async def _log_on(stage: Stage, visitor: str) -> str:
    """Log the browser on as this visitor. One that is deactivated was logged on before."""
    stage.client.cookies.clear()
    if visitor == "anonymous":
        return ""
    account = stage.world.people[visitor]
    await _set_active(stage, account, active=True)
    csrf = await log_on(stage.client, stage.world, account)
    if visitor == "deactivated":
        await _set_active(stage, account, active=False)
    return csrf


async def _set_active(stage: Stage, account: Account, *, active: bool) -> None:
    async with stage.world.db() as db, database.edit(db):
        (await database.locked(db, Account, account.id)).active = active


async def _outcome(stage: Stage, visitor: str, method: str, path: str) -> str | int:
    csrf = await _log_on(stage, visitor)
    data = {"csrf": csrf, "system_id": f"ANY-{next(stage.counter)}", "slot": "integrator"}
    if path.startswith("/accounts/{"):
        target = await stage.world.account(f"target-{next(stage.counter)}", Kind.PARTNER)
        data["number"] = str(target.id)
    elif "{number}" in path or path in {"/associate/system", "/device/system"}:
        data["number"] = data["system"] = (await stage.system()).number
    if path.startswith("/device"):
        data["user_code"] = await stage.user_code()
    url = path.format(token="no-such-token", number=data.get("number", ""))
    asked = {name: value for name, value in data.items() if name != "csrf"} if method in {"GET", "HEAD"} else None
    response = await stage.client.request(method, url, params=asked, data=None if asked else data)
    if response.status_code == 303 and response.headers["location"].startswith("/log-on"):
        return "log_on"
    if response.status_code == 404:
        return "hidden"
    return "ok" if response.status_code in {200, 303, 422} else response.status_code


async def test_every_route_stands_in_the_table(stage: Stage) -> None:
    assert sorted(routes(stage.app)) == sorted(TABLE)


async def test_every_route_gives_each_kind_of_account_what_the_table_says(stage: Stage) -> None:
    wrong = []
    for (method, path), row in TABLE.items():
        for visitor, wanted in row.items():
            outcome = await _outcome(stage, visitor, method, path)
            if outcome != wanted:
                wrong.append(f"{method} {path} as {visitor}: {outcome}, not {wanted}")
    assert wrong == []


async def test_every_page_that_posts_holds_its_form_to_origin_and_token(stage: Stage) -> None:
    """R1 and the rest hold against a forged form as well: see test_web for what `read_form` refuses."""

    def asked(dependant: Dependant) -> set[object]:
        below = {call for one in dependant.dependencies for call in asked(one)}
        return {dependant.call} | below

    unprotected = [
        context.path
        for context in iter_route_contexts(stage.app.routes)
        if "POST" in (context.methods or ())
        and not str(context.path).startswith("/api/")
        and web.read_form not in asked(context.dependant)
    ]
    assert unprotected == []


@pytest.mark.parametrize("visitor", ["anonymous", "other_branch", "other_end_user", "deactivated"])
async def test_r1_what_is_refused_changes_nothing(stage: Stage, visitor: str) -> None:
    """Whatever a stranger sends to whatever route, the system and its history stay as they are."""
    system = await stage.system()
    before = await _kept(stage, system.number)
    for method, path in TABLE:
        if method == "POST" and "{number}" in path and path.startswith("/systems"):
            data = {"csrf": await _log_on(stage, visitor), "slot": "end_user", "email": "x@people.example"}
            data |= {"kind": "partner", "site.name": "Mine", "warranty.start": "2026-01-01", "warranty.months": "1"}
            response = await stage.client.post(path.format(number=system.number), data=data)
            assert response.status_code in {303, 404}
    assert await _kept(stage, system.number) == before


async def _kept(stage: Stage, number: str) -> tuple[object, ...]:
    async with stage.world.db() as db:
        system = await db.get(System, number)
        assert system is not None
        rows = await db.scalar(select(func.count()).select_from(Audit).where(Audit.number == number))
    return (system.document, system.edition, system.state, system.system_id, system.integrator_id, rows)
