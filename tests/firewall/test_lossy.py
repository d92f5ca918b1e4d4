"""Real agents over a way that loses three packets of ten, both ways (F31): it takes longer, and nothing else."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.acceptance.site import EXAMPLE, eventually
from tests.firewall.case import chain
from tests.firewall.lab import Lab, propagator
from tests.firewall.room import LEAD_CONFIG, SHADOW_CONFIG, SITE

if TYPE_CHECKING:
    from typing import Any

PATIENCE_S = 120.0
"""For a TLS handshake of which every packet has to come through, and to be acknowledged."""


def test_f31_a_way_that_loses_three_packets_of_ten_delivers_every_change_in_the_end(site_files: bytes) -> None:
    with Lab("routed", site_files) as lab:
        lab.serve()
        lab.start("shadow", propagator(), "run", "--config", SHADOW_CONFIG, user="shadow")
        chain(lab, "r1", "forward", "meta l4proto tcp numgen inc mod 10 { 0, 4, 7 } counter drop")
        for number in range(3):
            lab.write(SITE / "registration.toml", EXAMPLE.replace("Riverside House", f"House {number}"))
            lab.run("lead", propagator(), "register", SITE / "registration.toml", "--config", LEAD_CONFIG)
            eventually(lambda number=number: name(lab) == f"House {number}", "it arrives", PATIENCE_S)  # type: ignore[misc]
        eventually(lambda: row(lab)["state"] == "in_sync", "and the report of it", PATIENCE_S)
        (dropped,) = re.findall(r"counter packets (\d+)", lab.sh("r1", "nft list ruleset"))
        assert int(dropped) > 20


def name(lab: Lab) -> str:
    said = lab.ask("shadow", propagator(), "record", "--json", "--config", SHADOW_CONFIG, user="shadow")
    return str(said.json["registration"]["site"]["name"])


def row(lab: Lab) -> dict[str, Any]:
    said = lab.ask("lead", propagator(), "status", "--json", "--config", LEAD_CONFIG)
    return dict(said.json["downlink"]["roster"][0])
