"""The record's way: from the lead's store into the shadow's, and the report back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.unit.builders import registered

if TYPE_CHECKING:
    from tests.links.site import Site


async def test_registration_reaches_the_shadow_and_the_report_comes_back(site: Site) -> None:
    await site.enrol("device-1")
    async with site.leading() as lead, site.following("device-1") as shadow:
        version = await lead.register(registered("Riverside"))
        await site.in_sync("device-1", within_s=5)
        record = await shadow.record()
        assert (record.version, record.registration) == (version, registered("Riverside"))
        assert shadow.state == "in_sync"
