"""The save format of iptables (`iptables-save`, both families, nft and legacy) as chains.

One line is one rule: matches, each of which may be reversed by `!`, then a target. A match that is not known here is
unknown, and both ways are gone.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from propagator.core.ruleset.model import Base, Chain, Hook, Kind, Marks, Rule, RuleRef, Tool, Way, always, either
from propagator.core.ruleset.xtmatches import NAMED, OPTIONS, WITHOUT_VALUE, number_and_mask

if TYPE_CHECKING:
    from propagator.core.ruleset.model import Seen, Step

_BUILT_IN: Final[dict[tuple[str, str], tuple[Hook, int]]] = {
    ("raw", "PREROUTING"): (Hook.PREROUTING, -300),
    ("raw", "OUTPUT"): (Hook.OUTPUT, -300),
    ("mangle", "PREROUTING"): (Hook.PREROUTING, -150),
    ("mangle", "INPUT"): (Hook.INPUT, -150),
    ("mangle", "OUTPUT"): (Hook.OUTPUT, -150),
    ("mangle", "POSTROUTING"): (Hook.POSTROUTING, -150),
    ("nat", "PREROUTING"): (Hook.PREROUTING, -100),
    ("nat", "OUTPUT"): (Hook.OUTPUT, -100),
    ("nat", "INPUT"): (Hook.INPUT, 100),
    ("nat", "POSTROUTING"): (Hook.POSTROUTING, 100),
    ("filter", "INPUT"): (Hook.INPUT, 0),
    ("filter", "OUTPUT"): (Hook.OUTPUT, 0),
    ("security", "INPUT"): (Hook.INPUT, 50),
    ("security", "OUTPUT"): (Hook.OUTPUT, 50),
}
_POLICIES: Final = {"ACCEPT": Kind.ACCEPT, "DROP": Kind.DROP}


def read(text: str, family: str, tool: Tool) -> dict[tuple[str, str], tuple[Chain, ...]]:
    """Read a save format; tables by (family, name). Lines that are no table's are left out (comments, for one)."""
    tables: dict[tuple[str, str], dict[str, tuple[str, list[str]]]] = {}
    chains: dict[str, tuple[str, list[str]]] = {}
    for line in text.splitlines():
        if line.startswith("*"):
            chains = tables.setdefault((family, line[1:].strip()), {})
        elif line.startswith(":"):
            name, policy, *_ = [*line[1:].split(), "-"]
            chains[name] = (policy, [])
        elif line.startswith("-A ") and (chain := line.split()[1]) in chains:
            chains[chain][1].append(line)
    return {
        key: tuple(_chain(tool, key, name, policy, lines) for name, (policy, lines) in table.items())
        for key, table in tables.items()
    }


def _chain(tool: Tool, table: tuple[str, str], name: str, policy: str, lines: list[str]) -> Chain:
    place = _BUILT_IN.get((table[1], name)) if policy != "-" else None
    base = None if place is None else Base(*place, _POLICIES.get(policy, Kind.UNKNOWN), is_nat=table[1] == "nat")
    hook = "" if place is None else place[0].value
    rules = tuple(Rule(RuleRef(tool, *table, name, None, line, hook), _steps(line)) for line in lines)
    return Chain(tool, *table, name, base, rules)


_WORD: Final = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)')


def words(line: str) -> list[str]:
    """Split a line as iptables-restore does: spaces, and quotes around what holds some."""
    return [re.sub(r"\\(.)", r"\1", found[1]) if found[1] is not None else found[2] for found in _WORD.finditer(line)]


def _steps(line: str) -> tuple[Step, ...]:
    """Read one rule. What follows `-j` or `-g` belongs to the target."""
    told = words(line)[2:]
    steps: list[Step] = []
    module, reversed_, position = "", False, 0
    while position < len(told):
        word = told[position]
        position += 1
        if word == "!":
            reversed_ = True
            continue
        if word in {"-j", "-g"}:
            return (*steps, *_target(word, told[position:]))
        values = [] if word in WITHOUT_VALUE else _values(told, position)
        position += len(values)
        if word == "-m":
            module = values[0] if values else ""
            steps += [NAMED[module]] if module in NAMED else []
        else:
            steps.append(_match(module, word, values, reversed_=reversed_))
        reversed_ = False
    return tuple(steps)


