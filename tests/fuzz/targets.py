"""What is fuzzed, and what must hold of every input: bytes in, nothing out but an AssertionError or what was raised.

A reader gives a value or says no in the one way of its contract. Whatever it takes is held to a second opinion that has
none of our code in it (Ed25519, base64 and JSON of others), and comes back the same after it was written again.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import tempfile
import tomllib
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import strategies as st

from propagator import config, settings
from propagator.config import Found
from propagator.core import code, record, registration, signing, statement, strict_json, token, wire
from propagator.core.errors import InputError, PropagatorError, RefusedError, Unreadable
from propagator.core.signing import Envelope
from propagator.core.statement import Proven, Standing
from propagator.core.wire import Typ
from tests.fuzz import grammar
from tests.unit.builders import DOCUMENT, b64, key, registered, secret, unb64
from tests.unit.test_statement import said
from tests.wire.test_vectors import FOLDER as VECTORS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from hypothesis.strategies import DrawFn, SearchStrategy

CONFIG: Final = Path(__file__).parents[2] / "config"


@dataclass(frozen=True, slots=True)
class Target:
    """One reader: what is said to it, what must hold of each input, and how many are tried in `make test`."""

    name: str
    inputs: SearchStrategy[bytes]
    check: Callable[[bytes], None]
    examples: int


# Signed documents.


def envelope(raw: bytes) -> None:
    """What opens as verified is under the key that it carries, in its only spelling; nothing is taken from the rest."""
    opened = signing.open_envelope(raw)
    if isinstance(opened, Unreadable):
        assert opened.detail
        return
    if opened.verified:
        assert opened.payload == holds(raw, opened.kid)
    named = signing.authority(opened)
    if named is not None:
        assert opened.delegation is not None
        appointed = json.loads(holds(opened.delegation.encode(), named.identity))
        assert opened.verified
        assert (appointed["lead"], appointed["seq"], appointed["key"]) == (named.lead, named.seq, opened.kid)
        assert named.lead == opened.lead == opened.sender
    if opened.verified and opened.typ in wire.DOCUMENTS:
        payload(opened.typ.encode() + b"\n" + opened.payload)


def holds(raw: bytes, kid: str) -> bytes:
    """Verify a document with nothing of ours, and give its payload."""
    head, body, signature = raw.split(b".")
    assert [b64(unb64(part)) for part in (head, body, signature)] == [head, body, signature], "another spelling"
    header = json.loads(unb64(head), object_pairs_hook=_each_once)
    x = unb64(header["jwk"]["x"])
    Ed25519PublicKey.from_public_bytes(x).verify(unb64(signature), head + b"." + body)
    canonical = json.dumps({"crv": "Ed25519", "kty": "OKP", "x": header["jwk"]["x"]}, separators=(",", ":"))
    assert kid == header["kid"] == b64(hashlib.sha256(canonical.encode()).digest()).decode()
    return unb64(body)


def payload(raw: bytes) -> None:
    """Hold what a line `typ` and a payload read as to being the same once written, signed and opened again."""
    typ, _, members = raw.partition(b"\n")
    kind = wire.DOCUMENTS.get(typ.decode(errors="replace"))
    if kind is None:
        return
    document = record.read(kind, members)
    if isinstance(document, Unreadable):
        assert document.detail
        return
    written = record.write(document)
    assert record.read(kind, written) == document
    assert record.write(document) == written
    if len(written) < signing.SIZE_LIMIT // 2:
        opened = signing.open_envelope(signing.seal(typ.decode(), document, key("stranger"), lead="a", sender="b"))
        assert isinstance(opened, Envelope)
        assert (opened.verified, opened.payload) == (True, written)


def _vectors() -> dict[str, dict[str, object]]:
    """Give the golden vectors that are documents, by their names."""
    paths = sorted(path for path in (VECTORS / "valid").glob("*.json") if path.stem not in {"topics", "token"})
    return {path.stem: json.loads(path.read_text()) for path in paths}


def _known(vector: dict[str, object]) -> bytes:
    return str(vector["raw"]).encode()


_RAW: Final = [_known(vector) for vector in _vectors().values()]
_NAMES: Final = ("portal", *json.loads((VECTORS / "keys.json").read_text()))
KEYS: Final = {key(name).thumbprint: secret(name) for name in _NAMES}
"""The keys of the golden vectors, by their thumbprints."""


@st.composite
def signed(draw: DrawFn, seeds: Sequence[bytes], keys: Mapping[str, Ed25519PrivateKey] = KEYS) -> bytes:
    """Take a document apart, spoil its header, its payload or its spelling, and sign it again: with its own key, where
    `keys` has it by its thumbprint, with a stranger's, or not at all."""
    raw = draw(st.sampled_from(seeds))
    if draw(st.integers(0, 4)) == 0:
        return draw(grammar.bitten(raw))
    head, body, signature = (unb64(part) for part in raw.split(b"."))
    signer = keys.get(str(json.loads(head)["kid"]), secret("stranger"))
    match draw(st.sampled_from(["header", "payload", "payload", "both", "spelling", "other", "stranger"])):
        case "header":
            head = draw(grammar.documents([json.loads(head)]))
        case "payload":
            body = draw(grammar.documents([json.loads(body)]))
        case "both":
            head, body = draw(grammar.documents([json.loads(head)])), draw(grammar.documents([json.loads(body)]))
        case "other":
            body = unb64(draw(st.sampled_from(seeds)).split(b".")[1])
        case "stranger":
            named = {**json.loads(head), "kid": key("stranger").thumbprint, "jwk": key("stranger").public.jwk}
            head, signer = json.dumps(named).encode(), secret("stranger")
        case _:
            pass
    said_ = draw(grammar.base64url(head)) + b"." + draw(grammar.base64url(body))
    if draw(st.integers(0, 3)):
        signature = signer.sign(said_)
    return draw(grammar.bitten(said_ + b"." + draw(grammar.base64url(signature)), often=12))


