"""What a lead makes of a record of its own that it did not issue last (DESIGN §3, leads that lost something)."""

from __future__ import annotations

import pytest

from propagator.core.errors import Unreadable
from propagator.core.evidence import Adopt, Ours, Reissue, Strange, proven, weigh
from propagator.core.record import LifeEntry
from propagator.core.signing import Authority, Envelope
from propagator.core.version import LIMIT
from propagator.core.wire import Typ
from tests.unit.builders import Lead, key, opened, registered, v

LEAD = Lead()
AUTHORITY = Authority("es-1", LEAD.identity.thumbprint, 1)
CONTENT = registered()
SYSTEM_ID = LEAD.record("1.1.aaaa.1").system_id
EARLIER = LifeEntry(generation=2, epoch="bbbb", revision=9)


def ours(current: str | None = "1.2.bbbb.7", *, pending: bool = False, system_id: str = SYSTEM_ID) -> Ours:
    return Ours(AUTHORITY, system_id, None if current is None else v(current), pending)


def later(written: str = "1.3.cccc.12", *, knows_ours: bool = True) -> bytes:
    """A record of a later life; `knows_ours`: it lists the life of our current version."""
    number = v(written)
    own = LifeEntry(generation=number.generation, epoch=number.epoch, revision=number.revision)
    return LEAD.signed(written, CONTENT, lives=(EARLIER, own) if knows_ours else (own,))


def test_restored_backup_that_was_not_touched_adopts_what_the_field_holds() -> None:
    found = weigh(ours(), opened(later()))
    assert isinstance(found, Adopt)
    assert found.record.version == v("1.3.cccc.12")


def test_pending_change_stands_above_what_the_field_holds() -> None:
    assert isinstance(weigh(ours(pending=True), opened(later())), Reissue)


def test_edited_backup_stands_above_a_record_that_does_not_know_it() -> None:
    assert isinstance(weigh(ours(), opened(later(knows_ours=False))), Reissue)


def test_life_that_ended_before_our_version_does_not_know_it() -> None:
    assert isinstance(weigh(ours("1.2.bbbb.10"), opened(later())), Reissue)


def test_other_epoch_of_our_generation_is_overruled() -> None:
    assert isinstance(weigh(ours("1.3.dddd.12"), opened(later(knows_ours=False))), Reissue)


@pytest.mark.parametrize("current", ["1.3.cccc.12", "1.3.cccc.13", "1.4.dddd.13"])
def test_what_is_not_above_ours_proves_nothing(current: str) -> None:
    assert weigh(ours(current), opened(later())) is None
    assert weigh(ours(current, system_id="ANOTHER"), opened(later())) is None


@pytest.mark.parametrize(
    "known",
    [pytest.param(ours(None), id="a lost database"), pytest.param(ours(system_id="ANOTHER"), id="another life")],
)
def test_record_of_another_system_id_is_shown_and_not_adopted(known: Ours) -> None:
    found = weigh(known, opened(later()))
    assert isinstance(found, Strange)
    assert (found.code, found.hint) == ("FIELD_HOLDS_ANOTHER_LIFE", "propagator associate --from-field")
    assert SYSTEM_ID in found.cause


@pytest.mark.parametrize("known", [ours(), ours(None)], ids=["a lead", "a lead that lost its database"])
@pytest.mark.parametrize("written", [f"1.{LIMIT}.cccc.12", f"1.3.cccc.{LIMIT}"])
def test_f02_version_above_which_there_is_none_is_never_adopted(written: str, known: Ours) -> None:
    found = weigh(known, opened(later(written)))
    assert isinstance(found, Strange)
    assert (found.code, found.hint) == ("VERSION_EXHAUSTED", "propagator rotate")


@pytest.mark.parametrize(
    "offer",
    [
        pytest.param(Unreadable("junk"), id="no document"),
        pytest.param(opened(Lead(identity=key("thief")).signed("1.9.cccc.99", CONTENT)), id="another identity key"),
        pytest.param(opened(LEAD.rotated().signed("2.1.cccc.1", CONTENT)), id="another seq than the present one"),
        pytest.param(opened(LEAD.signed("2.1.cccc.1", CONTENT)), id="a version that is not of its delegation"),
        pytest.param(opened(LEAD.forged(b"{}")), id="no record inside"),
        pytest.param(opened(LEAD.forged(b"{}", typ="heartbeat")), id="another document"),
    ],
)
def test_what_is_not_our_own_present_word_proves_nothing(offer: Envelope | Unreadable) -> None:
    assert proven(AUTHORITY, offer) is None
    assert weigh(ours(None), offer) is None


def test_typ_of_a_record_is_record() -> None:
    assert opened(later()).typ == Typ.RECORD