def _values(told: list[str], position: int) -> list[str]:
    """Take what follows an option, up to the next one. A comment may begin with a dash: the first value is taken."""
    end = position + 1
    while end < len(told) and told[end] != "!" and not told[end].startswith("-"):
        end += 1
    return told[position:end]


def _match(module: str, option: str, values: list[str], *, reversed_: bool) -> Step:
    make = OPTIONS.get((module, option)) or OPTIONS.get(("", option))
    made = None if make is None else make(values)
    if made is None:
        return always(*either(f"the match {module} {option}".replace("  ", " ")))
    step = made
    return _reversed(step) if reversed_ else step


_OPPOSITE: Final = {Kind.NEXT: Kind.SKIP, Kind.SKIP: Kind.NEXT}


def _reversed(step: Step) -> Step:
    return lambda seen, marks: tuple(replace(way, kind=_OPPOSITE[way.kind]) for way in step(seen, marks))


_ENDS: Final = {
    "ACCEPT": Kind.ACCEPT,
    "DROP": Kind.DROP,
    "REJECT": Kind.REJECT,
    "RETURN": Kind.RETURN,
    **dict.fromkeys(("DNAT", "REDIRECT", "TPROXY", "NETMAP"), Kind.REDIRECTED),
    **dict.fromkeys(("SNAT", "MASQUERADE"), Kind.ACCEPT),
}
_QUIET: Final = {
    *("LOG", "NFLOG", "ULOG", "AUDIT", "TRACE", "TCPMSS", "TOS", "DSCP", "TTL", "HL", "ECN", "CLASSIFY", "CHECKSUM"),
    *("SET", "SECMARK", "CONNSECMARK", "IDLETIMER", "RATEEST", "TEE", "TCPOPTSTRIP", "HMARK", "LED"),
}
_EXTENSIONS: Final = {
    "QUEUE",
    "NFQUEUE",
    "SYNPROXY",
    "TARPIT",
    "DELUDE",
    "CHAOS",
    "ECHO",
    "XOR",
    "ACCOUNT",
    "CLUSTERIP",
}


def _target(how: str, told: list[str]) -> tuple[Step, ...]:
    name, rest = (told[0], told[1:]) if told else ("", [])
    if how == "-g":
        return (always(Way(Kind.GOTO, name)),)
    if name in _ENDS:
        return (always(Way(_ENDS[name])),)
    if name in _QUIET:
        return ()
    if name == "NOTRACK" or (name == "CT" and "--notrack" in rest):
        return (lambda _seen, marks: (Way(Kind.NEXT, marks=replace(marks, untracked=True)),),)
    if name == "CT":
        return ()
    if name in {"MARK", "CONNMARK"}:
        return (_marking(name, rest),)
    if name in _EXTENSIONS:
        return (always(Way(Kind.UNKNOWN, doubt=f"the target {name}")),)
    return (always(Way(Kind.JUMP, name)),)


def _marking(name: str, told: list[str]) -> Step:
    """Write a mark: `--set-xmark value/mask` clears the mask's bits and XORs the value in."""
    option, text = (told[0], told[1]) if len(told) > 1 else (told[0] if told else "", "")
    given = number_and_mask(text)
    masks = len(told) > 2  # noqa: PLR2004  an option with its value, and more

    def step(_seen: Seen, marks: Marks) -> tuple[Way, ...]:
        mark, connection = marks.mark, marks.ct_mark
        if option == "--set-xmark" and given is not None:
            old = mark if name == "MARK" else connection
            new = None if old is None and given[1] != _ALL else ((old or 0) & ~given[1] & _ALL) ^ given[0]
            after = replace(marks, mark=new) if name == "MARK" else replace(marks, ct_mark=new)
        elif option == "--restore-mark":
            after = replace(marks, mark=connection if not masks or (mark, connection) == (0, 0) else None)
        elif option == "--save-mark":
            after = replace(marks, ct_mark=mark if not masks or (mark, connection) == (0, 0) else None)
        else:
            after = replace(marks, mark=None) if name == "MARK" else replace(marks, ct_mark=None)
        return (Way(Kind.NEXT, marks=after),)

    return step


_ALL: Final = 0xFFFFFFFF
