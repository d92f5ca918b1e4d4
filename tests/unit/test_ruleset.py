"""The reading of listings, rule by rule: each row is one rule in a chain that drops (or accepts), and what it makes.

That the kernel does the same is shown in tests/firewall/test_rules.py. `listings/` holds what real tools printed.
"""

from __future__ import annotations

import json
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from propagator.core.ruleset import Connection, Judgement, Listing, Outcome, Segment, Source, Tool, judge

if TYPE_CHECKING:
    from collections.abc import Sequence

LISTINGS: Final = Path(__file__).parent / "listings"
V4: Final = Connection(ip_address("10.1.0.2"), ip_address("10.3.0.2"), 8883, "eth0")
V6: Final = Connection(ip_address("fd00:1::2"), ip_address("fd00:3::2"), 8883, "eth0")
UNKNOWN_IIF: Final = Connection(V4.saddr, V4.daddr, 8883)
A, D, R, E, N = Outcome.ACCEPT, Outcome.DROP, Outcome.REJECT, Outcome.REDIRECTED, Outcome.CANNOT_TELL
ACCEPT: Final[dict[str, Any]] = {"accept": None}
DROP: Final[dict[str, Any]] = {"drop": None}
TABLE: Final = {"family": "inet", "table": "t"}


def chain(name: str = "in", *, hook: str = "input", policy: str = "accept", prio: int = 0, kind: str = "filter") -> Any:
    return {"chain": {**TABLE, "name": name, "type": kind, "hook": hook, "prio": prio, "policy": policy}}


def plain(name: str) -> Any:
    return {"chain": {**TABLE, "name": name}}


def rule(*expr: Any, of: str = "in", handle: int = 7) -> Any:
    return {"rule": {**TABLE, "chain": of, "handle": handle, "expr": list(expr)}}


def nft(*objects: Any, text: str = "", **others: str) -> Listing:
    told = {"nftables": [{"metainfo": {"version": "1.0.6"}}, {"table": {"family": "inet", "name": "t"}}, *objects]}
    texts = dict.fromkeys(Source, "")
    texts |= {Source.NFT_JSON: json.dumps(told), Source.NFT_TEXT: text}
    return Listing(texts | {Source[name]: said for name, said in others.items()})


def saved(*lines: str, policy: str = "DROP", table: str = "filter", chains: Sequence[str] = ()) -> Listing:
    head = [f"*{table}", f":INPUT {policy} [0:0]", ":OUTPUT ACCEPT [0:0]", ":PREROUTING ACCEPT [0:0]"]
    text = "\n".join([*head, *(f":{name} - [0:0]" for name in chains), *lines, "COMMIT", ""])
    empty = '{"nftables": []}'
    return Listing(
        dict.fromkeys(Source, "")
        | {Source.NFT_JSON: empty, Source.IPTABLES_LEGACY: text, Source.IP6TABLES_LEGACY: text}
    )


YES, NO = True, False


def match(left: Any, right: Any, operator: str = "==") -> Any:
    return {"match": {"op": operator, "left": left, "right": right}}


def meta(key: str) -> Any:
    return {"meta": {"key": key}}


def ct(key: str, **more: str) -> Any:
    return {"ct": {"key": key, **more}}


def payload(protocol: str, name: str) -> Any:
    return {"payload": {"protocol": protocol, "field": name}}


DPORT: Final = payload("tcp", "dport")
SADDR: Final = payload("ip", "saddr")

