"""The registrations that the demonstration gives to its servers: one site and company each, the rest alike."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

    from propagator.snapshot import Record


class Place(NamedTuple):
    """What tells one registration from another."""

    site: str
    company: str
    street: str
    email: str


OWN: Final = (
    Place("Harbour Mill", "Harbour Mill Ltd", "3 Mill Lane", "mill@harbour.example"),
    Place("Old Granary", "Granary Lofts Ltd", "48 Corn Street", "office@granary.example"),
)
"""What two devices were registered as before they were attached."""

OF_LEAD: Final = (
    Place("Riverside House", "Riverside Estates Ltd", "12 Quay Street", "facilities@riverside.example"),
    Place("Riverside Campus", "Riverside Estates Ltd", "12 Quay Street", "campus@riverside.example"),
    Place("Riverside Quarter", "Riverside Estates Ltd", "14 Quay Street", "quarter@riverside.example"),
)
"""What the lead is registered as, one after the other."""


def write(place: Place, directory: Path) -> Path:
    """Write a registration file, as `propagator register FILE` takes it."""
    path = directory / f"{place.site.lower().replace(' ', '-')}.toml"
    path.write_text(_TEXT.format_map({key: json.dumps(value) for key, value in place._asdict().items()}))
    return path


_TEXT: Final = """\
[site]
type = "single"
name = {site}
company = {company}

[address]
street = {street}
city = "Bristol"
state = "Somerset"
postal_code = "BS1 4XY"
country = "GB"

[contact]
email = {email}

[system]
segments = ["offices"]
applications = ["hvac", "lighting"]
"""


def site_of(record: Record) -> str | None:
    """Give the name of the site that a server's record is about; None: it has no registration."""
    document = json.loads(record.registration or "null")
    return None if document is None else str(document["site"]["name"])
