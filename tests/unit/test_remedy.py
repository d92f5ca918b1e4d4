"""The commands as texts: small, of one port and the networks named, and deaf to hostile names.

That they do what they say is shown in tests/firewall/test_remedies.py.
"""

from __future__ import annotations

import shlex
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propagator.core.errors import InputError
from propagator.core.remedy import (
    DEVICE_HOST,
    LEAD_HOST,
    ON_THE_WAY,
    ChainRef,
    Side,
    Tool,
    collapse,
    forward,
    open_port,
)
from propagator.core.ticket import Ticket, ticket

if TYPE_CHECKING:
    from propagator.core.remedy import Network

NETWORKS: Final[list[Network]] = [ip_network("10.1.0.0/24"), ip_network("fd00:1::/64")]


_UFW: Final = "proto tcp from 10.1.0.0/24 to any port 8883"
_RICH: Final = """'rule family="ipv4" source address="10.1.0.0/24" port port="8883" protocol="tcp" accept'"""
_NFT: Final = """ip saddr 10.1.0.0/24 tcp dport 8883 counter accept comment "propagator-8883\""""
_FOUND: Final = r"""'s/.*comment "propagator-8883".* # handle \([0-9]*\)$/\1/p'"""
_IPTABLES: Final = "-s 10.1.0.0/24 -p tcp -m tcp --dport 8883 -m comment --comment propagator-8883 -j ACCEPT"
_SHOWN: Final = '"Propagator MQTT 8883"'
_BOTH: Final = "10.1.0.0/24,fd00:1::/64"
_NEW: Final = f"New-NetFirewallRule -Name propagator-mqtt-8883 -DisplayName {_SHOWN} -Direction Inbound -Action Allow"
_NETSH: Final = "netsh advfirewall firewall"
_SED: Final = f"nft -a list chain inet filter input | sed -n {_FOUND} | xargs -r -n 1"
_ADD: Final = f"{_NETSH} add rule name={_SHOWN} dir=in action=allow protocol=TCP localport=8883"

SMALLEST: Final = {
    Tool.UFW: (f"ufw prepend allow {_UFW} comment propagator-8883", f"ufw delete allow {_UFW}"),
    Tool.FIREWALLD: (f"firewall-cmd --add-rich-rule={_RICH}", f"firewall-cmd --remove-rich-rule={_RICH}"),
    Tool.NFT: (f"nft 'insert rule inet filter input {_NFT}'", f"{_SED} nft delete rule inet filter input handle"),
    Tool.IPTABLES: (f"iptables -I INPUT 1 {_IPTABLES}", f"iptables -D INPUT {_IPTABLES}"),
    Tool.IPTABLES_LEGACY: (f"iptables-legacy -I INPUT 1 {_IPTABLES}", f"iptables-legacy -D INPUT {_IPTABLES}"),
    Tool.WINDOWS: (
        f"{_NEW} -Protocol TCP -LocalPort 8883 -Profile Domain,Private -RemoteAddress {_BOTH}",
        "Remove-NetFirewallRule -Name propagator-mqtt-8883",
    ),
    Tool.NETSH: (
        f"{_ADD} profile=domain,private remoteip={_BOTH}",
        f"{_NETSH} delete rule name={_SHOWN} dir=in protocol=TCP localport=8883",
    ),
}


@pytest.mark.parametrize(("tool", "first", "undone"), [(tool, *words) for tool, words in SMALLEST.items()])
def test_a_remedy_is_the_smallest_rule_of_its_tool(tool: Tool, first: str, undone: str) -> None:
    remedy = open_port(tool, 8883, NETWORKS)
    assert (remedy.tool, remedy.where) == (tool, LEAD_HOST)
    assert (remedy.commands[0], remedy.undo[0]) == (first, undone)
    assert remedy.look


@pytest.mark.parametrize(
    ("tool", "command"),
    [
        (Tool.UFW, "ufw prepend allow 8883/tcp comment propagator-8883"),
        (Tool.FIREWALLD, "firewall-cmd --add-port=8883/tcp"),
        (Tool.NFT, "nft 'insert rule inet filter input tcp dport 8883 counter accept comment \"propagator-8883\"'"),
        (
            Tool.IPTABLES,
            "iptables -I INPUT 1 -p tcp -m tcp --dport 8883 -m comment --comment propagator-8883 -j ACCEPT",
        ),
    ],
)
def test_without_networks_it_is_for_everybody(tool: Tool, command: str) -> None:
    assert open_port(tool, 8883, []).commands[0] == command


