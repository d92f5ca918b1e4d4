"""People in front of the portal: each has a browser of their own, and uses it by what can be read on the page.

Every page that anybody comes to is looked at by `checks.js`, in the light and in the dark scheme, and must neither run
scripts nor complain in the console.
"""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from playwright.async_api import expect

if TYPE_CHECKING:
    from collections.abc import Mapping

    from playwright.async_api import Browser, ConsoleMessage, Locator, Page

    from tests.portal.browser.serving import Served

PASSWORD: Final = "quiet harbour lamp seven"

_CHECKS: Final = Path(__file__).with_name("checks.js").read_text()
_SHOTS: Final = Path(os.environ.get("SCREENSHOTS", Path(__file__).parents[1] / "screenshots"))

SITE: Final = {
    "Site or building name": "Riverside House",
    "Site company name": "Riverside Estates Ltd",
    "Street address": "12 Quay Street",
    "Zip or postal code": "BS1 4XY",
    "City": "Bristol",
    "State, province or county": "Somerset",
    "E-mail address": "facilities@riverside.example",
    "Segments (optional)": "offices\nretail",
    "Applications (optional)": "hvac\nlighting",
}
"""What is typed into the fields of an installation, by label."""

SYSTEM_KEPT: Final = "that information about the system is kept"
PERSONS_KEPT: Final = "that personal information is kept"


@dataclass(slots=True)
class Person:
    """Somebody with a browser. `name` stands in the names of the pictures."""

    page: Page
    served: Served
    name: str
    story: str
    complaints: list[str] = field(default_factory=list)
    _count: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    async def open(self, path: str) -> None:
        """Type an address."""
        await self.page.goto(self.served.url + path)
        await self.look()

    async def press(self, name: str) -> None:
        """Press a button."""
        await self._and_arrive(self.page.get_by_role("button", name=name, exact=True))

    async def follow(self, name: str) -> None:
        """Follow a link, the first of this name."""
        await self._and_arrive(self.page.get_by_role("link", name=name, exact=True).first)

    async def _and_arrive(self, what: Locator) -> None:
        async with self.page.expect_navigation(wait_until="load"):
            await what.click()
        await self.look()

    async def fill(self, fields: Mapping[str, str]) -> None:
        """Type into fields, by their labels."""
        for label, text in fields.items():
            await self.page.get_by_label(label, exact=True).fill(text)

    async def choose(self, label: str) -> None:
        """Choose one of several, or tick."""
        await self.page.get_by_label(label).check()

    async def sees(self, text: str) -> None:
        """Read a text on the page."""
        await expect(self.page.get_by_text(text).first).to_be_visible()

    async def is_at(self, heading: str) -> None:
        """Be on the page with this heading; its title says the same."""
        await expect(self.page.get_by_role("heading", level=1)).to_have_text(heading)
        assert heading in await self.page.title()

    async def is_offered(self, name: str, *, offered: bool = True) -> None:
        """Find a button or link, or no such thing."""
        for role in _ROLES:
            found = await self.page.get_by_role(role, name=name, exact=True).count()
            if found:
                assert offered, f"{name} is offered"
                return
        assert not offered, f"{name} is not offered"

    async def is_told(self, *problems: str) -> None:
        """Get the form back: each problem in the summary and beside its field, which the summary leads to."""
        assert (await self.page.title()).startswith("Error: ")
        summary = self.page.get_by_role("alert")
        await expect(summary).to_be_visible()
        for problem in problems:
            await expect(summary).to_contain_text(problem)
            await expect(self.page.locator(".problem", has_text=problem).first).to_be_visible()
        assert await summary.get_by_role("listitem").count() == len(problems), await summary.inner_text()

    async def picture(self, what: str) -> None:
        """Take a picture of the whole page, for people to look at."""
        _SHOTS.mkdir(parents=True, exist_ok=True)
        path = _SHOTS / f"{self.story}-{next(self._count):02}-{self.name}-{what}.png"
        await self.page.screenshot(path=path, full_page=True, caret="initial")

    async def fits(self, what: str) -> None:
        """See that the page scrolls sideways neither on a tablet nor on a telephone; take a picture on each."""
        for device, width, height in _SMALL:
            await self.page.set_viewport_size({"width": width, "height": height})
            wide = await self.page.evaluate("() => document.documentElement.scrollWidth")
            assert wide <= width, f"{self.page.url} is {wide} px wide at {width}"
            await self.look()
            await self.page.emulate_media(color_scheme="dark" if device == "telephone" else "light")
            await self.picture(f"{what}-{device}")
        await self.page.emulate_media(color_scheme="light")

    async def look(self) -> None:
        """See that everybody could use this page."""
        for scheme in _SCHEMES:
            await self.page.emulate_media(color_scheme=scheme)
            wrong = await self.page.evaluate(_CHECKS)
            assert wrong == [], (self.page.url, scheme, wrong)
        await self.page.emulate_media(color_scheme="light")
        assert await self.page.locator("script, [onclick], [style]").count() == 0
        assert self.complaints == [], (self.complaints, await self.page.title(), self.served.lines[-3:])

    async def log_on(self, email: str, password: str = PASSWORD) -> None:
        """Log on, and be somewhere else than there."""
        await self.open("/log-on")
        await self.fill({"E-mail address": email, "Password": password})
        await self.press("Log on")
        await expect(self.page.get_by_role("button", name="Log off")).to_be_visible()

    async def choose_password(self, path: str) -> None:
        """Open a one-time link and choose a password."""
        await self.open(path)
        await self.fill({"Password": PASSWORD, "The same password again": PASSWORD})
        await self.press("Set the password")
        await self.sees("Your password is set.")

    async def link(self) -> str:
        """Read the one-time link that the page hands over; give its path."""
        url = await self.page.locator("code.link").inner_text()
        assert url.startswith(self.served.url)
        return url.removeprefix(self.served.url)

    async def fill_in_site(self, **others: str) -> None:
        """Fill in a whole installation."""
        await self.page.get_by_label("Single site").check()
        await self.fill({**SITE, **others})
        await self.page.get_by_label("Country", exact=True).select_option(label="United Kingdom")

    async def agree(self) -> None:
        """Tick both consents."""
        for consent in (SYSTEM_KEPT, PERSONS_KEPT):
            await self.choose(consent)

    async def register(self, system_id: str, **others: str) -> str:
        """Register a system; give its number."""
        await self.open("/systems/new")
        await self.fill({"System ID": system_id})
        await self.fill_in_site(**others)
        await self.agree()
        await self.press("Register")
        return self.number()

    def number(self) -> str:
        """Read the number of the system whose page this is."""
        return self.page.url.split("/systems/")[1].partition("/")[0]


