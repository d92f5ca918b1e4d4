"""Attaching: the lead's welcome and the device's side of it, over a broker that everybody may read and write."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime as dt
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from propagator import attach, invite, keys, settings
from propagator.attach import Attaching
from propagator.core import moment, signing, token
from propagator.core.errors import BusError, RefusedError
from propagator.core.record import read
from propagator.core.state import State
from propagator.core.wire import (
    AttachAsk,
    AttachBind,
    AttachHello,
    AttachOutcome,
    AttachResult,
    Leaf,
    Membership,
    Topic,
    Typ,
)
from propagator.register import register
from propagator.store import held, members, uplinks
from tests.links.site import LEAD, opened, running, until
from tests.store.contents import AT, rows
from tests.unit.builders import Lead, key, registered
from tests.unit.builders import opened as opened_envelope
from tests.virtual_time import now

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from propagator.bus import Endpoint
    from propagator.core.signing import PrivateKey
    from propagator.core.token import Token
    from propagator.store import Store
    from tests.links.site import Leading, Site
    from tests.memory_bus import MemoryBus

DEVICE = "device-1"
FIRST = registered("First")
OWN = registered("Own House")
ANSWER = str(Topic(LEAD, Leaf.ANSWER, f"{DEVICE}_attach"))
REQUEST = str(Topic(LEAD, Leaf.REQUEST, f"{DEVICE}_attach"))


@pytest.fixture(autouse=True)
def memory(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `attach` reach the broker in memory."""

    def bus(endpoint: Endpoint) -> MemoryBus:
        return site.broker.bus(endpoint.username, endpoint.password, identifier=endpoint.identifier)

    monkeypatch.setattr(attach, "MqttBus", bus)


@dataclass
class Device:
    """A device that is its own until it is attached."""

    site: Site
    store: Store
    previews: list[attach.Preview]

    async def attach(self, invitation: Token, *, yes: bool = True) -> attach.Preview | None:
        """`propagator attach TOKEN`."""

        def confirm(preview: attach.Preview) -> bool:
            self.previews.append(preview)
            return yes

        return await Attaching(self.store, invitation, self.store.path.parent, now).run(confirm)

    async def link(self) -> uplinks.Uplink | None:
        async with self.store.reading() as tx:
            return await uplinks.uplink(tx)

    @property
    def files(self) -> set[str]:
        folder = self.store.path.parent
        names = {path.name for path in (folder / "keys").iterdir()}
        return names | ({settings.UPLINK_FILE} if (folder / settings.UPLINK_FILE).exists() else set())


@contextlib.asynccontextmanager
async def device(site: Site, name: str = DEVICE) -> AsyncIterator[Device]:
    await site.make_standalone(name)
    async with opened(site.directory / name) as store:
        await register(store, OWN, at=AT)
        yield Device(site, store, [])


async def invited(site: Site, lead: Leading, *, again: bool = False, hours: float = 24.0) -> Token:
    made = await invite.invite(
        lead.store, site.settings, DEVICE, now=now(), valid=dt.timedelta(hours=hours), again=again
    )
    return token.read(made.token)


def binding(invitation: Token, device_key: PrivateKey, *, nonce: str = "n" * 16, **changes: str) -> bytes:
    """Make a bind by hand; `changes` come after the MAC was made."""
    derived = token.derive(invitation.secret)
    members_ = {
        "nonce": nonce,
        "key": device_key.thumbprint,
        "password_hash": "$7$101$" + "A" * 16 + "$" + "A" * 86 + "==",
        "name": "By hand",
        "kind": "server-device",
        "system_id": "SYS-H",
    }
    mac = token.mac(derived.mac_key, Typ.ATTACH_BIND, members_)
    bind = AttachBind.model_validate({**members_, "mac": mac, **changes})
    return signing.seal(Typ.ATTACH_BIND, bind, device_key, lead=LEAD, sender=DEVICE)


def answers(site: Site) -> list[str]:
    return [said.payload.decode() for said in site.broker.wire if said.topic == REQUEST and said.account in {LEAD, ""}]


