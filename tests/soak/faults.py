"""The faults of a soak, drawn by a seed: what each kind does, and a wave of them with the links stopped meanwhile."""

from __future__ import annotations

import asyncio
import shutil
import signal
import time
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from propagator.core.wire import Leaf
from tests.soak.links import Way

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable

    from tests.soak.field import Field, Running
    from tests.soak.watch import Watch

AWAY_S: Final = (0.2, 3.0)
"""How long what was killed stays away."""

PAUSED_S: Final = (2.0, 8.0)


@dataclass(frozen=True, slots=True)
class Pace:
    """How a wave goes: seconds, strikes in it, and seconds between two changes on average."""

    wave_s: float = 40.0
    strikes: int = 4
    change_s: float = 4.0


class Faults:
    """Does everything, and counts it in `tried`. `skipped` is what found nobody to do it to."""

    def __init__(self, field: Field, watch: Watch, rng: random.Random) -> None:
        self._field = field
        self._watch = watch
        self._rng = rng
        self._deck: deque[str] = deque()
        self.tried: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self._acts: dict[str, Callable[[], Awaitable[bool]]] = {
            "lead killed": self._kill_lead,
            "lead paused": self._pause_lead,
            "broker killed": self._kill_broker,
            "broker paused": self._pause_broker,
            "broker's store wiped": self._wipe_broker,
            "broker's store older": self._age_broker,
            "shadows killed": self._kill_shadows,
            "shadows paused": self._pause_shadows,
            "record wiped by a rogue": self._wipe_record,
            "record forged by a rogue": self._forge_record,
            "old record replayed by a rogue": self._replay_record,
            "heartbeat forged by a rogue": self._forge_heartbeat,
        }

    @property
    def kinds(self) -> list[str]:
        return [*self._acts]

    async def wave(self, pace: Pace) -> None:
        """Stop the links one by one and heal them, strike and change meanwhile; all is well when it returns."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._swizzle(pace.wave_s))
            group.create_task(self._strike(pace))
            group.create_task(self._change(pace))

    async def _swizzle(self, wave_s: float) -> None:
        """Swizzle-clog: stopped in one random order, healed in another."""
        numbers = list(range(len(self._field.devices)))
        stopped = self._rng.sample(numbers, self._rng.randint(len(numbers) // 2, len(numbers)))
        for number in stopped:
            way = self._rng.choice([Way.CUT, Way.STALLED])
            await self._field.turn(number, way)
            self.tried[f"link {way}"] += 1
            await self._pause(0, wave_s / len(stopped))
        self._rng.shuffle(stopped)
        for number in stopped:
            await self._field.turn(number, Way.OPEN)
            await self._pause(0, wave_s / len(stopped))

    async def _strike(self, pace: Pace) -> None:
        for _ in range(pace.strikes):
            if not self._deck:
                self._deck.extend(self._rng.sample(self.kinds, len(self._acts)))
            await self._pause(0, pace.wave_s / pace.strikes)
            kind = self._deck.popleft()
            done = await self._acts[kind]()
            (self.tried if done else self.skipped)[kind] += 1

    async def _change(self, pace: Pace) -> None:
        end_s = time.monotonic() + pace.wave_s
        while time.monotonic() + (pause_s := self._rng.expovariate(1 / pace.change_s)) < end_s:
            await asyncio.sleep(pause_s)
            await self._field.register()

    async def _pause(self, least_s: float, most_s: float) -> None:
        await asyncio.sleep(self._rng.uniform(least_s, most_s))

    # Killed and paused.

    async def _kill_lead(self) -> bool:
        """Its broker dies with it."""
        return await self._killed(self._field.lead)

    async def _pause_lead(self) -> bool:
        return await self._paused(self._field.lead)

    async def _kill_shadows(self) -> bool:
        return await self._killed(self._some_group())

    async def _pause_shadows(self) -> bool:
        return await self._paused(self._some_group())

    def _some_group(self) -> Running:
        """Any group but the first: that one lives from the beginning to the end, so that a leak would show."""
        return self._rng.choice(self._field.groups[1:])

    async def _killed(self, process: Running) -> bool:
        await process.kill()
        await self._pause(*AWAY_S)
        await process.start()
        return True

    async def _paused(self, process: Running) -> bool:
        process.send(signal.SIGSTOP)
        try:
            await self._pause(*PAUSED_S)
        finally:
            process.send(signal.SIGCONT)
        return True

    async def _kill_broker(self) -> bool:
        """The lead begins it again."""
        return self._field.signal_broker(signal.SIGKILL)

    async def _pause_broker(self) -> bool:
        if not self._field.signal_broker(signal.SIGSTOP):
            return False
        try:
            await self._pause(*PAUSED_S)
        finally:
            self._field.signal_broker(signal.SIGCONT)
        return True

    # What the broker remembers.

    async def _wipe_broker(self) -> bool:
        (self._field.broker_folder / "mosquitto.db").unlink(missing_ok=True)
        return self._field.signal_broker(signal.SIGKILL)

    async def _age_broker(self) -> bool:
        """Put back the store that was there when this was done last; a first time keeps one."""
        store, kept = self._field.broker_folder / "mosquitto.db", self._field.site.directory / "kept.db"
        self._field.signal_broker(signal.SIGUSR1)  # it writes its store now (mosquitto(8))
        with suppress(FileNotFoundError):
            if not kept.exists():
                shutil.copyfile(store, kept)
            fresh = self._field.site.directory / "fresh.db"
            shutil.copyfile(store, fresh)
            self._field.signal_broker(signal.SIGSTOP)
            shutil.copyfile(kept, store)
            fresh.replace(kept)
            return self._field.signal_broker(signal.SIGKILL)
        return False

    # A rogue with every right at the broker.

    async def _wipe_record(self) -> bool:
        return await self._field.publish_as_rogue(Leaf.REGISTRATION, b"")

    async def _forge_record(self) -> bool:
        """The true record, but for one bit of it."""
        forged = bytearray(await asyncio.to_thread(self._watch.oldest_issue))
        forged[self._rng.randrange(len(forged))] ^= 1 << self._rng.randrange(8)
        return await self._field.publish_as_rogue(Leaf.REGISTRATION, bytes(forged))

    async def _replay_record(self) -> bool:
        oldest = await asyncio.to_thread(self._watch.oldest_issue)
        return await self._field.publish_as_rogue(Leaf.REGISTRATION, oldest)

    async def _forge_heartbeat(self) -> bool:
        return await self._field.publish_as_rogue(Leaf.HEARTBEAT, self._rng.randbytes(400))
