"""A registration: the person's door (strict, every problem at once) and the wire's door (unknown members survive)."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from typing import TYPE_CHECKING, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propagator.core import registration, signing, version, wire
from propagator.core.errors import InputError
from propagator.core.record import Record, life_entries
from propagator.core.version import LIMIT, Life, Version
from tests.unit.builders import DOCUMENT, ISSUED_AT, Lead, registered

if TYPE_CHECKING:
    from propagator.core.difference import JsonObject
    from propagator.core.registration import Registration

OVERRIDES = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
REQUIRED = """
[site]
type = "single"
name = "Riverside House"
company = "Riverside Estates Ltd"
[address]
street = "1 Quay"
city = "Bristol"
state = "Avon"
postal_code = "BS1 4DJ"
country = "GB"
[contact]
email = "facilities@riverside.example"
"""


def test_the_largest_registration_fits_every_document_that_carries_its_record() -> None:
    """Eight hops and lives, longest ids, largest numbers: the record, a shadow's answer with it, and a lead's hello."""
    content = registered(note="")
    content = registered(note="x" * (registration.FILE_LIMIT - len(content.canonical)))
    assert len(content.canonical) == registration.FILE_LIMIT
    lead = Lead(id="a" * 63, seq=LIMIT)
    record = Record(
        lead=lead.id,
        system_id="S" * 64,
        version=Version(LIMIT, LIMIT, "z" * 16, LIMIT),
        lives=life_entries((Life(LIMIT, "z" * 16, LIMIT),) * version.LIVES_KEPT),
        hash=content.hash,
        path=(lead.hop,) * 8,
        issued_at=ISSUED_AT,
        registration=content,
    )
    raw = lead.seal(wire.Typ.RECORD, record).decode()
    membership = wire.Membership(device=lead.id, key=lead.identity.thumbprint, serial="0" * 32)
    answer = wire.Answer(nonce="n" * 64, record=raw, membership=lead.seal(wire.Typ.MEMBERSHIP, membership).decode())
    hello = wire.AttachHello(nonce="n" * 64, name="\U0001f600" * 500, record=raw)
    for typ, document in ((wire.Typ.ANSWER, answer), (wire.Typ.ATTACH_HELLO, hello)):
        assert len(lead.seal(typ, document)) <= signing.SIZE_LIMIT


def test_read_file_refuses_a_file_that_is_too_large() -> None:
    with pytest.raises(InputError, match=f"larger than {registration.FILE_LIMIT} bytes") as caught:
        registration.read_file(REQUIRED + "#" * registration.FILE_LIMIT, kind="toml")
    assert "Shorten" in caught.value.hint


def test_read_file_refuses_a_file_whose_canonical_form_is_too_large() -> None:
    """One character composed may be two (NFC): a lead would sign what each of its shadows refuses."""
    texts = ", ".join(f'"{number}{chr(0x344) * 90}"' for number in range(62))
    written = f"{REQUIRED}[system]\nsegments = [{texts}]\napplications = [{texts}]\n"
    assert len(written.encode()) < registration.FILE_LIMIT
    with pytest.raises(InputError, match=f"larger than {registration.FILE_LIMIT} bytes"):
        registration.read_file(written, kind="toml")


def test_from_document_refuses_what_is_too_large_in_canonical_form() -> None:
    with pytest.raises(InputError, match="larger than"):
        registration.from_document({**DOCUMENT, "note": "x" * registration.FILE_LIMIT})


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a = " + "[" * 14_000, id="lists"),
        pytest.param("a = " + "{a=" * 9_000, id="tables"),
        pytest.param("a = " + "1" * 5000, id="a number of thousands of digits"),
    ],
)
def test_f41_read_file_refuses_toml_that_drives_its_reader_to_a_limit(text: str) -> None:
    with pytest.raises(InputError, match="a number too long, or nested too deep"):
        registration.read_file(text, kind="toml")


def _problems(extra: str) -> list[str]:
    with pytest.raises(InputError) as caught:
        registration.read_file(REQUIRED + extra, kind="toml")
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    "start",
    [
        pytest.param("20260131", id="without hyphens"),
        pytest.param("2026-W05-6", id="by its week"),
        pytest.param("2026-02-30", id="a day that no month has"),
        pytest.param("2026-1-31", id="a month of one digit"),
        pytest.param("2026-01-31T00:00:00", id="with a time"),
        pytest.param("\u0662026-01-31", id="a digit that is not ASCII"),
        pytest.param("", id="nothing"),
    ],
)
def test_a_date_has_one_writing(start: str) -> None:
    written = f'[warranty]\nstart = "{start}"\nmonths = 12\n'
    assert _problems(written) == ["warranty.start: is no date; write it like 2026-01-31"]


def test_a_text_that_is_too_long_is_counted_in_characters_and_a_list_in_entries() -> None:
    many = ", ".join(f'"{number}"' for number in range(65))
    long = f'[accounts.end_user]\ncompany = "{"x" * 201}"\nemail = "{"m" * 250}@b.example"\n'
    assert _problems(f"[system]\nsegments = [{many}]\n{long}") == [
        "system.segments: is too long; at most 64 entries",
        "accounts.end_user.company: is too long; at most 200 characters",
        "accounts.end_user.email: is too long; at most 254 characters",
    ]


def test_an_e_mail_address_may_be_as_long_as_the_mail_allows() -> None:
    """RFC 5321 leaves 254 characters for an address."""
    longest = f"{'m' * 244}@b.example"
    registered(contact={"email": longest})


# The person's door

FULL = (
    REQUIRED
    + """
