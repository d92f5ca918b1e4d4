"""The matches of iptables: each option, with its values as saved, as a step; None if the values are not understood."""

from __future__ import annotations

from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, TypeAlias

from propagator.core.ruleset.model import (
    CT_STATES,
    ON,
    OVER,
    Address,
    Marks,
    Seen,
    Segment,
    assumed,
    ct_state,
    either,
)
from propagator.core.ruleset.statements import RATE
from propagator.core.ruleset.values import ADDRESS_TYPES, CT_STATUS, PROTOCOLS, TCP_FLAGS

if TYPE_CHECKING:
    from collections.abc import Callable

    from propagator.core.ruleset.model import Step, Way

Values: TypeAlias = list[str]
Make: TypeAlias = "Callable[[Values], Step | None]"

WITHOUT_VALUE: Final = {
    *("-f", "--syn", "--limit-iface-in", "--limit-iface-out", "--set", "--rcheck", "--update", "--remove", "--invert"),
    *("--rttl", "--rsource", "--rdest", "--validmark", "--loose", "--accept-local", "--transparent", "--nowildcard"),
    *("--restore-skmark", "--strict", "--next", "--physdev-is-in", "--physdev-is-out", "--physdev-is-bridged"),
    *("--connlimit-saddr", "--connlimit-daddr", "--soft", "--utc", "--localtz", "--kerneltz", "--contiguous", "--any"),
    *("--socket-exists", "--return-nomatch", "--update-counters", "--icase", "--rt-0-res", "--rt-0-not-strict"),
}


def _sure(truth: Callable[[Seen], bool]) -> Step:
    return lambda seen, _marks: ON if truth(seen) else OVER


def _address(of: Callable[[Seen], Address], values: Values) -> Step | None:
    """Read `10.0.0.0/8` or a mask with holes (`10.0.0.1/255.0.0.255`)."""
    text, _, mask_text = values[0].partition("/")
    try:
        network = ip_address(text)
        width = network.max_prefixlen
        full = (1 << width) - 1
        if mask_text.isdigit():
            mask = full ^ (full >> int(mask_text)) if int(mask_text) else 0
        else:
            mask = int(ip_address(mask_text)) if mask_text else full
    except (ValueError, OverflowError):
        return None
    wanted = int(network) & mask

    def ask(seen: Seen) -> bool:
        address = of(seen)
        return address.version == network.version and int(address) & mask == wanted

    return _sure(ask)


def _range(of: Callable[[Seen], Address], values: Values) -> Step | None:
    try:
        low, _, high = values[0].partition("-")
        first, last = ip_address(low), ip_address(high or low)
    except ValueError:
        return None
    return _sure(lambda seen: of(seen).version == first.version and int(first) <= int(of(seen)) <= int(last))


def _interface(of: Callable[[Seen], str | None], values: Values) -> Step | None:
    name = values[0]

    def step(seen: Seen, _marks: Marks) -> tuple[Way, ...]:
        here = of(seen)
        if here is None:
            return either("the interface it comes in by")
        same = here.startswith(name[:-1]) if name.endswith("+") else here == name
        return ON if same else OVER

    return step


def _protocol(values: Values) -> Step | None:
    number = PROTOCOLS.get(values[0], int(values[0]) if values[0].isdigit() else None)
    if values[0] in {"all", "0"}:
        return _sure(lambda _seen: True)
    return None if number is None else _sure(lambda _seen: number == PROTOCOLS["tcp"])


def _ports(of: Callable[[Seen], set[int]], values: Values) -> Step | None:
    """Read `80`, `80:90`, and lists of both."""
    spans: list[tuple[int, int]] = []
    for part in values[0].split(","):
        low, colon, high = part.partition(":")
        if not (low or "0").isdigit() or not (high or "0").isdigit():
            return None
        first = int(low or 0)
        spans.append((first, int(high or 65535) if colon else first))
    return _sure(lambda seen: any(low <= port <= high for port in of(seen) for low, high in spans))


