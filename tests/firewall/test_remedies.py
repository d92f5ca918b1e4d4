"""The remedies, typed in as they are printed: the port opens for the network that was named, and the undo undoes it."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from ipaddress import ip_network
from typing import TYPE_CHECKING, Final

import pytest

from propagator.core.remedy import ChainRef, Side, Tool, open_port
from propagator.core.ruleset import Connection, Outcome, Source, judge
from tests.firewall.pair import DEVICE, FAR4, FAR6, NEAR4, OTHERS4, PORT, Pair, listing, start_firewalld

if TYPE_CHECKING:
    from collections.abc import Iterator

    from propagator.core.remedy import Network
    from tests.firewall.pair import Address

SITE: Final[list[Network]] = [ip_network("10.77.0.0/24"), ip_network("fd77::/112")]
INSIDE: Final[list[Address]] = [FAR4, FAR6]
OUTSIDE: Final[list[Address]] = [OTHERS4[-1]]
WAIT_S: Final = 1.5
A, D, R = Outcome.ACCEPT, Outcome.DROP, Outcome.REJECT


@dataclass(frozen=True)
class Case:
    """A firewall that keeps the port shut: how it came about, what a device then meets, and what is done about it."""

    name: str
    script: str
    before: Outcome
    tool: Tool
    chain: ChainRef | None = None
    zone: str | None = None
    side: Side = Side.IN
    networks: bool = True


_NFT: Final = (
    "nft 'table inet filter { chain input { type filter hook input priority 0; policy drop; "
    "ct state established accept; }; }'"
)
_BOTH: Final = "for t in {0} {1}; do $t -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT; $t -P INPUT DROP; done"
# The reload: of the rules for IPv6 as they are packaged, `enable` leaves two out that the next change puts in.
_UFW: Final = "ufw --force enable >/dev/null; ufw allow 22/tcp >/dev/null; ufw reload >/dev/null"

CASES: Final = [
    Case("nft whose policy drops", _NFT, D, Tool.NFT, ChainRef("inet", "filter", "input")),
    Case(
        "nft whose policy drops, opened for all", _NFT, D, Tool.NFT, ChainRef("inet", "filter", "input"), networks=False
    ),
    Case(
        "nft whose rule rejects in another chain",
        "nft 'table inet own { chain deny { counter; tcp dport 1-65535 reject with tcp reset; }; "
        "chain input { type filter hook input priority 0; jump deny; }; }'",
        R,
        Tool.NFT,
        ChainRef("inet", "own", "deny"),
    ),
    Case(
        "nft that drops the answers",
        "nft 'table inet own { chain output { type filter hook output priority 0; policy drop; }; }'",
        D,
        Tool.NFT,
        ChainRef("inet", "own", "output"),
        side=Side.ANSWERS,
    ),
    Case("iptables", _BOTH.format("iptables", "ip6tables"), D, Tool.IPTABLES),
    Case("iptables, opened for all", _BOTH.format("iptables", "ip6tables"), D, Tool.IPTABLES, networks=False),
    Case("iptables-legacy", _BOTH.format("iptables-legacy", "ip6tables-legacy"), D, Tool.IPTABLES_LEGACY),
    Case("ufw that drops", _UFW, D, Tool.UFW),
    Case("ufw with a rule that rejects", f"{_UFW}; ufw reject {PORT}/tcp", R, Tool.UFW),
    Case("ufw, opened for all", _UFW, D, Tool.UFW, networks=False),
    Case("firewalld", "true", R, Tool.FIREWALLD),
    Case("firewalld, opened for all", "true", R, Tool.FIREWALLD, networks=False),
    Case(
        "firewalld with a zone", f"firewall-cmd --zone=drop --change-interface={DEVICE}", D, Tool.FIREWALLD, zone="drop"
    ),
]


@pytest.fixture
def pair() -> Iterator[Pair]:
    with Pair() as made:
        yield made


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_printed_opens_the_port_and_its_undo_shuts_it_again(pair: Pair, case: Case) -> None:
    if case.tool is Tool.FIREWALLD:
        start_firewalld(pair.near)
    pair.near.shell(case.script)
    remedy = open_port(
        case.tool, PORT, SITE if case.networks else [], zone=case.zone, chain=numbered(pair, case.chain), side=case.side
    )
    outside = A if not case.networks else case.before
    with pair.listening() as listeners:
        before = rules(pair)
        assert pair.try_all([*INSIDE, *OUTSIDE], listeners, WAIT_S) == [case.before] * 3
        assert typed(pair, remedy.commands) != []
        assert pair.try_all([*INSIDE, *OUTSIDE], listeners, WAIT_S) == [A, A, outside]
        assert "8883" in "".join(typed(pair, remedy.look))
        typed(pair, remedy.undo)
        assert rules(pair) == before
        assert pair.try_all([*INSIDE, *OUTSIDE], listeners, WAIT_S) == [case.before] * 3


def numbered(pair: Pair, chain: ChainRef | None) -> ChainRef | None:
    """Name the rule that drops, as the reading of the listing finds it."""
    if chain is None:
        return None
    rule = judge(listing(pair.near), Connection(FAR4, NEAR4, PORT, DEVICE)).rule
    assert rule is not None
    assert (rule.family, rule.table, rule.chain) == (chain.family, chain.table, chain.chain)
    return ChainRef(rule.family, rule.table, rule.chain, rule.handle)


def typed(pair: Pair, commands: tuple[str, ...]) -> list[str]:
    """Type them in, one after the other."""
    return [pair.near.do("sh", "-c", command) for command in commands]


_COUNTERS: Final = re.compile(r"\[\d+:\d+\]|counter packets \d+ bytes \d+| # handle \d+|^#.*$", re.MULTILINE)


def rules(pair: Pair) -> dict[str, str]:
    """Give all rules and what is kept of them, without counters, handles and times."""
    texts = {source: text for source, text in listing(pair.near).texts.items() if source is not Source.NFT_JSON}
    files = "/etc/nftables.conf /etc/ufw/user.rules /etc/ufw/user6.rules"
    kept = pair.near.run("sh", "-c", f"cat {files}; firewall-cmd --permanent --list-all-zones").stdout
    return {source: _COUNTERS.sub("", text) for source, text in (*texts.items(), ("kept", kept))}


@pytest.mark.parametrize("table", ["filter", "own"])
def test_nft_keeps_the_rule_over_a_restart_where_the_file_makes_the_table(pair: Pair, table: str) -> None:
    """What Debian's nftables.service does at boot: it loads the file."""
    made = f"table inet {table} {{ chain input {{ type filter hook input priority 0; policy drop; }}; }}"
    pair.near.do("nft", "-f", "-", stdin=made)
    pair.near.shell(f"printf 'flush ruleset\\n%s\\n' '{made.replace('own', 'filter')}' >/etc/nftables.conf")
    remedy = open_port(Tool.NFT, PORT, SITE, chain=ChainRef("inet", table, "input"))
    said = typed(pair, remedy.commands)
    pair.near.do("nft", "-f", "/etc/nftables.conf")
    with pair.listening() as listeners:
        assert pair.try_all(INSIDE, listeners) == ([A, A] if table == "filter" else [D, D])
    assert said[-1].startswith("Not kept") == (table == "own")