[system]
segments = ["offices"]
applications = ["hvac", "lighting"]
transition = []
[accounts.integrator]
kind = "partner"
company = "Controls & Co"
email = "service@controls.example"
[accounts.end_user]
company = "Riverside Estates Ltd"
email = "owner@riverside.example"
[consents]
system_information = true
personal_information = false
[warranty]
start = 2026-01-31
months = 24
reference = "W-1"
"""
)
FULL_DOCUMENT: JsonObject = {
    **DOCUMENT,
    "system": {"segments": ["offices"], "applications": ["hvac", "lighting"], "transition": []},
    "accounts": {
        "integrator": {"kind": "partner", "company": "Controls & Co", "email": "service@controls.example"},
        "end_user": {"company": "Riverside Estates Ltd", "email": "owner@riverside.example"},
    },
    "consents": {"system_information": True, "personal_information": False},
    "warranty": {"start": "2026-01-31", "months": 24, "reference": "W-1"},
}


def _toml(text: str) -> Registration:
    return registration.read_file(text, kind="toml")


def _json(document: object) -> Registration:
    return registration.read_file(json.dumps(document), kind="json")


def test_a_file_with_every_field_is_read() -> None:
    assert _toml(FULL).document == FULL_DOCUMENT


def test_what_is_not_written_stays_out_but_for_the_empty_lists_of_the_system() -> None:
    """The hash must not depend on whether a person wrote an empty list or none."""
    empty: JsonObject = {"segments": [], "applications": [], "transition": []}
    assert _toml(REQUIRED).document == {**DOCUMENT, "system": empty}
    assert _toml(REQUIRED) == _toml(f"{REQUIRED}[system]\n") == _json({**DOCUMENT, "system": empty, "warranty": None})


def test_toml_and_json_of_one_registration_give_the_same_bytes() -> None:
    assert _toml(FULL).canonical == _json(FULL_DOCUMENT).canonical
    assert _toml(FULL).hash == registration.from_document(FULL_DOCUMENT).hash


PLAIN = st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters=OVERRIDES)
TEXTS = st.text(PLAIN, min_size=1, max_size=60)  # composed (NFC), a character is three at most
FILLED = TEXTS.filter(str.strip)
MAILS = st.builds(lambda local, domain: f"{local}@{domain}", *[st.text("abc.ü-", min_size=1, max_size=30)] * 2)
DATES = st.dates().map(dt.date.isoformat)
ACCOUNT = {"company": FILLED, "email": MAILS}
TABLES = st.fixed_dictionaries(
    {
        "site": st.fixed_dictionaries(
            {"type": st.sampled_from(["single", "multi"]), "name": FILLED, "company": FILLED}
        ),
        "address": st.fixed_dictionaries(
            {
                "street": FILLED,
                "city": FILLED,
                "state": FILLED,
                "postal_code": st.text(PLAIN, min_size=1, max_size=10).filter(str.strip),
                "country": st.sampled_from(["GB", "DE", "CH", "US"]),
            }
        ),
        "contact": st.fixed_dictionaries({"email": MAILS}),
    },
    optional={
        "system": st.fixed_dictionaries({}, optional={"segments": st.just(["a", "b"]), "applications": st.just([])}),
        "accounts": st.fixed_dictionaries(
            {},
            optional={
                "integrator": st.fixed_dictionaries({"kind": st.sampled_from(["partner", "branch"]), **ACCOUNT}),
                "end_user": st.fixed_dictionaries(ACCOUNT),
            },
        ),
        "consents": st.fixed_dictionaries({"system_information": st.booleans(), "personal_information": st.booleans()}),
        "warranty": st.fixed_dictionaries(
            {"start": DATES, "months": st.integers(1, 600)}, optional={"reference": FILLED}
        ),
    },
)


def _as_toml(tables: dict[str, dict[str, object]]) -> str:
    """Write tables of one or two levels as TOML: its strings and lists are JSON's, but for U+007F."""
    lines = []
    for name, table in tables.items():
        plain = {key: value for key, value in table.items() if not isinstance(value, dict)}
        below = {f"{name}.{key}": value for key, value in table.items() if isinstance(value, dict)}
        for path, members in {name: plain, **below}.items():
            lines.append(f"[{path}]")
            lines += [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in members.items()]
    return "\n".join(lines)


