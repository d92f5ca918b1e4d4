"""The ten rules of DESIGN §3. Each has a test that turns red when the rule is taken away (tests/mutations.py)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, assert_never

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propagator.core import registration, signing
from propagator.core.decide import Decision, Floor, InForce, Keep, Overwrite, RaiseFloor, Refuse, Trust, decide, judge
from propagator.core.record import Hop
from propagator.core.state import Reason, State
from propagator.core.version import Order
from propagator.core.wire import Typ, path_of
from tests.unit.builders import Lead, flipped, forged, key, opened, registered, v

if TYPE_CHECKING:
    from collections.abc import Sequence

    from propagator.core.registration import Registration

LEAD = Lead()
STRANGER = Lead(identity=key("stranger"), signing=key("stranger signing"))
OTHER = Lead("es-2", key("es-2 identity"), key("es-2 signing 1"))
CENTRAL = Lead("central", key("central identity"), key("central signing 1"))
A, B = registered("Riverside House"), registered("Hillside House")
OWN = InForce(None, registered("Own House").hash)


def _decided(raw: bytes, floor: Floor | None = None, in_force: InForce = OWN, trust: Trust | None = None) -> Decision:
    return decide(floor, in_force, signing.open_envelope(raw), trust or LEAD.trust())


def _refused(decision: Decision) -> Refuse:
    assert isinstance(decision, Refuse), decision
    return decision


def _reason(decision: Decision) -> Reason:
    return _refused(decision).reason


def _floor(
    written: str, content: Registration | None = A, *, registered: bool = True, path: Sequence[Hop] = ()
) -> Floor:
    return Floor(v(written), registration.hash_of(content), path_of((*path, LEAD.hop)), registered)


def _held(written: str, content: Registration = A) -> InForce:
    return InForce(LEAD.signed(written, content), content.hash)


# Rule 1


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        pytest.param(b"", "an empty message", id="an empty message, as F05 leaves on the topic"),
        pytest.param(b"x" * (signing.SIZE_LIMIT + 1), "larger than 65536 bytes", id="too large"),
        pytest.param(forged(b"[" * 40_000), "deeper than 32", id="too deep"),
        pytest.param(b'{"lead":"es-1"}', "not a signed document", id="not a JWS"),
    ],
)
def test_rule_01_what_is_no_signed_document_is_unreadable(raw: bytes, says: str) -> None:
    refusal = _refused(_decided(raw))
    assert refusal.reason is Reason.UNREADABLE
    assert says in refusal.text


def test_rule_01_another_document_of_the_lead_is_no_record() -> None:
    """Even if its payload would do for one: what a document is, its signed header says."""
    refusal = _refused(_decided(LEAD.seal(Typ.ANSWER, LEAD.record("1.1.aaaa.1", A))))
    assert (refusal.reason, refusal.verified) == (Reason.UNREADABLE, False)


def test_rule_01_comes_before_rule_02() -> None:
    assert _reason(_decided(forged({"typ": "report", "lead": "es-2", "sender": "es-2"}))) is Reason.UNREADABLE


# Rule 2


def test_f06_rule_02_the_record_of_another_lead_is_refused() -> None:
    refusal = _refused(_decided(OTHER.signed("1.1.aaaa.1", A)))
    assert refusal.reason is Reason.WRONG_LEAD
    assert "'es-2'" in refusal.text


def test_f06_rule_02_holds_even_if_its_key_is_ours() -> None:
    assert _reason(_decided(replace(LEAD, id="es-2").signed("1.1.aaaa.1", A))) is Reason.WRONG_LEAD


def test_rule_02_comes_before_rule_03() -> None:
    assert _reason(_decided(forged({"typ": "record", "lead": "es-2", "sender": "es-2"}))) is Reason.WRONG_LEAD


def test_f41_rule_02_a_look_alike_of_the_lead_is_another_lead() -> None:
    decision = _decided(forged({"typ": "record", "lead": "\u0435s-1", "sender": "\u0435s-1"}))
    assert _reason(decision) is Reason.WRONG_LEAD


# Rule 3


def test_f03_rule_03_another_identity_key_is_a_second_lead() -> None:
    assert _reason(_decided(STRANGER.signed("1.9.zzzz.99", B))) is Reason.SECOND_LEAD


def test_f02_rule_03_a_replaced_delegation_is_revoked() -> None:
    decision = _decided(LEAD.signed("1.9007199254740991.zzzz.9007199254740991", B), trust=LEAD.trust(seq=2))
    assert _reason(decision) is Reason.REVOKED_KEY


def test_f02_rule_03_the_next_delegation_is_taken() -> None:
    assert isinstance(_decided(LEAD.rotated().signed("2.1.aaaa.1", A), _floor("1.9.zzzz.99")), Overwrite)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(LEAD.forged(b"{}", delegation=None), id="no delegation"),
        pytest.param(LEAD.forged(b"{}", delegation="x"), id="a delegation that is none"),
        pytest.param(LEAD.forged(b"{}", delegation=OTHER.delegation), id="the delegation of another lead"),
        pytest.param(LEAD.forged(b"{}", delegation=LEAD.rotated().delegation), id="the delegation of another key"),
        pytest.param(LEAD.forged(b"{}", sender="plant-3"), id="a sender that is not the lead"),
        pytest.param(flipped(LEAD.signed("1.1.aaaa.1", A), -9), id="a bit flipped in the signature"),
        pytest.param(flipped(LEAD.signed("1.1.aaaa.1", A), -120), id="a bit flipped in the payload"),
        pytest.param(LEAD.signed("2.1.aaaa.1", A), id="a version whose seq is not the delegation's"),
        pytest.param(LEAD.seal(Typ.RECORD, OTHER.record("1.1.aaaa.1", A)), id="a payload that names another lead"),
        pytest.param(
            LEAD.seal(Typ.RECORD, STRANGER.record("1.1.aaaa.1", A)), id="a path that ends with another identity key"
        ),
    ],
)
def test_f04_rule_03_what_does_not_verify_is_a_bad_signature(raw: bytes) -> None:
    refusal = _refused(_decided(raw))
    assert (refusal.reason, refusal.verified) == (Reason.BAD_SIGNATURE, False)


def test_rule_03_asks_for_the_identity_before_the_seq() -> None:
    assert _reason(_decided(STRANGER.signed("1.1.aaaa.1", A), trust=LEAD.trust(seq=2))) is Reason.SECOND_LEAD


def test_rule_03_comes_before_rule_04() -> None:
    for stranger in (STRANGER.seal(Typ.RECORD, Hop(id="x", identity="x" * 43)), LEAD.forged(b"junk", delegation=None)):
        refusal = _refused(_decided(stranger))
        assert refusal.reason in {Reason.SECOND_LEAD, Reason.BAD_SIGNATURE}
        assert not refusal.verified


def test_rule_03_comes_before_rules_05_to_07() -> None:
    trust = LEAD.trust(own_identity=STRANGER.identity.thumbprint)
    assert _reason(_decided(STRANGER.signed("1.1.aaaa.1", B), _floor("1.1.aaaa.1"), trust=trust)) is Reason.SECOND_LEAD
    revoked = LEAD.trust(seq=2)
    assert _reason(_decided(LEAD.signed("1.1.aaaa.1", B), _floor("2.1.aaaa.1"), trust=revoked)) is Reason.REVOKED_KEY


def test_judge_lets_the_lead_speak() -> None:
    authority = signing.authority(opened(LEAD.signed("1.1.aaaa.1", A)))
    assert judge(authority, LEAD.trust()) is None
    assert judge(None, LEAD.trust()) is not None


# Rule 4


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xff", id="not UTF-8"),
        pytest.param(b"{}", id="no members"),
        pytest.param(b"[" * 40, id="too deep"),
        pytest.param(b'{"lead":"es-1","lead":"es-1"}', id="a name twice"),
    ],
)
def test_f28_rule_04_the_leads_word_that_does_not_parse_is_quarantined(payload: bytes) -> None:
    refusal = _refused(_decided(LEAD.forged(payload), _floor("1.1.aaaa.1"), _held("1.1.aaaa.1")))
    assert (refusal.reason, refusal.verified) == (Reason.UNREADABLE, True)
    assert "does not parse" in refusal.text


def test_f28_rule_04_a_registration_that_is_none_is_quarantined() -> None:
    payload = LEAD.record("1.1.aaaa.1", A).model_dump_json().replace('"GB"', '"England"').encode()
    refusal = _refused(_decided(LEAD.forged(payload)))
    assert refusal.reason is Reason.UNREADABLE
    assert "registration" in refusal.text


# Rule 5


def _came_through(me: Lead, written: str) -> bytes:
    return LEAD.signed(written, A, above=(CENTRAL.hop, me.hop))


def test_f17_rule_05_a_record_that_came_through_this_server_is_a_loop() -> None:
    trust = LEAD.trust(own_identity=OTHER.identity.thumbprint)
    refusal = _refused(_decided(_came_through(OTHER, "1.1.aaaa.1"), trust=trust))
    assert (refusal.reason, refusal.verified) == (Reason.LOOP, True)


def test_f17_rule_05_tells_loops_by_thumbprint_and_not_by_id() -> None:
    namesake = Lead(OTHER.id, key("namesake"), key("namesake signing"))
    trust = LEAD.trust(own_identity=OTHER.identity.thumbprint)
    assert isinstance(_decided(_came_through(namesake, "1.1.aaaa.1"), trust=trust), Overwrite)


def test_rule_05_asks_nothing_of_a_server_that_leads_nobody() -> None:
    assert isinstance(_decided(_came_through(OTHER, "1.1.aaaa.1")), Overwrite)


def test_rule_05_comes_before_rule_06() -> None:
    trust = LEAD.trust(own_identity=OTHER.identity.thumbprint)
    assert _reason(_decided(_came_through(OTHER, "1.1.aaaa.1"), _floor("1.2.aaaa.2"), trust=trust)) is Reason.LOOP


# Rule 6


@pytest.mark.parametrize(
    ("offered", "floor"),
    [
        pytest.param("1.4.aaaa.40", "1.4.aaaa.41", id="a lower revision of the same life"),
        pytest.param("1.3.zzzz.99", "1.4.aaaa.41", id="an earlier life, whatever its revision"),
        pytest.param("1.9.zzzz.99", "2.1.aaaa.1", id="an earlier delegation, whatever its generation"),
        pytest.param("1.3.aaaa.40", "1.4.aaaa.41", id="an earlier life of the same epoch's name"),
    ],
)
def test_f01_rule_06_a_version_below_the_floor_is_a_rollback(offered: str, floor: str) -> None:
    refusal = _refused(_decided(LEAD.signed(offered, A), _floor(floor)))
    assert (refusal.reason, refusal.verified) == (Reason.ROLLBACK, True)
    assert f"{floor} came before" in refusal.text


def test_f01_rule_06_the_floor_counts_when_the_record_in_force_is_gone() -> None:
    """The floor is durable: after a restart, or after `detach --restore`, an old record stays old."""
    old = LEAD.signed("1.1.aaaa.1", A)
    for in_force in (OWN, InForce(None, registration.NO_REGISTRATION_HASH), InForce(old, A.hash)):
        assert _reason(_decided(old, _floor("1.1.aaaa.2", B), in_force)) is Reason.ROLLBACK


def test_f49_rule_06_the_null_record_of_the_first_day_is_a_rollback() -> None:
    """Rule 6 comes before rule 9: a replayed null must not say `lead_unregistered`."""
    assert _reason(_decided(LEAD.signed("1.1.aaaa.1"), _floor("1.1.aaaa.2"), _held("1.1.aaaa.2"))) is Reason.ROLLBACK


@pytest.mark.parametrize("floor", [None, _floor("1.1.aaaa.1")], ids=["without a floor", "above a floor of long ago"])
def test_f01_rule_06_a_version_below_that_of_the_token_is_a_rollback(floor: Floor | None) -> None:
    trust = LEAD.trust(lowest=v("1.4.bbbb.41"))
    refusal = _refused(_decided(LEAD.signed("1.4.bbbb.40", A), floor, trust=trust))
    assert refusal.reason is Reason.ROLLBACK
    assert "1.4.bbbb.41 came before" in refusal.text
    assert isinstance(_decided(LEAD.signed("1.4.bbbb.41", A), floor, trust=trust), Overwrite)


def test_rule_06_without_a_floor_any_version_is_taken() -> None:
    assert isinstance(_decided(LEAD.signed("1.1.aaaa.1", A)), Overwrite)


def test_rule_06_comes_before_rule_07() -> None:
    """An older life has another epoch, too: it is no fork."""
    assert _reason(_decided(LEAD.signed("1.1.bbbb.1", B), _floor("1.2.aaaa.2"))) is Reason.ROLLBACK


# Rule 7


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(LEAD.signed("1.4.bbbb.42", A), id="another epoch of the same generation"),
        pytest.param(LEAD.signed("1.4.bbbb.40", A), id="another epoch with a lower revision"),
        pytest.param(LEAD.signed("1.4.aaaa.41", B), id="the same version with another registration"),
        pytest.param(LEAD.signed("1.4.aaaa.41"), id="the same version without a registration"),
        pytest.param(LEAD.signed("1.4.aaaa.41", A, above=(CENTRAL.hop,)), id="the same version by another path"),
    ],
)
def test_f09_rule_07_two_records_that_nobody_ordered_are_a_fork(raw: bytes) -> None:
    refusal = _refused(_decided(raw, _floor("1.4.aaaa.41"), _held("1.4.aaaa.41")))
    assert (refusal.reason, refusal.verified) == (Reason.FORK, True)


def test_f09_rule_07_the_first_of_two_is_kept() -> None:
    first, second = LEAD.signed("1.1.aaaa.1", A), LEAD.signed("1.1.aaaa.1", B)
    taken = _decided(first)
    assert isinstance(taken, Overwrite)
    held = InForce(first, A.hash)
    assert _reason(_decided(second, taken.floor, held)) is Reason.FORK
    assert isinstance(_decided(first, taken.floor, held), Keep)


def test_rule_07_another_hash_or_path_in_a_higher_version_is_no_fork() -> None:
    raw = LEAD.signed("1.4.aaaa.42", B, above=(CENTRAL.hop,))
    assert isinstance(_decided(raw, _floor("1.4.aaaa.41"), _held("1.4.aaaa.41")), Overwrite)


def test_rule_07_comes_before_rules_08_and_09() -> None:
    """A null record of the very version accepted with a registration: neither kept nor a withdrawal."""
    held = InForce(LEAD.signed("1.1.aaaa.1"), registration.NO_REGISTRATION_HASH)
    assert _reason(_decided(LEAD.signed("1.1.aaaa.1"), _floor("1.1.aaaa.1"), held)) is Reason.FORK


# Rule 8


def test_f21_rule_08_the_record_in_force_is_kept() -> None:
    raw = LEAD.signed("1.1.aaaa.1", A)
    assert _decided(raw, _floor("1.1.aaaa.1"), InForce(raw, A.hash)) == Keep(LEAD.record("1.1.aaaa.1", A))


def test_f35_rule_08_any_bit_flipped_in_the_stored_bytes_is_healed_by_the_offer() -> None:
    raw = LEAD.signed("1.1.aaaa.1", A)
    floor = _floor("1.1.aaaa.1")
    for index in range(0, len(raw), 7):
        held = InForce(flipped(raw, index), A.hash)
        assert isinstance(_decided(raw, floor, held), Overwrite), f"a bit of byte {index}"


@pytest.mark.parametrize(
    "held",
    [
        pytest.param(OWN, id="its own registration is in force, after detach with restore"),
        pytest.param(InForce(None, A.hash), id="its own registration happens to be the same"),
        pytest.param(InForce(LEAD.signed("1.1.aaaa.1", A), B.hash), id="the stored content is not what was signed"),
        pytest.param(InForce(LEAD.signed("1.1.aaaa.9", A), A.hash), id="the bytes of another version are stored"),
        pytest.param(InForce(STRANGER.signed("1.1.aaaa.1", A), A.hash), id="the bytes of a stranger are stored"),
        pytest.param(InForce(LEAD.forged(b"{}"), A.hash), id="what is stored verifies but does not parse"),
        pytest.param(InForce(b"", A.hash), id="nothing is stored"),
    ],
)
def test_rule_08_anything_else_in_force_is_overwritten_again(held: InForce) -> None:
    assert isinstance(_decided(LEAD.signed("1.1.aaaa.1", A), _floor("1.1.aaaa.1"), held), Overwrite)


# Rule 9


def _raised(decision: Decision) -> RaiseFloor:
    assert isinstance(decision, RaiseFloor), decision
    return decision


@pytest.mark.parametrize("floor", [None, _floor("1.1.aaaa.1", None, registered=False)], ids=["first", "again"])
def test_rule_09_an_unregistered_lead_wipes_nothing(floor: Floor | None) -> None:
    raised = _raised(_decided(LEAD.signed("1.1.aaaa.1"), floor))
    assert raised == RaiseFloor(_floor("1.1.aaaa.1", None, registered=False), State.LEAD_UNREGISTERED)


def test_rule_09_a_lead_that_had_a_registration_withdraws_it() -> None:
    raised = _raised(_decided(LEAD.signed("1.1.aaaa.3"), _floor("1.1.aaaa.2"), _held("1.1.aaaa.2")))
    assert raised == RaiseFloor(_floor("1.1.aaaa.3", None, registered=True), State.WITHDRAWN)


def test_rule_09_remembers_a_withdrawal_over_further_null_records() -> None:
    floor = _floor("1.1.aaaa.3", None, registered=True)
    for written in ("1.1.aaaa.3", "1.1.aaaa.4", "1.2.bbbb.5", "1.9.cccc.9"):
        raised = _raised(_decided(LEAD.signed(written), floor, _held("1.1.aaaa.2")))
        assert raised.state is State.WITHDRAWN
        floor = raised.floor
    assert floor.registered


@pytest.mark.parametrize("registered", [False, True], ids=["unregistered", "withdrawn"])
def test_rule_09_said_twice_is_said_once(*, registered: bool) -> None:
    raw = LEAD.signed("1.1.aaaa.3")
    once = _raised(_decided(raw, _floor("1.1.aaaa.2", registered=registered)))
    assert _decided(raw, once.floor) == once


def test_rule_09_ends_with_the_next_registration() -> None:
    decision = _decided(LEAD.signed("1.1.aaaa.2", A), _floor("1.1.aaaa.1", None, registered=False))
    assert isinstance(decision, Overwrite)
    assert decision.floor.registered


# Rule 10


@pytest.mark.parametrize(
    ("offered", "floor"),
    [
        pytest.param("1.4.aaaa.42", "1.4.aaaa.41", id="the next revision"),
        pytest.param("1.4.aaaa.99", "1.4.aaaa.41", id="a later revision, some were missed (F26)"),
        pytest.param("1.5.bbbb.42", "1.4.aaaa.41", id="the next life"),
        pytest.param("1.5.bbbb.1", "1.4.aaaa.41", id="a later life with a lower revision"),
        pytest.param("1.1.aaaa.1", None, id="the first record"),
    ],
)
def test_rule_10_a_higher_version_overwrites(offered: str, floor: str | None) -> None:
    held = OWN if floor is None else _held(floor)
    decision = _decided(LEAD.signed(offered, B), None if floor is None else _floor(floor), held)
    assert decision == Overwrite(LEAD.record(offered, B), _floor(offered, B))


def test_rule_10_the_floor_takes_the_whole_path() -> None:
    decision = _decided(LEAD.signed("1.1.aaaa.1", A, above=(CENTRAL.hop,)))
    assert isinstance(decision, Overwrite)
    assert decision.floor == _floor("1.1.aaaa.1", path=(CENTRAL.hop,))


def test_f48_rule_10_attaching_overwrites_both_times() -> None:
    """A device's own record has no version to look newer; after `detach --restore` the same bytes overwrite again."""
    raw = LEAD.signed("1.1.aaaa.1", A)
    first = _decided(raw, None, OWN)
    assert isinstance(first, Overwrite)
    assert isinstance(_decided(raw, first.floor, InForce(raw, A.hash)), Keep)
    assert _decided(raw, first.floor, OWN) == first


