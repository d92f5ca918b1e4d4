"""The documents for other implementations: held to the code, to the golden vectors and to the standards they name."""

from __future__ import annotations

import gzip
import hashlib
import hmac
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jsonschema import Draft7Validator, Draft202012Validator
from referencing import Registry, Resource

from propagator.core import record, registration, signing, strict_json, token, wire
from propagator.core.errors import Unreadable
from propagator.core.signing import Envelope
from propagator.core.state import Reason, State
from propagator.core.wire import Leaf, Typ
from tests.docs import asyncapi, generate, schemas
from tests.unit.builders import b64, unb64

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
VECTORS = ROOT / "tests/wire"
NOT_DOCUMENTS = {"topics", "token"}
VALID = sorted(path.stem for path in (VECTORS / "valid").glob("*.json") if path.stem not in NOT_DOCUMENTS)
INVALID = sorted(path.stem for path in (VECTORS / "invalid").glob("*.json") if path.stem not in NOT_DOCUMENTS)
SCHEMAS = {name.removesuffix(".json"): json.loads(text) for name, text in schemas.made().items()}
PROTOCOL = (ROOT / "docs/PROTOCOL.md").read_text(encoding="utf-8")

BEYOND_A_SCHEMA = {
    "other-hash": "the hash and the registration must agree",
    "other-lives": "the lives and the version must agree",
    "report-counter-as-float": "for a JSON Schema 7.0 is an integer",
    "no-record": "the topic, not the document, is the wrong one",
}
"""Vectors that are `unreadable` for what no schema of one document can say."""


def _load(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))
    return loaded


def _validator(name: str) -> Draft202012Validator:
    resources = [(f"{known}.json", Resource.from_contents(schema)) for known, schema in SCHEMAS.items()]
    registry: Registry[Any] = Registry().with_resources(resources)
    return Draft202012Validator(SCHEMAS[name], registry=registry)


def _opened(raw: str) -> tuple[dict[str, Any], bytes]:
    envelope = signing.open_envelope(raw.encode())
    assert isinstance(envelope, Envelope), envelope
    return _header(raw), envelope.payload


def _header(raw: str) -> dict[str, Any]:
    header: dict[str, Any] = json.loads(unb64(raw.split(".", 1)[0]))
    return header


def test_the_committed_documents_are_those_that_are_made() -> None:
    """After a change of the wire: `make docs`, and a look at what changed."""
    folder = ROOT / "docs"
    paths = [*(folder / "schemas").iterdir(), folder / "asyncapi.yaml", folder / "diagnostics.md"]
    assert {str(path.relative_to(folder)): path.read_text(encoding="utf-8") for path in paths} == generate.made()


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_a_schema_is_one_of_its_dialect_and_says_what_it_is(name: str) -> None:
    schema = SCHEMAS[name]
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == schemas.DIALECT
    assert schema["title"]
    assert schema["description"]
    assert not re.search(r"DESIGN|\([RF]\d", json.dumps(schema)), "a stranger has no such paper"


def test_every_document_has_a_schema_and_a_header() -> None:
    assert set(wire.DOCUMENTS) == set(Typ) == {*wire.BY_A_LEAD, *schemas.BY_A_SHADOW, Typ.DELEGATION}


def _check(typ: str, raw: str) -> None:
    """Validate a document, and every document inside it."""
    header, payload = _opened(raw)
    assert header["typ"] == typ
    _validator(schemas.header_of(Typ(typ))).validate(header)
    said = json.loads(payload)
    _validator(typ).validate(said)
    inside = [("delegation", header.get("delegation")), *((name, said.get(name)) for name in ("record", "membership"))]
    for name, carried in inside:
        if carried is not None:
            _check(name, carried)


@pytest.mark.parametrize("name", VALID)
def test_a_valid_document_fits_its_schemas(name: str) -> None:
    vector = _load(f"valid/{name}")
    assert (vector["header"]["typ"] in wire.BY_A_LEAD) is (vector["delegation"] is not None)
    _check(vector["header"]["typ"], vector["raw"])


def test_the_token_fits_its_schema() -> None:
    _validator("token").validate(_load("valid/token")["reads"])


def _claims_a_schema_error(vector: dict[str, Any]) -> bool:
    """Signed well, strict JSON, and still unreadable: then the payload is not that of its document."""
    if vector["outcome"] != Reason.UNREADABLE or not isinstance(vector["raw"], str):
        return False
    envelope = signing.open_envelope(vector["raw"].encode())
    if not isinstance(envelope, Envelope) or not envelope.verified:
        return False
    try:
        strict_json.loads(envelope.payload)
    except strict_json.Invalid:
        return False
    return True