@given(TABLES)
def test_toml_and_json_of_any_registration_give_the_same_bytes(tables: dict[str, dict[str, object]]) -> None:
    read = _json(tables)
    assert _toml(_as_toml(tables)) == read
    assert registration.from_document(read.document) == read


def test_json_may_be_what_record_prints() -> None:
    assert _json({"origin": "lead", "registration": FULL_DOCUMENT}) == _toml(FULL)


def test_a_file_that_has_a_site_is_read_as_it_stands() -> None:
    with pytest.raises(InputError) as caught:
        _json({**DOCUMENT, "registration": FULL_DOCUMENT})
    assert [problem.path for problem in caught.value.problems] == ["registration"]


def test_every_problem_is_told_at_once_with_its_path() -> None:
    with pytest.raises(InputError, match=r"The registration has 16 problems\.") as caught:
        _toml("""
newer = 1
[site]
type = "double"
nmae = "Riverside House"
company = ""
[address]
street = 7
city = "Bris\\u0007tol"
state = "Avon"
postal_code = "123456789 123456789 123456789 123"
country = "UK"
[contact]
email = "nobody"
[system]
segments = "offices"
applications = ["hvac", "hvac"]
transition = ["a", 7]
[consents]
system_information = "yes"
personal_information = true
[warranty]
start = "31.1.2026"
months = 601
""")
    assert caught.value.exit_code == 2
    assert "config/registration.toml" in caught.value.hint
    assert {str(problem) for problem in caught.value.problems} == {
        "newer: is no field of a registration; remove it, or correct its name",
        "site.type: must be single or multi",
        "site.nmae: is no field of a registration; remove it, or correct its name",
        "site.name: is missing; fill it in",
        "site.company: is empty; fill it in",
        "address.street: must be text in quotation marks",
        "address.city: holds a control character; write it on one line of plain text",
        "address.postal_code: is too long; at most 32 characters",
        "address.country: is no country of ISO 3166-1 alpha-2, like GB or DE; the United Kingdom is GB",
        "contact.email: is no e-mail address; write it like facilities@riverside.example",
        "system.segments: must be a list of texts",
        "system.applications: names the same thing twice",
        "system.transition[1]: must be text in quotation marks",
        "consents.system_information: must be true or false",
        "warranty.start: is no date; write it like 2026-01-31",
        "warranty.months: must be 1 to 600 months",
    }


