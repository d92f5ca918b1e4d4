"""Readers alone, and whole agents: the fixtures of those are the acceptance tests'."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.acceptance.conftest import command, pytest_runtest_makereport
from tests.acceptance.site import Site
from tests.fuzz.victims import Victims

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["command", "pytest_runtest_makereport", "victims"]


@pytest.fixture(scope="session")
def victims(command: str) -> Iterator[Victims]:
    """The agents under fuzz: each test leaves them as it found them, for that is what it is about."""
    with Site(command) as site:
        yield Victims(site)