async def outcome_of(site: Site, raw: bytes) -> AttachResult | None:
    """Say a bind as whoever got onto the attach account, and give the lead's answer; None: silence."""
    before = len(answers(site))
    site.broker.inject(ANSWER, raw)
    await asyncio.sleep(2)
    said = answers(site)[before:]
    assert len(said) <= 1
    if not said:
        return None
    result = read(AttachResult, opened_envelope(said[0].encode()).payload)
    assert isinstance(result, AttachResult)
    return result


# The whole of it.


async def test_attached_device_shows_what_it_will_do_and_then_follows(site: Site) -> None:
    async with site.leading() as lead, device(site) as here:
        await lead.register(FIRST)
        preview = await here.attach(await invited(site, lead))
        assert preview is not None
        assert (preview.lead, preview.lead_name, preview.attached_to) == (LEAD, "ES 1", None)
        assert preview.record is not None
        assert (preview.record.registration, preview.local.registration) == (FIRST, OWN)
        link = await here.link()
        assert link is not None
        assert (link.lead, link.identity, link.state) == (LEAD, lead.keys.identity, State.UNKNOWN)
        async with lead.store.reading() as tx:
            member = await members.member(tx, DEVICE)
    assert member is not None
    written = settings.load_uplink(site.directory / DEVICE / settings.UPLINK_FILE)
    assert written is not None
    credentials = keys.load_credentials(written.credential_file)
    assert (written.lead, written.lead_key) == (LEAD, lead.keys.identity)
    assert credentials.key.thumbprint == member.key
    membership = read(Membership, opened_envelope(credentials.membership.encode()).payload)
    assert isinstance(membership, Membership)
    assert (membership.device, membership.key, membership.serial) == (DEVICE, member.key, member.serial)


async def test_attached_device_is_overwritten_and_reports(site: Site) -> None:
    """R2, on the key and account that it has just won."""
    async with site.leading() as lead:
        await lead.register(FIRST)
        async with device(site) as here:
            await here.attach(await invited(site, lead))
        await site.use_won_credentials(DEVICE)
        async with site.following(DEVICE) as shadow:
            await site.in_sync(DEVICE, within_s=5)
            assert (await shadow.record()).registration == FIRST


async def test_attaching_to_a_lead_without_a_registration_says_so_and_keeps_ours(site: Site) -> None:
    async with site.leading() as lead, device(site) as here:
        preview = await here.attach(await invited(site, lead))
        assert preview is not None
        assert preview.record is not None
        assert preview.record.registration is None
        async with here.store.reading() as tx:
            assert (await held.local(tx)).registration == OWN


async def test_device_that_says_no_changes_nothing_and_binds_nothing(site: Site) -> None:
    async with site.leading() as lead, device(site) as here:
        before = here.files
        assert await here.attach(await invited(site, lead), yes=False) is None
        assert here.previews
        assert await here.link() is None
        assert here.files == before
        async with lead.store.reading() as tx:
            assert await members.member(tx, DEVICE) is None
            invitation = await members.invitation(tx, DEVICE)
        assert invitation is not None
        assert invitation.used_at is None


async def test_nothing_on_the_wire_holds_the_secret_of_the_token(site: Site) -> None:
    """F20: neither it nor what the password and the MAC key are, in no encoding that comes to mind."""
    async with site.leading() as lead, device(site) as here:
        invitation = await invited(site, lead)
        await here.attach(invitation)
    derived = token.derive(invitation.secret)
    account = keys.load_credentials(next((site.directory / DEVICE / "keys").glob("uplink-*.json")))
    hidden = [
        invitation.secret,
        base64.b64encode(invitation.secret.encode()).decode().rstrip("="),
        invitation.secret.encode().hex(),
        derived.password,
        derived.mac_key.hex(),
        base64.urlsafe_b64encode(derived.mac_key).decode().rstrip("="),
        account.password,
    ]
    wire = [said for said in site.broker.wire if "_attach" in said.topic]
    assert len(wire) == 4
    for said in site.broker.wire:
        envelope = opened_envelope(said.payload)
        text = said.topic + said.payload.decode() + envelope.payload.decode()
        assert not [secret for secret in hidden if secret in text]


# Who asks.


async def test_bind_by_hand_is_bound(site: Site) -> None:
    """What the tests below break is whole."""
    async with site.leading() as lead:
        result = await outcome_of(site, binding(await invited(site, lead), key("by hand")))
        assert result is not None
        assert result.outcome is AttachOutcome.BOUND


