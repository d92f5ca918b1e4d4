"""What the acceptance tests share: the command under test, and a site for each test or for a file of them."""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.acceptance.site import LIVE, Site

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

_SHOWN_LINES = 12


@pytest.fixture(scope="session")
def command() -> str:
    """The installed command: $PROPAGATOR_COMMAND, else the one beside this Python."""
    found = os.environ.get("PROPAGATOR_COMMAND") or str(Path(sys.executable).with_name("propagator"))
    assert os.access(found, os.X_OK), f"the tests need the installed command {found}: make install"
    return found


@pytest.fixture(scope="session")
def settled(command: str) -> Iterator[Callable[[], Path]]:
    """A settled site, made when it is first asked for; tests work on copies of it."""
    with Site(command) as made:

        @cache
        def directory() -> Path:
            made.settle()
            return made.directory

        yield directory


@pytest.fixture
def site(command: str, settled: Callable[[], Path]) -> Iterator[Site]:
    """A site of one test."""
    with Site(command, settled) as made:
        yield made


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the ends of the agents' logs below a test that failed."""
    report = yield
    if report.failed:
        for site in LIVE:
            for server in site.servers.values():
                report.sections.append((f"log of {server.id}", "\n".join(server.lines()[-_SHOWN_LINES:])))
    return report
