"""A registration: who and where the system is (DOMAIN.md, Fields).

Two doors lead in. `read_file` takes what a person wrote (TOML or JSON): strict, every problem at once with its path.
`from_document` takes what another server signed: unknown members are kept and passed on, because a newer program may
have put them there. Both end in a `Registration`, whose canonical text (RFC 8785) carries all members and is what is
hashed, stored, signed and passed on.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
import tomllib
import unicodedata
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated, Final, Literal, cast, get_args

import rfc8785
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationError,
    ValidationInfo,
)

from propagator.core import strict_json
from propagator.core.errors import InputError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic_core import ErrorDetails

    from propagator.core.difference import JsonObject

FILE_LIMIT: Final = 28 * 1024
"""Bytes of a registration, as a file and in canonical form. Its record fits a 64 KiB document once signed, and that
signed record still fits another (a shadow's answer, a lead's hello): each signature makes four bytes of three."""

_LIST_LIMIT: Final = 64


def plain_text(text: str) -> str:
    """Trim and compose (NFC); refuse control and bidirectional override characters, which could rewrite a terminal."""
    if any(unicodedata.category(sign) in {"Cc", "Cs", "Zl", "Zp"} or sign in _OVERRIDES for sign in text):
        raise ValueError("holds a control character; write it on one line of plain text")
    return unicodedata.normalize("NFC", text.strip())


_OVERRIDES: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def _filled(text: str) -> str:
    if not text:
        raise ValueError("is empty; fill it in")
    return text


def _mail(text: str) -> str:
    local, at, domain = text.rpartition("@")
    if not at or not local or not domain or "@" in local or any(sign.isspace() for sign in text):
        raise ValueError("is no e-mail address; write it like facilities@riverside.example")
    return text


def _written_date(value: object) -> object:
    """TOML has dates of its own, JSON has none: both become the text `2026-01-31`."""
    return value.isoformat() if type(value) is dt.date else value


def _date(text: str) -> str:
    if _DATE.fullmatch(text):  # fromisoformat reads 20260131 and 2026-W05-6 as well: one day, one text, one hash
        with suppress(ValueError):
            return dt.date.fromisoformat(text).isoformat()
    raise ValueError("is no date; write it like 2026-01-31")


_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


def _distinct(items: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(items)) != len(items):
        raise ValueError("names the same thing twice")
    return items


_AT_THE_DOOR: Final = {"countries": True}
"""Hold the country to ISO's list at the person's door only: a record signed elsewhere may know a newer list."""


@cache
def _countries() -> frozenset[str]:
    import pycountry  # noqa: PLC0415  249 codes that only the person's door needs

    return frozenset(country.alpha_2 for country in pycountry.countries)


def _country(code: str, info: ValidationInfo) -> str:
    if info.context is _AT_THE_DOOR and code not in _countries():
        hint = "; the United Kingdom is GB" if code == "UK" else ""
        raise ValueError(f"is no country of ISO 3166-1 alpha-2, like GB or DE{hint}")
    return code


_Filled = Annotated[StrictStr, AfterValidator(plain_text), AfterValidator(_filled)]
Text = Annotated[_Filled, Field(max_length=200)]
PostalCode = Annotated[_Filled, Field(max_length=32)]
Country = Annotated[StrictStr, Field(pattern=r"^[A-Z]{2}$"), AfterValidator(_country)]
Mail = Annotated[_Filled, Field(max_length=254), AfterValidator(_mail)]
Date = Annotated[StrictStr, BeforeValidator(_written_date), AfterValidator(_date)]
Texts = Annotated[tuple[Text, ...], AfterValidator(_distinct), Field(max_length=_LIST_LIMIT)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


class Site(_Part):
    """What the place is called and whose it is."""

    type: Literal["single", "multi"]
    name: Text
    company: Text


class Address(_Part):
    """Where the system is installed. `country` is ISO 3166-1 alpha-2."""

    street: Text
    city: Text
    state: Text
    postal_code: PostalCode
    country: Country


class Contact(_Part):
    """Who is written to."""

    email: Mail


class System(_Part):
    """What the system serves, and which systems were on site before it."""

    segments: Texts = ()
    applications: Texts = ()
    transition: Texts = ()


class Integrator(_Part):
    """The system integrator's account: a branch or a partner (R1)."""

    kind: Literal["partner", "branch"]
    company: Text
    email: Mail


class EndUser(_Part):
    """The end-user's account (R1)."""

    company: Text
    email: Mail


class Accounts(_Part):
    """The two account slots of a system (R1)."""

    integrator: Integrator | None = None
    end_user: EndUser | None = None


class Consents(_Part):
    """The end-user's two separate consents (R8)."""

    system_information: StrictBool
    personal_information: StrictBool


class Warranty(_Part):
    """The warranty block, the integrator's alone (R10). `start` is a date, `months` a length."""

    start: Date
    months: Annotated[StrictInt, Field(ge=1, le=600)]
    reference: Text | None = None


class Fields(_Part):
    """The members of a registration that this program knows."""

    site: Site
    address: Address
    contact: Contact
    system: System = System()
    accounts: Accounts | None = None
    consents: Consents | None = None
    warranty: Warranty | None = None