MATCHES: Final[list[tuple[str, Any, bool | None]]] = [
    ("the port", match(DPORT, 8883), True),
    ("another port", match(DPORT, 22), False),
    ("not the port", match(DPORT, 8883, "!="), False),
    ("a port above", match(DPORT, 8000, ">"), True),
    ("a port below", match(DPORT, 8000, "<"), False),
    ("at most", match(DPORT, 8883, "<="), True),
    ("at least", match(DPORT, 8884, ">="), False),
    ("a range", match(DPORT, {"range": [8000, 9000]}), True),
    ("a set", match(DPORT, {"set": [22, {"range": [8000, 9000]}]}), True),
    ("a set of one", match(DPORT, {"set": 8883}), True),
    ("an element with a counter", match(DPORT, {"set": [{"elem": {"val": 8883, "counter": {}}}]}), True),
    ("a source port", match(payload("th", "sport"), 50000), True),
    ("the source", match(SADDR, "10.1.0.2"), True),
    ("a network", match(SADDR, {"prefix": {"addr": "10.1.0.0", "len": 16}}), True),
    ("another network", match(SADDR, {"prefix": {"addr": "10.2.0.0", "len": 16}}), False),
    ("a masked address", match({"&": [SADDR, "255.0.0.255"]}, "10.0.0.2"), True),
    ("the destination", match(payload("ip", "daddr"), "10.3.0.2"), True),
    ("the protocol of IPv4", match(payload("ip", "protocol"), "tcp"), True),
    ("the version of IPv4", match(payload("ip", "version"), 4), True),
    ("IPv6 alone", match(payload("ip6", "saddr"), "fd00:1::2", "!="), False),
    ("udp alone", match(payload("udp", "dport"), 53, "!="), False),
    ("icmp alone", match(payload("icmp", "type"), "echo-request", "!="), False),
    (
        "a concatenation",
        match({"concat": [SADDR, DPORT]}, {"set": [{"concat": ["10.1.0.2", {"range": [1, 9999]}]}]}),
        True,
    ),
    ("another concatenation", match({"concat": [SADDR, DPORT]}, {"set": [{"concat": ["10.1.0.2", 22]}]}), False),
    ("a concatenation of IPv6", match({"concat": [payload("ip6", "saddr"), DPORT]}, {"concat": ["fd00::1", 1]}), False),
    ("a concatenation with the unknown", match({"concat": [SADDR, meta("cpu")]}, {"concat": ["10.1.0.2", 1]}), None),
    ("a new connection", match(ct("state"), "new", "in"), True),
    ("new or related", match(ct("state"), ["related", "new"], "in"), True),
    ("established", match(ct("state"), "established", "in"), False),
    ("a set of states", match(ct("state"), {"set": ["new", "invalid"]}), True),
    ("not invalid", match(ct("state"), "invalid", "!="), True),
    ("a flag among others", match(payload("tcp", "flags"), "syn", "in"), True),
    ("flags under a mask", match({"&": [payload("tcp", "flags"), ["syn", "ack"]]}, "syn"), True),
    ("flags that are one value", match({"&": [payload("tcp", "flags"), ["syn", "ack"]]}, {"|": ["syn", "ack"]}), False),
    ("flags that nobody knows", match(payload("tcp", "flags"), ["syn", "xyz"], "in"), None),
    ("the interface", match(meta("iifname"), "eth0"), True),
    ("a beginning of its name", match(meta("iifname"), "eth*"), True),
    ("another interface", match(meta("iif"), "lo"), False),
    ("no outgoing interface", match(meta("oif"), "0", "!="), True),
    ("the family", match(meta("nfproto"), "ipv4"), True),
    ("the ether type", match(meta("protocol"), "ip"), True),
    ("the transport", match(meta("l4proto"), {"set": ["tcp", "udp"]}), True),
    ("the kind of packet", match(meta("pkttype"), "host"), True),
    ("no IPsec", match(meta("ipsec"), 0), True),
    ("a port of another protocol, masked", match({"&": [payload("udp", "dport"), 1]}, 0), False),
    ("no trace", match(meta("nftrace"), 0), True),
    ("no mark", match(meta("mark"), 0), True),
    ("a mark reckoned with", match({"|": [{"^": [meta("mark"), 5]}, 2]}, 7), True),
    ("an operand that is no number", match({"&": [meta("iifname"), 1]}, 1), None),
    ("no mark of the connection", match(ct("mark"), 0), True),
    ("no translation", match(ct("status"), ["dnat", "snat"], "in"), False),
    ("the direction", match(ct("direction"), "original"), True),
    ("no helper", match(ct("helper"), "ftp", "!="), False),
    ("the protocol that conntrack saw", match(ct("protocol"), "tcp"), True),
    ("the family that conntrack saw", match(ct("l3proto"), "ip"), True),
    ("the source that conntrack saw", match(ct("ip saddr", dir="original"), "10.1.0.2"), True),
    ("the same, written apart", match(ct("saddr", family="ip", dir="reply"), "10.3.0.2"), True),
    ("the port that conntrack saw", match(ct("proto-dst", dir="original"), 8883), True),
    ("the port of the answer", match(ct("proto-dst", dir="reply"), 50000), True),
    ("the source of another family", match(ct("ip6 saddr", dir="original"), "fd00::1", "!="), False),
    ("a tuple that nobody knows", match(ct("saddr", dir="original"), "10.1.0.2"), None),
    ("bytes that conntrack counted", match(ct("bytes"), 5), None),
    ("an address of ours", match({"fib": {"result": "type", "flags": ["daddr"]}}, "local"), True),
    ("a source that is not ours", match({"fib": {"result": "type", "flags": ["saddr"]}}, "unicast"), True),
    ("a route back", match({"fib": {"result": "oif", "flags": ["saddr", "iif"]}}, YES), True),
    ("no route back", match({"fib": {"result": "oif", "flags": ["saddr", "iif"]}}, NO), False),
    ("a route with one flag", match({"fib": {"result": "oifname", "flags": "saddr"}}, "eth0"), True),
    ("a route that is not known", match({"fib": {"result": "oif", "flags": ["daddr"]}}, YES), None),
    ("an IPv6 header", match({"exthdr": {"name": "frag"}}, YES), False),
    ("an option of IPv4", match({"ip option": {"name": "lsrr"}}, YES), False),
    ("a field of an option", match({"ip option": {"name": "lsrr", "field": "ptr"}}, 4, "!="), False),
    ("a TTL", match(payload("ip", "ttl"), 5, "<"), None),
    ("a window", match(payload("tcp", "window"), 5, "<"), None),
    ("raw payload", match({"payload": {"base": "nh", "offset": 8, "len": 8}}, 3), None),
    ("a random number", match({"numgen": {"mode": "random", "mod": 2}}, 0), None),
    ("a user", match(meta("skuid"), 0), None),
    ("an operator that nobody knows", match(DPORT, 8883, "~"), None),
    ("an expression that nobody knows", match([DPORT], 8883), None),
    ("a constant that nobody knows", match(DPORT, "mqtt"), None),
    ("a range that nobody knows", match(DPORT, {"range": ["a", "b"]}), None),
    ("a prefix that is none", match(SADDR, {"prefix": {"addr": "10.0.0.0", "len": 99}}), None),
    ("no address", match(SADDR, 5), None),
    ("a name that is no address", match(SADDR, "host.example"), None),
    ("rows that do not fit", match({"concat": [SADDR, DPORT]}, {"concat": ["10.1.0.2"]}), None),
    ("a set that is not listed", match(DPORT, "@gone"), None),
    ("a count of connections", {"ct count": {"val": 10}}, None),
]


