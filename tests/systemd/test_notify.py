"""What a real agent tells its service manager, on a real socket (sd_notify(3))."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from propagator import config
from tests.acceptance.site import Site, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.acceptance.site import Server

LONG_USEC: Final = 3_600_000_000


@dataclass
class Manager:
    """A service manager that only listens."""

    address: str
    socket: socket.socket
    monkeypatch: pytest.MonkeyPatch
    told: list[tuple[float, str]] = field(default_factory=list)

    def start(self, server: Server, watchdog_usec: int = LONG_USEC) -> None:
        """Start an agent as the manager's own, and only that one."""
        with self.monkeypatch.context() as patch:
            patch.setenv("NOTIFY_SOCKET", self.address)
            patch.setenv("WATCHDOG_USEC", str(watchdog_usec))
            server.launch()

    def hear(self) -> list[str]:
        """Give every word so far."""
        with contextlib.suppress(BlockingIOError):
            while True:
                said = self.socket.recv(4096).decode()
                self.told += [(time.monotonic(), word) for word in said.split("\n")]
        return [word for _, word in self.told]

    def wait(self, word: str) -> None:
        eventually(lambda: word in self.hear(), f"the manager hears {word}; it heard {self.told}")

    @property
    def status(self) -> str:
        return [word for word in self.hear() if word.startswith("STATUS=")][-1].removeprefix("STATUS=")

    def times(self, word: str) -> list[float]:
        self.hear()
        return [at for at, said in self.told if said == word]


@pytest.fixture(params=["path", "abstract"])
def address(request: pytest.FixtureRequest, site: Site) -> str:
    name = str(site.directory / "notify")
    return name if request.param == "path" else f"@{name}"


