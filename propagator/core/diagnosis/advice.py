"""What to do about a verdict: commands for the filter that was found, or for each it may be, and a ticket's text.

The first is the one to try. Nothing is ever run: a person reads and types (FIREWALL.md §7).
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final

from propagator.core.diagnosis.catalogue import Code, Side
from propagator.core.errors import InputError
from propagator.core.remedy import Remedy, Tool, forward, open_port, track_more
from propagator.core.remedy import Side as Way
from propagator.core.ticket import Ticket, ticket

if TYPE_CHECKING:
    from propagator.core.diagnosis.seen import Filter
    from propagator.core.diagnosis.verdict import Verdict
    from propagator.core.remedy import Address, Network

_WAYS: Final = {
    Code.DROPPED_AT_LEAD_OR_LAST_HOP: Way.IN,
    Code.LEAD_FIREWALL_DROPS: Way.IN,
    Code.LEAD_FIREWALL_REJECTS: Way.IN,
    Code.REJECTED_BY_FIREWALL: Way.IN,
    Code.LEAD_OUTPUT_DROPS: Way.ANSWERS,
    Code.OWN_FIREWALL_DROPS: Way.OUT,
    Code.OWN_FIREWALL_REJECTS: Way.OUT,
    Code.OWN_FIREWALL_DROPS_REPLY: Way.BACK,
    Code.PORTAL_OWN_FIREWALL: Way.OUT,
}
"""The verdicts that a rule on one host heals, and which packets it has to let pass."""

_ROUTERS: Final = frozenset({Code.DROPPED_ON_PATH, Code.DROPPED_BEFORE_LEAD, Code.REJECTED_ON_PATH, Code.REPLY_LOST})
_ASKED: Final = frozenset({*_WAYS, *_ROUTERS, Code.INTERCEPTED, Code.TLS_INTERCEPTED, Code.RESET_ON_PAYLOAD})
"""The verdicts for which a network team is asked."""

_PROXYS: Final = frozenset({Code.PORTAL_PROXY_ACCOUNT, Code.PORTAL_PROXY_REFUSES, Code.PORTAL_PROXY_FAILS})
_PORTALS: Final = frozenset(
    {
        *_PROXYS,
        Code.PORTAL_REJECTED,
        Code.PORTAL_DROPPED,
        Code.PORTAL_TLS_INTERCEPTED,
        Code.PORTAL_TLS_BLOCKED,
        Code.PORTAL_NAME_BLOCKED,
        Code.PORTAL_PAGE,
    }
)
"""The same on the way to a portal; of a proxy, its keepers are asked."""

_DIGITS: Final = 10
"""More has no bound that a kernel knows."""

_TOOLS: Final = (Tool.UFW, Tool.FIREWALLD, Tool.NFT, Tool.IPTABLES, Tool.WINDOWS, Tool.NETSH)
_HERE: Final = (Tool.UFW, Tool.FIREWALLD, Tool.NFT, Tool.IPTABLES)


def remedies(verdict: Verdict, found: Filter | None = None) -> tuple[Remedy, ...]:
    """Give the ways out, the first one first; of a fine verdict none.

    `found` is the filter of the lead's host, where it was read: then its tool alone is named.
    """
    if verdict.is_fine:
        return ()
    hint = Remedy("hint", verdict.entry.side.value, (verdict.advice,), ())
    if verdict.code is Code.LEAD_CONNTRACK_FULL:
        limit = verdict.facts.get("limit", "")
        return (hint, track_more(int(limit))) if limit.isdecimal() and len(limit) < _DIGITS else (hint,)
    port, networks = _port(verdict), _networks(verdict)
    if port is None:
        return (hint,)
    if verdict.code in _ROUTERS:
        targets = [address for address in (_address(verdict.address),) if address is not None]
        return (hint, *((forward(port, networks, targets),) if targets else ()))
    way = _WAYS.get(verdict.code)
    if way is None:
        return (hint,)
    tools = _HERE if verdict.entry.side is Side.HERE or way is Way.ANSWERS else _TOOLS
    known = None if found is None else next((tool for tool in Tool if found.tool == tool), None)
    others = networks if way in {Way.IN, Way.ANSWERS} else _host(verdict)
    made = [_opening(tool, port, others, way, found) for tool in (tools if known is None else (known,))]
    return (hint, *(each for each in made if each is not None))


def _opening(tool: Tool, port: int, others: tuple[Network, ...], way: Way, found: Filter | None) -> Remedy | None:
    """Open the port with one tool; None where the listing names something that no command can hold."""
    chain, zone = (None, None) if found is None else (found.chain, found.zone or None)
    try:
        return open_port(tool, port, others, zone=zone, chain=chain, side=way)
    except InputError:
        return None


def ticket_text(verdict: Verdict, at: str) -> str | None:
    """Give the text for a network team; None where none is to be asked."""
    port = _port(verdict)
    if verdict.code not in {*_ASKED, *_PORTALS} or port is None:
        return None
    target, host = _address(verdict.address), verdict.facts.get("host", "")
    is_portal = verdict.code in _PORTALS
    wanted = Ticket(
        sources=_networks(verdict),
        destinations=() if target is None else (target,),
        port=port,
        reason=verdict.cause,
        evidence=(f"{verdict.code} ({verdict.confidence}): {verdict.reason}",),
        seen_at=at,
        name=host if host != verdict.address else "",
        speech="HTTPS" if is_portal else "MQTT over TLS",
        proxy=verdict.facts.get("proxy", "") if verdict.code in _PROXYS else "",
    )
    return ticket(wanted)


def _port(verdict: Verdict) -> int | None:
    told = verdict.facts.get("port", "")
    return int(told) if told.isdecimal() else None


def _networks(verdict: Verdict) -> tuple[Network, ...]:
    """The network of the device, as far as it is known; none stands for all."""
    try:
        return (ipaddress.ip_network(verdict.facts["network"]),)
    except (KeyError, ValueError):
        return ()


def _host(verdict: Verdict) -> tuple[Network, ...]:
    """The lead's address, as the network of one host."""
    address = _address(verdict.address)
    return () if address is None else (ipaddress.ip_network(address),)


def _address(text: str | None) -> Address | None:
    try:
        return None if text is None else ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
