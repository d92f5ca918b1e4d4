"""What stands below a relay, summed up for its report: counts, and one short row a server (DESIGN §1)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, cast

from propagator.core import view
from propagator.core.state import State, read_word
from propagator.store import issued, members

if TYPE_CHECKING:
    from collections.abc import Sequence

    from propagator.core.difference import JsonObject, JsonValue
    from propagator.store import Store
    from propagator.store.members import Member

SIZE_LIMIT: Final = 40_000
"""Bytes of a summary: what still fits a signed report of 64 KiB. Beyond it the rows are left out, the counts stay."""


async def summary(store: Store) -> JsonObject:
    """Sum up the servers below: `{"shadows": counts, "roster": rows}`, in the shape of the status."""
    async with store.reading() as tx:
        listed = await members.members(tx)
        current = await issued.current(tx)
    version, content = (None, None) if current is None else (str(current.version), current.hash)
    rows = [_row(member, version, content) for member in listed]
    counts: dict[str, JsonValue] = {"total": len(rows)}
    for row in rows:
        state = str(row["state"])
        counts[state] = cast("int", counts.get(state, 0)) + 1
    whole: JsonObject = {"shadows": counts, "roster": list(rows)}
    return whole if len(json.dumps(whole)) <= SIZE_LIMIT else {"shadows": counts, "roster": []}


def count(listed: Sequence[Member]) -> int:
    """Count the servers below, those below other relays included."""
    return sum(1 + _below(member) for member in listed)


def _below(member: Member) -> int:
    subtree = None if member.report is None else member.report.get("subtree")
    shadows = subtree.get("shadows") if isinstance(subtree, dict) else None
    total = shadows.get("total") if isinstance(shadows, dict) else None
    return total if isinstance(total, int) else 0


def _row(member: Member, version: str | None, content: str | None) -> JsonObject:
    """One server below, as the top's status shows it; what is below that one comes along."""
    report = member.report or {}
    current = None if version is None else view.Held(version, content)
    state = view.row_state(
        None if member.report is None else read_word(State, report.get("state"), State.UNKNOWN),
        _held(report.get("floor")),
        _held(report),
        confirmed=member.seen.confirmed,
        current=current,
    )
    row: JsonObject = {
        "id": member.id,
        "name": member.name,
        "kind": member.kind,
        "state": state,
        "version": report.get("version"),
        "connected": member.online,
    }
    return row if report.get("subtree") is None else {**row, "downlink": report["subtree"]}


def _held(said: JsonValue) -> view.Held | None:
    if not isinstance(said, dict) or said.get("version") is None:
        return None
    return view.Held(str(said["version"]), str(said["hash"]))
