"""Write the golden vectors anew: `python -m tests.wire.make_vectors`. The same bytes on every machine.

Keys are made of their names, Ed25519 signs deterministically, and no time or chance goes in. tests/wire/README.md
describes the format for those who write another implementation.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import rfc8785

from propagator.core import record, registration, signing, token, version, wire
from propagator.core.record import Document, Hop, life_entries
from propagator.core.session import Session
from propagator.core.state import Reason, State
from propagator.core.wire import Leaf, Topic, Typ
from tests.unit.builders import DOCUMENT, ISSUED_AT, Lead, b64, flipped, forged, key, registered, secret, v

if TYPE_CHECKING:
    from collections.abc import Iterator

    from propagator.core.difference import JsonObject, JsonValue

FOLDER: Final = Path(__file__).parent
NAMES: Final = (
    *("es-1 identity", "es-1 signing 1", "es-1 signing 2", "es-2 identity", "es-2 signing 1"),
    *("central identity", "stranger", "stranger signing", "plant-3"),
)

LEAD: Final = Lead()
ROTATED: Final = LEAD.rotated()
STRANGER: Final = Lead(identity=key("stranger"), signing=key("stranger signing"))
OTHER: Final = Lead("es-2", key("es-2 identity"), key("es-2 signing 1"))
CENTRAL: Final = Hop(id="central", identity=key("central identity").thumbprint)

SESSION: Final = Session(1764000000, "k7f3q2")
NONCE: Final = "bm9uY2Utbm9uY2Utbm9uY2U"
TOKEN: Final = token.Token(
    addresses=("es-1.example:8883", "192.0.2.10:8883"),
    lead="es-1",
    identity=LEAD.identity.thumbprint,
    ca="MIIB",
    device="plant-3",
    secret="c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3I",
    seq=1,
    version=v("1.4.k7f3q2.41"),
    expires_at="2026-11-24T12:20:31.123Z",
)
MAC_KEY: Final = token.derive(TOKEN.secret).mac_key

CONTENT: Final = registration.from_document(
    {
        **DOCUMENT,
        "system": {"segments": ["offices"], "applications": ["hvac", "lighting"], "transition": []},
        "accounts": {
            "integrator": {"kind": "partner", "company": "Müller & Söhne", "email": "service@controls.example"}
        },
        "consents": {"system_information": True, "personal_information": False},
        "warranty": {"start": "2026-01-31", "months": 24},
    }
)
NEWER: Final = registered("Riverside House", newer={"big": 9007199254740991, "list": [1.5, None, "\u00e9"], "a": {}})


@dataclass(frozen=True)
class Valid:
    """One document as it stands on its topic (None: it travels inside another)."""

    about: str
    topic: Topic | None
    raw: bytes


@dataclass(frozen=True)
class Invalid:
    """One message, what its reader holds, and what it makes of it. `outcome`: a reason of DESIGN §3."""

    about: str
    topic: Topic
    raw: bytes
    outcome: Reason
    floor: JsonObject | None = None
    trust: JsonObject = field(default_factory=dict)


RECORD_TOPIC: Final = Topic("es-1", Leaf.REGISTRATION)
HEARTBEAT_TOPIC: Final = Topic("es-1", Leaf.HEARTBEAT)
REPORT_TOPIC: Final = Topic("es-1", Leaf.REPORT, "plant-3")
PRESENCE_TOPIC: Final = Topic("es-1", Leaf.PRESENCE, "plant-3")
REQUEST_TOPIC: Final = Topic("es-1", Leaf.REQUEST, "plant-3")
ANSWER_TOPIC: Final = Topic("es-1", Leaf.ANSWER, "plant-3")
ATTACH_REQUEST: Final = Topic("es-1", Leaf.REQUEST, "plant-3_attach")
ATTACH_ANSWER: Final = Topic("es-1", Leaf.ANSWER, "plant-3_attach")


def _shadow(typ: Typ, document: Document) -> bytes:
    return signing.seal(typ, document, key("plant-3"), lead="es-1", sender="plant-3")


def _report(**changes: object) -> wire.Report:
    members: dict[str, object] = {
        "session": SESSION,
        "counter": 7,
        "nonce": NONCE,
        "floor": {"version": "1.4.k7f3q2.41", "hash": CONTENT.hash},
        "version": v("1.4.k7f3q2.41"),
        "hash": CONTENT.hash,
        "stored_at": ISSUED_AT,
        "lead_session": SESSION,
        "state": State.IN_SYNC,
        "refusal": {"reason": Reason.ROLLBACK, "text": "It is version 1.1.k7f3q2.1; 1.4.k7f3q2.41 came before."},
        "finding": None,
        "subtree": None,
        "name": "Plant room 3",
        "kind": "server-device",
        "system_id": "SYS-9",
        **changes,
    }
    return wire.Report.model_validate(members)


def _heartbeat(**changes: object) -> wire.Heartbeat:
    members: dict[str, object] = {
        "session": SESSION,
        "counter": 3,
        "version": v("1.4.k7f3q2.41"),
        "hash": CONTENT.hash,
        "heard": None,
        "upstream": None,
        "period_s": 60.0,
        **changes,
    }
    return wire.Heartbeat.model_validate(members)


def _membership() -> str:
    membership = wire.Membership(device="plant-3", key=key("plant-3").thumbprint, serial="0123456789abcdef" * 2)
    return LEAD.seal(Typ.MEMBERSHIP, membership).decode()


def _ask() -> bytes:
    mac = token.mac(MAC_KEY, Typ.ATTACH_ASK, {"nonce": NONCE})
    return _shadow(Typ.ATTACH_ASK, wire.AttachAsk(nonce=NONCE, mac=mac))


def _bind() -> bytes:
    members = {
        "nonce": NONCE,
        "key": key("plant-3").thumbprint,
        "password_hash": f"$7$101${'A' * 16}${'B' * 86}==",
        "name": "Plant room 3",
        "kind": "server-device",
        "system_id": "SYS-9",
    }
    return _shadow(Typ.ATTACH_BIND, wire.AttachBind(**members, mac=token.mac(MAC_KEY, Typ.ATTACH_BIND, members)))


def _lived() -> bytes:
    """The record that others carry: of a lead that lived before."""
    lives = version.lives_after(version.lives_after((), v("1.3.0aaaaa.39")), v("1.4.k7f3q2.41"))
    return LEAD.signed("1.4.k7f3q2.41", CONTENT, lives=life_entries(lives))


def valid() -> dict[str, Valid]:
    """Give every document that crosses the wire, well made."""
    current = _lived()
    heard = {"session": "1763000000-zzzzzz", "counter": 0}
    upstream = {"state": "in_sync", "since": ISSUED_AT, "version": "1.1.aaaa.1", "hash": CONTENT.hash}
    nothing = dict.fromkeys(("nonce", "floor", "version", "hash", "stored_at", "lead_session", "refusal", "system_id"))
    finding = {
        "code": "tcp-refused",
        "title": "refused",
        "cause": "nobody listens",
        "remedies": [{"commands": ["ss -ltn"]}],
    }
    outcome = wire.AttachOutcome.BOUND
    hello = wire.AttachHello(nonce=NONCE, name="Enterprise Server", record=current.decode())
    return {
        "record": Valid("a record", RECORD_TOPIC, current),
        "record-null": Valid(
            "the first record of a lead: no registration yet", RECORD_TOPIC, LEAD.signed("1.1.k7f3q2.1")
        ),
        "record-of-a-relay": Valid(
            "a record that came from a central, with unknown members that count for its hash",
            RECORD_TOPIC,
            LEAD.signed("1.4.k7f3q2.41", NEWER, above=(CENTRAL,)),
        ),
        "record-after-rotate": Valid(
            "a record under the second delegation", RECORD_TOPIC, ROTATED.signed("2.1.zzzz.1", CONTENT)
        ),
        "record-of-the-highest-version": Valid(
            "a record with the largest numbers",
            RECORD_TOPIC,
            LEAD.signed("1.9007199254740991.0123456789abcdef.9007199254740991", CONTENT),
        ),
        "heartbeat": Valid("a heartbeat", HEARTBEAT_TOPIC, LEAD.seal(Typ.HEARTBEAT, _heartbeat())),
        "heartbeat-of-a-lost-lead": Valid(
            "a lead that is alive and knows no record",
            HEARTBEAT_TOPIC,
            LEAD.seal(Typ.HEARTBEAT, _heartbeat(version=None, hash=None)),
        ),
        "heartbeat-of-a-relay": Valid(
            "a relay's heartbeat that names another heard under its key",
            HEARTBEAT_TOPIC,
            LEAD.seal(Typ.HEARTBEAT, _heartbeat(heard=heard, upstream=upstream, period_s=2.5)),
        ),
        "heartbeat-of-a-newer-relay": Valid(
            "a heartbeat of a relay whose own uplink stands in a newer program's word",
            HEARTBEAT_TOPIC,
            LEAD.seal(Typ.HEARTBEAT, _heartbeat(upstream={**upstream, "state": "asleep"})),
        ),
        "report": Valid("a report that answers a request", REPORT_TOPIC, _shadow(Typ.REPORT, _report())),
        "report-of-a-new-shadow": Valid(
            "a report of a shadow that holds nothing of this lead, with a finding",
            REPORT_TOPIC,
            _shadow(Typ.REPORT, _report(**nothing, counter=0, state=State.UNREACHABLE, finding=finding)),
        ),
        "report-of-a-relay": Valid(
            "a report with the summary of the subtree below",
            REPORT_TOPIC,
            _shadow(Typ.REPORT, _report(subtree={"total": 3, "in_sync": 2, "unknown": 1})),
        ),
        "report-of-a-newer-shadow": Valid(
            "a report whose state and reason are a newer program's words",
            REPORT_TOPIC,
            _shadow(Typ.REPORT, _report(state="asleep", refusal={"reason": "over_quota", "text": "No room for it."})),
        ),
        "presence-birth": Valid(
            "the birth of a connection",
            PRESENCE_TOPIC,
            _shadow(Typ.PRESENCE, wire.Presence(session=SESSION, counter=1, online=True)),
        ),
        "presence-will": Valid(
            "its will", PRESENCE_TOPIC, _shadow(Typ.PRESENCE, wire.Presence(session=SESSION, counter=1, online=False))
        ),
        "request": Valid(
            "a request to report again, with a new membership",
            REQUEST_TOPIC,
            LEAD.seal(Typ.REQUEST, wire.Request(nonce=NONCE, wanted="report", membership=_membership())),
        ),
        "answer": Valid(
            "the record and the membership that a shadow holds",
            ANSWER_TOPIC,
            _shadow(Typ.ANSWER, wire.Answer(nonce=NONCE, record=current.decode(), membership=_membership())),
        ),
        "attach-ask": Valid("a device asks its lead to prove itself", ATTACH_ANSWER, _ask()),
        "attach-hello": Valid("the lead proves itself", ATTACH_REQUEST, LEAD.seal(Typ.ATTACH_HELLO, hello)),
        "attach-bind": Valid("the device's own key, and its password's hash", ATTACH_ANSWER, _bind()),
        "attach-result": Valid(
            "the lead's answer",
            ATTACH_REQUEST,
            LEAD.seal(Typ.ATTACH_RESULT, wire.AttachResult(nonce=NONCE, outcome=outcome, membership=_membership())),
        ),
        "membership": Valid("the lead's word that a key is one of its shadows", None, _membership().encode()),
        "delegation": Valid("the identity key appoints a signing key", None, LEAD.delegation.encode()),
    }


FLOOR: Final[JsonObject] = {
    "version": "1.4.k7f3q2.41",
    "hash": CONTENT.hash,
    "path": [["es-1", LEAD.identity.thumbprint]],
    "registered": True,
}


def _changed(**changes: JsonValue) -> bytes:
    """A record of the lead's whose payload says something else."""
    members = json.loads(record.write(LEAD.record("1.4.k7f3q2.41", CONTENT)))
    return LEAD.forged(json.dumps({**members, **changes}, ensure_ascii=False).encode())