@pytest.mark.parametrize(
    ("extra", "problem"),
    [
        pytest.param(
            "[warranty]\nstart = 2026-01-31\nmonths = 0", "warranty.months: must be 1 to 600 months", id="months"
        ),
        pytest.param(
            "[warranty]\nstart = 2026-01-31\nmonths = 12.0", "warranty.months: must be a whole number", id="a float"
        ),
        pytest.param(
            "[warranty]\nstart = 2026-01-31\nmonths = true",
            "warranty.months: must be a whole number",
            id="true for a number",
        ),
        pytest.param(
            "[warranty]\nstart = 2026-01-31T00:00:00\nmonths = 1",
            "warranty.start: must be text in quotation marks",
            id="a date with a time",
        ),
        pytest.param(
            "[accounts.end_user]\ncompany='x'", "accounts.end_user.email: is missing; fill it in", id="no e-mail"
        ),
        pytest.param(
            "[consents]\nsystem_information = true", "consents.personal_information: is missing; fill it in", id="R8"
        ),
        pytest.param(
            "[accounts]\nend_user = 'x'", "accounts.end_user: must be a table of fields", id="a text for a table"
        ),
        pytest.param(
            "[[accounts.end_user]]\ncompany = 'x'",
            "accounts.end_user: must be a table of fields",
            id="two end-users (R1)",
        ),
        pytest.param(
            "[accounts.other]\ncompany = 'x'",
            "accounts.other: is no field of a registration; remove it, or correct its name",
            id="a third account (R1)",
        ),
        pytest.param(
            "[accounts.integrator]\nkind = 'boss'\ncompany = 'x'\nemail = 'a@b'",
            "accounts.integrator.kind: must be partner or branch",
            id="an integrator of another kind",
        ),
    ],
)
def test_read_file_names(extra: str, problem: str) -> None:
    assert _problems(extra) == [problem]


def _country(code: str) -> list[str]:
    with pytest.raises(InputError, match="has 1 problem\\.") as caught:
        _toml(REQUIRED.replace('"GB"', f'"{code}"'))
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize("code", ["", "G", "gb", "GBR", "England", "G1", "GB\\n", "\uff27\uff22", "\u0413\u0412"])
def test_a_country_is_two_capital_letters(code: str) -> None:
    assert _country(code) == ["address.country: must be two capital letters (ISO 3166-1 alpha-2), like GB"]


def test_a_country_is_one_of_iso() -> None:
    assert _country("ZZ") == ["address.country: is no country of ISO 3166-1 alpha-2, like GB or DE"]


@pytest.mark.parametrize("email", ["", "a", "@", "a@", "@b", "a@b@c", "a b@c", "a@b\u00a0c"])
def test_an_e_mail_address_has_one_at_and_no_space(email: str) -> None:
    with pytest.raises(InputError):
        registered(contact={"email": email})


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        pytest.param("", "toml", "has 3 problems", id="an empty file"),
        pytest.param("a =", "toml", "is not TOML", id="half a line"),
        pytest.param("a = 1\na = 2", "toml", "is not TOML", id="a key twice in TOML"),
        pytest.param("", "json", "is not JSON", id="an empty file for JSON"),
        pytest.param('{"site": NaN}', "json", "NaN is no JSON number", id="NaN"),
        pytest.param('{"a": 1, "a": 1}', "json", "'a' stands twice", id="a name twice in JSON"),
        pytest.param("[]", "json", "is no JSON object", id="a list"),
        pytest.param('{"registration": null}', "json", "has 4 problems", id="what record prints where there is none"),
        pytest.param('{"\\ud800": 1}', "json", "half a surrogate pair", id="half a surrogate pair"),
    ],
)
def test_f41_read_file_refuses(text: str, kind: Literal["toml", "json"], says: str) -> None:
    with pytest.raises(InputError, match=says):
        registration.read_file(text, kind=kind)


# Plain text

CONTROLS = [0x00, 0x07, 0x08, 0x0A, 0x0D, 0x1B, 0x1F, 0x7F, 0x80, 0x85, 0x9B, 0x2028, 0x2029, 0xD800, 0xDFFF]