@pytest.mark.parametrize(("told", "truth"), [pytest.param(*row, id=name) for name, *row in MATCHES])
def test_a_match_of_nft_on_a_syn_of_ipv4(told: Any, truth: object) -> None:
    judged = judge(
        nft(
            chain(policy="drop"),
            chain("out", hook="output"),
            rule(match(DPORT, 50000), ACCEPT),
            rule(told, ACCEPT),
            rule(match(ct("state"), "established", "in"), ACCEPT),
        ),
        V4,
    )
    assert judged.outcome is (N if truth is None else A if truth else D)
    assert bool(judged.unread) == (truth is None)


def test_ipv6_reads_the_same_fields() -> None:
    for told in (
        match(payload("ip6", "saddr"), {"prefix": {"addr": "fd00:1::", "len": 64}}),
        match(payload("ip6", "nexthdr"), "tcp"),
        match(meta("nfproto"), "ipv6"),
        match(meta("protocol"), "ip6"),
        match({"exthdr": {"name": "frag"}}, NO),
    ):
        assert judge(nft(chain(policy="drop"), rule(told, ACCEPT)), V6).outcome is A


def test_an_interface_that_is_not_known_leaves_its_rules_open() -> None:
    judged = judge(nft(chain(), rule(match(meta("iifname"), "lo"), DROP)), UNKNOWN_IIF)
    assert (judged.outcome, judged.possible) == (N, frozenset({A, D}))
    assert judged.unread == ("the interface it comes in by",)
    assert judge(saved("-A INPUT -i lo -j ACCEPT"), UNKNOWN_IIF).outcome is N


