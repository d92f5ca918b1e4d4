"""A portal on each of the two databases."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.portal import postgres
from tests.portal.world import World, open_world, settings_in

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.portal.postgres import Postgres


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    with postgres.running() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str | None:
    """The URL of an empty database; None for the portal's own file."""
    if request.param == "sqlite":
        return None
    server: Postgres = request.getfixturevalue("postgres_server")
    return server.database()


@pytest.fixture
async def world(tmp_path: Path, database_url: str | None) -> AsyncIterator[World]:
    """A portal on either database."""
    beats = {} if database_url is None else {"database": database_url}
    async with open_world(settings_in(tmp_path, **beats)) as opened:
        yield opened


@pytest.fixture
async def small_world(tmp_path: Path) -> AsyncIterator[World]:
    """A portal on SQLite, where the database does not matter."""
    async with open_world(settings_in(tmp_path)) as opened:
        yield opened