def _payload(old: bytes, new: bytes) -> bytes:
    payload = record.write(LEAD.record("1.4.k7f3q2.41", CONTENT))
    assert old in payload
    return LEAD.forged(payload.replace(old, new))


def _registered(**changes: JsonValue) -> bytes:
    """A record whose registration no reader takes, under the hash that fits it."""
    document: JsonObject = {**CONTENT.document, **changes}
    return _changed(registration=document, hash=hashlib.sha256(rfc8785.dumps(document)).hexdigest())


def _header(**changes: object) -> bytes:
    return LEAD.forged(record.write(LEAD.record("1.4.k7f3q2.41", CONTENT)), **changes)


def invalid() -> dict[str, Invalid]:
    """Give what must be refused, with the reason."""
    vectors = {
        **dict(_unreadable()),
        **dict(_quarantined()),
        **dict(_untrusted()),
        **dict(_disordered()),
        **dict(_other_documents()),
    }
    return {name: vectors[name] for name in sorted(vectors)}


def _unreadable() -> Iterator[tuple[str, Invalid]]:
    """Rule 1: what is no signed document."""
    raw = LEAD.signed("1.4.k7f3q2.41", CONTENT)
    first, _, rest = raw.partition(b".")
    names = json.dumps({"typ": "record", "lead": "es-1", "sender": "es-1"})[1:]
    members = f'"kid":"{LEAD.signing.thumbprint}","jwk":{json.dumps(LEAD.signing.public.jwk)},"alg":"Ed25519",{names}'
    twice = forged(f'{{"typ":"report",{members}'.encode(), by="es-1 signing 1")
    deep = forged(f'{{"newer":{"[" * 32}{"]" * 32},{members}'.encode(), by="es-1 signing 1")
    cases: dict[str, tuple[str, bytes]] = {
        "empty": ("a zero-length message", b""),
        "too-large": ("65,537 bytes", b"x" * (signing.SIZE_LIMIT + 1)),
        "no-jws": ("JSON that nobody signed", b'{"lead":"es-1"}'),
        "two-parts": ("a JWS without its signature part", raw.rpartition(b".")[0]),
        "padding": ("padded base64url", first + b"=." + rest),
        "alg-none": ("alg none", _header(alg="none")),
        "alg-hs256": ("alg HS256", _header(alg="HS256")),
        "alg-eddsa": ("alg EdDSA, which RFC 9864 replaced", _header(alg="EdDSA")),
        "crit": ("a critical extension", _header(crit=["exp"])),
        "unencoded-payload": ("b64 false (RFC 7797)", _header(b64=False, crit=["b64"])),
        "header-name-twice": ("typ twice in the header", twice),
        "header-too-deep": ("33 levels in the header", deep),
        "kid-of-another-key": ("kid and jwk do not fit", _header(kid=key("stranger").thumbprint)),
        "jwk-on-x25519": ("a key on another curve", _header(jwk={**LEAD.signing.public.jwk, "crv": "X25519"})),
        "no-lead": ("a header that names no lead", _header(lead=None)),
        "no-record": ("a heartbeat on the record's topic", LEAD.seal(Typ.HEARTBEAT, _heartbeat())),
    }
    for name, (about, made) in cases.items():
        yield name, Invalid(about, RECORD_TOPIC, made, Reason.UNREADABLE)


