"""The walk of a packet through all base chains that the kernel would ask, in its order.

Where a step does not know, both ways are gone; what comes back is every end that the packet may have. Paths that stand
at the same rule with the same marks are one, so the walk takes time in proportion to the rules, not to the branches.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

from propagator.core.ruleset.model import (
    TRACKING_PRIORITY,
    WAY_IN,
    WAY_OUT,
    Hook,
    Kind,
    Marks,
    Outcome,
    RuleRef,
    Seen,
    Segment,
    Way,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from propagator.core.ruleset.model import Base, Chain, Filter, Rule, Tool

DEPTH_LIMIT: Final = 16
"""Jumps within jumps; the kernel refuses more (NFT_JUMP_STACK_SIZE)."""

MARKS_LIMIT: Final = 256
"""Different marks that one packet may carry at one rule; no rule set of a person comes near."""

_FAMILIES: Final = {4: {"inet", "ip", "netdev"}, 6: {"inet", "ip6", "netdev"}}
_OUTCOMES: Final = {
    Kind.DROP: Outcome.DROP,
    Kind.REJECT: Outcome.REJECT,
    Kind.REDIRECTED: Outcome.REDIRECTED,
    Kind.UNKNOWN: Outcome.CANNOT_TELL,
}


@dataclass(frozen=True, slots=True)
class Trace:
    """How a packet came to where it is: the rule that decided last, and what was not known on the way."""

    rule: RuleRef | None = None
    doubts: frozenset[str] = frozenset()

    def doubting(self, *doubts: str) -> Trace:
        """Add what was not known."""
        new = frozenset(filter(None, doubts)) - self.doubts
        return replace(self, doubts=self.doubts | new) if new else self

    def after(self, earlier: Trace) -> Trace:
        """Join the trace of a chain to that of the way to it."""
        return Trace(self.rule or earlier.rule, self.doubts | earlier.doubts)


Paths: TypeAlias = dict[Marks, Trace]
Path: TypeAlias = tuple[Marks, Trace]
Ends: TypeAlias = dict[tuple[Kind, Marks], Trace]


@dataclass(slots=True)
class Open:
    """A walk that goes on: what is still on its way, and what has ended."""

    paths: Paths = field(default_factory=dict)
    ends: Ends = field(default_factory=dict)


@dataclass(slots=True)
class Journey:
    """What may become of one packet: the paths on which it passes, and every end it may find."""

    passing: Paths = field(default_factory=dict)
    ends: dict[Outcome, Trace] = field(default_factory=dict)


def travel(rules: Filter, seen: Seen, marks: Iterable[Marks]) -> Journey:
    """Send one packet through all hooks of its way. `seen` is filled in for each base chain."""
    journey = Journey(passing={mark: Trace() for mark in marks})
    chains = {(chain.scope, chain.name): chain for chain in rules.chains}
    for chain, base in _bases(rules, seen):
        walker = _Walker(_at(seen, base), chains)
        passing: Paths = {}
        for mark, trace in journey.passing.items():
            if base.is_nat and (mark.untracked or mark.lost or seen.segment is not Segment.SYN):
                _merge(passing, mark, trace)
                continue
            for (kind, after), walked in _through(walker, chain, base, (mark, trace)).items():
                if kind is Kind.ACCEPT:
                    _merge(passing, after, walked)
                else:
                    _merge(journey.ends, _OUTCOMES[kind], walked)
        journey.passing = passing
    return journey


def _bases(rules: Filter, seen: Seen) -> list[tuple[Chain, Base]]:
    """Give the base chains that this packet meets, in the kernel's order: of one priority, the youngest comes first."""
    way = WAY_OUT if seen.is_reply else WAY_IN
    found = [
        (chain, chain.base)
        for chain in reversed(rules.chains)
        if chain.base is not None and chain.base.hook in way and chain.family in _FAMILIES[seen.version]
    ]
    here = [(chain, _reduced(base, seen)) for chain, base in found]
    met = [(chain, base) for chain, base in here if base is not None]
    return sorted(met, key=lambda one: (way.index(one[1].hook), one[1].priority))


def _reduced(base: Base, seen: Seen) -> Base | None:
    """Leave out a chain of another device; doubt one whose device, or ours, is not known."""
    if base.hook not in {Hook.INGRESS, Hook.EGRESS}:
        return base
    device = seen.oif if base.hook is Hook.EGRESS else seen.iif
    if base.devices is None or device is None:
        return replace(base, doubt=base.doubt or f"the device of an {base.hook.value} chain")
    return base if device in base.devices else None


def _at(seen: Seen, base: Base) -> Seen:
    inside = base.hook in WAY_IN
    early = base.hook is Hook.INGRESS or (
        base.hook in {Hook.PREROUTING, Hook.OUTPUT} and base.priority < TRACKING_PRIORITY
    )
    return replace(seen, hook=base.hook, early=early, iif=seen.iif if inside else "", oif="" if inside else seen.oif)


