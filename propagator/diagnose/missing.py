"""The shadows that are not connected to a lead: what each said last, and how far it gets now, by this host's own word.

The running agent knows from which addresses they came; half-open connections, and the table of connections, which root
alone may read, what has become of their first packets. Where that is not to be had, nothing is said. Several shadows
may come from one address, behind a router that translates.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from propagator import snapshot
from propagator.core.conntrack import Flow, Handshake, latest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from propagator.core.diagnosis.seen import LeadSide
    from propagator.core.difference import JsonValue
    from propagator.snapshot import Member

TOLD: Final = {
    Handshake.UNANSWERED: "a first packet of its address came in {age_s} s ago and was not answered",
    Handshake.ANSWERED: "a first packet of its address was answered here {age_s} s ago, and nothing followed",
    Handshake.COMPLETE: "a connection of its address stood here {age_s} s ago",
}
"""How far a device got, in words."""

ABSENT: Final = "no first packet of its address came through this host's filter"


@dataclass(frozen=True, slots=True)
class Missing:
    """A shadow that is not connected: when it was heard last, and what it said then of its way here, if anything.

    `addresses` are those that it came from; `flow`: how far it got last; `is_absent`: it is not among those that came.
    Neither: this host cannot tell.
    """

    id: str
    name: str
    last_heard: str | None
    code: str | None
    addresses: tuple[str, ...] = ()
    flow: Flow | None = None
    is_absent: bool = False

    @property
    def told(self) -> str:
        """How far it got last, in words; empty where that is not known."""
        if self.flow is not None:
            return TOLD[self.flow.handshake].format(age_s=self.flow.age_s)
        return ABSENT if self.is_absent else ""


def read(state_dir: Path) -> tuple[Missing, ...]:
    """List the shadows that are not connected. Raises StateError or StoreError where there is no state to read."""
    away = [member for member in snapshot.read(state_dir).members if not member.online]
    return tuple(Missing(each.id, each.name, each.last_heard, _code(each)) for each in away)


def _code(member: Member) -> str | None:
    told = (member.report or {}).get("finding")
    return str(told["code"]) if isinstance(told, dict) and "code" in told else None


def addresses_of(device: str, known: Mapping[str, JsonValue]) -> tuple[str, ...]:
    """Give the addresses that a device came from, as the agent tells it."""
    told = known.get(device)
    return tuple(map(str, told)) if isinstance(told, list) else ()


def placed(missing: tuple[Missing, ...], known: Mapping[str, JsonValue]) -> tuple[Missing, ...]:
    """Add from which addresses they came."""
    return tuple(replace(each, addresses=addresses_of(each.id, known)) for each in missing)


def followed(missing: tuple[Missing, ...], side: LeadSide) -> tuple[Missing, ...]:
    """Add how far each got last: by its half-open connections, which anybody sees, and by the table of connections.

    Who is not in the table did not come, where the port is tracked and all was read.
    """
    half_open = (Flow(side.port, each.peer, Handshake.ANSWERED, 0) for each in side.half_open)
    flows = (*half_open, *side.flows)
    is_told = bool(side.flows) and not side.flows_unread
    return tuple(_followed(each, flows, is_told=is_told) if each.addresses else each for each in missing)


def _followed(one: Missing, flows: tuple[Flow, ...], *, is_told: bool) -> Missing:
    flow = latest(flows, one.addresses)
    return replace(one, flow=flow, is_absent=flow is None and is_told)