STATEMENTS: Final[list[tuple[str, list[Any], Outcome]]] = [
    ("drop", [DROP], D),
    ("reject", [{"reject": {"type": "icmpx", "expr": "port-unreachable"}}], R),
    ("reject of the other family", [{"reject": {"type": "icmpv6", "expr": "no-route"}}], A),
    ("reject of this family", [{"reject": {"type": "icmp"}}], R),
    ("reject without a word", [{"reject": None}], R),
    ("log and count", [{"log": None}, {"counter": None}, {"comment": "x"}], A),
    ("return", [{"return": None}], A),
    ("continue", [{"continue": None}, DROP], A),
    ("redirect", [{"redirect": {"port": 1}}], E),
    ("dnat", [{"dnat": {"addr": "10.0.0.1"}}], E),
    ("dnat by a map", [{"dnat": {"addr": {"map": {"key": DPORT, "data": {"set": [[8883, "10.0.0.1"]]}}}}}], E),
    ("dnat by a map without us", [{"dnat": {"port": {"map": {"key": DPORT, "data": {"set": [[22, 1]]}}}}}], A),
    ("dnat by a map that is not listed", [{"dnat": {"addr": {"map": {"key": DPORT, "data": "@gone"}}}}], N),
    ("masquerade", [{"masquerade": None}, DROP], A),
    ("queue", [{"queue": {"num": 3}}], N),
    ("a statement that nobody knows", [{"sing": None}], N),
    ("a statement of two words", [{"a": 1, "b": 2}], N),
    ("a hidden match of iptables", [{"xt": {"type": "match", "name": "x"}}, DROP], N),
    ("a rewritten packet", [{"mangle": {"key": DPORT, "value": 5}}], N),
    ("a rewritten TTL", [{"mangle": {"key": payload("ip", "ttl"), "value": 5}}], A),
    ("another thing written", [{"mangle": {"key": meta("priority"), "value": 5}}], A),
    ("added to a set", [{"set": {"op": "add", "elem": SADDR, "set": "@s"}}, DROP], D),
    (
        "a limit within a set",
        [{"set": {"op": "add", "elem": SADDR, "set": "@s", "stmt": [{"limit": {"rate": 5}}]}}, DROP],
        D,
    ),
    ("a quota", [{"quota": {"val": 5}}, DROP], N),
    ("a mark, and a match of it", [{"mangle": {"key": meta("mark"), "value": 5}}, match(meta("mark"), 5), DROP], D),
    ("a mark out of another", [{"mangle": {"key": ct("mark"), "value": meta("mark")}}, match(ct("mark"), 0), DROP], D),
    (
        "a mark nobody can reckon",
        [{"mangle": {"key": meta("mark"), "value": meta("cpu")}}, match(meta("mark"), 5), DROP],
        N,
    ),
    (
        "a mark by a map",
        [
            {"mangle": {"key": meta("mark"), "value": {"map": {"key": DPORT, "data": {"set": [[8883, 5]]}}}}},
            match(meta("mark"), 5),
            DROP,
        ],
        D,
    ),
    (
        "a mark by a map without us",
        [{"mangle": {"key": meta("mark"), "value": {"map": {"key": DPORT, "data": {"set": []}}}}}, DROP],
        A,
    ),
    (
        "a mark by a map that is not listed",
        [
            {"mangle": {"key": meta("mark"), "value": {"map": {"key": DPORT, "data": "@x"}}}},
            match(meta("mark"), 5),
            DROP,
        ],
        N,
    ),
    (
        "a mark by a map of unknown entries",
        [
            {"mangle": {"key": meta("mark"), "value": {"map": {"key": DPORT, "data": {"set": [["mqtt", 5]]}}}}},
            match(meta("mark"), 5),
            DROP,
        ],
        N,
    ),
    (
        "a mark by the unknown",
        [
            {"mangle": {"key": meta("mark"), "value": {"map": {"key": meta("cpu"), "data": {"set": []}}}}},
            match(meta("mark"), 5),
            DROP,
        ],
        N,
    ),
    (
        "a mark by the second entry of a map",
        [
            {"mangle": {"key": meta("mark"), "value": {"map": {"key": DPORT, "data": {"set": [[22, 1], [8883, 5]]}}}}},
            match(meta("mark"), 5),
            DROP,
        ],
        D,
    ),
    ("not tracked", [{"notrack": None}, match(ct("state"), "untracked", "in"), DROP], D),
    ("not tracked has no mark", [{"notrack": None}, match(ct("mark"), 0), DROP], A),
    ("a map to a drop", [{"vmap": {"key": DPORT, "data": {"set": [[22, ACCEPT], [8883, DROP]]}}}], D),
    ("a map without us", [{"vmap": {"key": DPORT, "data": {"set": [[22, DROP]]}}}], A),
    ("a map of another family", [{"vmap": {"key": payload("ip6", "saddr"), "data": {"set": [["fd00::1", DROP]]}}}], A),
    ("a map by the unknown", [{"vmap": {"key": meta("cpu"), "data": {"set": [[1, DROP]]}}}], N),
    (
        "a map with entries nobody knows",
        [{"vmap": {"key": DPORT, "data": {"set": [["mqtt", DROP], [8883, ACCEPT]]}}}],
        N,
    ),
    ("a map to a verdict nobody knows", [{"vmap": {"key": DPORT, "data": {"set": [[8883, {"sing": None}]]}}}], N),
    ("a map that is not listed", [{"vmap": {"key": DPORT, "data": "@gone"}}], N),
    ("a map that is none", [{"vmap": {"key": DPORT, "data": 5}}], N),
    ("a map to a jump", [{"vmap": {"key": DPORT, "data": {"set": [[8883, {"jump": {"target": "deny"}}]]}}}], D),
    ("a jump", [{"jump": {"target": "deny"}}], D),
    ("a goto", [{"goto": {"target": "deny"}}], D),
    ("a jump to nowhere", [{"jump": {"target": "gone"}}], N),
    ("a jump that names nothing", [{"jump": None}], N),
    ("a jump in a circle", [{"jump": {"target": "circle"}}], N),
]


