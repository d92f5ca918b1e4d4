"""Services on a copy of this machine that a real systemd booted (tests/machine.py), installed as a package would."""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.machine import Machine, needed_by

if TYPE_CHECKING:
    from collections.abc import Iterator

UNITS: Final = Path(__file__).resolve().parents[2] / "systemd"
STATE: Final = Path("/var/lib/propagator")


def drop_in(unit: str) -> Path:
    """Where a unit's own settings stand on the machine."""
    return Path(f"/etc/systemd/system/{unit}.service.d/test.conf")


class Service:
    """The service on its machine."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def install(self, command: str, needed: tuple[Path, ...]) -> None:
        """Do what a package would do: commands, units and user; the checkout may lie where the units do not look."""
        lines = ["[Service]", "ProtectHome=tmpfs", *(f"BindReadOnlyPaths={path}" for path in needed)]
        for name in ("propagator", "propagator-fwstate"):
            self.machine.do("ln", "-s", Path(command).with_name(name), f"/usr/bin/{name}")
            self.machine.do("cp", UNITS / f"{name}.service", "/lib/systemd/system/")
            self.configure(*lines, unit=name)
        self.machine.do("systemd-sysusers", UNITS / "sysusers.d/propagator.conf")

    def configure(self, *lines: str, unit: str = "propagator") -> None:
        place = self.machine.path(drop_in(unit))
        place.parent.mkdir(parents=True, exist_ok=True)
        text = place.read_text() if place.exists() else ""
        place.write_text(text + "\n".join(lines) + "\n")
        self.machine.do("systemctl", "daemon-reload")

    def show(self, name: str, unit: str = "propagator") -> str:
        return self.machine.do("systemctl", "show", unit, f"--property={name}", "--value").strip()

    def journal(self, unit: str = "propagator") -> str:
        return self.machine.run("journalctl", f"--unit={unit}", "--no-pager", "--output=cat").out

    @property
    def processes(self) -> list[str]:
        """Give its processes, by the ids that they have outside."""
        group = self.machine.path("/sys/fs/cgroup/system.slice/propagator.service/cgroup.procs")
        return group.read_text().split() if group.exists() else []

    def start(self) -> None:
        said = self.machine.run("systemctl", "start", "propagator")
        assert said.code == 0, (said.err, self.show("StatusText"), self.journal())

    @property
    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.machine.run("propagator", "status", "--json").out))


@contextlib.contextmanager
def running(command: str) -> Iterator[Service]:
    """Make a lead's service as an operator would, with a strict umask, and start it."""
    needed = needed_by(command)
    with (
        tempfile.TemporaryDirectory(prefix="ps-") as directory,
        Machine(Path(directory), needed, boots=True) as machine,
    ):
        Path(directory).chmod(0o755)
        service = Service(machine)
        service.install(command, needed)
        machine.do("useradd", "--groups", "propagator", "alice")
        init = "umask 077; propagator init --role lead --id es-1 --listen [::]:8883"
        machine.do("bash", "-c", init)
        config = machine.path("/etc/propagator/propagator.toml")
        config.write_text(re.sub("(?m)^#? ?advertise = .*$", 'advertise = ["localhost"]', config.read_text()))
        service.start()
        yield service