@pytest.mark.parametrize("sign", [*map(chr, CONTROLS), *OVERRIDES], ids=lambda sign: f"U+{ord(sign):04X}")
def test_f20_a_character_that_could_rewrite_a_terminal_is_refused(sign: str) -> None:
    for text in (sign, f"a{sign}b", f"{sign}a", f"a{sign}"):
        with pytest.raises(ValueError, match="holds a control character"):
            registration.plain_text(text)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        pytest.param("  Riverside  House ", "Riverside  House", id="trimmed, not squeezed"),
        pytest.param("\u00a0\u3000x\u2003", "x", id="trimmed of any space"),
        pytest.param("Cafe\u0301", "Caf\u00e9", id="composed"),
        pytest.param("\u05d1\u05d9\u05ea \u200f1", "\u05d1\u05d9\u05ea \u200f1", id="Hebrew, with a mark of direction"),
        pytest.param("\U0001f3e2", "\U0001f3e2", id="a sign beyond the first plane"),
        pytest.param("", "", id="nothing"),
    ],
)
def test_plain_text_takes(text: str, plain: str) -> None:
    assert registration.plain_text(text) == plain


@given(TEXTS)
def test_plain_text_said_twice_is_said_once(text: str) -> None:
    plain = registration.plain_text(text)
    assert registration.plain_text(plain) == plain


# The wire's door


def test_f51_unknown_members_survive_into_the_canonical_text() -> None:
    document: JsonObject = {**DOCUMENT, "newer": {"b": [1, 2.50, None], "a": "\u00e9"}}
    read = registration.from_document(document)
    assert read.document == document
    assert '"newer":{"a":"\u00e9","b":[1,2.5,null]}' in read.canonical
    assert read.hash != registered().hash


def test_f51_an_unknown_member_inside_a_table_survives_too() -> None:
    site: JsonObject = {"type": "single", "name": "n", "company": "c", "floors": 7}
    assert registration.from_document({**DOCUMENT, "site": site}).document["site"] == site


def test_f51_the_same_unknown_field_in_a_file_is_refused() -> None:
    assert _problems("[site.floors]\nn = 7") == [
        "site.floors: is no field of a registration; remove it, or correct its name"
    ]


def test_a_record_may_know_a_country_of_a_newer_list() -> None:
    address: JsonObject = {"street": "s", "city": "c", "state": "s", "postal_code": "1", "country": "ZZ"}
    assert registration.from_document({**DOCUMENT, "address": address}).document["address"] == address


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        pytest.param({"site": None}, "no valid registration", id="no site"),
        pytest.param({"contact": {"email": "\u202ea@b"}}, "no valid registration", id="an override in a known text"),
        pytest.param({"newer": "\ud800"}, "no canonical form", id="half a surrogate pair in an unknown one"),
        pytest.param({"newer": 2**53}, "no canonical form", id="a number that is not exact"),
        pytest.param({"newer": float("nan")}, "no canonical form", id="a number that is none"),
    ],
)
def test_from_document_refuses(changes: JsonObject, says: str) -> None:
    with pytest.raises(InputError, match=says):
        registration.from_document({**DOCUMENT, **changes})


def test_from_document_names_every_problem() -> None:
    with pytest.raises(InputError) as caught:
        registration.from_document({})
    assert [problem.path for problem in caught.value.problems] == ["site", "address", "contact"]


def test_the_hash_is_over_the_canonical_text_in_one_order() -> None:
    turned: JsonObject = dict(reversed(DOCUMENT.items()))
    assert registration.from_document(turned) == registration.from_document(DOCUMENT)
    assert registered().hash == hashlib.sha256(registered().canonical.encode()).hexdigest()
    assert registered().canonical.startswith('{"address":{"city":"Bristol","country":"GB"')


def test_no_registration_has_a_hash_too() -> None:
    assert registration.hash_of(None) == hashlib.sha256(b"null").hexdigest()
    assert registration.hash_of(registered()) == registered().hash
