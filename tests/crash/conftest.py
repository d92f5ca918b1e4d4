"""What the tests of crashes share: the command, one recorded life, and a folder in memory."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.acceptance.conftest import command, pytest_runtest_makereport
from tests.crash.live import Life
from tests.crash.recording import IN_MEMORY, record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.crash.recording import Recording

__all__ = ["command", "pytest_runtest_makereport"]

WANTED = "wanted"
"""A file in a recording that says that it is to be kept."""


@pytest.fixture(scope="session")
def recording() -> Iterator[Recording]:
    """One recorded life, for all scenarios. What a failed test names is kept."""
    folder = Path(tempfile.mkdtemp(prefix="crash-"))
    yield record(folder)
    if not (folder / WANTED).exists():
        shutil.rmtree(folder)


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory."""
    with tempfile.TemporaryDirectory(prefix="cj-", dir=IN_MEMORY) as folder:
        yield Path(folder)


@pytest.fixture
def life(command: str, recording: Recording) -> Iterator[Life]:
    """Real servers that begin where the recording stood."""
    with Life(command, recording) as begun:
        yield begun
