"""The golden vectors: the committed bytes are those that are made, and each reads as it says."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from propagator.core import record, signing, token, wire
from propagator.core.decide import Floor, InForce, Refuse, Trust, decide, judge
from propagator.core.errors import Unreadable
from propagator.core.signing import Authority, Envelope
from propagator.core.state import Reason
from propagator.core.wire import Leaf, Typ
from tests.unit.builders import v
from tests.wire import make_vectors

if TYPE_CHECKING:
    from propagator.core.difference import JsonObject

FOLDER = Path(__file__).parent
NOT_DOCUMENTS = {"topics", "token"}
VALID = sorted(path.stem for path in (FOLDER / "valid").glob("*.json") if path.stem not in NOT_DOCUMENTS)
INVALID = sorted(path.stem for path in (FOLDER / "invalid").glob("*.json") if path.stem not in NOT_DOCUMENTS)


def _load(name: str) -> JsonObject:
    loaded: JsonObject = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return loaded


def _list(name: str) -> list[str]:
    loaded: list[str] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return loaded


def test_the_committed_vectors_are_those_that_are_made() -> None:
    """After a change of the wire: `python -m tests.wire.make_vectors`, and a look at what changed."""
    committed = {str(path.relative_to(FOLDER)): path.read_text(encoding="utf-8") for path in FOLDER.rglob("*.json")}
    assert committed == make_vectors.made()


def test_every_document_type_has_a_vector() -> None:
    types = {_load(f"valid/{name}")["header"]["typ"] for name in VALID}  # type: ignore[index,call-overload]
    assert types == set(Typ) == set(wire.DOCUMENTS)


@pytest.mark.parametrize("name", VALID)
def test_a_valid_document_reads_as_it_says(name: str) -> None:
    vector = _load(f"valid/{name}")
    header, named, payload = vector["header"], vector["delegation"], vector["payload"]
    assert isinstance(header, dict)
    assert isinstance(payload, dict)
    envelope = signing.open_envelope(str(vector["raw"]).encode())
    assert isinstance(envelope, Envelope)
    assert envelope.verified
    assert {"typ": envelope.typ, "lead": envelope.lead, "sender": envelope.sender, "kid": envelope.kid} == header
    if named is not None:
        assert isinstance(named, dict)
        assert named["key"] == envelope.kid
        assert signing.authority(envelope) == Authority(
            str(named["lead"]), str(named["identity"]), int(str(named["seq"]))
        )
    document = record.read(wire.DOCUMENTS[envelope.typ], envelope.payload)
    assert not isinstance(document, Unreadable), document
    assert json.loads(record.write(document)) == payload


@pytest.mark.parametrize("name", VALID)
def test_a_valid_document_stands_on_its_topic(name: str) -> None:
    vector = _load(f"valid/{name}")
    if vector["topic"] is None:
        assert name in {"membership", "delegation"}
        return
    topic = wire.parse_topic(str(vector["topic"]))
    assert topic is not None
    header = vector["header"]
    assert isinstance(header, dict)
    leaves = {Leaf.REGISTRATION: Typ.RECORD}
    attaching = str(header["typ"]).startswith("attach-")
    assert attaching is str(topic.account).endswith("_attach")
    assert attaching or header["typ"] == leaves.get(topic.leaf, str(topic.leaf))
    assert header["lead"] == topic.lead


@pytest.mark.parametrize("name", VALID)
def test_a_valid_document_verifies_with_nothing_of_ours(name: str) -> None:
    """As another implementation would: base64url, SHA-256, Ed25519, and JSON."""
    raw = str(_load(f"valid/{name}")["raw"])
    signed, _, signature = raw.rpartition(".")
    header = json.loads(_b64(signed.split(".")[0]))
    jwk = header["jwk"]
    Ed25519PublicKey.from_public_bytes(_b64(jwk["x"])).verify(_b64(signature), signed.encode())
    canonical = json.dumps({"crv": "Ed25519", "kty": "OKP", "x": jwk["x"]}, separators=(",", ":"))
    assert _b64(header["kid"]) == hashlib.sha256(canonical.encode()).digest()


def _b64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@pytest.mark.parametrize("name", [name for name in VALID if name.startswith("record")])
def test_the_hash_of_a_record_can_be_worked_out(name: str) -> None:
    """The numbers and names of the vectors are such that sorted compact JSON is their RFC 8785 form."""
    payload = _load(f"valid/{name}")["payload"]
    assert isinstance(payload, dict)
    canonical = json.dumps(payload["registration"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert payload["hash"] == hashlib.sha256(canonical.encode()).hexdigest()


def _raw(vector: JsonObject) -> bytes:
    raw = vector["raw"]
    if isinstance(raw, dict):
        return str(raw["repeat"]).encode() * int(str(raw["times"]))
    return str(raw).encode()


def _given(vector: JsonObject) -> tuple[Trust, Floor | None]:
    given = vector["given"]
    assert isinstance(given, dict)
    held, reached = given["trust"], given["floor"]
    assert isinstance(held, dict)
    lowest = None if held["lowest"] is None else v(str(held["lowest"]))
    own = None if held["own_identity"] is None else str(held["own_identity"])
    trust = Trust(str(held["lead"]), str(held["identity"]), int(str(held["seq"])), lowest, own)
    if reached is None:
        return trust, None
    assert isinstance(reached, dict)
    path = json.loads(json.dumps(reached["path"]))
    hops = tuple((str(name), str(identity)) for name, identity in path)
    return trust, Floor(
        v(str(reached["version"])), str(reached["hash"]), hops, registered=reached["registered"] is True
    )


def _outcome(leaf: Leaf, raw: bytes, trust: Trust, floor: Floor | None) -> Reason | None:
    """What the reader of a topic makes of a message; None: it takes it."""
    envelope = signing.open_envelope(raw)
    match leaf:
        case Leaf.REGISTRATION:
            decision = decide(floor, InForce(None, "0" * 64), envelope, trust)
            return decision.reason if isinstance(decision, Refuse) else None
        case Leaf.HEARTBEAT:
            if isinstance(envelope, Envelope) and (stranger := judge(signing.authority(envelope), trust)) is not None:
                return stranger.reason
        case Leaf.REPORT | Leaf.PRESENCE | Leaf.ANSWER:
            if isinstance(envelope, Envelope) and not envelope.verified:
                return Reason.BAD_SIGNATURE
        case Leaf.REQUEST:
            pytest.fail("no vector of a request is invalid yet")
        case _:
            assert_never(leaf)
    if isinstance(envelope, Unreadable):
        return Reason.UNREADABLE
    return Reason.UNREADABLE if isinstance(record.read(wire.DOCUMENTS[leaf], envelope.payload), Unreadable) else None


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_document_is_refused_for_the_reason_it_says(name: str) -> None:
    vector = _load(f"invalid/{name}")
    topic = wire.parse_topic(str(vector["topic"]))
    assert topic is not None
    assert _outcome(topic.leaf, _raw(vector), *_given(vector)) == vector["outcome"]


def test_every_reason_has_an_invalid_vector() -> None:
    assert {_load(f"invalid/{name}")["outcome"] for name in INVALID} == set(Reason)


@pytest.mark.parametrize("name", ["record", "record-of-a-relay", "record-of-the-highest-version"])
def test_a_valid_record_is_taken_where_the_invalid_ones_are_refused(name: str) -> None:
    """Otherwise they could be refused for anything."""
    trust, _ = _given(_load("invalid/no-delegation"))
    assert _outcome(Leaf.REGISTRATION, str(_load(f"valid/{name}")["raw"]).encode(), trust, None) is None


def test_topics() -> None:
    for text in _list("valid/topics"):
        assert str(wire.parse_topic(text)) == text
    for text in _list("invalid/topics"):
        assert wire.parse_topic(text) is None


def test_the_token_reads_as_it_says() -> None:
    vector = _load("valid/token")
    read = token.read(str(vector["text"]))
    assert read.model_dump(mode="json", exclude_none=True) == vector["reads"]
    derived = token.derive(read.secret)
    assert vector["derived"] == {
        "password": derived.password,
        "mac_key": derived.mac_key.hex(),
        "token_id": derived.token_id,
    }


@pytest.mark.parametrize("name", ["attach-ask", "attach-bind"])
def test_the_mac_of_an_attaching_device_is_under_the_key_of_the_token(name: str) -> None:
    payload, derived = _load(f"valid/{name}")["payload"], _load("valid/token")["derived"]
    assert isinstance(payload, dict)
    assert isinstance(derived, dict)
    members = {member: str(value) for member, value in payload.items()}
    assert token.mac(bytes.fromhex(str(derived["mac_key"])), name, members) == payload["mac"]


def test_the_keys_are_made_of_their_names() -> None:
    for name, members in _load("keys").items():
        assert isinstance(members, dict)
        seed = hashlib.sha256(name.encode()).digest()
        assert members["seed"] == seed.hex()
        assert _b64(str(members["x"])) == Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
