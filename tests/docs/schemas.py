"""JSON Schemas (2020-12) of what the wire carries, made of the pydantic models: `made` gives every file by its name.

Pydantic cannot see into a validator that is a function, so `_SEEN` says what each one of ours means. A function that
is not listed there is an error: a rule that is new in the code must get its words here. What no schema can say (two
members that must agree, a number that must be written without a fraction) is docs/PROTOCOL.md's.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from pydantic.json_schema import GenerateJsonSchema

from propagator.core import record, registration, statement, token, wire
from propagator.core.moment import WRITTEN
from propagator.core.record import ID_PATTERN, Record
from propagator.core.signing import ALGORITHM, SIZE_LIMIT
from propagator.core.state import Reason, State
from propagator.core.wire import Typ

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic_core import core_schema

    from propagator.core.record import Document

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
JWS_PATTERN: Final = r"^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*$"
MEDIA_TYPE: Final = "application/jose"

BY_A_SHADOW: Final = (Typ.REPORT, Typ.PRESENCE, Typ.ANSWER, Typ.ATTACH_ASK, Typ.ATTACH_BIND)

Schema = dict[str, Any]

_NUMBER: Final = r"[1-9][0-9]{0,15}"
_PLAIN: Final = r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]*$"


def _open(words: type[State | Reason], what: str) -> Schema:
    said = f"A word for {what}. A word that is not among the examples is a newer program's."
    return {
        "type": "string",
        "pattern": f"^{wire._WORD.pattern}$",
        "examples": list(map(str, words)),
        "description": said,
    }


_SEEN: Final[dict[Callable[..., object], Schema]] = {
    record._version: {
        "type": "string",
        "pattern": rf"^{_NUMBER}\.{_NUMBER}\.[0-9a-z]{{4,16}}\.{_NUMBER}$",
        "description": "A version: seq.generation.epoch.revision. Each number is 1 to 2^53 − 1.",
    },
    wire._session: {
        "type": "string",
        "pattern": rf"^{_NUMBER}-[0-9a-z]{{4,16}}$",
        "description": "A session: its number, 1 to 2^53 − 1, and a random suffix.",
    },
    wire._state: _open(State, "a state"),
    wire._reason: _open(Reason, "a reason"),
    record._registration: {},  # `_named` says it
    record._moment: {
        "format": "date-time",
        "pattern": f"^{WRITTEN.pattern}$".replace(r"\d", "[0-9]"),
        "description": "RFC 3339, UTC, milliseconds; for display only.",
    },
    registration.plain_text: {"pattern": _PLAIN},
    registration._filled: {"minLength": 1},
    registration._mail: {"format": "email"},
    registration._date: {"format": "date", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"},
    registration._distinct: {"uniqueItems": True},
    registration._country: {},
    Record._agrees_with_itself: {},  # type: ignore[dict-item]  # what pydantic makes of it is called as it is
}
"""What a validator that is a function asks for. {}: nothing that a schema can say, or that holds on the wire."""


class _Generator(GenerateJsonSchema):
    """Pydantic's own, with the meaning of our functions, and without a title for every member."""

    def function_after_schema(self, schema: core_schema.AfterValidatorFunctionSchema) -> Schema:
        return {**super().function_after_schema(schema), **_meaning(schema["function"]["function"])}

    def function_plain_schema(self, schema: core_schema.PlainValidatorFunctionSchema) -> Schema:
        return dict(_meaning(schema["function"]["function"]))

    def field_title_should_be_set(self, schema: object) -> bool:  # noqa: ARG002  pydantic's signature
        return False


def _meaning(function: Callable[..., object]) -> Schema:
    if getattr(function, "keywords", None):
        return {}  # pydantic's own bound, like max_length, which it has written already
    if function not in _SEEN:
        raise AssertionError(f"{function} is a rule of the wire that no schema says: give it an entry in _SEEN")
    return _SEEN[function]


def made() -> dict[str, str]:
    """Give every schema as the text of its file, by name."""
    schemas = {
        **{str(typ): schema_of(typ) for typ in Typ},
        "registration": _payload(registration.Fields),
        "token": _payload(token.Token),
        "statement": _payload(statement.Statement),
        "header-lead": _header(
            tuple(typ for typ in Typ if typ in wire.BY_A_LEAD), "The JOSE header of what a lead signs.", delegated=True
        ),
        "header-shadow": _header(BY_A_SHADOW, "The JOSE header of what a shadow, or a device that attaches, signs."),
        "header-portal": _header((statement.TYP,), "The JOSE header of what a Registration Portal signs.", realm=True),
        "header-delegation": _header((Typ.DELEGATION,), "The JOSE header of a delegation: `jwk` is the identity key."),
    }
    return {
        f"{name}.json": json.dumps({"$schema": DIALECT, **schema}, indent=2, ensure_ascii=False) + "\n"
        for name, schema in schemas.items()
    }