# All rules


class _Shadow:
    """What a shadow does with decisions, without a store."""

    def __init__(self) -> None:
        self.floor: Floor | None = None
        self.in_force = OWN

    def offer(self, raw: bytes) -> Decision:
        decision = _decided(raw, self.floor, self.in_force)
        match decision:
            case Overwrite(record=record, floor=floor):
                self.floor, self.in_force = floor, InForce(raw, record.hash)
            case RaiseFloor(floor=floor):
                self.floor = floor
            case Keep() | Refuse():
                pass
            case _:
                assert_never(decision)
        return decision

    def detach(self) -> None:
        self.in_force = OWN


_VERSIONS = [
    *(
        f"1.{generation}.{epoch}.{revision}"
        for generation in (1, 2)
        for epoch in ("aaaa", "bbbb")
        for revision in (1, 2)
    ),
    "2.1.aaaa.1",
    "2.1.bbbb.1",
]
_LEADS = {1: LEAD, 2: LEAD.rotated()}
_SIGNED = [
    _LEADS[v(written).seq].signed(written, content, above=above)
    for written in _VERSIONS
    for content in (None, A, B)
    for above in ((), (CENTRAL.hop,))
]
_JUNK = [
    b"",
    b"\x00" * 9,
    STRANGER.signed("1.9.zzzz.9", B),
    OTHER.signed("1.9.zzzz.9", B),
    LEAD.signed("9.9.zzzz.9", B),
    LEAD.forged(b"{}"),
    flipped(LEAD.signed("1.9.zzzz.9", B), -5),
]
OFFERS = st.lists(st.sampled_from([*_SIGNED, *_JUNK]) | st.binary(max_size=9), max_size=12)


