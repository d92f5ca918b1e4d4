"""The files in systemd/, held to systemd's own judgement. None of it needs a systemd that runs."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, Final

import pytest

from propagator.core.ruleset import Source
from propagator.firewall import tool
from tests.acceptance.site import program
from tests.systemd.service import UNITS

if TYPE_CHECKING:
    from pathlib import Path

AGENT, HELPER, PORTAL = "propagator", "propagator-fwstate", "propagator-portal"

EXPOSURE_LIMIT: Final = 20
"""Tenths of systemd's exposure level, 0 to 100; up to 20 it says OK, a unit without any protection has 96."""


def _analyze(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [program("systemd-analyze", "systemd"), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _service(unit: str) -> Path:
    return UNITS / f"{unit}.service"


def _settings(unit: str, name: str) -> list[str]:
    return re.findall(rf"(?m)^{name}=(.*)$", _service(unit).read_text())


def test_these_are_all_units() -> None:
    assert {path.stem for path in UNITS.glob("*.service")} == {AGENT, HELPER, PORTAL}


each_unit = pytest.mark.parametrize("unit", [AGENT, HELPER, PORTAL])


@each_unit
def test_a_unit_verifies_without_a_warning(unit: str, tmp_path: Path) -> None:
    """All but the path of its program, which is there only where the package is installed."""
    (program_there,) = re.findall(r"(?m)^ExecStart=(\S+)", _service(unit).read_text())
    copy = tmp_path / _service(unit).name
    copy.write_text(_service(unit).read_text().replace(f"ExecStart={program_there}", "ExecStart=/bin/true"))
    said = _analyze("verify", "--man=no", copy)
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")


@each_unit
def test_a_unit_is_hardened(unit: str) -> None:
    said = _analyze("security", "--offline=true", f"--threshold={EXPOSURE_LIMIT}", "--no-pager", _service(unit))
    assert said.returncode == 0, said.stdout


def test_the_threshold_would_tell_a_unit_that_is_not(tmp_path: Path) -> None:
    bare = tmp_path / "bare.service"
    bare.write_text("[Service]\nExecStart=/bin/true\n")
    assert _analyze("security", "--offline=true", f"--threshold={EXPOSURE_LIMIT}", bare).returncode != 0


SAYS: Final = {
    AGENT: {
        "Type": ["notify"],
        "CapabilityBoundingSet": [""],
        "ProtectSystem": ["strict"],
        "StateDirectory": ["propagator"],
        "StateDirectoryMode": ["3770"],
        "UMask": ["0007"],
        "StartLimitIntervalSec": ["0"],
        "RestartPreventExitStatus": ["2"],
    },
    HELPER: {
        "Type": ["oneshot"],
        "ExecStart": ["/usr/bin/propagator-fwstate"],  # no arguments
        "CapabilityBoundingSet": ["CAP_NET_ADMIN CAP_NET_RAW"],
        "AmbientCapabilities": [""],
        "Group": ["propagator"],
        "UMask": ["0027"],
        "RuntimeDirectory": ["propagator"],
        "RuntimeDirectoryPreserve": ["yes"],
        "ProtectSystem": ["strict"],
        "IPAddressDeny": ["any"],
        "StandardInput": [],
        "EnvironmentFile": [],
        "WantedBy": [],  # never on its own
    },
    PORTAL: {  # its key is nobody else's
        "DynamicUser": ["yes"],
        "StateDirectory": ["propagator-portal"],
        "StateDirectoryMode": ["0700"],
        "UMask": ["0077"],
    },
}


@pytest.mark.parametrize(
    ("unit", "name", "values"),
    [(unit, name, values) for unit, says in SAYS.items() for name, values in says.items()],
)
def test_a_unit_says(unit: str, name: str, values: list[str]) -> None:
    assert _settings(unit, name) == values


def test_the_watchdog_waits_longer_than_any_answer_of_the_agent() -> None:
    """POLL_S, a transaction that waits for a command (5 s) and a slow disk have to fit in half of it."""
    assert int(_settings(AGENT, "WatchdogSec")[0]) >= 30


def test_the_helpers_deadline_leaves_each_tool_its_own() -> None:
    """Those that list rules, and `conntrack` for both families."""
    assert int(_settings(HELPER, "TimeoutStartSec")[0]) > (len(Source) + 2) * tool.DEADLINE_S


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
