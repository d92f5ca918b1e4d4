"""The people of a site after the last fault: they do what `propagator status` tells them to try, and nothing else.

A lead that lost its record is associated from the field, one of two leads takes over, a server whose token or key no
longer counts gets a new one. What a finding names as its remedy has to help, or the world does not end whole.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from propagator import keys, settings
from propagator.core.errors import PropagatorError
from propagator.core.registration import Registration, hash_of
from propagator.core.state import DownlinkState, Reason, State
from tests.unit.builders import registered

if TYPE_CHECKING:
    from collections.abc import Callable

    from propagator.core.difference import JsonObject
    from tests.simulation.machine import Machine
    from tests.simulation.world import World

PATIENCE: Final = 4
"""How often people look before they give the field up, or believe that something does not heal by itself."""

_HEALTHY: Final = frozenset({State.IN_SYNC, State.WITHDRAWN, State.LEAD_UNREGISTERED, State.STALE})
"""What calls for nobody. A lead that its shadow takes for the older one of two raises its voice by itself."""

_ROTATES: Final = frozenset({Reason.REVOKED_KEY, Reason.ROLLBACK, Reason.FORK})
"""What shadows say of a lead whose signing key, or whose versions, are those of an old backup."""


class People:
    """The people of one world. `say` is told what they do."""

    def __init__(self, world: World, say: Callable[[str], None]) -> None:
        self._world = world
        self._say = say
        self._seen: dict[tuple[str, str], int] = {}

    async def tend(self) -> None:
        """Look at every server once, and do what its status asks for."""
        for machine in list(self._world.machines.values()):
            if not machine.is_up:
                machine.start()
        for lead in [self._world.machines[name] for name in self._world.layout.leads]:
            await self._look_at_lead(lead)
        for name, lead_name in self._world.following.items():
            if lead_name is not None:
                await self._look_at_link(self._world.machines[name], self._world.machines[lead_name])

    async def _look_at_lead(self, lead: Machine) -> None:
        live = (await lead.ask("live") or {}).get("downlink")
        if not isinstance(live, dict):
            return
        finding = live.get("finding")
        code = finding.get("code") if isinstance(finding, dict) else None
        if live["state"] == DownlinkState.SECOND_LEAD or code == "SECOND_LEAD":
            await self._try(lead, "take-over")
        elif live["state"] == DownlinkState.LOST or code == "FIELD_HOLDS_ANOTHER_LIFE":
            await self._associate(lead)
        elif code == "VERSION_EXHAUSTED":
            await self._rotate(lead)

    async def _associate(self, lead: Machine) -> None:
        found = (await lead.ask("ask-field") or {}).get("found")
        if isinstance(found, dict):
            await self._try(lead, "associate", version=str(found["version"]))
        elif self._lasts(lead.name, "nothing in the field"):
            above = self._world.layout.lead_of[lead.id]
            registers = lead if above is None else self._world.machines[above]  # a relay takes its lead's
            self._say(f"people register at {registers.name}, and rotate at {lead.name}: the field holds nothing")
            with contextlib.suppress(PropagatorError):
                await registers.register(registered(f"again at {lead.id}"))
            with contextlib.suppress(PropagatorError):
                await lead.rotate()

    async def _look_at_link(self, shadow: Machine, lead: Machine) -> None:
        if await self._must_attach(shadow, lead):
            self._say(f"people attach {shadow.name} to {lead.name} again")
            try:
                await self._world.attach(shadow.id, lead.id)
            except PropagatorError as error:
                self._say(f"  {error}")
            return
        if self._is_damaged(shadow) and self._lasts(shadow.name, "a damaged record"):
            await self._fetch_again(shadow, lead)
            return
        live = (await shadow.ask("live") or {}).get("uplink")
        refusal = live.get("refusal") if isinstance(live, dict) else None
        said = Reason(str(refusal["reason"])) if isinstance(refusal, dict) else None
        healthy = not isinstance(live, dict) or live["state"] in _HEALTHY
        if said is Reason.LOOP and not healthy:
            self._say(f"people see that {shadow.name} and {lead.name} form a circle")
            self._world.following[shadow.id] = self._world.layout.lead_of[shadow.id]
        elif said in _ROTATES and not healthy and self._lasts(shadow.name, f"{said} by {lead.name}"):
            await self._rotate(lead)

    async def _fetch_again(self, shadow: Machine, lead: Machine) -> None:
        """Let a shadow take its lead's record again; a lead that has none, as it was lost, is registered first."""
        if lead.rows("SELECT 1 FROM record WHERE registration IS NULL"):
            self._say(f"people register at {lead.name}: the record of {shadow.name} is damaged, and there is no other")
            with contextlib.suppress(PropagatorError):
                await lead.register(registered(f"again at {lead.id}"))
        self._say(f"people restart {shadow.name}: its record is damaged")
        await shadow.stop()
        shadow.start()

    @staticmethod
    def _is_damaged(machine: Machine) -> bool:
        (record,) = machine.rows("SELECT registration, hash FROM record")
        held = None if record["registration"] is None else Registration(record["registration"])
        return hash_of(held) != str(record["hash"])

    async def _must_attach(self, shadow: Machine, lead: Machine) -> bool:
        """Whether the link's files are gone, or are for long those of another time than what the lead knows.

        A lead that lost its database right after `rotate` may know no shadow again: no older membership counts.
        """
        wanted = settings.load_uplink(shadow.directory / settings.UPLINK_FILE)
        if wanted is None or (wanted.lead, wanted.lead_key) != (lead.id, keys.load_lead_keys(lead.directory).identity):
            return True
        key = keys.load_credentials(wanted.credential_file).key.thumbprint
        known = await lead.knows(shadow.id)
        return (known is None or known.key != key) and self._lasts(shadow.name, f"unknown to {lead.name}")

    async def _rotate(self, lead: Machine) -> None:
        self._say(f"people rotate the key of {lead.name}")
        try:
            await lead.rotate()
        except PropagatorError as error:
            self._say(f"  {error}")

    async def _try(self, machine: Machine, op: str, **asked: str) -> None:
        came: JsonObject | None = await machine.ask(op, **asked)
        self._say(f"people try {op} at {machine.name}: {came}")

    def _lasts(self, name: str, what: str) -> bool:
        """Say whether this was seen often enough to be believed."""
        self._seen[name, what] = seen = self._seen.get((name, what), 0) + 1
        return seen % PATIENCE == 0
