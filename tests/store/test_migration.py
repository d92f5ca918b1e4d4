"""A database of an older program: read as it is, migrated by who writes first, and never left between (DESIGN §6)."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from propagator import snapshot
from propagator import status as statuses
from propagator.core import moment
from propagator.register import register
from propagator.snapshot import connection as reading
from propagator.store import connection, held, portals
from propagator.store.migration import SCHEMA_VERSION, migrate
from tests import states
from tests.store.contents import AT, LATER, opened_for, picture
from tests.store.test_kill import BROKEN, KILLED, Dying
from tests.unit.builders import registered

if TYPE_CHECKING:
    from collections.abc import Callable

OLD: Final = Path(__file__).with_name("schema-1.sql").read_text(encoding="utf-8")


def version_of(state_dir: Path) -> int:
    with closing(sqlite3.connect(state_dir / connection.FILE_NAME)) as database:
        return int(database.execute("PRAGMA user_version").fetchone()[0])


def made_old(state_dir: Path) -> None:
    """Turn a database into what the program of schema 1 made: its own text, with all that the tables hold."""
    with closing(sqlite3.connect(state_dir / connection.FILE_NAME, isolation_level=None)) as database:
        database.execute("PRAGMA foreign_keys = OFF")
        held_rows = picture(state_dir)
        for table in held_rows:
            if table != "sqlite_sequence":
                database.execute(f"DROP TABLE {table}")
        database.executescript(OLD)
        for table, rows in held_rows.items():
            for row in rows:
                if table not in {"portal", "used_code", "sqlite_sequence"}:
                    database.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)  # noqa: S608
        database.execute("PRAGMA user_version = 1")


def shape(state_dir: Path) -> dict[str, list[tuple[object, ...]]]:
    """Give every table's columns, with their types, and its own words for whether it is strict."""
    with closing(sqlite3.connect(state_dir / connection.FILE_NAME)) as database:
        tables = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        listed = {row[1]: row[5] for row in database.execute("PRAGMA table_list")}
        return {table: [*database.execute(f"PRAGMA table_info({table})"), (listed[table],)] for table in sorted(tables)}


def plain(sql: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"--.*", "", sql)).strip()


@pytest.fixture(params=["standalone", "lead", "shadow"])
def old(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A server of each role as the program of schema 1 left it."""
    make: Callable[..., None] = getattr(states, request.param)
    make(tmp_path)
    made_old(tmp_path)
    return tmp_path


async def opened(state_dir: Path) -> None:
    async with connection.opened(state_dir) as store, store.reading() as tx:
        assert await portals.portal(tx) is None


def test_old_database_is_migrated_when_it_is_opened_and_keeps_what_it_holds(old: Path) -> None:
    before = picture(old)
    assert version_of(old) == 1
    asyncio.run(opened(old))
    after = picture(old)
    assert version_of(old) == SCHEMA_VERSION
    assert {table: after[table] for table in before} == before
    assert set(after) - set(before) == {"portal", "used_code"}


def test_migrated_database_is_the_same_as_a_new_one(old: Path) -> None:
    asyncio.run(opened(old))
    new = old / "new"
    new.mkdir()
    asyncio.run(connection.create(new))
    assert shape(old) == shape(new)


def test_new_database_is_of_the_present_schema(tmp_path: Path) -> None:
    asyncio.run(connection.create(tmp_path))
    assert version_of(tmp_path) == SCHEMA_VERSION == reading.SCHEMA_VERSION
    assert reading.FILE_NAME == connection.FILE_NAME


def test_old_database_is_read_as_it_is_by_who_only_looks(old: Path) -> None:
    before = picture(old)
    now = moment.read(LATER)
    assert snapshot.read(old).portal is None
    assert statuses.read(old, now).portal is None
    assert isinstance(snapshot.history(old), tuple)
    assert snapshot.owner(old) is not None
    assert (version_of(old), picture(old)) == (1, before)


def test_command_that_writes_migrates_and_writes(tmp_path: Path) -> None:
    states.standalone(tmp_path)
    made_old(tmp_path)

    async def act() -> None:
        async with connection.opened(tmp_path) as store:
            await register(store, registered("Next House"), at=AT)

    asyncio.run(act())
    assert version_of(tmp_path) == SCHEMA_VERSION
    assert snapshot.read(tmp_path).record.registration == registered("Next House").canonical


async def test_two_that_open_an_old_database_at_once_migrate_it_once(tmp_path: Path) -> None:
    async with opened_for(tmp_path):
        pass
    made_old(tmp_path)
    await asyncio.gather(*(opened(tmp_path) for _ in range(4)))
    assert version_of(tmp_path) == SCHEMA_VERSION


async def test_migration_of_a_database_that_another_process_migrated_meanwhile_does_nothing(tmp_path: Path) -> None:
    async with opened_for(tmp_path) as store, store.transaction() as tx:
        await migrate(tx)
        assert (await held.server(tx)).id == "device-1"


def test_f32_migration_killed_between_any_two_statements_leaves_the_old_schema_or_the_new_one(tmp_path: Path) -> None:
    template = tmp_path / "template"
    template.mkdir()
    states.standalone(template, states.HOUSE)
    made_old(template)
    seen = []
    for statements in range(20):
        state_dir = tmp_path / str(statements)
        shutil.copytree(template, state_dir)
        ended = _dies_in_the_migration(state_dir, statements)
        seen.append(version_of(state_dir))
        assert set(picture(state_dir)) >= {"server", "record"}
        assert ("portal" in picture(state_dir)) == (seen[-1] == SCHEMA_VERSION)
        asyncio.run(opened(state_dir))  # the next one migrates it, and nothing is in its way
        assert version_of(state_dir) == SCHEMA_VERSION
        if ended == 0:
            break
        assert ended == KILLED
        assert seen[-1] == 1
    assert seen[-1] == SCHEMA_VERSION
    assert len(seen) > 4, "every statement had its turn"


def _dies_in_the_migration(state_dir: Path, statements: int) -> int:
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    ended = BROKEN
    try:
        Dying.left = statements
        connection.Tx = Dying  # type: ignore[misc]  # this process is about to die
        asyncio.run(_open_only(state_dir))
        ended = 0
    finally:
        os._exit(ended)


async def _open_only(state_dir: Path) -> None:
    async with connection.opened(state_dir):
        pass


def test_the_old_text_is_what_is_left_of_the_new_one_without_the_portal() -> None:
    new = (Path(connection.__file__).parents[1] / "schema.sql").read_text(encoding="utf-8")
    assert plain(new).startswith(plain(OLD))
