"""The certificate of an operator's broker runs out, is not valid yet, and is renewed in place (F37).

A lead's own broker has certificates without an end, of a CA without an end: tests/unit/test_certificates.py.
"""

from __future__ import annotations

import datetime as dt
import shutil
import signal
from typing import TYPE_CHECKING

from tests.acceptance.site import eventually
from tests.support_broker import Authority

if TYPE_CHECKING:
    from tests.acceptance.site import Broker, Server, Site

DAY = dt.timedelta(days=1)


class Certificates:
    """What an operator's own CA gives its broker."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._authority = Authority(broker._directory / "authority")
        shutil.copyfile(self._authority.ca_file, broker.ca_file)

    def renew(self, begins: dt.timedelta = -DAY, ends: dt.timedelta = DAY) -> None:
        """Write another certificate, as it comes from the CA."""
        pair = self._authority.issue(names=("127.0.0.1",), begins=begins, ends=ends)
        for made, name in ((pair.cert_file, "server.crt"), (pair.key_file, "server.key")):
            shutil.copyfile(made, self._broker._directory / name)

    def restart(self) -> None:
        """Let the broker have it, and everybody connect anew."""
        self._broker.kill()
        self._broker.start()

    def reload(self) -> None:
        """Let the broker have it in place, with nobody disturbed."""
        assert self._broker._process is not None
        self._broker._process.send(signal.SIGHUP)


def found(shadow: Server, code: str) -> None:
    """Wait until the shadow says this of its lead, holding what it held."""
    eventually(lambda: (shadow.status().uplink["finding"] or {}).get("code") == code, f"it says {code}", timeout_s=60)
    assert shadow.state == "unreachable"
    assert shadow.record()["registration"]["site"]["name"] == "Riverside House"


def test_f37_a_certificate_out_of_its_time_is_named_and_one_renewed_in_place_is_taken(site: Site) -> None:
    broker = site.broker()
    certificates = Certificates(broker)
    certificates.renew()
    certificates.restart()
    lead, shadow = site.lead(broker=broker), site.shadow()
    lead.register(site.registration("Riverside House"))
    site.start(lead, shadow)
    site.attach(shadow, lead, broker=broker)
    lead.wait_rows(as_1="in_sync")

    certificates.renew(ends=-DAY / 2)
    certificates.restart()
    found(shadow, "TLS_EXPIRED")
    assert not (lead.live() or {})["downlink"]["connected"]
    lead.register(site.registration("Harbour House"))
    certificates.renew(begins=DAY / 2)
    certificates.restart()
    shadow.restart()
    found(shadow, "TLS_NOT_YET_VALID")

    certificates.renew()
    certificates.reload()

    lead.wait_rows(as_1="in_sync")
    assert shadow.record()["registration"]["site"]["name"] == "Harbour House"
    connected = len(shadow.events("shadow.connected"))
    certificates.renew()
    certificates.reload()  # while all is well
    lead.register(site.registration("Quay House"))
    lead.wait_rows(as_1="in_sync")
    assert len(shadow.events("shadow.connected")) == connected
