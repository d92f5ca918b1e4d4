"""Rows 16 to 18, 20 and 21: names, listeners, IPv6, translated addresses, and first packets that get lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.firewall.case import TO_LEAD, Sight, case, chain, translate
from tests.firewall.cases_filter import CLOSED
from tests.firewall.room import LEAD, LEAD6, PORT

if TYPE_CHECKING:
    from tests.firewall.lab import Lab

# Row 16: the name.


def name_server(lab: Lab, mode: str, *addresses: str) -> None:
    """Let a name server at the gateway answer for the lead's name, and nobody else."""
    lab.know_lead_at()
    lab.stand_in("r1", "dns", "53", mode, *addresses)


@case(16, "DNS_NO_SUCH_NAME C", resolve="EAI_NONAME")
def dns_nx(lab: Lab) -> None:
    name_server(lab, "nx")


@case(16, "DNS_NO_SUCH_NAME C", resolve="EAI_NODATA")
def dns_nodata(lab: Lab) -> None:
    name_server(lab, "nodata")


@case(16, "DNS_UNAVAILABLE C", resolve="EAI_AGAIN slow")
def dns_mute(lab: Lab) -> None:
    name_server(lab, "mute")


@case(16, "DNS_UNAVAILABLE C", resolve="EAI_AGAIN")
def dns_servfail(lab: Lab) -> None:
    name_server(lab, "servfail")


@case(16, "DNS_UNAVAILABLE C", resolve="EAI_AGAIN")
def dns_none(lab: Lab) -> None:
    lab.know_lead_at()  # and nobody listens on port 53


@case(16, "DNS_SLOW C", resolve="found slow", connect="connected", session="record")
def dns_slow(lab: Lab) -> None:
    lab.serve()
    name_server(lab, "slow", LEAD)
    lab.write("/etc/resolv.conf", "nameserver 10.1.0.1\noptions timeout:5 attempts:2\n")


@case(16, "DNS_SINKHOLE C", resolve="found", connect="ECONNREFUSED", ladder="RST")
def dns_sinkhole(lab: Lab) -> None:
    lab.serve()
    name_server(lab, "sinkhole", "0.0.0.0")  # noqa: S104  what filters of names answer


@case(
    16, "HOST_UNREACHABLE C", "DNS_WRONG_ADDRESS P", connect="EHOSTUNREACH", took="3 s", icmp="host-unreachable from r2"
)
def dns_wrong(lab: Lab) -> None:
    lab.serve()
    name_server(lab, "wrong", "10.3.0.77")


@case(16, "PORT_CLOSED P", "DNS_WRONG_ADDRESS P", connect="ECONNREFUSED", icmp="none", ladder="r1 RST")
def dns_wrong_alive(lab: Lab) -> None:
    lab.serve()
    name_server(lab, "wrong", "10.3.0.1")


# Row 17: it listens, but not here.


@case(17, "PORT_CLOSED P", "LISTENING_ON_LOOPBACK C", like=CLOSED)
def loopback_only(lab: Lab) -> None:
    lab.listen("127.0.0.1")
    lab.serve()


@case(17, "PORT_CLOSED P", "LISTENING_ON_OTHER_ADDRESS C", like=CLOSED)
def v6_only_bind(lab: Lab) -> None:
    lab.listen(LEAD6)
    lab.serve()


# Row 18: one family works.


@case(18, "OK_BUT_IPV6_BROKEN C", v4="connected", v6="timeout", session="record")
def v6_broken(lab: Lab) -> None:
    lab.know_lead_at(LEAD6, LEAD)
    lab.serve()
    chain(lab, "r2", "forward", f"meta nfproto ipv6 {TO_LEAD} drop")


@case(
    18, "OK_BUT_IPV6_BROKEN C", v4="connected", v6="ECONNREFUSED", icmp="port-unreachable from lead", session="record"
)
def v6_rejected(lab: Lab) -> None:
    lab.know_lead_at(LEAD6, LEAD)
    lab.serve()
    chain(lab, "lead", "input", f"meta nfproto ipv6 {TO_LEAD} reject with icmpv6 port-unreachable")