@pytest.mark.parametrize(("expr", "outcome"), [pytest.param(*row, id=name) for name, *row in STATEMENTS])
def test_a_statement_of_nft_in_a_chain_that_accepts(expr: list[Any], outcome: Outcome) -> None:
    listing = nft(
        chain(),
        plain("deny"),
        plain("circle"),
        rule(*expr),
        rule(DROP, of="deny"),
        rule({"jump": {"target": "circle"}}, of="circle"),
    )
    assert judge(listing, V4).outcome is outcome


XTABLES: Final[list[tuple[str, Outcome]]] = [
    ("-A INPUT -p tcp -m tcp --dport 8883 -j ACCEPT", A),
    ("-A INPUT -p tcp -m tcp --dport 8000:9000 -j ACCEPT", A),
    ("-A INPUT -p tcp -m tcp --dport 9000: -j ACCEPT", D),
    ("-A INPUT -p tcp -m tcp ! --dport 22 -j ACCEPT", A),
    ("-A INPUT -p tcp -m tcp --sport 50000 -j ACCEPT", A),
    ("-A INPUT -p tcp -m tcp --dport mqtt -j ACCEPT", N),
    ("-A INPUT -p udp -m udp --dport 8883 -j ACCEPT", N),
    ("-A INPUT -p 6 -j ACCEPT", A),
    ("-A INPUT -p all -j ACCEPT", A),
    ("-A INPUT -p nonsense -j ACCEPT", N),
    ("-A INPUT -s 10.1.0.0/16 -j ACCEPT", A),
    ("-A INPUT ! -s 10.1.0.0/16 -j ACCEPT", D),
    ("-A INPUT -s 10.0.0.2/255.0.0.255 -j ACCEPT", A),
    ("-A INPUT -s 10.1.0.2 -d 10.3.0.2/32 -j ACCEPT", A),
    ("-A INPUT -s 0.0.0.0/0 -j ACCEPT", A),
    ("-A INPUT -s fd00::1/128 -j ACCEPT", D),
    ("-A INPUT -s nobody -j ACCEPT", N),
    ("-A INPUT -i eth0 -j ACCEPT", A),
    ("-A INPUT -i eth+ -j ACCEPT", A),
    ("-A INPUT -i lo -j ACCEPT", D),
    ("-A INPUT -f -j ACCEPT", D),
    ("-A INPUT -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j ACCEPT", A),
    ("-A INPUT -p tcp -m tcp --tcp-flags ALL NONE -j ACCEPT", D),
    ("-A INPUT -p tcp -m tcp --tcp-flags X Y -j ACCEPT", N),
    ("-A INPUT -p tcp -m tcp --syn -j ACCEPT", A),
    ("-A INPUT -p tcp -m multiport --dports 22,8000:9000 -j ACCEPT", A),
    ("-A INPUT -p tcp -m multiport --ports 50000 -j ACCEPT", A),
    ("-A INPUT -p tcp -m multiport ! --sports 50000 -j ACCEPT", D),
    ("-A INPUT -m conntrack --ctstate NEW,RELATED -j ACCEPT", A),
    ("-A INPUT -m conntrack --ctstate DNAT -j ACCEPT", D),
    ("-A INPUT -m conntrack --ctstate NONSENSE -j ACCEPT", N),
    ("-A INPUT -m conntrack --ctstatus NONE -j ACCEPT", A),
    ("-A INPUT -m conntrack --ctstatus SEEN_REPLY,ASSURED -j ACCEPT", D),
    ("-A INPUT -m conntrack --ctstatus NONSENSE -j ACCEPT", N),
    ("-A INPUT -m conntrack --ctdir ORIGINAL -j ACCEPT", A),
    ("-A INPUT -m state --state NEW -j ACCEPT", A),
    ("-A INPUT -m addrtype --dst-type LOCAL -j ACCEPT", A),
    ("-A INPUT -m addrtype --src-type LOCAL --limit-iface-in -j ACCEPT", D),
    ("-A INPUT -m addrtype --dst-type NONSENSE -j ACCEPT", N),
    ("-A INPUT -m iprange --src-range 10.1.0.1-10.1.0.9 -j ACCEPT", A),
    ("-A INPUT -m iprange --dst-range 10.1.0.1 -j ACCEPT", D),
    ("-A INPUT -m iprange --src-range x-y -j ACCEPT", N),
    ("-A INPUT -m mark --mark 0x0/0xff -j ACCEPT", A),
    ("-A INPUT -m mark --mark x -j ACCEPT", N),
    ("-A INPUT -m connmark --mark 0x0 -j ACCEPT", A),
    ("-A INPUT -m connmark --mark x -j ACCEPT", N),
    ("-A INPUT -m pkttype --pkt-type unicast -j ACCEPT", A),
    ('-A INPUT -m comment --comment "a \\"quoted\\" -j DROP" -j ACCEPT', A),
    ("-A INPUT -m limit --limit 5/sec --limit-burst 9 -j ACCEPT", A),
    ("-A INPUT -m hashlimit --hashlimit-above 5/sec --hashlimit-name x -j ACCEPT", D),
    ("-A INPUT -m connlimit --connlimit-upto 5 --connlimit-mask 32 --connlimit-saddr -j ACCEPT", A),
    ("-A INPUT -m recent --rcheck --seconds 5 --name x --rsource -j ACCEPT", D),
    ("-A INPUT -m rpfilter --invert -j ACCEPT", D),
    ("-A INPUT -m rt --rt-type 0 -j ACCEPT", D),
    ("-A INPUT -m socket --transparent -j ACCEPT", N),
    ("-A INPUT -m owner --uid-owner 0 -j ACCEPT", N),
    ("-A INPUT -m", D),
    ('-A INPUT -j LOG --log-prefix "x "', D),
    ("-A INPUT -j REJECT --reject-with tcp-reset", R),
    ("-A INPUT -j RETURN", D),
    ("-A INPUT -j DNAT --to-destination 10.0.0.1", E),
    ("-A INPUT -j NFQUEUE --queue-num 1", N),
    ("-A INPUT -j CT --helper ftp", D),
    ("-A INPUT -j NONSENSE", N),
    ("-A INPUT -j own", A),
    ("-A INPUT -g own", A),
    ("-A INPUT -j", N),
]


