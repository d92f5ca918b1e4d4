"""Rows 1 to 11: what is closed, off, dropped, rejected or lost, at either end and between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.firewall.case import FROM_LEAD, TO_LEAD, Sight, case, chain, filtered
from tests.firewall.room import LEAD, LEAD6, PORT, SHADOW

if TYPE_CHECKING:
    from tests.firewall.lab import Lab

_OPEN: Final[Sight] = {"connect": "connected", "icmp": "none", "ladder": "r1 r2 SYN-ACK", "session": "record"}
_DROPPED: Final[Sight] = {"connect": "timeout", "icmp": "none", "ladder": "r1 r2 - -", "control": "r1 r2 SYN-ACK"}
_DROPPED_BY_LEAD: Final[Sight] = {**_DROPPED, "lead_swallowed": "some", "lead_half_open": "none"}
CLOSED: Final[Sight] = {"connect": "ECONNREFUSED", "took": "at once", "icmp": "none", "ladder": "r1 r2 RST"}
_SILENT: Final[Sight] = {"connect": "timeout", "icmp": "none"}

USUAL: Final = (
    "ct state established,related accept",
    "iif lo accept",
    "meta l4proto { icmp, ipv6-icmp } accept",
    "tcp dport 22 accept",
)
"""What a closed filter lets in."""

# Row 1.


@case(1, "OK C", like=_OPEN)
def ok(lab: Lab) -> None:
    lab.serve()


@case(1, "OK C", topology="onlink", connect="connected", ladder="SYN-ACK", session="record")
def ok_onlink(lab: Lab) -> None:
    lab.serve()


# Row 2.


@case(2, "PORT_CLOSED P", "NOT_LISTENING C", like=CLOSED, lead_swallowed="none")
def closed(lab: Lab) -> None:
    del lab  # nobody serves


# Row 3 and 4: off, or no way there.


@case(3, "HOST_DOWN_ONLINK C", topology="onlink", connect="EHOSTUNREACH", took="3 s", icmp="host-unreachable from self")
def down_onlink(lab: Lab) -> None:
    lab.sh("lead", "ip address flush dev eth0")


@case(4, "HOST_UNREACHABLE C", connect="EHOSTUNREACH", took="3 s", icmp="host-unreachable from r2")
def down_routed(lab: Lab) -> None:
    lab.sh("lead", "ip address flush dev eth0")


@case(4, "HOST_UNREACHABLE C", connect="EHOSTUNREACH", took="at once", icmp="host-unreachable from r1")
def noroute_hop(lab: Lab) -> None:
    lab.serve()
    lab.sh("r1", f"ip route add unreachable {LEAD}")


@case(4, "NO_ANSWER_AT_ALL ?", like=_SILENT, ladder="r1 r2 - -", control="r1 r2 - -")
def down_just_now(lab: Lab) -> None:
    # The router takes an address for reachable for 15 to 45 s: twice as long, so that no look comes too late.
    lab.sh("r2", "echo 60000 >/proc/sys/net/ipv4/neigh/eth1/base_reachable_time_ms")
    lab.look(host=LEAD, ladder=False, session=False)
    lab.sh("lead", "ip address flush dev eth0")


@case(4, "NO_ANSWER_AT_ALL ?", "DROPPED_BEFORE_LEAD P", like=_SILENT, ladder="r1 r2 - -", control="r1 r2 - -")
def down_routed_mute(lab: Lab) -> None:
    chain(lab, "r2", "output", "icmp type destination-unreachable drop")
    lab.sh("lead", "ip address flush dev eth0")


@case(4, "NO_ANSWER_AT_ALL ?", "DROPPED_BEFORE_LEAD P", like=_SILENT, ladder="- - - -", control="- - - -")
def noroute_blackhole(lab: Lab) -> None:
    lab.serve()
    lab.sh("r1", f"ip route add blackhole {LEAD}")


@case(4, "NO_ANSWER_AT_ALL ?", "LEAD_FIREWALL_DROPS P", like=_SILENT, ladder="r1 r2 - -", lead_swallowed="some")
def firewalld_drop_zone(lab: Lab) -> None:
    lab.serve()
    firewalld(lab, "--set-default-zone=drop")


@case(4, "NO_ANSWER_AT_ALL ?", "LEAD_FIREWALL_DROPS P", like=_SILENT, ladder="r1 r2 - -", lead_swallowed="some")
def policy_drop_all(lab: Lab) -> None:
    lab.serve()
    chain(lab, "lead", "input", "iif lo accept", policy="drop")


@case(4, "NET_UNREACHABLE C", connect="ENETUNREACH", took="at once", icmp="net-unreachable from r1")
def noroute(lab: Lab) -> None:
    lab.serve()
    lab.sh("r1", "ip route del 10.3.0.0/24")


@case(4, "REJECTED_ON_PATH C", connect="EHOSTUNREACH", took="at once", icmp="admin-prohibited from r1")
def noroute_prohibit(lab: Lab) -> None:
    lab.serve()
    lab.sh("r1", f"ip route add prohibit {LEAD}")


@case(4, "NO_ROUTE_LOCAL C", connect="ENETUNREACH", took="at once", icmp="none")
def noroute_self(lab: Lab) -> None:
    lab.serve()
    lab.sh("shadow", "ip route del default")


@case(4, "NO_ROUTE_LOCAL C", connect="ENETUNREACH", took="at once", icmp="none")
def link_down_self(lab: Lab) -> None:
    lab.serve()
    lab.sh("shadow", "ip link set eth0 down")


@case(4, "GATEWAY_DOWN C", connect="EHOSTUNREACH", took="3 s", icmp="host-unreachable from self")
def gateway_down(lab: Lab) -> None:
    lab.serve()
    lab.sh("r1", "ip address flush dev eth0")


# Row 5: dropped at the lead, this port alone.


@case(5, "DROPPED_AT_LEAD_OR_LAST_HOP P", "LEAD_FIREWALL_DROPS P", like=_DROPPED_BY_LEAD)
def drop_port(lab: Lab) -> None:
    lab.serve()
    chain(lab, "lead", "input", f"{TO_LEAD} drop")


@case(5, "DROPPED_AT_LEAD_OR_LAST_HOP P", "LEAD_FIREWALL_DROPS P", like=_DROPPED_BY_LEAD)
def source_acl(lab: Lab) -> None:
    lab.serve()
    chain(lab, "lead", "input", f"{TO_LEAD} ip saddr 10.7.0.0/16 accept", f"{TO_LEAD} drop")


@case(5, "DROPPED_AT_LEAD_OR_LAST_HOP P", "LEAD_FIREWALL_DROPS P", like=_DROPPED_BY_LEAD)
def accept_in_other_table(lab: Lab) -> None:
    lab.serve()
    chain(lab, "lead", "input", f"{TO_LEAD} accept")
    chain(lab, "lead", "input", *USUAL, policy="drop", table="inet other")


@case(5, "LEAD_FIREWALL_DROPS P", "LEAD_FIREWALL_DROPS C", topology="onlink", like=_SILENT, lead_swallowed="some")
def drop_port_onlink(lab: Lab) -> None:
    lab.serve()
    chain(lab, "lead", "input", f"{TO_LEAD} drop")


# Row 6: only what is named comes in.


@case(6, "DROPPED_AT_LEAD_OR_LAST_HOP P", "LEAD_FIREWALL_DROPS P", like=_DROPPED_BY_LEAD)
def policy_drop(lab: Lab) -> None:
    lab.serve()
    chain(lab, "lead", "input", *USUAL, policy="drop")


@case(6, "DROPPED_AT_LEAD_OR_LAST_HOP P", "LEAD_FIREWALL_DROPS P", like=_DROPPED_BY_LEAD)
def ufw(lab: Lab) -> None:
    lab.serve()
    run_ufw(lab)


@case(6, "DROPPED_AT_LEAD_OR_LAST_HOP P", "LEAD_FIREWALL_DROPS P", like=_DROPPED_BY_LEAD)
def ufw_other_subnet(lab: Lab) -> None:
    lab.serve()
    run_ufw(lab, f"allow proto tcp from 192.168.7.0/24 to any port {PORT}")


@case(6, "DROPPED_AT_LEAD_OR_LAST_HOP P", "LEAD_FIREWALL_DROPS P", like=_DROPPED_BY_LEAD)
def iptables_drop(lab: Lab) -> None:
    lab.serve()
    run_iptables(lab, "iptables-nft")


@case(6, "DROPPED_AT_LEAD_OR_LAST_HOP P", "LEAD_FIREWALL_DROPS P", like=_DROPPED_BY_LEAD)
def iptables_legacy_drop(lab: Lab) -> None:
    lab.serve()
    run_iptables(lab, "iptables-legacy")


@case(6, "LEAD_FIREWALL_DROPS P", "LEAD_FIREWALL_DROPS C", topology="onlink", like=_SILENT, lead_swallowed="some")
def policy_drop_all_onlink(lab: Lab) -> None:
    lab.serve()
    chain(lab, "lead", "input", "iif lo accept", policy="drop")


@case(
    6,
    "REJECTED_BY_FIREWALL C",
    "LEAD_FIREWALL_REJECTS C",
    connect="EHOSTUNREACH",
    icmp="admin-prohibited from lead",
    control="r1 r2 SYN-ACK",
    lead_swallowed="some",
)
def firewalld_(lab: Lab) -> None:
    lab.serve()
    firewalld(lab)


# Row 7: a reset that nobody's socket sent.


@case(7, "PORT_CLOSED P", "LEAD_FIREWALL_REJECTS C", like=CLOSED, lead_swallowed="some")
def reject_rst(lab: Lab) -> None:
    lab.serve()
    chain(lab, "lead", "input", f"{TO_LEAD} reject with tcp reset")


@case(7, "PORT_CLOSED P", "LEAD_FIREWALL_REJECTS C", like=CLOSED, lead_swallowed="some")
def ufw_reject(lab: Lab) -> None:
    lab.serve()
    run_ufw(lab, f"reject {PORT}/tcp")


@case(
    7,
    "REJECTED_ON_PATH C",
    connect="ECONNREFUSED",
    icmp="none",
    ladder="* RST",
    control="r1 r2 SYN-ACK",
    lead_half_open="none",
)
def reject_rst_r1(lab: Lab) -> None:
    lab.serve()
    chain(lab, "r1", "forward", f"{TO_LEAD} reject with tcp reset")


# Row 8: ICMP says so; who sent it says whose firewall.

_REJECTIONS: Final = (
    # name, where, what nft is told, errno, the ICMP
    ("reject-port", "lead", "icmp port-unreachable", "ECONNREFUSED", "port-unreachable"),
    ("reject-host", "lead", "icmp host-unreachable", "EHOSTUNREACH", "host-unreachable"),
    ("reject-host-prohibited", "lead", "icmp host-prohibited", "EHOSTUNREACH", "host-prohibited"),
    ("reject-net-prohibited", "lead", "icmp net-prohibited", "ENETUNREACH", "net-prohibited"),
    ("reject-admin", "lead", "icmp admin-prohibited", "EHOSTUNREACH", "admin-prohibited"),
    ("reject-v6-port", "lead", "icmpv6 port-unreachable", "ECONNREFUSED", "port-unreachable"),
    ("reject-v6-addr", "lead", "icmpv6 addr-unreachable", "EHOSTUNREACH", "addr-unreachable"),
    ("reject-v6-admin", "lead", "icmpv6 admin-prohibited", "EACCES", "admin-prohibited"),
    ("reject-v6-policy", "lead", "icmpv6 policy-fail", "EACCES", "policy-fail"),
    ("reject-v6-route", "lead", "icmpv6 reject-route", "EACCES", "reject-route"),
    ("reject-port-r2", "r2", "icmp port-unreachable", "ECONNREFUSED", "port-unreachable"),
    ("reject-host-prohibited-r2", "r2", "icmp host-prohibited", "EHOSTUNREACH", "host-prohibited"),
    ("reject-net-prohibited-r2", "r2", "icmp net-prohibited", "ENETUNREACH", "net-prohibited"),
    ("reject-admin-r2", "r2", "icmp admin-prohibited", "EHOSTUNREACH", "admin-prohibited"),
    ("reject-admin-r1", "r1", "icmp admin-prohibited", "EHOSTUNREACH", "admin-prohibited"),
    ("reject-v6-port-r2", "r2", "icmpv6 port-unreachable", "ECONNREFUSED", "port-unreachable"),
    ("reject-v6-admin-r2", "r2", "icmpv6 admin-prohibited", "EACCES", "admin-prohibited"),
)

for _name, _place, _how, _errno, _icmp in _REJECTIONS:
    _by_lead = _place == "lead"
    case(
        8,
        "REJECTED_BY_FIREWALL C" if _by_lead else "REJECTED_ON_PATH C",
        "LEAD_FIREWALL_REJECTS C" if _by_lead else "",
        name=_name,
        connect=_errno,
        icmp=f"{_icmp} from {_place}",
        control="r1 r2 SYN-ACK",
    )(
        filtered(
            "lead" if _by_lead else "r2" if _place == "r2" else "r1",
            "input" if _by_lead else "forward",
            f"{TO_LEAD} reject with {_how}",
            hosts=[LEAD6] if "v6" in _name else None,
        )
    )

# Row 9: lost on the way.


@case(9, "DROPPED_ON_PATH P", connect="timeout", icmp="none", ladder="r1 - - -", control="r1 r2 SYN-ACK")
def drop_r1(lab: Lab) -> None:
    lab.serve()
    chain(lab, "r1", "forward", f"{TO_LEAD} drop")


@case(9, "DROPPED_ON_PATH P", seen_before=True, connect="timeout", icmp="none", ladder="r1 - - -", control="r1 - - -")
def drop_r1_all(lab: Lab) -> None:
    lab.serve()
    chain(lab, "r1", "forward", f"ip daddr {LEAD} drop")


@case(
    9,
    "DROPPED_AT_LEAD_OR_LAST_HOP P",
    "DROPPED_BEFORE_LEAD P",
    like=_DROPPED,
    lead_swallowed="none",
    lead_half_open="none",
)
def drop_r2(lab: Lab) -> None:
    lab.serve()
    chain(lab, "r2", "forward", f"{TO_LEAD} drop")


# Row 10: the shadow's own filter, outwards.


@case(
    10, "OWN_FIREWALL_DROPS C", like=_SILENT, ladder="- - - -", control="r1 r2 SYN-ACK", retrans_fail="some", udp="sent"
)
def out_drop(lab: Lab) -> None:
    lab.serve()
    chain(lab, "shadow", "output", f"{TO_LEAD} drop")


@case(10, "OWN_FIREWALL_DROPS C", like=_SILENT, ladder="- - - -", retrans_fail="some", udp="EPERM")
def out_policy_drop(lab: Lab) -> None:
    lab.serve()
    allowed = ("oif lo accept", "ct state established,related accept", "tcp dport 22 accept", "udp dport 53 accept")
    chain(lab, "shadow", "output", *allowed, policy="drop")


@case(10, "OWN_FIREWALL_REJECTS C", connect="EHOSTUNREACH", took="at once", icmp="admin-prohibited from self")
def out_reject(lab: Lab) -> None:
    lab.serve()
    chain(lab, "shadow", "output", f"{TO_LEAD} reject with icmp admin-prohibited")


@case(10, "OWN_FIREWALL_REJECTS C", connect="ECONNREFUSED", took="at once", icmp="none", ladder="RST")
def out_reject_rst(lab: Lab) -> None:
    lab.serve()
    chain(lab, "shadow", "output", f"{TO_LEAD} reject with tcp reset")


# Row 11: the answer is lost.


@case(
    11, "DROPPED_AT_LEAD_OR_LAST_HOP P", "REPLY_LOST C", like=_DROPPED, lead_half_open="repeated", lead_swallowed="none"
)
def reply_drop(lab: Lab) -> None:
    lab.serve()
    chain(lab, "r2", "forward", f"{FROM_LEAD} drop")


@case(
    11,
    "DROPPED_AT_LEAD_OR_LAST_HOP P",
    "LEAD_OUTPUT_DROPS C",
    like=_DROPPED,
    lead_half_open="unsent",
    lead_swallowed="none",
)
def reply_drop_lead(lab: Lab) -> None:
    lab.serve()
    chain(lab, "lead", "output", f"{FROM_LEAD} drop")


@case(11, "OWN_FIREWALL_DROPS_REPLY C", like=_SILENT, swallowed="some", lead_half_open="repeated")
def reply_drop_self(lab: Lab) -> None:
    lab.serve()
    without_states = USUAL[1:]
    chain(lab, "shadow", "input", *without_states, policy="drop")


@case(11, "NO_ANSWER_AT_ALL ?", "LEAD_NO_ROUTE_BACK C", like=_SILENT, ladder="r1 r2 - -", lead_no_routes="some")
def reply_noroute(lab: Lab) -> None:
    lab.serve()
    lab.sh("lead", "ip route del default")


@case(11, "NO_ANSWER_AT_ALL ?", "LEAD_RPFILTER C", like=_SILENT, ladder="r1 r2 - -", lead_rp_filter="some")
def reply_rpfilter(lab: Lab) -> None:
    lab.serve()
    lab.sh(
        "lead",
        "ip link add back type veth peer name far; ip address add 10.9.0.1/24 dev back;"
        f"ip link set back up; ip link set far up; ip route add {SHADOW} via 10.9.0.2;"
        "echo 1 >/proc/sys/net/ipv4/conf/all/rp_filter",
    )


# What writes the rules on real servers.


def run_ufw(lab: Lab, *rules: str) -> None:
    """Switch ufw on at the lead, with ssh allowed and these rules."""
    for rule in ("allow 22/tcp", *rules, "--force enable"):
        lab.run("lead", "ufw", *rule.split())


def run_iptables(lab: Lab, command: str) -> None:
    """Close the lead with iptables as people write it."""
    rules = ("-m conntrack --ctstate ESTABLISHED,RELATED", "-i lo", "-p icmp", "-p tcp --dport 22")
    lines = [f"{command} -A INPUT {rule} -j ACCEPT" for rule in rules]
    lab.sh("lead", "\n".join([*lines, f"{command} -P INPUT DROP"]))


def firewalld(lab: Lab, *options: str) -> None:
    """Start firewalld at the lead, as its package leaves it, with these options of firewall-cmd."""
    lab.sh("lead", "mkdir -p /run/dbus; dbus-daemon --system --fork --nopidfile")
    lab.start("lead", "firewalld", "--nofork", "--nopid")
    lab.sh("lead", "for n in $(seq 300); do firewall-cmd --state >/dev/null 2>&1 && exit; sleep 0.1; done; exit 1")
    if options:
        lab.run("lead", "firewall-cmd", *options)
