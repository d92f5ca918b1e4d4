"""What a portal signed, put in force: one transaction, which a refusal or a kill leaves as it was."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from propagator.core import moment, statement
from propagator.core.errors import RefusedError
from propagator.core.state import DownlinkState, Event, Origin
from propagator.core.statement import Refusal, StatementReason
from propagator.entering import Access, Entered, Offer
from propagator.register import accept, look, register
from propagator.store import issued, portals
from tests.store.contents import AT, LATER, attach, in_force
from tests.unit.builders import key, registered
from tests.unit.test_statement import said as stated

if TYPE_CHECKING:
    from propagator.core.registration import Registration
    from propagator.core.statement import Statement
    from propagator.store import Store

NOW = moment.read(AT)
PORTAL = key("portal")


def said(edition: int = 1, name: str | None = "Portal House", **changes: object) -> Statement:
    content = None if name is None else registered(name)
    members = {"system_id": "SYS-D", "edition": edition, "serial": f"{edition:022}", "expires_at": None, **changes}
    return stated().model_copy(update={**members, "registration": content})


def offered(edition: int = 1, name: str | None = "Portal House", **changes: object) -> Offer:
    raw = statement.seal(said(edition, name, **changes), PORTAL)
    return Offer(raw, Origin.CODE, trusted=PORTAL.thumbprint)


async def entered(store: Store, offer: Offer, at: str = AT) -> Entered:
    outcome = await accept(store, offer, moment.read(at))
    assert isinstance(outcome, Entered), outcome
    return outcome


async def lines(store: Store) -> list[tuple[str, str, str]]:
    async with store.reading() as tx:
        rows = await tx.all("SELECT event, origin, detail FROM history ORDER BY id")
    return [(row["event"], row["origin"], row["detail"]) for row in rows]


async def known(store: Store) -> portals.Portal | None:
    async with store.reading() as tx:
        return await portals.portal(tx)


async def site(store: Store) -> Registration | None:
    return (await in_force(store)).registration


async def test_statement_is_put_in_force_with_its_history_and_the_portal(store: Store) -> None:
    outcome = await entered(store, offered(edition=3))
    assert (outcome.before, outcome.after, outcome.changed) == (None, registered("Portal House"), True)
    assert (outcome.event, outcome.leads, outcome.may_be_attached) == (Event.REGISTERED, False, True)
    local = await in_force(store)
    assert (local.registration, local.origin, local.pending) == (outcome.after, Origin.CODE, False)
    detail = f"Registration code {3:022}, portal R-7KQ2M9 edition 3"
    assert await lines(store) == [("registered", "code", detail)]
    assert await known(store) == portals.Portal(PORTAL.thumbprint, "portal", system="R-7KQ2M9", edition=3)


async def test_answer_of_the_portal_is_told_from_a_code(store: Store) -> None:
    await entered(store, replace(offered(), origin=Origin.PORTAL))
    assert await lines(store) == [("registered", "portal", "portal R-7KQ2M9 edition 1")]


async def test_the_right_to_ask_for_later_editions_comes_with_the_statement_and_a_code_leaves_it(store: Store) -> None:
    access = Access("https://portal.example", "canary-token")
    offer = replace(offered(), origin=Origin.PORTAL, access=access)
    assert "canary-token" not in repr(offer)
    await entered(store, offer)
    await entered(store, offered(edition=2))
    held = await known(store)
    assert held is not None
    assert (held.url, held.token, held.edition) == (access.url, access.token, 2)


async def test_serial_is_used_up(store: Store) -> None:
    await entered(store, offered())
    outcome = await accept(store, offered(), NOW)
    assert isinstance(outcome, Refusal)
    assert outcome.reason is StatementReason.ALREADY_USED


async def test_refusal_changes_nothing(store: Store) -> None:
    for offer in (offered(system_id="OTHER"), replace(offered(), trusted=None), offered(expires_at=AT)):
        assert isinstance(await accept(store, offer, NOW), Refusal)
    assert (await lines(store), await known(store), await site(store)) == ([], None, None)


async def test_looking_changes_nothing(store: Store) -> None:
    looked = await look(store, offered(), NOW)
    assert (looked.before, looked.is_lost) == (None, False)
    assert isinstance(looked.judged, statement.Proven)
    assert (await lines(store), await known(store)) == ([], None)
    await entered(store, offered())


async def test_later_edition_needs_no_trust_again_and_an_earlier_one_is_superseded(store: Store) -> None:
    await entered(store, offered(edition=2))
    await entered(store, replace(offered(edition=3, name="Next House"), trusted=None))
    assert await site(store) == registered("Next House")
    outcome = await accept(store, replace(offered(edition=1), trusted=None), NOW)
    assert isinstance(outcome, Refusal)
    assert outcome.reason is StatementReason.SUPERSEDED


async def test_edition_that_changes_nothing_here_is_noted_and_writes_no_history(store: Store) -> None:
    await entered(store, offered())
    outcome = await entered(store, offered(edition=2))
    assert outcome.changed is False
    assert len(await lines(store)) == 1
    now_known = await known(store)
    assert now_known is not None
    assert now_known.edition == 2


async def test_same_content_that_a_person_had_registered_by_hand_becomes_the_portals(store: Store) -> None:
    await register(store, registered("Portal House"), at=AT)
    assert (await entered(store, offered())).changed is True
    assert (await in_force(store)).origin is Origin.CODE


async def test_withdrawal_leaves_no_registration_and_is_told(store: Store) -> None:
    await entered(store, offered())
    outcome = await entered(store, offered(edition=2, name=None))
    assert (outcome.event, outcome.after, await site(store)) == (Event.WITHDRAWN, None, None)


@pytest.mark.parametrize(
    ("associates", "replaces", "event"),
    [
        pytest.param(False, "SYS-OLD", Event.ASSOCIATED, id="its first statement says so"),
        pytest.param(True, None, Event.ASSOCIATED, id="the person says so"),
        pytest.param(False, None, Event.REGISTERED, id="nobody says so"),
    ],
)
async def test_association_is_called_so(store: Store, associates: bool, replaces: str | None, event: Event) -> None:  # noqa: FBT001
    outcome = await entered(store, replace(offered(replaces=replaces), associates=associates))
    assert outcome.event is event
    (line,) = await lines(store)
    assert line[0] == event
    assert ("SYS-OLD before" in line[2]) == (replaces is not None)


async def test_later_editions_of_an_associated_system_are_changes_as_any(store: Store) -> None:
    await entered(store, offered(replaces="SYS-OLD"))
    assert (await entered(store, offered(edition=2, name="Next House", replaces="SYS-OLD"))).event is Event.REGISTERED


async def test_attached_shadow_refuses_and_names_its_lead(store: Store) -> None:
    await attach(store)
    for act in (accept, look):
        with pytest.raises(RefusedError, match="'The lead'") as raised:
            await act(store, offered(), NOW)
        assert "register at es-1" in raised.value.hint
    with pytest.raises(RefusedError) as raised:
        await accept(store, replace(offered(), associates=True), NOW)
    assert "associate at es-1" in raised.value.hint
    assert await known(store) is None


async def test_lost_lead_refuses_to_register_and_says_associate(lead_store: Store) -> None:
    async with lead_store.transaction() as tx:
        await issued.create(tx, "embedded", DownlinkState.LOST)
    offer = offered(system_id="SYS-1")
    with pytest.raises(RefusedError, match="lost its record") as raised:
        await accept(lead_store, offer, NOW)
    assert "propagator associate" in raised.value.hint
    assert (await look(lead_store, replace(offer, associates=True), NOW)).is_lost is True


async def test_what_a_lead_takes_is_pending_until_it_is_issued(lead_store: Store) -> None:
    outcome = await entered(lead_store, offered(system_id="SYS-1"))
    assert (outcome.leads, (await in_force(lead_store)).pending) == (True, True)


async def test_undo_takes_back_what_a_portal_brought(store: Store) -> None:
    from propagator.register import undo  # noqa: PLC0415  of this one

    await entered(store, offered())
    await entered(store, offered(edition=2, name="Next House"))
    await entered(store, offered(edition=3, name=None))
    assert (await undo(store, at=LATER)).after == registered("Next House")
    assert (await undo(store, at=LATER)).after == registered("Portal House")
    await entered(store, offered(edition=4, name="Third House"))
    assert await site(store) == registered("Third House")


async def test_another_portal_takes_the_place_of_the_one_before(store: Store) -> None:
    await entered(store, offered(edition=7))
    async with store.transaction() as tx:
        await portals.connect(tx, "https://portal.example", "secret")
        await portals.trust(tx, PORTAL.thumbprint, name="again")
    now_known = await known(store)
    assert now_known is not None
    assert (now_known.name, now_known.url, now_known.token, now_known.edition) == (
        *("again", "https://portal.example", "secret", 7),
    )
    async with store.transaction() as tx:
        await portals.trust(tx, key("another").thumbprint)
    assert await known(store) == portals.Portal(key("another").thumbprint, "portal")


async def test_how_the_portal_answered_is_remembered(store: Store) -> None:
    await entered(store, offered())
    async with store.transaction() as tx:
        await portals.note_asked(tx, asked_at=AT, answered_at=AT, finding=None)
        await portals.note_asked(tx, asked_at=LATER, answered_at=None, finding={"code": "PORTAL"})
    now_known = await known(store)
    assert now_known is not None
    assert (now_known.asked_at, now_known.answered_at, now_known.finding) == (LATER, AT, {"code": "PORTAL"})


async def test_standing_is_what_the_store_holds(store: Store) -> None:
    async with store.reading() as tx:
        assert await portals.standing(tx, NOW) == statement.Standing("SYS-D", NOW, frozenset(), frozenset())
    await entered(store, offered(edition=4))
    async with store.reading() as tx:
        trusting = await portals.standing(tx, NOW, trusted="another")
        standing = await portals.standing(tx, NOW + dt.timedelta(days=1))
    assert (standing.trusted, standing.used) == ({PORTAL.thumbprint}, {f"{4:022}"})
    assert (standing.key, standing.system, standing.edition) == (PORTAL.thumbprint, "R-7KQ2M9", 4)
    assert trusting.trusted == {"another"}


async def test_stand_alone_device_is_told_that_it_need_not_be_registered(lead_store: Store) -> None:
    async with lead_store.transaction() as tx:
        await tx.run("UPDATE server SET kind = ?, wants_downlink = 0", "server-device")
    assert (await entered(lead_store, offered(system_id="SYS-1"))).may_be_attached is True
    assert (await register(lead_store, registered("Own House"), at=AT)).may_be_attached is True