@given(OFFERS)
def test_the_floor_never_goes_down_whatever_is_offered(offers: list[bytes]) -> None:
    shadow = _Shadow()
    for raw in offers:
        before, held = shadow.floor, shadow.in_force
        decision = shadow.offer(raw)
        if before is not None:
            assert shadow.floor is not None
            assert shadow.floor.version.compared_to(before.version) in {Order.EQUAL, Order.HIGHER}
            assert shadow.floor.registered >= before.registered
        if isinstance(decision, Refuse | Keep):
            assert (shadow.floor, shadow.in_force) == (before, held)
        else:
            assert raw in _SIGNED


@given(OFFERS)
def test_what_was_taken_is_kept_until_it_is_lost(offers: list[bytes]) -> None:
    shadow = _Shadow()
    for raw in offers:
        if isinstance(shadow.offer(raw), Overwrite):
            assert isinstance(shadow.offer(raw), Keep)
            shadow.detach()
            assert isinstance(shadow.offer(raw), Overwrite)


@given(OFFERS)
def test_f22_whatever_came_before_the_newest_record_wins(offers: list[bytes]) -> None:
    shadow = _Shadow()
    for raw in offers:
        shadow.offer(raw)
    newest = LEAD.rotated().signed("2.9.cccc.9", A)
    assert isinstance(shadow.offer(newest), Overwrite)
    assert (shadow.floor, shadow.in_force) == (_floor("2.9.cccc.9"), InForce(newest, A.hash))


@given(OFFERS)
def test_f20_a_refusal_can_be_shown_on_any_terminal(offers: list[bytes]) -> None:
    shadow = _Shadow()
    for decision in map(shadow.offer, offers):
        if isinstance(decision, Refuse):
            assert registration.plain_text(decision.text) == decision.text
            assert len(decision.text) <= 500


def test_the_pool_of_offers_meets_every_outcome() -> None:
    """Otherwise the properties above would prove little."""
    met: set[object] = set()
    for first in _SIGNED[::9]:
        shadow = _Shadow()
        for raw in (first, first, *_SIGNED, *_JUNK):
            decision = shadow.offer(raw)
            met.add(decision.reason if isinstance(decision, Refuse) else type(decision))
    wanted = {
        Reason.UNREADABLE,
        Reason.WRONG_LEAD,
        Reason.SECOND_LEAD,
        Reason.BAD_SIGNATURE,
        Reason.ROLLBACK,
        Reason.FORK,
    }
    assert met >= wanted | {Overwrite, Keep, RaiseFloor}