def _quarantined() -> Iterator[tuple[str, Invalid]]:
    """Rule 4: signed by the lead, and still no record."""
    half = json.dumps({**CONTENT.document, "newer": "\ud800"}).encode()
    cases: dict[str, tuple[str, bytes]] = {
        "payload-not-json": ("text", LEAD.forged(b"hello")),
        "payload-not-utf-8": ("a byte that no UTF-8 has", _payload(b"Bristol", b"Bris\xfftol")),
        "payload-name-twice": ("lead twice", _payload(b'{"lead":"es-1"', b'{"lead":"es-2","lead":"es-1"')),
        "payload-nan": ("NaN", _payload(b'"months":24', b'"months":NaN')),
        "payload-infinity": ("Infinity", _payload(b'"months":24', b'"months":Infinity')),
        "payload-inexact": (
            "2^53 as an unknown member",
            _payload(b'"months":24', b'"months":24,"newer":9007199254740992'),
        ),
        "payload-half-surrogate": ("half a surrogate pair", _payload(CONTENT.canonical.encode(), half)),
        "payload-too-deep": ("33 levels", LEAD.forged(b"[" * 33 + b"]" * 33)),
        "no-version": ("a version of three parts", _changed(version="1.4.41")),
        "version-nought": ("a revision of nought", _changed(version="1.4.k7f3q2.0")),
        "other-hash": ("a hash that is not that of the registration", _changed(hash="0" * 64)),
        "other-lives": ("lives that do not end with the version", _changed(version="1.4.k7f3q2.42")),
        "no-path": ("an empty path", _changed(path=[])),
        "control-character": ("a terminal code in a text", _registered(contact={"email": "a\u001b[2J@b"})),
        "bidi-override": ("a text that reads backwards", _registered(contact={"email": "a\u202e@b"})),
        "missing-member": ("a registration without an e-mail address", _registered(contact={})),
    }
    for name, (about, made) in cases.items():
        yield name, Invalid(f"signed by the lead: {about}", RECORD_TOPIC, made, Reason.UNREADABLE)


