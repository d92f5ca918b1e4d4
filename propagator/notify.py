"""What the service manager is told: ready, how the links stand, still alive, stopping (sd_notify(3)).

Takes the socket that `config.service` found, and sends datagrams to it; where no manager asked for them, nothing is
said. Signs of life leave from the agent's own loop: one that hangs says nothing, and is started again.
"""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from propagator import log

if TYPE_CHECKING:
    from collections.abc import Callable

    from propagator.config import Service

UNSETTLED_POLL_S: Final = 0.1
POLL_S: Final = 2.0
"""How often is looked at what is to be told: until the manager knows that we are ready, and afterwards."""

EXTENSION_S: Final = 30.0
"""While a link is not settled, a start may take longer than `TimeoutStartSec` by this much at a time."""

_STATUS_LIMIT: Final = 200


@dataclass(frozen=True, slots=True)
class Standing:
    """How the agent stands: whether the first link is decided, and one line for people."""

    settled: bool
    text: str


class Notifier:
    """The agent's voice to its service manager; `service` None: there is none, or it does not want to know."""

    def __init__(self, service: Service | None) -> None:
        self._service = service
        self._is_deaf = False

    async def keep(self, look: Callable[[], Standing]) -> None:
        """Tell how the agent stands, until cancelled; at once done where nobody wants to know."""
        if self._service is None:
            return
        watchdog_s = self._service.watchdog_s
        told, is_ready = "", False
        beat_s = extended_s = float("-inf")
        while True:
            standing, now_s = look(), asyncio.get_running_loop().time()
            words = [] if standing.text == told else [f"STATUS={_line(standing.text)}"]
            if standing.settled and not is_ready:
                words.append("READY=1")
            if not (standing.settled or is_ready) and now_s - extended_s >= EXTENSION_S / 2:
                words.append(f"EXTEND_TIMEOUT_USEC={round(EXTENSION_S * 1e6)}")
                extended_s = now_s
            if watchdog_s is not None and now_s - beat_s >= watchdog_s / 2:
                words.append("WATCHDOG=1")
                beat_s = now_s
            if words and self._say(*words):
                told, is_ready = standing.text, is_ready or standing.settled
            poll_s = POLL_S if is_ready else UNSETTLED_POLL_S
            due_s = poll_s if watchdog_s is None else max(beat_s + watchdog_s / 2 - now_s, 0.0)
            await asyncio.sleep(min(poll_s, due_s))

    def stopping(self) -> None:
        """Tell that the agent was asked to end."""
        self._say("STOPPING=1", "STATUS=Saying goodbye.")

    def _say(self, *words: str) -> bool:
        """Send one datagram; a manager that does not take it is no reason to end."""
        if self._service is None:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as speaking:
                speaking.connect(_address(self._service.socket))
                speaking.sendall("\n".join(words).encode())
        except OSError as error:
            if not self._is_deaf:
                log.get("notify").warning("notify.failed", error=str(error))
            self._is_deaf = True
            return False
        self._is_deaf = False
        return True


def _address(name: str) -> str | bytes:
    """Give the socket's address; `@` begins the name of an abstract one (unix(7))."""
    return b"\0" + os.fsencode(name[1:]) if name.startswith("@") else name


def _line(text: str) -> str:
    return " ".join(text.split())[:_STATUS_LIMIT]