_ROLES: Final[tuple[Literal["button", "link"], ...]] = ("button", "link")
_SMALL: Final = (("tablet", 768, 1024), ("telephone", 375, 812))
_SCHEMES: Final[tuple[Literal["dark", "light"], ...]] = ("dark", "light")


@dataclass(slots=True)
class Street:
    """Where the people of one story come from."""

    browser: Browser
    served: Served
    story: str

    async def person(self, name: str, *, width: int = 1100, height: int = 900) -> Person:
        """Bring somebody, with a browser that runs no scripts."""
        context = await self.browser.new_context(
            java_script_enabled=False,
            viewport={"width": width, "height": height},
            accept_downloads=True,
            locale="en-GB",
        )
        page = await context.new_page()
        page.set_default_timeout(15_000)
        came = Person(page, self.served, name, self.story)

        def complained(message: ConsoleMessage) -> None:
            if message.type in {"error", "warning"} and "status of 4" not in message.text:
                came.complaints.append(message.text)

        page.on("console", complained)
        return came

    async def administrator(self) -> Person:
        """Bring the administrator, who makes the first account by the link that the portal printed."""
        came = await self.person("administrator")
        await came.open(self.served.setup_path)
        await came.fill(
            {
                "E-mail address": "admin@portal.example",
                "Your name": "Ada Keeper",
                "Your company": "Portal Services",
                "Password": PASSWORD,
                "The same password again": PASSWORD,
            }
        )
        await came.press("Make the account")
        await came.log_on("admin@portal.example")
        return came

    async def invited(
        self, administrator: Person, kind: str, email: str, company: str, *, logged_on: bool = True
    ) -> Person:
        """Bring somebody whom the administrator invites, and who chooses a password and logs on."""
        await administrator.open("/accounts/new")
        await administrator.choose(kind)
        await administrator.fill({"E-mail address": email, "Name": email.partition("@")[0].title(), "Company": company})
        await administrator.press("Make the account")
        came = await self.person(email.partition("@")[0])
        await came.choose_password(await administrator.link())
        if logged_on:
            await came.log_on(email)
        return came

    async def integrator(self, administrator: Person, email: str = "irene@harbour.example") -> Person:
        """Bring a system integrator."""
        return await self.invited(administrator, "System integrator: partner", email, "Harbour Controls Ltd")

    async def end_user(self, administrator: Person, email: str = "edgar@riverside.example") -> Person:
        """Bring an end-user."""
        return await self.invited(administrator, "End-user", email, "Riverside Estates Ltd")
