"""A forgotten password: a link by mail, and nobody learns from the answer which addresses have accounts."""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, text

from propagator.portal import accounts, forgotten, sessions
from propagator.portal.errors import Conflict, Denied, FieldProblems, NotFound, TooMany
from propagator.portal.rules import Kind
from propagator.portal.settings import load
from propagator.portal.tables import Account, Audit
from tests.portal.world import ADDRESS, PASSWORD, World, open_world, served
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import httpx


NEW = "nine lanterns by the mill"


async def _link(world: World, account: Account) -> str:
    """Ask for a link as the page does; give the token that was mailed last."""
    asked = forgotten.asked(world.portal, ADDRESS, account.email)
    await forgotten.mail_link(world.portal, ADDRESS, asked)
    return await _mailed(world, account)


async def _mailed(world: World, account: Account) -> str:
    bodies = [mail.body for mail in await world.outbox() if mail.recipient == account.email]
    return str(re.findall(r"/link/(\S+)", "\n".join(bodies))[-1])


async def _works(world: World, token: str) -> bool:
    async with world.db() as db:
        try:
            await accounts.find_link(db, token, *accounts.OF_PASSWORD)
        except NotFound:
            return False
    return True


async def _notes(world: World) -> list[tuple[str, object]]:
    async with world.db() as db:
        rows = (await db.scalars(select(Audit).order_by(Audit.id))).all()
    return [(row.action, row.detail.get("of")) for row in rows if "password" in row.action]


async def test_a_link_sets_a_new_password_ends_all_sessions_and_is_told(world: World) -> None:
    ann = await world.account("ann", Kind.PARTNER)
    async with world.db() as db:
        session = await sessions.begin(db, ann)
    token = await _link(world, ann)
    async with world.db() as db:
        await accounts.authenticate(db, ann.email, PASSWORD)  # asking alone changes nothing
        with pytest.raises(FieldProblems):
            await accounts.choose_password(db, token, "short")
        await accounts.choose_password(db, token, NEW)
        assert await sessions.find(db, session) is None
        await accounts.authenticate(db, ann.email, NEW)
        with pytest.raises(NotFound):
            await accounts.choose_password(db, token, NEW)
    assert [mail.subject for mail in await world.outbox()] == ["A new password", "Your password was changed"]
    assert ADDRESS in (await world.outbox())[1].body
    assert await _notes(world) == [("password_link_asked", ann.email), ("password_chosen", None)]


async def test_a_link_lives_for_an_hour_and_is_kept_as_a_hash(world: World) -> None:
    ann = await world.account("ann", Kind.END_USER)
    token = await _link(world, ann)
    async with world.db() as db:
        link = await accounts.find_link(db, token, "forgotten")
        assert token not in repr(vars(link))
    world.clock.forward(minutes=59)
    assert await _works(world, token)
    world.clock.forward(minutes=1)
    assert not await _works(world, token)


async def test_a_newer_link_ends_the_older_ones_but_none_that_an_administrator_made(world: World) -> None:
    adm, ann = await world.account("adm", Kind.ADMINISTRATOR), await world.account("ann", Kind.PARTNER)
    async with world.db() as db:
        administrators = (await accounts.reset(db, adm, ann)).rpartition("/")[2]
    first, others = await _link(world, ann), await _link(world, adm)
    second = await _link(world, ann)
    works = [await _works(world, token) for token in (first, second, administrators, others)]
    assert works == [False, True, True, True]
    async with world.db() as db:
        await accounts.choose_password(db, second, NEW)
    assert not await _works(world, administrators), "a password was chosen: no other link is left"
    assert await _works(world, others)


async def test_an_account_that_is_locked_gets_a_link_that_opens_it(world: World) -> None:
    ann = await world.account("ann", Kind.PARTNER)
    async with world.db() as db:
        for _ in range(accounts.FAILURES):
            world.monotonic[0] += 100
            with contextlib.suppress(Denied):
                await accounts.authenticate(db, ann.email, "wrong")
        assert (await db.get_one(Account, ann.id)).locked_until is not None
    token = await _link(world, ann)
    world.monotonic[0] += 1000
    async with world.db() as db:
        await accounts.choose_password(db, token, NEW)
        await accounts.authenticate(db, ann.email, NEW)


