"""Random nft rule sets, drawn from a seed: sets, verdict maps, jumps, gotos, three hooks, IPv4 and IPv6.

Each is drawn to meet the connections of `pair`: its addresses, port, interface and marks, and others near them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.firewall.pair import DEVICE, FAR4, FAR6, NEAR4, NEAR6, OTHERS4, OTHERS6, PORT

if TYPE_CHECKING:
    from random import Random

V4: Final = [str(one) for one in (FAR4, *OTHERS4)]
V6: Final = [str(one) for one in (FAR6, *OTHERS6)]
_STATES: Final = ("new", "established", "related", "invalid", "untracked")
_FLAGS: Final = ("syn", "ack", "fin", "rst", "psh")


class Draw:
    """One rule set. `text` is what `nft -f` reads."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self.text = "\n".join(self._table(f"t{number}") for number in range(random.choice((1, 1, 1, 2, 3))))

    def _pick(self, *words: str) -> str:
        return self._random.choice(words)

    def _some(self, words: tuple[str, ...] | list[str], most: int = 4) -> list[str]:
        return self._random.sample(list(words), self._random.randint(1, min(most, len(words))))

    def _table(self, name: str) -> str:
        self._family = self._pick("inet", "inet", "inet", "ip", "ip6")
        helpers = [f"c{number}" for number in range(self._random.randint(0, 4))]
        self._sets: list[str] = []
        sets = [self._set(number) for number in range(self._random.randint(0, 3))]
        chains = []
        for number, helper in enumerate(helpers):
            self._callable = helpers[number + 1 :]
            chains.append(self._chain(helper, ""))
        self._callable = helpers
        for hook in self._random.sample(("prerouting", "input", "output", "input"), self._random.randint(1, 3)):
            priority = self._random.choice((-300, -250, -150, -10, 0, 5))
            policy = self._pick("accept", "accept", "drop")
            base = f"type filter hook {hook} priority {priority}; policy {policy};"
            chains.append(self._chain(f"{hook}{len(chains)}", base))
        return "\n".join([f"table {self._family} {name} {{", *sets, *reversed(chains), "}"]).replace("@NAME", name)

    def _set(self, number: int) -> str:
        name = f"s{number}"
        v6 = self._family == "ip6" or (self._family == "inet" and self._random.random() < 0.4)
        kind = self._pick("address", "address", "port", "pair")
        if kind == "port":
            self._sets.append(f"tcp dport @{name}")
            return f"set {name} {{ type inet_service; flags interval; elements = {{ {', '.join(self._ports())} }}\n }}"
        word, domain = ("ip6 saddr", "ipv6_addr") if v6 else ("ip saddr", "ipv4_addr")
        if kind == "address":
            self._sets.append(f"{word} {self._pick('', '!= ')}@{name}")
            values = ", ".join(self._addresses(v6=v6))
            return f"set {name} {{ type {domain}; flags interval; auto-merge; elements = {{ {values} }}\n }}"
        self._sets.append(f"{word} . tcp dport @{name}")
        rows = ", ".join(f"{one} . {self._random.choice((PORT, 22, 443))}" for one in self._some(V6 if v6 else V4, 5))
        return f"set {name} {{ type {domain} . inet_service; elements = {{ {rows} }}\n }}"

    def _chain(self, name: str, base: str) -> str:
        rules = [f"    {self._rule(base)}" for _ in range(self._random.randint(1, 6))]
        return "\n".join([f"  chain {name} {{", *([f"    {base}"] if base else []), *rules, "  }"])

    def _rule(self, base: str) -> str:
        if self._random.random() < 0.12:
            return self._verdict_map()
        matches = " ".join(self._match() for _ in range(self._random.choice((0, 1, 1, 1, 2, 2, 3))))
        quiet = self._pick("", "", "counter", 'log prefix "x"') if not base or matches else ""
        return " ".join(word for word in (matches, quiet, self._end(base)) if word)

    def _end(self, base: str) -> str:
        calls = [f"{how} {one}" for one in self._callable for how in ("jump", "goto")]
        reject = self._reject() if "prerouting" not in base else "drop"
        mark = self._random.choice((0, 1, 5, 7))
        return self._pick(
            *("accept", "accept", "drop", reject, "return", "counter", "continue", *calls, *calls),
            *(
                f"meta mark set {mark}",
                f"ct mark set {mark}",
                "meta mark set ct mark",
                f"meta mark set meta mark or {mark}",
            ),
        )

    def _reject(self) -> str:
        icmp = {"inet": "icmpx type admin-prohibited", "ip": "icmp type host-prohibited", "ip6": "icmpv6 type no-route"}
        # Before `reject with tcp reset` nft 1.0.6 does not list `meta nfproto` (FIREWALL.md §6): not drawn together.
        return self._pick(
            "reject", f"reject with {icmp[self._family]}", "meta l4proto tcp reject with tcp reset", "drop"
        )

    def _verdict_map(self) -> str:
        ends = [
            "accept",
            "drop",
            "continue",
            "return",
            *(f"{how} {one}" for one in self._callable for how in ("jump", "goto")),
        ]
        address = "ip6 saddr" if self._family == "ip6" else "ip saddr"
        values = V6 if self._family == "ip6" else V4
        key, entries = self._random.choice(
            (
                ("tcp dport", [str(PORT), "22", "1000-2000", "9000-9100"]),
                (address, values),
                ("ct state", ["new", "established", "invalid"]),
                ("iifname", [f'"{DEVICE}"', '"lo"', '"wlan*"']),
                ("meta mark", ["0", "1", "5"]),
                (f"{address} . tcp dport", [f"{one} . {PORT}" for one in values]),
            )
        )
        chosen = self._some(entries, 5)
        return f"{key} vmap {{ {', '.join(f'{one} : {self._pick(*ends)}' for one in chosen)} }}"

    def _match(self) -> str:
        v6 = self._family == "ip6" or (self._family == "inet" and self._random.random() < 0.4)
        return self._pick(*self._common(), *(self._of_ip(v6=v6) for _ in range(5)), *self._sets, *self._sets)

    def _common(self) -> list[str]:
        states, flags = ",".join(self._some(_STATES, 3)), "|".join(self._some(_FLAGS, 3))
        wanted = self._pick(*flags.split("|"))
        mark = self._random.choice((0, 1, 5, 7))
        return [
            *(
                f"tcp dport {PORT}",
                f"tcp dport {{ {', '.join(self._ports())} }}",
                f"tcp dport != {PORT}",
                "tcp dport > 1024",
            ),
            *(
                f"tcp sport {PORT}",
                "tcp sport >= 30000",
                f"tcp dport {PORT - 5}-{PORT + 5}",
                "udp dport 53",
                "th dport < 9000",
            ),
            *(
                f"ct state {states}",
                f"ct state {{ {states} }}",
                f"ct state != {states.split(',')[0]}",
                "ct direction original",
            ),
            *("ct status dnat", "ct status seen-reply", f"ct mark {mark}", f"ct mark and 3 == {mark & 3}"),
            *(
                f"tcp flags & ({flags}) == {wanted}",
                f"tcp flags {wanted}",
                f"tcp flags != {wanted}",
                f"tcp flags == {wanted}",
            ),
            *(f"tcp flags {{ {', '.join(self._some(_FLAGS))} }}", f"tcp flags & ({flags}) != 0"),
            *(
                f'iifname "{DEVICE}"',
                'iifname "lo"',
                'iifname { "eth0", "enp*" }',
                f'oifname "{DEVICE}"',
                f'iif "{DEVICE}"',
                "oif lo",
            ),
            *(
                'iifname != "lo"',
                'oifname != "eth0"',
                'iifname "enp*"',
                f'iifname . tcp dport {{ "{DEVICE}" . {PORT} }}',
            ),
            *(f"meta mark {mark}", f"meta mark != {mark}", f"meta mark and 4 == {mark & 4}", "meta mark > 3"),
            *("meta l4proto tcp", "meta l4proto { udp, icmp }", "meta l4proto != tcp", "meta pkttype host"),
            *("limit rate over 1000/second", "limit rate 1000/second burst 500 packets"),
            *(["meta nfproto ipv4", "meta nfproto ipv6"] if self._family == "inet" else []),
        ]

    def _of_ip(self, *, v6: bool) -> str:
        ip, values = ("ip6", V6) if v6 else ("ip", V4)
        near = NEAR6 if v6 else NEAR4
        return self._pick(
            *(f"{ip} saddr {self._pick(*values)}", f"{ip} saddr {{ {', '.join(self._addresses(v6=v6))} }}"),
            *(f"{ip} saddr != {self._pick(*values)}", f"{ip} daddr {near}", f"{ip} daddr {self._pick(*values)}"),
            *(f"{ip} saddr . tcp dport {{ {self._pick(*values)} . {PORT}, {self._pick(*values)} . 22-9000 }}",),
            *(f"{ip} saddr {'fd77::/112' if v6 else '10.77.0.0/24'}", f"{ip} daddr != {near}"),
            *(
                ["ip6 nexthdr tcp", "icmpv6 type echo-request"]
                if v6
                else ["ip protocol tcp", "ip protocol { icmp, udp }"]
            ),
            *(["fib daddr type local", "fib saddr type unicast", "fib daddr type { broadcast, multicast }"]),
            *([] if v6 else ["ip saddr & 255.255.0.255 == 10.77.0.7", "ip saddr 10.77.0.5-10.77.4.255"]),
            *(
                [
                    f"ct original {ip} saddr {self._pick(*values)}",
                    f"ct reply {ip} saddr {near}",
                    "fib saddr . iif oif missing",
                ]
            ),
            *(["exthdr frag exists"] if v6 else []),
        )

    def _ports(self) -> list[str]:
        return self._some([str(PORT), "22", "80", "443", "1000-2000", "8000-8882", "8884-9000"], 4)

    def _addresses(self, *, v6: bool) -> list[str]:
        if v6:
            return self._some([*V6, "fd00::/16", "2001:db8::1"], 4)
        return self._some([*V4[:2], "10.77.5.0/24", "10.77.128.0/17", "192.0.2.0/24", "10.0.0.1-10.0.0.9"], 4)
