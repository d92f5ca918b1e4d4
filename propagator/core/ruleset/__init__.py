"""The verdict of a host's packet filter on a connection, reckoned from its listing (FIREWALL.md §6).

Takes the captured texts of nft and iptables and one connection that a device would make; gives what becomes of it, the
rule that decides, and what could not be known. Nothing is asked of the kernel here: that is `firewall.replay`, the
second opinion. Outside of any listing are tc, BPF (systemd's `IPAddressDeny=`), bridges, and what stands in front of
the host.

All three packets of the handshake are judged: a SYN that comes in helps nobody whose answer is dropped on its way out.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import chain as joined
from typing import TYPE_CHECKING, Final

from propagator.core.ruleset import nft, xtables
from propagator.core.ruleset.model import Address, Filter, Hook, Marks, Outcome, RuleRef, Seen, Segment, Tool
from propagator.core.ruleset.walk import Journey, Trace, travel

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Connection", "Judgement", "Listing", "Outcome", "RuleRef", "Segment", "Source", "Tool", "judge"]


class Source(StrEnum):
    """The texts that a listing is made of, by the command that prints them."""

    NFT_JSON = "nft -j list ruleset"
    NFT_TEXT = "nft -a list ruleset"
    IPTABLES_NFT = "iptables-nft-save"
    IP6TABLES_NFT = "ip6tables-nft-save"
    IPTABLES_LEGACY = "iptables-legacy-save"
    IP6TABLES_LEGACY = "ip6tables-legacy-save"


@dataclass(frozen=True, slots=True)
class Listing:
    """What was captured: the text of each source that could be read ("" where there is nothing to list).

    `failed` says in a few words why another could not. A source that stands in neither was not asked, which counts as
    not read.
    """

    texts: Mapping[Source, str] = field(default_factory=dict)
    failed: Mapping[Source, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Connection:
    """The connection to judge: from a device's address to ours.

    `iif` is the interface by which our route to that address leaves, if known: the packets are taken to come in there.
    """

    saddr: Address
    daddr: Address
    dport: int
    iif: str | None = None
    sport: int = 50000


@dataclass(frozen=True, slots=True)
class Judgement:
    """What becomes of the connection.

    `segment` is the packet that was decided on, and `rule` the rule that decided, the policy of a chain among them.
    `possible` are all ends that the listing leaves open: none but `outcome`, unless that is `cannot_tell`; `unread`
    names what would settle it. `caveats` name what was taken for granted and could turn the outcome.
    """

    outcome: Outcome
    segment: Segment
    rule: RuleRef | None = None
    possible: frozenset[Outcome] = frozenset()
    caveats: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()

    @property
    def is_fit(self) -> bool:
        """Whether a finding may call this certain: it was decided, and nothing was taken for granted."""
        return self.outcome is not Outcome.CANNOT_TELL and not self.caveats


def judge(listing: Listing, connection: Connection) -> Judgement:
    """Judge a connection. Raises ValueError if its two addresses are not of one family."""
    if connection.saddr.version != connection.daddr.version:
        raise ValueError("the two ends of a connection have addresses of one family")
    rules = read(listing, connection.saddr.version)
    likely = _decide(rules, connection, strict=False)
    strict = _decide(rules, connection, strict=True)
    if strict.possible == likely.possible:
        return likely
    return replace(likely, caveats=tuple(doubt for doubt in strict.unread if doubt not in likely.unread))


_SAVED: Final = {
    4: ("ip", Source.IPTABLES_NFT, Source.IPTABLES_LEGACY),
    6: ("ip6", Source.IP6TABLES_NFT, Source.IP6TABLES_LEGACY),
}


def read(listing: Listing, version: int) -> Filter:
    """Make one filter of all that was captured for IPv4 or IPv6."""
    family, by_nft, by_legacy = _SAVED[version]
    return _native(listing, family, by_nft) + _legacy(listing, family, by_legacy)


def _native(listing: Listing, family: str, saved: Source) -> Filter:
    text = listing.texts.get(Source.NFT_JSON)
    if text is None:
        return Filter(unread=(_why(listing, Source.NFT_JSON),))
    listed = nft.read(text, listing.texts.get(Source.NFT_TEXT))
    if listed is None:
        return Filter(unread=(f"{Source.NFT_JSON}: its output is not understood",))
    told = listing.texts.get(saved, "") if listed.has_xt(family) else ""
    return nft.chains(listed, xtables.read(told, family, Tool.IPTABLES))


def _legacy(listing: Listing, family: str, saved: Source) -> Filter:
    text = listing.texts.get(saved)
    if text is None:
        return Filter(unread=(_why(listing, saved),))
    tables = xtables.read(text, family, Tool.IPTABLES_LEGACY)
    return Filter(tuple(joined.from_iterable(tables.values())))


def _why(listing: Listing, source: Source) -> str:
    return f"{source}: {listing.failed.get(source, 'not read')}"


def _decide(rules: Filter, connection: Connection, *, strict: bool) -> Judgement:
    """Send the three packets, each with the marks that the one before left on the connection."""
    marks: list[Marks] = [Marks()]
    passed = Trace()
    open_ends: dict[Outcome, tuple[Segment, Trace]] = {}
    for segment in Segment:
        journey = travel(rules, _packet(connection, segment, strict=strict), marks)
        for outcome, trace in journey.ends.items():
            open_ends.setdefault(outcome, (segment, trace))
        if segment is Segment.SYN:
            passed = _first(journey)
        if not journey.passing:
            break
        marks = list(dict.fromkeys(_carried(mark) for mark in journey.passing))
        doubts = frozenset(joined.from_iterable(trace.doubts for trace in journey.passing.values()))
        passed = passed.doubting(*doubts)
    else:
        open_ends[Outcome.ACCEPT] = (Segment.SYN, passed)
        if rules.unread:  # what was not read can only take away
            open_ends.setdefault(Outcome.CANNOT_TELL, (Segment.SYN, Trace(None, frozenset(rules.unread))))
    return _sum_up(open_ends)


def _first(journey: Journey) -> Trace:
    return next(iter(journey.passing.values()), Trace())


def _carried(mark: Marks) -> Marks:
    """Give what stays with the connection when its packet is gone."""
    return Marks(ct_mark=mark.ct_mark, lost=mark.lost or mark.untracked)


def _packet(connection: Connection, segment: Segment, *, strict: bool) -> Seen:
    near, far = (connection.daddr, connection.dport), (connection.saddr, connection.sport)
    (saddr, sport), (daddr, dport) = (near, far) if segment is Segment.SYN_ACK else (far, near)
    device = connection.iif
    return Seen(segment, saddr, daddr, sport, dport, device, device, Hook.INPUT, early=False, strict=strict)


def _sum_up(open_ends: dict[Outcome, tuple[Segment, Trace]]) -> Judgement:
    """Say the one end that is left, or that it cannot be told, with the likeliest culprit."""
    if len(open_ends) == 1:
        ((outcome, (segment, trace)),) = open_ends.items()
        doubts = tuple(sorted(trace.doubts)) if outcome is Outcome.CANNOT_TELL else ()
        return Judgement(outcome, segment, trace.rule, frozenset(open_ends), unread=doubts)
    doubts = tuple(sorted(frozenset(joined.from_iterable(trace.doubts for _, trace in open_ends.values()))))
    culprit = next((end for outcome, end in open_ends.items() if outcome is not Outcome.ACCEPT), None)
    segment, trace = culprit if culprit is not None else (Segment.SYN, Trace())
    return Judgement(Outcome.CANNOT_TELL, segment, trace.rule, frozenset(open_ends), unread=doubts)