@pytest.mark.parametrize("tool", [Tool.WINDOWS, Tool.NETSH])
def test_windows_asks_for_no_address_without_networks(tool: Tool) -> None:
    assert "emote" not in open_port(tool, 8883, []).commands[0]


@pytest.mark.parametrize(
    ("tool", "side", "words"),
    [
        (Tool.NFT, Side.ANSWERS, "output ip daddr 10.1.0.0/24 tcp sport 8883"),
        (Tool.NFT, Side.OUT, "output ip daddr 10.1.0.0/24 tcp dport 8883"),
        (Tool.NFT, Side.BACK, "input ip saddr 10.1.0.0/24 tcp sport 8883"),
        (Tool.IPTABLES, Side.ANSWERS, "OUTPUT 1 -d 10.1.0.0/24 -p tcp -m tcp --sport 8883"),
        (Tool.UFW, Side.OUT, "out proto tcp to 10.1.0.0/24 port 8883"),
        (Tool.FIREWALLD, Side.OUT, "ipv4 filter OUTPUT -1 -d 10.1.0.0/24 -p tcp -m tcp --dport 8883"),
        (Tool.WINDOWS, Side.OUT, "-Direction Outbound -Action Allow -Protocol TCP -RemotePort 8883"),
        (Tool.NETSH, Side.ANSWERS, "dir=out action=allow protocol=TCP localport=8883"),
    ],
)
def test_each_side_is_opened_the_way_its_packets_go(tool: Tool, side: Side, words: str) -> None:
    remedy = open_port(tool, 8883, NETWORKS, side=side)
    assert words in remedy.commands[0]
    assert remedy.where == (DEVICE_HOST if side in {Side.OUT, Side.BACK} else LEAD_HOST)


def test_ufw_lets_all_out_without_networks() -> None:
    assert open_port(Tool.UFW, 8883, [], side=Side.OUT).commands == (
        "ufw prepend allow out 8883/tcp comment propagator-8883",
    )


@pytest.mark.parametrize("tool", [Tool.UFW, Tool.FIREWALLD])
@pytest.mark.parametrize("side", [Side.ANSWERS, Side.BACK])
def test_what_lets_answers_pass_by_itself_has_no_rule_for_them(tool: Tool, side: Side) -> None:
    with pytest.raises(InputError, match="answers pass by itself"):
        open_port(tool, 8883, NETWORKS, side=side)


def test_a_zone_is_named_in_every_command() -> None:
    remedy = open_port(Tool.FIREWALLD, 8883, [], zone="public")
    assert remedy.commands == (
        "firewall-cmd --zone=public --add-port=8883/tcp",
        "firewall-cmd --permanent --zone=public --add-port=8883/tcp",
    )
    assert remedy.look[0] == "firewall-cmd --zone=public --list-all"


def test_nft_goes_in_front_of_the_rule_that_drops_and_is_kept_without_its_number() -> None:
    remedy = open_port(Tool.NFT, 8883, NETWORKS, chain=ChainRef("ip", "own", "deny", 7))
    opened, kept = remedy.commands
    assert "insert rule ip own deny position 7 ip saddr" in opened
    assert "position" not in kept
    assert "ip6" not in opened


def test_nft_joins_several_networks_in_one_rule() -> None:
    remedy = open_port(Tool.NFT, 8883, [*NETWORKS, ip_network("10.9.0.0/16")])
    assert "ip saddr { 10.1.0.0/24, 10.9.0.0/16 } tcp dport 8883" in remedy.commands[0]


def test_iptables_names_the_table_and_the_chain_that_drops() -> None:
    remedy = open_port(Tool.IPTABLES, 8883, NETWORKS, chain=ChainRef("ip", "mangle", "own-chain"))
    assert remedy.commands[0].startswith("iptables -t mangle -I own-chain 1 -s 10.1.0.0/24")
    assert not any("ip6tables" in command for command in remedy.commands)


@pytest.mark.parametrize("tool", [Tool.NFT, Tool.IPTABLES])
def test_networks_that_the_table_never_sees_are_told(tool: Tool) -> None:
    with pytest.raises(InputError, match="sees none of these networks"):
        open_port(tool, 8883, [ip_network("fd00::/64")], chain=ChainRef("ip", "filter", "INPUT"))


