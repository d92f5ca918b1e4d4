"""Rows 12 to 15, 19 and 22 to 24: the port answers, and what comes after it goes wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.acceptance.site import program
from tests.firewall import certificates
from tests.firewall.case import FROM_LEAD, TO_LEAD, Sight, case, chain, translate
from tests.firewall.room import LEAD_STATE, PORT, Place

if TYPE_CHECKING:
    from pathlib import Path

    from tests.firewall.lab import Lab

_ANSWERS: Final[Sight] = {"connect": "connected", "ladder": "r1 r2 SYN-ACK"}

# Row 12: a firewall with states forgets a quiet connection.

_IDLE_S: Final = 2


def stateful(lab: Lab, verdict: str) -> None:
    """Let the first router keep states for a moment, and refuse what it does not remember."""
    lab.beat_every(60)
    lab.serve()
    lab.sh(
        "r1",
        "cd /proc/sys/net/netfilter; echo 0 >nf_conntrack_tcp_loose;"
        f"echo {_IDLE_S} >nf_conntrack_tcp_timeout_established",
    )
    known = ("ct state established,related accept", "tcp flags & (syn | ack) == syn ct state new accept")
    chain(lab, "r1", "forward", *known, f"{TO_LEAD} {verdict}", f"{FROM_LEAD} drop")


@case(12, "IDLE_FLOW_KILLED C", ask={"pause_s": 2 * _IDLE_S}, like=_ANSWERS, session="mqtt timeout")
def idle_kill(lab: Lab) -> None:
    stateful(lab, "drop")


@case(12, "IDLE_FLOW_RESET C", ask={"pause_s": 2 * _IDLE_S}, like=_ANSWERS, session="mqtt reset")
def idle_kill_rst(lab: Lab) -> None:
    stateful(lab, "reject with tcp reset")


# Row 13: large packets vanish, and the word of it as well.

_BELOW_CERTIFICATE: Final = 700
"""The certificate does not fit: TLS hangs. (The lead's is small, so no real link is as narrow; a chain of a public CA
hangs on any tunnel.)"""
_BELOW_RECORD: Final = 1400
"""As in most tunnels: TLS fits, the record does not."""


def hole(lab: Lab, mtu: int, *routers: Place) -> None:
    """Make the link between the routers narrow on these ends, and let them say nothing of it."""
    lab.serve()
    for router in routers:  # silent first: one word, and the lead remembers the size for ten minutes
        chain(lab, router, "output", "icmp type destination-unreachable icmp code frag-needed drop")
        lab.sh(router, f"ip link set {'eth0' if router == 'r2' else 'eth1'} mtu {mtu}")


_HOLE: Final[Sight] = {**_ANSWERS, "small": "record"}
_ASK_SMALL: Final = {"small": True}


@case(13, "MTU_BLACKHOLE C", ask=_ASK_SMALL, like=_HOLE, session="tls timeout")
def mtu_hole(lab: Lab) -> None:
    hole(lab, _BELOW_CERTIFICATE, "r1", "r2")


@case(13, "MTU_BLACKHOLE C", ask=_ASK_SMALL, like=_HOLE, session="tls timeout")
def mtu_hole_down(lab: Lab) -> None:
    hole(lab, _BELOW_CERTIFICATE, "r2")


@case(13, "MTU_BLACKHOLE C", ask=_ASK_SMALL, like=_HOLE, session="record timeout")
def mtu_hole_plain(lab: Lab) -> None:
    """The study's case without TLS: all goes well up to the record. With TLS that is a matter of the size alone."""
    hole(lab, _BELOW_RECORD, "r2")


# Row 14: a device on the way, or another program in the lead's place.

_CLIENT_HELLO: Final = "-m string --algo bm --hex-string '|160301|'"


def inspect(lab: Lab, action: str) -> None:
    """Let the first router look into what is sent to the lead's port, and act on a ClientHello."""
    lab.serve()
    lab.sh("r1", f"iptables-nft -A FORWARD -p tcp --dport {PORT} {_CLIENT_HELLO} -j {action}")