def _untrusted() -> Iterator[tuple[str, Invalid]]:
    """Rules 2 and 3."""
    raw = LEAD.signed("1.4.k7f3q2.41", CONTENT)
    head, _, _ = raw.rpartition(b".")
    look_alike = {"typ": "record", "lead": "\u0435s-1", "sender": "\u0435s-1"}
    yield (
        "other-lead",
        Invalid("a record of es-2", RECORD_TOPIC, OTHER.signed("1.1.k7f3.1", CONTENT), Reason.WRONG_LEAD),
    )
    yield "look-alike-lead", Invalid("a Cyrillic letter in the id", RECORD_TOPIC, forged(look_alike), Reason.WRONG_LEAD)
    yield (
        "second-lead",
        Invalid("another identity key", RECORD_TOPIC, STRANGER.signed("1.9.zzzz.99", CONTENT), Reason.SECOND_LEAD),
    )
    yield (
        "replaced-key",
        Invalid("a delegation since replaced", RECORD_TOPIC, raw, Reason.REVOKED_KEY, trust={"seq": 2}),
    )
    cases: dict[str, tuple[str, bytes]] = {
        "bit-in-the-payload": ("one bit flipped in the payload", flipped(raw, len(raw) - 120)),
        "bit-in-the-signature": ("one bit flipped in the signature", flipped(raw, len(raw) - 9)),
        "line-feed-after": ("a line feed after the signature", raw + b"\n"),
        "no-signature": ("an empty signature", head + b"."),
        "signed-by-another": (
            "the lead's header, another's signature",
            head + b"." + b64(secret("stranger signing").sign(head)),
        ),
        "no-delegation": ("no delegation", _header(delegation=None)),
        "delegation-of-another-lead": ("the delegation of es-2", _header(delegation=OTHER.delegation)),
        "delegation-of-another-key": ("the delegation of the next signing key", _header(delegation=ROTATED.delegation)),
        "delegation-flipped": (
            "one bit flipped in the delegation",
            _header(delegation=flipped(LEAD.delegation.encode(), -9).decode()),
        ),
        "sent-by-a-shadow": ("another sender than the lead", _header(sender="plant-3")),
        "seq-of-another-delegation": ("version 2.… under the first delegation", LEAD.signed("2.1.k7f3.1", CONTENT)),
        "payload-of-another-lead": ("es-2 in the payload", LEAD.seal(Typ.RECORD, OTHER.record("1.1.k7f3.1", CONTENT))),
        "path-of-another-key": (
            "a path that ends with another identity key",
            LEAD.seal(Typ.RECORD, STRANGER.record("1.1.k7f3.1", CONTENT)),
        ),
    }
    for name, (about, made) in cases.items():
        yield name, Invalid(about, RECORD_TOPIC, made, Reason.BAD_SIGNATURE)


