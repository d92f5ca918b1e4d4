"""The statements of an nft rule as steps: matches, verdict maps, verdicts, and what a rule writes on a packet."""

from __future__ import annotations

from dataclasses import dataclass, replace
from dataclasses import field as attribute
from functools import partial
from typing import TYPE_CHECKING, Final

from propagator.core.ruleset import values
from propagator.core.ruleset.fields import MISSING, Field, Missing, Unknown, field
from propagator.core.ruleset.model import ON, OVER, Kind, Marks, Seen, Way, always, assumed, either
from propagator.core.ruleset.values import Among

if TYPE_CHECKING:
    from collections.abc import Callable

    from propagator.core.difference import JsonValue
    from propagator.core.ruleset.fields import Value
    from propagator.core.ruleset.model import Step

UNREADABLE: Final = "a value in the listing that this reader does not know"
RATE: Final = "a rate limit or quota that this packet may be above"
NFPROTO: Final = "nft may leave out the address family in front of `reject with tcp reset`"


@dataclass(frozen=True, slots=True)
class Scope:
    """What a rule may name in its table: sets and maps with their elements, and limits that are reversed (`over`)."""

    family: str
    elements: dict[str, list[JsonValue]] = attribute(default_factory=dict)
    changing: frozenset[str] = frozenset()
    over: frozenset[str] = frozenset()


def steps(expressions: list[JsonValue], scope: Scope) -> tuple[Step, ...]:
    """Give the steps of one rule."""
    return tuple(step for told in expressions for step in _statement(told, expressions, scope))


_QUIET: Final = {
    *("counter", "log", "last", "flow", "secmark", "ct helper", "ct timeout", "ct expectation", "dup", "comment"),
}
"""What neither decides nor changes what is decided."""

_VERDICTS: Final = {
    "accept": Kind.ACCEPT,
    "drop": Kind.DROP,
    "return": Kind.RETURN,
    "continue": Kind.SKIP,
    **dict.fromkeys(("redirect", "tproxy", "fwd"), Kind.REDIRECTED),
    **dict.fromkeys(("masquerade", "snat"), Kind.ACCEPT),
}


def _statement(told: JsonValue, around: list[JsonValue], scope: Scope) -> list[Step]:
    match told:
        case {"match": {"op": str(operator), "left": left, "right": right}}:
            return [_match(operator, left, right, scope)]
        case {"vmap": {"key": key, "data": data}}:
            return [_verdict_map(key, data, scope)]
        case {"mangle": {"key": key, "value": value}}:
            return [_write(key, value, scope)]
        case {"limit": limit}:
            return [_limited(limit, scope)]
        case {"reject": reject}:
            return _reject(reject, around, scope)
        case {"dnat": dnat}:
            return [*_translated(dnat, scope), always(Way(Kind.REDIRECTED))]
        case {"set": {"stmt": [*inner]}}:
            return [step for one in inner for step in _statement(one, around, scope)]
        case {"jump": _} | {"goto": _}:
            return [always(verdict(told))]
        case dict() if len(told) == 1:
            return _by_name(next(iter(told)))
        case _:
            return [always(*_ANY)]


_ANY: Final = (*either("a statement that this reader does not know"), Way(Kind.UNKNOWN, doubt="an unknown statement"))


def _by_name(name: str) -> list[Step]:
    if name in _QUIET or name in {"set", "map"}:  # adding an element to a set decides nothing
        return []
    if name in _VERDICTS:
        return [always(Way(_VERDICTS[name]))]
    if name in {"quota", "ct count", "meter"}:
        return [always(*either(RATE if name == "quota" else f"{name}, which counts what this packet does not show"))]
    if name == "notrack":
        return [lambda _seen, marks: (Way(Kind.NEXT, marks=replace(marks, untracked=True)),)]
    if name == "queue":
        return [always(Way(Kind.UNKNOWN, doubt="a program that decides (queue)"))]
    return [always(*either(f"the statement {name}"), Way(Kind.UNKNOWN, doubt=f"the statement {name}"))]


def verdict(told: JsonValue) -> Way:
    """Read a verdict of a map."""
    match told:
        case {"jump": {"target": str(target)}}:
            return Way(Kind.JUMP, target)
        case {"goto": {"target": str(target)}}:
            return Way(Kind.GOTO, target)
        case dict() if len(told) == 1 and (kind := _VERDICTS.get(next(iter(told)))) is not None:
            return Way(kind)
        case _:
            return Way(Kind.UNKNOWN, doubt="a verdict that this reader does not know")


