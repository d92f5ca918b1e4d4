"""What the last good picture of the way adds: whose an answer is, and where silence begins. With real packets.

A healthy lead is drawn once, by the shadow's agent; each case then spoils a lab, and the shadow alone says what it is,
with that picture and without.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import pytest

from tests.acceptance.site import eventually
from tests.firewall import certificates
from tests.firewall.case import NOTHING, TO_LEAD, Case, Make, chain, translate, verdict
from tests.firewall.diagnosing import DEADLINE_S, Diagnosis, diagnose
from tests.firewall.lab import Lab, propagator
from tests.firewall.room import LEAD, LEAD_STATE, PORT, SHADOW_CONFIG, WAYS
from tests.firewall.side_by_side import asked_for, parametrized, side_by_side

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from concurrent.futures import Future

_CATCHER: Final = 9883


class Drawn(NamedTuple):
    """What the shadow's agent kept of a healthy lead, and the certificate and key that the lead had then."""

    ways: bytes
    certificate: bytes
    key: bytes

    @property
    def way(self) -> dict[str, Any]:
        return dict(json.loads(self.ways)["ways"][LEAD])


CERTIFICATE: Final = LEAD_STATE / "keys" / "server.crt"
KEY: Final = LEAD_STATE / "keys" / "server.key"


@pytest.fixture(scope="module")
def drawn(site_files: bytes) -> Drawn:
    with Lab(files=site_files) as lab:
        lab.serve()
        lab.start("shadow", propagator(), "run", "--config", SHADOW_CONFIG, user="shadow")
        eventually(lambda: lab.path(WAYS).exists(), "the way is drawn", timeout_s=120)
        return Drawn(*(lab.path(each).read_bytes() for each in (WAYS, CERTIFICATE, KEY)))


def test_a_picture_holds_hops_ttl_and_the_certificate(drawn: Drawn) -> None:
    way = drawn.way
    assert (way["hops"], way["routers"], way["ttl"]) == (3, ["10.1.0.1", "10.2.0.2"], 62)
    assert way["certificate"].split() == drawn.certificate.decode().split()


# What is spoilt.


def reset_by_the_first_router(lab: Lab) -> None:
    lab.serve()
    chain(lab, "r1", "forward", f"ip daddr {LEAD} meta l4proto tcp reject with tcp reset")


def forged_by_the_first_router(lab: Lab) -> None:
    lab.serve()
    lab.stand_in("r1", "forge", str(PORT), LEAD)
    chain(lab, "r1", "forward", f"{TO_LEAD} drop")


def caught(name: str) -> Make:
    """Let the gateway answer every port of the lead's with a stand-in: nothing of it is left to compare with."""

    def make(lab: Lab) -> None:
        lab.serve()
        gateway = certificates.other_authority("Corporate Web Gateway")
        lab.stand_in("r1", name, str(_CATCHER), *(certificates.install(lab, gateway) if name == "tls" else ()))
        translate(lab, "r1", "prerouting", f"ip daddr {LEAD} meta l4proto tcp redirect to :{_CATCHER}")
        chain(lab, "r1", "forward", f"ip daddr {LEAD} meta l4proto udp drop")

    return make


def another_ca(lab: Lab) -> None:
    lab.stand_in("lead", "tls", str(PORT), *certificates.install(lab, certificates.other_authority("Another CA")))


def another_ca_for_the_same_key(lab: Lab) -> None:
    key = certificates.lead_key(lab)
    shown = certificates.install(lab, certificates.other_authority("Another CA"), key=key)
    lab.stand_in("lead", "tls", str(PORT), *shown)


def a_new_ca_of_the_same_name(lab: Lab) -> None:
    anew = certificates.other_authority("anew")
    named = certificates.lead_authority(lab).name
    lab.stand_in("lead", "tls", str(PORT), *certificates.install(lab, certificates.Authority(named, anew.key)))


def silent_behind_the_first_router(lab: Lab) -> None:
    lab.serve()
    chain(lab, "r1", "forward", f"ip daddr {LEAD} drop")