@dataclass(frozen=True, slots=True)
class Registration:
    """One registration. `canonical` is the RFC 8785 text of all its members, unknown ones too."""

    canonical: str

    @property
    def hash(self) -> str:
        """SHA-256 over the canonical form, as 64 hexadecimal digits: one hash from the top to the last device."""
        return hashlib.sha256(self.canonical.encode()).hexdigest()

    @property
    def document(self) -> JsonObject:
        """All members, as JSON values."""
        return cast("JsonObject", json.loads(self.canonical))


NO_REGISTRATION_HASH: Final = hashlib.sha256(b"null").hexdigest()
"""The hash of a record that carries no registration: the same rule, over the JSON value null."""


def field_paths() -> tuple[str, ...]:
    """Name every field of a registration that this program knows, in their order, like `site.name`."""
    return tuple(_paths(Fields, ""))


def _paths(part: type[BaseModel], above: str) -> Iterator[str]:
    for name, field in part.model_fields.items():
        kinds = (field.annotation, *get_args(field.annotation))  # `Warranty | None` has a `Warranty` in it
        inside = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        yield from (path for kind in inside for path in _paths(kind, f"{above}{name}."))
        if not inside:
            yield f"{above}{name}"


def hash_of(registration: Registration | None) -> str:
    """Give the hash a record carries for this registration, or for none."""
    return NO_REGISTRATION_HASH if registration is None else registration.hash


def read_file(text: str, *, kind: Literal["toml", "json"]) -> Registration:
    """Read a registration that a person wrote. Raises InputError with every problem and its path.

    JSON may also be what `record --json` printed: then its member `registration` is read.
    """
    _hold_size("The registration", text)
    table = _parse(text, kind)
    if kind == "json" and "site" not in table and isinstance(table.get("registration"), dict):
        table = cast("dict[str, object]", table["registration"])
    try:
        fields = Fields.model_validate(table, extra="forbid", context=_AT_THE_DOOR)
    except ValidationError as error:
        problems = problems_of(error)
        raise InputError(
            f"The registration has {len(problems)} problem{'s' if len(problems) > 1 else ''}.",
            problems,
            hint="correct the fields named above; config/registration.toml shows each",
        ) from error
    canonical = rfc8785.dumps(fields.model_dump(exclude_none=True)).decode()
    _hold_size("The registration", canonical)  # again: composing (NFC) may lengthen a text
    return Registration(canonical)


def from_document(document: JsonObject) -> Registration:
    """Take a registration from a verified document; unknown members are kept. Raises InputError if it is none."""
    try:
        Fields.model_validate(document)
        canonical = rfc8785.dumps(document).decode()
    except ValidationError as error:
        problems = problems_of(error)
        raise InputError("It carries no valid registration.", problems) from error
    except (rfc8785.CanonicalizationError, UnicodeEncodeError) as error:
        raise InputError(f"It has no canonical form: {error}") from error
    _hold_size("Its registration", canonical)
    return Registration(canonical)


def _hold_size(what: str, text: str) -> None:
    if len(text.encode()) > FILE_LIMIT:
        raise InputError(f"{what} is larger than {FILE_LIMIT} bytes.", hint="Shorten its texts and lists.")


def _parse(text: str, kind: Literal["toml", "json"]) -> dict[str, object]:
    try:
        table = tomllib.loads(text) if kind == "toml" else strict_json.loads(text.encode())
    except (tomllib.TOMLDecodeError, strict_json.Invalid) as error:
        raise InputError(f"The registration is not {kind.upper()}: {error}.", hint=_EXAMPLE) from error
    except (ValueError, RecursionError) as error:  # tomllib bounds neither the digits of a number nor the nesting
        raise InputError(
            "The registration is no TOML that can be read: a number too long, or nested too deep.", hint=_EXAMPLE
        ) from error
    if not isinstance(table, dict):
        raise InputError("The registration is no JSON object.", hint=_EXAMPLE)
    return cast("dict[str, object]", table)


_EXAMPLE: Final = "correct it there; config/registration.toml shows how it is written"


def problems_of(error: ValidationError) -> tuple[Problem, ...]:
    """Say each validation error in our words: its path, what is wrong, what would do."""
    return tuple(_problem(detail) for detail in error.errors(include_url=False))


def _problem(detail: ErrorDetails) -> Problem:
    parts = (f"[{part}]" if isinstance(part, int) else part or '""' for part in detail["loc"])
    path = ".".join(parts).replace(".[", "[")
    context = detail.get("ctx", {})
    match detail["type"]:
        case "missing":
            text = "is missing; fill it in"
        case "extra_forbidden":
            text = "is no field of a registration; remove it, or correct its name"
        case "literal_error":
            text = f"must be {context['expected']}".replace("'", "")
        case "string_pattern_mismatch":
            text = "must be two capital letters (ISO 3166-1 alpha-2), like GB"
        case "too_long":
            unit = "characters" if isinstance(detail["input"], str) else "entries"
            text = f"is too long; at most {context['max_length']} {unit}"
        case "value_error":
            text = str(context["error"])
        case "greater_than_equal" | "less_than_equal":
            text = "must be 1 to 600 months"
        case kind:
            text = f"must be {_WANTED.get(kind, 'of another type')}"
    return Problem(path, text)


_WANTED: Final = {
    "string_type": "text in quotation marks",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "tuple_type": "a list of texts",
    "model_type": "a table of fields",
    "model_attributes_type": "a table of fields",
}
