"""Stores of real servers, in a directory of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest_asyncio

from tests.store.contents import ES, opened_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from propagator.store import Store


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """The store of `device-1`, which follows nobody yet."""
    async with opened_for(tmp_path) as opened:
        yield opened


@pytest_asyncio.fixture
async def lead_store(tmp_path: Path) -> AsyncIterator[Store]:
    """The store of the lead `es-1`, without a downlink yet."""
    async with opened_for(tmp_path / "lead", ES) as opened:
        yield opened
