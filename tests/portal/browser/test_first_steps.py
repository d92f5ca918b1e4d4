"""The first day: the administrator's account by a one-time link, logging on, accounts by invitation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.portal.browser.people import PASSWORD

if TYPE_CHECKING:
    from tests.portal.browser.people import Street


async def test_the_first_administrator_is_made_by_a_link_that_works_once(street: Street) -> None:
    ada = await street.person("administrator")
    await ada.open("/")
    await ada.picture("nobody-logged-on")
    await ada.open(street.served.setup_path)
    await ada.picture("setup")

    await ada.fill({"E-mail address": "no address", "Password": "short", "The same password again": "other"})
    await ada.press("Make the account")
    await ada.is_told(
        "E-mail address is no e-mail address",
        "Your name is empty",
        "Your company is empty",
        "Password is too short",
        "The two passwords differ",
    )
    await ada.picture("setup-wrong")

    await ada.fill(
        {
            "E-mail address": "Admin@Portal.example",
            "Your name": "Ada Keeper",
            "Your company": "Portal Services",
            "Password": PASSWORD,
            "The same password again": PASSWORD,
        }
    )
    await ada.press("Make the account")
    await ada.is_at("Log on")
    await ada.sees("The administrator's account is made.")
    await ada.picture("log-on")

    await ada.open(street.served.setup_path)
    await ada.is_at("Not found")
    await ada.sees("This link does not work")
    await ada.picture("setup-used")


async def test_accounts_are_made_by_invitation_and_kept_by_the_administrator(street: Street) -> None:
    ada = await street.administrator()
    await ada.is_at("What next?")
    await ada.picture("what-next")
    await ada.follow("Accounts")
    await ada.follow("Invite somebody")
    await ada.press("Make the account")
    await ada.is_told("Kind of account is missing", "E-mail address is empty", "Name is empty", "Company is empty")
    await ada.choose("System integrator: branch")
    await ada.fill({"E-mail address": "ADMIN@portal.example", "Name": "Bruno", "Company": "Branch North"})
    await ada.press("Make the account")
    await ada.is_told("This e-mail address has an account already")
    await ada.picture("invite-wrong")
    await ada.fill({"E-mail address": "bruno@branch.example"})
    await ada.press("Make the account")
    await ada.picture("link")
    first = await ada.link()

    bruno = await street.person("bruno")
    await bruno.open(first)
    await bruno.picture("choose-password")
    await bruno.choose_password(first)
    await bruno.log_on("bruno@branch.example")
    await bruno.picture("what-next")
    await bruno.follow("Bruno")
    await bruno.fill(
        {"Your password now": "wrong", "Password": "nine lanterns by the mill", "The same password again": "other"}
    )
    await bruno.press("Change the password")
    await bruno.is_told("The two passwords differ")
    await bruno.picture("own-account-wrong")

    await ada.open("/accounts")
    await ada.picture("accounts")
    await ada.follow("Bruno")
    await ada.picture("account")
    await ada.press("Close the account")
    await ada.sees("The account is closed")
    await bruno.open("/systems")
    await bruno.is_at("Log on")
    await bruno.fill({"E-mail address": "bruno@branch.example", "Password": PASSWORD})
    await bruno.press("Log on")
    await bruno.is_told("The e-mail address or the password is wrong")

    await ada.press("Open the account")
    await bruno.log_on("bruno@branch.example")


async def test_an_account_is_locked_after_ten_wrong_passwords_until_a_new_link(street: Street) -> None:
    ada = await street.administrator()
    irene = await street.invited(ada, "End-user", "irene@harbour.example", "Harbour Controls Ltd", logged_on=False)
    await irene.open("/log-on")
    for _ in range(10):
        await irene.fill({"E-mail address": "irene@harbour.example", "Password": "not my password"})
        await irene.press("Log on")
        await irene.is_told("The e-mail address or the password is wrong, or the account is locked")
    await irene.picture("refused")
    await irene.fill({"Password": PASSWORD})
    await irene.press("Log on")
    await irene.is_told("Too many tries. Wait")
    await irene.picture("too-many")

    await ada.open("/accounts")
    await ada.sees("locked")
    await ada.picture("accounts")
    await ada.follow("Irene")
    await ada.press("Make a new link")
    await irene.choose_password(await ada.link())
    await ada.follow("Done")
    assert await ada.page.get_by_text("locked").count() == 0
