"""Somebody in front of the portal, by httpx: follows links, fills in forms by the names of their fields, presses."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urljoin

import httpx

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    from tests.portal.browser.serving import Served

PASSWORD: Final = "quiet harbour lamp seven"

INSTALLATION: Final = {
    "site.type": "single",
    "site.name": "Riverside House",
    "site.company": "Riverside Estates Ltd",
    "address.street": "12 Quay Street",
    "address.postal_code": "BS1 4XY",
    "address.city": "Bristol",
    "address.state": "Somerset",
    "address.country": "GB",
    "contact.email": "facilities@riverside.example",
    "consents.system_information": "yes",
    "consents.personal_information": "yes",
    "consents.agreed": "yes",
}


@dataclass
class Form:
    """A form of a page: where it goes, what it holds, and what its buttons are called."""

    action: str
    fields: dict[str, str] = field(default_factory=dict)
    buttons: dict[str, dict[str, str]] = field(default_factory=dict)


class _Page(HTMLParser):
    """Reads the forms and the links of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.links: dict[str, str] = {}
        self._button: dict[str, str] | None = None
        self._link: str | None = None
        self._select = ""
        self._text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        got = {key: value or "" for key, value in attrs}
        if tag == "a":
            self._link, self._text = got.get("href"), ""
        if tag == "form":
            self.forms.append(Form(got.get("action", "")))
        if not self.forms:
            return
        fields = self.forms[-1].fields
        if tag == "button":
            self._button, self._text = ({got["name"]: got.get("value", "")} if "name" in got else {}), ""
        elif tag == "input" and got.get("type") not in {"radio", "checkbox"}:
            fields[got.get("name", "")] = got.get("value", "")
        elif tag == "input" and "checked" in got:
            fields[got["name"]] = got.get("value", "on")
        elif tag in {"select", "textarea"}:
            self._select = got.get("name", "")
            fields[self._select] = ""
        elif tag == "option" and "selected" in got:
            fields[self._select] = got.get("value", "")

    def handle_data(self, data: str) -> None:
        self._text += data

    def handle_endtag(self, tag: str) -> None:
        told = " ".join(self._text.split())
        if tag == "button" and self._button is not None:
            self.forms[-1].buttons[told] = self._button
            self._button = None
        if tag == "a" and self._link is not None:
            self.links.setdefault(told, self._link)
            self._link = None


class Visitor:
    """One person: a session of their own."""

    def __init__(self, served: Served, tls: ssl.SSLContext | None = None) -> None:
        verify = True if tls is None else tls
        self.client = httpx.Client(
            base_url=served.url, follow_redirects=True, trust_env=False, timeout=20, verify=verify
        )
        self.page = self.client.get("/")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def open(self, path: str) -> str:
        """Type an address; gives the page."""
        self.page = self.client.get(path)
        assert self.page.status_code == 200, (path, self.page.status_code, self.page.text)
        return self.page.text

    def follow(self, text: str) -> str:
        """Follow the link with this text."""
        links = _Page(self.page.text).links
        assert text in links, (text, sorted(links))
        return self.open(urljoin(str(self.page.url), links[text]))

    def press(self, button: str, **typed: str) -> str:
        """Fill in the form that has this button (`__` in a name is a dot), and press it; gives the page that comes."""
        return self.fill(button, {key.replace("__", "."): text for key, text in typed.items()})

    def fill(self, button: str, typed: Mapping[str, str]) -> str:
        """Do the same, with names as they stand."""
        forms = _Page(self.page.text).forms
        form = next((each for each in forms if button in each.buttons), None)
        assert form is not None, (button, [list(each.buttons) for each in forms], self.page.text)
        values = {**form.fields, **typed, **form.buttons[button]}
        values.pop("", None)
        where = urljoin(str(self.page.url), form.action)
        self.page = self.client.post(where, data=values, headers={"Origin": str(self.client.base_url).rstrip("/")})
        assert self.page.status_code == 200, (button, self.page.status_code, self.page.text)
        return self.page.text
