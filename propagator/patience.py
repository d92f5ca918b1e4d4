"""Patience: how long a shadow waits before it tries its lead again (R17, F18, F30).

Takes how each connection ended, and waits. Three tries 1 s apart, the first of them spread; then jittered up to the
probe interval. Where connections are lost as soon as they are made, another agent may use this id.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from propagator.bus import full_jitter
from propagator.core.standing import FAILED_PROBES

if TYPE_CHECKING:
    from random import Random

QUICK_LOSS_S: Final = 10.0
QUICK_LOSSES: Final = 3
CROWDED_WAIT_S: Final = 300.0
"""A connection lost within 10 s three times in a row: another agent may use this id (DESIGN §5). Waits grow from some
seconds to 5 minutes, because a lead that is restarted a few times looks the same."""

HOLD_S: Final = 3.0
"""After a reverse probe a shadow holds still so long: the lead counts meanwhile what is usual at its port."""


class Patience:
    """The patience of one shadow. `probe_interval_s` is the longest wait for a lead that is away."""

    def __init__(self, probe_interval_s: float, rng: Random) -> None:
        self._probe_interval_s = probe_interval_s
        self._rng = rng
        self._quick_losses = 0
        self._held_until_s = float("-inf")

    def lost(self, stood_s: float | None) -> None:
        """Note that a connection ended which stood so long; None: there was none."""
        quick = stood_s is not None and stood_s < QUICK_LOSS_S
        self._quick_losses = self._quick_losses + 1 if quick else 0

    @property
    def is_crowded(self) -> bool:
        """Whether another agent seems to use this id."""
        return self._quick_losses >= QUICK_LOSSES

    def hold(self) -> None:
        """Hold still from now on, for a while."""
        self._held_until_s = asyncio.get_running_loop().time() + HOLD_S

    async def rest(self, failures: int) -> None:
        """Wait after so many failures in a row, and as long as this shadow is to hold still."""
        await asyncio.sleep(self._pause_s(failures))
        await asyncio.sleep(max(0.0, self._held_until_s - asyncio.get_running_loop().time()))

    def _pause_s(self, failures: int) -> float:
        if self.is_crowded:
            return full_jitter(self._quick_losses, self._rng, base_s=1.0, cap_s=CROWDED_WAIT_S)
        if failures < FAILED_PROBES:
            return 1.0 if failures > 1 else self._rng.uniform(0, 1.0)
        return full_jitter(failures - FAILED_PROBES + 1, self._rng, base_s=1.0, cap_s=self._probe_interval_s)
