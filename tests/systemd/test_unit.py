"""The files in systemd/, held to systemd's own judgement. None of it needs a systemd that runs."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.acceptance.site import program

UNITS: Final = Path(__file__).resolve().parents[2] / "systemd"
SERVICE: Final = UNITS / "propagator.service"

EXPOSURE_LIMIT: Final = 20
"""Tenths of systemd's exposure level, 0 to 100; up to 20 it says OK, a unit without any protection has 96."""


def _analyze(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [program("systemd-analyze", "systemd"), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _settings() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"(?m)^(\w+)=(.*)$", SERVICE.read_text()):
        found.setdefault(name, []).append(value)
    return found


def test_the_unit_verifies_without_a_warning(tmp_path: Path) -> None:
    """All but the path of the command, which is there only where the package is installed."""
    unit = tmp_path / SERVICE.name
    unit.write_text(SERVICE.read_text().replace("/usr/bin/propagator ", "/bin/true "))
    said = _analyze("verify", "--man=no", unit)
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")


def test_the_unit_is_hardened() -> None:
    said = _analyze("security", "--offline=true", f"--threshold={EXPOSURE_LIMIT}", "--no-pager", SERVICE)
    assert said.returncode == 0, said.stdout


def test_the_threshold_would_tell_a_unit_that_is_not(tmp_path: Path) -> None:
    bare = tmp_path / SERVICE.name
    bare.write_text("[Service]\nExecStart=/bin/true\n")
    assert _analyze("security", "--offline=true", f"--threshold={EXPOSURE_LIMIT}", bare).returncode != 0


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("Type", ["notify"]),
        ("CapabilityBoundingSet", [""]),
        ("ProtectSystem", ["strict"]),
        ("StateDirectory", ["propagator"]),
        ("StateDirectoryMode", ["3770"]),
        ("UMask", ["0007"]),
        ("StartLimitIntervalSec", ["0"]),
        ("RestartPreventExitStatus", ["2"]),
    ],
)
def test_the_unit_says(name: str, values: list[str]) -> None:
    assert _settings()[name] == values


def test_the_watchdog_waits_longer_than_any_answer_of_the_agent() -> None:
    """POLL_S, a transaction that waits for a command (5 s) and a slow disk have to fit in half of it."""
    assert int(_settings()["WatchdogSec"][0]) >= 30


def test_sysusers_makes_user_and_group_of_one_name(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    conf = UNITS / "sysusers.d/propagator.conf"
    made = subprocess.run(
        [program("systemd-sysusers", "systemd"), f"--root={tmp_path}", "--replace=/usr/lib/sysusers.d/x.conf", "-"],
        input=conf.read_text(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    user = next(line for line in (tmp_path / "etc/passwd").read_text().splitlines() if line.startswith("propagator:"))
    group = next(line for line in (tmp_path / "etc/group").read_text().splitlines() if line.startswith("propagator:"))
    _, _, _, gid, _, home, shell = user.split(":")
    assert gid == group.split(":")[2]
    assert home == "/var/lib/propagator"
    assert shell.endswith("nologin")
