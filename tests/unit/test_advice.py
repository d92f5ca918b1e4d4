"""What to do about each verdict: commands where a rule heals it, a ticket where others have to act, never nothing."""

from __future__ import annotations

import pytest

from propagator.core.diagnosis import FINE, Code, Confidence, Side, Verdict
from propagator.core.diagnosis.advice import remedies, ticket_text
from propagator.core.diagnosis.seen import Filter
from propagator.core.remedy import ChainRef

FACTS = {"port": "8883", "network": "10.1.0.0/24", "host": "es-1.example", "lead": "Enterprise Server"}
AT = "2026-11-24T12:00:00.000Z"


def verdict(code: Code, address: str | None = "10.3.0.2", **facts: str) -> Verdict:
    return Verdict(code, Confidence.PROBABLE, "as seen", address, {**FACTS, **facts})


@pytest.mark.parametrize("code", sorted(set(Code) - FINE))
def test_every_problem_has_one_thing_to_do_first(code: Code) -> None:
    first = remedies(verdict(code))[0]
    assert (first.tool, first.commands) == ("hint", (verdict(code).advice,))


@pytest.mark.parametrize("code", sorted(FINE))
def test_what_is_fine_needs_no_remedy(code: Code) -> None:
    assert remedies(verdict(code)) == ()
    assert ticket_text(verdict(code), AT) is None


def test_a_lead_whose_filter_is_unknown_gets_the_command_of_each_tool() -> None:
    _, *made = remedies(verdict(Code.DROPPED_AT_LEAD_OR_LAST_HOP))
    assert [each.tool for each in made] == ["ufw", "firewalld", "nft", "iptables", "windows", "netsh"]
    assert all("10.1.0.0/24" in each.commands[0] and "8883" in each.commands[0] and each.undo for each in made)


def test_a_lead_whose_filter_was_read_gets_its_own_tools_command_in_the_chain_that_drops() -> None:
    found = Filter("drop", "tcp dport != 22 drop", "nft", ChainRef("inet", "site", "guard", 7))
    _, only = remedies(verdict(Code.LEAD_FIREWALL_DROPS), found)
    assert only.tool == "nft"
    assert "inet site guard" in only.commands[0]


def test_a_name_that_no_command_can_hold_leaves_the_hint() -> None:
    found = Filter("drop", "", "nft", ChainRef("inet", "site; reboot", "guard"))
    assert [each.tool for each in remedies(verdict(Code.LEAD_FIREWALL_DROPS), found)] == ["hint"]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (Code.OWN_FIREWALL_DROPS, "OUTPUT 1 -d 10.3.0.2/32"),
        (Code.OWN_FIREWALL_REJECTS, "OUTPUT 1 -d 10.3.0.2/32"),
        (Code.OWN_FIREWALL_DROPS_REPLY, "INPUT 1 -s 10.3.0.2/32"),
    ],
)
def test_this_servers_own_filter_is_opened_for_the_lead_alone(code: Code, words: str) -> None:
    iptables = next(each for each in remedies(verdict(code)) if each.tool == "iptables")
    assert words in iptables.commands[0]
    assert not {"windows", "netsh"} & {each.tool for each in remedies(verdict(code))}


@pytest.mark.parametrize(
    "code", [Code.DROPPED_ON_PATH, Code.DROPPED_BEFORE_LEAD, Code.REJECTED_ON_PATH, Code.REPLY_LOST]
)
def test_a_router_on_the_way_is_told_what_to_forward(code: Code) -> None:
    _, router = remedies(verdict(code))
    assert router.tool == "router"
    assert "from 10.1.0.0/24 to 10.3.0.2 port 8883" in router.commands[0]
    assert [each.tool for each in remedies(verdict(code, address=None))] == ["hint"]


def test_without_a_port_there_is_no_command_and_no_ticket() -> None:
    bare = Verdict(Code.LEAD_FIREWALL_DROPS, Confidence.PROBABLE, "as seen")
    assert [each.tool for each in remedies(bare)] == ["hint"]
    assert ticket_text(bare, AT) is None


def test_a_network_team_gets_what_it_needs_to_know() -> None:
    text = ticket_text(verdict(Code.DROPPED_ON_PATH, hop=" after hop 1 (10.1.0.1)"), AT)
    assert text is not None
    for word in ("10.1.0.0/24", "10.3.0.2 (es-1.example)", "8883", "TCP", "DROPPED_ON_PATH (probable): as seen", AT):
        assert word in text, word
    assert "on the way after hop 1 (10.1.0.1)" in text


@pytest.mark.parametrize("address", [None, "no address"])
def test_an_unknown_address_or_network_is_left_open(address: str | None) -> None:
    text = ticket_text(verdict(Code.LEAD_FIREWALL_DROPS, address=address, network="somewhere"), AT)
    assert text is not None
    assert "Source:       any" in text


def test_nobody_is_asked_about_what_no_network_team_can_heal() -> None:
    assert ticket_text(verdict(Code.NOT_LISTENING), AT) is None
    assert verdict(Code.NOT_LISTENING).entry.side is Side.LEAD
