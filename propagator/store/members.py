"""The shadows of this lead: invitations, what binds each shadow, and the cache of what it said last."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from propagator.core import session
from propagator.core.roster import Seen
from propagator.core.session import Mark

if TYPE_CHECKING:
    import sqlite3

    from propagator.core.difference import JsonObject
    from propagator.core.wire import Membership
    from propagator.store.connection import Tx


@dataclass(frozen=True, slots=True)
class Invitation:
    """An invitation as the lead keeps it: what is derived from the secret, never the secret."""

    device: str
    token_id: str
    mac_key: bytes
    password_hash: str
    created_at: str
    expires_at: str
    used_at: str | None = None
    key: str | None = None
    revoked_at: str | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """A shadow of this lead. `report` is the last one that counted; `seen` how far its words were followed."""

    id: str
    name: str
    kind: str
    system_id: str
    key: str
    password_hash: str
    serial: str
    membership: str
    attached_at: str
    revoked_at: str | None
    seen: Seen
    report: JsonObject | None
    online: bool
    presence: Mark | None
    told_seq: int = 0


async def invite(tx: Tx, invitation: Invitation) -> None:
    """Keep an invitation; an older one for this device ends."""
    await tx.run(
        "INSERT OR REPLACE INTO invitation (device, token_id, mac_key, password_hash, created_at, expires_at)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        *(invitation.device, invitation.token_id, invitation.mac_key, invitation.password_hash),
        *(invitation.created_at, invitation.expires_at),
    )


async def invitation(tx: Tx, device: str) -> Invitation | None:
    """Give the invitation of a device, used or not."""
    row = await tx.one("SELECT * FROM invitation WHERE device = ?", device)
    return None if row is None else Invitation(**dict(row))


async def invitations(tx: Tx) -> tuple[Invitation, ...]:
    """Give every invitation."""
    return tuple(Invitation(**dict(row)) for row in await tx.all("SELECT * FROM invitation ORDER BY device"))


async def forget_invitation(tx: Tx, device: str) -> None:
    """Forget an invitation that ended long ago."""
    await tx.run("DELETE FROM invitation WHERE device = ?", device)


async def bind(tx: Tx, member: Member, *, at: str) -> None:
    """Bind a device's key, and mark its invitation used, in this one transaction. What it said before is forgotten.

    Its key was just bound under a fresh nonce, so its first report cannot be a replay: it counts as confirmed.
    """
    await tx.run("UPDATE invitation SET used_at = ?, key = ? WHERE device = ?", at, member.key, member.id)
    await tx.run(
        "INSERT OR REPLACE INTO member (id, name, kind, system_id, key, password_hash, serial, membership, attached_at,"
        " session, counter, confirmed, told_seq) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, '1-0000', 0, 1, ?)",
        *(member.id, member.name, member.kind, member.system_id, member.key, member.password_hash),
        *(member.serial, member.membership, at, member.told_seq),
    )


async def recognise(  # noqa: PLR0913  the columns
    tx: Tx, device: str, word: Membership, membership: str, *, password_hash: str, at: str
) -> None:
    """Know a shadow again by this lead's own signature, after the database was lost; it has to confirm itself."""
    await tx.run(
        "INSERT INTO member (id, name, kind, system_id, key, password_hash, serial, membership, attached_at, online)"
        " VALUES (?, ?, '', '', ?, ?, ?, ?, ?, 1)",
        *(device, device, word.key, password_hash, word.serial, membership, at),
    )


async def remember(  # noqa: PLR0913  the columns
    tx: Tx, device: str, *, key: str, password_hash: str, serial: str = "", membership: str = "", at: str
) -> None:
    """Give a shadow of a lost database its row again, if it has none; without a membership it has to be invited."""
    await tx.run(
        "INSERT OR IGNORE INTO member (id, name, kind, system_id, key, password_hash, serial, membership, attached_at)"
        " VALUES (?, ?, '', '', ?, ?, ?, ?, ?)",
        *(device, device, key, password_hash, serial, membership, at),
    )


async def member(tx: Tx, device: str) -> Member | None:
    """Give one shadow that is not revoked."""
    row = await tx.one("SELECT * FROM member WHERE id = ? AND revoked_at IS NULL", device)
    return None if row is None else _member(row)


async def members(tx: Tx) -> tuple[Member, ...]:
    """Give every shadow that is not revoked."""
    return tuple(_member(row) for row in await tx.all("SELECT * FROM member WHERE revoked_at IS NULL ORDER BY id"))