def _match(operator: str, left: JsonValue, right: JsonValue, scope: Scope) -> Step:
    looked = field(left)
    if isinstance(right, bool):
        return _asking(looked, lambda value: (value not in {0, ""}) == right)
    if operator in _ORDERS and isinstance(limit := values.constant(right, looked.domain), int):
        order = _ORDERS[operator]
        return _asking(looked, lambda value: order(value, limit) if isinstance(value, int) else None)
    if operator in {"==", "!=", "in"}:
        return _equal(operator, looked, right, scope)
    return always(*either(f"the operator {operator}"))


_ORDERS: Final[dict[str, Callable[[int, int], bool]]] = {
    "<": lambda value, limit: value < limit,
    ">": lambda value, limit: value > limit,
    "<=": lambda value, limit: value <= limit,
    ">=": lambda value, limit: value >= limit,
}


def _equal(operator: str, looked: Field, right: JsonValue, scope: Scope) -> Step:
    bits = values.constant(right, looked.domain) if looked.domain.bits else None
    if isinstance(bits, int) and operator == "in":
        return _asking(looked, lambda value: bool(value & bits) if isinstance(value, int) else None)
    elements, changing = _elements(right, looked, scope)
    if bits is not None:
        elements = Among(frozenset({bits}))
    wanted = operator != "!="
    return _asking(looked, lambda value: _same(elements.has(value), wanted=wanted), changing)


def _same(found: bool | None, *, wanted: bool) -> bool | None:  # noqa: FBT001  what a set said
    return None if found is None else found == wanted


def _elements(told: JsonValue, looked: Field, scope: Scope) -> tuple[Among, bool]:
    """Read a right-hand side: one element, a set, or the name of one; and whether traffic changes it."""
    match told:
        case {"set": [*elements]}:
            return _joined(elements, looked), False
        case {"set": one}:
            return values.among(one, looked.domains), False
        case str() if told.startswith("@"):
            return _joined(scope.elements.get(told[1:]), looked), told[1:] in scope.changing
        case _:
            return values.among(told, looked.domains), False


def _joined(elements: list[JsonValue] | None, looked: Field) -> Among:
    if elements is None:
        return values.UNREADABLE
    return values.union(values.among(one, looked.domains) for one in elements)


def _asking(looked: Field, ask: Callable[[Value], bool | None], changing: bool = False) -> Step:  # noqa: FBT001, FBT002
    """Make the step of a match: true goes on, false goes over, what cannot be told goes both ways."""

    def step(seen: Seen, marks: Marks) -> tuple[Way, ...]:
        value = looked.read(seen, marks)
        if value is MISSING:
            return OVER
        if isinstance(value, Unknown):
            return either(value.name)
        truth = ask(value)
        if truth is None:
            return either(UNREADABLE)
        if changing:
            return assumed(seen, "a set that traffic changes", likely=truth)
        return ON if truth else OVER

    return step


def _pairs(data: JsonValue, scope: Scope) -> list[tuple[JsonValue, JsonValue]] | None:
    """Read the entries of a map, written out or named."""
    match data:
        case {"set": [*entries]}:
            found: list[JsonValue] | None = entries
        case str() if data.startswith("@"):
            found = scope.elements.get(data[1:])
        case _:
            found = None
    if found is None:
        return None
    return [(entry[0], entry[1]) for entry in found if isinstance(entry, list) and len(entry) == _PAIR]


_PAIR: Final = 2


def _verdict_map(key: JsonValue, data: JsonValue, scope: Scope) -> Step:
    looked, pairs = field(key), _pairs(data, scope)
    if pairs is None:
        return always(*_ANY)
    entries = [(values.among(entry, looked.domains), verdict(told)) for entry, told in pairs]

    def step(seen: Seen, marks: Marks) -> tuple[Way, ...]:
        value = looked.read(seen, marks)
        if value is MISSING:
            return OVER
        unknown = isinstance(value, Unknown)
        doubt = value.name if isinstance(value, Unknown) else UNREADABLE
        possible: list[Way] = []
        for one, way in entries:
            truth = None if unknown else one.has(value)
            if truth:
                return (*possible, way)
            if truth is None:
                possible.append(replace(way, doubt=way.doubt or doubt))
        return (*possible, Way(Kind.SKIP, doubt=doubt)) if possible else OVER

    return step


