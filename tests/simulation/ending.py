"""The invariants at the end: after the last fault heals, every reachable shadow ends equal to its lead.

And its lead's roster says so. Each difference is a line; none means that the world is whole.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from propagator.core import view
from propagator.core.registration import Registration, hash_of
from propagator.core.state import DownlinkState, State

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from tests.simulation.machine import Machine
    from tests.simulation.world import World


async def differences(world: World) -> list[str]:
    """List where a shadow is not equal to its lead, or the lead does not say that it is."""
    found: list[str] = []
    for name, lead in world.following.items():
        if lead is not None:
            live = await world.machines[name].ask("live") or {}
            found += _between(world.machines[lead], world.machines[name], live.get("uplink"))
    for name in world.layout.leads:
        downlink = (await world.machines[name].ask("live") or {}).get("downlink")
        if not isinstance(downlink, dict) or downlink["state"] != DownlinkState.OK:
            found.append(f"{name} does not lead: {downlink}")
    return found


def _between(lead: Machine, shadow: Machine, uplink: object) -> Iterator[str]:
    issue = current(lead)
    if issue is None:
        yield f"{lead.name} has no record"
        return
    (ours,) = lead.rows("SELECT registration, hash FROM record")
    if hash_of(_registration(ours)) != issue["hash"]:
        yield f"{lead.name} announces {issue['version']}, and holds other content"
    (record,) = shadow.rows("SELECT * FROM record")
    said = uplink["state"] if isinstance(uplink, dict) else None
    floors = shadow.rows(
        "SELECT version, hash, registered FROM floor WHERE lead = ? AND identity = ?", lead.id, _identity(issue)
    )
    floor = floors[0]["version"] if floors else None
    wanted = State.IN_SYNC
    if ours["registration"] is None:
        wanted = State.WITHDRAWN if floors and floors[0]["registered"] else State.LEAD_UNREGISTERED
        holds = floor == issue["version"]
    else:
        holds = (record["version"], record["raw"]) == (issue["version"], issue["raw"])
        holds = holds and hash_of(_registration(record)) == issue["hash"] and floor == issue["version"]
    if not holds:
        yield f"{shadow.name} holds {record['version']} (floor {floor}), {lead.name} announces {issue['version']}"
    if said != wanted:
        yield f"{shadow.name} says {said}, not {wanted}"
    shown = shown_state(lead, shadow.id)
    if shown != wanted:
        yield f"{lead.name} shows {shadow.id} as {shown}, not {wanted}"


def untrue_row(lead: Machine, shadow: Machine) -> str | None:
    """Say what is untrue if a lead shows a shadow in sync with a version that it never held."""
    issue = current(lead)
    if issue is None or shown_state(lead, shadow.id) is not State.IN_SYNC:
        return None
    held = shadow.rows("SELECT version FROM record UNION SELECT version FROM history")
    if issue["version"] in {row["version"] for row in held}:
        return None
    return f"{lead.name} shows {shadow.id} in sync with {issue['version']}, which it never held"


def _registration(row: sqlite3.Row) -> Registration | None:
    return None if row["registration"] is None else Registration(row["registration"])


def _identity(issue: sqlite3.Row) -> str:
    return str(json.loads(issue["path"])[-1][1])


def current(lead: Machine) -> sqlite3.Row | None:
    found = lead.rows("SELECT issue.* FROM issue JOIN downlink ON issue.version = downlink.current")
    return found[0] if found else None


def shown_state(lead: Machine, device: str) -> State | None:
    """Say how a lead shows a shadow; None if it does not know it."""
    issue = current(lead)
    member = lead.rows("SELECT report, confirmed FROM member WHERE id = ? AND revoked_at IS NULL", device)
    if not member:
        return None
    report = json.loads(member[0]["report"] or "{}")
    return view.row_state(
        State(report["state"]) if report else None,
        _held(report.get("floor")),
        _held(report),
        confirmed=bool(member[0]["confirmed"]),
        current=None if issue is None else view.Held(issue["version"], issue["hash"]),
    )


def _held(said: dict[str, str] | None) -> view.Held | None:
    return view.Held(said["version"], said["hash"]) if said and said.get("version") else None
