"""How far a shadow that is not connected gets: what was tracked of its address, and what that does not say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from propagator.core.conntrack import Flow, Handshake
from propagator.core.diagnosis.seen import HalfOpen, LeadSide
from propagator.diagnose.missing import Missing, addresses_of, followed, placed

ONE = Missing("as-1", "Plant room", None, None, ("10.1.0.2", "10.1.0.7"))
CAME = Flow(8883, "10.1.0.2", Handshake.UNANSWERED, 12)
OTHERS = Flow(8883, "10.1.0.9", Handshake.COMPLETE, 1)
READ = LeadSide(8883, ("::",), flows=(CAME, OTHERS), flows_unread="")


@pytest.mark.parametrize(
    ("handshake", "told"),
    [
        (Handshake.UNANSWERED, "a first packet of its address came in 12 s ago and was not answered"),
        (Handshake.ANSWERED, "a first packet of its address was answered here 12 s ago, and nothing followed"),
        (Handshake.COMPLETE, "a connection of its address stood here 12 s ago"),
    ],
)
def test_what_was_tracked_of_its_address_is_told(handshake: Handshake, told: str) -> None:
    (row,) = followed((ONE,), replace(READ, flows=(replace(CAME, handshake=handshake), OTHERS)))
    assert (row.told, row.is_absent) == (told, False)


@pytest.mark.parametrize(
    ("one", "side", "told"),
    [
        pytest.param(ONE, replace(READ, flows=(OTHERS,)), "no first packet of its address came", id="others came"),
        pytest.param(ONE, replace(READ, flows=()), "", id="the port is not tracked, or nobody came"),
        pytest.param(ONE, replace(READ, flows=(OTHERS,), flows_unread="too many"), "", id="not all was read"),
        pytest.param(replace(ONE, addresses=()), READ, "", id="its address is not known"),
    ],
)
def test_who_is_not_in_the_table_did_not_come_only_where_that_is_sure(one: Missing, side: LeadSide, told: str) -> None:
    (row,) = followed((one,), side)
    assert row.flow is None
    assert row.told.startswith(told)
    assert bool(row.told) == bool(told)


def test_a_half_open_connection_is_newer_than_the_table() -> None:
    watched = replace(READ, half_open=(HalfOpen("10.1.0.7", 2),), flows_unread="not asked for")
    (row,) = followed((ONE,), watched)
    assert row.flow == Flow(8883, "10.1.0.7", Handshake.ANSWERED, 0)


def test_addresses_are_those_that_the_agent_knows() -> None:
    bare = replace(ONE, addresses=())
    assert placed((bare,), {"as-1": ["10.1.0.2"]})[0].addresses == ("10.1.0.2",)
    assert [addresses_of("as-1", known) for known in ({}, {"as-1": None}, {"as-1": "10.1.0.2"})] == [()] * 3