@st.composite
def payloads(draw: DrawFn) -> bytes:
    """Spoil the payload of a golden vector; or read it as another document."""
    vector = draw(st.sampled_from(list(_vectors().values())))
    typ = _typ(vector) if draw(st.integers(0, 9)) else draw(st.sampled_from(list(Typ)))
    return f"{typ}\n".encode() + draw(grammar.documents([vector["payload"]]))


# JSON and topics.


def json_text(raw: bytes) -> None:
    """Read JSON as the standard library does, or refuse it; what is taken has one meaning."""
    try:
        value = strict_json.loads(raw)
    except strict_json.Invalid:
        return
    assert json.dumps(value, allow_nan=False) == json.dumps(json.loads(raw, object_pairs_hook=_each_once))
    assert _levels(value) <= strict_json.DEPTH_LIMIT
    assert strict_json.loads(json.dumps(value, ensure_ascii=False).encode()) == value


def _each_once(members: list[tuple[str, object]]) -> dict[str, object]:
    assert len(dict(members)) == len(members), "a name stands twice"
    return dict(members)


def _levels(value: object) -> int:
    """Give how deep a value goes, and hold its numbers to what every reader keeps exact."""
    assert not isinstance(value, int | float) or abs(value) < grammar.LIMIT
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(_levels, inner), default=0)


def topic(raw: bytes) -> None:
    """A topic has one spelling."""
    written = raw.decode(errors="surrogateescape")
    read = wire.parse_topic(written)
    assert read is None or str(read) == written


def topics() -> SearchStrategy[bytes]:
    level = st.sampled_from(
        [
            *wire.Leaf,
            "shadows",
            "propagator",
            "1",
            "es-1",
            "as-1_attach",
            "as-1_probe",
            "_attach",
            "-a",
            "a-",
            "A",
            "",
            "+",
        ]
    ) | st.text("ae-_1\u0435\u0661/+#\n\0", max_size=64)
    return st.lists(level, max_size=6).map(lambda levels: "/".join(["propagator/1", *levels]).encode(errors="replace"))


# Tokens, codes and statements: what people carry.


def token_text(raw: bytes) -> None:
    """A token is read or refused with something to try; what is read is the same once written again."""
    try:
        read = token.read(raw.decode(errors="surrogateescape"))
    except RefusedError as error:
        _hinted(error)
        return
    assert token.read(token.write(read)) == read
    assert len(token.derive(read.secret).mac_key) == 32


_TOKEN: Final = str(json.loads((VECTORS / "valid" / "token.json").read_text())["text"])