@pytest.mark.parametrize(("line", "outcome"), XTABLES)
def test_a_rule_of_iptables_in_a_chain_that_drops(line: str, outcome: Outcome) -> None:
    """What would follow the SYN is let through."""
    listing = saved(
        "-A INPUT -m state --state ESTABLISHED -j ACCEPT", line, "-A own -j ACCEPT", "-A gone -j DROP", chains=["own"]
    )
    judged = judge(listing, V4)
    if outcome is N and "udp" in line:
        outcome = D if judged.outcome is D else N  # a match of another protocol is not read; the protocol decided
    assert judged.outcome is outcome


MARKS: Final = [
    ("-j MARK --set-xmark 0x5/0xffffffff", "-m mark --mark 0x5", A),
    ("-j CONNMARK --set-xmark 0x5/0xff", "-m connmark --mark 0x5", A),
    ("-j CONNMARK --save-mark", "-m connmark --mark 0x0", A),
    ("-j CONNMARK --restore-mark --nfmask 0xff --ctmask 0xff", "-m mark --mark 0x0", A),
    ("-j MARK --nonsense", "-m mark --mark 0x0", N),
    ("-j CONNMARK --nonsense 1", "-m connmark --mark 0x0", N),
    ("-j CT --notrack", "-m state --state UNTRACKED", A),
    ("-j CT --notrack", "-m connmark --mark 0x0", D),
]


@pytest.mark.parametrize(("target", "asked", "outcome"), MARKS)
def test_iptables_writes_marks_that_later_rules_see(target: str, asked: str, outcome: Outcome) -> None:
    established = "-A INPUT -m state --state ESTABLISHED -j ACCEPT"
    assert judge(saved(f"-A INPUT {target}", f"-A INPUT {asked} -j ACCEPT", established), V4).outcome is outcome


def test_both_families_and_hooks_are_met_in_order() -> None:
    raw = chain("raw", hook="prerouting", prio=-300)
    listing = nft(raw, chain(), rule(match(ct("state"), "invalid", "in"), DROP, of="raw", handle=3), rule(DROP))
    judged = judge(listing, V4)
    assert judged.rule is not None
    assert (judged.outcome, judged.rule.handle, judged.segment) == (D, 3, Segment.SYN)
    assert "handle 3" in str(judged.rule)


def test_an_accept_ends_its_own_chain_only() -> None:
    listing = nft(chain(), chain("late", prio=5, policy="drop"), rule(ACCEPT))
    judged = judge(listing, V4)
    assert judged.outcome is D
    assert str(judged.rule) == "nft: inet t late: policy drop"


