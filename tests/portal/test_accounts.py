"""Accounts: log on and lock-out, the first administrator, links, passwords, deactivation."""

from __future__ import annotations

import asyncio
import time
from statistics import median
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select

from propagator.portal import accounts, sessions
from propagator.portal.errors import Conflict, Denied, FieldProblems, NotFound, PortalError, TooMany
from propagator.portal.rules import Kind
from propagator.portal.tables import Account, Audit, Session
from tests.portal.world import PASSWORD, World

if TYPE_CHECKING:
    from propagator.core.difference import JsonObject

PERSON: JsonObject = {"email": "Ada@People.example", "name": "Ada", "company": "Estates", "password": PASSWORD}


async def _refused(world: World, email: str, password: str) -> str:
    async with world.db() as db:
        with pytest.raises(PortalError) as told:
            await accounts.authenticate(db, email, password)
    return str(told.value)


async def test_a_link_makes_the_first_administrator_once(world: World) -> None:
    async with world.db() as db:
        first, second = await accounts.setup_link(db), await accounts.setup_link(db)
        assert first is not None
        assert second is not None
    tokens = [link.rpartition("/")[2] for link in (first, second)]
    async with world.db() as db:
        with pytest.raises(NotFound):  # a newer one was made
            await accounts.set_up(db, tokens[0], PERSON)
        with pytest.raises(FieldProblems) as told:
            await accounts.set_up(db, tokens[1], {**PERSON, "email": "nobody", "password": "short"})
        assert set(told.value.problems) == {"email", "password"}
        made = await accounts.set_up(db, tokens[1], PERSON)
        assert (made.kind, made.email) == (Kind.ADMINISTRATOR, "ada@people.example")
        with pytest.raises(NotFound):
            await accounts.set_up(db, tokens[1], {**PERSON, "email": "b@people.example"})
        assert await accounts.setup_link(db) is None


async def test_of_two_who_use_the_setup_link_at_once_one_is_administrator(world: World) -> None:
    async with world.db() as db:
        link = await accounts.setup_link(db)
    assert link is not None

    async def set_up(email: str) -> Account:
        async with world.db() as db:
            return await accounts.set_up(db, link.rpartition("/")[2], {**PERSON, "email": email})

    outcomes = await asyncio.gather(set_up("a@people.example"), set_up("b@people.example"), return_exceptions=True)
    assert sum(isinstance(outcome, Account) for outcome in outcomes) == 1
    async with world.db() as db:
        assert await db.scalar(select(func.count()).select_from(Account)) == 1


async def test_a_setup_link_works_for_a_day(world: World) -> None:
    async with world.db() as db:
        link = await accounts.setup_link(db)
    assert link is not None
    world.clock.forward(hours=24)
    async with world.db() as db:
        with pytest.raises(NotFound):
            await accounts.set_up(db, link.rpartition("/")[2], PERSON)


async def test_an_address_is_one_account_in_any_case(world: World) -> None:
    ann = await world.account("ann", Kind.PARTNER)
    with pytest.raises(Conflict):
        await world.account("ANN", Kind.END_USER)
    async with world.db() as db:
        assert (await accounts.authenticate(db, " ANN@People.example ", PASSWORD)).id == ann.id


async def test_every_refused_log_on_reads_the_same(world: World) -> None:
    adm = await world.account("adm", Kind.ADMINISTRATOR)
    ann = await world.account("ann", Kind.PARTNER)
    bob = await world.account("bob", Kind.PARTNER)
    async with world.db() as db:
        await accounts.set_active(db, adm, bob, active=False)
        await accounts.create(db, adm, {"kind": "branch", "email": "new@people.example", "name": "N", "company": "N"})
    said = {
        await _refused(world, ann.email, "wrong"),
        await _refused(world, "nobody@people.example", PASSWORD),
        await _refused(world, bob.email, PASSWORD),
        await _refused(world, "new@people.example", ""),
        await _refused(world, "\x00", "\ud800"),
        await _refused(world, "x" * 5000, "x" * 5000),
    }
    assert len(said) == 1


async def test_ten_failures_lock_an_account_for_a_quarter_of_an_hour(world: World) -> None:
    ann = await world.account("ann", Kind.PARTNER)
    for _ in range(accounts.FAILURES):
        world.monotonic[0] += 100
        await _refused(world, ann.email, "wrong")
    assert [mail.subject for mail in await world.outbox()] == ["Your account is locked for a while"]
    world.monotonic[0] += 1000
    await _refused(world, ann.email, PASSWORD)
    world.clock.forward(minutes=14)
    await _refused(world, ann.email, PASSWORD)
    world.clock.forward(minutes=1)
    async with world.db() as db:
        assert (await accounts.authenticate(db, ann.email, PASSWORD)).failures == 0


async def test_log_ons_in_between_begin_the_count_anew(small_world: World) -> None:
    ann = await small_world.account("ann", Kind.PARTNER)
    for attempt in range(accounts.FAILURES * 2):
        small_world.monotonic[0] += 100
        if attempt % (accounts.FAILURES - 1) == 0:
            async with small_world.db() as db:
                await accounts.authenticate(db, ann.email, PASSWORD)
        else:
            await _refused(small_world, ann.email, "wrong")
    async with small_world.db() as db:
        await accounts.authenticate(db, ann.email, PASSWORD)


async def test_tries_are_limited_alike_for_accounts_that_are_there_and_not(small_world: World) -> None:
    await small_world.account("ann", Kind.PARTNER)
    for email in ("ann@people.example", "nobody@people.example"):
        small_world.monotonic[0] += 10_000
        for _ in range(10):
            await _refused(small_world, email, "wrong")
        async with small_world.db() as db:
            with pytest.raises(TooMany) as told:
                await accounts.authenticate(db, email, PASSWORD)
        assert told.value.retry_after_s == 30


