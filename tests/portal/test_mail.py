"""Mails (R11): handed to a real SMTP server, and kept while there is none."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import TYPE_CHECKING

from sqlalchemy import select

from propagator.portal import accounts, database, forgotten, housekeeping, sending, systems
from propagator.portal.rules import Kind
from propagator.portal.settings import load
from propagator.portal.tables import Account, Audit, Link, Outbox, System
from tests.portal.postbox import Postbox, receiving
from tests.portal.world import World, installation, open_world, served, settings_in
from tests.ports import free_port

if TYPE_CHECKING:
    from pathlib import Path


async def _send(world: World) -> int:
    assert world.portal.settings.mail is not None
    return await sending.send_due(world.portal, world.portal.settings.mail)


async def test_r11_each_edit_is_mailed_to_end_user_integrator_and_contact(tmp_path: Path) -> None:
    port, postbox = free_port(), Postbox()
    async with open_world(settings_in(tmp_path, **{"mail.server": f"127.0.0.1:{port}"})) as world:
        ann, eve = await world.account("ann", Kind.PARTNER), await world.account("eve", Kind.END_USER)
        system = await world.register(eve)
        async with world.db() as db:
            async with database.edit(db):
                (await database.locked(db, System, system.number)).integrator_id = ann.id
            await systems.modify(db, eve, system, installation(site={"type": "multi", "name": "Ä", "company": "C"}))
        with receiving(postbox, port):
            await _send(world)
        changed = [mail for mail in postbox.mails if "changed" in mail["subject"]]
        assert {mail["to"] for mail in changed} == {ann.email, eve.email, "facilities@riverside.example"}
        body = changed[0].get_body()
        assert body is not None
        assert "site.name\n    from: Riverside House\n    to:   Ä" in body.get_content().replace("\r\n", "\n")
        assert f"By:     Eve <{eve.email}>" in body.get_content().replace("\r\n", "\n")
        assert changed[0]["from"] == "portal@people.example"
        assert changed[0]["auto-submitted"] == "auto-generated"
        assert await _send(world) == 0
        assert [(mail.body, mail.error) for mail in await world.outbox() if mail.sent_at is None] == []


async def test_the_portal_sends_by_itself_soon_after_an_edit(tmp_path: Path) -> None:
    port, postbox = free_port(), Postbox()
    with receiving(postbox, port):
        async with open_world(settings_in(tmp_path, **{"mail.server": f"127.0.0.1:{port}"})) as world:
            ann = await world.account("ann", Kind.PARTNER)
            async with served(world):
                await world.register(ann)
                async with asyncio.timeout(20):
                    for _ in range(2):
                        await postbox.came.acquire()
    assert {mail["to"] for mail in postbox.mails} == {ann.email, "facilities@riverside.example"}


async def test_a_mail_waits_for_a_server_that_is_away_and_is_given_up_after_two_days(tmp_path: Path) -> None:
    async with open_world(settings_in(tmp_path)) as world:
        await world.register(await world.account("ann", Kind.PARTNER))
        began = world.clock.now
        for count, wait in enumerate(sending.WAITS, start=1):
            assert await _send(world) == 0
            waiting = await world.outbox()
            assert [mail.tries for mail in waiting] == [count] * 2
            assert [mail.next_at for mail in waiting] == [world.clock.now + wait] * 2
            assert await _send(world) == 0, "not before its time"
            world.clock.forward(seconds=wait.total_seconds())
        assert world.clock.now - began >= dt.timedelta(days=1)
        await _send(world)
        given_up = await world.outbox()
        assert [(mail.next_at, mail.sent_at, mail.body) for mail in given_up] == [(None, None, "")] * 2
        assert all("Connect" in (mail.error or "") for mail in given_up)


async def test_a_mail_that_was_refused_is_sent_later(tmp_path: Path) -> None:
    port, postbox = free_port(), Postbox()
    async with open_world(settings_in(tmp_path, **{"mail.server": f"127.0.0.1:{port}"})) as world:
        await world.register(await world.account("ann", Kind.PARTNER))
        with receiving(postbox, port):
            postbox.refusal = "451 try again later"
            assert await _send(world) == 0
            assert ["451" in (mail.error or "") for mail in await world.outbox()] == [True, True]
            postbox.refusal = ""
            world.clock.forward(minutes=1)
            assert await _send(world) == 2
    assert len(postbox.mails) == 2


async def test_a_name_cannot_write_headers_of_a_mail(tmp_path: Path) -> None:
    port, postbox = free_port(), Postbox()
    async with open_world(settings_in(tmp_path, **{"mail.server": f"127.0.0.1:{port}"})) as world:
        ann = await world.account("ann", Kind.PARTNER)
        await world.register(
            ann, site={"type": "single", "name": "X Bcc: all@x.example =?utf-8?q?=0A?=", "company": "C"}
        )
        with receiving(postbox, port):
            assert await _send(world) == 2
    assert {(mail["bcc"], mail["cc"]) for mail in postbox.mails} == {(None, None)}


async def test_without_a_mail_server_nothing_waits_for_one(tmp_path: Path) -> None:
    settings = load(None, {"data_dir": str(tmp_path / "portal"), "listen": f"127.0.0.1:{free_port()}"})
    async with open_world(settings) as world:
        await world.register(await world.account("ann", Kind.PARTNER))
        assert await world.outbox() == []


async def test_housekeeping_removes_what_is_over(world: World) -> None:
    adm = await world.account("adm", Kind.ADMINISTRATOR)
    async with world.db() as db:
        await accounts.create(db, adm, {"kind": "branch", "email": "b@people.example", "name": "B", "company": "B"})
    for email in ("b@people.example", "nobody@people.example"):
        await forgotten.mail_link(world.portal, "192.0.2.7", email)
    await housekeeping.sweep(world.portal)
    async with world.db() as db:
        assert len((await db.scalars(select(Link))).all()) == 2
    world.clock.forward(days=100)
    await housekeeping.sweep(world.portal)
    async with world.db() as db:
        assert (await db.scalars(select(Link))).all() == []
        assert len((await db.scalars(select(Account))).all()) == 2
        assert {row.action for row in (await db.scalars(select(Audit))).all()} == {"account_made"}
        assert len((await db.scalars(select(Outbox))).all()) == 2, "those that were not sent are kept"
