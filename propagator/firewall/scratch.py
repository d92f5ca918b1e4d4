"""The child of `replay`, in namespaces of its own: an interface, the copied rules, one handshake; one line of answer.

The other end of the interface is a raw socket, which sends the SYN as if it came from outside and reads what comes
back: a SYN-ACK, which is acknowledged so that the listener accepts; a reset or an ICMP message; or nothing.
"""

from __future__ import annotations

import contextlib
import json
import re
import select
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from propagator.core.ruleset import Outcome, Source
from propagator.firewall import frames

if TYPE_CHECKING:
    from propagator.core.ruleset.model import Address

SILENT_S: Final = 2.0
"""Of silence before it is called dropped: two repetitions of the SYN, one a second, fit in."""

TOOL_S: Final = 5.0
OTHERS: Final = 64
"""Interfaces besides, which rules may name; `iif` is looked up when a rule is loaded."""

_PEER: Final = "pgscratch0"
_NAME: Final = re.compile(r"[^\s/:\0]{1,15}")


class Impossible(Exception):  # noqa: N818  told in the answer, never shown as an error
    """The copy cannot be made; the text says why."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What `replay` wants to know."""

    texts: dict[str, str]
    interfaces: list[str]
    saddr: Address
    daddr: Address
    sport: int
    dport: int
    iif: str


def main() -> None:
    """Read one question from stdin, answer it on stdout."""
    told = json.load(sys.stdin)
    try:
        outcome, text = _replay(_read(told)), ""
    except (Impossible, OSError) as exc:
        outcome, text = Outcome.CANNOT_TELL, str(exc)
    sys.stdout.write(json.dumps({"outcome": outcome, "text": text[:300]}))


def _read(told: dict[str, Any]) -> Asked:
    asked = Asked(**{**told, "saddr": ip_address(told["saddr"]), "daddr": ip_address(told["daddr"])})
    if not _NAME.fullmatch(asked.iif) or asked.iif in {"lo", _PEER}:
        raise Impossible(f"packets that come in by {asked.iif!r} cannot be made")
    return asked


def _replay(asked: Asked) -> Outcome:
    _make_network(asked)
    _load(asked.texts)
    family = socket.AF_INET if asked.daddr.version == 4 else socket.AF_INET6  # noqa: PLR2004  IP versions
    with (
        socket.socket(family, socket.SOCK_STREAM) as listener,
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003)) as wire,
    ):
        listener.bind((str(asked.daddr), asked.dport))
        listener.listen()
        wire.bind((_PEER, 0))
        return _shake_hands(asked, wire, listener)


def _make_network(asked: Asked) -> None:
    """Make the interface with our address, a route to the source, and the neighbour that stands for the way to it."""
    width, wide = asked.daddr.max_prefixlen, asked.saddr.max_prefixlen
    others = [name for name in asked.interfaces if name not in {"lo", asked.iif, _PEER} and _NAME.fullmatch(name)]
    others = [*others[:OTHERS], *([f"{_PEER}x"] if len(others[:OTHERS]) % 2 else [])]  # two by two, as ends of a cable
    lines = [
        "link set lo up",
        f"link add {asked.iif} address {frames.OURS} type veth peer name {_PEER} address 02:00:00:00:00:03",
        *(f"link add {one} type veth peer name {other}" for one, other in zip(others[::2], others[1::2], strict=True)),
        f"link set {_PEER} up",
        f"link set {asked.iif} up",
        f"address add {asked.daddr}/{width} dev {asked.iif}{'' if asked.daddr.version == 4 else ' nodad'}",  # noqa: PLR2004
        f"route add {asked.saddr}/{wide} dev {asked.iif}",
        f"neighbour replace {asked.saddr} lladdr {frames.THEIRS} dev {asked.iif} nud permanent",
    ]
    _tool(["ip", "-batch", "-"], "\n".join(lines))
    with contextlib.suppress(OSError):  # a host that is no router answers on all that it has; nothing else is asked
        Path("/proc/sys/net/ipv4/conf/all/rp_filter").write_text("0")


_OWNER: Final = re.compile(r"(?m)^\tflags [a-z, ]*owner[a-z, ]*$")
_TABLE: Final = re.compile(r"(?ms)^table (\S+) (\S+) \{.*?^\}$")


def _load(texts: dict[str, str]) -> None:
    """Load the copy, each part by the tool that wrote it. Tables with an owner would vanish with nft itself."""
    saved = {"ip": texts.get(Source.IPTABLES_NFT, ""), "ip6": texts.get(Source.IP6TABLES_NFT, "")}
    listed = _OWNER.sub("", texts.get(Source.NFT_TEXT, ""))
    parts = [part[0] for part in _TABLE.finditer(listed) if f"*{part[2]}\n" not in saved.get(part[1], "")]
    if parts:
        _tool(["nft", "-f", "-"], "\n".join(parts))
    for source, restore in _RESTORE.items():
        if texts.get(source):
            _tool([restore], texts[source])


_RESTORE: Final = {
    Source.IPTABLES_NFT: "iptables-nft-restore",
    Source.IP6TABLES_NFT: "ip6tables-nft-restore",
    Source.IPTABLES_LEGACY: "iptables-legacy-restore",
    Source.IP6TABLES_LEGACY: "ip6tables-legacy-restore",
}


def _tool(words: list[str], text: str) -> None:
    path = "/usr/sbin:/sbin:/usr/bin:/bin"
    program = shutil.which(words[0], path=path)
    if program is None:
        raise Impossible(f"{words[0]} is not installed")
    env = {"PATH": path, "LC_ALL": "C", "XTABLES_LOCKFILE": "/dev/null"}
    try:
        done = subprocess.run(
            [program, *words[1:]], input=text, text=True, capture_output=True, timeout=TOOL_S, env=env, check=False
        )
    except subprocess.TimeoutExpired as exc:
        raise Impossible(f"{words[0]} did not end within {TOOL_S:g} s") from exc
    if done.returncode:
        said = (done.stderr.strip() or f"it ended with {done.returncode}").splitlines()[0]
        raise Impossible(f"{words[0]}: {said}")


def _shake_hands(asked: Asked, wire: socket.socket, listener: socket.socket) -> Outcome:
    """Send the SYN, up to three times, and answer a SYN-ACK; accepted is what the listener accepts."""
    ends = frames.Ends(asked.saddr, asked.daddr, asked.sport, asked.dport)
    end_s = time.monotonic() + SILENT_S
    wire.send(ends.segment(frames.SYN))
    again_s = time.monotonic() + 1.0
    while (left_s := end_s - time.monotonic()) > 0:
        ready, _, _ = select.select([wire, listener], [], [], max(0.0, min(left_s, again_s - time.monotonic())))
        if listener in ready:
            return Outcome.ACCEPT
        if wire in ready:
            said = ends.reading(wire.recv(2048))
            if isinstance(said, frames.SynAck):
                wire.send(ends.segment(frames.ACK, seq=1, ack=said.seq + 1))
            elif said is frames.REFUSED:
                return Outcome.REJECT
        elif time.monotonic() >= again_s:
            wire.send(ends.segment(frames.SYN))
            again_s += 1.0
    return Outcome.DROP


if __name__ == "__main__":
    main()
