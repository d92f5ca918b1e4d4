"""The constants of an nft listing, made comparable: what a right-hand side, a set or the key of a map holds.

A domain turns what the listing prints ("tcp", "10.0.0.0", "syn") into the number or name that a packet carries. What it
does not know is kept as unreadable: a value that is found nowhere else may then be in it, or not.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, TypeAlias

from propagator.core.ruleset.model import CT_STATES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from propagator.core.difference import JsonValue

Plain: TypeAlias = int | str
Constant: TypeAlias = "Callable[[JsonValue], Plain | None]"


@dataclass(frozen=True, slots=True)
class Domain:
    """How the constants of one type are read. `bits`: a list of names is one number, their sum."""

    name: str
    constant: Constant
    bits: bool = False
    width: int = 0
    """Bits of an address, for prefixes."""


def named(names: dict[str, int]) -> Constant:
    """Read a number that may be printed as one of these names."""

    def constant(told: JsonValue) -> Plain | None:
        if isinstance(told, str):
            return names.get(told, _number(told))
        return int(told) if isinstance(told, int) else None

    return constant


def _number(text: str) -> int | None:
    try:
        return int(text, 0)
    except ValueError:
        return None


def _address(version: int) -> Constant:
    def constant(told: JsonValue) -> Plain | None:
        try:
            address = ip_address(told) if isinstance(told, str) else None
        except ValueError:
            return None
        return int(address) if address is not None and address.version == version else None

    return constant


def _interface(told: JsonValue) -> Plain | None:
    return told if isinstance(told, str) else None


def _numbers(text: str) -> dict[str, int]:
    return {name: int(number) for name, _, number in (word.partition("=") for word in text.split())}


PROTOCOLS: Final = _numbers(
    "ip=0 icmp=1 igmp=2 tcp=6 udp=17 dccp=33 ipv6=41 gre=47 esp=50 ah=51 ipv6-icmp=58 icmpv6=58 comp=108 "
    "ipcomp=108 vrrp=112 sctp=132 udplite=136 ospf=89 ipv6-frag=44 ipv6-route=43 ipv6-opts=60 ipv6-nonxt=59 "
    "hopopt=0 pim=103 ipip=4"
)
TCP_FLAGS: Final = _numbers("fin=1 syn=2 rst=4 psh=8 ack=16 urg=32 ecn=64 cwr=128")
CT_STATUS: Final = _numbers("expected=1 seen-reply=2 assured=4 confirmed=8 snat=16 dnat=32 dying=512")
ADDRESS_TYPES: Final = _numbers(
    "unspec=0 unicast=1 local=2 broadcast=3 anycast=4 multicast=5 blackhole=6 unreachable=7 prohibit=8"
)

NUMBER: Final = Domain("number", named({}))
PROTOCOL: Final = Domain("protocol", named(PROTOCOLS))
FAMILY: Final = Domain("family", named({"ipv4": 2, "ipv6": 10, "ip": 2, "ip6": 10}))
ETHER: Final = Domain("ether type", named({"ip": 0x800, "arp": 0x806, "vlan": 0x8100, "ip6": 0x86DD}))
FLAGS: Final = Domain("flags", named(TCP_FLAGS), bits=True)
STATE: Final = Domain("ct state", named(CT_STATES), bits=True)
STATUS: Final = Domain("ct status", named(CT_STATUS), bits=True)
DIRECTION: Final = Domain("direction", named({"original": 0, "reply": 1}))
PACKET: Final = Domain("packet type", named({"host": 0, "unicast": 0, "broadcast": 1, "multicast": 2, "other": 3}))
ADDRESS_TYPE: Final = Domain("address type", named(ADDRESS_TYPES))
INTERFACE: Final = Domain("interface", _interface)
IPV4: Final = Domain("IPv4 address", _address(4), width=32)
IPV6: Final = Domain("IPv6 address", _address(6), width=128)


@dataclass(frozen=True, slots=True)
class Among:
    """What a value is held against: single constants, spans, beginnings of names, and rows of several columns."""

    exact: frozenset[Plain] = frozenset()
    spans: tuple[tuple[int, int], ...] = ()
    beginnings: tuple[str, ...] = ()
    rows: tuple[tuple[Among, ...], ...] = ()
    unreadable: bool = False

    def has(self, value: object) -> bool | None:
        """Tell whether the value, or the columns of a concatenation, are in here; None if that cannot be told."""
        if isinstance(value, tuple):
            return _any([self._row_has(row, value) for row in self.rows], self.unreadable)
        if value in self.exact:
            return True
        if isinstance(value, int) and any(low <= value <= high for low, high in self.spans):
            return True
        if isinstance(value, str) and value and value.startswith(self.beginnings or ("\0",)):
            return True
        return None if self.unreadable else False

    @staticmethod
    def _row_has(row: tuple[Among, ...], values: tuple[object, ...]) -> bool | None:
        found = [column.has(value) for column, value in zip(row, values, strict=True)]
        return False if False in found else None if None in found else True


def _any(found: Iterable[bool | None], unreadable: bool) -> bool | None:  # noqa: FBT001  one fact more
    every = [*found, None if unreadable else False]
    return True if True in every else None if None in every else False


UNREADABLE: Final = Among(unreadable=True)


def union(parts: Iterable[Among]) -> Among:
    """Join what several elements hold; linear, for sets are long."""
    exact: set[Plain] = set()
    spans: list[tuple[int, int]] = []
    beginnings: list[str] = []
    rows: list[tuple[Among, ...]] = []
    unreadable = False
    for part in parts:
        exact |= part.exact
        spans += part.spans
        beginnings += part.beginnings
        rows += part.rows
        unreadable = unreadable or part.unreadable
    return Among(frozenset(exact), tuple(spans), tuple(beginnings), tuple(rows), unreadable)


def among(told: JsonValue, domains: tuple[Domain, ...]) -> Among:
    """Read one element: a constant, a range, a prefix, or a concatenation of one of them for each domain."""
    match told:
        case {"elem": {"val": inner}}:
            return among(inner, domains)
        case {"concat": [*columns]} if len(columns) == len(domains) > 1:
            return Among(rows=(tuple(among(column, (one,)) for column, one in zip(columns, domains, strict=True)),))
        case _ if len(domains) == 1:
            return _single(told, domains[0])
        case _:
            return UNREADABLE


def _single(told: JsonValue, domain: Domain) -> Among:
    match told:
        case {"range": [low, high]}:
            return _span(domain.constant(low), domain.constant(high))
        case {"prefix": {"addr": start, "len": int(length)}}:
            return _prefix(domain.constant(start), length, domain.width)
        case str() if domain is INTERFACE and told.endswith("*"):
            return Among(beginnings=(told[:-1].replace("\\", ""),))
        case _:
            value = constant(told, domain)
            return UNREADABLE if value is None else Among(frozenset({value}))


def constant(told: JsonValue, domain: Domain) -> Plain | None:
    """Read one constant; where names are bits, a list or `a | b` is the sum of them."""
    if domain.bits:
        match told:
            case [*names] | {"|": [*names]}:
                total = 0
                for name in names:
                    bit = constant(name, domain)
                    if not isinstance(bit, int):
                        return None
                    total |= bit
                return total
            case _:
                pass
    return domain.constant(told)


def _span(low: Plain | None, high: Plain | None) -> Among:
    return Among(spans=((low, high),)) if isinstance(low, int) and isinstance(high, int) else UNREADABLE


def _prefix(start: Plain | None, length: int, width: int) -> Among:
    if not isinstance(start, int) or not 0 <= length <= width:
        return UNREADABLE
    size = 1 << (width - length)
    first = start & ~(size - 1)
    return Among(spans=((first, first + size - 1),))