def _disordered() -> Iterator[tuple[str, Invalid]]:
    """Rules 5 to 7."""
    through = LEAD.signed("1.5.aaaa.42", CONTENT, above=(CENTRAL,))
    own: JsonObject = {"own_identity": CENTRAL.identity}
    yield "loop", Invalid("a record that came through its reader", RECORD_TOPIC, through, Reason.LOOP, FLOOR, own)
    lower = {
        "lower-revision": ("a lower revision", LEAD.signed("1.4.k7f3q2.40", CONTENT)),
        "lower-generation": ("an earlier life", LEAD.signed("1.3.zzzz.99", CONTENT)),
        "first-day-null": ("the null record of the first day (F49)", LEAD.signed("1.1.k7f3q2.1")),
    }
    for name, (about, made) in lower.items():
        yield name, Invalid(about, RECORD_TOPIC, made, Reason.ROLLBACK, FLOOR)
    before: JsonObject = {"lowest": "1.4.k7f3q2.42"}
    yield (
        "below-the-token",
        Invalid(
            "older than the token of its reader",
            RECORD_TOPIC,
            LEAD.signed("1.4.k7f3q2.41", CONTENT),
            Reason.ROLLBACK,
            trust=before,
        ),
    )
    forks = {
        "other-epoch": ("another epoch of one generation", LEAD.signed("1.4.zzzz.42", CONTENT)),
        "same-version-other-hash": ("the same version with another registration", LEAD.signed("1.4.k7f3q2.41", NEWER)),
        "same-version-other-path": (
            "the same version by another path",
            LEAD.signed("1.4.k7f3q2.41", CONTENT, above=(CENTRAL,)),
        ),
    }
    for name, (about, made) in forks.items():
        yield name, Invalid(about, RECORD_TOPIC, made, Reason.FORK, FLOOR)


