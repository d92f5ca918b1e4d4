"""Ethernet frames of one TCP handshake, made and read by hand: the far end of a scratch interface has no stack.

RFC 791, 8200 (IP), 9293 (TCP), 792 and 4443 (ICMP); the checksum is RFC 1071's.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from propagator.core.ruleset.model import Address

OURS: Final = "02:00:00:00:00:01"
THEIRS: Final = "02:00:00:00:00:02"
"""Of the host that the SYN comes from; not the far interface's own, so that its stack takes no part."""

SYN: Final = 0x02
RST: Final = 0x04
ACK: Final = 0x10
_SEQ: Final = 1000
_TCP: Final = 6
_ETHER: Final = 14
_TYPES: Final = {4: 0x0800, 6: 0x86DD}
_ICMP: Final = {4: (1, 3), 6: (58, 1)}
"""The protocol, and its type "destination unreachable"."""


class Refused(Enum):
    """A reset, or an ICMP message that the destination is unreachable."""

    REFUSED = "refused"


REFUSED: Final = Refused.REFUSED


@dataclass(frozen=True, slots=True)
class SynAck:
    """The answer that a connection begins with."""

    seq: int


@dataclass(frozen=True, slots=True)
class Ends:
    """Both ends of the connection; the far one, from which the frames come, first."""

    saddr: Address
    daddr: Address
    sport: int
    dport: int

    def segment(self, flags: int, *, seq: int = 0, ack: int = 0) -> bytes:
        """Make a frame from the far end to ours. `seq` counts from the SYN."""
        options = struct.pack(">BBH", 2, 4, 1460) if flags & SYN else b""
        offset = (20 + len(options)) // 4 << 4
        head = struct.pack(
            ">HHIIBBHHH", self.sport, self.dport, _SEQ + seq, ack & 0xFFFFFFFF, offset, flags, 64240, 0, 0
        )
        segment = head + options
        ends = self.saddr.packed + self.daddr.packed
        pseudo = ends + struct.pack(">II" if self.saddr.version == 6 else ">HH", *self._pseudo(len(segment)))  # noqa: PLR2004
        checked = segment[:16] + struct.pack(">H", checksum(pseudo + segment)) + segment[18:]
        return self._ether() + self._ip(len(segment)) + checked

    def _pseudo(self, length: int) -> tuple[int, int]:
        return (length, _TCP) if self.saddr.version == 6 else (_TCP, length)  # noqa: PLR2004

    def _ether(self) -> bytes:
        to, by = (bytes.fromhex(mac.replace(":", "")) for mac in (OURS, THEIRS))
        return to + by + struct.pack(">H", _TYPES[self.saddr.version])

    def _ip(self, length: int) -> bytes:
        ends = self.saddr.packed + self.daddr.packed
        if self.saddr.version == 6:  # noqa: PLR2004
            return struct.pack(">IHBB", 6 << 28, length, _TCP, 64) + ends
        head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + length, 1, 0x4000, 64, _TCP, 0) + ends
        return head[:10] + struct.pack(">H", checksum(head)) + head[12:]

    def reading(self, frame: bytes) -> SynAck | Refused | None:
        """Read a frame that our end sent; None if it has nothing to do with this connection."""
        version = self.saddr.version
        if len(frame) < _ETHER + 20 or frame[12:14] != struct.pack(">H", _TYPES[version]):
            return None
        packet = frame[_ETHER:]
        start = (packet[0] & 15) * 4 if version == 4 else 40  # noqa: PLR2004
        protocol = packet[9] if version == 4 else packet[6]  # noqa: PLR2004
        to = packet[16:20] if version == 4 else packet[24:40]  # noqa: PLR2004
        body = packet[start:]
        if to != self.saddr.packed or not body:
            return None
        if (protocol, body[0]) == _ICMP[version]:
            return REFUSED if struct.pack(">HH", self.sport, self.dport) in body else None
        if protocol != _TCP or len(body) < 20 or body[:4] != struct.pack(">HH", self.dport, self.sport):  # noqa: PLR2004
            return None
        if body[13] & RST:
            return REFUSED
        return SynAck(int.from_bytes(body[4:8], "big")) if body[13] & (SYN | ACK) == SYN | ACK else None


def checksum(data: bytes) -> int:
    """Give the internet checksum: the complement of the sum of 16-bit words, in ones' complement."""
    padded = data + b"\0" * (len(data) % 2)
    total = sum(int.from_bytes(padded[at : at + 2], "big") for at in range(0, len(padded), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
