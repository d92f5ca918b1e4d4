"""The left-hand sides of an nft listing: what a packet carries where an expression looks.

Each expression becomes a field: how its constants are printed, and a function that reads it. `MISSING`: this packet has
no such thing, and the rule does not match it, whatever the operator (nft's implied dependency on a protocol).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from propagator.core.ruleset import values
from propagator.core.ruleset.model import CT_STATES, Marks, Seen, Segment, ct_state
from propagator.core.ruleset.values import Domain, Plain

if TYPE_CHECKING:
    from propagator.core.difference import JsonObject, JsonValue


class Missing(Enum):
    """The packet does not have it."""

    MISSING = "missing"


MISSING: Final = Missing.MISSING


@dataclass(frozen=True, slots=True)
class Unknown:
    """No listing says it; `name` is what one would have to know."""

    name: str


Value: TypeAlias = Plain | tuple[Plain, ...] | Missing | Unknown
Read: TypeAlias = Callable[[Seen, Marks], Value]


@dataclass(frozen=True, slots=True)
class Field:
    """What an expression reads, and in which domains (one for each column of a concatenation)."""

    domains: tuple[Domain, ...]
    read: Read

    @property
    def domain(self) -> Domain:
        """The domain of a field of one column."""
        return self.domains[0]


def field(told: JsonValue) -> Field:
    """Give the field of an expression. One that is not known here reads as unknown, by its name."""
    if not isinstance(told, dict) or len(told) != 1:
        return _unknown("an expression that nft prints and this reader does not know")
    ((kind, what),) = told.items()
    if isinstance(what, dict) and kind in _FIELDS:
        return _FIELDS[kind](what)
    match kind, what:
        case "concat", [*columns]:
            return _concat([field(column) for column in columns])
        case "&" | "|" | "^", [left, *right]:
            return _reckoned(kind, left, right)
        case _:
            return _unknown(f"the {kind} expression")


def _unknown(name: str) -> Field:
    return Field((values.NUMBER,), lambda _seen, _marks: Unknown(name))


def assume(seen: Seen, value: Plain, name: str) -> Value:
    """Give the likely value, unless only what is sure shall count."""
    return Unknown(name) if seen.strict else value


_OTHER_PROTOCOLS: Final = {
    *("udp", "udplite", "icmp", "icmpv6", "igmp", "arp", "vlan", "sctp", "dccp", "ah", "esp", "comp", "gre"),
}
_PORTS: Final[dict[str, Callable[[Seen], int]]] = {"sport": lambda seen: seen.sport, "dport": lambda seen: seen.dport}
_ADDRESSES: Final[dict[str, Callable[[Seen], int]]] = {
    "saddr": lambda seen: int(seen.saddr),
    "daddr": lambda seen: int(seen.daddr),
}
_IP_VERSIONS: Final = {"ip": (4, values.IPV4, "protocol"), "ip6": (6, values.IPV6, "nexthdr")}


def _payload(told: JsonObject) -> Field:
    protocol, name = str(told.get("protocol", "raw")), str(told.get("field", "payload"))
    if protocol in _OTHER_PROTOCOLS:
        return Field((values.NUMBER,), lambda _seen, _marks: MISSING)
    if protocol in _IP_VERSIONS:
        return _network_header(protocol, name)
    if protocol in {"tcp", "th"} and name in _PORTS:
        port = _PORTS[name]
        return Field((values.NUMBER,), lambda seen, _marks: port(seen))
    if protocol == "tcp" and name == "flags":
        return Field((values.FLAGS,), lambda seen, _marks: seen.flags)
    return _unknown(f"{protocol} {name}")


def _network_header(protocol: str, name: str) -> Field:
    version, domain, next_header = _IP_VERSIONS[protocol]
    if name in _ADDRESSES:
        address = _ADDRESSES[name]
        return Field((domain,), lambda seen, _marks: address(seen) if seen.version == version else MISSING)
    known = {next_header: values.PROTOCOLS["tcp"], "version": version}
    value: Value = known.get(name, Unknown(f"{protocol} {name}"))
    kind = values.PROTOCOL if name == next_header else values.NUMBER
    return Field((kind,), lambda seen, _marks: value if seen.version == version else MISSING)


def _meta(told: JsonObject) -> Field:
    key = str(told.get("key"))
    found = _METAS.get(key)
    return _unknown(f"meta {key}") if found is None else Field((found[0],), found[1])


def _interface(name: str | None) -> Value:
    return Unknown("the interface it comes in by") if name is None else name


def _mark(mark: int | None) -> Value:
    return Unknown("a mark that could not be reckoned") if mark is None else mark


_METAS: Final[dict[str, tuple[Domain, Read]]] = {
    "nfproto": (values.FAMILY, lambda seen, _marks: 2 if seen.version == 4 else 10),  # noqa: PLR2004  IP versions
    "protocol": (values.ETHER, lambda seen, _marks: 0x800 if seen.version == 4 else 0x86DD),  # noqa: PLR2004
    "l4proto": (values.PROTOCOL, lambda _seen, _marks: values.PROTOCOLS["tcp"]),
    "mark": (values.NUMBER, lambda _seen, marks: _mark(marks.mark)),
    "pkttype": (values.PACKET, lambda _seen, _marks: 0),
    "iif": (values.INTERFACE, lambda seen, _marks: _interface(seen.iif)),
    "iifname": (values.INTERFACE, lambda seen, _marks: _interface(seen.iif)),
    "oif": (values.INTERFACE, lambda seen, _marks: _interface(seen.oif)),
    "oifname": (values.INTERFACE, lambda seen, _marks: _interface(seen.oif)),
    "nftrace": (values.NUMBER, lambda _seen, _marks: 0),
    "ipsec": (values.NUMBER, lambda seen, _marks: assume(seen, 0, "whether it comes through IPsec")),
    "secpath": (values.NUMBER, lambda seen, _marks: assume(seen, 0, "whether it comes through IPsec")),
    "sdif": (values.INTERFACE, lambda seen, _marks: assume(seen, "", "whether its interface is in a VRF")),
    "sdifname": (values.INTERFACE, lambda seen, _marks: assume(seen, "", "whether its interface is in a VRF")),
}


def _ct(told: JsonObject) -> Field:
    key, direction, family = str(told.get("key")), told.get("dir"), told.get("family")
    if key == "state":
        return Field((values.STATE,), _ct_state)
    if key in {"mark", "status", "direction", "helper", "zone", "protocol", "l3proto"}:
        domain, read = _CTS[key]
        return Field((domain,), partial(_tracked, read))
    if direction in {"original", "reply"}:
        words = key.split() if " " in key else [str(family or ""), key]
        return _ct_tuple(words, direction == "reply")
    return _unknown(f"ct {key}")


def _ct_state(seen: Seen, marks: Marks) -> Value:
    state = ct_state(seen, marks)
    return Unknown("the state of a connection whose first packet was not tracked") if state is None else state


def _tracked(read: Read, seen: Seen, marks: Marks) -> Value:
    """Conntrack knows nothing of a packet that it has not seen, or was told not to look at."""
    state = ct_state(seen, marks)
    if state in {CT_STATES["invalid"], CT_STATES["untracked"]}:
        return MISSING
    return _ct_state(seen, marks) if state is None else read(seen, marks)


_STATUSES: Final = {Segment.SYN: 0, Segment.SYN_ACK: 2 | 8, Segment.ACK: 2 | 4 | 8}
_CTS: Final[dict[str, tuple[Domain, Read]]] = {
    "mark": (values.NUMBER, lambda _seen, marks: _mark(marks.ct_mark)),
    "status": (values.STATUS, lambda seen, _marks: _STATUSES[seen.segment]),
    "direction": (values.DIRECTION, lambda seen, _marks: int(seen.is_reply)),
    "helper": (values.INTERFACE, lambda _seen, _marks: MISSING),
    "zone": (values.NUMBER, lambda seen, _marks: assume(seen, 0, "the conntrack zone")),
    "protocol": (values.PROTOCOL, lambda _seen, _marks: values.PROTOCOLS["tcp"]),
    "l3proto": (values.FAMILY, lambda seen, _marks: 2 if seen.version == 4 else 10),  # noqa: PLR2004  IP versions
}


def _ct_tuple(words: list[str], of_reply: bool) -> Field:  # noqa: FBT001  one of two directions
    """Read an end of the connection, as it was when it began (`original`) or seen from the answer."""
    swap = {"saddr": "daddr", "daddr": "saddr", "proto-src": "dport", "proto-dst": "sport"}
    keep = {"saddr": "saddr", "daddr": "daddr", "proto-src": "sport", "proto-dst": "dport"}
    family, name = words[0], words[-1]
    if name not in keep or (name in _ADDRESSES and family not in _IP_VERSIONS):
        return _unknown(f"ct {' '.join(words)}")

    def read(seen: Seen, _marks: Marks) -> Value:
        where = (keep if of_reply == seen.is_reply else swap)[name]
        if where in _PORTS:
            return _PORTS[where](seen)
        return _ADDRESSES[where](seen) if _IP_VERSIONS[family][0] == seen.version else MISSING

    domain = _IP_VERSIONS[family][1] if name in _ADDRESSES else values.NUMBER
    return Field((domain,), partial(_tracked, read))


def _fib(told: JsonObject) -> Field:
    result, flagged = told.get("result"), told.get("flags")
    flags = flagged if isinstance(flagged, list) else [flagged]
    if result == "type" and ("saddr" in flags) != ("daddr" in flags):
        of_source = "saddr" in flags
        local, unicast = values.ADDRESS_TYPES["local"], values.ADDRESS_TYPES["unicast"]
        return Field((values.ADDRESS_TYPE,), lambda seen, _marks: local if seen.is_reply == of_source else unicast)
    if result in {"oif", "oifname"} and "saddr" in flags:
        return Field((values.INTERFACE,), _reverse_path)
    return _unknown(f"fib {result}")


def _reverse_path(seen: Seen, _marks: Marks) -> Value:
    """The interface is by definition the one of the route back."""
    return seen.iif or Unknown("the route back")


def _absent_header(version: int, told: JsonObject) -> Field:
    """A SYN of a plain connection carries no extension headers and no IP options."""
    value: Value = MISSING if told.get("field") else 0
    return Field((values.NUMBER,), lambda seen, _marks: value if seen.version == version else MISSING)


def _concat(columns: list[Field]) -> Field:
    def read(seen: Seen, marks: Marks) -> Value:
        found = [column.read(seen, marks) for column in columns]
        plain: list[Plain] = []
        for value in found:
            if value is MISSING:
                return MISSING
            if isinstance(value, int | str):
                plain.append(value)
        doubts = [value for value in found if isinstance(value, Unknown)]
        return doubts[0] if doubts else tuple(plain)

    return Field(tuple(column.domain for column in columns), read)


_OPERATIONS: Final[dict[str, Callable[[int, int], int]]] = {
    "&": lambda left, right: left & right,
    "|": lambda left, right: left | right,
    "^": lambda left, right: left ^ right,
}


def _reckoned(operator: str, left: JsonValue, right: list[JsonValue]) -> Field:
    """Reckon with a field and constants (`tcp flags & (syn | ack)`, `meta mark & 0xff | 3`)."""
    first = field(left)
    masks = [values.constant(one, first.domain) for one in right]

    def read(seen: Seen, marks: Marks) -> Value:
        value = first.read(seen, marks)
        for mask in masks:
            if isinstance(value, Missing | Unknown):
                return value
            if not isinstance(value, int) or not isinstance(mask, int):
                return Unknown(f"what an expression with {operator} gives")
            value = _OPERATIONS[operator](value, mask)
        return value

    return Field(first.domains, read)


_FIELDS: Final[dict[str, Callable[[JsonObject], Field]]] = {
    "payload": _payload,
    "meta": _meta,
    "ct": _ct,
    "fib": _fib,
    "exthdr": partial(_absent_header, 6),
    "ip option": partial(_absent_header, 4),
}