@case(14, "RESET_ON_PAYLOAD C", like=_ANSWERS, session="tls reset")
def dpi_rst(lab: Lab) -> None:
    inspect(lab, "REJECT --reject-with tcp-reset")


@case(14, "RESET_ON_PAYLOAD C", like=_ANSWERS, session="tls reset")
def dpi_rst_plain(lab: Lab) -> None:
    """The study's case without TLS: whatever is sent first is answered with a reset."""
    lab.serve()
    chain(lab, "r1", "forward", f"{TO_LEAD} tcp flags & psh == psh reject with tcp reset")


@case(14, "SILENT_AFTER_CONNECT C", ask=_ASK_SMALL, like=_ANSWERS, session="tls timeout", small="tls timeout")
def dpi_drop(lab: Lab) -> None:
    inspect(lab, "DROP")


_CAUGHT: Final[Sight] = {
    "connect": "connected",
    "ladder": "SYN-ACK",
    "control": "r1 r2 SYN-ACK",
    "lead_half_open": "none",
}
_CATCHER: Final = 9883


def catch(lab: Lab, *stand_in: str | Path) -> None:
    """Let the gateway answer in the lead's place with a stand-in."""
    lab.serve()
    name, *more = stand_in
    lab.stand_in("r1", name, str(_CATCHER), *more)
    translate(lab, "r1", "prerouting", f"{TO_LEAD} redirect to :{_CATCHER}")


@case(14, "INTERCEPTED C", like=_CAUGHT, session="tls WRONG_VERSION_NUMBER")
def captive_http(lab: Lab) -> None:
    catch(lab, "http")


@case(14, "INTERCEPTED C", like=_CAUGHT, session="tls timeout")
def tarpit(lab: Lab) -> None:
    catch(lab, "tarpit")


@case(14, "TLS_INTERCEPTED C", like=_CAUGHT, session="verify 20")
def tls_intercept(lab: Lab) -> None:
    catch(lab, "tls", *certificates.install(lab, certificates.other_authority("Corporate Web Gateway")))


@case(14, "NOT_MQTT C", like=_ANSWERS, session="tls WRONG_VERSION_NUMBER")
def http_on_port(lab: Lab) -> None:
    lab.stand_in("lead", "http", str(PORT))


@case(14, "CLOSED_BEFORE_CONNACK C", like=_ANSWERS, session="tls eof")
def accept_close(lab: Lab) -> None:
    lab.stand_in("lead", "closing", str(PORT))


# Row 15: TLS.


def mosquitto(lab: Lab, *lines: str) -> None:
    """Start a broker of somebody else's in the lead's place, with these lines of configuration."""
    text = "\n".join((f"listener {PORT}", "allow_anonymous false", "password_file /etc/stand-in.passwords", *lines, ""))
    lab.write("/etc/stand-in.conf", text)
    lab.write("/etc/stand-in.passwords", "")
    lab.start("lead", program("mosquitto", "mosquitto"), "-c", "/etc/stand-in.conf", user="lead")
    lab.wait_listening("lead")


def with_certificate(lab: Lab, files: certificates.Files, *lines: str) -> None:
    """Start a broker with this certificate in the lead's place."""
    mosquitto(lab, f"certfile {files.certificate}", f"keyfile {files.key}", *lines)


@case(15, "TLS_UNKNOWN_CA C", like=_ANSWERS, session="verify 20")
def tls_wrong_ca(lab: Lab) -> None:
    with_certificate(lab, certificates.install(lab, certificates.other_authority("Another CA")))


@case(15, "TLS_UNKNOWN_CA C", like=_ANSWERS, session="verify 18")
def tls_selfsigned(lab: Lab) -> None:
    with_certificate(lab, certificates.install(lab, None))


@case(15, "TLS_EXPIRED C", like=_ANSWERS, session="verify 10")
def tls_expired(lab: Lab) -> None:
    begins, ends = certificates.yesterday()
    with_certificate(lab, certificates.install(lab, certificates.lead_authority(lab), begins=begins, ends=ends))


