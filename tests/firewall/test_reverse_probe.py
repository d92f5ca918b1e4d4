"""The reverse probe through the lab: the lead asks a device that cannot reach it to try, and joins both views.

The commands and agents are the real ones; the device has `probe_listen` set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.firewall.cases import CASES, Case
from tests.firewall.diagnosing import DEADLINE_S
from tests.firewall.lab import Lab, propagator
from tests.firewall.room import LEAD_CONFIG, SHADOW, SHADOW_CONFIG
from tests.firewall.side_by_side import asked_for, parametrized, side_by_side

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from concurrent.futures import Future

    from tests.acceptance.site import Said

_PORT: Final = 8884

PROBED: Final = [
    CASES[name]
    for name in (
        "ok",
        "closed",
        "drop-port",
        "firewalld",
        "reject-rst",
        "drop-r2",
        "out-drop",
        "reply-drop",
        "reply-drop-lead",
        "mtu-hole",
        "loopback-only",
        "sigstop",
        "backlog-full",
    )
]


@pytest.fixture(scope="module")
def probes(request: pytest.FixtureRequest, site_files: bytes) -> Iterator[Mapping[str, Future[Said]]]:
    """What the lead's command says of every case that is asked for."""

    def probe(case: Case) -> Said:
        with Lab(case.topology, site_files) as lab:
            lab.stand_in("lead", "door", "22")
            lab.answer_probes(_PORT)
            case.make(lab)
            shadow = lab.start("shadow", propagator(), "run", "--config", SHADOW_CONFIG, user="shadow")
            lab.wait_listening("shadow", _PORT)
            words = (propagator(), "diagnose", "--json", "--device", "as-1", "--at", f"{SHADOW}:{_PORT}")
            said = lab.ask("lead", *words, "--config", LEAD_CONFIG, user="lead")
            assert shadow.is_running, shadow.said()
            return said

    with side_by_side(probe, asked_for(request)) as coming:
        yield coming


@parametrized(PROBED)
def test_the_lead_says_after_a_reverse_probe_of(case: Case, probes: Mapping[str, Future[Said]]) -> None:
    said = probes[case.name].result(DEADLINE_S)
    assert said.out, said
    verdict = said.json["verdict"]
    assert (verdict["code"], verdict["confidence"]) == (case.joint or case.alone), said.json
