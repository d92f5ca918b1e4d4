"""One seed, from an empty directory to its outcome."""

from __future__ import annotations

import asyncio
import gc
import shutil
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.simulation.acts import Acts
from tests.simulation.ending import differences
from tests.simulation.people import People
from tests.simulation.pinned import new_loop, pinned
from tests.simulation.world import World
from tests.unit.builders import registered

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.schedule import Schedule

WHOLE_S: Final = 1200.0
"""Virtual seconds after the last fault within which a world must be whole again.

A crowded id waits up to 300 s between its tries, a nonce is good for one heartbeat period of 60 s, and three tiers
come one after another.
"""

CHANGE_S: Final = 150.0
"""Virtual seconds within which a change reaches everybody in a whole world, and the lead's roster says so.

A shadow whose order is in doubt, after a copy of it was heard, is asked once a heartbeat period, at a heartbeat
(docs/decisions/0004): two periods, and some.
"""

LOOK_S: Final = 5.0

SILENCE_S: Final = 200.0
"""Until it shows that shadows take a lead's heartbeats for old ones (`people`): three periods, and some."""

TEND_S: Final = 15.0
"""How often people look at the status of their servers."""

_MEMORY: Final = Path("/dev/shm")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a seed. `faults` is empty if every invariant held; `trace` hashes all that was published.

    `healed_s`: the virtual seconds from the last fault until the world was whole.
    """

    seed: int
    servers: int
    steps: int
    trace: str
    healed_s: float
    faults: tuple[str, ...]


def run(schedule: Schedule, *, say: Callable[[str], None] = lambda _: None, verbose: bool = False) -> Outcome:
    """Run a schedule. `say` is told each step, and with `verbose` what the product logs."""
    directory = Path(tempfile.mkdtemp(prefix="propagator-simulation-", dir=_MEMORY if _MEMORY.is_dir() else None))
    world = World(schedule.seed, schedule.layout, directory)
    healed_s = float("nan")
    gc.freeze()  # what is there already need not be looked through after each seed
    try:
        with (
            pinned(schedule.seed, world.network, say if verbose else None),
            world.watch.looking(),
            asyncio.Runner(loop_factory=new_loop) as runner,
        ):
            healed_s = runner.run(_play(world, schedule, say))
    except Exception:  # noqa: BLE001  whatever it is, it belongs to this seed
        world.watch.faults.append(traceback.format_exc())
    finally:
        shutil.rmtree(directory)
        gc.collect()
    servers, steps = len(schedule.layout.lead_of), len(schedule.steps)
    return Outcome(schedule.seed, servers, steps, world.trace, healed_s, tuple(world.watch.faults))


async def _play(world: World, schedule: Schedule, say: Callable[[str], None]) -> float:
    """Begin, go through the steps, heal, wait until all is whole; gives how long that took (virtual seconds)."""
    asyncio.get_running_loop().set_exception_handler(lambda _, context: world.watch.fault(f"unhandled: {context}"))
    try:
        await world.begin()
        acts, people = Acts(world), People(world, lambda text: say(f"{world.clock_s():9.2f} s       {text}"))
        await _whole(world, "before the first fault")
        for number, step in enumerate(schedule.steps, 1):
            await asyncio.sleep(step.wait_s)
            came = await acts.do(step)
            say(f"{world.clock_s():9.2f} s {number:4}  {step}{f'  ({came})' if came else ''}")
            world.look()
        await world.heal()
        say(f"{world.clock_s():9.2f} s       healed")
        if world.session_may_be_old:
            await asyncio.sleep(SILENCE_S)
        healed_s = await _whole(world, "after the last fault", people=people)
        say(f"{world.clock_s():9.2f} s       whole")
        for top in world.layout.tops:
            await world.machines[top].register(registered(f"last of {top}"))
        await _whole(world, "after a last change", within_s=CHANGE_S)
        return healed_s
    finally:
        await world.end()


async def _whole(world: World, when: str, *, within_s: float = WHOLE_S, people: People | None = None) -> float:
    """Wait until every shadow is equal to its lead, with people looking after it; gives how long it took."""
    begun_s = tended_s = world.clock_s()
    await asyncio.sleep(LOOK_S)  # what was said last is still on its way
    while found := await differences(world):
        if world.clock_s() - begun_s > within_s:
            for difference in found:
                world.watch.fault(f"not within {within_s:g} s {when}: {difference}")
            break
        if people is not None and world.clock_s() - tended_s >= TEND_S:
            tended_s = world.clock_s()
            await people.tend()
        await asyncio.sleep(LOOK_S)
    world.look()
    return world.clock_s() - begun_s
