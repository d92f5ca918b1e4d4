"""Free ports for servers under test, from below those that the kernel gives to connections of its own.

A port of that range that is free now may be the near end of somebody's connection a moment later, when the server that
was promised it starts again.
"""

from __future__ import annotations

import random
import socket
from typing import Final

_BELOW_EPHEMERAL: Final = range(15_000, 32_000)
_chance = random.SystemRandom()


def free_port() -> int:
    """Find a port that nobody listens at, on IPv4 or IPv6."""
    while True:
        port = _chance.choice(_BELOW_EPHEMERAL)
        with socket.socket(socket.AF_INET6) as probe:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            try:
                probe.bind(("::", port))
            except OSError:
                continue
            return port