def _flags(values: Values) -> Step | None:
    mask, wanted = (_bits(text, TCP_FLAGS) for text in (*values, "", "")[:2])
    if mask is None or wanted is None:
        return None
    return _sure(lambda seen: seen.flags & mask == wanted)


def _bits(text: str, names: dict[str, int]) -> int | None:
    """Add up names; iptables writes ALL, NONE and, of the TCP flags, URG and PSH as nft does."""
    if text in {"NONE", "ALL"}:
        return 0 if text == "NONE" else 63
    found = [names.get(name.strip().lower().replace("_", "-")) for name in text.split(",")]
    total = 0
    for bit in found:
        if bit is None:
            return None
        total |= bit
    return total


def _state(values: Values) -> Step | None:
    names = [name for name in values[0].split(",") if name not in {"SNAT", "DNAT"}]  # no packet of ours is translated
    wanted = _bits(",".join(names), CT_STATES) if names else 0
    if wanted is None:
        return None

    def step(seen: Seen, marks: Marks) -> tuple[Way, ...]:
        state = ct_state(seen, marks)
        if state is None:
            return either("the state of a connection whose first packet was not tracked")
        return ON if state & wanted else OVER

    return step


def _tracked(ask: Callable[[Seen, Marks], bool | None], seen: Seen, marks: Marks) -> tuple[Way, ...]:
    """Ask something of conntrack, which knows nothing of a packet that it has not seen."""
    state = ct_state(seen, marks)
    if state in {CT_STATES["invalid"], CT_STATES["untracked"]}:
        return OVER
    truth = None if state is None else ask(seen, marks)
    if truth is None:
        return either("what conntrack holds of the connection")
    return ON if truth else OVER


def _status(values: Values) -> Step | None:
    held = {Segment.SYN: 0, Segment.SYN_ACK: 2 | 8, Segment.ACK: 2 | 4 | 8}
    wanted = _bits(values[0].replace("SEEN_REPLY", "SEEN-REPLY"), CT_STATUS)
    if values[0] == "NONE":
        return partial(_tracked, lambda seen, _marks: held[seen.segment] == 0)
    if wanted is None:
        return None
    return partial(_tracked, lambda seen, _marks: bool(held[seen.segment] & wanted))


def _direction(values: Values) -> Step | None:
    return partial(_tracked, lambda seen, _marks: seen.is_reply == (values[0] == "REPLY"))


def number_and_mask(text: str) -> tuple[int, int] | None:
    """Read `0x1/0xff`; without a mask all bits count."""
    number, _, mask = text.partition("/")
    try:
        return int(number, 0), int(mask, 0) if mask else 0xFFFFFFFF
    except ValueError:
        return None


def _mark(values: Values) -> Step | None:
    given = number_and_mask(values[0])
    if given is None:
        return None

    def step(_seen: Seen, marks: Marks) -> tuple[Way, ...]:
        if marks.mark is None:
            return either("a mark that could not be reckoned")
        return ON if marks.mark & given[1] == given[0] else OVER

    return step


def _connection_mark(values: Values) -> Step | None:
    given = number_and_mask(values[0])
    if given is None:
        return None
    wanted, mask = given
    return partial(_tracked, lambda _seen, marks: None if marks.ct_mark is None else marks.ct_mark & mask == wanted)


def _address_type(of_source: bool, values: Values) -> Step | None:  # noqa: FBT001  one of two ends
    types = {name.lower() for name in values[0].split(",")}
    if not types <= {*ADDRESS_TYPES, "throw", "nat", "xresolve"}:
        return None
    return _sure(lambda seen: ("local" if seen.is_reply == of_source else "unicast") in types)


def _packet_type(values: Values) -> Step | None:
    return _sure(lambda _seen: values[0] in {"unicast", "host"})


def _reversed_path(seen: Seen, _marks: Marks) -> tuple[Way, ...]:
    """The interface is by definition the one of the route back, so the reversed match never holds."""
    return OVER if seen.iif else either("the route back")


def _nothing(_values: Values) -> Step | None:
    return _sure(lambda _seen: True)


def _never(_values: Values) -> Step | None:
    return _sure(lambda _seen: False)


