"""The record: every member held to its form, the whole held to itself, unknown members ignored but hashed below."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propagator.core import record, registration
from propagator.core.errors import Unreadable
from propagator.core.record import Hop, LifeEntry, Record
from propagator.core.version import LIMIT, Life
from tests.unit.builders import DOCUMENT, Lead, registered

if TYPE_CHECKING:
    from propagator.core.difference import JsonObject, JsonValue

LEAD = Lead()
A = registered()
UNKNOWN = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"])).map(lambda name: f"x {name}"),
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-LIMIT, LIMIT)
        | st.floats(-LIMIT, LIMIT)
        | st.text(st.characters(exclude_categories=["Cs"])),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
        max_leaves=8,
    ),
    max_size=4,
)


def _members(**changes: JsonValue) -> JsonObject:
    made: JsonObject = json.loads(record.write(LEAD.record("1.4.k7f3.41", A)))
    return {**made, **changes}


def _read(members: JsonObject) -> Record | Unreadable:
    return record.read(Record, json.dumps(members).encode())


def _detail(members: JsonObject) -> str:
    unreadable = _read(members)
    assert isinstance(unreadable, Unreadable), unreadable
    return unreadable.detail


def test_a_record_is_written_and_read_back() -> None:
    made = LEAD.record("1.4.k7f3.41", A, above=(Hop(id="central", identity="c" * 43),))
    assert record.read(Record, record.write(made)) == made


def test_a_record_without_a_registration_is_written_and_read_back() -> None:
    made = LEAD.record("1.1.k7f3.1")
    assert made.hash == registration.NO_REGISTRATION_HASH
    assert record.read(Record, record.write(made)) == made


def test_what_is_written_is_compact_utf_8() -> None:
    written = record.write(Hop(id="es-1", identity="i" * 43))
    assert written == b'{"id":"es-1","identity":"' + b"i" * 43 + b'"}'


LIFE: JsonObject = {"generation": 4, "epoch": "k7f3", "revision": 41}
LIVES: list[JsonValue] = [{"generation": 1, "epoch": "aaaa", "revision": 1}] * 8
HOP: JsonObject = {"id": "es-1", "identity": LEAD.identity.thumbprint}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        pytest.param({"lead": "ES-1"}, "lead: ", id="an id in capitals"),
        pytest.param({"lead": "es_1"}, "lead: ", id="an id with an underscore, as helper accounts have"),
        pytest.param({"lead": "es-1\n"}, "lead: ", id="an id and a line feed"),
        pytest.param({"lead": "\u0435s-1"}, "lead: ", id="a look-alike id, with a Cyrillic letter"),
        pytest.param({"lead": "e\u0301s-1"}, "lead: ", id="an id with an accent"),
        pytest.param({"lead": "es\u200b-1"}, "lead: ", id="an id with a sign of no width"),
        pytest.param({"lead": "a" * 64}, "lead: ", id="an id of 64 characters"),
        pytest.param({"lead": "es-"}, "lead: ", id="an id that ends with a hyphen"),
        pytest.param({"lead": ""}, "lead: ", id="an empty id"),
        pytest.param({"lead": 1}, "lead: ", id="an id that is a number"),
        pytest.param({"lead": "es-2"}, "path does not end with the lead", id="another lead than the path ends with"),
        pytest.param({"system_id": ""}, "system_id: ", id="an empty System ID"),
        pytest.param({"system_id": "a b"}, "system_id: ", id="a System ID with a space"),
        pytest.param({"system_id": "x" * 65}, "system_id: ", id="a System ID of 65 characters"),
        pytest.param({"version": "1.4.k7f3"}, "version: ", id="a version of three parts"),
        pytest.param({"version": 41}, "version: ", id="a version that is a number"),
        pytest.param({"version": "1.4.k7f3.42"}, "lives do not end with the version", id="a later version than lived"),
        pytest.param(
            {"version": "1.5.k7f3.41"}, "lives do not end with the version", id="another generation than lived"
        ),
        pytest.param({"version": "1.4.aaaa.41"}, "lives do not end with the version", id="another epoch than lived"),
        pytest.param({"lives": []}, "lives: ", id="no lives"),
        pytest.param({"lives": [*LIVES, LIFE]}, "lives: ", id="nine lives"),
        pytest.param({"lives": [LIFE, *LIVES[:1]]}, "lives do not end with the version", id="the last life first"),
        pytest.param({"lives": [{**LIFE, "generation": True}]}, "lives.0.generation: ", id="a generation that is true"),
        pytest.param(
            {"lives": [{**LIFE, "generation": 4.0}]}, "lives.0.generation: ", id="a generation that is a float"
        ),
        pytest.param({"lives": [{**LIFE, "revision": "41"}]}, "lives.0.revision: ", id="a revision that is a text"),
        pytest.param({"lives": [{**LIFE, "revision": 0}]}, "lives.0.revision: ", id="a revision of nought"),
        pytest.param({"lives": [{**LIFE, "epoch": "K7F3"}]}, "lives.0.epoch: ", id="an epoch in capitals"),
        pytest.param({"hash": "0" * 64}, "hash is not that of the registration", id="another hash"),
        pytest.param({"hash": A.hash.upper()}, "hash: ", id="a hash in capitals"),
        pytest.param({"hash": A.hash[:-1]}, "hash: ", id="a hash that is too short"),
        pytest.param({"registration": None}, "hash is not that", id="no registration under the hash of one"),
        pytest.param({"registration": []}, "is no JSON object", id="a registration that is a list"),
        pytest.param({"registration": {}}, "no valid registration", id="a registration without members"),
        pytest.param({"path": []}, "path: ", id="no path"),
        pytest.param({"path": [HOP] * 9}, "path: ", id="a path of nine servers"),
        pytest.param({"path": [{**HOP, "identity": "short"}]}, "path.0.identity: ", id="a thumbprint too short"),
        pytest.param(
            {"path": [HOP, {**HOP, "id": "central"}]}, "path does not end", id="a path in the other direction"
        ),
        pytest.param({"issued_at": "yesterday"}, "issued_at: ", id="a time that is none"),
        pytest.param({"issued_at": "2026-02-30T00:00:00.000Z"}, "issued_at: ", id="a day that no month has"),
    ],
)
def test_a_record_is_unreadable_with(changes: JsonObject, says: str) -> None:
    assert says in _detail(_members(**changes))


@pytest.mark.parametrize("name", _members())
def test_a_record_is_unreadable_without(name: str) -> None:
    members = _members()
    del members[name]
    assert _detail(members) == f"{name}: Field required"


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        pytest.param(b"", "not JSON", id="nothing"),
        pytest.param(b"\xff", "not JSON: not UTF-8", id="not UTF-8"),
        pytest.param(b'{"lead":"a","lead":"b"}', "not JSON: the name 'lead' stands twice", id="a name twice"),
        pytest.param(b'{"lead":NaN}', "not JSON: NaN", id="NaN"),
        pytest.param(b"[]", "document: ", id="a list"),
        pytest.param(b"null", "document: ", id="null"),
    ],
)
def test_f41_a_payload_that_is_no_document_is_unreadable(payload: bytes, says: str) -> None:
    unreadable = record.read(Record, payload)
    assert isinstance(unreadable, Unreadable)
    assert unreadable.detail.startswith(says)


def test_f28_a_registration_of_thousands_of_problems_is_told_in_a_few() -> None:
    wrong: JsonObject = {**DOCUMENT, "system": {"segments": ["\u202e"] * 5000}}
    wrong["site"] = {}
    wrong["address"] = {}
    told = _detail(_members(registration=wrong))
    assert "site.type: is missing" in told
    assert len(told) < 500


def test_f51_unknown_members_of_a_record_are_ignored() -> None:
    assert _read(_members(newer={"deep": [1]})) == LEAD.record("1.4.k7f3.41", A)


@given(UNKNOWN, UNKNOWN)
def test_f51_unknown_members_of_a_registration_come_through_any_number_of_relays(
    beside: JsonObject, inside: JsonObject
) -> None:
    """One hash at all tiers: read, written and read again, the canonical text stays the same."""
    site = {"type": "single", "name": "Riverside House", "company": "Riverside Estates Ltd", **inside}
    content = registered(**{**beside, "site": site})  # type: ignore[arg-type]
    made = LEAD.record("1.4.k7f3.41", content)
    for _ in range(2):
        again = record.read(Record, record.write(made))
        assert again == made
        assert isinstance(again, Record)
        assert again.registration is not None
        made = Lead("relay").record("1.1.aaaa.1", again.registration)
    assert made.registration == content
    assert made.hash == content.hash


def test_lives_are_values_and_entries() -> None:
    lives = (Life(1, "aaaa", 3), Life(4, "k7f3", 41))
    entries = record.life_entries(lives)
    assert entries[0] == LifeEntry(generation=1, epoch="aaaa", revision=3)
    made = LEAD.record("1.4.k7f3.41", A, lives=entries)
    assert made.life_list == lives
    assert made.version_in_life == (4, "k7f3", 41)


@given(st.binary(max_size=200))
def test_f41_read_never_fails_in_another_way(payload: bytes) -> None:
    assert isinstance(record.read(Record, payload), Unreadable)
