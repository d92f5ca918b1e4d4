"""The reading of a packet filter, held to the kernel: what `judge` says of a listing, and what becomes of a real SYN.

Random rule sets of nft, and what ufw, firewalld and both iptables make of themselves. `-m slow` draws many more.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final

import pytest

from propagator.core.ruleset import Connection, Judgement, Outcome, Source, Tool, judge
from tests.firewall.draw import Draw
from tests.firewall.pair import (
    DEVICE,
    FAR4,
    FAR6,
    NEAR4,
    NEAR6,
    OTHERS4,
    OTHERS6,
    PORT,
    Pair,
    listing,
    start_firewalld,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.firewall.pair import Address

SETS: Final = 20
"""Rule sets for each seed of the default run."""

SLOW_S: Final = 2.5
"""Long enough for the SYN to be sent again, after an ICMP that came while `connect` still held the socket."""


@pytest.fixture
def pair() -> Iterator[Pair]:
    with Pair() as made:
        yield made


def judged(source: Address, pair: Pair, *sources: Source) -> Judgement:
    near = NEAR4 if source.version == 4 else NEAR6
    return judge(listing(pair.near, *sources), Connection(source, near, PORT, DEVICE))


@pytest.mark.parametrize("seed", [1, 2, 3, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(4, 54))])
def test_what_is_said_of_a_random_rule_set_is_what_the_kernel_does(pair: Pair, seed: int) -> None:
    """Wrong without a caveat is nothing; undecided is little."""
    random = Random(seed)
    wrong, undecided, packets = [], 0, 0
    with pair.listening() as listeners:
        for draw in loaded(pair, random, SETS):
            sources: list[Address] = [FAR4, FAR6, random.choice(OTHERS4), random.choice(OTHERS6)]
            seen = pair.try_all(sources, listeners, 0.2)
            said = [judged(source, pair, Source.NFT_JSON, Source.NFT_TEXT) for source in sources]
            if any(not agree(one, found, draw) for one, found in zip(said, seen, strict=True)):
                seen = pair.try_all(sources, listeners, SLOW_S)
            packets += len(sources)
            undecided += sum(one.outcome is Outcome.CANNOT_TELL or bool(one.caveats) for one in said)
            wrong += [
                f"{source}: {found} by the kernel, judged {one}\n{draw.text}"
                for source, one, found in zip(sources, said, seen, strict=True)
                if not agree(one, found, draw) and not one.caveats
            ]
    assert wrong == []
    assert undecided <= packets / 10


def loaded(pair: Pair, random: Random, count: int) -> Iterator[Draw]:
    """Draw rule sets until `count` were loaded: some contradict themselves (udp and tcp in one rule)."""
    while count:
        draw = Draw(random)
        if pair.near.run("nft", "-f", "-", stdin=f"flush ruleset\n{draw.text}").returncode == 0:
            count -= 1
            yield draw


def agree(said: Judgement, seen: Outcome, draw: Draw) -> bool:
    """Compare; a refusal that the filter's own output eats looks like silence from outside."""
    if said.outcome is Outcome.REJECT and seen is Outcome.DROP and "hook output" in draw.text:
        return True
    return said.outcome in {seen, Outcome.CANNOT_TELL}


A, D, R = Outcome.ACCEPT, Outcome.DROP, Outcome.REJECT


@dataclass(frozen=True)
class Setup:
    """How a person set a firewall up; what IPv4 and IPv6 meet, and by which rule of whose."""

    name: str
    script: str
    expected: tuple[Outcome, Outcome]
    tool: Tool
    rule: str = ""


_UFW: Final = "ufw --force enable >/dev/null; ufw allow 22/tcp >/dev/null"
_STATEFUL: Final = "-m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT"