BREAKING = [
    *("mac of another token", "changed after its MAC", "another lead", "another device"),
    *("no signature", "stranger's key"),
]


@pytest.mark.parametrize("breaking", BREAKING)
async def test_whoever_does_not_prove_the_secret_is_answered_by_silence(site: Site, breaking: str) -> None:
    async with site.leading() as lead:
        invitation = await invited(site, lead)
        raw = {
            "mac of another token": lambda: binding(invitation.model_copy(update={"secret": "x" * 43}), key("by hand")),
            "changed after its MAC": lambda: binding(invitation, key("by hand"), name="Another"),
            "another lead": lambda: resealed(invitation, lead="es-2"),
            "another device": lambda: resealed(invitation, sender="device-2"),
            "no signature": lambda: binding(invitation, key("by hand"))[:-4] + b"AAAA",
            "stranger's key": lambda: resealed(invitation, by=key("stranger")),
        }[breaking]()
        assert await outcome_of(site, raw) is None
        async with lead.store.reading() as tx:
            assert await members.member(tx, DEVICE) is None


def resealed(invitation: Token, *, lead: str = LEAD, sender: str = DEVICE, by: PrivateKey | None = None) -> bytes:
    """Sign a right bind anew under another header, or by another key than it names."""
    bind = read(AttachBind, opened_envelope(binding(invitation, key("by hand"))).payload)
    assert isinstance(bind, AttachBind)
    return signing.seal(Typ.ATTACH_BIND, bind, by or key("by hand"), lead=lead, sender=sender)


async def test_device_without_an_invitation_is_answered_by_silence(site: Site) -> None:
    async with site.leading() as lead:
        invitation = await invited(site, lead)
        async with lead.store.transaction() as tx:
            await members.forget_invitation(tx, DEVICE)
        assert await outcome_of(site, binding(invitation, key("by hand"))) is None


async def test_bind_on_a_shadows_own_topic_is_not_heard(site: Site) -> None:
    async with site.leading() as lead:
        raw = binding(await invited(site, lead), key("by hand"))
        site.broker.inject(str(Topic(LEAD, Leaf.ANSWER, DEVICE)), raw)
        await asyncio.sleep(2)
        async with lead.store.reading() as tx:
            assert await members.member(tx, DEVICE) is None


# The outcomes.


async def test_f14_token_that_was_used_for_another_key_is_used(site: Site) -> None:
    async with site.leading() as lead:
        invitation = await invited(site, lead)
        assert await outcome_of(site, binding(invitation, key("by hand")))
        result = await outcome_of(site, binding(invitation, key("another"), nonce="m" * 16))
        assert result is not None
        assert (result.outcome, result.membership) == (AttachOutcome.USED, None)
        async with lead.store.reading() as tx:
            member = await members.member(tx, DEVICE)
        assert member is not None
        assert member.key == key("by hand").thumbprint


async def test_replayed_bind_is_bound_again_any_number_of_times_and_changes_nothing(site: Site) -> None:
    async with site.leading() as lead:
        raw = binding(await invited(site, lead), key("by hand"))
        first = await outcome_of(site, raw)
        before = rows(site.directory / LEAD, "SELECT * FROM member")
        for _ in range(3):
            await asyncio.sleep(3600)
            again = await outcome_of(site, raw)
            assert again == first
        assert rows(site.directory / LEAD, "SELECT * FROM member") == before


async def test_f14_token_expires_by_the_leads_clock(site: Site) -> None:
    """A device whose clock is years ahead may bind; one whose clock stands still may not."""
    async with site.leading() as lead, device(site) as here:
        invitation = await invited(site, lead, hours=2)
        await asyncio.sleep(2 * 3600 - 5)
        early = await outcome_of(site, binding(invitation, key("by hand")))
        assert early is not None
        assert early.outcome is AttachOutcome.BOUND
        invitation = await invited(site, lead, hours=2, again=True)
        await asyncio.sleep(2 * 3600 + 5)
        with pytest.raises(RefusedError, match="expired") as refused:
            await Attaching(here.store, invitation, here.store.path.parent, _long_ago).run(lambda _: True)
        assert "invite" in refused.value.hint
        assert await here.link() is None


