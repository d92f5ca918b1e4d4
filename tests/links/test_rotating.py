"""`rotate` beside an agent: two processes, one database, and the key files beside it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from propagator import keys, rotate
from propagator.core.signing import open_envelope
from tests.links.site import LEAD, current, opened
from tests.store.contents import AT

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    import pytest

    from propagator.keys import LeadKeys
    from tests.links.site import Site


async def test_f02_agent_that_starts_in_the_midst_of_a_rotation_does_not_take_its_key_for_a_forgotten_one(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the new record would be signed by a key that is gone, and all that follows would be refused."""
    state_dir = site.directory / LEAD
    starting: list[asyncio.Task[None]] = []
    make = keys.next_lead_keys

    async with opened(state_dir) as agent, opened(state_dir) as command:

        def make_and_start(where: Path, now: LeadKeys, devices: Collection[str]) -> LeadKeys:
            renewed = make(where, now, devices)
            starting.append(asyncio.create_task(rotate.finish(agent, where)))
            return renewed

        monkeypatch.setattr(keys, "next_lead_keys", make_and_start)
        version = await rotate.rotate(command, state_dir, at=AT)
        await asyncio.gather(*starting)
        issue = await current(agent)
    lead_keys = keys.load_lead_keys(state_dir)
    assert issue is not None
    assert issue.version == version
    assert (lead_keys.seq, lead_keys.signing.thumbprint) == (2, open_envelope(issue.raw).kid)  # type: ignore[union-attr]


async def test_f32_key_of_a_rotation_that_was_cut_short_is_taken_over_or_forgotten(site: Site) -> None:
    """Its record decides: stored, the key is the present one; not stored, it never was."""
    state_dir = site.directory / LEAD
    async with opened(state_dir) as store:
        keys.next_lead_keys(state_dir, keys.load_lead_keys(state_dir), ())
        await rotate.finish(store, state_dir)
        assert keys.load_lead_keys(state_dir).seq == 1
        await rotate.rotate(store, state_dir, at=AT)
        assert keys.load_lead_keys(state_dir).seq == 2
    assert not list((state_dir / "keys").glob("*.next"))
