"""A process of many real shadows: each agent with a state directory, database, keys and TLS connection of its own.

python -m tests.soak.shadows DIRECTORY DEVICE...
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import shadows
from benchmarks.site import KIND, Site
from propagator import log, settings
from propagator.config import Found

if TYPE_CHECKING:
    from propagator.settings import Settings

PROBE_INTERVAL_S = 10.0
"""A sixth of the usual: an outage of this site is as long as a wave of faults, not as long as a night."""


def settings_of(site: Site, device: str) -> Settings:
    table = {
        "state_dir": str(site.shadow_dir(device)),
        "server": {"id": device, "kind": KIND},
        "uplink": {"probe_interval_s": PROBE_INTERVAL_S},
    }
    return settings.load(Found(site.directory / f"{device}.toml", table, exists=True))


if __name__ == "__main__":
    log.configure("warning", "json")
    site = Site(Path(sys.argv[1]))
    asyncio.run(shadows.follow(settings_of(site, device) for device in sys.argv[2:]))