def test_what_drops_the_answer_drops_the_connection() -> None:
    judged = judge(nft(chain("out", hook="output"), rule(match(payload("tcp", "sport"), 8883), DROP, of="out")), V4)
    assert (judged.outcome, judged.segment) == (D, Segment.SYN_ACK)


def test_what_drops_the_acknowledgement_drops_the_connection() -> None:
    judged = judge(nft(chain(), rule(match(ct("state"), "established", "in"), DROP)), V4)
    assert (judged.outcome, judged.segment) == (D, Segment.ACK)


def test_a_mark_of_the_connection_is_seen_by_the_packets_after() -> None:
    mark = {"mangle": {"key": ct("mark"), "value": 5}}
    out = rule(match(ct("mark"), 5), DROP, of="out")
    assert judge(nft(chain(), chain("out", hook="output"), rule(mark), out), V4).outcome is D


def test_only_the_first_packet_meets_a_nat_chain() -> None:
    drop = rule(match(ct("state"), "established", "in"), DROP)
    assert judge(nft(chain(kind="nat"), drop), V4).outcome is A


def test_a_rate_limit_is_a_caveat_where_it_decides() -> None:
    limited = judge(nft(chain(policy="drop"), rule({"limit": {"rate": 5}}, ACCEPT)), V4)
    assert (limited.outcome, limited.is_fit) == (A, False)
    logged = judge(nft(chain(), rule({"limit": {"rate": 5}}, {"log": None})), V4)
    assert logged.caveats == ()
    over = judge(nft(chain(), {"limit": {**TABLE, "name": "l", "inv": True}}, rule({"limit": "l"}, DROP)), V4)
    assert (over.outcome, bool(over.caveats)) == (A, True)


def test_a_reset_in_a_table_of_both_families_is_a_caveat_unless_it_names_one() -> None:
    reset = {"reject": {"type": "tcp reset"}}
    assert judge(nft(chain(), rule(reset)), V4).caveats != ()
    assert judge(nft(chain(), rule(match(SADDR, "10.1.0.2"), reset)), V4).is_fit


def test_a_set_that_traffic_changes_is_a_caveat() -> None:
    changing = {"set": {**TABLE, "name": "s", "type": "ipv4_addr", "flags": ["dynamic"], "elem": ["10.1.0.2"]}}
    assert judge(nft(chain(), changing, rule(match(SADDR, "@s"), DROP)), V4).caveats == ("a set that traffic changes",)


def test_after_a_first_packet_that_was_not_tracked_the_state_is_not_known() -> None:
    """The SYN alone is told to conntrack not to look at; what it makes of the SYN-ACK depends on its settings."""
    syn = match({"&": [payload("tcp", "flags"), ["syn", "ack"]]}, "syn")
    raw = [chain("raw", hook="prerouting", prio=-300), rule(syn, {"notrack": None}, of="raw")]
    answers = chain("out", hook="output")
    for asked in (match(ct("state"), "established", "in"), match(ct("mark"), 0)):
        assert judge(nft(*raw, answers, rule(asked, DROP, of="out")), V4).outcome is N
    for words in ("-m state --state ESTABLISHED", "-m connmark --mark 0x0"):
        text = "*raw\n:PREROUTING ACCEPT\n-A PREROUTING -p tcp -m tcp --syn -j NOTRACK\nCOMMIT\n"
        text += f"*filter\n:OUTPUT ACCEPT\n-A OUTPUT {words} -j DROP\nCOMMIT\n"
        assert judge(nft(IPTABLES_LEGACY=text), V4).outcome is N


def test_too_many_marks_are_not_reckoned() -> None:
    rules = [
        rule(match(meta("cpu"), 1), {"mangle": {"key": meta("mark"), "value": {"|": [meta("mark"), 1 << bit]}}})
        for bit in range(10)
    ]
    assert "too many different marks" in judge(nft(chain(), *rules), V4).unread


def test_chains_too_deep_are_not_followed() -> None:
    deep = [plain(f"c{number}") for number in range(30)]
    jumps = [rule({"jump": {"target": f"c{number + 1}"}}, of=f"c{number}") for number in range(29)]
    assert judge(nft(chain(), *deep, rule({"jump": {"target": "c0"}}), *jumps), V4).outcome is N


def captured(name: str) -> Listing:
    told = json.loads((LISTINGS / f"{name}.json").read_text())
    return Listing({Source(source): text for source, text in told.items()})