def _long_ago() -> dt.datetime:
    return dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


async def test_bound_key_is_bound_again_after_the_token_expired(site: Site) -> None:
    """The answer was lost, and the device tries again within the hour."""
    async with site.leading() as lead:
        invitation = await invited(site, lead, hours=1)
        raw = binding(invitation, key("by hand"))
        assert await outcome_of(site, raw)
        await asyncio.sleep(3600 + 60)
        result = await outcome_of(site, raw)
        assert result is not None
        assert result.outcome is AttachOutcome.BOUND


async def test_token_that_ended_long_ago_is_answered_by_silence(site: Site) -> None:
    async with site.leading() as lead:
        invitation = await invited(site, lead, hours=1)
        await asyncio.sleep(2 * 3600 + 5)
        assert await outcome_of(site, binding(invitation, key("by hand"))) is None


async def test_f14_revoked_token_is_revoked(site: Site) -> None:
    async with site.leading() as lead, device(site) as here:
        invitation = await invited(site, lead)
        await invite.revoke(lead.store, site.settings, DEVICE, at=moment.write(now()))
        with pytest.raises(RefusedError, match="revoked"):
            await here.attach(invitation)
        assert await here.link() is None


async def test_f14_used_token_is_refused_on_another_device_of_the_same_id(site: Site) -> None:
    async with site.leading() as lead, device(site) as here:
        invitation = await invited(site, lead)
        assert await outcome_of(site, binding(invitation, key("by hand")))
        with pytest.raises(RefusedError, match="used already"):
            await here.attach(invitation)
        assert await here.link() is None
        assert settings.UPLINK_FILE not in here.files


async def test_token_for_another_device_is_refused_before_any_connection(site: Site) -> None:
    async with site.leading() as lead, device(site, "device-2") as there:
        invitation = await invited(site, lead)
        before = len(site.broker.tries)
        with pytest.raises(RefusedError, match="device-1"):
            await there.attach(invitation)
        assert len(site.broker.tries) == before


async def test_new_invitation_of_an_attached_device_binds_its_new_key(site: Site) -> None:
    async with site.leading() as lead:
        assert await outcome_of(site, binding(await invited(site, lead), key("by hand")))
        result = await outcome_of(site, binding(await invited(site, lead, again=True), key("another"), nonce="m" * 16))
        assert result is not None
        assert result.outcome is AttachOutcome.BOUND
        async with lead.store.reading() as tx:
            member = await members.member(tx, DEVICE)
        assert member is not None
        assert member.key == key("another").thumbprint


# Trying again.


async def test_answer_that_was_lost_is_given_again_to_the_same_key(site: Site) -> None:
    """The lead bound the key and its answer went astray: the device tries the same token with the same key."""
    async with site.leading() as lead, device(site) as here:
        invitation = await invited(site, lead)
        bound = False

        def lose_the_result(said: object) -> bool:
            nonlocal bound
            topic, payload = said.topic, said.payload  # type: ignore[attr-defined]
            if topic == REQUEST and opened_envelope(payload).typ == Typ.ATTACH_RESULT and not bound:
                bound = True
                return True
            return False

        site.broker.swallow = lose_the_result
        with pytest.raises(BusError, match="does not answer"):
            await here.attach(invitation)
        assert await here.link() is None
        assert keys.ATTACHING in here.files, "the key of this try is kept"
        async with lead.store.reading() as tx:
            before = await members.member(tx, DEVICE)
        assert before is not None
        assert await here.attach(invitation) is not None
        assert await here.link() is not None
        assert keys.ATTACHING not in here.files
        async with lead.store.reading() as tx:
            assert await members.member(tx, DEVICE) == before


async def test_key_of_a_try_with_another_token_is_not_used_again(site: Site) -> None:
    async with site.leading() as lead, device(site) as here:
        first = await invited(site, lead)
        site.broker.swallow = lambda said: said.topic == REQUEST and len(answers(site)) > 1
        with pytest.raises(BusError):
            await here.attach(first)
        tried = keys.load_credentials(keys.attaching_path(here.store.path.parent)).key.thumbprint
        site.broker.swallow = lambda _: False
        second = await invited(site, lead, again=True)
        await here.attach(second)
        async with lead.store.reading() as tx:
            member = await members.member(tx, DEVICE)
        assert member is not None
        assert member.key != tried


