"""The tables, as migrations make them, on both databases."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from propagator.core.errors import RefusedError, StoreError
from propagator.portal import database, migrating
from propagator.portal.opening import opened
from propagator.portal.rules import Kind
from propagator.portal.tables import Table
from tests.portal.world import World, settings_in

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.engine import Connection


async def test_the_migrations_make_the_tables_that_the_program_knows(world: World) -> None:
    def differences(connection: Connection) -> object:
        return compare_metadata(MigrationContext.configure(connection), Table.metadata)

    async with world.portal.engine.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_a_second_start_changes_nothing(tmp_path: Path, database_url: str | None) -> None:
    settings = settings_in(tmp_path, **({} if database_url is None else {"database": database_url}))
    keys = set()
    for _ in range(2):
        async with opened(settings) as portal:
            keys.add(portal.key.thumbprint)
    assert len(keys) == 1


async def test_two_that_start_at_once_migrate_once(tmp_path: Path, database_url: str | None) -> None:
    settings = settings_in(tmp_path, **({} if database_url is None else {"database": database_url}))
    settings.data_dir.mkdir()
    engines = [database.connect(settings.database_url) for _ in range(2)]
    try:
        await asyncio.gather(*map(migrating.migrate, engines))
    finally:
        for engine in engines:
            await engine.dispose()


async def test_tables_of_a_newer_program_are_left_alone(tmp_path: Path, database_url: str | None) -> None:
    settings = settings_in(tmp_path, **({} if database_url is None else {"database": database_url}))
    async with opened(settings) as portal, portal.engine.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(RefusedError, match="newer program"):
        async with opened(settings):
            pass


async def test_a_migration_that_fails_leaves_nothing_behind(tmp_path: Path, database_url: str | None) -> None:
    """A table that stands in the way: the first migration ends in the middle, and takes back what it made."""
    settings = settings_in(tmp_path, **({} if database_url is None else {"database": database_url}))
    settings.data_dir.mkdir(mode=0o700)
    engine = database.connect(settings.database_url)
    try:
        async with engine.begin() as connection:
            await connection.execute(text("CREATE TABLE outbox (id INTEGER)"))
        with pytest.raises(StoreError):
            async with opened(settings):
                pass
        async with engine.connect() as connection:
            names = await connection.run_sync(lambda sync: sync.dialect.get_table_names(sync))
        assert names == ["outbox"]
    finally:
        await engine.dispose()


def _begin_at(connection: Connection, revision: str) -> None:
    """Make the tables as the portal of a revision had them."""
    config = Config()
    config.set_main_option("script_location", "propagator.portal:migrations")
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


_LINK = (
    "INSERT INTO link (id, hash, purpose, email, kind, created_at, expires_at)"
    " VALUES ({id}, '{hash}', '{purpose}', 'a@people.example', 'partner', '', '')"
)


async def test_links_of_the_first_tables_are_kept_and_may_be_of_a_forgotten_password_from_then_on(
    tmp_path: Path, database_url: str | None
) -> None:
    settings = settings_in(tmp_path, **({} if database_url is None else {"database": database_url}))
    settings.data_dir.mkdir(mode=0o700)
    engine = database.connect(settings.database_url)
    forgotten = _LINK.format(id=2, hash="h2", purpose="forgotten")
    try:
        async with engine.begin() as connection:
            await connection.run_sync(_begin_at, "0001")
            await connection.execute(text(_LINK.format(id=1, hash="h1", purpose="invite")))
        with pytest.raises(IntegrityError):
            async with engine.begin() as connection:
                await connection.execute(text(forgotten))
        await migrating.migrate(engine)
        async with engine.begin() as connection:
            await connection.execute(text(forgotten))
            rows = (await connection.execute(text("SELECT hash, purpose FROM link ORDER BY id"))).all()
        assert [tuple(row) for row in rows] == [("h1", "invite"), ("h2", "forgotten")]
        for wrong in (_LINK.format(id=3, hash="h3", purpose="king"), _LINK.format(id=3, hash="h1", purpose="reset")):
            with pytest.raises(IntegrityError):
                async with engine.begin() as connection:
                    await connection.execute(text(wrong))
    finally:
        await engine.dispose()


async def test_the_database_itself_knows_one_account_an_address_and_one_system_a_system_id(world: World) -> None:
    ann = await world.account("ann", Kind.PARTNER)
    system = await world.register(ann)
    account = "INSERT INTO account (id, kind, email, name, company, active, failures, created_at) VALUES "
    system_row = (
        "INSERT INTO system (number, system_id, document, consented, search, edition, state, created_at, updated_at)"
    )
    wrong = (
        account + "(99, 'partner', 'ann@people.example', '', '', true, 0, '')",
        account + "(99, 'king', 'king@people.example', '', '', true, 0, '')",
        account + "(99, 'partner', 'BIG@people.example', '', '', true, 0, '')",
        system_row + " VALUES ('R-000000', 'SYS-1', '', '{}', '', 1, 'registered', '', '')",
        "UPDATE system SET end_user_id = integrator_id",
        "UPDATE system SET integrator_id = 12345",
        "UPDATE system SET state = 'lost'",
    )
    for statement in wrong:
        with pytest.raises(IntegrityError):
            async with world.portal.engine.begin() as connection:
                await connection.execute(text(statement))
    assert system.system_id == "SYS-1"
