"""What a lead adds to the verdict of a shadow, of the same minute, and what it can say alone (FIREWALL.md §4, §6).

A shadow cannot tell a firewall of the lead's host from one right in front of it, nor a closed port from one that is
refused; the lead's own counters and listeners can. The verdict that both views give is the one to show.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final

from propagator.core.conntrack import Handshake, latest
from propagator.core.diagnosis.catalogue import Code, Confidence
from propagator.core.diagnosis.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from propagator.core.diagnosis.seen import LeadSide

BURST: Final = 5
"""A diagnosis sends more SYNs than this while a lead watches; so many packets are no chance."""

_CERTAIN, _PROBABLE = Confidence.CERTAIN, Confidence.PROBABLE
_SILENT: Final = frozenset(
    {
        Code.NO_ANSWER_AT_ALL,
        Code.DROPPED_AT_LEAD_OR_LAST_HOP,
        Code.DROPPED_ON_PATH,
        Code.LEAD_FIREWALL_DROPS,
    }
)
_TURNED_AWAY: Final = frozenset({Code.CLOSED_BEFORE_CONNACK, Code.RESET_ON_PAYLOAD, Code.ACCEPTED_BUT_MUTE})
"""What a broker without a place for one more looks like."""

_UNHEARD: Final = frozenset({*_SILENT, Code.FLAKY})
"""What a table of connections without a place for one more looks like; now and then it has one."""

_REFUSED: Final = frozenset({Code.PORT_CLOSED, Code.REJECTED_BY_FIREWALL})
_ELSEWHERE: Final = frozenset({*_SILENT, *_REFUSED, Code.HOST_UNREACHABLE, Code.HOST_DOWN_ONLINK, Code.NET_UNREACHABLE})
"""Verdicts that a name which points to another host gives, too."""


def join(shadow: Verdict, lead: LeadSide) -> Verdict:
    """Give the verdict of both views; the shadow's own where the lead has nothing to add."""
    found = _joined(shadow, lead)
    if found is None:
        return shadow
    return Verdict(found.code, found.confidence, found.reason, shadow.address, found.facts).knowing(**shadow.facts)


def _joined(shadow: Verdict, lead: LeadSide) -> Verdict | None:
    if lead.at_cap and (shadow.code in _TURNED_AWAY or (shadow.code in _SILENT and _overflows(lead))):
        return _at_cap(lead)
    if shadow.code in _UNHEARD and (full := _table_full(lead, while_it_tried=True)) is not None:
        return full
    if shadow.code is Code.ACCEPTED_BUT_MUTE and lead.unread:
        return _verdict(Code.SERVICE_STOPPED, _CERTAIN, f"{lead.unread} connections wait, with words that nobody reads")
    if (elsewhere := _elsewhere(shadow, lead)) is not None:
        return elsewhere
    if shadow.code in _REFUSED:
        return _refused(shadow, lead)
    return _silent(shadow, lead) if shadow.code in _SILENT else None


def _elsewhere(shadow: Verdict, lead: LeadSide) -> Verdict | None:
    """Say that a name points to an address that this lead does not have, while nothing arrived here."""
    address, host = shadow.address, shadow.facts.get("host")
    known = [own for own in lead.own if not ipaddress.ip_address(own).is_loopback]
    if shadow.code not in _ELSEWHERE or address is None or host in {None, address} or not known:
        return None
    if address in known or lead.half_open or lead.swallowed >= BURST or lead.wire:
        return None
    told = f"{address} is none of this host's addresses, and nothing arrived here; a port forward looks the same"
    return _verdict(Code.DNS_WRONG_ADDRESS, _PROBABLE, told, other=", ".join(known))


def _refused(shadow: Verdict, lead: LeadSide) -> Verdict | None:
    heard = listening(lead, shadow.address)
    if heard is not None:
        return heard
    if lead.swallowed >= BURST or shadow.code is Code.REJECTED_BY_FIREWALL or _filters(lead, "reject"):
        told = (
            f"the broker listens, {lead.swallowed} packets arrived and were not delivered, and the shadow was refused"
        )
        return _with_rule(_verdict(Code.LEAD_FIREWALL_REJECTS, _CERTAIN, told), lead)
    return None


