"""Register or Modify a system, as an integrator and an end-user do it, and who may what (R1, R8, R9, R10)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.portal.browser.people import PASSWORD, PERSONS_KEPT, SYSTEM_KEPT

if TYPE_CHECKING:
    from tests.portal.browser.people import Person, Street


async def test_a_system_is_registered_once_every_field_is_right(street: Street) -> None:
    irene = await street.integrator(await street.administrator())
    await irene.follow("Register a system")
    await irene.picture("empty")
    await irene.press("Register")
    await irene.is_told(
        "System ID is missing",
        "Site type is missing",
        "Site or building name is missing",
        "Site company name is missing",
        "Street address is missing",
        "Zip or postal code is missing",
        "City is missing",
        "State, province or county is missing",
        "Country is missing",
        "E-mail address is missing",
        "The consent to system information is needed",
        "The consent to personal information is needed",
    )
    await irene.picture("all-missing")

    await irene.fill({"System ID": "SYS 1"})
    await irene.fill_in_site(**{"E-mail address": "nobody", "Segments (optional)": "offices\noffices"})
    await irene.agree()
    await irene.fill({"Length in months (optional)": "many"})
    await irene.press("Register")
    await irene.is_told(
        "System ID must be 1 to 64 letters",
        "E-mail address is no e-mail address",
        "Segments names the same thing twice",
        "First day is missing",
        "Length in months must be a whole number",
    )
    assert await irene.page.get_by_label("Site or building name").input_value() == "Riverside House"
    assert await irene.page.get_by_label("Country").input_value() == "GB"
    assert await irene.page.get_by_label(SYSTEM_KEPT).is_checked()
    await irene.picture("some-wrong")
    await irene.open("/systems")
    await irene.sees("There is no system yet.")

    await irene.register("SYS-1")
    await irene.is_at("Riverside House")
    await irene.sees("The system is registered.")
    await irene.sees("United Kingdom")
    await irene.picture("registered")
    await irene.follow("Register or Modify a system")
    await irene.picture("systems")


async def test_a_registration_is_not_confirmed_without_both_consents(street: Street) -> None:
    irene = await street.integrator(await street.administrator())
    await irene.open("/systems/new")
    await irene.fill({"System ID": "SYS-1"})
    await irene.fill_in_site()
    await irene.choose(SYSTEM_KEPT)
    await irene.press("Register")
    await irene.is_told("The consent to personal information is needed before a registration is confirmed")
    await irene.picture("one-consent-missing")
    await irene.open("/systems")
    await irene.sees("There is no system yet.")


async def test_a_second_integrator_is_refused_everywhere(street: Street) -> None:
    ada = await street.administrator()
    irene = await street.integrator(ada)
    number = await irene.register("SYS-1")

    victor = await street.integrator(ada, "victor@other.example")
    await victor.open("/systems/new")
    await victor.fill({"System ID": "SYS-1"})
    await victor.fill_in_site()
    await victor.agree()
    await victor.press("Register")
    await victor.is_told("This System ID is registered already. Ask its integrator or end-user, or an administrator.")
    await victor.picture("registered-already")
    for path in ("", "/edit", "/warranty", "/consents", "/code", "/invite", "/withdraw", "/free?slot=integrator"):
        await victor.open(f"/systems/{number}{path}")
        await victor.is_at("Not found")
    await victor.picture("not-found")
    await victor.open("/systems")
    await victor.sees("There is no system yet.")


async def _joined(street: Street, irene: Person, number: str, email: str) -> Person:
    """Let the integrator of a system invite its end-user, who makes an account and joins."""
    await irene.open(f"/systems/{number}")
    await irene.follow("Invite the end-user")
    await irene.fill({"Their e-mail address": email})
    await irene.picture("invite")
    await irene.press("Invite")
    await irene.picture("invitation")
    edgar = await street.person("end-user")
    await edgar.open(await irene.link())
    await edgar.fill(
        {
            "Your name": "Edgar Estates",
            "Your company": "Riverside Estates Ltd",
            "Password": PASSWORD,
            "The same password again": PASSWORD,
        }
    )
    await edgar.choose(f"I agree {SYSTEM_KEPT}")
    await edgar.press("Join")
    await edgar.is_told("The consent to personal information is needed")
    await edgar.picture("join-without-consent")
    await edgar.fill({"Password": PASSWORD, "The same password again": PASSWORD})
    await edgar.choose(f"I agree {PERSONS_KEPT}")
    await edgar.press("Join")
    await edgar.fill({"E-mail address": email, "Password": PASSWORD})
    await edgar.press("Log on")
    await edgar.is_at("Riverside House")
    return edgar


async def test_once_an_end_user_joined_the_integrator_edits_the_warranty_alone(street: Street) -> None:
    irene = await street.integrator(await street.administrator())
    number = await irene.register("SYS-1")
    await irene.follow("Modify")
    await irene.fill({"City": ""})
    await irene.press("Save")
    await irene.is_told("City is missing")
    await irene.fill({"City": "Bath"})
    await irene.picture("modify")
    await irene.press("Save")
    await irene.sees("Saved.")

    edgar = await _joined(street, irene, number, "edgar@riverside.example")
    await edgar.picture("joined")

    await irene.open(f"/systems/{number}")
    for name, offered in (("Modify", False), ("Change consents", False), ("Enter warranty", True)):
        await irene.is_offered(name, offered=offered)
    await irene.sees("installation information and consents are theirs to edit")
    for path in ("edit", "consents"):
        await irene.open(f"/systems/{number}/{path}")
        await irene.is_at("Not allowed")
        await irene.sees("An end-user is associated")
    await irene.picture("cut-off")

    await irene.open(f"/systems/{number}/warranty")
    await irene.fill({"Length in months (optional)": "0"})
    await irene.press("Save")
    await irene.is_told("First day is missing", "Length in months must be 1 to 600")
    await irene.fill({"First day (optional)": "2026-01-31", "Length in months (optional)": "24"})
    await irene.picture("warranty")
    await irene.press("Save")
    await irene.sees("24 months")

    await edgar.open(f"/systems/{number}")
    for name, offered in (("Edit warranty", False), ("Modify", True), ("Change consents", True)):
        await edgar.is_offered(name, offered=offered)
    await edgar.open(f"/systems/{number}/warranty")
    await edgar.is_at("Not allowed")
    await edgar.open(f"/systems/{number}/edit")
    await edgar.fill({"Site or building name": "Riverside Mill"})
    await edgar.press("Save")
    await edgar.is_at("Riverside Mill")
    await edgar.follow("Change consents")
    await edgar.page.get_by_label(PERSONS_KEPT).uncheck()
    await edgar.picture("consents")
    await edgar.press("Save")
    await edgar.sees("Not given, 20")
    await edgar.sees("By the end-user in person: edgar@riverside.example")
    await edgar.picture("history")


async def test_what_was_not_different_changes_nothing(street: Street) -> None:
    irene = await street.integrator(await street.administrator())
    number = await irene.register("SYS-1")
    await irene.open(f"/systems/{number}/edit")
    await irene.press("Save")
    await irene.sees("Nothing was different, so nothing was changed.")
    await irene.sees("edition 1")


async def test_an_administrator_frees_a_place_and_withdraws_a_registration(street: Street) -> None:
    ada = await street.administrator()
    irene = await street.integrator(ada)
    number = await irene.register("SYS-1")

    await ada.follow("Registered systems")
    await ada.fill({"Search": "riverside"})
    await ada.press("Search")
    await ada.picture("systems")
    await ada.follow("Riverside House")
    for name in ("Modify", "Registration code", "Change consents", "Enter warranty", "Invite the end-user"):
        await ada.is_offered(name, offered=False)
    await ada.picture("system")
    await ada.follow("Free this place")
    await ada.picture("free")
    await ada.follow("Cancel")
    await ada.follow("Free this place")
    await ada.press("Free the place")
    await ada.sees("The place is free.")
    await irene.open(f"/systems/{number}")
    await irene.is_at("Not found")

    await ada.follow("Withdraw the registration")
    await ada.picture("withdraw")
    await ada.press("Withdraw it")
    await ada.sees("This registration was withdrawn.")
    await ada.is_offered("Withdraw the registration", offered=False)
    await ada.picture("withdrawn")
    await irene.register("SYS-1")
    await irene.is_at("Riverside House")


async def test_an_invitation_to_somebody_with_an_account_asks_for_that_account(street: Street) -> None:
    ada = await street.administrator()
    irene = await street.integrator(ada)
    edgar = await street.end_user(ada)
    number = await irene.register("SYS-1")
    await irene.open(f"/systems/{number}/invite")
    await irene.press("Invite")
    await irene.is_told("Their e-mail address is empty")
    await irene.fill({"Their e-mail address": "edgar@riverside.example"})
    await irene.press("Invite")
    link = await irene.link()

    await irene.open(link)
    await irene.is_at("Log on to join")
    await irene.sees("You are logged on as irene@harbour.example: log off first.")
    await edgar.press("Log off")
    await edgar.open(link)
    await edgar.is_at("Log on to join")
    await edgar.picture("log-on-to-join")
    await edgar.page.locator("main").get_by_role("link", name="Log on").click()
    await edgar.fill({"E-mail address": "edgar@riverside.example", "Password": PASSWORD})
    await edgar.press("Log on")
    await edgar.is_at("Join Riverside House")
    await edgar.agree()
    await edgar.picture("join")
    await edgar.press("Join")
    await edgar.is_at("Riverside House")
    await edgar.sees("You have joined this system.")
    await edgar.open(link)
    await edgar.is_at("Not found")

    await edgar.open("/systems/new")
    await edgar.is_offered("Register")
    assert await edgar.page.get_by_label("First day (optional)").count() == 0
