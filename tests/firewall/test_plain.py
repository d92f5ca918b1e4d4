"""The case `tls-wanted` of FIREWALL.md §2: the real lead's port wants TLS, and a device speaks without."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from tests.firewall.cases import CASES
from tests.firewall.lab import Lab, interpreter
from tests.firewall.room import LEAD, SHADOW_STATE

_HERE: Final = Path(__file__).parent


def test_tls_wanted_is_said_of_the_real_lead(site_files: bytes) -> None:
    case = CASES["tls-wanted"]
    with Lab(case.topology, site_files) as lab:
        case.make(lab)
        said = lab.run("shadow", interpreter(), _HERE / "plain.py", SHADOW_STATE, user="shadow")
    verdict = json.loads(said)["verdict"]
    assert (verdict["code"], verdict["confidence"], verdict["address"]) == (*case.alone, LEAD)
    assert verdict["side"] == "this server"
