"""What can be seen of a lead from here, at the level of sockets, by anybody: no capability, no product.

    look.py '{"host": …, "port": …, "control": 22, "ca_file": …, "verify_name": false, "session": true, "tries": 1}'

Prints JSON: `resolve`, `tries` (result, seconds, ICMP and whose, SYN retransmissions), `ladder` and `control` (who
answers at TTL 1, 2, …), `session` (how far TLS and MQTT get), and what the counters of this network say meanwhile.
Whoever starts it knows which of these a case shows. FIREWALL.md §3 has the means.
"""

from __future__ import annotations

import contextlib
import errno
import json
import select
import socket
import ssl
import struct
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

# Python 3.11 has no names for these: linux/in.h, linux/in6.h, linux/errqueue.h.
_IP_RECVERR: Final = 11
_IPV6_RECVERR: Final = 25
_MSG_ERRQUEUE: Final = 0x2000
_ORIGINS: Final = {1: "local", 2: "icmp", 3: "icmp"}
_LIMIT_S: Final = 3.6  # three retransmissions, and the 3.08 s after which a neighbour counts as gone
_STEP_S: Final = 1.3  # one SYN and one retransmission: ICMP on such short links may come while connect holds the socket
_SESSION_S: Final = 2.5
_REFUSAL_S: Final = (
    0.3  # a server that wants a certificate says so now; what we send would bring a reset, which drowns it
)
_CLOSE: Final = 7  # TCP_CLOSE, linux/tcp_states.h: a reset came; after a FIN it would be CLOSE_WAIT
_HOPS: Final = 4

_ICMP: Final = {
    (3, 0): "net-unreachable",
    (3, 1): "host-unreachable",
    (3, 3): "port-unreachable",
    (3, 9): "net-prohibited",
    (3, 10): "host-prohibited",
    (3, 13): "admin-prohibited",
    (11, 0): "ttl-exceeded",
}
_ICMP6: Final = {
    (1, 0): "no-route",
    (1, 1): "admin-prohibited",
    (1, 3): "addr-unreachable",
    (1, 4): "port-unreachable",
    (1, 5): "policy-fail",
    (1, 6): "reject-route",
    (3, 0): "ttl-exceeded",
}


def main() -> None:
    question = json.loads(sys.argv[1])
    seen: dict[str, Any] = {"resolve": (found := resolve(question["host"]))}
    addresses = found["addresses"]
    port = question.get("port", 8883)
    if addresses:
        before = counters()
        with ThreadPoolExecutor(16) as pool:
            tries = pool.map(lambda at: knock(at, port), addresses * question.get("tries", 1))
            seen["udp"] = pool.submit(udp, addresses[0], port).result()
            seen["tries"] = list(tries)
        after = counters()
        seen["counters"] = {name: after[name] - before[name] for name in before}
        good = [one["address"] for one in seen["tries"] if one["result"] == "connected"]
        if question.get("ladder", True):
            seen["ladder"] = ladder(addresses[0], port)
            seen["control"] = ladder(addresses[0], question.get("control", 22))
        if question.get("session", True) and good:
            seen["session"] = session(good[0], port, question)
            if question.get("small"):
                seen["small"] = session(good[0], port, question, small=True)
    sys.stdout.write(json.dumps(seen) + "\n")


def resolve(host: str) -> dict[str, Any]:
    began_s = time.monotonic()
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        names = {getattr(socket, name): name for name in dir(socket) if name.startswith("EAI_")}
        return {"result": names[error.errno], "took_s": time.monotonic() - began_s, "addresses": []}
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    return {"result": "found", "took_s": time.monotonic() - began_s, "addresses": addresses}


def knock(address: str, port: int, ttl: int = 0, limit_s: float = _LIMIT_S) -> dict[str, Any]:
    """Connect once; gives the result (an errno's name, "connected" or "timeout"), and the ICMP behind it."""
    began_s = time.monotonic()
    with probe(address, ttl) as sock:
        try:
            sock.connect((address, port))
        except BlockingIOError:
            _, ready, _ = select.select([], [sock], [], limit_s)
            number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            result = "timeout" if not ready else errno.errorcode[number] if number else "connected"
        except OSError as error:
            result = errno.errorcode[error.errno or 0]
        else:
            result = "connected"
        icmp, sender = reported(sock)
        _, _, retransmissions = struct.unpack_from("3B", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104))
        total = struct.unpack_from("I", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 100)[0]
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return {
        "address": address,
        "result": result,
        "took_s": time.monotonic() - began_s,
        "icmp": icmp,
        "from": sender,
        "retransmissions": max(retransmissions, total),
    }


def probe(address: str, ttl: int) -> socket.socket:
    """Make a socket that keeps what ICMP says of it."""
    if ":" in address:
        sock = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
        if ttl:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, ttl)
    else:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
        if ttl:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
    sock.setblocking(False)  # noqa: FBT003
    return sock


def reported(sock: socket.socket) -> tuple[str | None, str | None]:
    """Read the error queue: which ICMP, and who sent it (struct sock_extended_err and the address behind it)."""
    found: tuple[str | None, str | None] = (None, None)
    with contextlib.suppress(OSError):
        while True:
            _, more, _, _ = sock.recvmsg(512, 1024, _MSG_ERRQUEUE)
            for _, _, content in more:
                _, origin, kind, code = struct.unpack_from("=IBBB", content)
                if _ORIGINS.get(origin) == "icmp":
                    names = _ICMP if origin == 2 else _ICMP6  # SO_EE_ORIGIN_ICMP
                    found = names.get((kind, code), f"{kind}/{code}"), offender(content[16:])
    return found


