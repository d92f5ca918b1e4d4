"""The verdicts: every code with its title, what it means, what proves it, and what to do (FIREWALL.md, its codes).

`docs/diagnostics.md` is generated from this table. In `cause` and `advice` the words in braces are filled in from the
verdict's facts; a fact that is not known leaves a plain word in its place. The lead's host and the way to a portal have
tables of their own.
"""

from __future__ import annotations

from typing import Final

from propagator.core.diagnosis import lead_catalogue, portal_catalogue
from propagator.core.diagnosis.codes import FINE, Code, Confidence, Entry, Side

__all__ = ["CATALOGUE", "CERTAIN_ALONE", "CONFIDENCE", "FINE", "Code", "Confidence", "Entry", "Side"]

_FROM_THE_LEAD: Final = "on the lead: propagator diagnose"
_FROM_A_SHADOW: Final = "on a shadow: propagator diagnose"
_AGAIN: Final = "the same check once more: propagator diagnose"
_OPEN: Final = "open port {port}/tcp for {network} on {lead}'s host"

CATALOGUE: Final[dict[Code, Entry]] = {
    **portal_catalogue.ENTRIES,
    **lead_catalogue.ENTRIES,
    Code.OK: Entry(
        "The lead is reached, and its registration arrives",
        "{address}, port {port}, answers as the lead, with its signed record.",
        "a full round trip: TCP, TLS, MQTT, the retained record and a signed heartbeat",
        "nothing is to be done",
        Side.NOWHERE,
    ),
    Code.OK_BUT_IPV6_BROKEN: Entry(
        "The lead is reached by IPv4; by IPv6 it is not",
        "IPv6 is advertised for {host} and does not work ({other}); traffic goes by IPv4.",
        "each address was tried on its own",
        "take the IPv6 address out of the lead's name, or repair IPv6",
        Side.PATH,
    ),
    Code.DNS_NO_SUCH_NAME: Entry(
        "The lead's name does not exist",
        "DNS says that there is no {host}.",
        "the resolver's answer: no such name, or no address for it",
        "correct DNS, or attach by an IP address",
        Side.PATH,
    ),
    Code.DNS_UNAVAILABLE: Entry(
        "The lead's name is not resolved",
        "No name server gives an answer for {host}.",
        "the resolver's answer: try again, or none within its time",
        "check the name servers of this machine (`resolvectl` or /etc/resolv.conf)",
        Side.HERE,
    ),
    Code.DNS_SLOW: Entry(
        "The lead's name is resolved slowly",
        "Looking {host} up took {seconds} s.",
        "the time of the lookup",
        "put a name server that answers first",
        Side.HERE,
    ),
    Code.DNS_SINKHOLE: Entry(
        "A DNS filter blocks the lead's name",
        "{host} is resolved to {other}, which leads nowhere.",
        "the address is unspecified, loopback or multicast: a connection would go to this server itself",
        "ask for an exception in the DNS filter, or attach by an IP address",
        Side.PATH,
    ),
    Code.DNS_WRONG_ADDRESS: Entry(
        "The lead's name points to another host",
        "{host} is resolved to {address}; the lead's own addresses are {other}.",
        "the lead's list of its own addresses",
        "correct DNS",
        Side.PATH,
        "ask whoever keeps the names",
    ),
    Code.NO_ROUTE_LOCAL: Entry(
        "This server has no way to the lead's address",
        "The kernel knows no route to {address}: the cable is out, or an address or the gateway is missing.",
        "the kernel refuses at once, and has no route when asked",
        "check the cable, this server's address and its default gateway",
        Side.HERE,
        "ip route get {address}",
    ),
    Code.OWN_FIREWALL_DROPS: Entry(
        "This server's own firewall drops what it sends",
        "Packets to port {port} never leave this server: its output rules drop them.",
        "the kernel counts failed sends (TCPRetransFail), or refuses UDP to the same port",
        "allow outgoing tcp to port {port} on this server",
        Side.HERE,
        "run it as root, or read this server's output rules",
    ),
    Code.OWN_FIREWALL_REJECTS: Entry(
        "This server's own firewall rejects it",
        "This server itself answers in the lead's place: its output rules reject port {port}.",
        "the refusal comes from this server's own address, or from before its gateway",
        "allow outgoing tcp to port {port} on this server",
        Side.HERE,
    ),
    Code.OWN_FIREWALL_DROPS_REPLY: Entry(
        "This server's own firewall drops the lead's answer",
        "The lead answers, and the input rules of this server drop the answer.",
        "packets that arrived were not delivered (InReceives - InDelivers rose by the number of answers)",
        "allow established and related connections on this server's input",
        Side.HERE,
        "run it as root, or read this server's input rules",
    ),
    Code.GATEWAY_DOWN: Entry(
        "The gateway does not answer",
        "{gateway}, the gateway to {address}, gives no sign of life.",
        "its link address is not found: the kernel says host unreachable by itself",
        "check the router, its cable and this server's network settings",
        Side.PATH,
        "ip route get {address}",
    ),
    Code.HOST_DOWN_ONLINK: Entry(
        "No device of this network has the lead's address",
        "Nobody in this network answers for {address}.",
        "its link address is not found: the kernel says host unreachable by itself",
        "check power, cable and VLAN of the lead, and whether its address has changed",
        Side.LEAD,
    ),
    Code.HOST_UNREACHABLE: Entry(
        "A router cannot reach the lead",
        "The router {source} says that {address} cannot be reached: the host is off, or the address is wrong.",
        "an ICMP host unreachable of that router",
        "check that the lead's host is on, and its address",
        Side.LEAD,
    ),
    Code.NET_UNREACHABLE: Entry(
        "A router has no way to the lead's network",
        "The router {source} has no route to {address}.",
        "an ICMP network unreachable of that router",
        "add the route on {source}",
        Side.PATH,
    ),
    Code.REJECTED_ON_PATH: Entry(
        "A device on the way rejects the connection",
        "{source}{hop}, between here and the lead, refuses port {port}.",
        "the refusal comes from a device before the lead: an ICMP message of its address, or a reset from too near",
        "on {source}: let tcp {port} pass from {network} to {address}",
        Side.PATH,
        _FROM_THE_LEAD,
    ),
    Code.DROPPED_ON_PATH: Entry(
        "Packets to this port are lost on the way",
        "Packets to port {port} are lost on the way{hop}; others to the same host pass.",
        "step by step along the way: the port is heard up to that hop, another port of the host farther",
        "on the firewall there: let tcp {port} pass from {network} to {address}",
        Side.PATH,
        _FROM_THE_LEAD,
    ),
    Code.DROPPED_BEFORE_LEAD: Entry(
        "Packets are dropped in front of the lead",
        "Nothing of what this server sends arrives at the lead: a firewall in front of it drops it.",
        "the lead saw no packet while the shadow sent some",
        "on the last router before the lead: let tcp {port} pass from {network} to {address}",
        Side.PATH,
        "on the lead, as root: propagator diagnose --wire",
    ),
    Code.DROPPED_AT_LEAD_OR_LAST_HOP: Entry(
        "A firewall drops the connection at the lead",
        "Packets to port {port} are dropped by the firewall of the lead's host, or by the last router before it.",
        "the way is heard up to the last router, and another port of the same host answers",
        _OPEN,
        Side.LEAD,
        _FROM_THE_LEAD,
    ),
    Code.NO_ANSWER_AT_ALL: Entry(
        "Nothing answers at the lead's address",
        "{address} gives no answer at all{hop}: the host is off, or a firewall drops everything.",
        "no port and no protocol gets an answer",
        "check that the lead's host is on; then, on the lead: propagator diagnose",
        Side.LEAD,
        _FROM_THE_LEAD,
    ),
    Code.INTERCEPTED: Entry(
        "Something on the way answers in the lead's place",
        "A device{hop} accepts connections to {address} and is not the lead.",
        "the port answers nearer than the host's other ports, or nearer than the lead did when all was well",
        "ask the network's keepers to let tcp {port} to {address} pass untouched",
        Side.PATH,
        _FROM_THE_LEAD,
    ),
    Code.FLAKY: Entry(
        "The way to the lead loses packets",
        "Packets are lost on the way ({other}); some connections take seconds, or fail.",
        "the kernel's count of SYNs that were sent again, or a conversation that works only at times",
        "look for an overloaded link, a bad cable, or a limit on new connections",
        Side.PATH,
        _AGAIN,
    ),
    Code.IDLE_FLOW_KILLED: Entry(
        "A firewall forgets idle connections",
        "A connection that was quiet for {seconds} s is dead, and a new one works at once.",
        "what was sent after the pause was never acknowledged, and a fresh connection works",
        "raise the idle timeout of the stateful firewall on the way",
        Side.PATH,
    ),
    Code.IDLE_FLOW_RESET: Entry(
        "Idle connections are reset",
        "A connection that was quiet for {seconds} s was reset at its next word.",
        "a reset at the first byte after the pause",
        "raise the idle timeout of the stateful firewall on the way",
        Side.PATH,
        "the broker's log: it still has the session if the firewall ended it",
    ),
    Code.MTU_BLACKHOLE: Entry(
        "Large packets vanish on the way",
        "Small packets pass, large ones vanish: a tunnel, and the ICMP message that says so is filtered.",
        "the same conversation works with small segments, and fails again with normal ones",
        "let ICMP `fragmentation needed` pass, or clamp the segment size (tcp option maxseg size set rt mtu)",
        Side.PATH,
        _AGAIN,
    ),
    Code.RESET_ON_PAYLOAD: Entry(
        "The connection is reset at its first word",
        "The connection stands, and is reset as soon as something is said: nothing of it was acknowledged.",
        "a reset right after the first bytes, of which none was acknowledged",
        "if the broker's log shows no such connection: ask the network's keepers for an exception for tcp {port}",
        Side.PATH,
    ),
    Code.SILENT_AFTER_CONNECT: Entry(
        "What is sent after connecting vanishes",
        "The connection stands, and what is said on it is not acknowledged.",
        "bytes on the way that are never acknowledged, with small segments as well",
        "ask the network's keepers for an exception for tcp {port} to {address}",
        Side.PATH,
        _AGAIN,
    ),
    Code.REPLY_LOST: Entry(
        "The lead's answers are lost on the way back",
        "Requests arrive at the lead; its answers do not arrive here: a firewall or another way back.",
        "the lead holds half-open connections of this server and sends its answer again and again",
        "on the routers of the way back: let established connections of tcp {port} pass",
        Side.PATH,
        _FROM_A_SHADOW,
    ),
    Code.TLS_INTERCEPTED: Entry(
        "Something on the way answers TLS in the lead's place",
        "A device{hop} shows a certificate of its own ({issuer}).",
        "the certificate is not of the lead's CA, and the answer comes from nearer than the host does, or did",
        "ask the network's keepers to let TLS to {address} pass untouched",
        Side.PATH,
        _FROM_THE_LEAD,
    ),
    Code.TLS_UNKNOWN_CA: Entry(
        "The certificate is of a CA that this server does not know",
        "{address} shows a certificate of {issuer}, which is not the CA that came with the invitation.",
        "the certificate's chain",
        "if the lead was set up anew: invite and attach again; if not, it is not the lead",
        Side.LEAD,
    ),
    Code.TLS_EXPIRED: Entry(
        "The lead's certificate has expired",
        "The certificate of {address} was valid until {other}.",
        "the certificate's dates, by this server's clock",
        "check this server's clock; then renew the certificate on the broker",
        Side.LEAD,
    ),
    Code.TLS_NOT_YET_VALID: Entry(
        "The lead's certificate is not valid yet",
        "The certificate of {address} is valid from {other}: most likely this server's clock is wrong.",
        "the certificate's dates, by this server's clock",
        "set this server's clock",
        Side.HERE,
    ),
    Code.TLS_NAME_MISMATCH: Entry(
        "The certificate is for another name",
        "The certificate of {address} is for {other}, not for {host}.",
        "the certificate's names",
        "dial a name that is in the certificate, or renew it with this one",
        Side.LEAD,
    ),
    Code.TLS_NOT_TLS: Entry(
        "The port does not speak TLS",
        "Port {port} of {address} speaks MQTT without TLS; this server wants TLS.",
        "the handshake fails, and a plain MQTT greeting is answered",
        "dial the broker's TLS port",
        Side.LEAD,
    ),
    Code.TLS_WANTED: Entry(
        "The port wants TLS",
        "Port {port} of {address} wants TLS; this server speaks without.",
        "the plain greeting fails, and a TLS greeting is answered",
        "connect with TLS (mqtts://)",
        Side.HERE,
    ),
    Code.TLS_CLIENT_CERT: Entry(
        "The broker wants a certificate of this server",
        "The broker at {address} wants a client certificate.",
        "the TLS alert `certificate required`",
        "on the broker: turn require_certificate off, or use another listener",
        Side.LEAD,
    ),
    Code.TLS_FAILED: Entry(
        "There is no TLS connection to the lead",
        "The TLS handshake with {address} fails ({other}).",
        "the TLS library's reason",
        "look at the broker's log",
        Side.LEAD,
    ),
    Code.NOT_MQTT: Entry(
        "What answers on the port is no MQTT broker",
        "Another program answers on port {port} of {address}.",
        "its first byte is none that a broker sends",
        "correct the port, or stop the other program on the lead's host",
        Side.LEAD,
    ),
    Code.CLOSED_BEFORE_CONNACK: Entry(
        "The broker hangs up",
        "{address} accepts the connection and closes it before it greets.",
        "an orderly end of the connection, from the host's own distance",
        "look at the broker's log: its limit of connections, or its listener",
        Side.LEAD,
        "the broker's log: it says why it hung up",
    ),
    Code.MQTT_REFUSED: Entry(
        "The broker refuses this server's account",
        "{address} does not accept the account of this server.",
        "the broker's answer to CONNECT",
        "on the lead: propagator invite ID --again; then here: propagator attach TOKEN",
        Side.LEAD,
    ),
    Code.MQTT_SUBSCRIBE_REFUSED: Entry(
        "The broker does not let this server read the registration",
        "{address} refuses the subscription to the lead's topics.",
        "the broker's answer to SUBSCRIBE",
        "on the broker: give this account the right to read the lead's topics",
        Side.LEAD,
        "the broker's log: it says why it hung up",
    ),
    Code.NO_RECORD: Entry(
        "The lead has published no registration",
        "The broker is reached, and holds no record of the lead.",
        "nothing came on the record's topic",
        "on the lead: propagator status",
        Side.LEAD,
    ),
    Code.NO_HEARTBEAT: Entry(
        "The lead itself is silent",
        "The broker is reached; the lead gives no sign of life.",
        "no signed heartbeat came",
        "on the lead: propagator status",
        Side.LEAD,
        _AGAIN,
    ),
    Code.NOT_THE_LEAD: Entry(
        "The record is not of the lead that this server follows",
        "What lies on the broker is not signed by the lead that was attached to.",
        "the record's signature",
        "on the lead: propagator status",
        Side.LEAD,
    ),
    Code.CANNOT_TELL: Entry(
        "It cannot be told what is wrong",
        "What was seen fits no cause that is known.",
        "none",
        "send the output of propagator diagnose --json along with your question",
        Side.NOWHERE,
    ),
}

