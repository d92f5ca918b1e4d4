"""A lead and a shadow that run, a broker without topic rules, and a bound device, whose key the fuzzer has."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from propagator import keys
from propagator.bus import Endpoint, MqttBus, Tls
from propagator.core.signing import PrivateKey
from tests.acceptance.site import Server, Site, eventually

ROOT: Final = "propagator/1/es-1"
UNMOVED: Final = {
    "es-1": ("SELECT * FROM issue", "SELECT * FROM record", "SELECT current, lives, life, state FROM downlink"),
    "as-1": ("SELECT * FROM floor", "SELECT * FROM record", "SELECT identity, seq, lowest FROM trust"),
}
"""What nobody may move but the lead: its issues, and at the shadow the record in force, the floor and the trust."""

ROSTER: Final = (
    "SELECT id, key, serial, revoked_at, cloned, report ->> 'version', report ->> 'hash', report -> 'floor'"
    " FROM member WHERE id = 'as-1'"
)


class Stolen:
    """A device key, to sign as the device does, and to sign what no device would."""

    def __init__(self, pem: bytes) -> None:
        loaded = load_pem_private_key(pem, None)
        assert isinstance(loaded, Ed25519PrivateKey)
        self.key = PrivateKey.from_pem(pem)
        self.keys = {self.key.thumbprint: loaded}


class Victims:
    """The site, settled, and what it held before it was fuzzed."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.broker = site.broker()
        self.lead = site.lead(broker=self.broker)
        self.shadow, self.thief = site.shadow("as-1"), site.shadow("as-2")
        self.probe_port = site.port()
        self.shadow.set("probe_listen", f'"127.0.0.1:{self.probe_port}"')
        self.lead.register(site.registration("Riverside House"))
        site.start(self.lead, self.shadow)
        for device in (self.shadow, self.thief):
            site.attach(device, self.lead, broker=self.broker)
        self.lead.wait_rows(as_1="in_sync")
        self.agents: Final = (self.lead, self.shadow)
        self.begun = {server.id: self._pid(server) for server in self.agents}

    def hand(self) -> MqttBus:
        """The account of nobody in particular: it is in order, and that is all."""
        tls = Tls(self.broker.ca_file.read_text())
        return MqttBus(Endpoint((f"127.0.0.1:{self.broker.port}",), "hand", "secret-of-hand", tls))

    def lead_keys(self) -> keys.LeadKeys:
        return keys.load_lead_keys(self.lead.state_dir)

    def stolen(self) -> Stolen:
        (path,) = (self.thief.state_dir / "keys").glob("uplink-*.json")
        return Stolen(str(json.loads(path.read_text())["device_key"]).encode())

    def held(self) -> dict[str, list[list[dict[str, Any]]]]:
        """Give all that must be the same afterwards."""
        asked = {"es-1": (*UNMOVED["es-1"], ROSTER), "as-1": UNMOVED["as-1"]}
        return {server.id: [server.query(sql) for sql in asked[server.id]] for server in self.agents}

    def settle(self) -> None:
        """Wait until the lead and its shadow stand as before, with what the lead has in its record."""
        issued = self.lead.query("SELECT raw FROM issue ORDER BY number DESC LIMIT 1")[0]["raw"]
        eventually(lambda: self.broker.retained(f"{ROOT}/registration") == issued, "the lead repaired its topic")
        self.shadow.wait_state("in_sync")
        self.lead.wait_rows(as_1="in_sync")

    def stand(self) -> None:
        """Hold the agents to being the very processes that began, to answering, and to having logged no error."""
        for server in self.agents:
            assert server.agent is not None
            assert server.is_running
            assert self._pid(server) == self.begun[server.id], f"{server.id} restarted"
            assert server.live() is not None, f"{server.id} does not answer"
            wrong = [line for line in server.lines() if '"level": "error"' in line or "Traceback" in line]
            assert not wrong, wrong[:3]

    def memory_mib(self, server: Server) -> float:
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self._pid(server)}/status").read_text())
        assert found is not None
        return int(found[1]) / 1024

    @staticmethod
    def _pid(server: Server) -> int:
        assert server.agent is not None
        return server.agent.pid
