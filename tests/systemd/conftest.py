"""What the tests of systemd share: whole servers, for what it is told of them, and one that it runs itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.acceptance.conftest import command, settled, site
from tests.machine import protected_regular
from tests.systemd.service import running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.systemd.service import Service

__all__ = ["command", "protected_regular", "service", "settled", "site"]


@pytest.fixture(scope="module")
def service(command: str) -> Iterator[Service]:
    """A lead's service that runs, on a machine of this file's own."""
    with running(command) as made:
        yield made