SETUPS: Final = [
    Setup("ufw", _UFW, (D, D), Tool.IPTABLES, "policy drop"),
    Setup(
        "ufw that allows the port", f"{_UFW}; ufw allow {PORT}/tcp", (A, A), Tool.IPTABLES, f"--dport {PORT} -j ACCEPT"
    ),
    Setup(
        "ufw that allows the port to a network",
        f"{_UFW}; ufw allow proto tcp from 10.77.0.0/24 to any port {PORT}",
        (A, D),
        Tool.IPTABLES,
        "-s 10.77.0.0/24",
    ),
    Setup(
        "ufw that allows the port to another network",
        f"{_UFW}; ufw allow proto tcp from 192.0.2.0/24 to any port {PORT}",
        (D, D),
        Tool.IPTABLES,
        "policy drop",
    ),
    Setup("ufw that rejects", f"{_UFW}; ufw reject {PORT}/tcp", (R, R), Tool.IPTABLES, "-j REJECT"),
    # Of the packaged rules for IPv6, `enable` leaves ufw6-user-limit-accept empty: IPv6 meets the policy.
    Setup("ufw that limits", f"{_UFW}; ufw limit {PORT}/tcp", (A, D), Tool.IPTABLES, "ufw-user-limit-accept"),
    Setup("ufw that is off", f"{_UFW}; ufw disable", (A, A), Tool.NFT, "policy accept"),
    Setup(
        "iptables-nft",
        f"for t in iptables-nft ip6tables-nft; do $t -A INPUT {_STATEFUL}; $t -A INPUT -p tcp --dport 22 -j ACCEPT; "
        "$t -P INPUT DROP; done",
        (D, D),
        Tool.IPTABLES,
        "policy drop",
    ),
    Setup(
        "iptables-nft with matches that JSON does not show",
        "iptables-nft -A INPUT -p tcp -m multiport --dports 22,8000:9000 -m conntrack --ctstate NEW -j REJECT "
        "--reject-with tcp-reset; ip6tables-nft -A INPUT -m iprange --src-range fd77::1-fd77::ff -j DROP",
        (R, D),
        Tool.IPTABLES,
        "--dports 22,8000:9000",
    ),
    Setup(
        "iptables-legacy",
        f"for t in iptables-legacy ip6tables-legacy; do $t -A INPUT {_STATEFUL}; "
        f"$t -A INPUT -p tcp --dport {PORT} -j DROP; done",
        (D, D),
        Tool.IPTABLES_LEGACY,
        f"--dport {PORT} -j DROP",
    ),
    Setup(
        "iptables-legacy beside nft, which accepts",
        "nft 'table inet f { chain i { type filter hook input priority 0; policy accept; }; }'; "
        "iptables-legacy -A INPUT -p tcp -m tcp ! --dport 22 -m state --state NEW -j REJECT",
        (R, A),
        Tool.IPTABLES_LEGACY,
        "! --dport 22",
    ),
    Setup(
        "nft that accepts in one table and drops in another",
        "nft 'table inet f { chain i { type filter hook input priority 0; policy drop; "
        f"tcp dport {PORT} accept; }}; }}; table ip g {{ chain i {{ type filter hook input priority 1; "
        f"tcp dport {PORT} drop; }}; }}'",
        (D, A),
        Tool.NFT,
        f"tcp dport {PORT} drop",
    ),
    Setup(
        "nft that drops the answers",
        "nft 'table inet f { chain o { type filter hook output priority 0; "
        "tcp flags & (syn|ack) == (syn|ack) drop; }; }'",
        (D, D),
        Tool.NFT,
        "drop",
    ),
    Setup(
        "nft on the device, before all else",
        f'nft \'table netdev f {{ chain i {{ type filter hook ingress device "{DEVICE}" priority 0; '
        f'ip saddr {FAR4} drop; }}; chain j {{ type filter hook ingress device "lo" priority 0; drop; }}; }}\'',
        (D, A),
        Tool.NFT,
        f"ip saddr {FAR4} drop",
    ),
    Setup(
        "nft with a table that sleeps",
        "nft 'table ip f { flags dormant; chain i { type filter hook input priority 0; policy drop; }; }'",
        (A, A),
        Tool.NFT,
        "",
    ),
]


@pytest.mark.parametrize("setup", SETUPS, ids=lambda setup: setup.name)
def test_a_firewall_as_people_set_it_up_is_read_as_the_kernel_reads_it(pair: Pair, setup: Setup) -> None:
    pair.near.shell(setup.script)
    said = [judged(source, pair) for source in (FAR4, FAR6)]
    assert tuple(one.outcome for one in said) == setup.expected
    assert all(one.is_fit for one in said) or "limits" in setup.name
    assert said[0].rule is None or (said[0].rule.tool, setup.rule in said[0].rule.text) == (setup.tool, True)
    with pair.listening() as listeners:
        assert tuple(pair.try_all([FAR4, FAR6], listeners)) == setup.expected


FIREWALLD: Final = [
    ("as it comes", "true", (R, R), "reject with icmpx admin-prohibited"),
    ("that has the port", f"firewall-cmd --add-port={PORT}/tcp", (A, A), f"tcp dport {PORT} accept"),
    ("that drops", "firewall-cmd --set-default-zone=drop", (D, D), "drop"),
    (
        "with a zone for the sources",
        "firewall-cmd --zone=internal --add-source=10.77.0.0/16; firewall-cmd --zone=internal --add-port=8000-9000/tcp",
        (A, R),
        "tcp dport 8000-9000 accept",
    ),
    (
        "with a zone for the interface, and a rich rule",
        (
            f"firewall-cmd --zone=drop --change-interface={DEVICE}; firewall-cmd --zone=drop --add-rich-rule="
            f"'rule family=ipv6 source address=fd77::/64 port port={PORT} protocol=tcp accept'"
        ),
        (D, A),
        "drop",
    ),
]


@pytest.mark.parametrize(
    ("script", "expected", "rule"), [pytest.param(*row, id=f"firewalld {name}") for name, *row in FIREWALLD]
)
def test_firewalld_is_read_as_the_kernel_reads_it(
    pair: Pair, script: str, expected: tuple[Outcome, Outcome], rule: str
) -> None:
    start_firewalld(pair.near)
    pair.near.shell(script)
    said = [judged(source, pair) for source in (FAR4, FAR6)]
    assert tuple(one.outcome for one in said) == expected
    assert all(one.is_fit for one in said)
    assert said[0].rule is not None
    assert rule in said[0].rule.text
    with pair.listening() as listeners:
        assert tuple(pair.try_all([FAR4, FAR6], listeners, SLOW_S)) == expected
