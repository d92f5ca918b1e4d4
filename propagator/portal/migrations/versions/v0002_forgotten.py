"""Links for who forgot a password."""

from __future__ import annotations

from typing import Final

from alembic import op

revision = "0002"
down_revision = "0001"

_NAME: Final = "ck_link_purpose"  # the database has it with `ck_link_` before: 0001 gave names that alembic names again


def upgrade() -> None:
    """Let a link be for a forgotten password. SQLite changes no constraint: there alembic copies the table."""
    with op.batch_alter_table("link") as link:
        link.drop_constraint(_NAME, type_="check")
        link.create_check_constraint(_NAME, "purpose IN ('setup', 'invite', 'reset', 'forgotten')")
