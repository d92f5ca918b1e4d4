"""What an agent loads when it is first needed."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from propagator import following, settings
from propagator.bus import handshake
from propagator.core import moment
from propagator.core.diagnosis.seen import Answer

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable
    from pathlib import Path

    from propagator import diagnose
    from propagator.bus import Tls
    from propagator.core.difference import JsonObject


class LeadDiagnosis:
    """The diagnosis, loaded when it is first needed: most agents never are, and it is not small."""

    def __init__(self, state_dir: Path, now: Callable[[], dt.datetime]) -> None:
        self._state_dir = state_dir
        self._now = now

    async def find(self) -> JsonObject:
        """See finding.Diagnosis."""
        return (await self._made()).as_finding()

    async def tell(self) -> JsonObject:
        """Give all of it, as `propagator diagnose --json` prints it."""
        return (await self._made()).as_json()

    async def _made(self) -> diagnose.Diagnosis:
        from propagator import diagnose  # noqa: PLC0415  as the class says
        from propagator.diagnose import peer  # noqa: PLC0415

        return await diagnose.diagnose(peer.load(self._state_dir))

    async def draw(self, host: str, port: int) -> None:
        """See finding.Diagnosis."""
        from propagator.probe import pictures  # noqa: PLC0415

        uplink = settings.load_uplink(self._state_dir / settings.UPLINK_FILE)
        if uplink is None:
            return
        held_to = following.tls(following.pem(uplink.ca_file))

        async def show(address: str) -> bytes | None:
            return await _certificate(address, port, host, held_to)

        await pictures.draw(self._state_dir, host, port, moment.write(self._now()), show)


SHOWN_S: Final = 10.0


async def _certificate(address: str, port: int, host: str, tls: Tls) -> bytes | None:
    """Give the certificate (DER) of what answers there; None if it is not the lead's, or nobody answers in time."""
    from propagator.probe import sockets, tries  # noqa: PLC0415

    family, where = sockets.sockaddr(address, port)
    with contextlib.suppress(OSError, TimeoutError), sockets.tcp(family) as sock:
        async with asyncio.timeout(SHOWN_S):
            if (await tries.attempt(sock, where, SHOWN_S)).answer is not Answer.CONNECTED:
                return None
            with await handshake(sock, tls, host) as secure:
                return secure.getpeercert(binary_form=True)
    return None
