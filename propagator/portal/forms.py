"""The form of a registration: its fields as a page shows them, and the way from a posted form to JSON and back.

`FIELDS` says each field once: the dotted path that core uses, its label, its hint, how it is entered. A page gives
`values_of` a registration and gets what its fields hold; `document` makes JSON of what was posted, and `beside` puts
the problems that core named by path into sentences, each at its field. What is valid is core's to say, never decided
here.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, cast

from pydantic import TypeAdapter, ValidationError

from propagator.core.record import SystemId

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from propagator.core.difference import JsonObject, JsonValue

Kind: TypeAlias = Literal["text", "email", "date", "number", "choice", "select", "lines", "consent", "password"]


@dataclass(frozen=True, slots=True)
class Field:
    """One thing to fill in. `path` is its name in the form and in core's problems."""

    path: str
    label: str
    kind: Kind = "text"
    hint: str = ""
    required: bool = True
    width: Literal["short", "wide"] = "wide"
    autocomplete: str = "off"
    options: tuple[tuple[str, str], ...] = ()
    code: bool = False
    """Set in a monospaced font, and left alone by spelling and capitals."""
    called: str = ""
    """What a problem calls it where the label is a sentence."""

    @property
    def id(self) -> str:
        """What its label, hint and problem point at."""
        return re.sub(r"[^a-z0-9]+", "-", self.path)


@dataclass(frozen=True, slots=True)
class Section:
    """Fields that belong together, under one heading."""

    title: str
    purpose: str
    fields: tuple[Field, ...]

    @property
    def id(self) -> str:
        """What its heading is pointed at by."""
        return f"section-{re.sub(r'[^a-z0-9]+', '-', self.title.lower())}"


@cache
def countries() -> tuple[tuple[str, str], ...]:
    """List ISO 3166-1: code and English name, sorted by name."""
    import pycountry  # noqa: PLC0415  249 names that only the form needs

    named = ((country.alpha_2, getattr(country, "common_name", country.name)) for country in pycountry.countries)
    return tuple(sorted(named, key=lambda pair: unicodedata.normalize("NFKD", pair[1])))


def country_name(code: str) -> str:
    """Name a country by its code; a code that the list does not know stays as it is."""
    return dict(countries()).get(code, code)


SYSTEM_ID: Final = Field(
    "system_id",
    "System ID",
    hint="`propagator status` shows it at the server. Capital and small letters differ: enter it exactly as shown.",
    code=True,
)


def system_id_problem(system_id: str) -> str:
    """Say what is wrong with the form of a System ID; "" where nothing is. Whether it is free, a service says."""
    if not system_id:
        return "is missing; `propagator status` shows it at the server"
    try:
        _SYSTEM_ID.validate_python(system_id)
    except ValidationError:
        return "must be 1 to 64 letters, digits and signs without spaces, exactly as the server shows it"
    return ""


_SYSTEM_ID: Final = TypeAdapter[str](SystemId)

INSTALLATION: Final = (
    Section(
        "Site",
        "What the place is called, and whose it is.",
        (
            Field(
                "site.type",
                "Site type",
                "choice",
                options=(("single", "Single site"), ("multi", "Multi-site: one system serves several sites")),
            ),
            Field("site.name", "Site or building name"),
            Field(
                "site.company", "Site company name", hint="The company whose site it is.", autocomplete="organization"
            ),
        ),
    ),
    Section(
        "Installation address",
        "Where the system is installed.",
        (
            Field("address.street", "Street address", autocomplete="street-address"),
            Field("address.postal_code", "Zip or postal code", width="short", autocomplete="postal-code"),
            Field("address.city", "City", autocomplete="address-level2"),
            Field("address.state", "State, province or county", autocomplete="address-level1"),
            Field("address.country", "Country", "select", autocomplete="country"),
        ),
    ),
    Section(
        "Contact",
        "Who is written to about this system.",
        (
            Field(
                "contact.email",
                "E-mail address",
                "email",
                hint="Each change of the registration is reported to this address.",
                autocomplete="email",
            ),
        ),
    ),
    Section(
        "System",
        "What the system serves. Leave out what you do not know.",
        (
            Field(
                "system.segments",
                "Segments",
                "lines",
                hint="What the building is used for, one a line. For example: offices, healthcare, hotel, retail.",
                required=False,
            ),
            Field(
                "system.applications",
                "Applications",
                "lines",
                hint="What the system does there, one a line. For example: hvac, lighting, power, metering, access.",
                required=False,
            ),
            Field(
                "system.transition",
                "System transition",
                "lines",
                hint="Systems that were on site before this one, one a line.",
                required=False,
            ),
        ),
    ),
)


