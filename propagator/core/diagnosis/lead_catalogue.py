"""The verdicts on the lead's own host, its port and its broker's process: a part of the catalogue, in its form."""

from __future__ import annotations

from typing import Final

from propagator.core.diagnosis.codes import Code, Confidence, Entry, Side

_FROM_THE_LEAD: Final = "on the lead: propagator diagnose"
_FROM_A_SHADOW: Final = "on a shadow: propagator diagnose"
_AGAIN: Final = "the same check once more: propagator diagnose"
_OPEN: Final = "open port {port}/tcp for {network} on {lead}'s host"

ENTRIES: Final[dict[Code, Entry]] = {
    Code.PORT_CLOSED: Entry(
        "The lead's host is there; its port is closed",
        "{address} answers, and refuses port {port}: nothing listens there, or its firewall rejects it.",
        "a reset from the host's own distance",
        "on the lead: propagator status; start its service, or correct the port",
        Side.LEAD,
        _FROM_THE_LEAD,
    ),
    Code.NOT_LISTENING: Entry(
        "Nothing listens on the lead's port",
        "On the lead's host nothing listens on port {port}.",
        "the kernel's table of listeners on the lead",
        "on the lead: systemctl start propagator",
        Side.LEAD,
    ),
    Code.LISTENING_ON_LOOPBACK: Entry(
        "The lead listens for itself alone",
        "The lead's broker listens on {other} only, which nobody else can reach.",
        "the kernel's table of listeners on the lead",
        'on the lead, in its configuration: [downlink] listen = "[::]:{port}"',
        Side.LEAD,
    ),
    Code.LISTENING_ON_OTHER_ADDRESS: Entry(
        "The lead listens on another address",
        "The lead's broker listens on {other}, and not on {address}.",
        "the kernel's table of listeners on the lead",
        'on the lead, in its configuration: [downlink] listen = "[::]:{port}"; or dial {other}',
        Side.LEAD,
    ),
    Code.REJECTED_BY_FIREWALL: Entry(
        "The lead's firewall rejects the connection",
        "The firewall of {address} refuses port {port}, and says so.",
        "an ICMP message of the lead's own address",
        _OPEN,
        Side.LEAD,
    ),
    Code.LEAD_FIREWALL_DROPS: Entry(
        "The lead's own firewall drops the connection",
        "The packets reach the lead's host, and its own firewall drops them{rule}.",
        "packets that arrived on the lead were not delivered (InReceives - InDelivers rose by their number)",
        _OPEN,
        Side.LEAD,
        "on the lead, as root: propagator diagnose --wire",
    ),
    Code.LEAD_FIREWALL_REJECTS: Entry(
        "The lead's own firewall rejects the connection",
        "The broker listens, and the host's own firewall refuses the connection{rule}.",
        "the lead listens; packets arrived and were not delivered; the shadow was refused",
        _OPEN,
        Side.LEAD,
        _FROM_A_SHADOW,
    ),
    Code.LEAD_OUTPUT_DROPS: Entry(
        "The lead's own firewall drops its answers",
        "Requests arrive at the lead, and its output rules drop the answers.",
        "half-open connections whose answer was never sent",
        "on the lead's host: allow outgoing established connections from port {port}",
        Side.LEAD,
        _FROM_A_SHADOW,
    ),
    Code.LEAD_NO_ROUTE_BACK: Entry(
        "The lead has no way back to this server",
        "Requests arrive at the lead, which has no route to {network}.",
        "the lead's kernel counts answers without a route (OutNoRoutes)",
        "on the lead's host: add a route to {network}, or its default gateway",
        Side.LEAD,
    ),
    Code.LEAD_RPFILTER: Entry(
        "The lead's kernel takes this server's packets for forged",
        "The way back leaves the lead by another interface: reverse-path filtering drops what comes in.",
        "the lead's kernel counts them (IPReversePathFilter)",
        "on the lead's host: correct the routes, or set rp_filter to 2 (loose) on that interface",
        Side.LEAD,
    ),
    Code.LEAD_READY: Entry(
        "The lead is ready for its shadows",
        "The lead listens on port {port}, and nothing on its host is seen to stand in the way.",
        "the lead's listeners, queues and counters, and its firewall's rules where they were read",
        "if a shadow does not get through, on that shadow: propagator diagnose",
        Side.NOWHERE,
        _FROM_A_SHADOW,
    ),
    Code.LEAD_CONNTRACK_FULL: Entry(
        "The lead's host tracks as many connections as it may",
        "The kernel of the lead's host tracks connections for its firewall. Its places are taken ({limit}), and the "
        "first packets of new connections are dropped.",
        "nf_conntrack_count has reached nf_conntrack_max, and the kernel counts packets that found no place",
        "on the lead's host: raise nf_conntrack_max, and see who fills the table",
        Side.LEAD,
        "on the lead, while a device tries: propagator diagnose --watch 120",
    ),
    Code.ACCEPT_QUEUE_FULL: Entry(
        "The lead's broker takes no more connections",
        "The queue of new connections on the lead is full: the broker is overloaded or stuck.",
        "the lead's kernel counts the overflow (ListenOverflows), or tracks first packets that nobody answered",
        "on the lead: systemctl restart propagator",
        Side.LEAD,
        "on the lead, while a device tries: propagator diagnose --watch 120",
    ),
    Code.CONNECTIONS_AT_CAP: Entry(
        "The lead's broker has as many connections as it may have",
        "Every connection that the broker may have is taken, and it turns others away; the lead itself goes on.",
        "the broker turned a connection away a moment ago, or has no descriptor left for one more",
        "on the lead: ss -tn, to see who holds them; keep strangers out, or raise max_connections under [downlink]",
        Side.LEAD,
    ),
    Code.SERVICE_STOPPED: Entry(
        "The lead's broker is stopped",
        "Connections wait on the lead with unread words: the process is stopped.",
        "unread bytes in connections that nobody accepted",
        "on the lead: systemctl restart propagator",
        Side.LEAD,
    ),
    Code.ACCEPTED_BUT_MUTE: Entry(
        "The lead's broker accepts and says nothing",
        "The connection stands and what is said is acknowledged, and no answer comes: the service hangs.",
        "our bytes were acknowledged by the host, and nothing came within the time",
        "on the lead: systemctl restart propagator",
        Side.LEAD,
        _AGAIN,
    ),
}

CONFIDENCE: Final[dict[Code, tuple[Confidence, ...]]] = {
    **dict.fromkeys(
        (
            Code.LEAD_OUTPUT_DROPS,
            Code.LEAD_FIREWALL_REJECTS,
            Code.LEAD_CONNTRACK_FULL,
            Code.ACCEPT_QUEUE_FULL,
            Code.LEAD_READY,
        ),
        (Confidence.CERTAIN, Confidence.PROBABLE),
    ),
    Code.LEAD_FIREWALL_DROPS: tuple(Confidence),
}