async def bindings(tx: Tx) -> tuple[tuple[str, str, str], ...]:
    """Give what binds each shadow that is not revoked: id, thumbprint of its key, hash of its broker password."""
    rows = await tx.all("SELECT id, key, password_hash FROM member WHERE revoked_at IS NULL ORDER BY id")
    return tuple((row["id"], row["key"], row["password_hash"]) for row in rows)


async def revoke(tx: Tx, device: str, at: str) -> bool:
    """End a shadow's key and a device's invitation; False if there was neither."""
    await tx.run("INSERT OR IGNORE INTO revoked (serial, at) SELECT serial, ? FROM member WHERE id = ?", at, device)
    ended = await tx.run("UPDATE member SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL", at, device)
    ended += await tx.run("UPDATE invitation SET revoked_at = ? WHERE device = ? AND revoked_at IS NULL", at, device)
    return ended > 0


async def revoked(tx: Tx) -> tuple[str, ...]:
    """Give the ids of revoked shadows, whose retained messages are to be cleared."""
    return tuple(row["id"] for row in await tx.all("SELECT id FROM member WHERE revoked_at IS NOT NULL ORDER BY id"))


async def forget_member(tx: Tx, device: str) -> None:
    """Forget a revoked shadow; its serial stays revoked."""
    await tx.run("DELETE FROM member WHERE id = ? AND revoked_at IS NOT NULL", device)


async def revoked_serials(tx: Tx) -> tuple[str, ...]:
    """Give the serials of memberships that no longer count."""
    return tuple(row["serial"] for row in await tx.all("SELECT serial FROM revoked ORDER BY serial"))


async def note_report(tx: Tx, device: str, seen: Seen, report: JsonObject | None, at: str) -> None:
    """Keep a report that counted (or, with None, only how far the shadow was followed)."""
    mark = seen.mark
    await tx.run(
        "UPDATE member SET session = ?, counter = ?, confirmed = ?, superseded = ?, cloned = ? WHERE id = ?",
        *(None if mark is None else str(mark.session), None if mark is None else mark.counter, seen.confirmed),
        *(None if seen.superseded is None else str(seen.superseded), seen.cloned, device),
    )
    if report is not None:
        await tx.run(
            "UPDATE member SET report = ?, reported_at = ?, last_heard = ?, name = ?, kind = ? WHERE id = ?",
            *(json.dumps(report), at, at, str(report["name"]), str(report["kind"]), device),
        )


async def renew_membership(tx: Tx, device: str, membership: str) -> None:
    """Keep a membership signed anew; the shadow has yet to get it."""
    await tx.run("UPDATE member SET membership = ? WHERE id = ?", membership, device)


async def note_told(tx: Tx, device: str, seq: int) -> None:
    """Note that a shadow answered a request that carried its membership under this delegation."""
    await tx.run("UPDATE member SET told_seq = ? WHERE id = ? AND told_seq < ?", seq, device, seq)


async def note_online(tx: Tx, device: str) -> None:
    """Note that a shadow was heard on the present connection."""
    await tx.run("UPDATE member SET online = 1 WHERE id = ?", device)


async def all_offline(tx: Tx) -> None:
    """Take no shadow for connected until it is heard again: retained births outlive connections."""
    await tx.run("UPDATE member SET online = 0 WHERE online = 1")


async def note_presence(tx: Tx, device: str, mark: Mark, *, online: bool, at: str) -> None:
    """Keep whether a shadow is connected; for display only."""
    await tx.run(
        "UPDATE member SET online = ?, presence_session = ?, presence_counter = ?, last_heard = ? WHERE id = ?",
        *(online, str(mark.session), mark.counter, at, device),
    )


def _member(row: sqlite3.Row) -> Member:
    superseded = None if row["superseded"] is None else session.parse(row["superseded"])
    return Member(
        id=row["id"],
        name=row["name"],
        kind=row["kind"],
        system_id=row["system_id"],
        key=row["key"],
        password_hash=row["password_hash"],
        serial=row["serial"],
        membership=row["membership"],
        attached_at=row["attached_at"],
        revoked_at=row["revoked_at"],
        seen=Seen(_mark(row["session"], row["counter"]), bool(row["confirmed"]), superseded, bool(row["cloned"])),
        report=None if row["report"] is None else cast("JsonObject", json.loads(row["report"])),
        online=bool(row["online"]),
        presence=_mark(row["presence_session"], row["presence_counter"]),
        told_seq=row["told_seq"],
    )


def _mark(written: str | None, counter: int | None) -> Mark | None:
    spoken = None if written is None else session.parse(written)
    return None if spoken is None or counter is None else Mark(spoken, counter)