def test_networks_within_others_are_left_out() -> None:
    networks = [ip_network("fd00::/64"), ip_network("10.0.0.0/8"), ip_network("10.1.0.0/24")]
    assert collapse(networks) == [ip_network("10.0.0.0/8"), ip_network("fd00::/64")]


@pytest.mark.parametrize("port", [-1, 0, 65536])
def test_what_is_no_port_is_refused(port: int) -> None:
    with pytest.raises(InputError, match="no TCP port"):
        open_port(Tool.UFW, port, [])


@pytest.mark.parametrize("tool", [Tool.NFT, Tool.IPTABLES])
def test_what_is_no_family_is_refused(tool: Tool) -> None:
    with pytest.raises(InputError, match="no family"):
        open_port(tool, 8883, [], chain=ChainRef("inet; reboot", "filter", "input"))


@pytest.mark.parametrize("tool", [Tool.ROUTER, Tool.SYSCTL])
def test_what_opens_no_port_says_so(tool: Tool) -> None:
    with pytest.raises(InputError, match="opens no port"):
        open_port(tool, 8883, NETWORKS)


def test_a_router_is_asked_for_with_its_target() -> None:
    remedy = forward(8883, NETWORKS, [ip_address("10.3.0.2")])
    assert remedy.where == ON_THE_WAY
    assert remedy.commands[0].endswith(
        "allow TCP from 10.1.0.0/24, fd00:1::/64 to 10.3.0.2 port 8883, new and established connections"
    )
    assert forward(8883, [], [ip_address("10.3.0.2")]).commands[0].startswith("forward: allow TCP from any to 10.3.0.2")


HOSTILE: Final = ["", "a b", "$(reboot)", "`x`", "a;b", "-x", "a'b", 'a"b', "a\nb", "ü", "a" * 65, "a{", "*"]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_do_not_get_into_a_command(name: str) -> None:
    for tool, zone, chain in (
        (Tool.FIREWALLD, name, None),
        (Tool.NFT, None, ChainRef("inet", name, "input")),
        (Tool.NFT, None, ChainRef("inet", "filter", name)),
        (Tool.IPTABLES, None, ChainRef("ip", name, "INPUT")),
        (Tool.IPTABLES, None, ChainRef("ip", "filter", name)),
    ):
        with pytest.raises(InputError, match="not put into a command"):
            open_port(tool, 8883, NETWORKS, zone=zone, chain=chain)


@given(st.text(), st.text())
def test_whatever_names_there_are_every_command_is_one_that_a_shell_reads(table: str, chain: str) -> None:
    try:
        remedy = open_port(Tool.NFT, 8883, NETWORKS, chain=ChainRef("inet", table, chain))
    except InputError:
        return
    assert shlex.split(remedy.commands[0])[:1] == ["nft"]
    assert len(shlex.split(remedy.commands[0])) == 2


def test_a_ticket_says_all_that_a_network_team_asks_for() -> None:
    text = ticket(
        Ticket(
            NETWORKS,
            [ip_address("10.3.0.2")],
            8883,
            "The device as-1 cannot reach its lead.",
            ["SYN answered at hops 1 and 2, silence beyond"],
            "2026-11-24T15:00:00Z",
            "es-1.example",
        )
    )
    assert text.splitlines() == [
        "Request: let a connection through the firewall",
        "",
        "Source:       10.1.0.0/24, fd00:1::/64",
        "Destination:  10.3.0.2 (es-1.example)",
        "Port:         8883",
        "Protocol:     TCP (MQTT over TLS)",
        "Direction:    from source to destination; new connections, and the answers of established ones back",
        "Reason:       The device as-1 cannot reach its lead.",
        "Seen at:      2026-11-24T15:00:00Z",
        "Evidence:",
        "  - SYN answered at hops 1 and 2, silence beyond",
    ]


def test_a_ticket_keeps_every_text_on_its_line_and_in_bounds() -> None:
    evidence = ["first\nReason: forged\x1b[2J", *("more" for _ in range(99))]
    text = ticket(Ticket([], [], 8883, "x" * 999, evidence, "now"))
    assert "Source:       any" in text
    assert "Destination:  unknown\n" in text
    assert "  - first Reason: forged [2J\n" in text
    assert text.count("  - ") == 20
    assert max(map(len, text.splitlines())) <= 320
