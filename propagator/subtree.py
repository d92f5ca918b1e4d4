"""What stands below a relay, summed up for its report: counts, and one short row a server (DESIGN §1)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, cast

from propagator.core import view
from propagator.core.state import State, read_word
from propagator.core.strict_json import DEPTH_LIMIT
from propagator.store import held, issued, members

if TYPE_CHECKING:
    from collections.abc import Sequence

    from propagator.core.difference import JsonObject, JsonValue
    from propagator.store import Store
    from propagator.store.members import Member

SIZE_LIMIT: Final = 40_000
"""Bytes of a summary: what still fits a signed report of 64 KiB. Beyond it the rows are left out, the counts stay."""

_LEVELS: Final = DEPTH_LIMIT - 4
"""Nesting of what one row brings along: what still can be read in a report, with the report's own levels around it."""


async def summary(store: Store) -> JsonObject:
    """Sum up the servers below: `{"shadows": counts, "roster": rows}`, in the shape of the status."""
    async with store.reading() as tx:
        own = (await held.server(tx)).id
        listed = await members.members(tx)
        current = await issued.current(tx)
    version, content = (None, None) if current is None else (str(current.version), current.hash)
    rows = [_row(member, version, content, own) for member in listed]
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


def _row(member: Member, version: str | None, content: str | None, own: str) -> JsonObject:
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
    below = report.get("subtree")
    return row if below is None or _levels(below) > _LEVELS or _names(below, own) else {**row, "downlink": below}


def _levels(value: JsonValue) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(_levels, inner), default=0)


def _names(value: JsonValue, own: str) -> bool:
    """Whether a row leads back here: the tiers form a circle, and its reports would grow with each round (F17)."""
    if isinstance(value, dict):
        return value.get("id") == own or any(_names(inner, own) for inner in value.values())
    return isinstance(value, list) and any(_names(inner, own) for inner in value)


def _held(said: JsonValue) -> view.Held | None:
    if not isinstance(said, dict) or said.get("version") is None:
        return None
    return view.Held(str(said["version"]), str(said["hash"]))
