"""Brings the tables of a database to those of this program: at start, in one transaction, one process at a time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from propagator.core.errors import RefusedError

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine
    from structlog.typing import FilteringBoundLogger

log: FilteringBoundLogger = structlog.get_logger(logger_name="portal.migrating")

_FOLDER: Final = Path(__file__).with_name("migrations")

_LOCK: Final = 0x70_6F_72_74
"""The number of PostgreSQL's advisory lock that whoever migrates holds; SQLite's write lock does it there."""


async def migrate(engine: AsyncEngine) -> None:
    """Bring the tables up to date. Raises RefusedError where a newer program made them; then nothing is changed."""
    async with engine.connect() as connection:
        await connection.execution_options(portal_writes=True)
        async with connection.begin():
            await connection.run_sync(_upgrade)


def _upgrade(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    scripts = ScriptDirectory.from_config(config)
    before = MigrationContext.configure(connection).get_current_revision()
    if before is not None and before not in {script.revision for script in scripts.walk_revisions()}:
        raise RefusedError(
            f"The database's tables are of a newer program (revision {before}).",
            hint="run the newer program, or restore a backup of the database from before it",
        )
    if before != scripts.get_current_head():
        command.upgrade(config, "head")
        log.info("portal.database_migrated", was=before, now=scripts.get_current_head())
