"""A portal that runs, and a browser in front of it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Final

import pytest
from playwright.async_api import async_playwright

from tests.portal.browser.people import Street
from tests.portal.browser.serving import Served, served

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

QUIET: Final = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    "--no-sandbox",
)
"""Chromium asks nobody but the portal, and runs as root, too."""


@pytest.fixture
def options() -> tuple[str, ...]:
    """Say how the portal is started; a file of tests may say more."""
    return ()


@pytest.fixture
def portal(tmp_path: Path, options: tuple[str, ...]) -> Iterator[Served]:
    with served(tmp_path / "portal", *options) as running:
        yield running


@pytest.fixture
async def street(portal: Served, request: pytest.FixtureRequest) -> AsyncIterator[Street]:
    """Where people come from, each with a browser."""
    chromium = shutil.which("chromium")
    assert chromium is not None, "there is no chromium here; apt-get install --no-install-recommends chromium"
    story = request.node.name.removeprefix("test_").replace("_", "-")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=list(QUIET))
        yield Street(browser, portal, story)
        await browser.close()
