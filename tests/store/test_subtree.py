"""What a relay reports of the servers below it, read from its store."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from propagator import subtree
from propagator.core import strict_json
from propagator.core.roster import Seen
from propagator.store import members
from tests.store.contents import AT, LATER, bound

if TYPE_CHECKING:
    from propagator.core.difference import JsonObject
    from propagator.store import Store


def one_below(server: str, below: JsonObject | None = None) -> JsonObject:
    """Give a summary of one server, and of what is below that one."""
    row: JsonObject = {"id": server} if below is None else {"id": server, "downlink": below}
    return {"shadows": {"total": 1}, "roster": [row]}


def tiers(count: int) -> JsonObject:
    """Give a summary of servers one below the other."""
    below = one_below("as-1")
    for number in range(1, count):
        below = one_below(f"es-{number + 1}", below)
    return below


async def reported(store: Store, below: JsonObject) -> JsonObject:
    """Let a relay report what is below it; gives its row in the summary of its lead, which is `es-1`."""
    relay = bound("es-2")
    report: JsonObject = {"state": "in_sync", "name": "ES 2", "kind": "enterprise-server", "subtree": below}
    async with store.transaction() as tx:
        await members.bind(tx, relay, at=LATER)
        await members.note_report(tx, relay.id, Seen(None, confirmed=True), report, AT)
    (row,) = (await subtree.summary(store))["roster"]  # type: ignore[misc, str-unpack]
    assert isinstance(row, dict)
    return row


@pytest.mark.parametrize("count", [1, 2, 5])
async def test_what_is_below_a_relay_comes_along(lead_store: Store, count: int) -> None:
    assert (await reported(lead_store, tiers(count)))["downlink"] == tiers(count)


async def test_f17_a_row_that_leads_back_here_brings_nothing_along(lead_store: Store) -> None:
    """Else each report of a circle held the last one of the other relay, until no reader took it."""
    assert "downlink" not in await reported(lead_store, one_below("es-3", one_below("es-1")))


async def test_f41_a_report_that_is_passed_on_can_still_be_read(lead_store: Store) -> None:
    """A device may nest its own report as deeply as a reader takes: its relay's report is read all the same."""
    row = await reported(lead_store, tiers(10))
    report: JsonObject = {"subtree": await subtree.summary(lead_store)}
    strict_json.loads(json.dumps(report).encode())
    assert "downlink" not in row