_SURE: Final = Confidence.CERTAIN
_SURE_OR_PROBABLE: Final = (Confidence.CERTAIN, Confidence.PROBABLE)

CERTAIN_ALONE: Final = (_SURE,)

CONFIDENCE: Final[dict[Code, tuple[Confidence, ...]]] = {
    **dict.fromkeys(
        (
            Code.NO_ROUTE_LOCAL,
            Code.OWN_FIREWALL_DROPS,
            Code.OWN_FIREWALL_DROPS_REPLY,
            Code.GATEWAY_DOWN,
            Code.REJECTED_ON_PATH,
            Code.DROPPED_ON_PATH,
            Code.DROPPED_BEFORE_LEAD,
            Code.INTERCEPTED,
            Code.TLS_INTERCEPTED,
            Code.FLAKY,
            Code.IDLE_FLOW_RESET,
            Code.MTU_BLACKHOLE,
            Code.SILENT_AFTER_CONNECT,
            Code.ACCEPTED_BUT_MUTE,
            Code.CLOSED_BEFORE_CONNACK,
            Code.MQTT_SUBSCRIBE_REFUSED,
            Code.REPLY_LOST,
        ),
        _SURE_OR_PROBABLE,
    ),
    Code.DNS_WRONG_ADDRESS: (Confidence.PROBABLE,),
    Code.DROPPED_AT_LEAD_OR_LAST_HOP: (Confidence.PROBABLE,),
    Code.PORT_CLOSED: (Confidence.PROBABLE,),
    Code.NO_HEARTBEAT: (Confidence.PROBABLE,),
    Code.NO_ANSWER_AT_ALL: (Confidence.POSSIBLE,),
    Code.CANNOT_TELL: (Confidence.POSSIBLE,),
    **lead_catalogue.CONFIDENCE,
    **portal_catalogue.CONFIDENCE,
}
"""How sure a verdict of a code can be; one that is not listed is only ever said where nothing else fits."""
