"""A forgotten password: from the log on page to a mail, and from the mail to a new password."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import pytest

from tests.portal.postbox import Postbox, receiving
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.portal.browser.people import Person, Street

NEW = "nine lanterns by the mill"


@pytest.fixture
async def postbox() -> Postbox:
    return Postbox()


@pytest.fixture
def options(postbox: Postbox, tmp_path: Path) -> Iterator[tuple[str, ...]]:
    """Let the portal send its mails to `postbox`."""
    port, settings = free_port(), tmp_path / "portal.toml"
    settings.write_text(f'[mail]\nserver = "127.0.0.1:{port}"\nsender = "portal@portal.example"\nsecurity = "none"\n')
    with receiving(postbox, port):
        yield ("--config", str(settings))


async def _mail(postbox: Postbox, subject: str) -> str:
    """Wait for a mail; give its text."""
    async with asyncio.timeout(30):
        while True:
            await postbox.came.acquire()
            if postbox.mails[-1]["subject"] == subject:
                body = postbox.mails[-1].get_body()
                assert body is not None
                return str(body.get_content())


async def _ask(person: Person, email: str) -> None:
    await person.open("/log-on")
    await person.follow("Forgot your password?")
    await person.is_at("Forgot your password?")
    await person.fill({"E-mail address": email})
    await person.press("Send the link")
    await person.is_at("Log on")
    await person.sees("If this address has an account here, a link to choose a new password is on its way to it.")


async def test_a_forgotten_password_is_replaced_by_a_link_that_is_mailed(street: Street, postbox: Postbox) -> None:
    irene = await street.integrator(await street.administrator())
    await irene.press("Log off")
    elsewhere = await street.person("irene-elsewhere")
    await elsewhere.log_on("irene@harbour.example")

    await irene.open("/log-on")
    await irene.fits("log-on")
    await irene.follow("Forgot your password?")
    await irene.fits("ask")
    await irene.press("Send the link")
    await irene.is_told("E-mail address is empty")
    await irene.fits("nothing-entered")
    await _ask(irene, "nobody@harbour.example")
    await irene.picture("answer-to-a-stranger")
    await _ask(irene, "Irene@Harbour.example")
    await irene.picture("answer")

    link = re.search(r"http://\S+(/link/\S+)", await _mail(postbox, "A new password"))
    assert link is not None
    await irene.open(link[1])
    await irene.fits("choose")
    await irene.fill({"Password": NEW, "The same password again": NEW})
    await irene.press("Set the password")
    await irene.sees("Your password is set.")
    await irene.log_on("irene@harbour.example", NEW)
    await elsewhere.open("/systems")
    await elsewhere.is_at("Log on")
    assert "Was it not you?" in await _mail(postbox, "Your password was changed")
    await irene.open(link[1])
    await irene.is_at("Not found")
    await irene.picture("link-used")


async def test_who_asks_again_and_again_is_told_to_wait(street: Street) -> None:
    someone = await street.person("someone")
    for _ in range(3):
        await _ask(someone, "someone@harbour.example")
    await someone.open("/forgotten-password")
    await someone.fill({"E-mail address": "someone@harbour.example"})
    await someone.press("Send the link")
    await someone.is_told("Too many tries. Wait")
    await someone.picture("too-many")