def schema_of(typ: Typ) -> Schema:
    """Give the schema of a document's payload."""
    return _payload(wire.DOCUMENTS[typ])


def _payload(kind: type[Document | registration.Fields]) -> Schema:
    schema: Schema = _plain(kind.model_json_schema(schema_generator=_Generator))
    members = {name: _named(name, member) for name, member in schema.pop("properties").items()}
    title = _TITLES.get(kind, _SEAM.sub(" ", kind.__name__).capitalize())
    head = {"title": title, "description": schema.pop("description"), "type": "object", "properties": members}
    return {**head, **{key: value for key, value in schema.items() if key not in head}}


def _named(name: str, member: Schema) -> Schema:
    """Say of a member that carries another document which one that is; only its name tells, and null goes with it."""
    if name not in {"registration", "record", "membership"}:
        return member
    carried = {"$ref": "registration.json"} if name == "registration" else jws(name, f"A signed {name}.")
    return {"anyOf": [carried, {"type": "null"}]}


_TITLES: Final[dict[type, str]] = {
    registration.Fields: "Registration",
    token.Token: "The members inside an invitation token",
    statement.Statement: "What a Registration Portal says of one System ID",
}
_SEAM: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")
_ELSEWHERE: Final = re.compile(r" of DESIGN §\d+| \((?:[FR]\d+(?:, )?)+\)")


def _plain(value: Any) -> Any:
    """Leave out of descriptions what points to papers that a stranger does not have."""
    if isinstance(value, dict):
        said = {key: _plain(item) for key, item in value.items()}
        if said.get("type") == "array" and "maxLength" in said:  # pydantic's name for it behind a function
            said["maxItems"] = said.pop("maxLength")
        if isinstance(said.get("description"), str):
            said["description"] = _ELSEWHERE.sub("", " ".join(said["description"].split()))
        return said
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _header(types: tuple[str, ...], description: str, *, delegated: bool = False, realm: bool = False) -> Schema:
    thumbprint = {"type": "string", "pattern": r"^[A-Za-z0-9_-]{43}$"}
    identifier = {"type": "string", "pattern": ID_PATTERN}
    members: dict[str, Schema] = {
        "alg": {"const": ALGORITHM},
        "kid": {**thumbprint, "description": "The RFC 7638 thumbprint of `jwk`."},
        "jwk": {
            "description": "The public key that signed: to name a stranger, never to trust one.",
            "type": "object",
            "properties": {"crv": {"const": "Ed25519"}, "kty": {"const": "OKP"}, "x": thumbprint},
            "required": ["crv", "kty", "x"],
        },
        "typ": {"enum": [str(typ) for typ in types], "description": "Which document this is."},
        "lead": {**identifier, "description": "The lead in whose realm it is said."},
        "sender": {**identifier, "description": "Who says it: the lead itself, or the shadow's id."},
    }
    if realm:
        members["lead"] = {"const": statement.REALM, "description": "No lead's: a portal's."}
        members["sender"] = {**identifier, "description": "The portal's id."}
    if delegated:
        members["delegation"] = jws("delegation", "The identity key's word that `jwk` speaks for this lead.")
    return {
        "title": "JOSE header",
        "description": description,
        "type": "object",
        "properties": members,
        "required": list(members),
        "not": {"anyOf": [{"required": ["crit"]}, {"required": ["b64"]}]},
    }


def header_of(typ: Typ) -> str:
    """Name the header's schema of a document."""
    return "header-lead" if typ in wire.BY_A_LEAD else "header-shadow" if typ in BY_A_SHADOW else "header-delegation"


def jws(typ: str, description: str, folder: str = "") -> Schema:
    """Describe a text that is a JWS: what its header and its payload are (JSON Schema Validation, §8.6)."""
    header = header_of(Typ(typ))
    return {
        "description": description,
        "type": "string",
        "maxLength": SIZE_LIMIT,
        "pattern": JWS_PATTERN,
        "contentMediaType": MEDIA_TYPE,
        "contentSchema": {
            "type": "array",
            "minItems": 2,
            "prefixItems": [{"$ref": f"{folder}{header}.json"}, {"$ref": f"{folder}{typ}.json"}],
        },
    }