def _other_documents() -> Iterator[tuple[str, Invalid]]:
    """A heartbeat is judged like a record; a shadow's document by its own signature."""
    beat = json.loads(record.write(_heartbeat()))
    carried = {"typ": "heartbeat", "lead": "es-1", "sender": "es-1", "delegation": LEAD.delegation}
    text = json.dumps({**beat, "period_s": "60"}).encode()
    said = json.loads(record.write(_report()))
    names: dict[str, object] = {"typ": "report", "lead": "es-1", "sender": "plant-3"}

    def report(**changes: JsonValue) -> bytes:
        return forged(names, json.dumps({**said, **changes}).encode(), by="plant-3")

    yield (
        "heartbeat-of-a-second-lead",
        Invalid(
            "another identity key", HEARTBEAT_TOPIC, STRANGER.seal(Typ.HEARTBEAT, _heartbeat()), Reason.SECOND_LEAD
        ),
    )
    yield (
        "heartbeat-period-as-text",
        Invalid(
            "a period that is a text", HEARTBEAT_TOPIC, forged(carried, text, by="es-1 signing 1"), Reason.UNREADABLE
        ),
    )
    cases: dict[str, tuple[str, bytes, Reason]] = {
        "report-flipped": ("one bit flipped", flipped(_shadow(Typ.REPORT, _report()), -200), Reason.BAD_SIGNATURE),
        "report-counter-below-nought": ("a counter of -1", report(counter=-1), Reason.UNREADABLE),
        "report-counter-as-float": ("a counter of 7.0", report(counter=7.0), Reason.UNREADABLE),
        "report-state-no-word": ("a state that is no word", report(state="Fine!"), Reason.UNREADABLE),
        "report-terminal-code": ("a terminal code in the name", report(name="\u001b[2J"), Reason.UNREADABLE),
        "report-nonce-too-short": ("a nonce of three characters", report(nonce="abc"), Reason.UNREADABLE),
    }
    for name, (about, made, outcome) in cases.items():
        yield name, Invalid(about, REPORT_TOPIC, made, outcome)


