"""What each verb of a schedule does to the world."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from propagator.core.errors import PropagatorError
from tests.memory_bus import Weather
from tests.simulation.rogue import Rogue
from tests.simulation.world import drawn
from tests.unit.builders import registered
from tests.virtual_time import EPOCH

if TYPE_CHECKING:
    from tests.memory_bus import MemoryBroker
    from tests.simulation.machine import Machine
    from tests.simulation.process import DiskFault, Side
    from tests.simulation.schedule import Step
    from tests.simulation.world import World

BROKER_DOWN_S: Final = 1.0

CLOCKS_S: Final = {
    "right": 0.0,
    "at 1970": -EPOCH.timestamp(),
    "10 years ahead": 10 * 365 * 86_400.0,
    "an hour back": -3600.0,
}
"""How far a clock may be off (F36)."""


class Acts:
    """The verbs. `kill-at-commit` is the method `kill_at_commit`; what follows the machine are a step's args."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._older: dict[str, dict[str, bytes]] = {}
        self._chance = drawn(world.seed, "acts")
        self._rogue = Rogue(world, self._chance)

    async def do(self, step: Step) -> str:
        """Do one step; says why, where it could not be done as things stand."""
        act = getattr(self, step.verb.replace("-", "_"))
        try:
            return await act(self._world.machines[step.who], *step.args) or ""
        except PropagatorError as error:
            return f"{type(error).__name__}: {error}"

    # What people do.

    async def register(self, at: Machine, name: str) -> None:
        await at.register(registered(name))

    async def undo(self, at: Machine) -> None:
        await at.undo()

    async def detach(self, at: Machine, how: str) -> None:
        await at.detach(restore=how == "restore")
        self._world.following[at.id] = None

    async def attach(self, at: Machine, lead: str) -> None:
        await self._world.attach(at.id, lead)

    async def revoke(self, at: Machine, device: str) -> None:
        await at.revoke(device)
        self._world.following[device] = None

    async def rotate(self, at: Machine) -> None:
        await at.rotate()

    # Processes.

    async def stop(self, at: Machine) -> None:
        await at.stop()

    async def kill(self, at: Machine) -> None:
        await at.kill()

    async def kill_at_commit(self, at: Machine, commits: int, side: Side) -> None:
        at.kill_at_commit(commits, side)

    async def start(self, at: Machine) -> None:
        at.start()

    async def clock(self, at: Machine, how: str) -> None:
        at.skew_s = CLOCKS_S[how]

    # The network.

    async def part(self, at: Machine) -> None:
        for broker in self._world.network.brokers.values():
            broker.part(at.name)

    async def heal(self, at: Machine) -> None:
        for broker in self._world.network.brokers.values():
            broker.heal(at.name)

    async def clog(self, at: Machine, lead: str) -> None:
        self._broker(self._world.machines[lead]).part(at.name)

    async def unclog(self, at: Machine, lead: str) -> None:
        self._broker(self._world.machines[lead]).heal(at.name)

    async def withhold(self, at: Machine, leaf: str) -> None:
        self._world.network.withheld.add((at.hub or at.name, leaf))

    async def let_pass(self, at: Machine, leaf: str) -> None:
        self._world.network.withheld.discard((at.hub or at.name, leaf))

    async def drop(self, at: Machine) -> None:
        self._world.network.cut(at.name)

    async def weather(self, at: Machine, delay_s: float, duplicate: float, order: str) -> None:
        bad = Weather(duplicate=duplicate, delay_s=(0.0, delay_s), reorder=order == "reordered")
        for broker in self._world.network.brokers.values():
            broker.weather_of[at.name] = bad

    async def broker(self, at: Machine, how: str) -> None:
        """Restart the broker of a lead: as it was, with nothing, or with what it retained earlier (F27)."""
        broker = self._broker(at)
        was_up = at.hub is not None or at.is_up
        broker.stop()
        kept = dict(broker.retained)
        if how == "forgets":
            broker.retained.clear()
        if how == "goes back":
            broker.retained = dict(self._older.get(broker.address, {}))
        self._older.setdefault(broker.address, kept)
        await asyncio.sleep(BROKER_DOWN_S)
        if was_up:
            broker.start()

    # Disks.

    async def spoil_disk(self, at: Machine, how: DiskFault) -> None:
        at.disk_fault = how

    async def mend_disk(self, at: Machine) -> None:
        at.disk_fault = None

    async def flip_bit(self, at: Machine, column: str) -> str | None:
        return None if await at.flip_bit(column, self._chance) else "it holds no record of a lead"

    async def lose_database(self, at: Machine) -> None:
        """Delete the database, and `init` again (F07)."""
        await at.kill()
        at.lose_database()
        await at.begin()
        at.start()

    async def reinstall(self, at: Machine) -> None:
        """Lose everything, and begin as a new server of the old name (F25); it is attached again by a new token."""
        await at.kill()
        at.lose_everything()
        await at.begin()
        at.start()
        if (lead := self._world.following[at.id]) is not None:
            await self._world.attach(at.id, lead)

    async def backup(self, at: Machine) -> None:
        at.copy_to(self._world.place_of(f"{at.id}.backup"))

    async def restore(self, at: Machine, what: str, edited: str) -> str | None:
        """Put the backup back, the whole disk or the database alone; a lead's may be edited before it starts (F08)."""
        place = self._world.place_of(f"{at.id}.backup")
        if not place.exists():
            return "there is no backup"
        await at.kill()
        at.put_back(place, database_only=what == "database")
        self._world.session_may_be_old = self._world.session_may_be_old or at.is_lead
        if edited and self._world.following[at.id] is None:
            await at.register(registered(edited))
        at.start()
        return None

    # Copies.

    async def clone(self, at: Machine, *shadows: str) -> str | None:
        """Copy a machine that runs, and let both run (F03, F18); these shadows reach the copy's broker."""
        if at.id in self._world.copies:
            return "there is a copy already"
        copy = self._world.clone(at)
        for shadow in shadows:
            self._reroute(self._world.machines[shadow], at.id, copy)
        return None

    async def reroute(self, at: Machine, lead: str) -> str | None:
        """Let a shadow alternate between a lead and its copy."""
        copy = self._world.copies.get(lead)
        if copy is None:
            return "there is no copy"
        at_copy = self._world.network.routes.get((at.name, lead)) == copy.name
        self._reroute(at, lead, self._world.machines[lead].name if at_copy else copy.name)
        return None

    def _reroute(self, shadow: Machine, lead: str, machine: str) -> None:
        self._world.network.routes[shadow.name, lead] = machine
        self._world.network.cut(shadow.name)

    async def end_clone(self, at: Machine, stays: str) -> None:
        await self._world.end_clone(at.id, copy_stays=stays == "the copy stays")

    # A rogue.

    async def rogue(self, at: Machine, what: str) -> str | None:
        """Let him speak at the broker of a lead."""
        broker = self._broker(at)
        words = self._rogue.words(broker, at, what)
        for word in words:
            broker.take(word.account, word.topic, word.payload, retain=word.retain)
        return None if words else "he lacks what he needs"

    async def use_token_again(self, at: Machine) -> str | None:
        """Let somebody else attach under this server's id with a token that it has used (F14, F54)."""
        return await self._world.use_token_again(at.id)

    def _broker(self, lead: Machine) -> MemoryBroker:
        return self._world.network.brokers[lead.hub or lead.name]
