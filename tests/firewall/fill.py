"""Fill this network namespace's table of connections, to the bound that the kernel has; needs CAP_NET_ADMIN.

Entries as the kernel makes them of connections that stand (ASSURED: it throws none of those out for a new one), by
netfilter's own door: nfnetlink, IPCTNL_MSG_CT_NEW. They are gone with the namespace, whose alone they are.
"""

from __future__ import annotations

import socket
import struct
import sys
from pathlib import Path

NETLINK_NETFILTER = 12
CT_NEW = 1 << 8
REQUEST_CREATE = 0x001 | 0x400
SEEN_REPLY_ASSURED_CONFIRMED = 0x0E
ESTABLISHED = b"\x03"
BATCH = 300


def attribute(kind: int, content: bytes, *, nested: bool = False) -> bytes:
    size = 4 + len(content)
    return struct.pack("=HH", size, kind | (0x8000 if nested else 0)) + content + b"\0" * (-size % 4)


def end(kind: int, source: bytes, target: bytes, ports: tuple[int, int]) -> bytes:
    addresses = attribute(1, attribute(1, source) + attribute(2, target), nested=True)
    from_port, to_port = (struct.pack("!H", port) for port in ports)
    protocol = attribute(1, b"\x06") + attribute(2, from_port) + attribute(3, to_port)
    return attribute(kind, addresses + attribute(2, protocol, nested=True), nested=True)


def entry(number: int) -> bytes:
    source, target = struct.pack("!I", (198 << 24 | 18 << 16) + number // 50_000), bytes([198, 19, 0, 1])
    port = 1024 + number % 50_000
    body = struct.pack("=BBH", socket.AF_INET, 0, 0)
    body += end(1, source, target, (port, 443)) + end(2, target, source, (443, port))
    body += attribute(3, struct.pack("!I", SEEN_REPLY_ASSURED_CONFIRMED))
    body += attribute(7, struct.pack("!I", 600))
    body += attribute(4, attribute(1, attribute(1, ESTABLISHED), nested=True), nested=True)
    return struct.pack("=IHHII", 16 + len(body), CT_NEW, REQUEST_CREATE, number, 0) + body


def main() -> None:
    count, limit = (int(Path(f"/proc/sys/net/netfilter/nf_conntrack_{name}").read_text()) for name in ("count", "max"))
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as kernel:
        kernel.bind((0, 0))
        for first in range(count, limit, BATCH):
            kernel.send(b"".join(map(entry, range(first, min(first + BATCH, limit)))))
    sys.stdout.write(Path("/proc/sys/net/netfilter/nf_conntrack_count").read_text())


if __name__ == "__main__":
    main()