CLAIMING = [name for name in INVALID if _claims_a_schema_error(_load(f"invalid/{name}"))]


def test_invalid_vectors_claim_schema_errors() -> None:
    assert len(CLAIMING) > 10
    assert set(BEYOND_A_SCHEMA) <= set(CLAIMING)


@pytest.mark.parametrize("name", CLAIMING)
def test_an_unreadable_payload_does_not_fit_its_schema(name: str) -> None:
    header, payload = _opened(_load(f"invalid/{name}")["raw"])
    assert _validator(header["typ"]).is_valid(json.loads(payload)) is (name in BEYOND_A_SCHEMA)


def _changed(node: Any) -> Iterator[Any]:
    """Give `node` with each of its parts taken away, or replaced by what mostly does not belong there."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield {other: kept for other, kept in node.items() if other != name}
            yield from ({**node, name: changed} for changed in (*STRANGE, *_changed(value)))
    if isinstance(node, list):
        yield node[1:]
        for index, value in enumerate(node):
            yield from ([*node[:index], changed, *node[index + 1 :]] for changed in (*STRANGE, *_changed(value)))


STRANGE: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    2**53 - 1,
    "",
    "1",
    "a\u0007",
    "\u202e",
    "A" * 70_000,
    [],
    [{}],
    {},
    {"a": 1},
)


@pytest.mark.parametrize("name", VALID)
def test_schema_and_code_take_the_same_payloads(name: str) -> None:
    """But for what only the members' agreement forbids in a record, and a text inside that is no signed document.

    The first the schema takes and the code refuses; the second the code opens, and refuses, later.
    """
    vector = _load(f"valid/{name}")
    kind = wire.DOCUMENTS[Typ(vector["header"]["typ"])]
    validator = _validator(vector["header"]["typ"])
    for changed in _changed(vector["payload"]):
        taken = not isinstance(record.read(kind, json.dumps(changed).encode()), Unreadable)
        fits = validator.is_valid(changed)
        inside = [changed.get(member) for member in ("record", "membership")]
        opened_later = any(isinstance(text, str) and "." not in text for text in inside)
        assert (fits or opened_later) if taken else (not fits or kind is record.Record), changed


HEADERS = [
    "alg-none",
    "alg-hs256",
    "alg-eddsa",
    "crit",
    "unencoded-payload",
    "jwk-on-x25519",
    "no-lead",
    "no-delegation",
]


@pytest.mark.parametrize("name", HEADERS)
def test_a_bad_header_does_not_fit_its_schema(name: str) -> None:
    assert not _validator("header-lead").is_valid(_header(_load(f"invalid/{name}")["raw"]))


# AsyncAPI.


def _document() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docs/asyncapi.yaml").read_text(encoding="utf-8"))
    return loaded


def test_the_asyncapi_document_fits_the_standard() -> None:
    standard = json.loads(gzip.decompress((Path(__file__).parent / "asyncapi-3.0.0/schema.json.gz").read_bytes()))
    found = [
        f"{error.json_path}: {error.message[:200]}" for error in Draft7Validator(standard).iter_errors(_document())
    ]
    assert found == []


def _references(node: object) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for item in node.values() for found in _references(item)]
    return [found for item in node for found in _references(item)] if isinstance(node, list) else []


def test_every_reference_leads_somewhere() -> None:
    document = _document()
    references = set(_references(document))
    assert references
    for reference in references:
        file, _, pointer = reference.partition("#")
        if file:
            assert (ROOT / "docs" / file).is_file(), reference
            continue
        node: Any = document
        for step in pointer.strip("/").split("/"):
            node = node[step]


def test_every_topic_is_a_channel() -> None:
    addresses = {channel["address"] for channel in _document()["channels"].values()}
    topics = {wire.parse_topic(text.replace("{lead}", "es-1").replace("{shadow}", "plant-3")) for text in addresses}
    assert None not in topics
    assert {topic.leaf for topic in topics if topic is not None} == set(Leaf)


def test_the_examples_are_documents_of_their_channel() -> None:
    messages = _document()["components"]["messages"]
    assert set(messages) == set(Typ) - {Typ.MEMBERSHIP, Typ.DELEGATION}
    for typ, message in messages.items():
        for example in message["examples"]:
            _check(typ, example["payload"])


def test_what_the_broker_keeps_is_sent_to_be_kept() -> None:
    kept = {lane.topic.leaf for lane in asyncapi.LANES if lane.retained}
    assert kept == {Leaf.REGISTRATION, Leaf.REPORT, Leaf.PRESENCE}
    sends = [said for said in _document()["operations"].values() if said["action"] == "send"]
    assert all(said["bindings"]["mqtt"]["qos"] == 1 for said in sends)


# The text.


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_the_text_names_every_member(name: str) -> None:
    missing = [member for member in SCHEMAS[name]["properties"] if f"`{member}`" not in PROTOCOL]
    assert missing == []


@pytest.mark.parametrize("words", [Typ, Reason, State], ids=["documents", "reasons", "states"])
def test_the_text_names_every_word(words: type[Typ | Reason | State]) -> None:
    assert [word for word in words if f"`{word}`" not in PROTOCOL] == []


def test_the_text_names_every_topic() -> None:
    topics = [str(lane.topic).replace("{lead}", "LEAD").replace("{shadow}", "ID") for lane in asyncapi.LANES]
    assert [topic for topic in topics if topic not in PROTOCOL] == []


def test_the_bytes_of_the_example_are_those_of_the_vectors() -> None:
    """Whatever looks like bytes in the text (hexadecimal, base64url) stands in the vectors, and so does its JSON."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(VECTORS.rglob("*.json"))]
    shown = set(re.findall(r"(?<![\w-])[A-Za-z0-9_-]{40,}(?![\w-])", PROTOCOL))
    assert shown
    assert sorted(text for text in shown if not any(text in known for known in texts)) == []
    lines = re.findall(r"^    (\{.*\})$", PROTOCOL, re.MULTILINE)
    carried = [b64(line.encode()).decode() for line in lines if '"accounts"' not in line]
    assert len(carried) == 5
    assert [text for text in carried[1:] if not any(text in known for known in texts)] == []


