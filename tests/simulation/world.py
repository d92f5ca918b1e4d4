"""The world of one seed: machines of three tiers and their brokers, from their first start to the end of all faults."""

from __future__ import annotations

import hashlib
from random import Random
from typing import TYPE_CHECKING

from tests.simulation.ending import untrue_row
from tests.simulation.enrol import enrol
from tests.simulation.machine import Machine
from tests.simulation.network import Network
from tests.simulation.watch import Watch
from tests.unit.builders import registered
from tests.virtual_time import START_S, running_loop

if TYPE_CHECKING:
    from pathlib import Path

    from tests.memory_bus import Said
    from tests.simulation.schedule import Layout


class World:
    """Every machine of one seed, by the id of its server; `copies` are those that run beside their originals."""

    def __init__(self, seed: int, layout: Layout, directory: Path) -> None:
        self.seed = seed
        self.layout = layout
        self.watch = Watch()
        self.network = Network(seed, self._said)
        self.machines: dict[str, Machine] = {}
        self.copies: dict[str, Machine] = {}
        self.session_may_be_old = False
        """Whether a lead may speak in a session that is no higher than one its shadows have heard."""
        self._cloned = self._thieves = 0
        self._used: dict[str, tuple[str, str]] = {}
        """The last token that each server used, and whose it is."""
        self.following = dict(layout.lead_of)
        """Whom each server is to follow, as the people of this site have it."""
        self._directory = directory
        self._trace = hashlib.sha256()

    async def begin(self) -> None:
        """Make every server, attached as the layout has it, register at the tops, and start."""
        for name, lead in self.layout.lead_of.items():
            await self._install(name)
            if lead is not None:
                await enrol(self.machines[name], self.machines[lead])
        for top in self.layout.tops:
            await self.machines[top].register(registered(f"first of {top}"))
        for name in self.layout.lead_of:
            self.machines[name].start()

    async def _install(self, name: str) -> None:
        machine = self.machines[name] = self._machine(name)
        if name in self.layout.external:
            machine.hub = f"hub-{name}"
            self.network.add(machine.hub, is_up=True, is_plain=name in self.layout.plain)
        await machine.begin()

    def _machine(self, name: str, role: str | None = None) -> Machine:
        role = role or self.layout.role(name.partition("~")[0])
        machine = Machine(self._directory, self.network, self.watch, self.seed, name=name, role=role)
        if machine.is_lead:
            self.network.add(name, is_up=False)
        return machine

    async def attach(self, name: str, lead: str) -> None:
        """Let a server follow a lead, by a new token. Raises PropagatorError."""
        self.following[name] = lead
        written = await self.machines[lead].invite(name)
        await self.machines[name].attach(written)
        self._used[name] = lead, written

    async def use_token_again(self, name: str) -> str | None:
        """Let somebody else attach with the last token that a server used. Raises PropagatorError: as it must be."""
        if name not in self._used:
            return "it has used none"
        lead, written = self._used[name]
        self._thieves += 1
        thief = self._machine(f"{name}~thief-{self._thieves}", role="shadow")
        await thief.begin()
        await thief.attach(written)
        if self.machines[lead].name not in self.watch.rolled_back_machines:  # else it may never have heard of it
            self.watch.fault(f"somebody attached with a token that {name} had used at {lead}")
        return "it counted again"

    def place_of(self, name: str) -> Path:
        """Give a place for the copy of a disk."""
        return self._directory / name

    def clone(self, original: Machine) -> str:
        """Let a copy of a machine run beside it; gives the copy's name."""
        self._cloned += 1
        copy = self.copies[original.id] = self._machine(f"{original.id}~{self._cloned + 1}")
        copy.hub, copy.skew_s = original.hub, original.skew_s
        original.copy_to(copy.directory)
        copy.make_own(original.directory)
        self.watch.copied(original.name, copy.name)
        self.watch.rolled_back_machines.add(original.name)  # what the lead shows may be what the copy holds
        copy.start()
        return copy.name

    async def end_clone(self, server: str, *, copy_stays: bool) -> None:
        """Switch the copy of a server off for good, or the original."""
        copy = self.copies.pop(server, None)
        if copy is None:
            return
        original = self.machines[server]
        goes, stays = (original, copy) if copy_stays else (copy, original)
        self.session_may_be_old = self.session_may_be_old or original.is_lead
        await goes.kill()
        goes.close()
        self.machines[server] = stays
        self.network.hosts[server] = stays.name
        self.network.routes = {way: machine for way, machine in self.network.routes.items() if way[1] != server}
        self.watch.rolled_back_machines.add(stays.name)

    # After the last fault.

    async def heal(self) -> None:
        """End every fault that time does not end."""
        for server in self.layout.lead_of:
            await self.end_clone(server, copy_stays=False)
        self.network.withheld.clear()
        for broker in self.network.brokers.values():
            broker.weather_of.clear()
        for machine in self.machines.values():
            for broker in self.network.brokers.values():
                broker.heal(machine.name)
            if machine.process is not None:
                machine.process.trap = None
            machine.disk_fault = None
            machine.start()

    def look(self) -> None:
        """Hold every lead's roster to what its shadows hold: none is shown in sync that does not."""
        for name, lead in self.following.items():
            if lead is not None and self.machines[name].name not in self.watch.rolled_back_machines:
                untrue = untrue_row(self.machines[lead], self.machines[name])
                if untrue is not None:
                    self.watch.fault(untrue)

    async def end(self) -> None:
        """End every agent."""
        for machine in (*self.machines.values(), *self.copies.values()):
            await machine.kill()
            machine.close()

    def clock_s(self) -> float:
        """Tell the time of this world, in seconds from its beginning."""
        return running_loop().time() - START_S

    @property
    def trace(self) -> str:
        """A hash over everything that was published, when, and by whom."""
        return self._trace.hexdigest()

    def _said(self, broker: str, said: Said) -> None:
        self._trace.update(f"{said.at_s:.6f} {broker} {said.account} {said.topic} {said.retain} ".encode())
        self._trace.update(said.payload)


def drawn(seed: int, what: str) -> Random:
    """Give the chance of one thing in a seed."""
    return Random(f"{seed}/{what}")
