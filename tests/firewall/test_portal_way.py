"""`diagnose --portal` in the lab, unprivileged: what real filters on the way out make of it. The lead stands for it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.firewall.lab import Lab, propagator

if TYPE_CHECKING:
    from tests.firewall.room import Place

PORTAL: Final = "portal.example"
_TABLE: Final = """
table inet lab {{
  chain c {{
    type filter hook {hook} priority 0
    tcp dport 443 {verdict}
  }}
}}
"""


def _rule(hook: str, verdict: str) -> str:
    return _TABLE.format(hook=hook, verdict=verdict)


CASES: Final[dict[str, tuple[Place, str, str, str, str]]] = {
    "own output drops": ("shadow", _rule("output", "drop"), "PORTAL_OWN_FIREWALL", "certain", ""),
    "own output rejects": ("shadow", _rule("output", "reject"), "PORTAL_OWN_FIREWALL", "certain", ""),
    "site firewall drops": ("r1", _rule("forward", "drop"), "PORTAL_DROPPED", "probable", "10.1.0.1"),
    "site firewall rejects": (
        "r1",
        _rule("forward", "reject with icmpx admin-prohibited"),
        "PORTAL_REJECTED",
        "certain",
        "10.1.0.1",
    ),
    "site firewall resets": (
        "r1",
        _rule("forward", "reject with tcp reset"),
        "PORTAL_REJECTED",
        "certain",
        "hop 1",
    ),
    "the portal's host drops": ("lead", _rule("input", "drop"), "PORTAL_DROPPED", "probable", ""),
    "nothing listens": ("lead", "", "PORTAL_CLOSED", "probable", ""),
}


@pytest.mark.parametrize(("place", "rules", "code", "sure", "named"), CASES.values(), ids=CASES)
def test_a_filter_on_the_way_out_is_named(place: Place, rules: str, code: str, sure: str, named: str) -> None:
    with Lab(real=False) as lab:
        lab.hosts({PORTAL: ["10.3.0.2"]})
        if rules:
            lab.stand_in("lead", "http", "443")
            lab.nft(place, rules)
        begun_s = time.monotonic()
        said = lab.ask("shadow", *_diagnose(f"https://{PORTAL}"), "--json", user="shadow")
        took_s = time.monotonic() - begun_s
    verdict: dict[str, Any] = said.json["verdict"]
    assert (said.code, verdict["code"], verdict["confidence"]) == (1, code, sure), said.out
    assert named in verdict["cause"] + verdict["reason"]
    assert took_s < 20


def _diagnose(url: str) -> tuple[str, ...]:
    return propagator(), "diagnose", "--portal", url, "--state-dir", "/srv/none"


def test_the_ticket_asks_for_the_way_that_is_missing() -> None:
    with Lab(real=False) as lab:
        lab.hosts({PORTAL: ["10.3.0.2"]})
        lab.nft("r1", _rule("forward", "drop"))
        said = lab.ask("shadow", *_diagnose(f"https://{PORTAL}"), "--ticket", user="shadow")
    assert "Source:       10.1.0.0/24" in said.out
    assert f"Destination:  10.3.0.2 ({PORTAL})" in said.out
    assert "Port:         443" in said.out
