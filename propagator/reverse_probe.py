"""The device's side of the reverse probe: a lead knocks here, and this server diagnoses its own way to that lead.

Off unless `[uplink] probe_listen` is set. No scanner can be made of it (F16): the request names no target, the lead's
signature is checked before anything else, each is fresh and works once, they come one at a time and not often, and
what goes back is a signed report. One line in (the signed request), one line out (the report, or why not).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections import deque
from typing import TYPE_CHECKING, Final

from propagator import log
from propagator.core import moment
from propagator.core.decide import Refuse
from propagator.core.signing import open_envelope
from propagator.core.wire import Request, Typ
from propagator.core.word import lead_word

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Awaitable, Callable

    from propagator.core.decide import Trust
    from propagator.settings import Listen

REQUEST_BYTES: Final = 4096
REQUEST_S: Final = 5.0
SKEW_S: Final = 60.0
NONCE_S: Final = 2 * SKEW_S
"""A request older than this is refused by its time, so its nonce need not be remembered longer."""

APART_S: Final = 10.0
AN_HOUR: Final = 30
MOST_CALLERS: Final = 8
SMALL_SEGMENT: Final = 536
"""An answer must pass where large packets vanish: that may be the very fault (FIREWALL.md §5, 10)."""


class ReverseProbe:
    """Answers a lead's reverse probes until cancelled. `report` diagnoses and gives the signed report for a nonce."""

    def __init__(
        self,
        listen: Listen,
        trust: Callable[[], Awaitable[Trust]],
        report: Callable[[str], Awaitable[bytes]],
        now: Callable[[], dt.datetime],
    ) -> None:
        self._listen = listen
        self._trust = trust
        self._report = report
        self._now = now
        self._callers = 0
        self._busy = False
        self._begun: deque[float] = deque(maxlen=AN_HOUR)
        self._nonces: dict[str, float] = {}
        self._log = log.get("reverse-probe")

    async def run(self) -> None:
        """Listen. An address that cannot be had is told in the log: the shadow goes on without."""
        try:
            sock = socket.create_server(
                (self._listen.host, self._listen.port),
                family=socket.AF_INET6 if ":" in self._listen.host else socket.AF_INET,
                dualstack_ipv6=self._listen.host == "::" and socket.has_dualstack_ipv6(),
            )
        except OSError as error:
            self._log.error("reverse_probe.cannot_listen", address=str(self._listen), error=str(error))
            return
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SMALL_SEGMENT)
        server = await asyncio.start_server(self._serve, sock=sock, limit=REQUEST_BYTES)
        self._log.info("reverse_probe.listening", address=str(self._listen))
        async with server:
            await server.serve_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        caller = str(writer.get_extra_info("peername", ("?",))[0])
        self._callers += 1
        try:
            if self._callers <= MOST_CALLERS:
                await self._answer(caller, reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            # Whoever does not speak to the end, or without end, gets no answer.
            self._log.info("reverse_probe.unheard", caller=caller, why=type(error).__name__)
        finally:
            self._callers -= 1
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, caller: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(REQUEST_S):
            raw = (await reader.readuntil(b"\n")).rstrip()
        request = lead_word(open_envelope(raw), await self._trust(), Typ.REQUEST, Request)
        if isinstance(request, Refuse) or request.wanted != "probe":
            self._log.warning("reverse_probe.refused", caller=caller, why="not the lead's word")
            return  # to a stranger not a word
        if (refusal := self._refusal(request)) is not None:
            self._log.warning("reverse_probe.refused", caller=caller, why=refusal["refused"])
            writer.write(json.dumps(refusal).encode() + b"\n")
            await writer.drain()
            return
        self._busy = True
        self._begun.append(self._time())
        self._nonces[request.nonce] = self._time()
        self._log.info("reverse_probe.begun", caller=caller)
        try:
            writer.write(await self._report(request.nonce) + b"\n")
            await writer.drain()
        finally:
            self._busy = False
        self._log.info("reverse_probe.answered", caller=caller)

    def _refusal(self, request: Request) -> dict[str, str | float] | None:
        """Say why a request of the lead is not carried out now; None if it is."""
        skew_s = SKEW_S + 1 if request.at is None else (self._now() - moment.read(request.at)).total_seconds()
        if abs(skew_s) > SKEW_S:
            return {"refused": "clock", "skew_s": round(skew_s, 1)}
        now_s = self._time()
        self._nonces = {nonce: at_s for nonce, at_s in self._nonces.items() if now_s - at_s < NONCE_S}
        if request.nonce in self._nonces:
            return {"refused": "replayed"}
        if self._busy:
            return {"refused": "busy"}
        if self._begun and now_s - self._begun[-1] < APART_S:
            return {"refused": "too soon", "wait_s": round(APART_S - (now_s - self._begun[-1]), 1)}
        if len(self._begun) == AN_HOUR and now_s - self._begun[0] < 3600.0:  # noqa: PLR2004  an hour
            return {"refused": "too often", "wait_s": round(3600.0 - (now_s - self._begun[0]), 1)}
        return None

    def _time(self) -> float:
        return asyncio.get_running_loop().time()
