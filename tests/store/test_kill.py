"""F32: a process killed before, between and after the statements of one change leaves all of the change or none of it.

Each case forks; the child ends by `os._exit` in the middle of its transaction, as `kill -9` would end it, and the file
that it leaves is read whole.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from random import Random
from typing import TYPE_CHECKING, Final

import pytest

from propagator.core import moment, statement
from propagator.core.state import DownlinkState, Origin
from propagator.core.statement import Refusal
from propagator.entering import Offer
from propagator.issuing import Issuer
from propagator.reconcile import reconcile
from propagator.register import accept, register
from propagator.store import connection, held, issued, members, uplinks
from tests.store.contents import (
    AT,
    DEVICE,
    ES,
    LATER,
    LEAD,
    attach,
    bound,
    following,
    invited,
    lead_keys,
    link_to,
    opened_for,
    picture,
)
from tests.unit.builders import key, registered, v
from tests.unit.test_statement import said

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from propagator.store import Store
    from propagator.store.connection import Value

KILLED: Final = 9
BROKEN: Final = 70


class Dying(connection.Tx):
    """A transaction whose process dies after so many statements; `left` counts for the whole process."""

    left = 0

    async def one(self, sql: str, *values: Value) -> sqlite3.Row | None:
        self._die_if_due()
        return await super().one(sql, *values)

    async def all(self, sql: str, *values: Value) -> list[sqlite3.Row]:
        self._die_if_due()
        return await super().all(sql, *values)

    async def run(self, sql: str, *values: Value) -> int:
        self._die_if_due()
        return await super().run(sql, *values)

    @classmethod
    def _die_if_due(cls) -> None:
        if cls.left == 0:
            os._exit(KILLED)
        cls.left -= 1


async def overwritten(store: Store) -> None:
    await reconcile(store, following(), LEAD.signed("1.2.aaaa.3", registered("Second")), LATER)


async def overwritten_first(store: Store) -> None:
    await reconcile(store, following(), LEAD.signed("1.2.aaaa.2", registered("First")), LATER)


async def withdrawn(store: Store) -> None:
    await reconcile(store, following(), LEAD.signed("1.2.aaaa.3"), LATER)


async def quarantined(store: Store) -> None:
    await reconcile(store, following(), LEAD.forged(b"{}"), LATER)


async def attached(store: Store) -> None:
    async with store.transaction() as tx:
        await uplinks.attach(tx, link_to(), seq=1, lowest=v("1.1.aaaa.1"), at=LATER)


async def detached(store: Store) -> None:
    async with store.transaction() as tx:
        await uplinks.detach(tx, restore=False, at=LATER)


async def restored(store: Store) -> None:
    async with store.transaction() as tx:
        await uplinks.detach(tx, restore=True, at=LATER)


async def issued_anew(store: Store) -> None:
    await Issuer(lead_keys(), Random(7), 7).issue(store, LATER)


async def changed(store: Store) -> None:
    await register(store, registered("Changed"), at=LATER)


async def entered(store: Store) -> None:
    what = said().model_copy(update={"system_id": ES.system_id})
    offer = Offer(statement.seal(what, key("portal")), Origin.CODE, trusted=key("portal").thumbprint)
    assert not isinstance(await accept(store, offer, moment.read(LATER)), Refusal)


async def bound_to_key(store: Store) -> None:
    async with store.transaction() as tx:
        await members.bind(tx, bound(), at=LATER)


async def revoked(store: Store) -> None:
    async with store.transaction() as tx:
        await members.revoke(tx, "device-2", LATER)


async def device(state_dir: Path) -> None:
    """A device that follows no lead yet."""
    async with opened_for(state_dir) as store:
        await register(store, registered("Own House"), at=AT)


async def shadow(state_dir: Path) -> None:
    """A shadow that holds its lead's first registration."""
    await device(state_dir)
    async with opened_for(state_dir) as store:
        await attach(store)
        await overwritten_first(store)


async def lead(state_dir: Path) -> None:
    """A lead with a change that waits, an open invitation and a shadow."""
    async with opened_for(state_dir, ES) as store:
        async with store.transaction() as tx:
            await issued.create(tx, "embedded", DownlinkState.OK)
            await Issuer(lead_keys(), Random(1)).sign(tx, v("1.1.aaaa.1"), AT)
            await members.invite(tx, invited("device-1"))
            await members.invite(tx, invited("device-2"))
            await members.bind(tx, bound("device-2", serial="2" * 32), at=AT)
        await register(store, registered("First"), at=AT)


