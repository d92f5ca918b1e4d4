"""The Registration code page and the System Association page."""

from __future__ import annotations

import asyncio
import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from playwright.async_api import expect

from propagator import picture
from propagator.core import code, statement
from propagator.core.statement import Proven, Standing, Statement
from tests.portal.browser.people import PASSWORD
from tests.portal.browser.serving import ask

if TYPE_CHECKING:
    from tests.portal.browser.people import Person, Street


async def _statement(person: Person, text: str, system_id: str) -> Statement:
    """Read a code as the server does that has this System ID and trusts this portal."""
    async with httpx.AsyncClient() as client:
        about = await client.get(f"{person.served.url}/api/portal")
    standing = Standing(system_id, dt.datetime.now(dt.UTC), {about.json()["thumbprint"]})
    found = statement.read(code.read(text), standing)
    assert isinstance(found, Proven), found
    return found.statement


async def _downloaded(person: Person, name: str) -> bytes:
    async with person.page.expect_download() as started:
        await person.page.get_by_role("link", name=name).click()
    path = await (await started.value).path()
    return await asyncio.to_thread(Path(path).read_bytes)


async def test_a_registration_code_is_text_file_and_picture_of_one_statement(street: Street) -> None:
    irene = await street.integrator(await street.administrator())
    number = await irene.register("Sys-1")
    await irene.follow("Registration code")
    await irene.picture("before")
    await irene.press("Issue a Registration code")
    await irene.picture("code")

    lines = irene.page.get_by_role("list", name="Registration code, line by line")
    text = "\n".join(await lines.get_by_role("listitem").all_inner_texts())
    said = await _statement(irene, text, "Sys-1")
    assert (said.system_id, said.system, said.edition) == ("Sys-1", number, 1)
    assert said.registration is not None

    groups = await lines.locator("span").all_inner_texts()
    assert {len(group) for group in groups} == {6}
    file = (await _downloaded(irene, "Download the file")).decode()
    assert "# System ID: Sys-1" in file
    assert code.read(file) == code.read(text)
    for shown in (await _downloaded(irene, "Download the picture"), await irene.page.locator(".qr img").screenshot()):
        assert [code.read(found) for found in picture.texts(shown)] == [code.read(text)]

    await irene.page.emulate_media(media="print")
    for name in ("Modify", "Log off", "Download the file"):
        await expect(irene.page.get_by_text(name, exact=True)).not_to_be_visible()
    await irene.picture("printed")


async def test_a_new_system_id_takes_over_a_registration(street: Street) -> None:
    irene = await street.integrator(await street.administrator())
    number = await irene.register("SYS-1")
    await irene.register("SYS-2", **{"Site or building name": "Riverside Mill"})

    await irene.follow("System Association page")
    await irene.picture("enter")
    await irene.press("Proceed")
    await irene.is_told("New System ID is missing")
    await irene.fill({"New System ID": "SYS 3"})
    await irene.press("Proceed")
    await irene.is_told("New System ID must be 1 to 64 letters")
    await irene.follow("Cancel")
    await irene.is_at("What next?")

    await irene.open("/associate")
    await irene.fill({"New System ID": "SYS-3"})
    await irene.press("Proceed")
    await irene.is_at("Choose the system")
    await irene.press("Associate")
    await irene.is_told("Choose one of your systems.")
    await irene.picture("none-chosen")
    await irene.follow("Cancel")
    await irene.open(f"/systems/{number}")
    await irene.sees("SYS-1")
    await irene.sees("edition 1")

    await irene.open("/associate")
    await irene.fill({"New System ID": "SYS-2"})
    await irene.press("Proceed")
    await irene.choose("Riverside House")
    await irene.press("Associate")
    await irene.is_told("This System ID is registered already.")

    await irene.fill({"New System ID": "SYS-3"})
    await irene.press("Proceed")
    await irene.choose("Riverside House")
    await irene.picture("choose")
    await irene.press("Associate")
    await irene.is_at("Registration code")
    await irene.sees("The new System ID has taken over the registration.")
    await irene.picture("associated")
    await irene.press("Issue a Registration code")
    groups = await irene.page.locator(".print span").all_inner_texts()
    said = await _statement(irene, " ".join(groups), "SYS-3")
    assert (said.system_id, said.system, said.edition, said.replaces) == ("SYS-3", number, 2, "SYS-1")
    await irene.follow("Back to the system")
    await irene.sees("Associated a new System ID")
    await irene.picture("history")


async def test_a_user_code_shows_which_server_asks_before_it_is_approved(street: Street) -> None:
    irene = await street.integrator(await street.administrator())
    await irene.press("Log off")
    async with httpx.AsyncClient(base_url=f"{street.served.url}/api") as server:
        asked = await ask(server, "SYS-9", "register")
        await irene.open(asked["verification_uri_complete"].removeprefix(street.served.url))
        await irene.is_at("Log on")
        await irene.fill({"E-mail address": "irene@harbour.example", "Password": PASSWORD})
        await irene.press("Log on")
        await irene.is_at("Connect a server")
        await irene.sees("SYS-9")
        await irene.picture("asks")
        await irene.follow("Register it as a new system")
        await irene.fill_in_site()
        await irene.press("Register")
        await irene.is_told("The consent to system information", "The consent to personal information")
        await irene.agree()
        await irene.picture("register")
        await irene.press("Register")
        await irene.sees("Approved.")
        number = irene.number()
        got = await server.post("/token", data=_token(asked))
        assert got.status_code == 200, got.text

        asked = await ask(server, "SYS-10", "associate")
        await irene.follow("Connect a server")
        await irene.press("Continue")
        await irene.is_told("Code shown at the server is missing")
        await irene.fill({"Code shown at the server": "BBBB-BBBB"})
        await irene.press("Continue")
        await irene.is_told("No server waits under this code.")
        await irene.picture("no-such-code")
        await irene.fill({"Code shown at the server": asked["user_code"].lower().replace("-", "")})
        await irene.press("Continue")
        await irene.follow("Associate it with a system")
        await irene.choose("Riverside House")
        await irene.picture("choose")
        await irene.press("Associate")
        assert irene.number() == number
        await irene.sees("SYS-10")

        asked = await ask(server, "SYS-10", "register")
        await irene.open(f"/device?user_code={asked['user_code']}")
        await irene.sees("It is registered already")
        await irene.picture("known")
        await irene.press("Deny")
        await irene.sees("Denied.")
        refused = await server.post("/token", data=_token(asked))
        assert refused.json()["error"] == "access_denied"


def _token(asked: dict[str, str]) -> dict[str, str]:
    kind = "urn:ietf:params:oauth:grant-type:device_code"
    return {"grant_type": kind, "device_code": asked["device_code"], "client_id": "propagator"}
