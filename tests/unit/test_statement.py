"""The statement: each rule of `statement.read` has its test, and the first that is broken is the reason."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from propagator.core import signing, statement
from propagator.core.statement import Proven, Refusal, Standing, Statement, StatementReason
from tests.unit.builders import b64, flipped, forged, key, registered

if TYPE_CHECKING:
    from propagator.core.registration import Registration

PORTAL = key("portal")
NOW = dt.datetime(2026, 11, 24, 12, 0, tzinfo=dt.UTC)
HERE = Standing("SYS-1", NOW, {PORTAL.thumbprint})
SERIAL = "AAAAAAAAAAAAAAAAAAAAAA"


def said(content: Registration | None = None, **changes: object) -> Statement:
    members = {
        "system_id": "SYS-1",
        "system": "R-7KQ2M9",
        "edition": 3,
        "serial": SERIAL,
        "issued_at": "2026-11-24T11:20:31.123Z",
        "expires_at": "2026-12-24T11:20:31.123Z",
        "replaces": None,
        "registration": content or registered(),
        **changes,
    }
    return Statement(**members)  # type: ignore[arg-type]


def sealed(by: str = "portal", **changes: object) -> bytes:
    return statement.seal(said(**changes), key(by))  # type: ignore[arg-type]


def refused(raw: bytes, standing: Standing = HERE) -> Refusal:
    outcome = statement.read(raw, standing)
    assert isinstance(outcome, Refusal), outcome
    assert outcome.text.endswith(".")
    assert outcome.hint
    return outcome


def reason(raw: bytes, standing: Standing = HERE) -> StatementReason:
    return refused(raw, standing).reason


def test_statement_for_this_server_counts() -> None:
    raw = sealed()
    assert statement.read(raw, HERE) == Proven(said(), raw, PORTAL.thumbprint, "portal")


def test_portal_may_have_an_id_of_its_own() -> None:
    outcome = statement.read(statement.seal(said(), PORTAL, portal="portal-north"), HERE)
    assert isinstance(outcome, Proven)
    assert outcome.portal == "portal-north"


def test_statement_without_a_registration_withdraws_it() -> None:
    raw = statement.seal(said().model_copy(update={"registration": None}), PORTAL)
    outcome = statement.read(raw, HERE)
    assert isinstance(outcome, Proven)
    assert outcome.statement.registration is None


def test_rule_1_what_is_no_signed_document_is_unreadable() -> None:
    assert reason(b"") is StatementReason.UNREADABLE
    assert reason(b"not.a.jws") is StatementReason.UNREADABLE


@pytest.mark.parametrize(
    ("typ", "lead"), [pytest.param("record", "portal", id="a record"), pytest.param("statement", "es-1", id="a lead's")]
)
def test_rule_1_another_document_of_the_portals_key_is_no_statement(typ: str, lead: str) -> None:
    raw = signing.seal(typ, said(), PORTAL, lead=lead, sender="portal")
    assert reason(raw) is StatementReason.UNREADABLE


def test_rule_2_any_flipped_bit_is_found() -> None:
    raw = sealed()
    for index in range(0, len(raw), 7):
        if raw[index : index + 1] == b".":
            continue
        assert reason(flipped(raw, index)) in {
            StatementReason.TAMPERED,
            StatementReason.UNREADABLE,  # a header that is none any more
        }


def test_rule_2_a_changed_payload_is_tampered() -> None:
    header, _, signature = sealed().split(b".")
    payload = {**said().model_dump(mode="json"), "edition": 4}
    assert reason(b".".join([header, b64(json.dumps(payload).encode()), signature])) is StatementReason.TAMPERED


def test_rule_3_a_portal_that_is_not_trusted_is_named_with_its_key() -> None:
    refusal = refused(statement.seal(said(), key("stranger"), portal="portal-south"))
    assert refusal.reason is StatementReason.UNKNOWN_PORTAL
    assert (refusal.kid, refusal.portal) == (key("stranger").thumbprint, "portal-south")
    assert "portal-south" in refusal.text
    assert statement.grouped(key("stranger").thumbprint) in refusal.text


def test_rule_3_nobody_is_trusted_by_default() -> None:
    assert reason(sealed(), replace(HERE, trusted=frozenset())) is StatementReason.UNKNOWN_PORTAL


def test_nothing_of_an_unknown_portals_words_is_looked_at() -> None:
    header = {"typ": "statement", "lead": "portal", "sender": "portal"}
    assert reason(forged(header, b"no JSON")) is StatementReason.UNKNOWN_PORTAL
    assert reason(forged(header, b"no JSON", by="portal")) is StatementReason.UNREADABLE


@pytest.mark.parametrize("member", sorted(set(said().model_dump())))
def test_statement_that_lacks_a_member_is_unreadable(member: str) -> None:
    """Also those that may be null: a statement that does not say when it expires must not live for ever."""
    payload = {name: value for name, value in said().model_dump(mode="json").items() if name != member}
    header = {"typ": "statement", "lead": "portal", "sender": "portal"}
    refusal = refused(forged(header, json.dumps(payload).encode(), by="portal"))
    assert (refusal.reason, member in refusal.text) == (StatementReason.UNREADABLE, True)


def test_unknown_members_are_a_newer_programs() -> None:
    header = {"typ": "statement", "lead": "portal", "sender": "portal"}
    payload = {**said().model_dump(mode="json"), "colour": "blue"}
    assert isinstance(statement.read(forged(header, json.dumps(payload).encode(), by="portal"), HERE), Proven)


def test_rule_4_another_system_id_is_named_beside_our_own() -> None:
    refusal = refused(sealed(system_id="SYS-2"))
    assert refusal.reason is StatementReason.OTHER_SYSTEM
    assert "SYS-2" in refusal.text
    assert "SYS-1" in refusal.text
    assert "case" not in refusal.text


def test_rule_4_a_system_id_that_differs_in_case_only_is_another_one_and_that_is_said() -> None:
    refusal = refused(sealed(system_id="sys-1"))
    assert (refusal.reason, "case" in refusal.text) == (StatementReason.OTHER_SYSTEM, True)


def test_rule_5_expired_at_its_very_moment() -> None:
    raw = sealed(expires_at="2026-11-24T12:00:00.000Z")
    refusal = refused(raw)
    assert refusal.reason is StatementReason.EXPIRED
    assert "2026-11-24T12:00:00.000Z" in refusal.text
    assert isinstance(statement.read(raw, replace(HERE, now=NOW - dt.timedelta(milliseconds=1))), Proven)


def test_rule_5_an_online_answer_does_not_expire() -> None:
    late = replace(HERE, now=NOW + dt.timedelta(days=36500))
    assert isinstance(statement.read(sealed(expires_at=None), late), Proven)


def test_rule_6_a_serial_counts_once() -> None:
    assert reason(sealed(), replace(HERE, used={SERIAL})) is StatementReason.ALREADY_USED
    assert isinstance(statement.read(sealed(), replace(HERE, used={SERIAL.lower()})), Proven)


IN_FORCE = replace(HERE, key=PORTAL.thumbprint, system="R-7KQ2M9", edition=4)


def test_rule_7_an_edition_below_the_one_in_force_is_superseded() -> None:
    refusal = refused(sealed(), IN_FORCE)
    assert refusal.reason is StatementReason.SUPERSEDED
    assert "edition 3" in refusal.text
    assert "edition 4" in refusal.text


@pytest.mark.parametrize(
    "standing",
    [
        pytest.param(replace(IN_FORCE, edition=3), id="the same edition with another serial"),
        pytest.param(replace(IN_FORCE, system="R-OTHER"), id="of another system"),
        pytest.param(replace(IN_FORCE, key=key("old portal").thumbprint), id="of another portal"),
        pytest.param(replace(IN_FORCE, edition=None), id="none in force"),
    ],
)
def test_rule_7_editions_order_one_system_of_one_portal_only(standing: Standing) -> None:
    assert isinstance(statement.read(sealed(), standing), Proven)


ORDER = [
    (StatementReason.UNREADABLE, b"no.jws"),
    (StatementReason.TAMPERED, flipped(sealed("stranger", system_id="SYS-2"), len(sealed("stranger")) // 2)),
    (StatementReason.UNKNOWN_PORTAL, sealed("stranger", system_id="SYS-2", expires_at="2020-01-01T00:00:00.000Z")),
    (StatementReason.OTHER_SYSTEM, sealed(system_id="SYS-2", expires_at="2020-01-01T00:00:00.000Z")),
    (StatementReason.EXPIRED, sealed(expires_at="2020-01-01T00:00:00.000Z")),
    (StatementReason.ALREADY_USED, sealed()),
    (StatementReason.SUPERSEDED, sealed(serial="B" * 22)),
]


@pytest.mark.parametrize(("wanted", "raw"), ORDER, ids=lambda value: value if isinstance(value, str) else "")
def test_the_first_rule_that_is_broken_is_the_reason(wanted: StatementReason, raw: bytes) -> None:
    """Each of these breaks every rule after its own, too."""
    assert reason(raw, replace(IN_FORCE, used={SERIAL})) is wanted


def test_every_reason_is_tried() -> None:
    assert [wanted for wanted, _ in ORDER] == list(StatementReason)


def test_thumbprint_is_shown_in_groups_of_five() -> None:
    shown = statement.grouped(PORTAL.thumbprint)
    assert [len(group) for group in shown.split()] == [5] * 8 + [3]
    assert shown.replace(" ", "") == PORTAL.thumbprint