# Row 20: behind a forwarded port, with a certificate whose name counts.

_FORWARD: Final = "10.2.0.2"
_FORWARDED: Final[Sight] = {"connect": "connected", "ladder": "r1 r2 SYN-ACK", "control": "r1 RST"}


def forward(lab: Lab, to: str = f"{LEAD}:{PORT}") -> None:
    """Forward the port of the last router, and let the shadow dial that."""
    lab.serve()
    lab.trust_publicly()
    lab.dial(_FORWARD)
    translate(lab, "r2", "prerouting", f"ip daddr {_FORWARD} {TO_LEAD} dnat to {to}")


_ASK_FORWARD: Final = {"host": _FORWARD, "verify_name": True}


@case(20, "TLS_NAME_MISMATCH C", ask=_ASK_FORWARD, like=_FORWARDED, session="verify 64")
def dnat(lab: Lab) -> None:
    forward(lab)


@case(20, "TLS_NAME_MISMATCH C", ask=_ASK_FORWARD, like=_FORWARDED, session="verify 64")
def dnat_masq(lab: Lab) -> None:
    forward(lab)
    translate(lab, "r2", "postrouting", 'oif "eth1" masquerade')


_FORWARD_NAME: Final = "forward.example"


@case(20, "TLS_NAME_MISMATCH C", ask={"host": _FORWARD_NAME, "verify_name": True}, like=_FORWARDED, session="verify 62")
def dnat_named(lab: Lab) -> None:
    forward(lab)
    lab.hosts({_FORWARD_NAME: [_FORWARD]})
    lab.dial(_FORWARD_NAME)


@case(20, "PORT_CLOSED P", ask=_ASK_FORWARD, connect="ECONNREFUSED", ladder="r1 r2 RST", control="r1 RST")
def dnat_wrong(lab: Lab) -> None:
    forward(lab, f"{LEAD}:9999")


@case(20, "PORT_CLOSED P", ask=_ASK_FORWARD, connect="ECONNREFUSED", ladder="r1 RST", control="r1 RST")
def dnat_missing(lab: Lab) -> None:
    lab.serve()
    lab.trust_publicly()
    lab.dial(_FORWARD)


@case(20, "OK C", connect="connected", ladder="r1 r2 SYN-ACK", session="record")
def shadow_nat(lab: Lab) -> None:
    lab.serve()
    translate(lab, "r1", "postrouting", 'oif "eth1" masquerade')


# Row 21: some first packets are lost. By a pattern that keeps no step with TCP, where the study threw dice: with those
# a whole question is spared now and then.

_SYN: Final = f"{TO_LEAD} tcp flags & (syn | ack) == syn"
_ASK_OFTEN: Final = {"tries": 6, "ladder": False, "session": False}


@case(21, "FLAKY C", ask=_ASK_OFTEN, retransmitted="some")
def syn_loss(lab: Lab) -> None:
    lab.serve()
    chain(lab, "r1", "forward", f"{_SYN} numgen inc mod 2 == 0 drop")


@case(21, "FLAKY C", ask=_ASK_OFTEN, retransmitted="some")
def syn_loss_uneven(lab: Lab) -> None:
    lab.serve()
    chain(lab, "r1", "forward", f"{_SYN} numgen inc mod 7 {{ 0, 3, 5, 6 }} drop")


@case(21, "FLAKY C", ask=_ASK_OFTEN, retransmitted="some")
def syn_limit(lab: Lab) -> None:
    lab.serve()
    chain(lab, "r2", "forward", f"{_SYN} limit rate 1/second burst 2 packets accept", f"{_SYN} drop")


@case(21, "FLAKY C", ask={**_ASK_OFTEN, "tries": 10}, retransmitted="some")
def loss30(lab: Lab) -> None:
    lab.serve()
    first = f"{_SYN} numgen inc mod 3 == 1 drop"  # counted by themselves: else the rest decides whether one is lost
    rest = "tcp flags & (syn | ack) != syn numgen inc mod 10 { 0, 4, 7 } drop"
    chain(lab, "r1", "forward", first, rest)
