"""The helper's unit, held to systemd's own judgement; none of it needs a systemd that runs."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, Final

import pytest

from tests.acceptance.site import program
from tests.systemd.test_unit import EXPOSURE_LIMIT, UNITS

if TYPE_CHECKING:
    from pathlib import Path

SERVICE: Final = UNITS / "propagator-fwstate.service"


def _analyze(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [program("systemd-analyze", "systemd"), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_unit_verifies_without_a_warning(tmp_path: Path) -> None:
    """All but the path of the program, which is there only where the package is installed."""
    unit = tmp_path / SERVICE.name
    unit.write_text(SERVICE.read_text().replace("/usr/bin/propagator-fwstate", "/bin/true"))
    said = _analyze("verify", "--man=no", unit)
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")


def test_the_unit_is_hardened() -> None:
    said = _analyze("security", "--offline=true", f"--threshold={EXPOSURE_LIMIT}", "--no-pager", SERVICE)
    assert said.returncode == 0, said.stdout


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("Type", ["oneshot"]),
        ("ExecStart", ["/usr/bin/propagator-fwstate"]),  # no arguments
        ("CapabilityBoundingSet", ["CAP_NET_ADMIN CAP_NET_RAW"]),
        ("AmbientCapabilities", [""]),
        ("Group", ["propagator"]),
        ("UMask", ["0027"]),
        ("RuntimeDirectory", ["propagator"]),
        ("RuntimeDirectoryPreserve", ["yes"]),
        ("ProtectSystem", ["strict"]),
        ("IPAddressDeny", ["any"]),
        ("StandardInput", []),
        ("EnvironmentFile", []),
        ("WantedBy", []),  # never on its own
    ],
)
def test_the_unit_says(name: str, values: list[str]) -> None:
    assert re.findall(rf"(?m)^{name}=(.*)$", SERVICE.read_text()) == values


def test_its_deadline_leaves_each_tool_its_own() -> None:
    """Six texts, each with its deadline (propagator/firewall/listing.py)."""
    (deadline,) = re.findall(r"(?m)^TimeoutStartSec=(\d+)$", SERVICE.read_text())
    assert int(deadline) > 6 * 10
