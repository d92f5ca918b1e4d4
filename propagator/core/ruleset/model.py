"""What a packet filter is made of, whichever tool wrote it: tables of chains of rules, and a rule of steps.

A step is a function from a packet at a hook, and what earlier rules wrote on it, to the ways that may be gone next.
One way: the step is sure. Two: it met what cannot be known from a listing, and says what that was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum, auto
from ipaddress import IPv4Address, IPv6Address
from typing import Final, TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address

CT_STATES: Final = {"invalid": 1, "established": 2, "related": 4, "new": 8, "untracked": 64}
"""The bits of the kernel's conntrack state, by the names that both tools use."""

TRACKING_PRIORITY: Final = -200
"""Chains of prerouting and output below it come before conntrack has looked at the packet."""


class Outcome(StrEnum):
    """What becomes of a connection. `redirected`: it goes to another address or port, which is not judged."""

    ACCEPT = "accept"
    DROP = "drop"
    REJECT = "reject"
    REDIRECTED = "redirected"
    CANNOT_TELL = "cannot_tell"


class Tool(StrEnum):
    """Whose table it is: what printed it, and so what a person has to look with."""

    NFT = "nft"
    IPTABLES = "iptables"
    IPTABLES_LEGACY = "iptables-legacy"


@dataclass(frozen=True, slots=True)
class RuleRef:
    """A rule, to be shown and found again. `handle` is nft's number; None for a policy and for iptables-legacy."""

    tool: Tool
    family: str
    table: str
    chain: str
    handle: int | None
    text: str
    hook: str = ""

    @property
    def is_policy(self) -> bool:
        """Whether it is what a base chain does with what no rule of it decided."""
        return self.handle is None and self.text.startswith("policy ")

    def __str__(self) -> str:
        place = f"{self.tool}: {self.family} {self.table} {self.chain}"
        return f"{place}: {self.text}" if self.handle is None else f"{place} (handle {self.handle}): {self.text}"


class Hook(Enum):
    """Where chains hang, in the order in which a packet meets them; the first three on the way in."""

    INGRESS = "ingress"
    PREROUTING = "prerouting"
    INPUT = "input"
    OUTPUT = "output"
    POSTROUTING = "postrouting"
    EGRESS = "egress"


WAY_IN: Final = (Hook.INGRESS, Hook.PREROUTING, Hook.INPUT)
WAY_OUT: Final = (Hook.OUTPUT, Hook.POSTROUTING, Hook.EGRESS)


class Segment(StrEnum):
    """The three packets of a handshake, as this host meets them."""

    SYN = "SYN"
    SYN_ACK = "SYN-ACK"
    ACK = "ACK"


@dataclass(frozen=True, slots=True)
class Seen:
    """A packet as one base chain sees it. Interfaces: "" there is none at this hook, None it is not known.

    `early`: conntrack has not seen it yet. `strict`: what is only assumed (a rate limit is not reached) is unknown.
    """

    segment: Segment
    saddr: Address
    daddr: Address
    sport: int
    dport: int
    iif: str | None
    oif: str | None
    hook: Hook
    early: bool
    strict: bool

    @property
    def version(self) -> int:
        """4 or 6."""
        return self.saddr.version

    @property
    def flags(self) -> int:
        """The TCP flags: SYN is 2, ACK 16."""
        return {Segment.SYN: 2, Segment.SYN_ACK: 18, Segment.ACK: 16}[self.segment]

    @property
    def is_reply(self) -> bool:
        """Whether it leaves this host."""
        return self.segment is Segment.SYN_ACK


@dataclass(frozen=True, slots=True)
class Marks:
    """What rules wrote on a packet and its connection. None: a number that is not known."""

    mark: int | None = 0
    ct_mark: int | None = 0
    untracked: bool = False
    lost: bool = False
    """The connection's first packet was not tracked, so the state of the later ones is anybody's guess."""


def ct_state(seen: Seen, marks: Marks) -> int | None:
    """Give the conntrack state as a bit of CT_STATES; None if it cannot be known."""
    if marks.untracked:
        return CT_STATES["untracked"]
    if seen.early:
        return CT_STATES["invalid"]
    if marks.lost:
        return None
    return CT_STATES["new" if seen.segment is Segment.SYN else "established"]


class Kind(Enum):
    """Where a step leads: to the next step, to the next rule, or to the end of something."""

    NEXT = auto()
    SKIP = auto()
    RETURN = auto()
    JUMP = auto()
    GOTO = auto()
    ACCEPT = auto()
    DROP = auto()
    REJECT = auto()
    REDIRECTED = auto()
    UNKNOWN = auto()


@dataclass(frozen=True, slots=True)
class Way:
    """One way on. `doubt` names what it hangs on; `marks`, if given, replace those of the packet."""

    kind: Kind
    target: str = ""
    doubt: str = ""
    marks: Marks | None = None


Step: TypeAlias = Callable[[Seen, Marks], tuple[Way, ...]]

ON: Final = (Way(Kind.NEXT),)
OVER: Final = (Way(Kind.SKIP),)


def either(doubt: str) -> tuple[Way, ...]:
    """Give both ways of a match that cannot be decided."""
    return (Way(Kind.NEXT, doubt=doubt), Way(Kind.SKIP, doubt=doubt))


def assumed(seen: Seen, doubt: str, *, likely: bool) -> tuple[Way, ...]:
    """Give the likelier way of a match that time or other traffic decides."""
    if seen.strict:
        return either(doubt)
    return ON if likely else OVER


def always(*ways: Way) -> Step:
    """Make a step that asks nothing."""
    return lambda _seen, _marks: ways


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule: its steps from left to right."""

    ref: RuleRef
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Base:
    """What makes a chain a base chain. `is_nat`: only the first packet of a connection meets it.

    `devices` limit an ingress or egress chain; None, not known which. `doubt`: what makes it doubtful that the kernel
    asks this chain at all.
    """

    hook: Hook
    priority: int
    policy: Kind
    is_nat: bool = False
    devices: tuple[str, ...] | None = ()
    doubt: str = ""


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain. `scope` is its table, in which names of chains are looked up."""

    tool: Tool
    family: str
    table: str
    name: str
    base: Base | None
    rules: tuple[Rule, ...] = ()

    @property
    def scope(self) -> tuple[Tool, str, str]:
        """Name the table."""
        return (self.tool, self.family, self.table)

    def policy_ref(self) -> RuleRef:
        """Give the policy as if it were the last rule."""
        policy = "accept" if self.base is None else self.base.policy.name.lower()
        hook = "" if self.base is None else self.base.hook.value
        return RuleRef(self.tool, self.family, self.table, self.name, None, f"policy {policy}", hook)


@dataclass(frozen=True, slots=True)
class Filter:
    """Everything that could be read, and in plain words what could not."""

    chains: tuple[Chain, ...] = ()
    unread: tuple[str, ...] = field(default=())

    def __add__(self, other: Filter) -> Filter:
        return replace(self, chains=self.chains + other.chains, unread=self.unread + other.unread)
