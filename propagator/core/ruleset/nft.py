"""The listing of nft (`nft -j list ruleset`) as chains, and what only its text form says.

nft 1.0.6 prints neither the device of an ingress chain nor the word `dormant` in JSON: the text (`nft -a list ruleset`)
has both, and gives each rule as a person knows it. Tables that iptables filled hold rules that JSON only calls `xt`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, TypeAlias

from propagator.core.ruleset.model import Base, Chain, Filter, Hook, Kind, Rule, RuleRef, Tool
from propagator.core.ruleset.statements import Scope, steps

if TYPE_CHECKING:
    from propagator.core.difference import JsonObject, JsonValue

TableName: TypeAlias = "tuple[str, str]"
"""Family and name."""


@dataclass(slots=True)
class Said:
    """What the text form says beyond the JSON."""

    rules: dict[tuple[str, str, int], str] = field(default_factory=dict)
    devices: dict[tuple[str, str, str], tuple[str, ...]] = field(default_factory=dict)
    flags: dict[TableName, str] = field(default_factory=dict)


_TABLE: Final = re.compile(r"^table (\S+) (\S+) \{")
_CHAIN: Final = re.compile(r"^\tchain (\S+) \{")
_BASE: Final = re.compile(r"^\t\ttype \S+ hook (?:ingress|egress) devices? (?:= )?(.*?) priority ")
_NO_RULE: Final = ("\t\ttype ", "\t\tcomment ")
_HANDLE: Final = re.compile(r" # handle (\d+)$")


def read_text(text: str) -> Said:
    """Read `nft -a list ruleset`. Lines that are not understood say nothing."""
    said = Said()
    table, chain, begun = ("", ""), "", ""
    for line in text.splitlines():
        if (found := _TABLE.match(line)) is not None:
            table, chain = (found[1], found[2]), ""
            said.flags[table] = ""
        elif (found := _CHAIN.match(line)) is not None:
            chain, begun = found[1], ""
        elif line.startswith("\tflags "):
            said.flags[table] = line.strip().removeprefix("flags ")
        elif (found := _BASE.match(line)) is not None:
            said.devices[*table, chain] = tuple(re.findall(r'"([^"]+)"', found[1])) or tuple(found[1].split())
        elif chain and line.startswith("\t\t") and not line.startswith(_NO_RULE):
            begun = f"{begun} {line.strip()}".strip()
            if (handle := _HANDLE.search(begun)) is not None:
                said.rules[*table, int(handle[1])] = begun[: handle.start()]
                begun = ""
    return said


@dataclass(slots=True)
class _Table:
    """One table of the listing, as its objects come."""

    family: str
    name: str
    flags: str = ""
    chains: dict[str, JsonObject] = field(default_factory=dict)
    rules: dict[str, list[JsonObject]] = field(default_factory=dict)
    elements: dict[str, list[JsonValue]] = field(default_factory=dict)
    changing: set[str] = field(default_factory=set)
    over: set[str] = field(default_factory=set)

    @property
    def has_xt(self) -> bool:
        """Whether iptables wrote rules here that JSON does not show."""
        return any(
            isinstance(one, dict) and "xt" in one
            for rules in self.rules.values()
            for rule in rules
            for one in _expr(rule)
        )


@dataclass(frozen=True, slots=True)
class Listed:
    """The tables of a listing."""

    tables: dict[TableName, _Table]
    said: Said

    def has_xt(self, family: str) -> bool:
        """Whether any table of this family must be read from the save format."""
        return any(table.has_xt for table in self.tables.values() if table.family == family)


def read(text: str, listing: str | None) -> Listed | None:
    """Read both forms of the listing; None if the JSON is none, or not nft's."""
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return None
    objects = told.get("nftables") if isinstance(told, dict) else None
    if not isinstance(objects, list):
        return None
    tables: dict[TableName, _Table] = {}
    for one in objects:
        if isinstance(one, dict) and len(one) == 1:
            _take(tables, next(iter(one)), next(iter(one.values())))
    return Listed(tables, read_text(listing or ""))