def _through(walker: _Walker, chain: Chain, base: Base, path: Path) -> Ends:
    """Walk one base chain on one path. Who falls off its end meets the policy."""
    mark, trace = path
    ends: Ends = {(Kind.ACCEPT, mark): trace.doubting(base.doubt)} if base.doubt else {}
    for (kind, after), walked in walker.walk(chain, mark).items():
        ended = base.policy if kind is Kind.RETURN else kind
        whole = walked.after(trace).doubting(base.doubt)
        if kind is Kind.RETURN:
            spoken = ended is Kind.ACCEPT and trace.rule is not None and not trace.rule.is_policy
            whole = replace(whole, rule=trace.rule if spoken else chain.policy_ref())
        _merge(ends, (ended, after), whole)
    return ends


_Key = TypeVar("_Key", Marks, Outcome, tuple[Kind, Marks])


def _merge(into: dict[_Key, Trace], key: _Key, trace: Trace) -> None:
    """Keep the first trace of what is the same, with the doubts of all."""
    into[key] = trace if key not in into else into[key].doubting(*trace.doubts)


class _Walker:
    """The walk through the chains of one hook; what a chain makes of a mark is reckoned once."""

    def __init__(self, seen: Seen, chains: dict[tuple[tuple[Tool, str, str], str], Chain]) -> None:
        self._seen = seen
        self._chains = chains
        self._known: dict[tuple[tuple[Tool, str, str], str, Marks], Ends] = {}
        self._depth = 0

    def walk(self, chain: Chain, marks: Marks) -> Ends:
        """Give the ends of this chain. RETURN: it fell off its last rule, or was told to return."""
        key = (chain.scope, chain.name, marks)
        if key not in self._known:
            lost: Ends = {(Kind.UNKNOWN, marks): Trace(None, frozenset({"chains that jump in a circle, or too deep"}))}
            if self._depth > DEPTH_LIMIT:
                return lost
            self._known[key] = lost  # what a circle finds on its way back here
            self._depth += 1
            self._known[key] = self._walk(chain, marks)
            self._depth -= 1
        return self._known[key]

    def _walk(self, chain: Chain, marks: Marks) -> Ends:
        going = Open({marks: Trace()})
        for rule in chain.rules:
            paths, going.paths = going.paths, {}
            for path in paths.items():
                self._apply(chain, rule, path, going)
            if len(going.paths) > MARKS_LIMIT:
                _merge(going.ends, (Kind.UNKNOWN, marks), Trace(rule.ref, frozenset({"too many different marks"})))
                going.paths = {}
        for mark, trace in going.paths.items():
            _merge(going.ends, (Kind.RETURN, mark), trace)
        return going.ends

    def _apply(self, chain: Chain, rule: Rule, path: Path, going: Open) -> None:
        """Apply one rule on one path. Doubts that change nothing (a limit before a log) are not kept."""
        mark, trace = path
        found = self._ends_of(chain, rule, mark)
        if set(found) == {(Kind.SKIP, mark)}:
            _merge(going.paths, mark, trace)
            return
        for (kind, after), walked in found.items():
            whole = walked.after(trace)
            if kind is Kind.SKIP:
                _merge(going.paths, after, replace(whole, rule=trace.rule))
            else:
                _merge(going.ends, (kind, after), whole)

    def _ends_of(self, chain: Chain, rule: Rule, mark: Marks) -> Ends:
        """Run the steps of a rule. SKIP: the packet goes on to the next rule."""
        going = Open({mark: Trace(rule.ref)})
        for step in rule.steps:
            paths, going.paths = going.paths, {}
            for here, trace in paths.items():
                for way in step(self._seen, here):
                    self._follow(chain, way, (way.marks or here, trace.doubting(way.doubt)), going)
        for here, trace in going.paths.items():
            _merge(going.ends, (Kind.SKIP, here), trace)
        return going.ends

    def _follow(self, chain: Chain, way: Way, path: Path, going: Open) -> None:
        mark, trace = path
        match way.kind:
            case Kind.NEXT:
                _merge(going.paths, mark, trace)
            case Kind.JUMP | Kind.GOTO:
                self._enter(chain, way, path, going)
            case Kind.RETURN:
                _merge(going.ends, (Kind.RETURN, mark), replace(trace, rule=None))
            case _:
                _merge(going.ends, (way.kind, mark), trace)

    def _enter(self, chain: Chain, way: Way, path: Path, going: Open) -> None:
        """Walk another chain. Who comes back goes on after a jump, and leaves this chain as well after a goto."""
        mark, trace = path
        target = self._chains.get((chain.scope, way.target))
        if target is None:
            _merge(going.ends, (Kind.UNKNOWN, mark), trace.doubting(f"the missing chain {way.target}"))
            return
        back = Kind.SKIP if way.kind is Kind.JUMP else Kind.RETURN
        for (kind, after), walked in self.walk(target, mark).items():
            _merge(going.ends, (back if kind is Kind.RETURN else kind, after), walked.after(trace))
