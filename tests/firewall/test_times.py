"""How long the installed `diagnose` takes: under a second where all is well, under 20 s in the worst places there are.

Counted from the moment that the command itself names as the beginning (`at`) to the end of its process. What lies
before is the start of the interpreter, and of the lab's tools, on a machine that runs other tests as well: as long as
the others take. What the program itself costs there is counted in seconds of a processor.
"""

from __future__ import annotations

import datetime as dt
import resource
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pytest

from propagator.core import moment
from tests.firewall import certificates
from tests.firewall.case import NOTHING, TO_LEAD, Case, Make, chain, verdict
from tests.firewall.diagnosing import DEADLINE_S, Diagnosis, diagnose
from tests.firewall.lab import Lab
from tests.firewall.room import LEAD, LEAD6, LEAD_STATE, NAME, PORT
from tests.firewall.side_by_side import asked_for, parametrized, side_by_side

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from concurrent.futures import Future

WORST_S: Final = 20.0
WELL_S: Final = 1.0

SIX: Final = (LEAD, "10.3.0.3", "10.3.0.4", "10.3.0.5", LEAD6, "fd00:3::3")


@dataclass(frozen=True, slots=True)
class Timed:
    """A diagnosis, and its seconds: until it began, from then on to the end of its process, and of a processor."""

    found: Diagnosis
    start_s: float
    took_s: float
    cpu_s: float

    def __str__(self) -> str:
        return f"{self.took_s:.2f} s after a start of {self.start_s:.2f} s\n{self.found}"


def timed(lab: Lab, *options: str) -> Timed:
    began, used_s = dt.datetime.now(dt.UTC), _used_s()
    found = diagnose(lab, *options)
    ended = dt.datetime.now(dt.UTC)
    at = moment.read(found.told["at"])
    return Timed(found, (at - began).total_seconds(), (ended - at).total_seconds(), _used_s() - used_s)


def _used_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# The worst places.


def silent(*addresses: str) -> Make:
    """Let nothing come back from anywhere on the way, for every address of the lead's name."""

    def make(lab: Lab) -> None:
        lab.know_lead_at(*addresses)
        chain(lab, "r1", "forward", policy="drop")
        chain(
            lab,
            "r1",
            "output",
            "icmp type { time-exceeded, destination-unreachable } drop",
            "icmpv6 type { time-exceeded, destination-unreachable } drop",
        )

    return make


def have(lab: Lab, addresses: tuple[str, ...]) -> None:
    """Let the lead have all these addresses, and its name mean them; the last router has met them already."""
    lab.know_lead_at(*addresses)
    for each in set(addresses) - {LEAD, LEAD6}:
        lab.sh("lead", f"ip address add {each}{'/64 nodad' if ':' in each else '/24'} dev eth0")
    for each in addresses:
        lab.look(host=each, ladder=False, session=False)


def silent_after_a_slow_name(lab: Lab) -> None:
    lab.hosts({})
    lab.stand_in("r1", "dns", "53", "slow", *SIX)
    chain(lab, "r1", "forward", policy="drop")


def dropped_at_the_lead(lab: Lab) -> None:
    have(lab, SIX)
    chain(lab, "lead", "input", f"{TO_LEAD} drop")


def first_word_dropped(lab: Lab) -> None:
    lab.serve()
    chain(lab, "r1", "forward", f"{TO_LEAD} tcp flags & psh == psh drop")


def every_word_over_tls_dropped(lab: Lab) -> None:
    lab.serve()
    begins_with_data = "0>>22&0x3C@12>>26&0x3C@0>>24=0x17"  # what TCP carries is a record of TLS, application data
    lab.sh("r1", f"iptables-nft -A FORWARD -p tcp --dport {PORT} -m u32 --u32 '{begins_with_data}' -j DROP")


def standing_in(*words: str, addresses: tuple[str, ...] = (LEAD,)) -> Make:
    """Let a stand-in answer in the lead's place, with a certificate of the lead's CA."""

    def make(lab: Lab) -> None:
        have(lab, addresses)
        name, *more = words
        lab.stand_in("lead", name, str(PORT), *certificates.install(lab, certificates.lead_authority(lab)), *more)

    return make