def _take(tables: dict[TableName, _Table], kind: str, told: JsonValue) -> None:
    if not isinstance(told, dict) or kind == "metainfo":
        return
    name = str(told.get("name", ""))
    family = str(told.get("family", ""))
    table = tables.setdefault(
        (family, name if kind == "table" else str(told.get("table", ""))), _Table(family, str(told.get("table", name)))
    )
    match kind:
        case "table":
            table.flags = _flags(told)
        case "chain":
            table.chains[name] = told
        case "rule":
            table.rules.setdefault(str(told.get("chain", "")), []).append(told)
        case "set" | "map":
            elements = told.get("elem", [])
            table.elements[name] = elements if isinstance(elements, list) else [elements]
            if {"dynamic", "timeout"} & set(_flags(told).split()):
                table.changing.add(name)
        case "limit" if told.get("inv"):
            table.over.add(name)
        case _:
            pass


def _flags(told: JsonObject) -> str:
    """Give the flags, which newer versions print as one word where there is one."""
    flags = told.get("flags", "")
    return " ".join(map(str, flags)) if isinstance(flags, list) else str(flags)


def chains(listed: Listed, xtables: dict[TableName, tuple[Chain, ...]]) -> Filter:
    """Make chains of the listing; a table whose rules JSON does not show is taken from its save format."""
    found: list[Chain] = []
    for key, table in listed.tables.items():
        scope = Scope(table.family, table.elements, frozenset(table.changing), frozenset(table.over))
        doubt = _dormant(table, listed.said)
        if doubt is None:
            continue
        saved = {chain.name: chain for chain in xtables.get(key, ())} if table.has_xt else {}
        for name, told in table.chains.items():
            chain = _chain(table, name, told, scope, listed.said)
            base = None if chain.base is None else replace(chain.base, doubt=doubt)
            rules = chain.rules if name not in saved else _numbered(saved[name].rules, chain)
            found.append(replace(chain, base=base, rules=rules, tool=Tool.IPTABLES if saved else Tool.NFT))
    return Filter(tuple(found))


def _dormant(table: _Table, said: Said) -> str | None:
    """Tell whether the table sleeps: None, it does; a text, it may; "" it does not."""
    flags = said.flags.get((table.family, table.name))
    if flags is not None:
        return None if "dormant" in flags else ""
    if "dormant" in table.flags:
        return None
    known = set(table.flags.split()) <= {"owner", "persist"}
    return "" if known else f"whether the table {table.family} {table.name} is dormant"


_POLICIES: Final = {"accept": Kind.ACCEPT, "drop": Kind.DROP}


def _chain(table: _Table, name: str, told: JsonObject, scope: Scope, said: Said) -> Chain:
    base = _base(table, name, told, said)
    hook = "" if base is None else base.hook.value
    rules = tuple(
        Rule(_ref(table, name, hook, rule, said), steps(_expr(rule), scope)) for rule in table.rules.get(name, [])
    )
    return Chain(Tool.NFT, table.family, table.name, name, base, rules)


def _base(table: _Table, name: str, told: JsonObject, said: Said) -> Base | None:
    hook, priority = told.get("hook"), told.get("prio")
    if not isinstance(hook, str) or hook not in {one.value for one in Hook}:
        return None
    policy = _POLICIES.get(str(told.get("policy", "accept")), Kind.UNKNOWN)
    names = said.devices.get((table.family, table.name, name))
    match told.get("dev"):
        case str() as device:
            names = (device,)
        case [*devices]:
            names = tuple(map(str, devices))
        case _:
            pass
    return Base(Hook(hook), priority if isinstance(priority, int) else 0, policy, told.get("type") == "nat", names)


def _ref(table: _Table, chain: str, hook: str, rule: JsonObject, said: Said) -> RuleRef:
    handle = rule.get("handle")
    number = handle if isinstance(handle, int) else None
    text = said.rules.get((table.family, table.name, number or 0)) or json.dumps(_expr(rule), separators=(",", ":"))
    return RuleRef(Tool.NFT, table.family, table.name, chain, number, text, hook)


def _expr(rule: JsonObject) -> list[JsonValue]:
    expressions = rule.get("expr")
    return expressions if isinstance(expressions, list) else [None]


def _numbered(saved: tuple[Rule, ...], chain: Chain) -> tuple[Rule, ...]:
    """Give the rules of the save format the handles of the listing, where both have as many."""
    same = len(saved) == len(chain.rules)
    hook = "" if chain.base is None else chain.base.hook.value
    return tuple(
        replace(rule, ref=replace(rule.ref, hook=hook, handle=chain.rules[number].ref.handle if same else None))
        for number, rule in enumerate(saved)
    )
