"""The site that every lab holds a copy of: a registered lead and an attached shadow, made once in a healthy lab.

Paths, addresses and names are the same in all labs, so a copy is a tar file, and the certificate holds.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.acceptance.site import EXAMPLE, eventually
from tests.firewall.lab import Lab, propagator
from tests.firewall.room import (
    LEAD,
    LEAD6,
    LEAD_CONFIG,
    LEAD_STATE,
    LEAD_USER,
    NAME,
    SHADOW_CONFIG,
    SHADOW_STATE,
    SITE,
    WAYS,
)

if TYPE_CHECKING:
    from pathlib import Path


def make_site() -> bytes:
    """Make lead and shadow as their operators would, let the record arrive, and give their directory as tar."""
    with Lab() as lab:
        lab.write(SITE / "registration.toml", EXAMPLE)
        _begin(lab, "lead", "es-1", LEAD_CONFIG, LEAD_STATE)
        lab.configure(LEAD_CONFIG, "advertise", json.dumps([NAME, LEAD, LEAD6]))
        lab.configure(LEAD_CONFIG, "heartbeat_s", "1")
        lab.run("lead", propagator(), "register", SITE / "registration.toml", "--config", LEAD_CONFIG)
        _begin(lab, "shadow", "as-1", SHADOW_CONFIG, SHADOW_STATE)
        lab.run("lead", "chown", "-R", f"{LEAD_USER}:{LEAD_USER}", LEAD_STATE)
        lab.run("lead", "chown", "-R", "65534:65534", SHADOW_STATE)
        lead = lab.serve()
        token = lab.run("lead", propagator(), "invite", "as-1", "--config", LEAD_CONFIG, user="lead")
        attach = (propagator(), "attach", "-", "--yes", "--config", SHADOW_CONFIG)
        lab.run("shadow", *attach, user="shadow", stdin=token.encode())
        shadow = lab.start("shadow", propagator(), "run", "--config", SHADOW_CONFIG, user="shadow")
        eventually(lambda: _is_in_sync(lab), "the shadow is in sync")
        shadow.stop()
        lab.path(WAYS).unlink(missing_ok=True)  # it depends on chance how early that is drawn
        lead.stop()
        lab.dial(NAME)
        held = ("lead", "shadow", LEAD_CONFIG.name, SHADOW_CONFIG.name)
        lab.run("lead", "tar", "-cpf", "/tmp/site.tar", "-C", SITE, *held)
        return lab.path("/tmp/site.tar").read_bytes()


def _begin(lab: Lab, role: str, server_id: str, config: Path, state: Path) -> None:
    who = ("--role", role, "--id", server_id)
    lab.run("lead", propagator(), "init", *who, "--state-dir", state, "--config", config)


def _is_in_sync(lab: Lab) -> bool:
    said = lab.ask("shadow", propagator(), "status", "--json", "--config", SHADOW_CONFIG, user="shadow")
    return bool((said.json["uplink"] or {}).get("state") == "in_sync")
