"""What an agent loads when it is first needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from propagator.core import moment

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable
    from pathlib import Path

    from propagator import diagnose
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

        await pictures.draw(self._state_dir, host, port, moment.write(self._now()))
