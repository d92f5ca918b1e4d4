"""The tables of the first portal."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make them all."""
    _account()
    _system()
    _audit()
    _bearer()
    _device_grant()
    _former()
    _issued_code()
    _link()
    _outbox()
    _session()


def _account() -> None:
    op.create_table(
        "account",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("email", sa.String(length=254), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("company", sa.Text(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=True),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("locked_until", sa.String(length=24), nullable=True),
        sa.Column("created_at", sa.String(length=24), nullable=False),
        sa.CheckConstraint("kind IN ('administrator', 'branch', 'partner', 'end_user')", name="ck_account_kind"),
        sa.CheckConstraint("email = lower(email)", name="ck_account_lower_case"),
        sa.PrimaryKeyConstraint("id", name="pk_account"),
        sa.UniqueConstraint("email", name="uq_account_email"),
    )


def _system() -> None:
    op.create_table(
        "system",
        sa.Column("number", sa.String(length=16), nullable=False),
        sa.Column("system_id", sa.String(length=64), nullable=True),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("consented", sa.JSON(), nullable=False),
        sa.Column("search", sa.Text(), nullable=False),
        sa.Column("edition", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("integrator_id", sa.Integer(), nullable=True),
        sa.Column("end_user_id", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.String(length=24), nullable=False),
        sa.Column("updated_at", sa.String(length=24), nullable=False),
        sa.CheckConstraint("state IN ('registered', 'withdrawn')", name="ck_system_state"),
        sa.CheckConstraint("edition >= 1", name="ck_system_edition"),
        sa.CheckConstraint("integrator_id <> end_user_id", name="ck_system_two_accounts"),
        sa.ForeignKeyConstraint(["end_user_id"], ["account.id"], name="fk_system_end_user_id"),
        sa.ForeignKeyConstraint(["integrator_id"], ["account.id"], name="fk_system_integrator_id"),
        sa.PrimaryKeyConstraint("number", name="pk_system"),
        sa.UniqueConstraint("system_id", name="uq_system_system_id"),
    )
    op.create_index("ix_system_created_at", "system", ["created_at"])
    op.create_index("ix_system_end_user_id", "system", ["end_user_id"])
    op.create_index("ix_system_integrator_id", "system", ["integrator_id"])


def _audit() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", sa.String(length=24), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=True),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("action", sa.String(length=32), nullable=False),
        sa.Column("number", sa.String(length=16), nullable=True),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_audit_account_id"),
        sa.ForeignKeyConstraint(["number"], ["system.number"], name="fk_audit_number"),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
    )
    op.create_index("ix_audit_account_id", "audit", ["account_id"])
    op.create_index("ix_audit_number_id", "audit", ["number", "id"])


def _bearer() -> None:
    op.create_table(
        "bearer",
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("number", sa.String(length=16), nullable=False),
        sa.Column("system_id", sa.String(length=64), nullable=False),
        sa.Column("issued_at", sa.String(length=24), nullable=False),
        sa.Column("asked_at", sa.String(length=24), nullable=True),
        sa.Column("edition", sa.Integer(), nullable=True),
        sa.Column("revoked_at", sa.String(length=24), nullable=True),
        sa.ForeignKeyConstraint(["number"], ["system.number"], name="fk_bearer_number"),
        sa.PrimaryKeyConstraint("hash", name="pk_bearer"),
    )
    op.create_index("ix_bearer_number", "bearer", ["number"])


def _device_grant() -> None:
    op.create_table(
        "device_grant",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("device_hash", sa.String(length=64), nullable=False),
        sa.Column("user_hash", sa.String(length=64), nullable=False),
        sa.Column("system_id", sa.String(length=64), nullable=False),
        sa.Column("server_name", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("purpose", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("number", sa.String(length=16), nullable=True),
        sa.Column("account_id", sa.Integer(), nullable=True),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("interval_s", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.String(length=24), nullable=False),
        sa.Column("expires_at", sa.String(length=24), nullable=False),
        sa.Column("polled_at", sa.String(length=24), nullable=True),
        sa.CheckConstraint("purpose IN ('register', 'associate')", name="ck_device_grant_purpose"),
        sa.CheckConstraint("state IN ('pending', 'approved', 'denied', 'used')", name="ck_device_grant_state"),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_device_grant_account_id"),
        sa.ForeignKeyConstraint(["number"], ["system.number"], name="fk_device_grant_number"),
        sa.PrimaryKeyConstraint("id", name="pk_device_grant"),
        sa.UniqueConstraint("device_hash", name="uq_device_grant_device_hash"),
        sa.UniqueConstraint("user_hash", name="uq_device_grant_user_hash"),
    )
    op.create_index("ix_device_grant_expires_at", "device_grant", ["expires_at"])
    op.create_index("ix_device_grant_number", "device_grant", ["number"])


def _former() -> None:
    op.create_table(
        "former",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("number", sa.String(length=16), nullable=False),
        sa.Column("system_id", sa.String(length=64), nullable=False),
        sa.Column("since", sa.String(length=24), nullable=False),
        sa.Column("until", sa.String(length=24), nullable=False),
        sa.ForeignKeyConstraint(["number"], ["system.number"], name="fk_former_number"),
        sa.PrimaryKeyConstraint("id", name="pk_former"),
    )
    op.create_index("ix_former_number", "former", ["number"])
    op.create_index("ix_former_system_id", "former", ["system_id"])


def _issued_code() -> None:
    op.create_table(
        "issued_code",
        sa.Column("serial", sa.String(length=22), nullable=False),
        sa.Column("number", sa.String(length=16), nullable=False),
        sa.Column("system_id", sa.String(length=64), nullable=False),
        sa.Column("edition", sa.Integer(), nullable=False),
        sa.Column("issued_at", sa.String(length=24), nullable=False),
        sa.Column("expires_at", sa.String(length=24), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_issued_code_account_id"),
        sa.ForeignKeyConstraint(["number"], ["system.number"], name="fk_issued_code_number"),
        sa.PrimaryKeyConstraint("serial", name="pk_issued_code"),
    )
    op.create_index("ix_issued_code_number", "issued_code", ["number"])


def _link() -> None:
    op.create_table(
        "link",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("purpose", sa.String(length=16), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=True),
        sa.Column("email", sa.String(length=254), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("number", sa.String(length=16), nullable=True),
        sa.Column("created_at", sa.String(length=24), nullable=False),
        sa.Column("expires_at", sa.String(length=24), nullable=False),
        sa.Column("used_at", sa.String(length=24), nullable=True),
        sa.CheckConstraint("purpose IN ('setup', 'invite', 'reset')", name="ck_link_purpose"),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_link_account_id"),
        sa.ForeignKeyConstraint(["number"], ["system.number"], name="fk_link_number"),
        sa.PrimaryKeyConstraint("id", name="pk_link"),
        sa.UniqueConstraint("hash", name="uq_link_hash"),
    )
    op.create_index("ix_link_account_id", "link", ["account_id"])
    op.create_index("ix_link_number", "link", ["number"])


def _outbox() -> None:
    op.create_table(
        "outbox",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("recipient", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", sa.String(length=24), nullable=False),
        sa.Column("next_at", sa.String(length=24), nullable=True),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("sent_at", sa.String(length=24), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
    )
    op.create_index("ix_outbox_sent_at_next_at", "outbox", ["sent_at", "next_at"])


def _session() -> None:
    op.create_table(
        "session",
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("csrf", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.String(length=24), nullable=False),
        sa.Column("seen_at", sa.String(length=24), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_session_account_id"),
        sa.PrimaryKeyConstraint("hash", name="pk_session"),
    )
    op.create_index("ix_session_account_id", "session", ["account_id"])