def listening(lead: LeadSide, dialled: str | None) -> Verdict | None:
    """Say what is wrong with the listeners, for an address that was dialled (None: for any)."""
    if not lead.listeners:
        return _verdict(Code.NOT_LISTENING, _CERTAIN, "no socket of the host listens on this port")
    if any(_is_everybodys(address) for address in lead.listeners):
        return None
    if dialled in lead.listeners:
        return None
    told = ", ".join(lead.listeners)
    if all(ipaddress.ip_address(address).is_loopback for address in lead.listeners):
        return _verdict(Code.LISTENING_ON_LOOPBACK, _CERTAIN, f"it listens on {told} alone", other=told)
    if dialled not in lead.own:
        return None
    return _verdict(Code.LISTENING_ON_OTHER_ADDRESS, _CERTAIN, f"it listens on {told}", other=told)


def _is_everybodys(address: str) -> bool:
    return ipaddress.ip_address(address).is_unspecified


def _silent(shadow: Verdict, lead: LeadSide) -> Verdict | None:
    passed = lead.passed
    if _overflows(lead):
        return _overflowing(lead)
    if passed.rpfilter > 0:
        return _verdict(Code.LEAD_RPFILTER, _CERTAIN, f"reverse-path filtering dropped {passed.rpfilter} packets")
    if passed.no_routes > 0:
        return _verdict(Code.LEAD_NO_ROUTE_BACK, _CERTAIN, f"{passed.no_routes} answers had no route")
    if lead.half_open:
        return _half_open(lead)
    if not _filters(lead, "drop") and (found := _tracked(lead)) is not None:
        return found
    if lead.swallowed >= BURST or (lead.wire or 0) > 0 or _filters(lead, "drop"):
        return _dropped_here(shadow, lead)
    if shadow.code is Code.DROPPED_ON_PATH:  # the shadow has named the place
        sure = _CERTAIN if lead.wire == 0 else _PROBABLE
        return Verdict(shadow.code, sure, f"{shadow.reason}; at the lead nothing arrived", facts=shadow.facts)
    return _dropped_before(lead)


def _overflows(lead: LeadSide) -> bool:
    return lead.passed.listen_overflows > 0 or lead.passed.queue_full > 0


def _overflowing(lead: LeadSide) -> Verdict:
    told = f"{lead.passed.listen_overflows + lead.passed.queue_full} connections found the queue full"
    return _verdict(Code.ACCEPT_QUEUE_FULL, _CERTAIN, told)


def _at_cap(lead: LeadSide) -> Verdict:
    """The broker's own word. It hides what comes of it: connections that wait, a queue that is full."""
    named, more = lead.connected[:_NAMED], len(lead.connected) - _NAMED
    held = f"those that stand are of {', '.join(named)}" if named else "none of those that stand is of another host"
    told = f"the broker turns connections away; {held}{f' and {more} more' if more > 0 else ''}"
    return _verdict(Code.CONNECTIONS_AT_CAP, _CERTAIN, told)


_NAMED: Final = 3
"""Addresses that a reason names."""


def _half_open(lead: LeadSide) -> Verdict:
    """Requests arrived and were answered; whether the answer left says who drops it."""
    again = max(each.retransmits for each in lead.half_open)
    peers = ", ".join(sorted({each.peer for each in lead.half_open}))
    if again > 0 or lead.passed.syn_retrans > 0:
        told = f"half-open connections of {peers}; the answer was sent {again} times more"
        return _verdict(Code.REPLY_LOST, _CERTAIN, told)
    return _verdict(Code.LEAD_OUTPUT_DROPS, _CERTAIN, f"half-open connections of {peers}; no answer ever left")


def _table_full(lead: LeadSide, *, while_it_tried: bool) -> Verdict | None:
    """The table of connections has no place; where nothing was dropped `while_it_tried`, it is not that."""
    table = lead.conntrack
    if table is None or not table.is_full or (while_it_tried and table.dropped == 0):
        return None
    told = f"{table.count} of {table.limit} connections are tracked"
    if table.dropped:
        told += f"; {table.dropped} packets found no place in {lead.window_s:.0f} s"
    return _verdict(Code.LEAD_CONNTRACK_FULL, _CERTAIN if table.dropped else _PROBABLE, told, limit=str(table.limit))


RECENT_S: Final = 120
"""What is older was before the cause that is looked for, maybe."""


def _tracked(lead: LeadSide) -> Verdict | None:
    """What the table of connections says of those that this is about: it remembers what came before this watch, too."""
    flow = latest(lead.flows, lead.about)
    if flow is None or flow.age_s > RECENT_S:
        return None
    when = f"a first packet of {flow.peer} came {flow.age_s} s ago"
    match flow.handshake:
        case Handshake.ANSWERED:
            return _verdict(Code.REPLY_LOST, _PROBABLE, f"{when} and was answered, and nothing followed (conntrack)")
        case Handshake.UNANSWERED if flow.peer in lead.unrouted:
            told = f"{when}, and the host's table of routes has none to it"
            return _verdict(Code.LEAD_NO_ROUTE_BACK, _CERTAIN, told)
        case Handshake.UNANSWERED:
            told = f"{when}, through this host's filter, and was not answered (conntrack)"
            return _verdict(Code.ACCEPT_QUEUE_FULL, _PROBABLE, told)
        case _:
            return None


