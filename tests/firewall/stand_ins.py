"""Programs that stand where the lead, a name server or a device on the way should: each spoils one thing.

    stand_ins.py NAME PORT [more…]

Says "ready" when it stands, and goes on until its lab ends. Standard library alone: it starts in no time.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable
from typing import Final, TypeAlias

Conversation: TypeAlias = Callable[[socket.socket], None]

_DNS_ANSWER_S: Final = 3.0
_NOERROR, _SERVFAIL, _NXDOMAIN = 0, 2, 3
_A, _AAAA = 1, 28


def main() -> None:
    name, port, *more = sys.argv[1:]
    _STAND_INS[name](int(port), *more)


# On TCP.


def door(port: int) -> None:
    """Another service of the host, as sshd is one: what a probe takes for comparison."""
    accept(port, lambda peer: peer.sendall(b"SSH-2.0-lab\r\n"))


def tarpit(port: int) -> None:
    """Take every connection, and say nothing for ever."""
    accept(port, lambda _: time.sleep(3600))


def closing(port: int) -> None:
    """Take what comes, and hang up."""
    accept(port, swallow)


def http(port: int) -> None:
    """Answer in HTTP, whatever was asked."""

    def answer(peer: socket.socket) -> None:
        peer.recv(65536)
        peer.sendall(b"HTTP/1.1 400 Bad Request\r\nServer: lab\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    accept(port, answer)


def full(port: int) -> None:
    """Listen, accept nobody, and have a full queue already."""
    server = listener(port, backlog=1)
    waiting = []
    for _ in range(4):  # a backlog of 1 takes two; the third stays in doubt, and so does what comes after it
        peer = socket.socket(server.family)
        peer.setblocking(False)  # noqa: FBT003
        with contextlib.suppress(BlockingIOError):
            peer.connect(("::1", port))
        waiting.append(peer)
    time.sleep(0.2)
    ready()
    threading.Event().wait()


def tls_mute(port: int, certificate: str, key: str) -> None:
    """Finish the TLS handshake, read, and never answer."""

    def swallow_all(peer: socket.socket) -> None:
        while peer.recv(65536):
            pass

    accept(port, over_tls(swallow_all, certificate, key))


def mqtt(port: int, certificate: str, key: str, suback: str) -> None:
    """Answer CONNECT with yes and every SUBSCRIBE with this reason code; there is nothing on any topic."""
    accept(port, over_tls(lambda peer: speak_mqtt(peer, int(suback)), certificate, key))


def mute(port: int, certificate: str, key: str, stage: str) -> None:
    """Answer up to this stage, and from there on nothing."""
    match stage:
        case "tcp":
            tarpit(port)
        case "mqtt":
            tls_mute(port, certificate, key)
        case "authorised":
            accept(port, over_tls(lambda peer: speak_mqtt(peer, None), certificate, key))
        case _:
            mqtt(port, certificate, key, "1")


def dribble(port: int, certificate: str, key: str, stage: str) -> None:
    """Say what belongs to this stage a byte a second."""
    begin = {
        "tls": b"\x16\x03\x03\x10\x00",  # a record of 4096 bytes
        "mqtt": b"\x20\x7d",  # a CONNACK of 125 bytes
        "http": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n",
    }[stage]

    def drip(peer: socket.socket) -> None:
        for byte in begin + bytes(3600):
            peer.sendall(bytes([byte]))
            time.sleep(1)

    accept(port, drip if stage == "tls" else over_tls(drip, certificate, key))


def drag(port: int, certificate: str, key: str, seconds: str) -> None:
    """Take so long for each answer: TLS, CONNACK; the answer to SUBSCRIBE never comes, nor one to a goodbye."""

    def slowly(peer: socket.socket) -> None:
        time.sleep(float(seconds))
        speak_mqtt(peer, None)
        time.sleep(3600)

    secured = over_tls(slowly, certificate, key)

    def late(peer: socket.socket) -> None:
        time.sleep(float(seconds))
        secured(peer)

    accept(port, late)


def speak_mqtt(peer: socket.socket, suback: int | None) -> None:
    """Speak as much MQTT as a probe asks for, in 3.1.1 and 5 (whose answers carry properties: none).

    `suback` is the answer to every SUBSCRIBE; None: there is none.
    """
    properties = b""
    while kind := peer.recv(1):
        size = shift = 0
        while True:
            digit = peer.recv(1)[0]
            size |= (digit & 127) << shift
            shift += 7
            if digit < 128:
                break
        body = b""
        while len(body) < size:
            body += peer.recv(size - len(body))
        match kind[0] >> 4:
            case 1:
                properties = b"\0" if body[6] == 5 else b""
                peer.sendall(bytes([0x20, 2 + len(properties), 0, 0]) + properties)
            case 8 if suback is not None:
                peer.sendall(bytes([0x90, 3 + len(properties)]) + body[:2] + properties + bytes([suback]))
            case 8:
                pass
            case 12:
                peer.sendall(b"\xd0\x00")
            case _:  # DISCONNECT, or what no probe says
                return


def over_tls(
    conversation: Callable[[socket.socket], None], certificate: str, key: str
) -> Callable[[socket.socket], None]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    def secured(peer: socket.socket) -> None:
        with context.wrap_socket(peer, server_side=True) as secure:
            conversation(secure)

    return secured


def tls(port: int, certificate: str, key: str) -> None:
    """Show a certificate, then hang up."""
    accept(port, over_tls(swallow, certificate, key))


def accept(port: int, conversation: Conversation) -> None:
    """Hold this conversation with everybody."""

    def converse(peer: socket.socket) -> None:
        with peer, contextlib.suppress(OSError):
            conversation(peer)

    server = listener(port)
    ready()
    while True:
        peer, _ = server.accept()
        threading.Thread(target=converse, args=(peer,), daemon=True).start()


def listener(port: int, backlog: int = 64) -> socket.socket:
    """Listen on every address."""
    server = socket.socket(socket.AF_INET6)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    server.bind(("::", port))
    server.listen(backlog)
    return server


# Below TCP.


def forge(port: int, victim: str) -> None:
    """Say in the victim's name, to every SYN for its port that comes by, that an administrator prohibits it."""
    heard = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
    tell = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    named = socket.inet_aton(victim)
    ready()
    while True:
        packet = heard.recv(65536)
        size = (packet[0] & 15) * 4
        told = packet[: size + 8]
        is_syn = packet[9] == socket.IPPROTO_TCP and packet[size + 13] & 0x12 == 0x02
        if not is_syn or packet[16:20] != named or int.from_bytes(packet[size + 2 : size + 4], "big") != port:
            continue
        icmp = b"\x03\x0d\0\0" + bytes(4) + told
        icmp = icmp[:2] + checksum(icmp).to_bytes(2, "big") + icmp[4:]
        head = b"\x45\0\0\0" + bytes(4) + bytes([64, socket.IPPROTO_ICMP]) + bytes(2) + named + packet[12:16]
        tell.sendto(head + icmp, (socket.inet_ntoa(packet[12:16]), 0))