def test_the_example_can_be_worked_out_from_the_text() -> None:
    """By a stranger: standard library, Ed25519, and what PROTOCOL.md says."""
    keys = _load("keys")["plant-3"]
    secret = _load("valid/token")["reads"]["secret"].encode()

    def hkdf(info: bytes) -> bytes:
        return hmac.digest(hmac.digest(bytes(32), secret, "sha256"), info + b"\x01", "sha256")

    assert hkdf(b"propagator attach password").hex() in PROTOCOL
    assert hkdf(b"propagator attach id")[:8].hex() == _load("valid/token")["derived"]["token_id"]
    nonce = _load("valid/attach-ask")["payload"]["nonce"]
    said = f'attach-ask\n{{"nonce":"{nonce}"}}'
    assert "".join(f"\n    {line}" for line in said.split("\n")) in PROTOCOL
    mac = hmac.digest(hkdf(b"propagator attach mac"), said.encode(), "sha256").hex()
    jwk = {"crv": "Ed25519", "kty": "OKP", "x": keys["x"]}
    header = {"alg": "Ed25519", "kid": keys["thumbprint"], "jwk": jwk, "typ": "attach-ask", "lead": "es-1"}
    parts = [{**header, "sender": "plant-3"}, {"nonce": nonce, "mac": mac}]
    signed = b".".join(b64(json.dumps(part, separators=(",", ":")).encode()) for part in parts)
    signature = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"plant-3").digest()).sign(signed)
    assert f"{signed.decode()}.{b64(signature).decode()}" == _load("valid/attach-ask")["raw"]
    canonical = re.findall(r'^    (\{"accounts".*\})$', PROTOCOL, re.MULTILINE)
    assert [hashlib.sha256(text.encode()).hexdigest() for text in canonical] == [
        _load("valid/record")["payload"]["hash"]
    ]
    assert hashlib.sha256(b"null").hexdigest() in PROTOCOL


@pytest.mark.parametrize("limit", [signing.SIZE_LIMIT, registration.FILE_LIMIT, token.SIZE_LIMIT])
def test_the_text_tells_the_limits_of_the_code(limit: int) -> None:
    assert f"{limit:,}" in PROTOCOL


def test_the_text_leads_to_files_that_are_there() -> None:
    for name in re.findall(r"`((?:docs|tests|valid|invalid)/[\w./-]+)`", PROTOCOL):
        assert (ROOT / name).exists() or (VECTORS / name).exists(), name