REAL: Final = [
    ("ufw", (A, D), Tool.IPTABLES, "-A ufw-user-limit-accept -j ACCEPT"),
    ("firewalld", (R, R), Tool.NFT, "reject with icmpx admin-prohibited"),
    ("iptables-nft", (R, A), Tool.IPTABLES, "--dports 22,8000:9000"),
    ("iptables-legacy-beside-nft", (R, A), Tool.IPTABLES_LEGACY, "! --dport 22"),
    ("nft-that-sleeps", (A, A), None, ""),
]


@pytest.mark.parametrize(("name", "outcomes", "tool", "text"), REAL)
def test_a_real_listing(name: str, outcomes: tuple[Outcome, Outcome], tool: Tool | None, text: str) -> None:
    said = [judge(captured(name), one) for one in (V4, V6)]
    assert tuple(one.outcome for one in said) == outcomes
    rule_of = said[0].rule
    assert (None if rule_of is None else rule_of.tool) == tool
    assert rule_of is None or text in rule_of.text


def test_a_chain_of_a_device_is_met_on_that_device_alone() -> None:
    listing = captured("nft-on-the-device")
    far = ip_address("10.77.0.2")
    outcomes = {iif: judge(listing, Connection(far, V4.daddr, 8883, iif)).outcome for iif in ("enp3s0", "eth0", None)}
    assert outcomes == {"enp3s0": D, "eth0": A, None: N}


@pytest.mark.parametrize(("dev", "outcome"), [("eth0", D), (["eth0", "eth1"], D), ("eth1", A), (None, N)])
def test_newer_json_names_the_device(dev: Any, outcome: Outcome) -> None:
    told = chain(hook="ingress", policy="drop")
    told["chain"] |= {} if dev is None else {"dev": dev}
    assert judge(nft(told), V4).outcome is outcome


def test_everything_that_nft_prints_is_read_without_a_stumble() -> None:
    assert isinstance(judge(captured("nft-with-everything"), V4), Judgement)
    assert isinstance(judge(captured("nft-with-everything"), V6), Judgement)


@pytest.mark.parametrize(
    ("flags", "text", "outcome"),
    [
        ("inet", "", N),
        ("inet", "table inet t {\n\tflags dormant\n}\n", A),
        ("inet", "table inet t {\n\tflags owner\n}\n", D),
        (["dormant"], "", A),
        ("owner", "", D),
    ],
)
def test_a_table_that_sleeps_is_not_asked(flags: Any, text: str, outcome: Outcome) -> None:
    """nft 1.0.6 prints the family in place of the flags; only the text form says it."""
    table = {"table": {"family": "inet", "name": "t", "flags": flags}}
    assert judge(nft(table, chain(policy="drop"), text=text), V4).outcome is outcome


def test_a_text_of_several_lines_is_one_rule() -> None:
    head = 'table inet t {\n\tchain in {\n\t\ttype filter hook input priority 0;\n\t\tcomment "x"\n'
    text = f"{head}\t\ttcp dport {{ 1,\n\t\t\t 2 }} drop # handle 7\n\t}}\n}}\n"
    judged = judge(nft(chain(), rule(DROP), text=text), V4)
    assert judged.rule is not None
    assert judged.rule.text == "tcp dport { 1, 2 } drop"


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, '{"nftables": 5}'])
def test_a_listing_that_is_none_is_not_understood(text: str) -> None:
    judged = judge(Listing(dict.fromkeys(Source, "") | {Source.NFT_JSON: text}), V4)
    assert (judged.outcome, judged.possible) == (N, frozenset({A, N}))
    assert judged.unread == ("nft -j list ruleset: its output is not understood",)


def test_objects_that_are_none_are_passed_over() -> None:
    objects = [
        5,
        {"a": 1, "b": 2},
        {"set": 5},
        {"chain": {**TABLE, "name": "x", "hook": "forward"}},
        {"rule": {**TABLE, "chain": "in"}},
    ]
    assert judge(nft(chain(), *objects), V4).outcome is N


def test_what_was_not_read_can_only_take_away() -> None:
    """A drop that was read stands, whatever else there is; an accept does not."""
    listing = Listing(
        {Source.IPTABLES_LEGACY: saved(policy="DROP").texts[Source.IPTABLES_LEGACY]}, {Source.NFT_JSON: "no nft"}
    )
    assert judge(listing, V4).outcome is D
    nothing = judge(Listing(), V4)
    assert nothing.outcome is N
    assert nothing.unread == ("iptables-legacy-save: not read", "nft -j list ruleset: not read")


def test_two_families_are_no_connection() -> None:
    with pytest.raises(ValueError, match="one family"):
        judge(Listing(), Connection(V4.saddr, V6.daddr, 1))
