"""Ports for servers under test: free ones, below those that the kernel gives to connections of its own, and a mute one.

A port of that range that is free now may be the near end of somebody's connection a moment later, when the server that
was promised it starts again.
"""

from __future__ import annotations

import contextlib
import random
import socket
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

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


@contextlib.contextmanager
def mute_port() -> Iterator[int]:
    """A listener on loopback whose queue, of one place, is full: the kernel drops every further SYN."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            yield port
