"""What the portal keeps, in words for people: kinds of account, states, a registration as facts, the history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from propagator.portal import forms
from propagator.portal.rules import Kind

if TYPE_CHECKING:
    import datetime as dt

    from propagator.core.difference import JsonObject, JsonValue
    from propagator.portal.tables import Account, Audit

KINDS: Final = {
    Kind.ADMINISTRATOR: "administrator",
    Kind.BRANCH: "system integrator (branch)",
    Kind.PARTNER: "system integrator (partner)",
    Kind.END_USER: "end-user",
}

_LABELS: Final = {
    **{field.path: field.label for field in forms.fields_of((*forms.INSTALLATION, forms.WARRANTY))},
    "contact.email": "Contact of the site",
    "warranty.start": "Warranty, first day",
    "warranty.months": "Warranty, length in months",
    "warranty.reference": "Warranty, contract or order",
    "consents.system_information": "Consent to system information",
    "consents.personal_information": "Consent to personal information",
    "accounts.integrator.kind": "System integrator, kind",
    "accounts.integrator.company": "System integrator, company",
    "accounts.integrator.email": "System integrator, e-mail",
    "accounts.end_user.company": "End-user, company",
    "accounts.end_user.email": "End-user, e-mail",
}

_WORDS: Final = {
    "site.type": {"single": "Single site", "multi": "Multi-site"},
    "consents.system_information": {"true": "given", "false": "not given"},
    "consents.personal_information": {"true": "given", "false": "not given"},
}

_DEEDS: Final = {
    "registered": "registered the system",
    "modified": "changed installation information",
    "warranty_changed": "changed the warranty",
    "consents_changed": "changed the consents",
    "associated": "associated a new System ID",
    "withdrawn": "withdrew the registration",
    "slot_freed": "freed a place",
    "invited": "invited",
    "joined": "joined the system",
    "code_issued": "got a Registration code",
    "grant_approved": "let a server have the registration",
    "registration_fetched": "a server fetched the registration",
}
"""What is done with a system; accounts have no history page."""


@dataclass(frozen=True, slots=True)
class Changed:
    """One member of a registration that was changed, in words; "" for nothing there."""

    label: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Deed:
    """One line of the history."""

    at: dt.datetime
    who: str
    what: str
    changes: tuple[Changed, ...]


def deed(row: Audit) -> Deed:
    """Put a row of the audit into words."""
    listed = row.detail.get("changes")
    entries = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    what = _DEEDS.get(row.action, row.action.replace("_", " "))
    about = [str(row.detail[name]) for name in ("system_id", "of", "slot", "server_name") if row.detail.get(name)]
    if row.action == "registered":  # every member is new: the page above shows them
        entries = []
    told = f"{what}: {', '.join(about).replace('end_user', 'end-user')}" if about else what
    return Deed(row.at, row.who, told[:1].upper() + told[1:], tuple(_changed(entry) for entry in entries))


def _changed(entry: JsonObject) -> Changed:
    path = str(entry.get("path", ""))
    return Changed(_LABELS.get(path, path), _value(path, entry.get("from")), _value(path, entry.get("to")))


def _value(path: str, value: JsonValue) -> str:
    text = "" if value is None else str(value)
    if path == "address.country":
        return forms.country_name(text)
    return _WORDS.get(path, {}).get(text, text)


def account_state(account: Account, now: dt.datetime) -> str:
    """Say in one word how an account stands."""
    if not account.active:
        return "closed"
    if account.password_hash is None:
        return "invited"
    return "locked" if account.locked_until is not None and now < account.locked_until else "active"


def member(registration: JsonObject, path: str) -> str:
    """Give one member of a registration as a text in words; "" where it is not there."""
    text = forms.values_of(registration, (forms.Field(path, ""),))[path]
    return _value(path, text)


def installation(registration: JsonObject) -> tuple[tuple[str, str], ...]:
    """List the installation information of a registration: label and text."""
    street, postal, city, state, country = (
        member(registration, f"address.{name}") for name in ("street", "postal_code", "city", "state", "country")
    )
    return (
        ("Site type", member(registration, "site.type")),
        ("Site or building name", member(registration, "site.name")),
        ("Site company name", member(registration, "site.company")),
        ("Installation address", f"{street}\n{postal} {city}\n{state}\n{country}"),
        ("Segments", ", ".join(member(registration, "system.segments").splitlines())),
        ("Applications", ", ".join(member(registration, "system.applications").splitlines())),
        ("System transition", ", ".join(member(registration, "system.transition").splitlines())),
    )


def warranty(registration: JsonObject) -> tuple[tuple[str, str], ...]:
    """List the warranty block: label and text; nothing where there is none."""
    if not registration.get("warranty"):
        return ()
    return (
        ("First day", member(registration, "warranty.start")),
        ("Length", f"{member(registration, 'warranty.months')} months"),
        ("Contract or order", member(registration, "warranty.reference")),
    )


def consents(consented: JsonObject) -> tuple[tuple[str, str], ...]:
    """Say of each consent whether it is given, who said so, how and when."""
    named = (("system_information", "System information"), ("personal_information", "Personal information"))
    return tuple((label, _consent(consented.get(name))) for name, label in named)


def _consent(said: JsonValue) -> str:
    if not isinstance(said, dict):
        return ""
    given = "Given" if said.get("given") else "Not given"
    how = "By the end-user in person" if said.get("in_person") else "Reported by the system integrator"
    return f"{given}, {str(said.get('at'))[:10]}\n{how}: {said.get('by')}"