async def test_a_closed_account_gets_none_and_loses_what_it_had(world: World) -> None:
    adm, ann = await world.account("adm", Kind.ADMINISTRATOR), await world.account("ann", Kind.PARTNER)
    token = await _link(world, ann)
    async with world.db() as db:
        await accounts.set_active(db, adm, ann, active=False)
    with pytest.raises(NotFound):
        async with world.db() as db:
            await accounts.choose_password(db, token, NEW)
    before = len(await world.outbox())
    await forgotten.mail_link(world.portal, ADDRESS, ann.email)
    await forgotten.mail_link(world.portal, ADDRESS, "nobody@people.example")
    assert len(await world.outbox()) == before
    assert (await _notes(world))[-2:] == [("password_link_refused", ann.email), ("password_link_refused", None)]


@contextlib.asynccontextmanager
async def _held(world: World) -> AsyncIterator[None]:
    """Hold the database, so that whoever would write to it, or look at the accounts for that, waits."""
    async with world.portal.engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            await connection.execution_options(portal_writes=True)
            await connection.execute(text("SELECT 1"))
        else:
            await connection.execute(text("LOCK TABLE account, audit IN ACCESS EXCLUSIVE MODE"))
        yield
        await connection.rollback()


async def _ask(client: httpx.AsyncClient, email: str) -> tuple[int, str, dict[str, str]]:
    answer = await client.post("/forgotten-password", data={"email": email})
    client.cookies.clear()
    return answer.status_code, answer.text, {name: value for name, value in answer.headers.items() if name != "date"}


async def test_the_answer_is_the_same_and_comes_before_anything_is_looked_up(world: World) -> None:
    adm, ann = await world.account("adm", Kind.ADMINISTRATOR), await world.account("ann", Kind.PARTNER)
    bob = await world.account("bob", Kind.PARTNER)
    async with world.db() as db:
        await accounts.set_active(db, adm, bob, active=False)
    async with served(world) as client:
        async with _held(world):
            answers = [await _ask(client, email) for email in (ann.email, bob.email, "nobody@people.example")]
        async with asyncio.timeout(20):
            while len(await _notes(world)) < 3:  # noqa: ASYNC110  what is waited for stands in the database
                await asyncio.sleep(0.01)
    assert answers[0] == answers[1] == answers[2]
    assert (answers[0][0], answers[0][2]["location"]) == (303, "/log-on")
    assert [mail.recipient for mail in await world.outbox()] == [ann.email]


async def test_asking_is_limited_alike_for_accounts_that_are_there_and_not(small_world: World) -> None:
    ann = await small_world.account("ann", Kind.PARTNER)
    for email in (ann.email.upper(), "nobody@people.example"):
        small_world.monotonic[0] += 10_000
        for _ in range(3):
            forgotten.asked(small_world.portal, ADDRESS, email)
        with pytest.raises(TooMany) as told:
            forgotten.asked(small_world.portal, ADDRESS, email.lower())
        assert told.value.retry_after_s == 600


async def test_asking_is_limited_for_one_who_tries_many_addresses(small_world: World) -> None:
    for count in range(10):
        forgotten.asked(small_world.portal, ADDRESS, f"somebody-{count}@people.example")
    with pytest.raises(TooMany) as told:
        forgotten.asked(small_world.portal, ADDRESS, "somebody@people.example")
    assert told.value.retry_after_s == 60
    forgotten.asked(small_world.portal, "192.0.2.8", "somebody@people.example")


async def test_the_page_gives_a_form_back_that_is_wrong_or_comes_too_often(small_world: World) -> None:
    async with served(small_world) as client:
        assert "E-mail address" in (await client.get("/forgotten-password")).text
        status, page, _ = await _ask(client, "no <address>")
        assert (status, "no &lt;address&gt;" in page) == (422, True)
        for _ in range(3):
            assert (await _ask(client, "nobody@people.example"))[0] == 303
        status, page, headers = await _ask(client, "nobody@people.example")
        assert (status, headers["retry-after"], "Too many tries." in page) == (429, "600", True)


async def test_without_a_mail_server_the_page_says_whom_to_ask(tmp_path: Path) -> None:
    settings = load(None, {"data_dir": str(tmp_path / "portal"), "listen": f"127.0.0.1:{free_port()}"})
    async with open_world(settings) as world, served(world) as client:
        ann = await world.account("ann", Kind.PARTNER)
        page = await client.get("/forgotten-password")
        assert (page.status_code, "Ask whoever runs it" in page.text, "<form" in page.text) == (200, True, False)
        assert (await _ask(client, ann.email))[0] == 409
        with pytest.raises(Conflict):
            forgotten.asked(world.portal, ADDRESS, ann.email)