@st.composite
def tokens(draw: DrawFn) -> bytes:
    """Spoil a token as a person does; or spoil its members, and put its checksum right."""
    if draw(st.booleans()):
        return draw(grammar.changed_signs([_TOKEN], "aZ0-_. \n=+/", _mended))
    members = draw(grammar.documents([json.loads((VECTORS / "valid" / "token.json").read_text())["reads"]]))
    squeezed = draw(grammar.bitten(zlib.compress(members, draw(st.sampled_from([0, 9]))), often=4))
    return _mended(f"{token.PREFIX}.{draw(grammar.base64url(squeezed)).decode()}.").encode()


def _mended(text: str) -> str:
    parts = text.split(".")
    return ".".join((*parts[:2], token._check(parts[1]))) if len(parts) == 3 else text


def code_text(raw: bytes) -> None:
    """A code is read or refused with something to try; what is read is the same once written again."""
    try:
        document = code.read(raw.decode(errors="surrogateescape"))
    except RefusedError as error:
        _hinted(error)
        return
    assert code.is_whole(raw.decode(errors="surrogateescape"))
    assert code.read(code.write(document)) == document
    offered(document)


@st.composite
def codes(draw: DrawFn) -> bytes:
    """Spoil a code as a person does; or write one with good checks over bytes that are none."""
    if draw(st.booleans()):
        return draw(grammar.changed_signs(_CODES, code.SIGNS + " ", _checked))
    inner = draw(st.binary(max_size=80))
    body = (_deflated(inner) if draw(st.booleans()) else inner) + draw(st.binary(min_size=64, max_size=64))
    packed = body + code._digest(body)
    first = f"{code._FORM}{code._base32(len(packed), 4)}"
    return _checked("".join(data + "0" for data in (first, *code._base32_groups(packed)))).encode()


def _deflated(raw: bytes) -> bytes:
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return squeeze.compress(raw) + squeeze.flush()


def _checked(text: str) -> str:
    """Put every check sign of a code right."""
    signs = [sign for sign in text.upper() if sign in code.SIGNS]
    groups = ["".join(signs[at : at + code.GROUP]) for at in range(0, len(signs), code.GROUP)]
    return " ".join(
        group[:-1] + code._check_sign(group[:-1], number) if len(group) == code.GROUP else group
        for number, group in enumerate(groups)
    )


_STATEMENTS: Final = [
    statement.seal(said(), key("portal")),
    statement.seal(said(registered("Ölmühle"), expires_at=None, replaces="SYS-0"), key("portal")),
]
_CODES: Final = [code.write(raw) for raw in _STATEMENTS]
_HERE: Final = Standing("SYS-1", dt.datetime(2026, 11, 24, 12, 0, tzinfo=dt.UTC), {key("portal").thumbprint})


def offered(raw: bytes) -> None:
    """A statement counts only under the trusted key, by a signature that others find good as well."""
    read = statement.read(raw, _HERE)
    if not isinstance(read, Proven):
        assert read.text
        assert read.hint
        return
    assert read.key == key("portal").thumbprint
    members = json.loads(holds(raw, read.key))
    assert members["system_id"] == "SYS-1"
    written = record.write(read.statement)
    assert record.read(statement.Statement, written) == read.statement


# Files that people write.


def configuration(raw: bytes) -> None:
    """A configuration is settings, or wrong in named places."""
    path = Path("/etc/propagator/propagator.toml")
    try:
        found = Found(path, config.parse_toml(raw, path), exists=True)
        config.state_dir(found), config.server(found), config.role(found.table)  # lenient: they never say no
        loaded = settings.load(found)
    except InputError as error:
        _told(error, places=isinstance(_toml(raw), dict))
        return
    assert loaded.role in {"standalone", "lead", "shadow", "relay"}
    assert loaded.state_dir.is_absolute()


def uplink(raw: bytes) -> None:
    """The same for the file that `attach` writes."""
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(raw)
        try:
            loaded = settings.load_uplink(Path(file.name))
        except InputError as error:
            _told(error, places=isinstance(_toml(raw), dict))
            return
        assert loaded is not None
        Path(file.name).write_text(settings.render_uplink(loaded), encoding="utf-8")
        assert settings.load_uplink(Path(file.name)) == loaded


def registration_toml(raw: bytes) -> None:
    """A registration is one, or wrong in named places."""
    _registration(raw, "toml")


def registration_json(raw: bytes) -> None:
    """The same, written as JSON."""
    _registration(raw, "json")


def _registration(raw: bytes, kind: str) -> None:
    try:
        written = raw.decode()
    except UnicodeDecodeError:
        return  # who opens the file says so
    try:
        read = registration.read_file(written, kind="toml" if kind == "toml" else "json")
    except InputError as error:
        _told(error, places=False)
        return
    assert registration.from_document(read.document) == read
    assert registration.read_file(read.canonical, kind="json") == read
    assert json.loads(read.canonical) == read.document