def _translated(told: JsonValue, scope: Scope) -> list[Step]:
    """Where the new address or port comes out of a map, the rule only matches what is in it."""
    match told:
        case {"addr": {"map": {"key": key, "data": data}}} | {"port": {"map": {"key": key, "data": data}}}:
            return [_in_map(key, data, scope)]
        case _:
            return []


def _in_map(key: JsonValue, data: JsonValue, scope: Scope) -> Step:
    """Ask whether a map has an entry for the packet; a rule whose map has none does not match."""
    looked, pairs = field(key), _pairs(data, scope)
    elements = values.UNREADABLE if pairs is None else _joined([entry for entry, _ in pairs], looked)
    return _asking(looked, elements.has)


def _write(key: JsonValue, value: JsonValue, scope: Scope) -> Step:
    match key:
        case {"meta": {"key": "mark"}}:
            return partial(_set_mark, _number(value, scope), "mark")
        case {"ct": {"key": "mark"}}:
            return partial(_set_mark, _number(value, scope), "ct_mark")
        case {"payload": {"protocol": "ip" | "ip6", "field": "ttl" | "hoplimit" | "dscp" | "ecn" | "flowlabel"}}:
            return always(*ON)
        case {"payload": _}:
            return always(Way(Kind.UNKNOWN, doubt="a rule that rewrites the packet"))
        case _:
            return always(*ON)


def _set_mark(number: Callable[[Seen, Marks], Value], which: str, seen: Seen, marks: Marks) -> tuple[Way, ...]:
    value = number(seen, marks)
    if isinstance(value, Missing):
        return OVER
    told = value if isinstance(value, int) else None
    after = replace(marks, mark=told) if which == "mark" else replace(marks, ct_mark=told)
    return (Way(Kind.NEXT, marks=after),)


def _number(told: JsonValue, scope: Scope) -> Callable[[Seen, Marks], Value]:
    """Read the number that a rule writes: a constant, a field reckoned with, or the entry of a map."""
    match told:
        case int():
            return lambda _seen, _marks: told
        case {"map": {"key": key, "data": data}}:
            looked, pairs = field(key), _pairs(data, scope)
            entries = [(values.among(entry, looked.domains), number) for entry, number in pairs or []]
            return lambda seen, marks: _looked_up(looked.read(seen, marks), entries, known=pairs is not None)
        case _:
            return field(told).read


def _looked_up(value: Value, entries: list[tuple[Among, JsonValue]], *, known: bool) -> Value:
    if isinstance(value, Missing | Unknown):
        return value
    for elements, number in entries:
        truth = elements.has(value)
        if truth is None:
            return Unknown("an entry of a map")
        if truth:
            return number if isinstance(number, int) else Unknown("an entry of a map")
    return MISSING if known else Unknown("a map that is not in the listing")


def _limited(told: JsonValue, scope: Scope) -> Step:
    """A limit is taken as not reached; so `limit rate over` does not match."""
    over = told in scope.over if isinstance(told, str) else isinstance(told, dict) and bool(told.get("inv"))
    return lambda seen, _marks: assumed(seen, RATE, likely=not over)


def _reject(told: JsonValue, around: list[JsonValue], scope: Scope) -> list[Step]:
    """A reject by ICMP is for its own family only. nft prints `meta nfproto` before one, but not before a reset."""
    kind = told.get("type") if isinstance(told, dict) else None
    versions = {"icmp": 4, "icmpv6": 6}
    if isinstance(kind, str) and kind in versions:
        only = versions[kind]
        return [lambda seen, _marks: ON if seen.version == only else OVER, always(Way(Kind.REJECT))]
    hidden = scope.family == "inet" and kind == "tcp reset" and not any(map(_names_family, around))
    doubted: list[Step] = [lambda seen, _marks: assumed(seen, NFPROTO, likely=True)] if hidden else []
    return [*doubted, always(Way(Kind.REJECT))]


def _names_family(told: JsonValue) -> bool:
    match told:
        case {"match": {"left": {"payload": {"protocol": "ip" | "ip6"}} | {"meta": {"key": "nfproto"}}}}:
            return True
        case _:
            return False