WORST: Final = [
    Case(name, 0, make, NOTHING, verdict(said))
    for name, said, make in (
        ("every address of the name is silent, and every router", "NO_ANSWER_AT_ALL ?", silent(*SIX)),
        ("the name is slow, and every address silent", "NO_ANSWER_AT_ALL ?", silent_after_a_slow_name),
        ("every address is dropped at the lead", "DROPPED_AT_LEAD_OR_LAST_HOP P", dropped_at_the_lead),
        ("the first word is dropped", "SILENT_AFTER_CONNECT C", first_word_dropped),
        ("every word over TLS is dropped", "SILENT_AFTER_CONNECT C", every_word_over_tls_dropped),
        (
            "six addresses let in and none says a word",
            "ACCEPTED_BUT_MUTE C",
            standing_in("mute", "tcp", addresses=SIX),
        ),
        ("it is mute to CONNECT", "ACCEPTED_BUT_MUTE C", standing_in("mute", "mqtt")),
        ("it is mute to SUBSCRIBE", "ACCEPTED_BUT_MUTE C", standing_in("mute", "authorised")),
        ("it has no record", "NO_RECORD C", standing_in("mute", "record")),
        ("TLS dribbles", "ACCEPTED_BUT_MUTE C", standing_in("dribble", "tls")),
        ("MQTT dribbles", "ACCEPTED_BUT_MUTE C", standing_in("dribble", "mqtt")),
        ("each answer takes all but too long", "ACCEPTED_BUT_MUTE C", standing_in("drag", "2.6")),
        ("it does not answer a goodbye, either", "ACCEPTED_BUT_MUTE C", standing_in("drag", "1.6")),
    )
]


# The same for a portal: what stands in the lead's place is one.


CA: Final = "/etc/portal-ca.pem"
AS_PORTAL: Final = ("--portal", f"https://{NAME}:{PORT}", "--portal-ca", CA)


def portal(make: Make) -> Make:
    def made(lab: Lab) -> None:
        lab.write(CA, lab.path(LEAD_STATE / "keys" / "ca.crt").read_bytes())
        make(lab)

    return made


def proxy_that_dribbles(lab: Lab) -> None:
    lab.environment["HTTPS_PROXY"] = f"http://{LEAD}:{PORT}"
    standing_in("dribble", "tls")(lab)


WORST_OF_PORTALS: Final = [
    Case(f"of a portal {name}", 0, portal(make), NOTHING, verdict(said))
    for name, said, make in (
        ("every address is silent, and every router", "PORTAL_DROPPED ?", silent(*SIX)),
        ("the name is slow, and every address silent", "PORTAL_DROPPED ?", silent_after_a_slow_name),
        ("six addresses let in and say no word", "PORTAL_MUTE P", standing_in("mute", "tcp", addresses=SIX)),
        ("the proxy dribbles", "PORTAL_PROXY_MUTE C", proxy_that_dribbles),
        ("TLS dribbles", "PORTAL_MUTE P", standing_in("dribble", "tls")),
        ("the answer dribbles", "PORTAL_MUTE P", standing_in("dribble", "http")),
        ("no answer comes", "PORTAL_MUTE P", standing_in("mute", "mqtt")),
    )
]


@pytest.fixture(scope="module")
def diagnoses(request: pytest.FixtureRequest, site_files: bytes) -> Iterator[Mapping[str, Future[Timed]]]:
    def work(case: Case) -> Timed:
        with Lab(files=site_files) as lab:
            case.make(lab)
            return timed(lab, *AS_PORTAL) if case in WORST_OF_PORTALS else timed(lab)

    with side_by_side(work, asked_for(request)) as coming:
        yield coming


@parametrized([*WORST, *WORST_OF_PORTALS])
def test_f47_at_the_worst_a_verdict_is_there_in_under_20_s_where(
    case: Case, diagnoses: Mapping[str, Future[Timed]]
) -> None:
    run = diagnoses[case.name].result(DEADLINE_S)
    sys.stdout.write(f"{case.name}: {run}\n")
    assert run.took_s < WORST_S, str(run)
    assert run.found.alone == case.alone, str(run)


def test_where_all_is_well_it_takes_less_than_a_second(site_files: bytes) -> None:
    """Other work on this machine only adds to it: the quickest of three is the nearest to what it takes."""
    with Lab(files=site_files) as lab:
        lab.serve()
        runs = [timed(lab) for _ in range(3)]
    assert {run.found.alone for run in runs} == {verdict("OK C")}, runs[0]
    told = [f"{run.start_s:.2f} s and {run.took_s:.2f} s, {run.cpu_s:.2f} s of a processor" for run in runs]
    sys.stdout.write("\n".join((*told, "")))
    assert min(run.took_s for run in runs) < WELL_S, told
    assert min(run.cpu_s for run in runs) < WELL_S, told
