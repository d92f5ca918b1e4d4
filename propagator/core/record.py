"""The record: what a lead signs and a shadow takes over (DESIGN §4, topic `registration`)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Final, TypeVar, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    PlainValidator,
    StrictInt,
    StrictStr,
    ValidationError,
    model_validator,
)

from propagator.core import moment, registration, strict_json, version
from propagator.core.errors import InputError, Unreadable
from propagator.core.registration import Registration
from propagator.core.version import LIMIT, Life, Version

if TYPE_CHECKING:
    from propagator.core.difference import JsonObject

PATH_LIMIT: Final = 8
"""Servers from the top down to the one that signed: three tiers are usual, eight are plenty."""

ID_PATTERN: Final = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
"""A server's id (DESIGN §4). It comes from configuration, so it survives a lost database."""

_TOLD: Final = 8
"""Problems of a bad document that are told: a stranger's bytes could hold thousands."""


def _version(value: object) -> Version:
    parsed = value if isinstance(value, Version) else version.parse(value) if isinstance(value, str) else None
    if parsed is None:
        raise ValueError("is no version; written like 1.4.k7f3.41")
    return parsed


def _registration(value: object) -> Registration | None:
    if value is None or isinstance(value, Registration):
        return value
    if not isinstance(value, dict):
        raise ValueError("is no JSON object")  # noqa: TRY004  pydantic takes ValueError
    try:
        return registration.from_document(cast("JsonObject", value))
    except InputError as error:
        raise ValueError("; ".join([str(error), *map(str, error.problems[:_TOLD])])) from error


def _document(value: Registration | None) -> dict[str, JsonValue] | None:
    return None if value is None else value.document


def _moment(text: str) -> str:
    moment.read(text)
    return text


ServerId = Annotated[StrictStr, Field(pattern=ID_PATTERN)]
Thumbprint = Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9_-]{43}$")]
Sha256 = Annotated[StrictStr, Field(pattern=r"^[0-9a-f]{64}$")]
SystemId = Annotated[StrictStr, Field(pattern=r"^[\x21-\x7e]{1,64}$")]
Moment = Annotated[StrictStr, AfterValidator(_moment)]
Number = Annotated[StrictInt, Field(ge=1, le=LIMIT)]
VersionText = Annotated[Version, PlainValidator(_version), PlainSerializer(str)]
RegistrationDocument = Annotated[Registration | None, PlainValidator(_registration), PlainSerializer(_document)]


class Document(BaseModel):
    """The payload of a signed document. Unknown members are a newer program's and are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", arbitrary_types_allowed=True)


T = TypeVar("T", bound=Document)


class Hop(Document):
    """One server that the record came through: its id for people, its identity key's thumbprint for the loop rule."""

    id: ServerId
    identity: Thumbprint


class LifeEntry(Document):
    """One of the last 8 lives of the lead that signed."""

    generation: Number
    epoch: Annotated[StrictStr, Field(pattern=r"^[0-9a-z]{4,16}$")]
    revision: Number


class Record(Document):
    """A lead's record. `path` runs from the top to the lead that signed; `registration` null: it has none."""

    lead: ServerId
    system_id: SystemId
    version: VersionText
    lives: Annotated[tuple[LifeEntry, ...], Field(min_length=1, max_length=version.LIVES_KEPT)]
    hash: Sha256
    path: Annotated[tuple[Hop, ...], Field(min_length=1, max_length=PATH_LIMIT)]
    issued_at: Moment
    registration: RegistrationDocument

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Record:
        if self.hash != registration.hash_of(self.registration):
            raise ValueError("hash is not that of the registration")
        last = self.lives[-1]
        if (last.generation, last.epoch, last.revision) != self.version_in_life:
            raise ValueError("lives do not end with the version")
        if self.path[-1].id != self.lead:
            raise ValueError("path does not end with the lead")
        return self

    @property
    def version_in_life(self) -> tuple[int, str, int]:
        """The version without its seq, as `lives` lists it."""
        return self.version.generation, self.version.epoch, self.version.revision

    @property
    def life_list(self) -> tuple[Life, ...]:
        """The lives as values of `core.version`."""
        return tuple(Life(life.generation, life.epoch, life.revision) for life in self.lives)


def life_entries(lives: tuple[Life, ...]) -> tuple[LifeEntry, ...]:
    """Turn lives of `core.version` into entries of a record."""
    return tuple(LifeEntry(generation=life.generation, epoch=life.epoch, revision=life.revision) for life in lives)


def read(kind: type[T], payload: bytes) -> T | Unreadable:
    """Parse a verified payload. Not JSON, or not this kind of document: Unreadable, with its first problems' paths."""
    try:
        return kind.model_validate(strict_json.loads(payload))
    except strict_json.Invalid as error:
        return Unreadable(f"not JSON: {error}")
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)[:_TOLD]
        return Unreadable("; ".join(f"{'.'.join(map(str, d['loc'])) or 'document'}: {d['msg']}" for d in details))


def write(document: Document) -> bytes:
    """Write a payload: compact UTF-8 JSON."""
    return json.dumps(document.model_dump(mode="json"), ensure_ascii=False, separators=(",", ":")).encode()