VALID_TOPICS: Final = (
    *(RECORD_TOPIC, HEARTBEAT_TOPIC, REPORT_TOPIC, PRESENCE_TOPIC, REQUEST_TOPIC, ANSWER_TOPIC),
    *(ATTACH_REQUEST, ATTACH_ANSWER, Topic("a", Leaf.ANSWER, "0_probe"), Topic("a" * 63, Leaf.REPORT, "9-9")),
)
INVALID_TOPICS: Final = (
    *("", "propagator/2/es-1/registration", "propagator/1/es-1", "propagator/1/es-1/registration/"),
    *("propagator/1/ES-1/registration", "propagator/1/\u0435s-1/registration", "propagator/1/es_1/registration"),
    *("propagator/1/-es/heartbeat", "propagator/1/es-/heartbeat", "propagator/1/es-1/report"),
    *("propagator/1/es-1/shadows/plant-3/registration", "propagator/1/es-1/shadows/plant_3/report"),
    *("propagator/1/es-1/shadows/plant-3_root/answer", "propagator/1/es-1/shadows//report"),
    *("propagator/1/es-1/shadows/+/report", "propagator/1/#", f"propagator/1/{'a' * 64}/registration"),
)


def _valid_text(vector: Valid) -> str:
    """A valid vector as its file. What it reads as is worked out here from the bytes, without the code under test."""
    head, payload, _ = (part for part in vector.raw.split(b"."))
    header = json.loads(_decoded(head))
    delegation = None
    if "delegation" in header:
        by, named, _ = header["delegation"].encode().split(b".")
        delegation = {"identity": json.loads(_decoded(by))["kid"], **json.loads(_decoded(named))}
    return _text(
        {
            "about": vector.about,
            "topic": None if vector.topic is None else str(vector.topic),
            "raw": vector.raw.decode(),
            "header": {name: header[name] for name in ("typ", "lead", "sender", "kid")},
            "delegation": delegation,
            "payload": json.loads(_decoded(payload)),
        }
    )


def _invalid_text(vector: Invalid) -> str:
    raw: JsonValue = vector.raw.decode()
    if len(vector.raw) > signing.SIZE_LIMIT:
        raw = {"repeat": "x", "times": len(vector.raw)}
    trust: JsonObject = {
        "lead": "es-1",
        "identity": LEAD.identity.thumbprint,
        "seq": 1,
        "lowest": None,
        "own_identity": None,
    }
    given: JsonObject = {"trust": {**trust, **vector.trust}, "floor": vector.floor}
    outcome = str(vector.outcome)
    return _text({"about": vector.about, "topic": str(vector.topic), "raw": raw, "given": given, "outcome": outcome})


def _token_text() -> str:
    """Compressed at level 0, which every deflate writes alike; a real one is compressed."""
    members = json.dumps(TOKEN.model_dump(mode="json", exclude_none=True), separators=(",", ":")).encode()
    body = base64.urlsafe_b64encode(zlib.compress(members, 0)).decode().rstrip("=")
    derived = token.derive(TOKEN.secret)
    return _text(
        {
            "about": "an invitation token, and what is derived from its secret",
            "text": f"{token.PREFIX}.{body}.{token._check(body)}",
            "reads": json.loads(members),
            "derived": {"password": derived.password, "mac_key": derived.mac_key.hex(), "token_id": derived.token_id},
        }
    )


def _decoded(part: bytes) -> bytes:
    return base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))


def _text(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=True) + "\n"


def made() -> dict[str, str]:
    """Give every file of the vectors by its path below this folder."""
    keys = {
        name: {
            "seed": secret(name).private_bytes_raw().hex(),
            "x": key(name).public.x,
            "thumbprint": key(name).thumbprint,
        }
        for name in NAMES
    }
    return {
        "keys.json": _text(keys),
        "valid/topics.json": _text([str(topic) for topic in VALID_TOPICS]),
        "valid/token.json": _token_text(),
        **{f"valid/{name}.json": _valid_text(vector) for name, vector in valid().items()},
        "invalid/topics.json": _text(INVALID_TOPICS),
        **{f"invalid/{name}.json": _invalid_text(vector) for name, vector in invalid().items()},
    }


def main() -> None:
    """Write all files, and remove those that are no longer made."""
    files = made()
    for folder in ("valid", "invalid"):
        (FOLDER / folder).mkdir(exist_ok=True)
        for path in (FOLDER / folder).glob("*.json"):
            if f"{folder}/{path.name}" not in files:
                path.unlink()
    for name, text in files.items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