def _listening(address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as listener:
        listener.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        yield Manager(address, listener, monkeypatch)


@pytest.fixture
def manager(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    yield from _listening(str(site.directory / "notify"), monkeypatch)


def test_a_lead_is_ready_once_its_record_is_out_and_says_goodbye(
    site: Site, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lead = site.lead()
    for manager in _listening(address, monkeypatch):
        manager.start(lead)
        manager.wait("READY=1")
        assert lead.events("lead.record_announced")
        assert manager.status == "lead: downlink ok, connected"
        lead.stop()
        assert manager.hear()[-2] == "STOPPING=1"
        assert manager.hear().count("READY=1") == 1


def test_a_lead_that_is_paused_is_ready_without_a_record_out(site: Site, manager: Manager) -> None:
    lead = site.lead()
    lead.set("paused", "true")
    manager.start(lead)
    manager.wait("READY=1")
    assert not lead.events("lead.record_announced")
    assert manager.status == "lead: downlink paused, connected"


def test_f07_a_lead_that_lost_its_database_is_ready_and_says_so(site: Site, manager: Manager) -> None:
    lead = site.lead()
    (lead.state_dir / "propagator.db").unlink()
    lead.config.rename(lead.config.with_suffix(".old"))
    words = ("--id", lead.id, "--state-dir", lead.state_dir, "--listen", f"127.0.0.1:{site.port()}")
    lead.do("init", "--role", "lead", *words)
    manager.start(lead)
    manager.wait("READY=1")
    assert manager.status == "lead: downlink lost, connected"


def test_a_lead_whose_broker_is_away_is_ready_after_three_tries(site: Site, manager: Manager) -> None:
    broker = site.broker()
    lead = site.server("es-1", "lead", broker=broker)
    broker.end()
    manager.start(lead)
    manager.wait("READY=1")
    assert len(lead.events("lead.connection_lost")) >= 3
    assert manager.status == "lead: downlink ok, not connected"


def test_a_server_that_stands_alone_is_ready_at_once(site: Site, manager: Manager) -> None:
    manager.start(site.server("as-1", "standalone"))
    manager.wait("READY=1")
    assert manager.status == "standalone: no links"
    assert not any(word.startswith("EXTEND") for word in manager.hear())


def test_a_shadow_that_is_not_attached_is_ready_at_once(site: Site, manager: Manager) -> None:
    manager.start(site.shadow())
    manager.wait("READY=1")
    assert manager.status == "shadow: uplink unattached"


def test_a_shadow_is_ready_once_it_decided_on_the_record_and_not_by_remembering(site: Site, manager: Manager) -> None:
    lead, shadow, _ = site.settled()
    lead.start()
    manager.start(shadow)
    manager.wait("READY=1")
    assert manager.status == "shadow: uplink in_sync, connected"
    assert shadow.events("shadow.connected")


def test_a_shadow_whose_lead_is_away_is_ready_after_three_failed_probes(site: Site, manager: Manager) -> None:
    """It holds the record and could say so at once, but not yet how the link stands; meanwhile it asks for time."""
    _, shadow, _ = site.settled()
    manager.start(shadow)
    manager.wait("READY=1")
    assert len(shadow.events("shadow.connection_lost")) == 3
    assert manager.status == "shadow: uplink unreachable, not connected"
    assert "EXTEND_TIMEOUT_USEC=30000000" in manager.hear()


def test_a_relay_is_ready_with_the_first_of_its_links(site: Site, manager: Manager) -> None:
    relay = site.server("es-2", "relay")
    manager.start(relay)
    manager.wait("READY=1")
    assert relay.events("lead.record_announced")
    assert manager.status == "relay: downlink ok, connected; uplink unattached"


def test_the_watchdog_hears_twice_a_period_and_nothing_from_an_agent_that_hangs(site: Site, manager: Manager) -> None:
    server = site.server("as-1", "standalone")
    manager.start(server, watchdog_usec=1_000_000)
    eventually(lambda: len(manager.times("WATCHDOG=1")) >= 6, "it says six times that it lives")
    times = manager.times("WATCHDOG=1")
    between_s = sorted(later - earlier for earlier, later in itertools.pairwise(times))
    assert 0.3 < between_s[len(between_s) // 2] < 0.7
    assert server.agent is not None
    server.agent.send(signal.SIGSTOP)
    time.sleep(0.1)  # what was on its way
    silent_since = len(manager.times("WATCHDOG=1"))
    time.sleep(1.5)
    assert len(manager.times("WATCHDOG=1")) == silent_since
    server.agent.send(signal.SIGCONT)
    eventually(lambda: len(manager.times("WATCHDOG=1")) > silent_since, "it lives again")


def test_a_manager_that_went_away_is_no_reason_to_end(site: Site, manager: Manager) -> None:
    server = site.server("as-1", "standalone")
    manager.start(server, watchdog_usec=200_000)
    manager.wait("READY=1")
    manager.socket.close()
    eventually(lambda: server.events("notify.failed"), "it is noticed")
    assert server.is_running
    time.sleep(0.5)
    assert len(server.events("notify.failed")) == 1
    server.stop()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        pytest.param({}, None, id="no manager"),
        pytest.param({"NOTIFY_SOCKET": ""}, None, id="an empty socket"),
        pytest.param({"NOTIFY_SOCKET": "vsock:2:1"}, None, id="a socket of another kind"),
        pytest.param({"NOTIFY_SOCKET": "/run/n"}, ("/run/n", None), id="no watchdog"),
        pytest.param({"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "60000000"}, ("@n", 60.0), id="a watchdog"),
        pytest.param(
            {"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(os.getpid())},
            ("/run/n", 1.0),
            id="a watchdog of this process",
        ),
        pytest.param(
            {"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"},
            ("/run/n", None),
            id="a watchdog of another process",
        ),
        *(
            pytest.param({"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": period}, ("/run/n", None), id=f"a period {name}")
            for name, period in {"of nought": "0", "below": "-1", "of text": "x", "of 5,000 digits": "9" * 5000}.items()
        ),
    ],
)
def test_config_reads_what_the_manager_wants(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: tuple[str, float | None] | None
) -> None:
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert config.service() == expected


def test_the_broker_does_not_inherit_the_managers_socket(site: Site, manager: Manager) -> None:
    lead = site.lead()
    manager.start(lead)
    manager.wait("READY=1")
    assert lead.broker_pid()
    environment = _environment_of(lead.broker_pid())
    assert not any(name.startswith(("NOTIFY_", "WATCHDOG_")) for name in environment)


def _environment_of(pid: int) -> list[str]:
    return [word.decode() for word in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")]
