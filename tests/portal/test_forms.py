"""The form of a registration and its JSON: there and back, and problems at their fields."""

from __future__ import annotations

import json

import pytest

from propagator.core import registration
from propagator.core.errors import InputError
from propagator.portal import forms
from tests.portal.world import form

SECTIONS = (*forms.INSTALLATION, forms.consents(in_person=True), forms.WARRANTY)
FIELDS = forms.fields_of(SECTIONS)


def test_every_field_of_a_registration_but_the_accounts_is_asked_for() -> None:
    asked = {field.path for field in FIELDS}
    assert asked == {path for path in registration.field_paths() if not path.startswith("accounts.")}


def test_the_ids_of_the_fields_and_sections_are_their_own() -> None:
    ids = [field.id for field in (*FIELDS, forms.SYSTEM_ID)] + [section.id for section in SECTIONS]
    assert len(set(ids)) == len(ids)


def test_what_a_form_shows_of_a_registration_makes_that_registration() -> None:
    whole = form(warranty={"start": "2026-01-31", "months": 24, "reference": "HC-1"})
    assert forms.document(forms.values_of(whole, FIELDS), FIELDS) == whole


def test_an_empty_form_misses_every_field_that_is_needed() -> None:
    made = forms.document({}, FIELDS)
    with pytest.raises(InputError) as refused:
        registration.read_file(json.dumps(made), kind="json")
    beside = forms.beside({problem.path: problem.text for problem in refused.value.problems}, FIELDS)
    needed = {field.path for field in FIELDS if field.required and field.kind != "consent"}
    assert set(beside) == needed
    assert beside["site.type"] == "Site type is missing; choose one."
    assert beside["site.name"] == "Site or building name is missing; fill it in."


@pytest.mark.parametrize(
    ("path", "text", "at", "said"),
    [
        pytest.param("address.city", "is too long", "address.city", "City is too long.", id="a field"),
        pytest.param(
            "system.segments[2]", "is too long", "system.segments", "Entry 3 of Segments is too long.", id="an entry"
        ),
        pytest.param(
            "contact", "is missing; fill it in", "contact.email", "E-mail address is missing; fill it in.", id="a part"
        ),
        pytest.param(
            "warranty",
            "is the integrator's to enter",
            "warranty.start",
            "First day is the integrator's to enter.",
            id="an optional part",
        ),
        pytest.param(
            "",
            "It is larger than 24576 bytes; shorten its texts.",
            "",
            "It is larger than 24576 bytes; shorten its texts.",
            id="the whole",
        ),
        pytest.param("site.colour", "is no field", "", "site.colour is no field.", id="no field of ours"),
    ],
)
def test_a_problem_stands_at_its_field(path: str, text: str, at: str, said: str) -> None:
    assert forms.beside({path: text}, FIELDS) == {at: said}


@pytest.mark.parametrize("text", ["24", " 24 ", "024"])
def test_a_number_is_read_as_people_write_it(text: str) -> None:
    assert forms.document({"warranty.months": text}, forms.WARRANTY.fields) == {"warranty": {"months": 24}}


@pytest.mark.parametrize("text", ["two years", "2.5", "9" * 40, "٢٤"])
def test_what_is_no_number_is_handed_on_for_core_to_refuse(text: str) -> None:
    assert forms.document({"warranty.months": text}, forms.WARRANTY.fields) == {"warranty": {"months": text}}


@pytest.mark.parametrize("system_id", ["", "with space", "ä", "x" * 65, "a\nb", "a\n"])
def test_a_system_id_of_another_form_is_told(system_id: str) -> None:
    assert forms.system_id_problem(system_id)


def test_a_country_that_the_list_does_not_know_stays_as_it_is() -> None:
    assert forms.country_name("GB") == "United Kingdom"
    assert forms.country_name("XZ") == "XZ"
