"""The whole story: a registration is obtained at the portal, carried to every shadow, lost, and taken over again.

Everything in it is real: the portal (on SQLite, and on PostgreSQL), a lead with its broker, three shadows, and the
integrator and the end-user, each with a browser.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pytest
from playwright.async_api import async_playwright

from tests.acceptance.site import DEADLINE_S, environment, eventually
from tests.portal import postgres
from tests.portal.browser.conftest import QUIET
from tests.portal.browser.people import PASSWORD, Street
from tests.portal.browser.serving import served

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.acceptance.site import Server, Site
    from tests.portal.browser.people import Person
    from tests.portal.browser.serving import Served

DATABASE: Final = ("propagator.db", "propagator.db-wal", "propagator.db-shm")
SHADOWS: Final = ("as-1", "as-2", "as-3")


@pytest.fixture(params=["sqlite", "postgresql"])
def portal(request: pytest.FixtureRequest, site: Site) -> Iterator[Served]:
    """A portal on each database that it may have."""
    with contextlib.ExitStack() as stack:
        options = []
        if request.param == "postgresql":
            options = ["--database", stack.enter_context(postgres.running()).database()]
        yield stack.enter_context(served(site.directory / "portal", *options, program=(site.command,)))


@pytest.fixture
async def street(portal: Served, request: pytest.FixtureRequest) -> AsyncIterator[Street]:
    chromium = shutil.which("chromium")
    assert chromium is not None, "there is no chromium here; apt-get install --no-install-recommends chromium"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=list(QUIET))
        yield Street(browser, portal, f"story-{request.node.callspec.id}")
        await browser.close()


@dataclass(slots=True)
class Asking:
    """A command at the server that waits for somebody at the portal."""

    process: asyncio.subprocess.Process
    code: str

    @classmethod
    async def begin(cls, server: Server, served: Served, word: str, *options: str) -> Asking:
        words = (word, "--online", served.url, *options, "--config", str(server.config))
        process = await asyncio.create_subprocess_exec(
            server.site.command,
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment(),
            cwd=server.site.directory,
        )
        assert process.stderr is not None
        said = ""
        async with asyncio.timeout(DEADLINE_S):
            while not (found := re.search(r"enter +(\S+)", said)):
                line = (await process.stderr.readline()).decode()
                assert line, f"it ended before it showed a code: {said}"
                said += line
        return cls(process, found[1])

    async def end(self) -> str:
        """Wait until it has what it asked for; gives what it printed."""
        async with asyncio.timeout(DEADLINE_S):
            out, error = await self.process.communicate()
        assert self.process.returncode == 0, (out, error)
        return out.decode()


async def test_a_registration_is_obtained_edited_lost_and_taken_over_and_every_shadow_follows(
    site: Site, street: Street
) -> None:
    ada = await street.administrator()
    irene = await street.integrator(ada)
    key = await _portal_key(irene)
    lead, shadows = _site_of_three(site)

    # Online: the server shows a code, the integrator registers it there, and it propagates.
    asking = await Asking.begin(lead, street.served, "register", "--portal-key", key)
    await irene.open(f"/device?user_code={asking.code}")
    await irene.sees(lead.status().json["server"]["system_id"])
    await irene.picture("server-asks")
    await irene.follow("Register it as a new system")
    await irene.fill_in_site()
    await irene.agree()
    await irene.press("Register")
    number = irene.number()
    await irene.picture("registered")
    assert "ublished as version" in await asking.end()
    assert lead.status().record["origin"] == "portal"
    _all_equal(lead, shadows, "Riverside House")

    # Edited at the portal, by the end-user who joined: it arrives without anyone typing.
    edgar = await _joins(street, irene, number)
    await edgar.open(f"/systems/{number}/edit")
    await edgar.fill({"Site or building name": "Riverside Tower"})
    await edgar.press("Save")
    _all_equal(lead, shadows, "Riverside Tower")
    registration = lead.record()["registration"]
    assert registration["accounts"]["end_user"]["email"] == "edgar@riverside.example"
    before = lead.status()

    # The database is deleted: a new System ID, which takes the registration over.
    _lose_database(lead, shadows)
    asking = await Asking.begin(lead, street.served, "associate", "--portal-key", key, "--yes")
    await irene.open(f"/device?user_code={asking.code}")
    await irene.follow("Associate it with a system")
    await irene.choose("Riverside Tower")
    await irene.picture("associate")
    await irene.press("Associate")
    await asking.end()
    _all_equal(lead, shadows, "Riverside Tower")
    after = lead.status()
    assert after.json["server"]["system_id"] != before.json["server"]["system_id"]
    assert _generation(after.record["version"]) > _generation(before.record["version"])
    assert lead.record()["registration"] == registration
    assert lead.history()[0]["event"] == "associated"
    assert number in lead.history()[0]["detail"]

    # Withdrawn by the administrator: shadows say so, and keep it readable.
    await ada.open(f"/systems/{number}/withdraw")
    await ada.press("Withdraw it")
    for shadow in shadows:
        shadow.wait_state("withdrawn")
        assert shadow.record()["registration"]["site"]["name"] == "Riverside Tower"


@pytest.mark.parametrize("portal", ["sqlite"], indirect=True)
async def test_without_a_network_a_code_registers_and_another_one_associates(site: Site, street: Street) -> None:
    irene = await street.integrator(await street.administrator())
    key = await _portal_key(irene)
    lead, shadows = _site_of_three(site)

    # Register offline: the System ID is typed at the portal, the Registration code at the server.
    first = _system_id(lead)
    number = await irene.register(first)
    await irene.follow("Registration code")
    await irene.press("Issue a Registration code")
    code = await _typed(irene)
    refused = shadows[0].ask("register", "--code", code, "--portal-key", key, "--yes")
    assert (refused.code, lead.id in refused.err) == (1, True), refused
    mistyped = lead.ask("register", "--code", code.replace(code[7], "Z" if code[7] != "Z" else "Y", 1), "--yes")
    assert (mistyped.code, "line 1, group" in mistyped.err) == (1, True), mistyped
    lead.do("register", "--code", code, "--portal-key", key, "--yes")
    assert lead.status().record["origin"] == "code"
    _all_equal(lead, shadows, "Riverside House")
    again = lead.ask("register", "--code", code, "--yes")
    assert (again.code, "already_used" in again.err) == (1, True), again
    before = lead.status().record["version"]

    # The database is deleted; the System Association page gives the new System ID a code of its own.
    _lose_database(lead, shadows)
    await irene.follow("System Association page")
    await irene.fill({"New System ID": _system_id(lead)})
    await irene.press("Proceed")
    await irene.choose("Riverside House")
    await irene.press("Associate")
    await irene.press("Issue a Registration code")
    old = lead.ask("associate", "--code", code, "--portal-key", key, "--yes")
    assert (old.code, "other_system" in old.err, first in old.err) == (1, True, True), old
    lead.do("associate", "--code", await _typed(irene), "--portal-key", key, "--yes")
    _all_equal(lead, shadows, "Riverside House")
    assert _generation(lead.status().record["version"]) > _generation(before)
    assert (lead.history()[0]["event"], number in lead.history()[0]["detail"]) == ("associated", True)


async def _typed(person: Person) -> str:
    """Type the Registration code that the page shows."""
    lines = person.page.get_by_role("list", name="Registration code, line by line").get_by_role("listitem")
    return "\n".join(await lines.all_inner_texts())


def _system_id(server: Server) -> str:
    return str(server.status().json["server"]["system_id"])


def _lose_database(lead: Server, shadows: list[Server]) -> None:
    """Delete the database of a lead, which has a new System ID from then on; its shadows notice."""
    lead.stop()
    for name in DATABASE:
        (lead.state_dir / name).unlink(missing_ok=True)
    lead.do("init", "--role", "lead", "--id", lead.id, "--state-dir", lead.state_dir)
    lead.start()
    for shadow in shadows:
        shadow.wait_state("lead_lost")


def _site_of_three(site: Site) -> tuple[Server, list[Server]]:
    lead, shadows = site.lead(), [site.shadow(name) for name in SHADOWS]
    lead.set("interval_s", "10")
    site.start(lead, *shadows)
    for shadow in shadows:
        site.attach(shadow, lead)
    return lead, shadows


def _all_equal(lead: Server, shadows: list[Server], name: str) -> None:
    """Every shadow holds what the lead holds, which is this."""
    eventually(lambda: _name(lead) == name, f"the lead has {name}")
    lead.wait_rows(**{shadow.id.replace("-", "_"): "in_sync" for shadow in shadows})
    assert {shadow.status().record["hash"] for shadow in shadows} == {lead.status().record["hash"]}


def _name(server: Server) -> str | None:
    registration = (server.status().json["record"] or {}).get("registration")
    return None if registration is None else str(registration["site"]["name"])


def _generation(version: str) -> tuple[int, int]:
    seq, generation, *_ = version.split(".")
    return int(seq), int(generation)


async def _portal_key(person: Person) -> str:
    """Read the thumbprint of the portal's key from its page, as an engineer would."""
    await person.open("/key")
    return await person.page.locator(".hint code").inner_text()


async def _joins(street: Street, irene: Person, number: str) -> Person:
    """Let the integrator invite the end-user, who gives both consents in person."""
    await irene.open(f"/systems/{number}/invite")
    await irene.fill({"Their e-mail address": "edgar@riverside.example"})
    await irene.press("Invite")
    edgar = await street.person("edgar")
    await edgar.open(await irene.link())
    await edgar.fill(
        {
            "Your name": "Edgar Owner",
            "Your company": "Riverside Estates Ltd",
            "Password": PASSWORD,
            "The same password again": PASSWORD,
        }
    )
    await edgar.agree()
    await edgar.press("Join")
    await edgar.log_on("edgar@riverside.example")
    return edgar