@case(15, "TLS_NOT_YET_VALID C", like=_ANSWERS, session="verify 9")
def tls_future(lab: Lab) -> None:
    begins, ends = certificates.tomorrow()
    with_certificate(lab, certificates.install(lab, certificates.lead_authority(lab), begins=begins, ends=ends))


@case(15, "TLS_NAME_MISMATCH C", ask={"verify_name": True}, like=_ANSWERS, session="verify 62")
def tls_name(lab: Lab) -> None:
    lab.trust_publicly()  # a pinned CA is held to the chain alone
    with_certificate(lab, certificates.install(lab, certificates.lead_authority(lab), ("another.example",)))


@case(15, "TLS_NOT_TLS C", like=_ANSWERS, session="tls *")
def tls_plain_server(lab: Lab) -> None:
    mosquitto(lab)


@case(
    15,
    "TLS_WANTED C",
    ask={"plain": True},
    why_left_out="a shadow never speaks MQTT without TLS",
    like=_ANSWERS,
    session="mqtt *",
)
def tls_wanted(lab: Lab) -> None:
    lab.serve()


@case(15, "TLS_CLIENT_CERT C", like=_ANSWERS, session="mqtt TLSV13_ALERT_CERTIFICATE_REQUIRED")
def tls_client_cert(lab: Lab) -> None:
    files = certificates.install(lab, certificates.lead_authority(lab))
    lab.write("/etc/stand-in.ca", lab.path(LEAD_STATE / "keys" / "ca.crt").read_bytes())
    lines = (
        "cafile /etc/stand-in.ca",
        f"certfile {files.certificate}",
        f"keyfile {files.key}",
        "require_certificate true",
    )
    mosquitto(lab, *lines)


# Row 19: it listens, and does nothing.


@case(
    19,
    "ACCEPTED_BUT_MUTE C",
    "SERVICE_STOPPED C",
    ask=_ASK_SMALL,
    like=_ANSWERS,
    session="tls timeout",
    small="tls timeout",
)
def sigstop(lab: Lab) -> None:
    lab.serve()
    lab.sh("lead", f"kill -STOP {lab.broker_pid()}")


@case(19, "ACCEPTED_BUT_MUTE C", like=_ANSWERS, session="mqtt timeout")
def sigstop_plain(lab: Lab) -> None:
    """The study's case without TLS: CONNECT is acknowledged and not answered. With TLS it hangs after the handshake."""
    lab.stand_in("lead", "tls-mute", str(PORT), *certificates.install(lab, certificates.lead_authority(lab)))


@case(
    19,
    "DROPPED_AT_LEAD_OR_LAST_HOP P",
    "ACCEPT_QUEUE_FULL C",
    connect="timeout",
    icmp="none",
    ladder="r1 r2 - -",
    control="r1 r2 SYN-ACK",
    lead_overflows="some",
)
def backlog_full(lab: Lab) -> None:
    lab.stand_in("lead", "full", str(PORT))


# Rows 22 to 24: MQTT.


def broker_of_the_lead(lab: Lab, *lines: str) -> None:
    """Start a broker with the lead's own certificate, and none of its records."""
    keys = LEAD_STATE / "keys"
    mosquitto(lab, f"certfile {keys / 'server.crt'}", f"keyfile {keys / 'server.key'}", *lines)


@case(22, "MQTT_REFUSED C", like=_ANSWERS, session="connack 5")
def mqtt_auth(lab: Lab) -> None:
    broker_of_the_lead(lab)  # which knows no account


@case(23, "MQTT_SUBSCRIBE_REFUSED C", like=_ANSWERS, session="suback 128")
def mqtt_sub(lab: Lab) -> None:
    lab.stand_in("lead", "mqtt", str(PORT), *certificates.install(lab, certificates.lead_authority(lab)), "128")


@case(24, "NO_RECORD C", like=_ANSWERS, session="record timeout")
def mqtt_norecord(lab: Lab) -> None:
    lab.stand_in("lead", "mqtt", str(PORT), *certificates.install(lab, certificates.lead_authority(lab)), "1")