def offender(content: bytes) -> str | None:
    family = struct.unpack_from("=H", content)[0]
    if family == socket.AF_INET:
        return socket.inet_ntop(socket.AF_INET, content[4:8])
    return socket.inet_ntop(socket.AF_INET6, content[8:24]) if family == socket.AF_INET6 else None


def ladder(address: str, port: int) -> list[str]:
    """Say who answers a SYN with TTL 1, 2, …: an address (ttl-exceeded), SYN-ACK, RST, another ICMP, or "-"."""

    def step(ttl: int) -> str:
        seen = knock(address, port, ttl, _STEP_S)
        if seen["icmp"] == "ttl-exceeded":
            return str(seen["from"])
        if seen["icmp"]:
            return f"{seen['icmp']}@{seen['from']}"
        return {"connected": "SYN-ACK", "ECONNREFUSED": "RST", "timeout": "-"}.get(seen["result"], str(seen["result"]))

    steps: list[str] = []
    with ThreadPoolExecutor(_HOPS) as pool:
        for answer in pool.map(step, range(1, _HOPS + 1)):
            steps.append(answer)
            if answer in {"SYN-ACK", "RST"}:
                break
    return steps


def udp(address: str, port: int) -> str:
    """Send a datagram to the same port: "sent", or the errno's name (EPERM: the own firewall)."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            sock.sendto(b"", (address, port))
        except OSError as error:
            return errno.errorcode[error.errno or 0]
    return "sent"


def counters() -> dict[str, int]:
    """Read this network's counters: what its own packet filter ate, and what could not be sent again."""
    ip, tcp = table("snmp", "Ip:"), table("netstat", "TcpExt:")
    return {"swallowed": ip["InReceives"] - ip["InDelivers"], "retrans_fail": tcp["TCPRetransFail"]}


def table(name: str, head: str) -> dict[str, int]:
    lines = Path(f"/proc/self/net/{name}").read_text().splitlines()
    names, values = (line.split()[1:] for line in lines if line.startswith(head))
    return dict(zip(names, map(int, values), strict=True))


def session(address: str, port: int, question: dict[str, Any], *, small: bool = False) -> str:
    """Say how far TLS and one CONNECT get: "connack 0", "verify 20", "tls timeout", "mqtt eof" and so on."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as raw:
        raw.settimeout(_SESSION_S)
        if small:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
        stage = "tcp"
        try:
            raw.connect((address, port))
            if question.get("plain"):
                stage = "mqtt"
                return talk(raw, question)
            stage = "tls"
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = bool(question.get("verify_name"))
            context.load_verify_locations(question["ca_file"])
            with context.wrap_socket(raw, server_hostname=question["host"], suppress_ragged_eofs=False) as secure:
                stage = "mqtt"
                try:
                    return talk(secure, question)
                except (ssl.SSLEOFError, BrokenPipeError):
                    # Behind a finished handshake Python 3.11 takes a reset for an end: TCP knows better.
                    return f"mqtt {'reset' if tcp_state(secure) == _CLOSE else 'eof'}"
        except ssl.SSLCertVerificationError as error:
            return f"verify {error.verify_code}"
        except TimeoutError:
            return f"{stage} timeout"
        except ConnectionResetError:
            return f"{stage} reset"
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError, BrokenPipeError):
            return f"{stage} eof"
        except ssl.SSLError as error:
            return f"{stage} {error.reason}"


def tcp_state(sock: socket.socket) -> int:
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]


def talk(secure: socket.socket, question: dict[str, Any]) -> str:
    """CONNECT with the account, SUBSCRIBE to the record, wait for it: MQTT 3.1.1 by hand."""
    name, password = question["username"].encode(), question["password"].encode()
    listen_for_a_no(secure)
    body = b"\x00\x04MQTT\x04\xc2\x00\x3c" + text(name) + text(name) + text(password)
    secure.sendall(packet(0x10, body))
    answer = secure.recv(64)
    if not answer:
        return "mqtt eof"
    if answer[3]:
        return f"connack {answer[3]}"
    if pause_s := question.get("pause_s"):
        time.sleep(pause_s)
        secure.settimeout(_SESSION_S)
        secure.sendall(b"\xc0\x00")
        return "pong" if secure.recv(2) else "pause eof"
    secure.sendall(packet(0x82, b"\x00\x01" + text(question["topic"].encode()) + b"\x01"))
    heard = b""
    try:
        while True:
            part = secure.recv(65536)
            heard += part
            if not part:
                return "subscribe eof"
            if heard[:2] == b"\x90\x03" and heard[4] == 0x80:  # refused
                return "suback 128"
            if len(heard) > 600:  # a record is longer, an acknowledgement shorter
                return "record"
    except TimeoutError:
        return "record timeout" if heard else "suback timeout"


def listen_for_a_no(secure: socket.socket) -> None:
    """Raise what the server says behind the handshake, unasked; tickets for a later session are nothing."""
    limit_s = secure.gettimeout()
    secure.settimeout(_REFUSAL_S)
    with contextlib.suppress(TimeoutError):
        secure.recv(1)
    secure.settimeout(limit_s)


def packet(kind: int, body: bytes) -> bytes:
    length, size = bytearray(), len(body)
    while True:
        size, digit = size >> 7, size & 127
        length.append(digit | (128 if size else 0))
        if not size:
            return bytes([kind]) + bytes(length) + body


def text(value: bytes) -> bytes:
    return len(value).to_bytes(2, "big") + value


if __name__ == "__main__":
    main()
