"""The shadows of a lead: invited, bound, heard, revoked; and what of it is never forgotten."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from propagator.core.roster import Seen
from propagator.core.session import Mark, Session
from propagator.store import members
from tests.store.contents import AT, LATER, bound, invited, rows
from tests.unit.builders import key

if TYPE_CHECKING:
    from propagator.core.difference import JsonObject
    from propagator.store import Store

REPORT: JsonObject = {"name": "Boiler room", "kind": "server-device", "state": "in_sync"}


def mark(number: int, counter: int, suffix: str = "aaaa") -> Mark:
    return Mark(Session(number, suffix), counter)


async def bind(store: Store, member: members.Member, at: str = AT) -> None:
    async with store.transaction() as tx:
        await members.bind(tx, member, at=at)


async def known(store: Store, device: str = "device-1") -> members.Member:
    async with store.reading() as tx:
        found = await members.member(tx, device)
    assert found is not None
    return found


async def test_invitation_is_kept_without_its_secret(lead_store: Store) -> None:
    async with lead_store.transaction() as tx:
        await members.invite(tx, invited())
        assert await members.invitation(tx, "device-1") == invited()
        assert await members.invitation(tx, "device-2") is None


async def test_newer_invitation_replaces_the_older_one(lead_store: Store) -> None:
    newer = replace(invited(), token_id="token-2", created_at=LATER)
    async with lead_store.transaction() as tx:
        await members.invite(tx, replace(invited()))
        await members.revoke(tx, "device-1", AT)
        await members.invite(tx, newer)
        assert await members.invitation(tx, "device-1") == newer
        assert await members.invitations(tx) == (newer,)


async def test_forgotten_invitation_is_gone(lead_store: Store) -> None:
    async with lead_store.transaction() as tx:
        await members.invite(tx, invited())
        await members.forget_invitation(tx, "device-1")
        assert await members.invitations(tx) == ()


async def test_bound_key_marks_its_invitation_used(lead_store: Store) -> None:
    async with lead_store.transaction() as tx:
        await members.invite(tx, invited())
    await bind(lead_store, bound(), LATER)
    async with lead_store.reading() as tx:
        used = await members.invitation(tx, "device-1")
    assert used == replace(invited(), used_at=LATER, key=key("device-1").thumbprint)
    member = await known(lead_store)
    assert (member.key, member.membership, member.attached_at) == (bound().key, "a.signed.word", LATER)


async def test_first_report_after_binding_counts_as_confirmed(lead_store: Store) -> None:
    await bind(lead_store, bound())
    seen = (await known(lead_store)).seen
    assert seen.confirmed
    assert mark(1764000000, 1).is_after(seen.mark)


async def test_binding_again_is_the_same_member_once(lead_store: Store) -> None:
    await bind(lead_store, bound())
    before = await known(lead_store)
    await bind(lead_store, bound())
    async with lead_store.reading() as tx:
        assert await members.members(tx) == (before,)


async def test_binding_another_key_forgets_what_the_device_said_before(lead_store: Store) -> None:
    await bind(lead_store, bound())
    async with lead_store.transaction() as tx:
        await members.note_report(tx, "device-1", Seen(mark(9, 9), confirmed=True, cloned=True), REPORT, AT)
        await members.note_presence(tx, "device-1", mark(9, 1), online=True, at=AT)
    await bind(lead_store, bound(device_key="another", serial="1" * 32), LATER)
    member = await known(lead_store)
    assert (member.key, member.serial) == (key("another").thumbprint, "1" * 32)
    assert (member.report, member.online, member.presence, member.seen.cloned) == (None, False, None, False)


async def test_revoked_shadow_is_no_member_and_its_serial_stays_revoked(lead_store: Store) -> None:
    await bind(lead_store, bound())
    async with lead_store.transaction() as tx:
        assert await members.revoke(tx, "device-1", LATER)
        assert await members.member(tx, "device-1") is None
        assert await members.members(tx) == ()
        assert await members.revoked(tx) == ("device-1",)
        assert await members.revoked_serials(tx) == ("0" * 32,)
        await members.forget_member(tx, "device-1")
        assert await members.revoked(tx) == ()
        assert await members.revoked_serials(tx) == ("0" * 32,)


async def test_revoking_ends_an_open_invitation(lead_store: Store) -> None:
    async with lead_store.transaction() as tx:
        await members.invite(tx, invited())
        assert await members.revoke(tx, "device-1", LATER)
        ended = await members.invitation(tx, "device-1")
        assert ended is not None
        assert ended.revoked_at == LATER
        assert not await members.revoke(tx, "device-1", LATER)


async def test_revoking_nobody_says_so(lead_store: Store) -> None:
    async with lead_store.transaction() as tx:
        assert not await members.revoke(tx, "device-1", AT)


async def test_shadow_that_is_not_revoked_is_not_forgotten(lead_store: Store) -> None:
    await bind(lead_store, bound())
    async with lead_store.transaction() as tx:
        await members.forget_member(tx, "device-1")
    await known(lead_store)


async def test_revoked_shadow_that_is_bound_again_is_a_member_under_a_new_serial(lead_store: Store) -> None:
    await bind(lead_store, bound())
    async with lead_store.transaction() as tx:
        await members.revoke(tx, "device-1", LATER)
    await bind(lead_store, bound(device_key="another", serial="1" * 32), LATER)
    async with lead_store.reading() as tx:
        assert await members.revoked(tx) == ()
        assert await members.revoked_serials(tx) == ("0" * 32,)
    assert (await known(lead_store)).serial == "1" * 32


async def test_report_is_kept_with_how_far_the_shadow_was_followed(lead_store: Store) -> None:
    await bind(lead_store, bound())
    seen = Seen(mark(7, 3), confirmed=True, superseded=Session(6, "bbbb"), cloned=True)
    async with lead_store.transaction() as tx:
        await members.note_report(tx, "device-1", seen, REPORT, LATER)
    member = await known(lead_store)
    assert (member.seen, member.report, member.name) == (seen, REPORT, "Boiler room")


async def test_clone_is_noted_without_its_report(lead_store: Store) -> None:
    await bind(lead_store, bound())
    async with lead_store.transaction() as tx:
        await members.note_report(tx, "device-1", Seen(mark(7, 3), confirmed=True), REPORT, AT)
        await members.note_report(tx, "device-1", Seen(mark(7, 3), confirmed=True, cloned=True), None, LATER)
    member = await known(lead_store)
    assert (member.seen.cloned, member.report) == (True, REPORT)


async def test_lost_order_is_a_shadow_of_whom_nothing_is_known(lead_store: Store) -> None:
    await bind(lead_store, bound())
    async with lead_store.transaction() as tx:
        await members.note_report(tx, "device-1", Seen(None, confirmed=False), None, AT)
    assert (await known(lead_store)).seen == Seen(None, confirmed=False)


async def test_presence_is_kept_with_its_place(lead_store: Store) -> None:
    await bind(lead_store, bound())
    async with lead_store.transaction() as tx:
        await members.note_presence(tx, "device-1", mark(7, 2), online=True, at=AT)
    member = await known(lead_store)
    assert (member.online, member.presence) == (True, mark(7, 2))


async def test_nobody_is_connected_until_heard_again(lead_store: Store) -> None:
    for device in ("device-1", "device-2"):
        await bind(lead_store, bound(device))
    async with lead_store.transaction() as tx:
        await members.note_online(tx, "device-1")
        await members.note_online(tx, "device-2")
        await members.all_offline(tx)
        await members.note_online(tx, "device-2")
        assert [(member.id, member.online) for member in await members.members(tx)] == [
            ("device-1", False),
            ("device-2", True),
        ]
    assert rows(lead_store.path.parent, "SELECT count(*) FROM member") == [(2,)]