CHANGES: Final = [
    pytest.param(shadow, overwritten, 8, id="overwrite of a lead's record"),
    pytest.param(shadow, withdrawn, 4, id="withdrawal"),
    pytest.param(shadow, quarantined, 5, id="quarantine"),
    pytest.param(device, attached, 6, id="attach"),
    pytest.param(shadow, detached, 5, id="detach"),
    pytest.param(shadow, restored, 9, id="detach --restore"),
    pytest.param(lead, issued_anew, 8, id="issue"),
    pytest.param(lead, changed, 5, id="register"),
    pytest.param(lead, entered, 10, id="accept"),
    pytest.param(lead, bound_to_key, 2, id="bind"),
    pytest.param(lead, revoked, 3, id="revoke"),
]


@pytest.mark.parametrize(("prepare", "change", "least"), CHANGES)
def test_f32_change_killed_between_any_two_statements_is_kept_whole_or_not_at_all(
    tmp_path: Path, prepare: Callable[[Path], Awaitable[None]], change: Callable[[Store], Awaitable[None]], least: int
) -> None:
    template = tmp_path / "template"
    asyncio.run(_await(prepare(template)))
    before = picture(template)
    seen = []
    for statements in range(100):
        state_dir = tmp_path / str(statements)
        shutil.copytree(template, state_dir)
        ended = _in_a_process_that_dies(state_dir, change, statements)
        seen.append(picture(state_dir))
        asyncio.run(_is_usable(state_dir))
        if ended == 0:
            break
        assert ended == KILLED, f"the child failed before statement {statements}"
        assert seen[-1] == before, f"killed before statement {statements}"
    assert seen[-1] != before, "the change that nobody killed was kept"
    assert len(seen) > least, "every statement had its turn"


@pytest.mark.parametrize(("prepare", "change", "least"), CHANGES)
def test_f32_change_killed_right_after_its_commit_is_kept(
    tmp_path: Path, prepare: Callable[[Path], Awaitable[None]], change: Callable[[Store], Awaitable[None]], least: int
) -> None:
    """Durable means before anybody is told: nothing that comes after the commit may be needed."""
    asyncio.run(_await(prepare(tmp_path / "whole")))
    shutil.copytree(tmp_path / "whole", tmp_path / "killed")
    assert least
    assert _in_a_process_that_dies(tmp_path / "whole", change, 1000) == 0
    assert _in_a_process_that_dies(tmp_path / "killed", change, 1000, after=True) == KILLED
    assert picture(tmp_path / "killed") == picture(tmp_path / "whole")


def test_f32_database_whose_making_was_killed_is_made_by_the_next_try(tmp_path: Path) -> None:
    for statements in range(3):
        state_dir = tmp_path / str(statements)
        state_dir.mkdir()
        (state_dir / ".propagator.db").write_bytes(b"half" * statements)
        (state_dir / ".propagator.db-wal").write_bytes(b"half")
        asyncio.run(device(state_dir))
        assert picture(state_dir)["server"]


def _in_a_process_that_dies(
    state_dir: Path, change: Callable[[Store], Awaitable[None]], statements: int, *, after: bool = False
) -> int:
    """Give how a child ended that makes the change: KILLED before its nth statement or, with `after`, at its end."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    ended = BROKEN
    try:
        asyncio.run(_change(state_dir, change, statements, after=after))
        ended = 0
    finally:
        os._exit(ended)


async def _change(state_dir: Path, change: Callable[[Store], Awaitable[None]], statements: int, *, after: bool) -> None:
    async with connection.opened(state_dir) as store:
        Dying.left = statements
        connection.Tx = Dying  # type: ignore[misc]  # this process is about to die
        await change(store)
        if after:
            os._exit(KILLED)


async def _await(work: Awaitable[None]) -> None:
    await work


async def _is_usable(state_dir: Path) -> None:
    """A killed process leaves no lock: the next one reads and writes at once."""
    async with connection.opened(state_dir) as store, store.transaction() as tx:
        await held.begin_session(tx, 99)
        assert (await held.server(tx)).id in {DEVICE.id, ES.id}
