"""The door to the database: engines, sessions, and the one way to write, `edit`.

SQLite and PostgreSQL look alike from here. A write takes SQLite's lock at its beginning (BEGIN IMMEDIATE), since a
reader's snapshot cannot be written on; in PostgreSQL `locked` takes the row's lock. Whatever is decided on is read
again under that lock, so of two who want one slot or one System ID, one gets it and the other is told.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from propagator.portal import context
from propagator.portal.errors import Conflict, NotFound
from propagator.portal.tables import Table

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.engine import Connection
    from sqlalchemy.engine.interfaces import DBAPIConnection

T = TypeVar("T", bound=Table)

_WRITES = {"portal_writes": True}


def connect(url: str) -> AsyncEngine:
    """Make the engine of a database. Nothing is opened yet."""
    if make_url(url).get_backend_name() != "sqlite":
        return create_async_engine(url, pool_pre_ping=True, pool_size=10, connect_args={"timeout": 10})
    engine = create_async_engine(url)
    event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: DBAPIConnection, _record: object) -> None:
    connection.isolation_level = None  # sqlite3 would begin transactions by itself, and end them at each DDL
    cursor = connection.cursor()
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "busy_timeout = 5000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("portal_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def sessions(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    """Make the maker of sessions. What was loaded stays readable after the transaction."""
    return async_sessionmaker(engine, expire_on_commit=False, autoflush=True)


@asynccontextmanager
async def edit(db: AsyncSession) -> AsyncIterator[None]:
    """Hold one writing transaction around an edit: all of it happens, or nothing.

    What was loaded before is stale inside: read it again with `locked`. Raises Conflict where a constraint of the
    database says no. What was loaded stays readable after a failure, too: a page is about to show it.
    """
    await db.commit()  # ends what was only read
    await db.connection(execution_options=_WRITES)
    try:
        yield
        await db.commit()
    except BaseException as error:
        db.expunge_all()  # else a rollback would empty what the caller still shows
        await db.rollback()
        if isinstance(error, IntegrityError):
            raise Conflict("Somebody else was faster: it is taken.", hint="look at it again") from error
        raise
    context.of(db).mail_waits.set()


async def locked(db: AsyncSession, table: type[T], key: Any) -> T:  # noqa: ANN401  whatever the primary key is
    """Read a row anew inside `edit`, and keep others from changing it until its end. Raises NotFound."""
    row = await db.get(table, key, with_for_update=True, populate_existing=True)
    if row is None:
        raise NotFound("It is not there any more.")
    return row
