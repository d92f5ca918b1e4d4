"""The commands for Windows, which no machine here can run: held to the documented grammar, word by word.

Parameters and values are those of Microsoft's pages on New-NetFirewallRule and Remove-NetFirewallRule (NetSecurity),
and of `netsh advfirewall firewall add rule ?` and `delete rule ?`.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propagator.core.remedy import Remedy, Side, Tool, open_port

if TYPE_CHECKING:
    from collections.abc import Callable

    from propagator.core.remedy import Network

_WORD: Final = r"[A-Za-z0-9][A-Za-z0-9.,:/-]*"
"""What both shells read as one word, without a quote: nothing that PowerShell or cmd take for anything else."""

_QUOTED: Final = r'"[A-Za-z0-9 ]*"'
"""What both read as one word with spaces in it: neither $ nor % nor a quote."""


def one_of(*words: str) -> Callable[[str], bool]:
    return lambda value: value in words


def some_of(*words: str) -> Callable[[str], bool]:
    return lambda value: bool(value) and set(value.split(",")) <= set(words)


def is_port(value: str) -> bool:
    return value.isdecimal() and 0 < int(value) < 65536


def are_networks(value: str) -> bool:
    return all(ipaddress.ip_network(one) for one in value.split(","))


def is_name(value: str) -> bool:
    """A name that neither takes for all rules or for a pattern."""
    return bool(value) and value.casefold() not in {"all", "any"} and not set(value) & set("*?[]")


NEW: Final = {
    "Name": is_name,
    "DisplayName": is_name,
    "Direction": one_of("Inbound", "Outbound"),
    "Action": one_of("Allow", "Block"),
    "Protocol": one_of("TCP"),
    "LocalPort": is_port,
    "RemotePort": is_port,
    "RemoteAddress": are_networks,
    "Profile": some_of("Domain", "Private", "Public"),
}
ADD: Final = {
    "name": is_name,
    "dir": one_of("in", "out"),
    "action": one_of("allow", "block", "bypass"),
    "protocol": one_of("TCP"),
    "localport": is_port,
    "remoteport": is_port,
    "remoteip": are_networks,
    "profile": some_of("domain", "private", "public"),
}


def cmdlet(command: str) -> tuple[str, dict[str, str]]:
    """Read a command of PowerShell whose every parameter has a value."""
    assert re.fullmatch(rf"[A-Z][a-z]+-[A-Za-z]+( -[A-Za-z]+ ({_WORD}|{_QUOTED}))+", command), command
    pairs = re.findall(rf" -([A-Za-z]+) ({_WORD}|{_QUOTED})", command)
    assert len({name for name, _ in pairs}) == len(pairs), command
    return command.partition(" ")[0], {name: value.strip('"') for name, value in pairs}


def netsh(command: str) -> tuple[str, dict[str, str]]:
    """Read a command of netsh: a verb, and `parameter=value` without a space around the sign."""
    said = re.fullmatch(rf"netsh advfirewall firewall ([a-z]+) rule(( [a-z]+=({_WORD}|{_QUOTED}))+)", command)
    assert said is not None, command
    pairs = re.findall(rf" ([a-z]+)=({_WORD}|{_QUOTED})", said[2])
    assert len({name for name, _ in pairs}) == len(pairs), command
    return said[1], {name: value.strip('"') for name, value in pairs}


networks = st.lists(st.ip_addresses(v=4, network="10.0.0.0/8") | st.ip_addresses(v=6, network="fd00::/8"), max_size=3)
ports = st.integers(1, 65535)


def opened(tool: Tool, port: int, addresses: list[ipaddress.IPv4Address | ipaddress.IPv6Address], side: Side) -> Remedy:
    return open_port(tool, port, [ipaddress.ip_network(address) for address in addresses], side=side)


@given(ports, networks, st.sampled_from(Side))
def test_powershell_gets_documented_parameters_and_takes_back_the_rule_it_named(
    port: int, addresses: list[ipaddress.IPv4Address | ipaddress.IPv6Address], side: Side
) -> None:
    remedy = opened(Tool.WINDOWS, port, addresses, side)
    ((made, new), (removed, old)) = (cmdlet(command) for command in (*remedy.commands, *remedy.undo))
    assert (made, removed) == ("New-NetFirewallRule", "Remove-NetFirewallRule")
    assert all(NEW[name](value) for name, value in new.items()), new
    assert {"Name", "DisplayName", "Direction", "Action", "Protocol"} <= set(new)  # DisplayName: mandatory
    assert old == {"Name": new["Name"]}
    assert ("RemoteAddress" in new) == bool(addresses)


@given(ports, networks, st.sampled_from(Side))
def test_netsh_gets_documented_parameters_and_takes_back_the_rule_it_named(
    port: int, addresses: list[ipaddress.IPv4Address | ipaddress.IPv6Address], side: Side
) -> None:
    remedy = opened(Tool.NETSH, port, addresses, side)
    ((added, new), (deleted, old)) = (netsh(command) for command in (*remedy.commands, *remedy.undo))
    assert (added, deleted) == ("add", "delete")
    assert all(ADD[name](value) for name, value in new.items()), new
    assert list(new)[:3] == ["name", "dir", "action"]  # those are mandatory
    assert set(old) <= set(ADD) - {"action"}  # `delete rule` has none
    assert old.items() <= new.items()
    assert ("remoteip" in new) == bool(addresses)


@pytest.mark.parametrize("tool", [Tool.WINDOWS, Tool.NETSH])
def test_what_takes_one_rule_back_leaves_those_of_other_sides_and_ports(tool: Tool) -> None:
    """A relay has two of one port: in from its devices, out to its lead."""
    undone = [open_port(tool, port, [], side=side).undo for port in (8883, 8884) for side in Side]
    assert len(set(undone)) == len(undone)


@pytest.mark.parametrize(
    ("side", "direction", "end"),
    [
        (Side.IN, "Inbound", "LocalPort"),
        (Side.ANSWERS, "Outbound", "LocalPort"),
        (Side.OUT, "Outbound", "RemotePort"),
        (Side.BACK, "Inbound", "RemotePort"),
    ],
)
def test_each_side_is_a_direction_and_an_end_and_is_looked_at_there(side: Side, direction: str, end: str) -> None:
    site: list[Network] = [ipaddress.ip_network("10.1.0.0/24")]
    powershell, by_netsh = (open_port(tool, 8883, site, side=side) for tool in (Tool.WINDOWS, Tool.NETSH))
    _, new = cmdlet(powershell.commands[0])
    _, old_style = netsh(by_netsh.commands[0])
    assert (new["Direction"], new[end]) == (direction, "8883")
    assert (old_style["dir"], old_style[end.lower()]) == (direction.lower().removesuffix("bound"), "8883")
    assert f"$_.{end} -in '8883','Any'" in powershell.look[-1]
