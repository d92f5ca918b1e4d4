"""Codes, device grants (RFC 8628) and later editions: what servers get, and what they do not."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select

from propagator.core import code, statement
from propagator.core.statement import Proven, Standing
from propagator.portal import audit, bearers, codes, grants, systems
from propagator.portal.bearers import AssociatedElsewhere
from propagator.portal.errors import Conflict, Denied, FieldProblems, NotFound, NotLoggedOn, TooMany
from propagator.portal.grants import Begun, Granted, PollError
from propagator.portal.pages.told import deed
from propagator.portal.rules import Kind
from propagator.portal.tables import Account, Bearer, Grant, IssuedCode, System
from tests.portal.world import World, form, installation

if TYPE_CHECKING:
    from propagator.core.difference import JsonValue


def _wanted(system_id: str = "SYS-1", purpose: str = "register") -> grants.Wanted:
    return grants.wanted(
        {"system_id": system_id, "server_name": "ES 1", "kind": "enterprise-server", "purpose": purpose}
    )


async def _begin(world: World, system_id: str = "SYS-1") -> Begun:
    async with world.db() as db:
        return await grants.begin(db, _wanted(system_id))


async def _poll(world: World, begun: Begun) -> Granted:
    world.clock.forward(seconds=grants.INTERVAL_S)
    async with world.db() as db:
        return await grants.poll(db, begun.device_code)


async def _reason(world: World, begun: Begun) -> str:
    with pytest.raises(PollError) as told:
        await _poll(world, begun)
    return told.value.reason


async def _approve_new(world: World, who: Account, begun: Begun) -> System:
    async with world.db() as db:
        return await grants.approve_new(db, who, await grants.find(db, who, begun.user_code), form())


def _read(world: World, raw: bytes, system_id: str) -> Proven:
    """Read a statement as the server of this System ID does."""
    read = statement.read(raw, Standing(system_id, world.clock.now, {world.portal.key.thumbprint}))
    assert isinstance(read, Proven), read
    return read


async def test_a_code_carries_the_registration_for_the_system_id(world: World) -> None:
    ann = await world.account("ann", Kind.PARTNER)
    system = await world.register(ann, warranty={"start": "2026-01-31", "months": 24})
    async with world.db() as db:
        issued = await codes.issue(db, ann, system)
        kept = (await db.scalars(select(IssuedCode))).one()
        assert (await audit.of_system(db, system.number))[0].action == "code_issued"
    for text in (issued.text, issued.file):
        said = _read(world, code.read(text), "SYS-1").statement
        assert (said.system, said.edition, said.serial) == (system.number, 1, kept.serial)
        assert said.registration is not None
        assert said.registration.document["accounts"] == {
            "integrator": {"kind": "partner", "company": "Ann Ltd", "email": "ann@people.example"}
        }
    assert issued.png is not None
    assert issued.png.startswith(b"\x89PNG")


async def test_each_code_has_a_serial_of_its_own(world: World) -> None:
    ann = await world.account("ann", Kind.PARTNER)
    system = await world.register(ann)
    async with world.db() as db:
        assert (await codes.issue(db, ann, system)).serial != (await codes.issue(db, ann, system)).serial


async def test_codes_are_for_the_two_of_a_system_alone(world: World) -> None:
    ann, bob = await world.account("ann", Kind.PARTNER), await world.account("bob", Kind.PARTNER)
    adm = await world.account("adm", Kind.ADMINISTRATOR)
    system = await world.register(ann)
    async with world.db() as db:
        with pytest.raises(NotFound):
            await codes.issue(db, bob, system)
        with pytest.raises(Denied):
            await codes.issue(db, adm, system)
        await systems.withdraw(db, adm, system)
        with pytest.raises(Conflict):
            await codes.issue(db, ann, system)


async def test_a_code_after_an_association_names_what_it_replaces(world: World) -> None:
    ann = await world.account("ann", Kind.PARTNER)
    system = await world.register(ann)
    async with world.db() as db:
        await systems.associate(db, ann, system, "SYS-2")
        said = _read(world, code.read((await codes.issue(db, ann, system)).text), "SYS-2").statement
    assert (said.replaces, said.edition) == ("SYS-1", 2)


async def test_the_largest_registration_has_a_code_and_no_picture(world: World) -> None:
    ann = await world.account("ann", Kind.PARTNER)
    chance = random.Random(5)
    texts: list[JsonValue] = ["".join(chances) for chances in (chance.choices("äöü€çabcdef", k=190) for _ in range(60))]
    system = await world.register(ann, system={"segments": texts, "applications": [], "transition": []})
    async with world.db() as db:
        issued = await codes.issue(db, ann, system)
    _read(world, code.read(issued.text), "SYS-1")
    assert issued.png is None


async def test_a_server_gets_its_registration_when_it_was_approved(world: World) -> None:
    ann = await world.account("ann", Kind.PARTNER)
    begun = await _begin(world)
    assert await _reason(world, begun) == "authorization_pending"
    system = await _approve_new(world, ann, begun)
    granted = await _poll(world, begun)
    said = _read(world, granted.statement.encode(), "SYS-1").statement
    assert (said.system, said.edition, said.expires_at) == (system.number, 1, None)
    async with world.db() as db:
        signed, edition = await bearers.registration(db, granted.access_token, None)
    assert signed is not None
    assert edition == 1


@pytest.mark.parametrize("typed", [str.lower, lambda code: code.replace("-", ""), lambda code: f" {code} "])
async def test_a_user_code_is_read_as_people_type_it(small_world: World, typed: object) -> None:
    assert callable(typed)
    ann = await small_world.account("ann", Kind.PARTNER)
    begun = await _begin(small_world)
    async with small_world.db() as db:
        assert (await grants.find(db, ann, typed(begun.user_code))).system_id == "SYS-1"


async def test_a_device_code_is_good_once(world: World) -> None:
    ann = await world.account("ann", Kind.PARTNER)
    begun = await _begin(world)
    await _approve_new(world, ann, begun)
    granted = await _poll(world, begun)
    assert await _reason(world, begun) == "invalid_grant"
    async with world.db() as db:
        await bearers.registration(db, granted.access_token, None)  # a replay takes nothing away
        assert await db.scalar(select(func.count()).select_from(Bearer)) == 1
        with pytest.raises(NotFound):
            await grants.find(db, ann, begun.user_code)


async def test_of_two_who_poll_at_once_one_gets_it(world: World) -> None:
    ann = await world.account("ann", Kind.PARTNER)
    begun = await _begin(world)
    await _approve_new(world, ann, begun)
    outcomes = await asyncio.gather(*(_poll(world, begun) for _ in range(4)), return_exceptions=True)
    assert sum(isinstance(outcome, Granted) for outcome in outcomes) == 1
    assert {outcome.reason for outcome in outcomes if isinstance(outcome, PollError)} == {"invalid_grant"}


async def test_an_unknown_device_code_is_refused(small_world: World) -> None:
    async with small_world.db() as db:
        for device_code in ("x", "", "\ud800", "x" * 10_000):
            with pytest.raises(PollError) as told:
                await grants.poll(db, device_code)
            assert told.value.reason == "invalid_grant"


async def test_a_grant_ends_after_a_quarter_of_an_hour(world: World) -> None:
    ann = await world.account("ann", Kind.PARTNER)
    begun = await _begin(world)
    async with world.db() as db:
        grant = await grants.find(db, ann, begun.user_code)
        world.clock.forward(minutes=15)
        with pytest.raises(NotFound):
            await grants.find(db, ann, begun.user_code)
        with pytest.raises(NotFound):
            await grants.approve_new(db, ann, grant, form())
        assert (await systems.visible(db, ann)).total == 0
    assert await _reason(world, begun) == "expired_token"


async def test_a_server_that_asks_too_often_is_slowed_down(world: World) -> None:
    begun = await _begin(world)
    assert await _reason(world, begun) == "authorization_pending"
    async with world.db() as db:
        with pytest.raises(PollError) as told:
            await grants.poll(db, begun.device_code)
        assert told.value.reason == "slow_down"
        assert (await db.scalars(select(Grant.interval_s))).one() == 10


async def test_a_refused_server_is_told(world: World) -> None:
    ann = await world.account("ann", Kind.PARTNER)
    begun = await _begin(world)
    async with world.db() as db:
        grant = await grants.find(db, ann, begun.user_code)
        await grants.deny(db, ann, grant)
        with pytest.raises(NotFound):
            await grants.approve_new(db, ann, grant, form())
    assert await _reason(world, begun) == "access_denied"


async def test_a_server_may_take_an_existing_registration_over(world: World) -> None:
    ann, bob = await world.account("ann", Kind.PARTNER), await world.account("bob", Kind.PARTNER)
    system = await world.register(ann, "OLD")
    first = await _begin(world, "OLD")
    async with world.db() as db:
        await grants.approve(db, ann, await grants.find(db, ann, first.user_code), system)
    old = await _poll(world, first)
    second = await _begin(world, "NEW")
    async with world.db() as db:
        grant = await grants.find(db, bob, second.user_code)
        with pytest.raises(NotFound):  # not one of bob's
            await grants.approve(db, bob, grant, system)
        moved = await grants.approve(db, ann, grant, system)
    assert (moved.system_id, moved.edition) == ("NEW", 2)
    said = _read(world, (await _poll(world, second)).statement.encode(), "NEW").statement
    assert (said.replaces, said.system) == ("OLD", system.number)
    async with world.db() as db:
        with pytest.raises(AssociatedElsewhere):
            await bearers.registration(db, old.access_token, None)


async def test_r1_a_server_of_a_registered_system_is_approved_by_its_people_alone(world: World) -> None:
    ann, bob = await world.account("ann", Kind.PARTNER), await world.account("bob", Kind.PARTNER)
    await world.register(ann)
    begun = await _begin(world)
    async with world.db() as db:
        grant = await grants.find(db, bob, begun.user_code)
        assert await grants.holder(db, bob, grant) is None
        with pytest.raises(Conflict, match="registered already"):
            await grants.approve_new(db, bob, grant, form())
        held = await grants.holder(db, ann, grant)
        assert held is not None
        await grants.approve(db, ann, grant, held)


async def test_an_approval_with_problems_approves_nothing(world: World) -> None:
    ann = await world.account("ann", Kind.PARTNER)
    begun = await _begin(world)
    async with world.db() as db:
        grant = await grants.find(db, ann, begun.user_code)
        with pytest.raises(FieldProblems):
            await grants.approve_new(db, ann, grant, form(contact={"email": ""}))
        assert (await systems.visible(db, ann)).total == 0
    assert await _reason(world, begun) == "authorization_pending"


async def test_every_deed_at_a_system_has_words_in_its_history(world: World) -> None:
    ann = await world.account("ann", Kind.PARTNER)
    begun = await _begin(world)
    system = await _approve_new(world, ann, begun)
    await _poll(world, begun)
    async with world.db() as db:
        await codes.issue(db, ann, await systems.get(db, ann, system.number))
        rows = await audit.of_system(db, system.number)
    assert [deed(row).what for row in rows] == [
        "Got a Registration code",
        "A server fetched the registration: ES 1",
        "Let a server have the registration: ES 1",
        "Registered the system: SYS-1",
    ]


async def test_an_administrator_approves_no_server(small_world: World) -> None:
    adm = await small_world.account("adm", Kind.ADMINISTRATOR)
    begun = await _begin(small_world)
    async with small_world.db() as db:
        with pytest.raises(Denied):
            await grants.find(db, adm, begun.user_code)


async def test_guesses_of_user_codes_are_few(small_world: World) -> None:
    ann = await small_world.account("ann", Kind.PARTNER)
    begun = await _begin(small_world)
    async with small_world.db() as db:
        for _ in range(10):
            with pytest.raises(NotFound):
                await grants.find(db, ann, "BBBB-BBBB")
        with pytest.raises(TooMany):
            await grants.find(db, ann, begun.user_code)


async def test_who_enters_the_right_code_is_not_held_up(small_world: World) -> None:
    ann = await small_world.account("ann", Kind.PARTNER)
    begun = await _begin(small_world)
    async with small_world.db() as db:
        for _ in range(30):  # each page on the way, and each form that comes back, looks it up
            await grants.find(db, ann, begun.user_code)


async def test_one_address_begins_few_grants(small_world: World) -> None:
    for _ in range(30):
        await _begin(small_world)
    with pytest.raises(TooMany):
        await _begin(small_world)


async def test_codes_and_bearers_are_kept_as_hashes(world: World) -> None:
    ann = await world.account("ann", Kind.PARTNER)
    begun = await _begin(world)
    async with world.db() as db:
        kept = repr(vars((await db.scalars(select(Grant))).one()))
    assert begun.device_code not in kept
    assert begun.user_code not in kept
    await _approve_new(world, ann, begun)
    granted = await _poll(world, begun)
    async with world.db() as db:
        assert granted.access_token not in repr(vars((await db.scalars(select(Bearer))).one()))


async def test_later_editions_reach_the_server_that_asks(world: World) -> None:
    ann, adm = await world.account("ann", Kind.PARTNER), await world.account("adm", Kind.ADMINISTRATOR)
    begun = await _begin(world)
    system = await _approve_new(world, ann, begun)
    token = (await _poll(world, begun)).access_token
    async with world.db() as db:
        assert await bearers.registration(db, token, 1) == (None, 1)
        await systems.modify(db, ann, system, installation(contact={"email": "new@riverside.example"}))
    async with world.db() as db:
        signed, edition = await bearers.registration(db, token, 1)
        assert edition == 2
        assert signed is not None
        assert _read(world, signed.jws, "SYS-1").statement.edition == 2
        assert [(one.edition, one.asked_at) for one in await systems.bearers(db, system)] == [(2, world.clock.now)]
        await systems.withdraw(db, adm, system)
    async with world.db() as db:
        signed, edition = await bearers.registration(db, token, 2)
        assert signed is not None
        assert (_read(world, signed.jws, "SYS-1").statement.registration, edition) == (None, 3)


async def test_an_unknown_or_revoked_bearer_opens_nothing(world: World) -> None:
    ann = await world.account("ann", Kind.PARTNER)
    begun = await _begin(world)
    await _approve_new(world, ann, begun)
    token = (await _poll(world, begun)).access_token
    async with world.db() as db:
        held = (await db.scalars(select(Bearer))).one()
        held.revoked_at = world.clock.now
        await db.commit()
    async with world.db() as db:
        for unknown in (token, "x", "\ud800"):
            with pytest.raises(NotLoggedOn):
                await bearers.registration(db, unknown, None)
