"""What the portal keeps. One class a table; `migrations` make them, and a test holds the two to each other.

Secrets are here as hashes only: passwords (argon2), and the tokens of sessions, links, devices and bearers (SHA-256 of
128 random bits or more, which nobody can guess from it). R1 holds by the shape of `System`: it has room for one
integrator and one end-user, and a System ID stands in one row.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import JSON, CheckConstraint, ForeignKey, Index, MetaData, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from propagator.core import moment
from propagator.portal.rules import Kind

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect

    from propagator.core.difference import JsonObject
else:
    JsonObject = dict  # SQLAlchemy evaluates annotations, and would not come to the end of a recursive one


class Moment(TypeDecorator[dt.datetime]):
    """An aware time, kept as the text everybody reads (RFC 3339, UTC, milliseconds): alike and in order everywhere."""

    impl = String(24)
    cache_ok = True

    def process_bind_param(self, value: dt.datetime | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Write it."""
        return None if value is None else moment.write(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> dt.datetime | None:  # noqa: ARG002
        """Read it."""
        return None if value is None else moment.read(value)


class KindText(TypeDecorator[Kind]):
    """A kind of account, kept as its word."""

    impl = String(16)
    cache_ok = True

    def process_bind_param(self, value: Kind | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Write it."""
        return None if value is None else value.value

    def process_result_value(self, value: str | None, dialect: Dialect) -> Kind | None:  # noqa: ARG002
        """Read it."""
        return None if value is None else Kind(value)


class Table(DeclarativeBase):
    """What all tables share: constraints get names, which migrations need."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        dt.datetime: Moment,
        JsonObject: JSON,
        Kind: KindText,
        str: Text,
    }


class Account(Table):
    """Somebody who may log on. Without `password_hash` the invitation was not taken up yet."""

    __tablename__ = "account"
    __table_args__ = (
        CheckConstraint("email = lower(email)", name="lower_case"),
        CheckConstraint("kind IN ('administrator', 'branch', 'partner', 'end_user')", name="kind"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[Kind]
    email: Mapped[str] = mapped_column(String(254), unique=True)
    name: Mapped[str]
    company: Mapped[str]
    password_hash: Mapped[str | None]
    active: Mapped[bool] = mapped_column(default=True)
    failures: Mapped[int] = mapped_column(default=0)
    locked_until: Mapped[dt.datetime | None]
    created_at: Mapped[dt.datetime]


class Session(Table):
    """Somebody who is logged on: the hash of the cookie, and the token that each of its forms carries."""

    __tablename__ = "session"

    hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    csrf: Mapped[str]
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id"), index=True)
    created_at: Mapped[dt.datetime]
    seen_at: Mapped[dt.datetime]
    address: Mapped[str]


class System(Table):
    """A registered system. `number` outlives the System ID; `document` is the registration without its accounts."""

    __tablename__ = "system"
    __table_args__ = (
        CheckConstraint("state IN ('registered', 'withdrawn')", name="state"),
        CheckConstraint("integrator_id <> end_user_id", name="two_accounts"),
        CheckConstraint("edition >= 1", name="edition"),
    )

    number: Mapped[str] = mapped_column(String(16), primary_key=True)
    system_id: Mapped[str | None] = mapped_column(String(64), unique=True)
    document: Mapped[str]
    consented: Mapped[JsonObject]
    """Per consent: who gave or reported it, when, and whether in person."""
    search: Mapped[str]
    """What a search looks in, in small letters: number, System ID, site, company, city."""
    edition: Mapped[int]
    state: Mapped[str] = mapped_column(String(16))
    integrator_id: Mapped[int | None] = mapped_column(ForeignKey("account.id"), index=True)
    end_user_id: Mapped[int | None] = mapped_column(ForeignKey("account.id"), index=True)
    created_at: Mapped[dt.datetime] = mapped_column(index=True)
    updated_at: Mapped[dt.datetime]


class Link(Table):
    """A one-time link: the first administrator's, an invitation, a new password (an administrator's, or forgotten).

    An invitation names an account that is there, or the e-mail address and kind of one that is made on acceptance.
    """

    __tablename__ = "link"
    __table_args__ = (CheckConstraint("purpose IN ('setup', 'invite', 'reset', 'forgotten')", name="purpose"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    hash: Mapped[str] = mapped_column(String(64), unique=True)
    purpose: Mapped[str] = mapped_column(String(16))
    account_id: Mapped[int | None] = mapped_column(ForeignKey("account.id"), index=True)
    email: Mapped[str] = mapped_column(String(254))
    kind: Mapped[Kind]
    number: Mapped[str | None] = mapped_column(ForeignKey("system.number"), index=True)
    """The system whose slot is taken when the link is accepted."""
    created_at: Mapped[dt.datetime]
    expires_at: Mapped[dt.datetime]
    used_at: Mapped[dt.datetime | None]


class Former(Table):
    """A System ID that held a registration before (R12)."""

    __tablename__ = "former"

    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[str] = mapped_column(ForeignKey("system.number"), index=True)
    system_id: Mapped[str] = mapped_column(String(64), index=True)
    since: Mapped[dt.datetime]
    until: Mapped[dt.datetime]


class IssuedCode(Table):
    """A Registration code that was issued."""

    __tablename__ = "issued_code"

    serial: Mapped[str] = mapped_column(String(22), primary_key=True)
    number: Mapped[str] = mapped_column(ForeignKey("system.number"), index=True)
    system_id: Mapped[str] = mapped_column(String(64))
    edition: Mapped[int]
    issued_at: Mapped[dt.datetime]
    expires_at: Mapped[dt.datetime]
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id"))


class Grant(Table):
    """A server that asks for its registration and waits for somebody to approve it (RFC 8628)."""

    __tablename__ = "device_grant"
    __table_args__ = (
        CheckConstraint("state IN ('pending', 'approved', 'denied', 'used')", name="state"),
        CheckConstraint("purpose IN ('register', 'associate')", name="purpose"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    device_hash: Mapped[str] = mapped_column(String(64), unique=True)
    user_hash: Mapped[str] = mapped_column(String(64), unique=True)
    system_id: Mapped[str] = mapped_column(String(64))
    server_name: Mapped[str]
    kind: Mapped[str] = mapped_column(String(32))
    purpose: Mapped[str] = mapped_column(String(16))
    state: Mapped[str] = mapped_column(String(16))
    number: Mapped[str | None] = mapped_column(ForeignKey("system.number"), index=True)
    account_id: Mapped[int | None] = mapped_column(ForeignKey("account.id"))
    address: Mapped[str]
    interval_s: Mapped[int]
    created_at: Mapped[dt.datetime]
    expires_at: Mapped[dt.datetime] = mapped_column(index=True)
    polled_at: Mapped[dt.datetime | None]


class Bearer(Table):
    """The right of one server to ask for later editions of its registration."""

    __tablename__ = "bearer"

    hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    number: Mapped[str] = mapped_column(ForeignKey("system.number"), index=True)
    system_id: Mapped[str] = mapped_column(String(64))
    issued_at: Mapped[dt.datetime]
    asked_at: Mapped[dt.datetime | None]
    edition: Mapped[int | None]
    """The edition it was given last."""
    revoked_at: Mapped[dt.datetime | None]


class Audit(Table):
    """What was done, by whom, when and from where. Rows are added, never changed."""

    __tablename__ = "audit"
    __table_args__ = (Index("ix_audit_number_id", "number", "id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[dt.datetime]
    account_id: Mapped[int | None] = mapped_column(ForeignKey("account.id"), index=True)
    who: Mapped[str]
    """The account's e-mail address at that time; "" for a server or nobody."""
    action: Mapped[str] = mapped_column(String(32))
    number: Mapped[str | None] = mapped_column(ForeignKey("system.number"))
    detail: Mapped[JsonObject]
    address: Mapped[str]


class Outbox(Table):
    """A mail that waits to be sent. Its body is emptied once it was: it may hold a one-time link."""

    __tablename__ = "outbox"
    __table_args__ = (Index("ix_outbox_sent_at_next_at", "sent_at", "next_at"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    recipient: Mapped[str]
    subject: Mapped[str]
    body: Mapped[str]
    created_at: Mapped[dt.datetime]
    next_at: Mapped[dt.datetime | None]
    """When it is tried next; None: no more, it was sent or given up."""
    tries: Mapped[int] = mapped_column(default=0)
    sent_at: Mapped[dt.datetime | None]
    error: Mapped[str | None]