def _likely(doubt: str) -> Make:
    return lambda _values: lambda seen, _marks: assumed(seen, doubt, likely=True)


def _unlikely(doubt: str) -> Make:
    return lambda _values: lambda seen, _marks: assumed(seen, doubt, likely=False)


def _source(seen: Seen) -> Address:
    return seen.saddr


def _target(seen: Seen) -> Address:
    return seen.daddr


OPTIONS: Final[dict[tuple[str, str], Make]] = {
    ("", "-s"): partial(_address, _source),
    ("", "-d"): partial(_address, _target),
    ("", "-i"): partial(_interface, lambda seen: seen.iif),
    ("", "-o"): partial(_interface, lambda seen: seen.oif),
    ("", "-p"): _protocol,
    ("", "-f"): _never,
    ("tcp", "--sport"): partial(_ports, lambda seen: {seen.sport}),
    ("tcp", "--dport"): partial(_ports, lambda seen: {seen.dport}),
    ("tcp", "--tcp-flags"): _flags,
    ("tcp", "--syn"): lambda _values: _flags(["FIN,SYN,RST,ACK", "SYN"]),
    ("multiport", "--sports"): partial(_ports, lambda seen: {seen.sport}),
    ("multiport", "--dports"): partial(_ports, lambda seen: {seen.dport}),
    ("multiport", "--ports"): partial(_ports, lambda seen: {seen.sport, seen.dport}),
    ("conntrack", "--ctstate"): _state,
    ("conntrack", "--ctstatus"): _status,
    ("conntrack", "--ctdir"): _direction,
    ("conntrack", "--ctproto"): _protocol,
    ("state", "--state"): _state,
    ("addrtype", "--src-type"): partial(_address_type, True),  # noqa: FBT003
    ("addrtype", "--dst-type"): partial(_address_type, False),  # noqa: FBT003
    ("addrtype", "--limit-iface-in"): _nothing,
    ("addrtype", "--limit-iface-out"): _nothing,
    ("iprange", "--src-range"): partial(_range, _source),
    ("iprange", "--dst-range"): partial(_range, _target),
    ("mark", "--mark"): _mark,
    ("connmark", "--mark"): _connection_mark,
    ("pkttype", "--pkt-type"): _packet_type,
    ("comment", "--comment"): _nothing,
    ("limit", "--limit"): _likely(RATE),
    ("limit", "--limit-burst"): _nothing,
    ("hashlimit", "--hashlimit-upto"): _likely(RATE),
    ("hashlimit", "--hashlimit-above"): _unlikely(RATE),
    **{
        ("hashlimit", f"--hashlimit-{name}"): _nothing
        for name in (
            "burst",
            "mode",
            "name",
            "htable-size",
            "htable-max",
            "htable-expire",
            "htable-gcinterval",
            "srcmask",
            "dstmask",
        )
    },
    ("connlimit", "--connlimit-upto"): _likely("how many connections there are"),
    ("connlimit", "--connlimit-above"): _unlikely("how many connections there are"),
    **{("connlimit", f"--connlimit-{name}"): _nothing for name in ("mask", "saddr", "daddr")},
    ("rpfilter", "--invert"): lambda _values: _reversed_path,
    **{("rpfilter", f"--{name}"): _nothing for name in ("loose", "validmark", "accept-local")},
    ("recent", "--set"): _nothing,
    **{
        ("recent", f"--{name}"): _nothing
        for name in ("name", "mask", "rsource", "rdest", "seconds", "hitcount", "rttl")
    },
    ("recent", "--rcheck"): _unlikely("whether the address is in a list of recent ones"),
    ("recent", "--update"): _unlikely("whether the address is in a list of recent ones"),
    ("recent", "--remove"): _unlikely("whether the address is in a list of recent ones"),
    ("rt", "--rt-type"): _never,
    ("rt", "--rt-segsleft"): _never,
    ("frag", "--fragid"): _never,
}

NAMED: Final[dict[str, Step]] = {
    "socket": lambda _seen, _marks: either("whether a socket already waits for it"),
}
"""Modules that match something by being named."""
