"""The unit of the Registration Portal, held to systemd's own judgement."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

from tests.acceptance.site import program

SERVICE: Final = Path(__file__).resolve().parents[2] / "systemd" / "propagator-portal.service"

EXPOSURE_LIMIT: Final = 20
"""Tenths of systemd's exposure level, as for the agent's unit."""


def _analyze(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [program("systemd-analyze", "systemd"), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_unit_verifies_without_a_warning(tmp_path: Path) -> None:
    unit = tmp_path / SERVICE.name
    unit.write_text(SERVICE.read_text().replace("/usr/bin/propagator ", "/bin/true "))
    said = _analyze("verify", "--man=no", unit)
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")


def test_the_unit_is_hardened() -> None:
    said = _analyze("security", "--offline=true", f"--threshold={EXPOSURE_LIMIT}", "--no-pager", SERVICE)
    assert said.returncode == 0, said.stdout


def test_its_key_is_nobody_elses() -> None:
    settings = SERVICE.read_text().splitlines()
    assert {"DynamicUser=yes", "StateDirectory=propagator-portal", "StateDirectoryMode=0700", "UMask=0077"} <= set(
        settings
    )
