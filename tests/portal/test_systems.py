"""Registered systems: who may do what with them, on both databases (R1, R8 to R12)."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select

from propagator.portal import audit, invitations, systems
from propagator.portal.errors import Conflict, Denied, FieldProblems, NotFound
from propagator.portal.rules import Kind
from propagator.portal.tables import Account, Audit, Link, Outbox, System
from tests.portal.world import PASSWORD, World, installation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from propagator.core.difference import JsonObject

CONSENTS: JsonObject = {"system_information": True, "personal_information": True}


async def _join(world: World, system: System, by: Account, name: str, kind: Kind) -> Account:
    """Invite somebody new into the free slot, and accept."""
    email = f"{name}@people.example"
    async with world.db() as db:
        await invitations.invite(db, by, system, email, kind)
    token = _link_to(await world.outbox(), email)
    answers: JsonObject = {
        "name": name.title(),
        "company": f"{name.title()} Ltd",
        "password": PASSWORD,
        "consents": CONSENTS,
    }
    async with world.db() as db:
        account, _ = await invitations.accept(db, token, answers, None)
    world.people[name] = account
    return account


def _link_to(mails: list[Outbox], email: str) -> str:
    body = next(mail.body for mail in reversed(mails) if mail.recipient == email and "/link/" in mail.body)
    return body.partition("/link/")[2].split()[0]


async def _reload(world: World, system: System) -> System:
    async with world.db() as db:
        found = await db.get(System, system.number)
    assert found is not None
    return found


@pytest.mark.parametrize("kind", [Kind.BRANCH, Kind.PARTNER, Kind.END_USER])
async def test_who_registers_takes_the_slot_of_its_kind(world: World, kind: Kind) -> None:
    who = await world.account("ann", kind)
    system = await world.register(who)
    slots = (system.integrator_id, system.end_user_id)
    assert slots == ((None, who.id) if kind is Kind.END_USER else (who.id, None))
    assert (system.edition, system.state, system.system_id) == (1, "registered", "SYS-1")


async def test_an_administrator_registers_nothing(world: World) -> None:
    admin = await world.account("adm", Kind.ADMINISTRATOR)
    with pytest.raises(Denied):
        await world.register(admin)


async def test_r1_a_system_id_is_registered_once(world: World) -> None:
    ann, bob = await world.account("ann", Kind.PARTNER), await world.account("bob", Kind.PARTNER)
    await world.register(ann)
    with pytest.raises(Conflict, match="registered already") as told:
        await world.register(bob)
    assert told.value.field == "system_id"


async def test_r6_system_ids_that_differ_in_case_are_two(world: World) -> None:
    ann = await world.account("ann", Kind.PARTNER)
    first, second = await world.register(ann, "Sys-1"), await world.register(ann, "SYS-1")
    assert first.number != second.number


async def test_r1_of_two_who_register_one_system_id_at_once_one_wins(world: World) -> None:
    people = [await world.account(name, Kind.PARTNER) for name in ("ann", "bob", "cyd", "dan")]
    outcomes = await asyncio.gather(*(world.register(who) for who in people), return_exceptions=True)
    assert sum(isinstance(outcome, System) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 3
    async with world.db() as db:
        assert await db.scalar(select(func.count()).select_from(System)) == 1
        assert await db.scalar(select(func.count()).select_from(Audit).where(Audit.action == "registered")) == 1


async def test_r8_both_consents_are_needed(world: World) -> None:
    ann = await world.account("ann", Kind.PARTNER)
    with pytest.raises(FieldProblems) as told:
        await world.register(ann, consents={"system_information": True, "personal_information": False})
    assert set(told.value.problems) == {"consents.personal_information"}


async def test_r10_an_end_user_enters_no_warranty(world: World) -> None:
    eve = await world.account("eve", Kind.END_USER)
    with pytest.raises(FieldProblems) as told:
        await world.register(eve, warranty={"start": "2026-01-31", "months": 24})
    assert set(told.value.problems) == {"warranty"}


async def test_every_problem_of_a_form_is_told_at_once(world: World) -> None:
    ann = await world.account("ann", Kind.PARTNER)
    async with world.db() as db:
        with pytest.raises(FieldProblems) as told:
            await systems.register(db, ann, "two words", {"site": {"type": "single", "name": ""}, "bogus": 1})
    assert set(told.value.problems) >= {
        "system_id",
        "site.name",
        "site.company",
        "address",
        "contact",
        "bogus",
        "consents.system_information",
    }
    assert await world.outbox() == []


@pytest.mark.parametrize("text", ["\ud800", "a\x00b", "\u202eabc", "two\nlines", "x" * 201, "x" * 40_000, ""])
async def test_a_text_that_no_registration_holds_is_a_problem_beside_its_field(small_world: World, text: str) -> None:
    ann = await small_world.account("ann", Kind.PARTNER)
    with pytest.raises(FieldProblems) as told:
        await small_world.register(ann, site={"type": "single", "name": text, "company": "Riverside"})
    assert set(told.value.problems) <= {"site.name", ""}


async def test_a_stranger_does_not_learn_that_a_system_is_there(world: World) -> None:
    ann, bob = await world.account("ann", Kind.PARTNER), await world.account("bob", Kind.PARTNER)
    system = await world.register(ann)
    async with world.db() as db:
        attempts: tuple[Callable[[], Awaitable[System]], ...] = (
            lambda: systems.get(db, bob, system.number),
            lambda: systems.get(db, bob, "R-000000"),
            lambda: systems.modify(db, bob, system, installation()),
            lambda: systems.associate(db, bob, system, "SYS-2"),
            lambda: systems.set_warranty(db, bob, system, None),
            lambda: systems.set_consents(db, bob, system, dict(CONSENTS)),
            lambda: systems.withdraw(db, bob, system),
            lambda: systems.free_slot(db, bob, system, "integrator"),
        )
        for attempt in attempts:
            with pytest.raises(NotFound):
                await attempt()
        assert (await systems.visible(db, bob)).total == 0
        assert (await systems.visible(db, ann)).total == 1
    assert (await _reload(world, system)).edition == 1


async def test_a_change_is_one_edition_one_audit_row_and_mails_to_those_of_r11(world: World) -> None:
    ann = await world.account("ann", Kind.PARTNER)
    system = await world.register(ann)
    before = len(await world.outbox())
    async with world.db() as db:
        changed = await systems.modify(db, ann, system, installation(contact={"email": "new@riverside.example"}))
        history = await audit.of_system(db, system.number)
    assert changed.edition == 2
    assert [row.action for row in history] == ["modified", "registered"]
    assert history[0].detail["changes"] == [
        {"path": "contact.email", "from": "facilities@riverside.example", "to": "new@riverside.example"}
    ]
    assert (history[0].who, history[0].address) == (ann.email, "192.0.2.7")
    mails = (await world.outbox())[before:]
    assert {mail.recipient for mail in mails} == {
        "ann@people.example",
        "facilities@riverside.example",
        "new@riverside.example",
    }
    assert all("from: facilities@riverside.example" in mail.body for mail in mails)


async def test_a_change_of_nothing_leaves_no_trace(world: World) -> None:
    ann = await world.account("ann", Kind.PARTNER)
    system = await world.register(ann)
    mails = len(await world.outbox())
    async with world.db() as db:
        assert (await systems.modify(db, ann, system, installation())).edition == 1
        assert len(await audit.of_system(db, system.number)) == 1
    assert len(await world.outbox()) == mails


async def test_a_change_with_problems_changes_nothing(world: World) -> None:
    ann = await world.account("ann", Kind.PARTNER)
    system = await world.register(ann)
    async with world.db() as db:
        with pytest.raises(FieldProblems) as told:
            await systems.modify(db, ann, system, installation(contact={"email": "nobody"}))
        with pytest.raises(FieldProblems):
            await systems.modify(db, ann, system, {**installation(), "warranty": {"start": "2026-01-01", "months": 1}})
        assert ann.name == "Ann", "what was loaded stays readable for the page that shows the problems"
    assert set(told.value.problems) == {"contact.email"}
    assert (await _reload(world, system)).edition == 1


async def test_r9_an_integrator_edits_until_an_end_user_joins(world: World) -> None:
    ann = await world.account("ann", Kind.PARTNER)
    system = await world.register(ann)
    eve = await _join(world, system, ann, "eve", Kind.END_USER)
    async with world.db() as db:
        with pytest.raises(Denied, match="end-user"):
            await systems.modify(db, ann, system, installation(site={"type": "multi", "name": "X", "company": "Y"}))
        with pytest.raises(Denied, match="end-user"):
            await systems.set_consents(db, ann, system, dict(CONSENTS))
        changed = await systems.modify(
            db, eve, system, installation(site={"type": "multi", "name": "X", "company": "Y"})
        )
        assert changed.edition == 3
        assert (await systems.set_warranty(db, ann, system, {"start": "2026-01-31", "months": 24})).edition == 4
        with pytest.raises(Denied):
            await systems.set_warranty(db, eve, system, None)


async def test_r8_an_end_user_gives_the_consents_in_person_when_joining(world: World) -> None:
    ann = await world.account("ann", Kind.PARTNER)
    system = await world.register(ann)
    assert [entry["in_person"] for entry in system.consented.values() if isinstance(entry, dict)] == [False, False]
    eve = await _join(world, system, ann, "eve", Kind.END_USER)
    joined = await _reload(world, system)
    assert joined.end_user_id == eve.id
    assert [(e["by"], e["in_person"]) for e in joined.consented.values() if isinstance(e, dict)] == [
        ("eve@people.example", True)
    ] * 2
    async with world.db() as db:
        taken_back = await systems.set_consents(
            db, eve, joined, {"system_information": True, "personal_information": False}
        )
    assert json.loads(taken_back.document)["consents"] == {"system_information": True, "personal_information": False}


async def test_r8_joining_without_both_consents_is_refused(world: World) -> None:
    ann = await world.account("ann", Kind.PARTNER)
    system = await world.register(ann)
    async with world.db() as db:
        await invitations.invite(db, ann, system, "eve@people.example", Kind.END_USER)
    token = _link_to(await world.outbox(), "eve@people.example")
    answers: JsonObject = {
        "name": "Eve",
        "company": "E",
        "password": PASSWORD,
        "consents": {"system_information": True},
    }
    async with world.db() as db:
        with pytest.raises(FieldProblems) as told:
            await invitations.accept(db, token, answers, None)
    assert set(told.value.problems) == {"consents.personal_information"}
    async with world.db() as db:  # the link still works
        await invitations.accept(db, token, {**answers, "consents": CONSENTS}, None)


async def test_r1_of_two_who_accept_an_invitation_at_once_one_joins(world: World) -> None:
    eve = await world.account("eve", Kind.END_USER)
    system = await world.register(eve)
    tokens = []
    for name in ("ann", "bob"):
        async with world.db() as db:
            await invitations.invite(db, eve, system, f"{name}@people.example", Kind.PARTNER)
        tokens.append(_link_to(await world.outbox(), f"{name}@people.example"))

    async def accept(name: str, token: str) -> Account:
        async with world.db() as db:
            answers: JsonObject = {"name": name, "company": name, "password": PASSWORD}
            return (await invitations.accept(db, token, answers, None))[0]

    outcomes = await asyncio.gather(accept("ann", tokens[0]), accept("bob", tokens[1]), return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Account", "Conflict"]
    joined = next(outcome for outcome in outcomes if isinstance(outcome, Account))
    assert (await _reload(world, system)).integrator_id == joined.id
    async with world.db() as db:
        made = await db.scalar(select(func.count()).select_from(Account).where(Account.kind == Kind.PARTNER))
        assert made == 1, "whoever did not join has no account"


async def test_r1_a_taken_slot_is_offered_to_nobody(world: World) -> None:
    ann = await world.account("ann", Kind.PARTNER)
    system = await world.register(ann)
    eve = await _join(world, system, ann, "eve", Kind.END_USER)
    system = await _reload(world, system)
    async with world.db() as db:
        with pytest.raises(Conflict, match="taken"):
            await invitations.invite(db, ann, system, "eva@people.example", Kind.END_USER)
        with pytest.raises(Conflict, match="taken"):
            await invitations.invite(db, eve, system, "abe@people.example", Kind.BRANCH)
        with pytest.raises(Denied):  # an integrator invites no second integrator
            await invitations.invite(db, ann, system, "abe@people.example", Kind.BRANCH)


async def test_an_invitation_opens_nobodys_account(world: World) -> None:
    ann, eve = await world.account("ann", Kind.PARTNER), await world.account("eve", Kind.END_USER)
    system = await world.register(ann)
    async with world.db() as db:
        await invitations.invite(db, ann, system, eve.email, Kind.END_USER)
    token = _link_to(await world.outbox(), eve.email)
    async with world.db() as db:
        with pytest.raises(Denied, match="has an account"):
            await invitations.accept(db, token, {"password": PASSWORD, "consents": CONSENTS}, None)
        with pytest.raises(Denied, match="has an account"):
            await invitations.accept(db, token, {"consents": CONSENTS}, ann)
        joined, _ = await invitations.accept(db, token, {"consents": CONSENTS}, eve)
    assert joined.id == eve.id
    async with world.db() as db:
        with pytest.raises(NotFound):  # once
            await invitations.accept(db, token, {"consents": CONSENTS}, eve)


async def test_r12_a_new_system_id_takes_the_registration_over(world: World) -> None:
    ann = await world.account("ann", Kind.PARTNER)
    system = await world.register(ann)
    other = await world.register(ann, "SYS-9")
    async with world.db() as db:
        moved = await systems.associate(db, ann, system, "SYS-2")
        assert (moved.system_id, moved.edition, moved.number) == ("SYS-2", 2, system.number)
        assert [former.system_id for former in await systems.formers(db, moved)] == ["SYS-1"]
        with pytest.raises(Conflict):
            await systems.associate(db, ann, moved, "SYS-9")
        with pytest.raises(Conflict):
            await systems.associate(db, ann, moved, "SYS-2")
        with pytest.raises(FieldProblems):
            await systems.associate(db, ann, moved, "")
        assert (await systems.visible(db, ann, "sys-2")).total == 1
        assert (await systems.visible(db, ann, "sys-1")).total == 0
    assert (await _reload(world, other)).edition == 1


async def test_r1_of_two_associations_with_one_system_id_one_wins(world: World) -> None:
    ann = await world.account("ann", Kind.PARTNER)
    held = [await world.register(ann, f"SYS-{number}") for number in range(3)]

    async def associate(system: System) -> System:
        async with world.db() as db:
            return await systems.associate(db, ann, system, "NEW")

    outcomes = await asyncio.gather(*map(associate, held), return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Conflict", "Conflict", "System"]


async def test_an_administrator_frees_a_slot_and_withdraws(world: World) -> None:
    ann, adm = await world.account("ann", Kind.PARTNER), await world.account("adm", Kind.ADMINISTRATOR)
    system = await world.register(ann)
    async with world.db() as db:
        with pytest.raises(Denied):
            await systems.free_slot(db, ann, system, "integrator")
        with pytest.raises(Denied):
            await systems.withdraw(db, ann, system)
        with pytest.raises(Denied):
            await systems.modify(db, adm, system, installation())
        with pytest.raises(Conflict):
            await systems.free_slot(db, adm, system, "end_user")
        freed = await systems.free_slot(db, adm, system, "integrator")
        assert (freed.integrator_id, freed.edition) == (None, 2)
        with pytest.raises(NotFound):
            await systems.get(db, ann, system.number)
        assert (await systems.withdraw(db, adm, freed)).edition == 3
        with pytest.raises(Conflict, match="withdrawn"):
            await systems.withdraw(db, adm, freed)


async def test_a_withdrawn_registration_lets_go_of_its_system_id(world: World) -> None:
    ann, adm = await world.account("ann", Kind.PARTNER), await world.account("adm", Kind.ADMINISTRATOR)
    system = await world.register(ann)
    async with world.db() as db:
        await systems.withdraw(db, adm, system)
        with pytest.raises(Conflict, match="withdrawn"):
            await systems.modify(db, ann, system, installation())
    anew = await world.register(ann)
    assert anew.number != system.number
    assert (await _reload(world, system)).system_id is None


async def test_a_search_finds_in_any_case_and_takes_signs_as_text(world: World) -> None:
    ann = await world.account("ann", Kind.PARTNER)
    await world.register(ann, "SYS-1", site={"type": "single", "name": "100% Müller_Haus", "company": "M"})
    await world.register(ann, "SYS-2")
    async with world.db() as db:
        for query, found in (
            ("müller", 1),
            ("MÜLLER haus", 1),
            ("100%", 1),
            ("%", 1),
            ("_", 1),
            ("bristol", 2),
            ("' OR 1=1 --", 0),
            ("\\", 0),
            ("a\x00b", 0),
            ("\ud800", 0),
            ("", 2),
        ):
            assert (await systems.visible(db, ann, query)).total == found, query


async def test_pages_of_systems_hold_fifty(world: World) -> None:
    ann = await world.account("ann", Kind.PARTNER)
    for number in range(53):
        await world.register(ann, f"SYS-{number}")
    async with world.db() as db:
        first, last, beyond = [await systems.visible(db, ann, page=page) for page in (0, 2, 99)]
    assert (len(first.systems), first.page, first.pages, first.total) == (50, 1, 2, 53)
    assert (len(last.systems), beyond.page) == (3, 2)


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "'; DROP TABLE system; --", "{{ 7*7 }}", "../../etc"])
async def test_an_injection_is_kept_as_the_text_it_is(world: World, text: str) -> None:
    ann = await world.account("ann", Kind.PARTNER)
    system = await world.register(ann, site={"type": "single", "name": text, "company": text})
    assert json.loads((await _reload(world, system)).document)["site"]["name"] == text


async def test_links_are_kept_as_hashes(world: World) -> None:
    ann = await world.account("ann", Kind.PARTNER)
    system = await world.register(ann)
    async with world.db() as db:
        await invitations.invite(db, ann, system, "eve@people.example", Kind.END_USER)
        link = (await db.scalars(select(Link))).one()
    assert _link_to(await world.outbox(), "eve@people.example") not in repr(vars(link))
