"""Where accounts connected from: what of the broker's log is believed, and what is remembered of it."""

from __future__ import annotations

import pytest

from propagator.broker import arrivals
from propagator.broker.arrivals import Arrivals


def _came(device: str, address: str) -> str:
    return f"New client connected from {address}:37786 as {device} (p5, c1, k60, u'{device}')."


def test_the_last_two_addresses_of_an_account_are_remembered_the_last_one_first() -> None:
    known = Arrivals()
    for address in ("10.1.0.1", "10.1.0.2", "10.1.0.3", "10.1.0.2"):
        assert known.hear(_came("as-1", address))
    assert known.of("as-1") == ("10.1.0.2", "10.1.0.3")
    assert known.of("as-2") == ()


@pytest.mark.parametrize(
    ("told", "address"),
    [("::1", "::1"), ("fd00::2", "fd00::2"), ("::ffff:10.1.0.2", "10.1.0.2"), ("10.1.0.2", "10.1.0.2")],
)
def test_an_address_is_told_in_its_usual_form(told: str, address: str) -> None:
    known = Arrivals()
    assert known.hear(_came("as-1", told))
    assert known.of("as-1") == (address,)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(_came("es-1", "broker.sock"), id="the lead, over its socket"),
        pytest.param("New connection from 10.1.0.2:37786 on port 8883.", id="not proven yet"),
        pytest.param(f"Client {_came('as-1', '10.1.0.2')} disconnected, not authorised.", id="a name that imitates it"),
        pytest.param("", id="nothing"),
    ],
)
def test_what_is_no_arrival_of_a_device_is_not_remembered(line: str) -> None:
    known = Arrivals()
    assert not known.hear(line)
    assert known.of("as-1") == known.of("es-1") == ()


def test_memory_is_bounded_and_keeps_who_came_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "ACCOUNTS", 2)
    known = Arrivals()
    for device in ("as-1", "as-2", "as-1", "as-3"):
        known.hear(_came(device, "10.1.0.2"))
    assert [known.of(device) for device in ("as-1", "as-2", "as-3")] == [("10.1.0.2",), (), ("10.1.0.2",)]
