"""The remedy is proved: what `diagnose --firewall` prints at the lead lets the registration through, and comes back.

Per kind of filter: the rule that drops is named, the printed commands are typed as they stand, the device's diagnosis
goes to its end, and after the commands that take it back everything is as it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.firewall.cases import CASES, Case
from tests.firewall.diagnosing import DEADLINE_S, diagnose
from tests.firewall.lab import Lab, propagator
from tests.firewall.room import LEAD_CONFIG, SHADOW
from tests.firewall.side_by_side import asked_for, parametrized, side_by_side

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from concurrent.futures import Future

TOOLS: Final = {
    "drop-port": "nft",
    "policy-drop": "nft",
    "accept-in-other-table": "nft",
    "ufw": "ufw",
    "ufw-other-subnet": "ufw",
    "firewalld": "firewalld",
    "iptables-drop": "iptables",
    "iptables-legacy-drop": "iptables-legacy",
}
HEALED: Final = [CASES[name] for name in TOOLS]


def _at_lead(lab: Lab) -> dict[str, Any]:
    words = (propagator(), "diagnose", "--firewall", "--source", SHADOW, "--watch", "0.2", "--json")
    said = lab.ask("lead", *words, "--config", LEAD_CONFIG)
    assert said.out, said
    return dict(said.json)


def heal(case: Case, site_files: bytes) -> dict[str, Any]:
    """Go the way that a person goes; gives what was said at each step."""
    with Lab(case.topology, site_files) as lab:
        lab.stand_in("lead", "door", "22")
        case.make(lab)
        told = _at_lead(lab)
        remedy = next((each for each in told["verdict"]["remedies"] if each["tool"] == TOOLS[case.name]), None)
        assert remedy is not None, told["verdict"]
        for command in remedy["commands"]:
            lab.sh("lead", command)
        opened = diagnose(lab).told["verdict"]
        ready = _at_lead(lab)["verdict"]["code"]
        for command in remedy["undo"]:
            lab.sh("lead", command)
        again = _at_lead(lab)
        return {"told": told, "opened": opened, "ready": ready, "again": again}


@pytest.fixture(scope="module")
def steps(request: pytest.FixtureRequest, site_files: bytes) -> Iterator[Mapping[str, Future[dict[str, Any]]]]:
    with side_by_side(lambda case: heal(case, site_files), asked_for(request)) as coming:
        yield coming


@parametrized(HEALED)
def test_what_is_printed_opens_the_port_and_takes_itself_back(
    case: Case, steps: Mapping[str, Future[dict[str, Any]]]
) -> None:
    said = steps[case.name].result(DEADLINE_S)
    told, again = said["told"], said["again"]
    closed = "LEAD_FIREWALL_REJECTS" if case.name == "firewalld" else "LEAD_FIREWALL_DROPS"
    assert (told["verdict"]["code"], told["verdict"]["confidence"]) == (closed, "certain"), told
    assert told["lead"]["filter"]["rule"], "the rule is named"
    assert (said["opened"]["code"], said["ready"]) == ("OK", "LEAD_READY"), said
    assert again["verdict"]["code"] == closed
    assert again["lead"]["filter"]["rule"] == told["lead"]["filter"]["rule"]