def checksum(data: bytes) -> int:
    """Reckon the checksum of RFC 1071."""
    total = sum(int.from_bytes(data[index : index + 2], "big") for index in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


# On UDP.


def dns(port: int, mode: str, *addresses: str) -> None:
    """Be a name server in one of its moods; `addresses` are what every name means, IPv4 and IPv6."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("", port))
    ready()
    while True:
        query, peer = server.recvfrom(512)
        if mode == "slow":
            threading.Timer(_DNS_ANSWER_S, server.sendto, (dns_answer(query, mode, addresses), peer)).start()
        elif mode != "mute":
            server.sendto(dns_answer(query, mode, addresses), peer)


def dns_answer(query: bytes, mode: str, addresses: tuple[str, ...]) -> bytes:
    """Answer a question (RFC 1035 §4): the same question, and an A or AAAA record for each address of its type."""
    end = query.index(b"\0", 12) + 5
    kind = int.from_bytes(query[end - 4 : end - 2], "big")
    wanted = {_A: ".", _AAAA: ":"}.get(kind, "?")
    family = socket.AF_INET if kind == _A else socket.AF_INET6
    found = [socket.inet_pton(family, address) for address in addresses if wanted in address]
    answers = [] if mode in {"servfail", "nx", "nodata"} else found
    code = {"servfail": _SERVFAIL, "nx": _NXDOMAIN}.get(mode, _NOERROR)
    head = query[:2] + (0x8180 | code).to_bytes(2, "big") + b"\0\1" + len(answers).to_bytes(2, "big") + bytes(4)
    records = [
        b"\xc0\x0c" + kind.to_bytes(2, "big") + b"\0\1\0\0\0\5" + len(one).to_bytes(2, "big") + one for one in answers
    ]
    return head + query[12:end] + b"".join(records)


def ready() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()


def swallow(peer: socket.socket) -> None:
    """Read what comes first."""
    peer.recv(65536)


_STAND_INS: Final[dict[str, Callable[..., None]]] = {
    "door": door,
    "tarpit": tarpit,
    "closing": closing,
    "http": http,
    "full": full,
    "tls": tls,
    "tls-mute": tls_mute,
    "mqtt": mqtt,
    "mute": mute,
    "dribble": dribble,
    "drag": drag,
    "forge": forge,
    "dns": dns,
}

if __name__ == "__main__":
    main()