async def test_lead_that_does_not_answer_is_said_to_be_silent_within_ten_seconds(site: Site) -> None:
    async with site.leading() as lead:
        invitation = await invited(site, lead)
    async with device(site) as here:
        begun_s = asyncio.get_running_loop().time()
        with pytest.raises(BusError, match="the lead does not answer") as silent:
            await here.attach(invitation)
        assert asyncio.get_running_loop().time() - begun_s < 11
        assert silent.value.kind == "timeout"


# Who answers.


async def answering(site: Site, by: Lead) -> None:
    """Answer every ask as somebody else does who reads the attach topics."""
    async with site.broker.bus("rogue").connect() as link:
        await link.subscribe(ANSWER)
        async for message in link.messages():
            ask = read(AttachAsk, opened_envelope(message.payload).payload)
            if isinstance(ask, AttachAsk):
                hello = AttachHello(nonce=ask.nonce, name="ES 1", record=None)
                await link.publish(REQUEST, by.seal(Typ.ATTACH_HELLO, hello))


ROGUES = [Lead(identity=key("a rogue")), Lead(signing=key("a rogue"))]


@pytest.mark.parametrize("by", ROGUES, ids=["another identity key", "a signing key that nobody appointed"])
async def test_hello_of_another_lead_is_refused_and_nothing_is_said_to_it(site: Site, by: Lead) -> None:
    async with site.leading() as lead:
        invitation = await invited(site, lead)
    async with device(site) as here, running(answering(site, by)):
        await asyncio.sleep(1)
        with pytest.raises(RefusedError, match="not the lead of this token"):
            await here.attach(invitation)
        assert here.previews == []
        assert await here.link() is None
        assert len([said for said in site.broker.wire if said.topic == ANSWER]) == 1, "no bind"


async def test_true_lead_is_heard_over_a_rogue_that_answers_first(site: Site) -> None:
    async with site.leading() as lead, device(site) as here:
        invitation = await invited(site, lead)
        async with running(answering(site, ROGUES[0])):
            await asyncio.sleep(1)
            assert await here.attach(invitation) is not None
            assert await here.link() is not None


async def test_hello_with_a_record_of_another_lead_is_refused(site: Site) -> None:
    """The hello is the lead's, the record in it is not: nobody may be shown what will not come."""
    async with site.leading() as lead, device(site) as here:
        invitation = await invited(site, lead)
        raw = Lead(identity=key("a rogue")).signed("1.9.aaaa.9", FIRST)
        async with lead.store.transaction() as tx:
            await tx.run("UPDATE issue SET raw = ?", raw)
        with pytest.raises(RefusedError, match="does not verify"):
            await here.attach(invitation)


async def test_hello_that_answers_another_ask_is_not_taken(site: Site) -> None:
    """A recorded hello of the true lead, replayed."""
    async with site.leading() as lead, device(site) as here:
        invitation = await invited(site, lead)
        await here.attach(invitation, yes=False)
        recorded = answers(site)[-1].encode()
    async with opened(site.directory / DEVICE) as store:
        here = replace(here, store=store)

        async def replay() -> None:
            while True:
                site.broker.inject(REQUEST, recorded)
                await asyncio.sleep(0.5)

        async with running(replay()):
            with pytest.raises(BusError, match="does not answer"):
                await here.attach(invitation)
        assert len(here.previews) == 1, "the true one, before"


# Its account.


async def test_f54_photographed_token_does_not_end_the_session_of_the_real_device(site: Site) -> None:
    async with site.leading() as lead:
        async with device(site) as here:
            invitation = await invited(site, lead)
            await here.attach(invitation)
        await site.use_won_credentials(DEVICE)
        async with site.following(DEVICE) as shadow:
            await until(lambda: shadow.shadow.live()["connected"])
            connections = len(site.broker.tries)
            result = await outcome_of(site, binding(invitation, key("a thief")))
            assert result is not None
            assert result.outcome is AttachOutcome.USED
            await asyncio.sleep(60)
            assert len(site.broker.tries) == connections
            assert shadow.shadow.live()["connected"]
