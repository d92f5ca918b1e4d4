"""Lead and shadows in one process: the real code over a broker in memory, real stores, virtual time."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.links.site import LEAD, Site
from tests.memory_bus import MemoryBroker
from tests.virtual_time import VirtualLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run every test of this folder in virtual time."""
    return {"virtual": VirtualLoop}


@pytest.fixture(scope="session")
def born(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state of a lead right after its `init`, to be copied: keys and a certificate take their time."""
    directory = tmp_path_factory.mktemp("born")

    async def make() -> None:
        await Site(directory, MemoryBroker()).begin_lead()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(make())
    return directory / LEAD


@pytest.fixture
def site(tmp_path: Path, born: Path) -> Site:
    """A broker without rules, and the lead es-1 after its `init`."""
    shutil.copytree(born, tmp_path / LEAD)
    return Site(tmp_path, MemoryBroker())
