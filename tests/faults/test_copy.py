"""A device is copied, and both machines find the lead's own broker (F18); `test_stolen` has an operator's broker."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from tests.acceptance.site import Server, eventually
from tests.faults.link import between

if TYPE_CHECKING:
    from tests.acceptance.site import Site

ELSEWHERE = "127.0.0.2"


def copy_of(device: Server) -> Server:
    """Copy a device that is not started, as a cloned disk does."""
    copy = Server(device.site, device.id, device.role, "copy")
    shutil.copytree(device.state_dir, copy.state_dir)
    copy.config.write_text(device.config.read_text().replace(str(device.state_dir), str(copy.state_dir)))
    device.site.servers["copy"] = copy
    return copy


def test_f18_a_copy_of_a_device_is_named_with_the_addresses_of_both(site: Site) -> None:
    lead, _, device = site.settled()
    copy = copy_of(device)

    def addresses() -> set[str]:
        row = lead.status().row(device.id) or {}
        return set(row["addresses"] or []) if row["cloned"] else set()

    lead.start()
    assert (lead.status().row(device.id) or {})["addresses"] is None
    with between(copy, lead, ELSEWHERE):
        device.launch()
        copy.launch()
        eventually(lambda: addresses() == {"127.0.0.1", ELSEWHERE}, "the copy is named, and where both are")
        status = lead.status()
        assert status.code == 1
        assert f"Two machines answer as {device.id}, connected from 127.0.0." in status.problems
        assert ELSEWHERE in status.problems
        copy.kill()
    device.restart()
    site.attach(device, lead, "--again")
    eventually(lambda: (lead.status().row(device.id) or {})["addresses"] is None, "the new key is one machine's")