def _dropped_here(shadow: Verdict, lead: LeadSide) -> Verdict:
    """The lead's own filter: certain if two independent views say so, the wire's, the rules', the shadow's own."""
    told = f"{lead.swallowed} packets arrived and were not delivered"
    seen = (lead.wire or 0) > 0
    if seen:
        told = f"{lead.wire} SYNs were seen on the wire, and no connection began"
    elif lead.swallowed < BURST:
        told = "the host's rules drop it"
    agrees = _filters(lead, "drop") or shadow.code is Code.LEAD_FIREWALL_DROPS  # nothing lies between the two
    sure = _CERTAIN if seen or (agrees and lead.swallowed >= BURST) else _PROBABLE
    return _with_rule(_verdict(Code.LEAD_FIREWALL_DROPS, sure, told), lead)


def _dropped_before(lead: LeadSide) -> Verdict:
    if lead.wire == 0:
        return _verdict(Code.DROPPED_BEFORE_LEAD, _CERTAIN, "no SYN was seen on the lead's wire")
    told = "the lead's counters saw nothing arrive that was not delivered, and nothing half-open"
    return _verdict(Code.DROPPED_BEFORE_LEAD, _PROBABLE, told)


def judge_lead(lead: LeadSide, dialled: Iterable[str] = ()) -> Verdict:
    """Say what a lead sees of its own port without any shadow's word; `dialled`: the addresses that it advertises."""
    return _unheard(lead, tuple(dialled)) or _of_sockets(lead) or _by_rules(lead) or _tracked(lead) or _eaten(lead)


def _unheard(lead: LeadSide, wanted: tuple[str, ...]) -> Verdict | None:
    for address in wanted or (None,):
        if address not in lead.listeners and (heard := listening(lead, address)) is not None:
            return heard
    return None


def _of_sockets(lead: LeadSide) -> Verdict | None:
    """What connections meet here, whoever began them."""
    if lead.at_cap:
        return _at_cap(lead)
    if (full := _table_full(lead, while_it_tried=False)) is not None:
        return full
    if _overflows(lead):
        return _overflowing(lead)
    if lead.unread:
        return _verdict(Code.SERVICE_STOPPED, _CERTAIN, f"{lead.unread} connections wait, with words that nobody reads")
    if lead.half_open:
        found = _half_open(lead)
        return Verdict(found.code, _PROBABLE, found.reason, facts=found.facts)
    return None


def _by_rules(lead: LeadSide) -> Verdict | None:
    rules = lead.filter
    if rules is None or rules.outcome not in {"drop", "reject"}:
        return None
    code = Code.LEAD_FIREWALL_DROPS if rules.outcome == "drop" else Code.LEAD_FIREWALL_REJECTS
    told = "its rules, and a replay of them, say so" if rules.agreed else "its rules say so"
    return _with_rule(_verdict(code, _CERTAIN if rules.agreed else _PROBABLE, told), lead)


def _eaten(lead: LeadSide) -> Verdict:
    if lead.swallowed < BURST:
        return _fine(lead)
    told = f"{lead.swallowed} packets arrived and were not delivered; whose they were, the counters do not say"
    return _verdict(Code.LEAD_FIREWALL_DROPS, Confidence.POSSIBLE, told)


def _fine(lead: LeadSide) -> Verdict:
    rules = lead.filter
    if rules is None:
        told = "it listens; its firewall's rules were not read"
    elif rules.outcome == "accept":
        told = "it listens, and its firewall's rules accept the port"
    else:
        told = f"it listens; what its firewall does cannot be told ({'; '.join(rules.caveats) or rules.outcome})"
    sure = _CERTAIN if rules is not None and rules.outcome == "accept" else _PROBABLE
    return _verdict(Code.LEAD_READY, sure, told)


def _filters(lead: LeadSide, outcome: str) -> bool:
    return lead.filter is not None and lead.filter.outcome == outcome


def _with_rule(verdict: Verdict, lead: LeadSide) -> Verdict:
    rule = "" if lead.filter is None or not lead.filter.rule else f" (rule: {lead.filter.rule})"
    return verdict.knowing(rule=rule) if rule else verdict


def _verdict(code: Code, confidence: Confidence, reason: str, **known: str) -> Verdict:
    return Verdict(code, confidence, reason, facts=known)