@dataclass(frozen=True, slots=True, eq=False)
class Told(Case):
    """A case that says something else without a picture; `because` stands in the reason with it."""

    without: str = ""
    because: str = ""


def _told(name: str, make: Make, without: str, with_it: str, because: str) -> Told:
    return Told(name, 0, make, NOTHING, verdict(with_it), without=without, because=because)


FROM_NEARER: Final = "; on {at} the lead's came at hop 3, with a TTL of 62"
CASES: Final = [
    _told(
        "every port is reset by a router",
        reset_by_the_first_router,
        "PORT_CLOSED P",
        "REJECTED_ON_PATH P",
        "the answer comes at hop 2, with a TTL of 64" + FROM_NEARER,
    ),
    _told(
        "an ICMP message is forged in the lead's name",
        forged_by_the_first_router,
        "REJECTED_BY_FIREWALL C",
        "REJECTED_ON_PATH P",
        ", with a TTL of 64" + FROM_NEARER,
    ),
    _told(
        "every port is answered by a captive portal",
        caught("http"),
        "NOT_MQTT C",
        "INTERCEPTED P",
        "the answer comes at hop 1, with a TTL of 64" + FROM_NEARER,
    ),
    _told(
        "every port is answered, and nothing said",
        caught("tarpit"),
        "ACCEPTED_BUT_MUTE C",
        "INTERCEPTED P",
        "the answer comes at hop 1, with a TTL of 64" + FROM_NEARER,
    ),
    _told(
        "TLS is opened on every port",
        caught("tls"),
        "TLS_UNKNOWN_CA C",
        "TLS_INTERCEPTED P",
        "on {at} the lead's was issued by CN=es-1, with another key",
    ),
    _told(
        "the lead shows a certificate of another CA",
        another_ca,
        "TLS_UNKNOWN_CA C",
        "TLS_UNKNOWN_CA C",
        "on {at} the lead's was issued by CN=es-1, with another key",
    ),
    _told(
        "the lead shows a certificate of another CA for its own key",
        another_ca_for_the_same_key,
        "TLS_UNKNOWN_CA C",
        "TLS_UNKNOWN_CA C",
        "it has the key that the lead's had on {at}",
    ),
    _told(
        "the lead was set up anew",
        a_new_ca_of_the_same_name,
        "TLS_UNKNOWN_CA C",
        "TLS_UNKNOWN_CA C",
        "on {at} the lead's had another key, and an issuer of the same name",
    ),
    _told(
        "everything is silent behind a router",
        silent_behind_the_first_router,
        "NO_ANSWER_AT_ALL ?",
        "DROPPED_ON_PATH P",
        "on {at} the lead answered from hop 3, and 10.2.0.2 was next",
    ),
]


Both: TypeAlias = tuple[Diagnosis, Diagnosis]
"""Without the picture, and with it."""


@pytest.fixture(scope="module")
def diagnoses(request: pytest.FixtureRequest, site_files: bytes, drawn: Drawn) -> Iterator[Mapping[str, Future[Both]]]:
    def work(case: Case) -> Both:
        with Lab(files=site_files) as lab:
            lab.path(CERTIFICATE).write_bytes(drawn.certificate)
            lab.path(KEY).write_bytes(drawn.key)
            case.make(lab)
            without = diagnose(lab)
            lab.write(WAYS, drawn.ways)
            return without, diagnose(lab)

    with side_by_side(work, asked_for(request)) as coming:
        yield coming


@parametrized(CASES)
def test_with_the_last_good_picture_it_is_told(case: Told, diagnoses: Mapping[str, Future[Both]], drawn: Drawn) -> None:
    without, found = diagnoses[case.name].result(DEADLINE_S)
    assert without.alone == verdict(case.without), str(without)
    assert found.alone == case.alone, str(found)
    at = drawn.way["at"]
    assert case.because.format(at=at) in found.told["verdict"]["reason"]
    assert at not in without.told["verdict"]["reason"]
