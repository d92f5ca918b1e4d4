"""A soak: waves of faults, each healed and waited for, until the time is up; the stores are looked at all along."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Final, TypeVar

from tests.soak import report
from tests.soak.faults import Faults, Pace
from tests.soak.field import Field
from tests.soak.report import Report, Sample
from tests.soak.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")

SETTLE_S: Final = 180.0
"""For all to be equal after a heal. A shadow whose connection was lost at once again and again waits longest (R17)."""

PROGRESS_S: Final = 30.0
_LOOK_S: Final = 3.0
_POLL_S: Final = 0.25


class Soak:
    """One run in an empty directory. Make it without a running loop."""

    def __init__(self, directory: Path, shadows: int, seed: int, say: Callable[[str], None]) -> None:
        self._say = say
        self._field = Field.make(directory, shadows, seed)
        self._watch = Watch(self._field, say)
        self._faults = Faults(self._field, self._watch, random.Random(seed))
        self._samples: list[Sample] = []
        self._looking = asyncio.Lock()
        self._report = Report(seed, shadows)
        self._begun_s = time.monotonic()

    @property
    def kinds(self) -> list[str]:
        """What is drawn from; beside it stand the links and the flood."""
        return self._faults.kinds

    def run_alone(self, minutes: float, pace: Pace) -> Report:
        """Run in a loop of its own."""
        return asyncio.run(self.run(minutes, pace))

    async def run(self, minutes: float, pace: Pace) -> Report:
        """Make a wave, and more as long as there is time for one; give the figures. Nothing is left running."""
        self._begun_s = time.monotonic()
        try:
            await self._field.start()
            await self._settled()
            self._samples.clear()  # the first figures are those of the first rest amid the flood
            await self._field.enemy.start()
            async with asyncio.TaskGroup() as group:
                around = [group.create_task(self._look_on()), group.create_task(self._progress())]
                while self._is_well and (not self._report.waves or self._elapsed_s + pace.wave_s < 60 * minutes):
                    await self._faults.wave(pace)
                    self._report.convergence_s.append(round(await self._settled(), 1))
                    self._report.waves += 1
                for task in around:
                    task.cancel()
            return self._close()
        finally:
            await self._field.stop()

    @property
    def _elapsed_s(self) -> float:
        return time.monotonic() - self._begun_s

    @property
    def _is_well(self) -> bool:
        return not self._watch.losses

    async def _settled(self) -> float:
        """Wait until all are equal, and hold them to it; give the seconds that it took."""
        healed_s = time.monotonic()
        within = True
        while not await self._in_thread(self._watch.is_settled):
            if time.monotonic() > healed_s + SETTLE_S:
                within = False
                break
            await asyncio.sleep(_POLL_S)
        took_s = time.monotonic() - healed_s
        await self._in_thread(lambda: self._watch.settle(within=within))
        self._sample(at_rest=True)
        return took_s

    async def _look_on(self) -> None:
        while True:
            await self._in_thread(self._watch.look)
            self._sample(at_rest=False)
            await asyncio.sleep(_LOOK_S)

    async def _progress(self) -> None:
        while True:
            await asyncio.sleep(PROGRESS_S)
            equal = await self._in_thread(self._watch.in_sync)
            sizes = self._samples[-1].sizes
            self._say(
                f"{self._elapsed_s / 60:5.1f} min, wave {self._report.waves + 1}: "
                f"{equal} of {self._report.shadows} in sync, "
                f"{len(self._field.accepted) - 1} changes, {self._watch.overwritten:,} overwrites held, "
                f"{self._faults.tried.total():,} faults, {self._field.hostile_counts().total():,} hostile, "
                f"{len(self._watch.losses)} losses; "
                + ", ".join(f"{name} {size[1]:.0f} MB {size[2]} fds" for name, size in sizes.items())
            )

    async def _in_thread(self, look: Callable[[], T]) -> T:
        async with self._looking:
            return await asyncio.to_thread(look)

    def _sample(self, *, at_rest: bool) -> None:
        self._samples.append(Sample(self._elapsed_s, at_rest, self._field.sizes()))

    def _close(self) -> Report:
        done = self._report
        done.minutes = round(self._elapsed_s / 60, 1)
        done.changes = len(self._field.accepted) - 1
        done.changes_refused = self._field.refused
        done.versions_signed = self._watch.issued
        done.overwrites_held = self._watch.overwritten
        done.faults = dict(sorted(self._faults.tried.items()))
        done.faults_that_found_nobody = dict(self._faults.skipped)
        done.hostile = dict(sorted(self._field.hostile_counts().items()))
        done.refused_by_shadows = dict(sorted(self._watch.refusals().items()))
        done.looks = self._watch.looks
        done.grown = report.grown(self._samples)
        done.losses = list(self._watch.losses)
        return done
