"""The unit, started by a real systemd with its real filters, on a copy of this machine (tests/machine.py).

What cannot be reckoned from the unit's text is tried: that the Python, its extension modules (cffi, cryptography,
pydantic's core), Mosquitto and setpriv live under the filter of system calls and without writable code.
"""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.acceptance.site import EXAMPLE, eventually
from tests.machine import KILLED
from tests.systemd.service import STATE, UNITS, drop_in

if TYPE_CHECKING:
    from tests.systemd.service import Service


def test_a_start_ends_when_the_record_is_out(service: Service) -> None:
    assert "lead.record_announced" in service.journal()
    assert service.show("ActiveState") == "active"
    assert service.show("StatusText") == "lead: downlink ok, connected"


def test_its_state_is_its_own_and_shared_with_its_group(service: Service) -> None:
    said = service.machine.do("stat", "--format=%n %A %U:%G", STATE, *(STATE / name for name in _PLACES))
    assert [line.split("/")[-1] for line in said.splitlines()] == [
        "propagator drwxrws--T propagator:propagator",
        "keys drwx------ propagator:propagator",
        "broker drwx------ propagator:propagator",
        "propagator.db -rw-rw---- propagator:propagator",
        "propagator.db-wal -rw-rw---- propagator:propagator",
        "control.sock srw-rw---- propagator:propagator",
    ]


_PLACES = ("keys", "broker", "propagator.db", "propagator.db-wal", "control.sock")


def test_agent_and_broker_run_confined_and_without_privileges(service: Service) -> None:
    assert len(service.processes) == 2  # the agent, and Mosquitto: setpriv became it
    for process in service.processes:
        said = Path(f"/proc/{process}/status").read_text()
        told = dict(line.split(":\t", 1) for line in said.splitlines() if ":\t" in line)
        assert (told["NoNewPrivs"], told["Seccomp"]) == ("1", "2")
        assert (told["CapEff"], told["CapBnd"]) == ("0" * 16, "0" * 16)


def test_an_operator_registers_and_the_service_publishes(service: Service) -> None:
    file = service.machine.directory / "registration.toml"
    file.write_text(EXAMPLE)
    said = service.machine.run("propagator", "register", file, user="alice")
    assert (said.code, said.out.splitlines()[-1]) == (0, "Saved; not yet published.")
    file.write_text(EXAMPLE.replace("12 Quay", "13 Quay"))
    said = service.machine.run("propagator", "register", file)
    assert said.code == 0
    assert said.out.splitlines()[-1].startswith("Saved and published as version 1.")
    assert service.status["record"]["pending"] is False


def test_devices_connect_to_the_broker_that_it_started(service: Service) -> None:
    asked = "import socket; socket.create_connection(('127.0.0.1', 8883), 5)"
    assert service.machine.run("/usr/bin/python3", "-c", asked).code == 0


def test_a_device_follows_it_in_a_service_of_its_own(service: Service) -> None:
    """The other half under the same filters: it looks a name up, verifies TLS, attaches, stores, reports."""
    machine = service.machine
    unit = (UNITS / "propagator.service").read_text().replace("StateDirectory=propagator", "StateDirectory=device")
    machine.path("/etc/systemd/system/device.service").write_text(unit)
    place = machine.path(drop_in("device"))
    place.parent.mkdir()
    place.write_text(
        f"{machine.path(drop_in('propagator')).read_text()}Environment=PROPAGATOR_CONFIG=/etc/propagator/device.toml\n"
    )
    machine.do("systemctl", "daemon-reload")
    config = ("--config", "/etc/propagator/device.toml")
    machine.do("propagator", "init", "--role", "shadow", "--id", "as-1", "--state-dir", "/var/lib/device", *config)
    machine.do("systemctl", "start", "device")
    assert service.show("StatusText", "device") == "shadow: uplink unattached"
    token = machine.do("propagator", "invite", "as-1")
    said = machine.run("propagator", "attach", "-", "--yes", *config, stdin=token)
    assert said.code == 0, (said, service.journal("device"))
    machine.do("systemctl", "restart", "device")
    assert service.show("StatusText", "device") == "shadow: uplink in_sync, connected"
    assert eventually(lambda: service.status["downlink"]["shadows"]["in_sync"] == 1, "the lead has its report")
    machine.do("systemctl", "stop", "device")


@pytest.mark.usefixtures("protected_regular")
def test_f32_a_log_that_a_killed_operator_left_does_not_lock_the_service_out(service: Service) -> None:
    service.machine.do("systemctl", "stop", "propagator")
    killed = service.machine.run("/usr/bin/python3", "-c", KILLED, STATE / "propagator.db", user="alice")
    assert killed.code == -signal.SIGKILL
    assert service.machine.do("stat", "--format=%U", STATE / "propagator.db-wal") == "alice\n"
    service.start()
    assert service.machine.do("stat", "--format=%U", STATE / "propagator.db-wal") == "propagator\n"
    assert service.show("NRestarts") == "0"


def test_nothing_was_forbidden_that_it_needs(service: Service) -> None:
    """EPERM of the filter would show as an error or a warning of the agent or of its broker."""
    lines = [json.loads(line) for line in service.journal().splitlines() if line.startswith("{")]
    assert lines
    assert [line for line in lines if line["level"] not in {"info", "debug"}] == []


def test_an_agent_that_hangs_is_started_again(service: Service) -> None:
    service.configure("WatchdogSec=2", "TimeoutAbortSec=1", "RestartSec=100ms")
    service.machine.do("systemctl", "restart", "propagator")
    first = service.show("MainPID")
    service.machine.do("kill", "-STOP", first)
    eventually(lambda: service.show("NRestarts") == "1", "systemd starts it again")
    eventually(lambda: service.show("ActiveState") == "active", "it is ready again")
    assert service.show("MainPID") != first
    assert service.show("StatusText") == "lead: downlink ok, connected"


def test_a_stop_ends_it_well_and_leaves_nothing(service: Service) -> None:
    service.machine.do("systemctl", "stop", "propagator")
    assert (service.show("ActiveState"), service.show("Result")) == ("inactive", "success")
    assert service.processes == []
    service.start()


def test_a_wrong_configuration_is_not_tried_again_and_again(service: Service) -> None:
    config = service.machine.path("/etc/propagator/propagator.toml")
    text = config.read_text()
    config.write_text(f"typo = 1\n{text}")
    try:
        service.machine.do("systemctl", "stop", "propagator")
        assert service.machine.run("systemctl", "start", "propagator").code == 1
        assert service.show("ActiveState") == "failed"
        assert service.show("ExecMainStatus") == "2"
    finally:
        config.write_text(text)
        service.start()