def _hinted(error: PropagatorError) -> None:
    assert str(error)
    assert error.hint


def _told(error: InputError, *, places: bool) -> None:
    """Hold an error to naming what would do, and the place of each problem."""
    _hinted(error)
    assert all(problem.path and problem.text and "\n" not in problem.text for problem in error.problems), error.problems
    assert error.problems or not places, error


def _toml(raw: bytes) -> object:
    try:
        return tomllib.loads(raw.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None


_UPLINK: Final = f"""\
lead = "es-1"
addresses = ["es-1.example:8883", "[2001:db8::1]:8883"]
ca_file = "lead-ca.pem"
lead_key = "{key("es-1 identity").thumbprint}"
credential_file = "keys/credentials.json"
"""
_WRITTEN: Final = [
    path.read_text() for path in sorted(CONFIG.glob("*.toml")) if path.stem not in {"registration", "portal"}
]
_FULL: Final = json.loads((VECTORS / "valid" / "record.json").read_text())["payload"]["registration"]
_PLAIN: Final = {name: part for name, part in _FULL.items() if name in registration.Fields.model_fields}
_REGISTRATIONS: Final = [DOCUMENT, _PLAIN, {"registration": DOCUMENT}]


def seeds() -> dict[str, dict[str, bytes]]:
    """Give the inputs that every target begins with, by their names in the corpus."""
    documents = _vectors()
    topics = json.loads((VECTORS / "valid" / "topics.json").read_text())
    return {
        "envelope": {**{name: _known(vector) for name, vector in documents.items()}, **_refused()},
        "payload": {name: f"{_typ(it)}\n{json.dumps(it['payload'])}".encode() for name, it in documents.items()},
        "json": {
            "registration": json.dumps(_FULL).encode(),
            "largest": f"[{grammar.LIMIT - 1},{1 - grammar.LIMIT}]".encode(),
            "too-large": f"[{grammar.LIMIT}]".encode(),
            "half-a-pair": b'"\\ud800"',
            "twice": b'[{"a":1,"a":1}]',
        },
        "topic": {f"{number:02}": str(written).encode() for number, written in enumerate(topics)},
        "token": {"token": _TOKEN.encode()},
        "code": {str(number): written.encode() for number, written in enumerate(_CODES)},
        "statement": {str(number): written for number, written in enumerate(_STATEMENTS)},
        "configuration": {str(number): written.encode() for number, written in enumerate(_WRITTEN)},
        "uplink": {"uplink": _UPLINK.encode()},
        "registration-toml": {"example": (CONFIG / "registration.toml").read_bytes()},
        "registration-json": {str(number): json.dumps(it).encode() for number, it in enumerate(_REGISTRATIONS)},
    }


def _refused() -> dict[str, bytes]:
    """Give the golden vectors that a reader refuses, but for the one that is too long to print."""
    vectors = {path.stem: json.loads(path.read_text()) for path in sorted((VECTORS / "invalid").glob("*.json"))}
    raws = {stem: vector["raw"] for stem, vector in vectors.items() if isinstance(vector, dict)}
    return {f"invalid-{stem}": raw.encode() for stem, raw in raws.items() if isinstance(raw, str)}


def _typ(vector: dict[str, object]) -> str:
    header = vector["header"]
    assert isinstance(header, dict)
    return str(header["typ"])


TARGETS: Final = (
    Target("envelope", signed(_RAW), envelope, 250),
    Target("payload", payloads(), payload, 150),
    Target("json", grammar.documents([_FULL, [1, "\u00e9", {"a": None}], 0]) | st.binary(max_size=40), json_text, 150),
    Target("topic", topics(), topic, 150),
    Target("token", tokens(), token_text, 150),
    Target("code", codes(), code_text, 250),
    Target("statement", signed(_STATEMENTS), offered, 120),
    Target("configuration", grammar.toml(_WRITTEN), configuration, 200),
    Target("uplink", grammar.toml([_UPLINK]), uplink, 100),
    Target(
        "registration-toml",
        grammar.toml([(CONFIG / "registration.toml").read_text()]),
        registration_toml,
        120,
    ),
    Target("registration-json", grammar.documents(_REGISTRATIONS), registration_json, 120),
)