async def test_who_logs_on_again_and_again_is_not_held_up(small_world: World) -> None:
    ann = await small_world.account("ann", Kind.PARTNER)
    async with small_world.db() as db:
        for _ in range(12):
            await accounts.authenticate(db, ann.email, PASSWORD)


async def test_an_account_that_is_not_there_takes_as_long(small_world: World) -> None:
    await small_world.account("ann", Kind.PARTNER)
    took: dict[str, list[float]] = {"ann@people.example": [], "nobody@people.example": []}
    for _ in range(5):
        for email, times in took.items():
            small_world.monotonic[0] += 1000
            began = time.perf_counter()
            await _refused(small_world, email, "wrong")
            times.append(time.perf_counter() - began)
    known, unknown = (median(times) for times in took.values())
    assert 0.5 < known / unknown < 2, (known, unknown)


async def test_passwords_and_sessions_are_kept_as_hashes(world: World) -> None:
    ann = await world.account("ann", Kind.PARTNER)
    async with world.db() as db:
        token = await sessions.begin(db, ann)
        held = (await db.scalars(select(Session))).one()
        row = (await db.scalars(select(Account))).one()
    assert token not in repr(vars(held))
    assert (row.password_hash or "").startswith("$argon2id$")


async def test_a_session_ends_after_an_hour_without_a_request_and_after_twelve(world: World) -> None:
    ann = await world.account("ann", Kind.PARTNER)
    async with world.db() as db:
        idle, used = await sessions.begin(db, ann), await sessions.begin(db, ann)
    for _ in range(12):
        world.clock.forward(minutes=59)
        async with world.db() as db:
            assert await sessions.find(db, used) is not None
    async with world.db() as db:
        assert await sessions.find(db, idle) is None
        assert await sessions.find(db, "no such token") is None
    world.clock.forward(minutes=12)
    async with world.db() as db:
        assert await sessions.find(db, used) is None


async def test_deactivation_ends_sessions_and_links_at_once(world: World) -> None:
    adm, ann = await world.account("adm", Kind.ADMINISTRATOR), await world.account("ann", Kind.PARTNER)
    async with world.db() as db:
        token = await sessions.begin(db, ann)
        url = await accounts.reset(db, adm, ann)
        await accounts.set_active(db, adm, ann, active=False)
        assert await sessions.find(db, token) is None
        with pytest.raises(NotFound):
            await accounts.choose_password(db, url.rpartition("/")[2], PASSWORD)
        await accounts.set_active(db, adm, ann, active=True)
        assert await sessions.find(db, token) is None
        await accounts.authenticate(db, ann.email, PASSWORD)


async def test_an_administrator_does_not_deactivate_itself(world: World) -> None:
    adm = await world.account("adm", Kind.ADMINISTRATOR)
    async with world.db() as db:
        with pytest.raises(Conflict):
            await accounts.set_active(db, adm, adm, active=False)


@pytest.mark.parametrize("kind", [Kind.BRANCH, Kind.PARTNER, Kind.END_USER])
async def test_nobody_else_keeps_accounts(small_world: World, kind: Kind) -> None:
    ann = await small_world.account("ann", kind)
    async with small_world.db() as db:
        for attempt in (
            lambda: accounts.listed(db, ann),
            lambda: accounts.get(db, ann, ann.id),
            lambda: accounts.create(db, ann, {}),
            lambda: accounts.reset(db, ann, ann),
            lambda: accounts.set_active(db, ann, ann, active=False),
        ):
            with pytest.raises(Denied):
                await attempt()


async def test_a_new_account_chooses_its_password_by_a_link(world: World) -> None:
    adm = await world.account("adm", Kind.ADMINISTRATOR)
    wanted: JsonObject = {"kind": "branch", "email": "Bea@people.example", "name": "Bea", "company": "Branch"}
    async with world.db() as db:
        with pytest.raises(FieldProblems) as told:
            await accounts.create(db, adm, {"kind": "king", "email": "x", "name": "", "company": "a\x00"})
        assert set(told.value.problems) == {"kind", "email", "name", "company"}
        _, url = await accounts.create(db, adm, wanted)
        with pytest.raises(Conflict):
            await accounts.create(db, adm, wanted)
        token = url.rpartition("/")[2]
        with pytest.raises(FieldProblems):
            await accounts.choose_password(db, token, "bea")
        await accounts.choose_password(db, token, PASSWORD)
        with pytest.raises(NotFound):
            await accounts.choose_password(db, token, PASSWORD)
        assert (await accounts.authenticate(db, "bea@people.example", PASSWORD)).kind is Kind.BRANCH
    [mail] = await world.outbox()  # a first password is no changed one
    assert url in mail.body


async def test_a_changed_password_ends_the_other_sessions(world: World) -> None:
    ann = await world.account("ann", Kind.PARTNER)
    async with world.db() as db:
        mine, other = await sessions.begin(db, ann), await sessions.begin(db, ann)
        visit = await sessions.find(db, mine)
        assert visit is not None
        with pytest.raises(FieldProblems) as told:
            await accounts.change_password(db, visit, "wrong", "short")
        assert set(told.value.problems) == {"current", "password"}
        await accounts.change_password(db, visit, PASSWORD, "another long password")
        assert await sessions.find(db, other) is None
        assert await sessions.find(db, mine) is not None
        await accounts.authenticate(db, ann.email, "another long password")
        assert await db.scalar(select(func.count()).select_from(Audit).where(Audit.action == "password_changed")) == 1
    assert [(mail.recipient, mail.subject) for mail in await world.outbox()] == [
        (ann.email, "Your password was changed")
    ]
