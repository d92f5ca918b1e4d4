"""What the lead's own firewall makes of its port: the captured rules, reckoned, and replayed as a second opinion.

Root reads the rules itself; anybody else reads what the helper unit wrote to /run. `cannot tell` is an answer.
"""

from __future__ import annotations

import ipaddress
import json
import os
import time
from typing import TYPE_CHECKING

from propagator.core.diagnosis.seen import Filter
from propagator.core.remedy import ChainRef
from propagator.core.ruleset import Connection, Judgement, judge
from propagator.firewall import charge, listing, state
from propagator.firewall.replay import replay, second_opinion
from propagator.probe import kernel

if TYPE_CHECKING:
    from propagator.core.ruleset import RuleRef
    from propagator.firewall.state import FirewallState, NotRead


def rules(*, now: bool) -> FirewallState | NotRead:
    """Give this host's rules: read now (root alone may), or as the helper unit wrote them down."""
    if now and os.geteuid() == 0:
        return state.parse(json.dumps(listing.capture()).encode())
    return state.read(time.time())


def of_port(found: FirewallState, port: int, source: str) -> Filter:
    """Say what becomes of a connection from `source` to the port. Takes up to 10 s; raises nothing of its own."""
    connection = _connection(port, source)
    if connection is None:
        return Filter("cannot_tell", caveats=(f"this host has no route to {source}",))
    judged = judge(found.listing, connection)
    opinion = second_opinion(judged, replay(found, connection))
    return Filter(
        outcome=opinion.outcome.value,
        rule=_told(judged.rule),
        tool=str(charge.in_charge(found, judged.rule) or ""),
        chain=_chain(judged),
        agreed=opinion.agreed is True and judged.is_fit,
        caveats=(*judged.caveats, *judged.unread, *(() if opinion.agreed else (opinion.text,))),
        source=source,
    )


def _connection(port: int, source: str) -> Connection | None:
    way = kernel.route(source)
    if way is None:
        return None
    own, peer = ipaddress.ip_address(way.source.partition("%")[0]), ipaddress.ip_address(source.partition("%")[0])
    return Connection(peer, own, port, iif=way.device or None) if own.version == peer.version else None


def _told(rule: RuleRef | None) -> str:
    return "" if rule is None else str(rule)


def _chain(judged: Judgement) -> ChainRef | None:
    rule = judged.rule
    return None if rule is None else ChainRef(rule.family, rule.table, rule.chain, rule.handle)


def neighbours() -> tuple[str, ...]:
    """Name one other address of each network that this host is in: a device may well be there."""
    found = []
    for own in kernel.own_networks():
        if own.ip.is_loopback or own.ip.is_link_local or own.network.num_addresses < 4:  # noqa: PLR2004  no room for another
            continue
        first = own.network.network_address + 1
        found.append(str(first if first != own.ip else first + 1))
    return tuple(found)
