"""Without a mouse: Tab, Shift+Tab, space, arrows and Enter alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from playwright.async_api import expect

from tests.portal.browser.people import PASSWORD, SITE

if TYPE_CHECKING:
    from tests.portal.browser.people import Person, Street


async def _tab_to(person: Person, name: str) -> None:
    """Press Tab until the thing of this name has the focus; its focus must be seen."""
    page = person.page
    for _ in range(60):
        await page.keyboard.press("Tab")
        focused = page.locator(":focus")
        if await focused.count() == 0:
            continue
        said = await focused.evaluate(
            "(node) => (node.labels?.length ? [...node.labels].map((one) => one.innerText).join() : node.innerText)"
        )
        if " ".join(said.split()) == name:
            outline = await focused.evaluate("(node) => getComputedStyle(node).outlineWidth")
            assert outline == "3px", f"{name} does not show that it has the focus"
            return
    raise AssertionError(f"{name} is not reached by Tab")


async def _type(person: Person, label: str, text: str) -> None:
    await _tab_to(person, label)
    await person.page.keyboard.type(text)


async def _enter(person: Person) -> None:
    async with person.page.expect_navigation(wait_until="load"):
        await person.page.keyboard.press("Enter")
    await person.look()


async def test_log_on_and_registering_need_no_mouse(street: Street) -> None:
    ada = await street.administrator()
    irene = await street.invited(
        ada, "System integrator: partner", "irene@harbour.example", "Harbour Controls Ltd", logged_on=False
    )
    await irene.open("/")
    await irene.page.keyboard.press("Tab")
    await expect(irene.page.locator(":focus")).to_have_text("Skip to the content")
    await irene.page.keyboard.press("Enter")
    await _tab_to(irene, "Log on")
    await _enter(irene)

    await _type(irene, "E-mail address", "irene@harbour.example")
    await _type(irene, "Password", PASSWORD)
    await _enter(irene)
    await _tab_to(irene, "Register a system")
    await _enter(irene)

    await _type(irene, "System ID", "SYS-1")
    await _tab_to(irene, "Register")
    await _enter(irene)
    await irene.is_at("Register a system")
    assert await irene.page.get_by_role("alert").count() == 1
    await _tab_to(irene, "Site type is missing; choose one.")
    await irene.page.keyboard.press("Enter")
    await irene.page.keyboard.press("Tab")
    await irene.page.keyboard.press("Space")
    for label, text in SITE.items():
        if label == "E-mail address":
            await _type(irene, "Country", "United Kingdom")
        await _type(irene, label, text)
    for consent in ("system is kept", "personal information is kept"):
        about = "that information about the" if consent == "system is kept" else "that"
        await _tab_to(irene, f"The end-user has agreed {about} {consent}")
        await irene.page.keyboard.press("Space")
    await _tab_to(irene, "Register")
    await _enter(irene)
    await irene.is_at("Riverside House")
    await irene.picture("registered")
