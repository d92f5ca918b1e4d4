"""One change of the lead's registration, watched in the stores: written at the lead, held by each shadow, reported.

The times are those that the servers wrote down: from the lead's record (`stored_at`, when the command wrote it) to the
lead's roster (`reported_at`, when it stored the report that a shadow sent after its commit). One machine, one clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from propagator.core import moment
from propagator.core.state import State
from propagator.demo.registrations import site_of
from propagator.demo.site import DemoError

if TYPE_CHECKING:
    from propagator.demo.site import Server, Site
    from propagator.snapshot import Member, Record, Snapshot


@dataclass(frozen=True, slots=True)
class Arrival:
    """A shadow's durable report of a change: site name before and after, seconds since the change was written."""

    shadow: str
    before: str | None
    after: str | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Change:
    """A change that all shadows hold; `seconds` from its writing to the last durable report."""

    site: str | None
    version: str
    hash: str
    written_at: str
    seconds: float
    arrivals: tuple[Arrival, ...]


@dataclass
class Watch:
    """Sees a change arrive. Made before it; `dead_sessions` are of killed agents: what they said does not count."""

    site: Site
    dead_sessions: dict[str, str] = field(default_factory=dict)
    arrived: dict[str, Arrival] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._was = self.site.lead.look().record.hash
        self._before = {shadow.id: site_of(shadow.look().record) for shadow in self.site.shadows}
        self._servers = {shadow.id: shadow for shadow in self.site.shadows}

    @property
    def before_width(self) -> int:
        """Width of the longest name that is about to be overwritten."""
        return max(len(name or "–") for name in self._before.values())

    def is_written(self) -> bool:
        """Whether the change stands in the lead's store."""
        return self.site.lead.look().record.hash != self._was

    def news(self) -> list[Arrival]:
        """Give the arrivals since the last look."""
        lead = self.site.lead.look()
        if lead.record.hash == self._was or lead.record.pending:
            return []
        fresh = [member for member in lead.members if member.id not in self.arrived and self._holds(member, lead)]
        arrivals = [self._arrival(member, lead.record) for member in fresh]
        self.arrived.update({arrival.shadow: arrival for arrival in arrivals})
        return arrivals

    def change(self) -> Change:
        """Sum up, when all have arrived."""
        lead = self.site.lead.look()
        version = "" if lead.downlink is None else lead.downlink.version or ""
        arrivals = tuple(self.arrived[shadow.id] for shadow in self.site.shadows)
        last_s = max(arrival.seconds for arrival in arrivals)
        record = lead.record
        return Change(site_of(record), version, record.hash, record.stored_at, last_s, arrivals)

    def _holds(self, member: Member, lead: Snapshot) -> bool:
        """Whether the lead knows, by a report that counts, that a shadow durably holds what the lead announces."""
        report, downlink = member.report, lead.downlink
        if report is None or downlink is None or not (member.confirmed and member.online):
            return False
        said = (report.get("version"), report.get("hash"), report.get("state"))
        announced = (downlink.version, lead.record.hash, State.IN_SYNC)
        return said == announced and report.get("session") != self.dead_sessions.get(member.id)

    def _arrival(self, member: Member, written: Record) -> Arrival:
        """Believe the report only if the shadow's own store says the same."""
        held = self._servers[member.id].look().record
        if held.hash != written.hash:
            raise DemoError(f"{member.id} reported what its store does not hold.", log=f"{member.id}.log")
        seconds = (moment.read(member.reported_at or "") - moment.read(written.stored_at)).total_seconds()
        return Arrival(member.id, self._before[member.id], site_of(held), seconds)


def session_of(lead: Snapshot, shadow: Server) -> str:
    """Give the session in which a shadow reported last."""
    reports = [member.report for member in lead.members if member.id == shadow.id and member.report is not None]
    return str(reports[0].get("session")) if reports else ""
