"""How often something is said where strangers decide how often it happens: once per key and period, with its count."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable


class Throttle:
    """Lets one line through per key and period, where strangers decide how often something happens.

    At most `size` keys are remembered. While that many are in their period, new ones are held back as well: a flood
    under ever new names is bounded in lines, not only in memory.
    """

    def __init__(self, size: int = 1024) -> None:
        self._size = size
        self._until: dict[Hashable, float] = {}
        self._held_back: dict[Hashable, int] = {}
        self._earliest = inf

    def counted(self, key: Hashable, period_s: float, monotonic: float) -> int:
        """Count one more of `key`: how many there were since its last line if it may speak now, 0 if it may not."""
        if self.once_per(key, period_s, monotonic):
            return self._held_back.pop(key, 0) + 1
        if key in self._until:
            self._held_back[key] = self._held_back.get(key, 0) + 1
        return 0

    def once_per(self, key: Hashable, period_s: float, monotonic: float) -> bool:
        """Tell whether `key` may speak at `monotonic` (seconds, `time.monotonic()`); then its period begins."""
        if monotonic < self._until.get(key, -inf):
            return False
        if key not in self._until and len(self._until) >= self._size and not self._make_room(monotonic):
            return False
        self._until[key] = monotonic + period_s
        self._earliest = min(self._earliest, monotonic + period_s)
        return True

    def _make_room(self, monotonic: float) -> bool:
        """Forget the keys whose period is over; costs nothing while none is."""
        if monotonic < self._earliest:
            return False
        self._until = {key: until for key, until in self._until.items() if monotonic < until}
        self._held_back = {key: count for key, count in self._held_back.items() if key in self._until}
        self._earliest = min(self._until.values(), default=inf)
        return len(self._until) < self._size
