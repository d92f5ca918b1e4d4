"""The wire: topics as an inverse pair, and every document held to its form."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propagator.core import record, wire
from propagator.core.errors import Unreadable
from propagator.core.record import Document, Hop
from propagator.core.session import Mark, Session
from propagator.core.state import Reason, State
from propagator.core.wire import Leaf, Topic, Typ
from tests.unit.builders import ISSUED_AT, v

if TYPE_CHECKING:
    from propagator.core.difference import JsonObject, JsonValue

IDS = st.from_regex(r"\A[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
ACCOUNTS = st.builds(lambda name, suffix: name + suffix, IDS, st.sampled_from(["", "_attach", "_probe"]))
OWN = st.builds(Topic, IDS, st.sampled_from([Leaf.REGISTRATION, Leaf.HEARTBEAT]))
SHADOWS = st.builds(
    Topic, IDS, st.sampled_from([Leaf.REPORT, Leaf.PRESENCE, Leaf.REQUEST, Leaf.ANSWER]), account=ACCOUNTS
)

# Topics


@given(OWN | SHADOWS)
def test_parse_topic_is_the_inverse_of_str(topic: Topic) -> None:
    assert wire.parse_topic(str(topic)) == topic


@given(
    st.lists(st.sampled_from(["propagator", "1", "es-1", "shadows", "report", "+", "#", ""])).map("/".join) | st.text()
)
def test_parse_topic_takes_one_writing_only(text: str) -> None:
    topic = wire.parse_topic(text)
    assert topic is None or str(topic) == text


@pytest.mark.parametrize(
    ("topic", "text"),
    [
        (Topic("es-1", Leaf.REGISTRATION), "propagator/1/es-1/registration"),
        (Topic("es-1", Leaf.HEARTBEAT), "propagator/1/es-1/heartbeat"),
        (Topic("es-1", Leaf.REPORT, "plant-3"), "propagator/1/es-1/shadows/plant-3/report"),
        (Topic("es-1", Leaf.PRESENCE, "plant-3"), "propagator/1/es-1/shadows/plant-3/presence"),
        (Topic("es-1", Leaf.REQUEST, "plant-3_attach"), "propagator/1/es-1/shadows/plant-3_attach/request"),
        (Topic("es-1", Leaf.ANSWER, "plant-3_probe"), "propagator/1/es-1/shadows/plant-3_probe/answer"),
    ],
)
def test_the_topics_are_those_of_the_design(topic: Topic, text: str) -> None:
    assert str(topic) == text
    assert wire.parse_topic(text) == topic


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("propagator/2/es-1/registration", id="another version of the protocol"),
        pytest.param("Propagator/1/es-1/registration", id="a capital"),
        pytest.param("/propagator/1/es-1/registration", id="a slash before"),
        pytest.param("propagator/1/es-1/registration/", id="a slash after"),
        pytest.param("propagator/1/es-1/registration\n", id="a line feed after"),
        pytest.param("propagator/1/ES-1/registration", id="an id in capitals"),
        pytest.param("propagator/1/\u0435s-1/registration", id="a look-alike id, with a Cyrillic letter"),
        pytest.param("propagator/1/es-1_attach/registration", id="an account in place of the lead"),
        pytest.param("propagator/1/es-1/shadows/registration", id="a shadow without an id"),
        pytest.param("propagator/1/es-1/shadows/plant-3/registration", id="a shadow with a record"),
        pytest.param("propagator/1/es-1/shadows/plant-3/heartbeat", id="a shadow with a heartbeat"),
        pytest.param("propagator/1/es-1/report", id="a lead with a report"),
        pytest.param("propagator/1/es-1/shadows/plant_3/report", id="an id with an underscore"),
        pytest.param("propagator/1/es-1/shadows/plant-3_root/report", id="an account of another kind"),
        pytest.param("propagator/1/es-1/shadows/plant-3_attach_attach/report", id="an account of an account"),
        pytest.param("propagator/1/es-1/shadows/+/report", id="a wildcard of one level"),
        pytest.param("propagator/1/es-1/#", id="a wildcard of all levels"),
        pytest.param("$SYS/broker/uptime", id="a topic of the broker"),
        pytest.param(f"propagator/1/{'a' * 64}/registration", id="an id of 64 characters"),
    ],
)
def test_f41_parse_topic_refuses(text: str) -> None:
    assert wire.parse_topic(text) is None


def test_a_lead_hears_everything_from_its_shadows() -> None:
    assert wire.everything_from_shadows("es-1") == (
        "propagator/1/es-1/shadows/+/report",
        "propagator/1/es-1/shadows/+/presence",
        "propagator/1/es-1/shadows/+/answer",
    )


# Documents

SESSION = "1764000000-k7f3q2"
NONCE = "n" * 16
HASH = "0" * 64
PRINT = "t" * 43
DOCUMENTS: dict[type[Document], JsonObject] = {
    wire.Heartbeat: {
        "session": SESSION,
        "counter": 7,
        "version": "1.4.k7f3.41",
        "hash": HASH,
        "heard": {"session": SESSION, "counter": 0},
        "upstream": {"state": "in_sync", "since": ISSUED_AT, "version": "1.1.aaaa.1", "hash": HASH},
        "period_s": 60.0,
    },
    wire.Report: {
        "session": SESSION,
        "counter": 7,
        "nonce": NONCE,
        "floor": {"version": "1.4.k7f3.41", "hash": HASH},
        "version": "1.4.k7f3.41",
        "hash": HASH,
        "stored_at": ISSUED_AT,
        "lead_session": SESSION,
        "state": "refused",
        "refusal": {"reason": "rollback", "text": "It is old."},
        "finding": {"code": "tcp-refused", "remedies": [{"commands": ["nft list ruleset"]}]},
        "subtree": {"total": 3, "in_sync": 2, "unknown": 1},
        "name": "Plant room 3",
        "kind": "server-device",
        "system_id": "SYS-9",
    },
    wire.Presence: {"session": SESSION, "counter": 7, "online": True},
    wire.Request: {"nonce": NONCE, "wanted": "report", "membership": None, "at": None},
    wire.Answer: {"nonce": NONCE, "record": "a.b.c", "membership": None, "heartbeats": ["a.b.c", "d.e.f"]},
    wire.AttachAsk: {"nonce": NONCE, "mac": HASH},
    wire.AttachHello: {"nonce": NONCE, "name": "Enterprise Server", "record": None},
    wire.AttachBind: {
        "nonce": NONCE,
        "key": PRINT,
        "password_hash": f"$7$101${'A' * 16}${'B' * 86}==",
        "name": "Plant room 3",
        "kind": "server-device",
        "system_id": "SYS-9",
        "mac": HASH,
    },
    wire.AttachResult: {"nonce": NONCE, "outcome": "bound", "membership": "a.b.c"},
    wire.Membership: {"device": "plant-3", "key": PRINT, "serial": "0" * 32},
}


def _read(kind: type[Document], members: JsonObject) -> Document | Unreadable:
    return record.read(kind, json.dumps(members).encode())


def _written(document: Document) -> JsonObject:
    written: JsonObject = json.loads(record.write(document))
    return written


@pytest.mark.parametrize("kind", DOCUMENTS, ids=lambda kind: kind.__name__)
def test_a_document_is_read_and_written_back(kind: type[Document]) -> None:
    document = _read(kind, DOCUMENTS[kind])
    assert isinstance(document, kind)
    assert _written(document) == DOCUMENTS[kind]
    assert record.read(kind, record.write(document)) == document


@pytest.mark.parametrize("kind", DOCUMENTS, ids=lambda kind: kind.__name__)
def test_f51_a_newer_programs_member_is_ignored(kind: type[Document]) -> None:
    assert _read(kind, {**DOCUMENTS[kind], "newer": [1]}) == _read(kind, DOCUMENTS[kind])


def test_f51_a_newer_programs_word_is_kept_and_loses_nothing_else() -> None:
    """An older lead shows what a newer shadow holds, and passes its word on as it is."""
    refusal: JsonObject = {"reason": "over_quota", "text": "No room."}
    members = {**DOCUMENTS[wire.Report], "state": "asleep", "refusal": refusal}
    report = _read(wire.Report, members)
    assert isinstance(report, wire.Report)
    assert (report.state, report.version) == ("asleep", v("1.4.k7f3.41"))
    assert _written(report) == members
    upstream: JsonObject = {"state": "asleep", "since": None, "version": None, "hash": None}
    heartbeat = _read(wire.Heartbeat, {**DOCUMENTS[wire.Heartbeat], "upstream": upstream})
    assert isinstance(heartbeat, wire.Heartbeat)
    assert _written(heartbeat)["upstream"] == upstream


OPTIONAL = {(wire.Request, "membership"), (wire.Request, "at"), (wire.Answer, "heartbeats")}


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in DOCUMENTS for name in DOCUMENTS[kind] if (kind, name) not in OPTIONAL]
)
def test_no_member_may_be_left_out(kind: type[Document], name: str) -> None:
    """What may be absent is null: a typing error in a name is no silent default."""
    members = {other: value for other, value in DOCUMENTS[kind].items() if other != name}
    assert _read(kind, members) == Unreadable(f"{name}: Field required")


NULLABLE = {
    wire.Heartbeat: {"version", "hash", "heard", "upstream"},
    wire.Report: {
        *(
            "nonce",
            "floor",
            "version",
            "hash",
            "stored_at",
            "lead_session",
            "refusal",
            "finding",
            "subtree",
            "system_id",
        ),
    },
    wire.Request: {"membership", "at"},
    wire.Answer: {"record", "membership"},
    wire.AttachHello: {"record"},
    wire.AttachResult: {"membership"},
}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in DOCUMENTS for name in DOCUMENTS[kind]])
def test_null_is_taken_where_the_design_says_so_only(kind: type[Document], name: str) -> None:
    document = _read(kind, {**DOCUMENTS[kind], name: None})
    assert isinstance(document, kind) is (name in NULLABLE.get(kind, set()))


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        pytest.param(wire.Heartbeat, {"session": "1764000000"}, id="a session without a suffix"),
        pytest.param(wire.Heartbeat, {"session": 1764000000}, id="a session that is a number"),
        pytest.param(wire.Heartbeat, {"counter": -1}, id="a counter below nought"),
        pytest.param(wire.Heartbeat, {"counter": 1.0}, id="a counter that is a float"),
        pytest.param(wire.Heartbeat, {"counter": "7"}, id="a counter that is a text"),
        pytest.param(wire.Heartbeat, {"counter": True}, id="a counter that is true"),
        pytest.param(wire.Heartbeat, {"period_s": 0}, id="a period of nought"),
        pytest.param(wire.Heartbeat, {"period_s": 3601}, id="a period of more than an hour"),
        pytest.param(wire.Heartbeat, {"period_s": "60"}, id="a period that is a text"),
        pytest.param(wire.Heartbeat, {"period_s": True}, id="a period that is true"),
        pytest.param(wire.Heartbeat, {"hash": "0" * 63}, id="a hash too short"),
        pytest.param(wire.Heartbeat, {"heard": {"session": SESSION}}, id="half of what was heard"),
        pytest.param(wire.Heartbeat, {"upstream": {}}, id="an empty upstream"),
        pytest.param(wire.Report, {"nonce": "n" * 15}, id="a nonce too short"),
        pytest.param(wire.Report, {"nonce": "n" * 65}, id="a nonce too long"),
        pytest.param(wire.Report, {"nonce": "n" * 16 + "="}, id="a nonce with padding"),
        pytest.param(wire.Report, {"state": "fine!"}, id="a state that is no word"),
        pytest.param(wire.Report, {"state": "a" * 33}, id="a state that is too long"),
        pytest.param(wire.Report, {"state": None}, id="a state that is null"),
        pytest.param(wire.Report, {"refusal": {"reason": "Not now", "text": ""}}, id="a reason that is no word"),
        pytest.param(wire.Report, {"state": "IN_SYNC"}, id="a state in capitals"),
        pytest.param(wire.Report, {"floor": {"version": "1.4.k7f3.41"}}, id="a floor without a hash"),
        pytest.param(wire.Report, {"name": "x" * 501}, id="a name too long"),
        pytest.param(wire.Report, {"name": "\u001b[2J"}, id="a name that clears the terminal"),
        pytest.param(wire.Report, {"name": "a\nb"}, id="a name of two lines"),
        pytest.param(wire.Report, {"kind": "\u202egnp"}, id="a kind written backwards"),
        pytest.param(wire.Report, {"finding": []}, id="a finding that is a list"),
        pytest.param(wire.Report, {"finding": "broken"}, id="a finding that is a text"),
        pytest.param(wire.Report, {"system_id": "a b"}, id="a System ID with a space"),
        pytest.param(wire.Report, {"stored_at": "2026-11-24"}, id="a day for a time"),
        pytest.param(wire.Presence, {"online": 1}, id="online that is a number"),
        pytest.param(wire.Presence, {"online": "true"}, id="online that is a text"),
        pytest.param(wire.Request, {"wanted": "everything"}, id="a wish that nobody knows"),
        pytest.param(wire.Answer, {"record": "x" * 65_537}, id="a record larger than any document"),
        pytest.param(wire.Answer, {"heartbeats": ["a.b.c"] * 3}, id="more heartbeats than a shadow keeps"),
        pytest.param(wire.AttachAsk, {"mac": HASH.upper() + "F"}, id="a MAC too long"),
        pytest.param(wire.AttachBind, {"password_hash": "secret"}, id="a password in clear"),
        pytest.param(wire.AttachBind, {"password_hash": f"$6${'A' * 16}${'B' * 86}=="}, id="a hash of another kind"),
        pytest.param(
            wire.AttachBind,
            {"password_hash": f"$7$101${'A' * 16}${'B' * 86}==\nroot:$7$1$AAAA$BBBB"},
            id="a second line for the password file",
        ),
        pytest.param(wire.AttachBind, {"key": PRINT + "="}, id="a thumbprint with padding"),
        pytest.param(wire.AttachResult, {"outcome": "welcome"}, id="an outcome that is none"),
        pytest.param(wire.Membership, {"device": "plant-3_attach"}, id="an account for a device"),
        pytest.param(wire.Membership, {"serial": "0" * 31}, id="a serial of fewer bits"),
    ],
)
def test_f41_a_document_is_unreadable_with(kind: type[Document], changes: dict[str, JsonValue]) -> None:
    unreadable = _read(kind, {**DOCUMENTS[kind], **changes})
    assert isinstance(unreadable, Unreadable)
    assert unreadable.detail.startswith(next(iter(changes)))


def test_values_stand_for_what_is_written() -> None:
    report = _read(wire.Report, DOCUMENTS[wire.Report])
    assert isinstance(report, wire.Report)
    assert report.mark == Mark(Session(1764000000, "k7f3q2"), 7)
    assert report.floor == wire.FloorEntry(version=v("1.4.k7f3.41"), hash=HASH)
    assert (report.state, report.refusal) == (State.REFUSED, wire.Refusal(reason=Reason.ROLLBACK, text="It is old."))


def test_a_period_may_be_a_whole_number() -> None:
    heartbeat = _read(wire.Heartbeat, {**DOCUMENTS[wire.Heartbeat], "period_s": 60})
    assert isinstance(heartbeat, wire.Heartbeat)
    assert heartbeat.period_s == 60


def test_a_line_is_trimmed_and_composed() -> None:
    report = _read(wire.Report, {**DOCUMENTS[wire.Report], "name": "  Cafe\u0301 "})
    assert isinstance(report, wire.Report)
    assert report.name == "Caf\u00e9"


def test_f53_the_highest_numbers_are_read_like_any_other() -> None:
    highest = f"{2**53 - 1}.{2**53 - 1}.zzzz.{2**53 - 1}"
    report = _read(wire.Report, {**DOCUMENTS[wire.Report], "version": highest, "counter": 2**53 - 1})
    assert isinstance(report, wire.Report)
    assert str(report.version) == highest


def test_the_types_of_documents_are_those_of_the_design() -> None:
    assert {str(typ) for typ in Typ} == {
        *("record", "heartbeat", "report", "presence", "request", "answer", "membership", "delegation"),
        *("attach-ask", "attach-hello", "attach-bind", "attach-result"),
    }


def test_a_path_is_kept_as_pairs_and_a_version_as_text() -> None:
    hops = (Hop(id="central", identity=PRINT), Hop(id="es-1", identity=PRINT))
    assert wire.path_of(hops) == (("central", PRINT), ("es-1", PRINT))
    assert wire.version_text(v("1.4.k7f3.41")) == "1.4.k7f3.41"
    assert wire.version_text(None) is None