def test_iptables_is_kept_where_debians_package_keeps_it(pair: Pair) -> None:
    pair.near.shell(
        "printf '#!/bin/sh\\necho \"$1\" >>/run/kept\\n' >/etc/netfilter-persistent; chmod +x /etc/netfilter-persistent"
    )
    remedy = open_port(Tool.IPTABLES, PORT, SITE)
    for command in (*remedy.commands, *remedy.undo):
        pair.near.do("env", "PATH=/etc:/usr/sbin:/usr/bin:/sbin:/bin", "sh", "-c", command)
    assert pair.near.shell("cat /run/kept") == "save\nsave\n"


@pytest.mark.parametrize(
    ("tool", "script"),
    [
        (Tool.NFT, "nft 'table inet filter { chain output { type filter hook output priority 0; policy drop; }; }'"),
        (Tool.IPTABLES, "iptables -P OUTPUT DROP; ip6tables -P OUTPUT DROP"),
        (Tool.UFW, f"{_UFW}; ufw default deny outgoing"),
        (Tool.FIREWALLD, "firewall-cmd --direct --add-rule ipv4 filter OUTPUT 0 -p tcp --dport 8883 -j DROP"),
    ],
)
def test_a_device_whose_own_rules_keep_it_in_gets_out(pair: Pair, tool: Tool, script: str) -> None:
    if tool is Tool.FIREWALLD:
        start_firewalld(pair.near)
    pair.near.shell(script)
    asked = f"import socket; socket.create_connection(('{FAR4}', {PORT}), 1)"
    with pair.far.socket(socket.AF_INET) as listener:
        listener.bind((str(FAR4), PORT))
        listener.listen()
        assert pair.near.run("/usr/bin/python3", "-c", asked).returncode == 1
        remedy = open_port(tool, PORT, [ip_network(f"{FAR4}/32")], side=Side.OUT)
        typed(pair, remedy.commands)
        assert pair.near.run("/usr/bin/python3", "-c", asked).returncode == 0
        typed(pair, remedy.undo)
        assert pair.near.run("/usr/bin/python3", "-c", asked).returncode == 1
