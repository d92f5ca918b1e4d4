"""Bringing a database of an older program up to this one's schema, in one transaction.

`schema.sql` makes a new database; a test holds that what is migrated is the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from propagator.store.connection import Tx

SCHEMA_VERSION: Final = 2

_STEPS: Final[dict[int, tuple[str, ...]]] = {
    1: (  # the Registration Portal
        """
        CREATE TABLE portal (
            one INTEGER PRIMARY KEY CHECK (one = 1), key TEXT NOT NULL, name TEXT NOT NULL, url TEXT, system TEXT,
            edition INTEGER, token TEXT, asked_at TEXT, answered_at TEXT, finding TEXT
        ) STRICT
        """,
        "CREATE TABLE used_code (serial TEXT PRIMARY KEY, at TEXT NOT NULL) STRICT",
    ),
}
"""What leads from each version to the next."""


async def migrate(tx: Tx) -> None:
    """Bring the database up to `SCHEMA_VERSION`, whichever older version it is of now."""
    row = await tx.one("PRAGMA user_version")
    for version in range(SCHEMA_VERSION if row is None else int(row[0]), SCHEMA_VERSION):
        for statement in _STEPS[version]:
            await tx.run(statement)
        await tx.run(f"PRAGMA user_version = {version + 1}")
