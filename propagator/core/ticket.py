"""The text that a network team is sent, whose firewall stands between: what is asked for, why, and the evidence."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a network team asks for. `evidence` are findings, one a line; `seen_at` when, with its time zone."""

    sources: Sequence[IPv4Network | IPv6Network | IPv4Address | IPv6Address]
    destinations: Sequence[IPv4Address | IPv6Address]
    port: int
    reason: str
    evidence: Sequence[str]
    seen_at: str
    name: str = ""
    """The name that the devices know the destination by."""

    speech: str = "MQTT over TLS"
    proxy: str = ""
    """The proxy that is asked to let it pass, where that is not a firewall."""


def ticket(wanted: Ticket) -> str:
    """Give the text to send to those who run the network, plain and short of control characters."""
    addresses, name = ", ".join(map(str, wanted.destinations)), plain(wanted.name, 253)
    destination = f"{addresses} ({name})" if addresses and name else addresses or name or "unknown"
    lines = [
        f"Request: let a connection through the {'proxy' if wanted.proxy else 'firewall'}",
        "",
        f"Source:       {', '.join(map(str, wanted.sources)) or 'any'}",
        f"Destination:  {destination}",
        f"Port:         {wanted.port}",
        *([f"Proxy:        {plain(wanted.proxy, 253)}"] if wanted.proxy else []),
        f"Protocol:     TCP ({wanted.speech})",
        "Direction:    from source to destination; new connections, and the answers of established ones back",
        f"Reason:       {plain(wanted.reason, 300)}",
        f"Seen at:      {plain(wanted.seen_at, 40)}",
        "Evidence:",
        *(f"  - {plain(line, 300)}" for line in wanted.evidence[:_EVIDENCE]),
    ]
    return "\n".join(lines) + "\n"


_EVIDENCE: Final = 20
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


def plain(text: str, limit: int) -> str:
    """Keep a text of any origin on its line, and in bounds."""
    clean = _CONTROL.sub(" ", text).strip()
    return clean if len(clean) <= limit else f"{clean[: limit - 1]}…"