def consents(*, in_person: bool) -> Section:
    """Ask for the two consents (R8): of the end-user in person, or of an integrator who reports the end-user's."""
    says = "I agree" if in_person else "The end-user has agreed"
    purpose = "Two separate consents of the end-user. A registration is confirmed with both." + (
        "" if in_person else " You confirm that the end-user has given them; your name and the time are recorded."
    )
    return Section(
        "Consents",
        purpose,
        (
            Field(
                "consents.system_information",
                f"{says} that information about the system is kept",
                "consent",
                called="The consent to system information",
                hint="Site, address, segments, applications and warranty, so that the system can be looked after.",
            ),
            Field(
                "consents.personal_information",
                f"{says} that personal information is kept",
                "consent",
                called="The consent to personal information",
                hint="Names and e-mail addresses of the people responsible, so that they can be written to.",
            ),
        ),
    )


WARRANTY: Final = Section(
    "Warranty",
    "When the warranty of this installation begins, and how long it lasts. Leave all three empty if there is none.",
    (
        Field("warranty.start", "First day", "date", required=False, width="short"),
        Field("warranty.months", "Length in months", "number", hint="1 to 600.", required=False, width="short"),
        Field("warranty.reference", "Contract or order", required=False),
    ),
)
"""Its first two fields belong together: one without the other is a problem that core names."""


def fields_of(sections: Iterable[Section]) -> tuple[Field, ...]:
    """List the fields of these sections, in their order."""
    return tuple(field for section in sections for field in section.fields)


def typed(form: Mapping[str, object], fields: Iterable[Field]) -> dict[str, str]:
    """Take from a posted form what these fields held, as it was typed: to be read, or shown again."""
    return {field.path: value if isinstance(value := form.get(field.path, ""), str) else "" for field in fields}


def document(values: Mapping[str, str], fields: Iterable[Field]) -> JsonObject:
    """Make JSON of what was typed. An empty field is left out, so that core says that it is missing.

    >>> document({"site.name": "Riverside"}, [Field("site.name", "Name")])
    {'site': {'name': 'Riverside'}}
    """
    made: JsonObject = {}
    for field in fields:
        value = _value(field, values.get(field.path, ""))
        if value is not None:
            part, _, name = field.path.rpartition(".")
            inside = made.setdefault(part, {}) if part else made
            cast("JsonObject", inside)[name] = value
    return made


def _value(field: Field, text: str) -> JsonValue:
    match field.kind:
        case "lines":
            return [line.strip() for line in text.splitlines() if line.strip()]
        case "consent":
            return text == "yes"
        case "number":
            digits = text.strip()
            return int(digits) if _NUMBER.fullmatch(digits) else digits or None
        case "text" | "email" | "date" | "choice" | "select":
            return text.strip() or None
        case "password":
            return text or None


_NUMBER: Final = re.compile(r"-?[0-9]{1,9}", re.ASCII)


def values_of(registration: JsonObject, fields: Iterable[Field]) -> dict[str, str]:
    """Give what each field shows of a registration: the inverse of `document`."""
    return {field.path: _text(_member(registration, field.path)) for field in fields}


def _member(registration: JsonObject, path: str) -> JsonValue:
    value: JsonValue = registration
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _text(value: JsonValue) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else ""
        case list():
            return "\n".join(_text(entry) for entry in value)
        case _:
            return str(value)


def beside(problems: Mapping[str, str], fields: Iterable[Field]) -> dict[str, str]:
    """Say each problem as a sentence at the path of its field; under "" what belongs to no field of this form.

    A part that is missing as a whole (`address`) is said at each of its required fields, an entry of a list
    (`system.segments[2]`) at the list.
    """
    sentences: defaultdict[str, list[str]] = defaultdict(list)
    known = tuple(fields)
    for path, text in problems.items():
        name, entry = _ENTRY.sub("", path), _ENTRY.search(path)
        at = [field for field in known if field.path == name]
        if not at:
            at = [field for field in known if field.path.startswith(f"{name}.")]
            at = [field for field in at if field.required] or at[:1]
        for field in at:
            called = field.called or field.label
            said = text.replace("fill it in", "choose one") if field.kind in {"choice", "select"} else text
            what = f"Entry {int(entry[1]) + 1} of {called}" if entry else called
            sentences[field.path].append(_sentence(what, said))
        if not at:
            sentences[""].append(_sentence(name, text))
    return {path: " ".join(texts) for path, texts in sentences.items()}


_ENTRY: Final = re.compile(r"\[([0-9]+)\]")
_VERBS: Final = ("is ", "must ", "holds ", "names ", "has ")


def _sentence(what: str, text: str) -> str:
    """Core says `is missing; fill it in` of a path; a problem that is a sentence already stays one."""
    said = f"{what} {text}" if text.startswith(_VERBS) and what else text[:1].upper() + text[1:]
    return said if said.endswith((".", "?", "!")) else f"{said}."
