"""Whose tries are counted together."""

from __future__ import annotations

import pytest

from propagator.portal.errors import TooMany
from propagator.portal.limits import Limits, Try


def _together(one: str, other: str) -> bool:
    """Say whether what the one uses up is the other's as well, and what it gives back, too."""
    limits = Limits(lambda: 0.0)
    for _ in range(3):
        limits.hold(Try.FORGOTTEN_ACCOUNT, one)
    try:
        limits.hold(Try.FORGOTTEN_ACCOUNT, other)
    except TooMany:
        limits.give_back(Try.FORGOTTEN_ACCOUNT, other)
        limits.hold(Try.FORGOTTEN_ACCOUNT, one)
        return True
    return False


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        pytest.param("2001:db8:0:1::7", "2001:db8:0:1:ffff::9", True, id="one network of IPv6"),
        pytest.param("2001:db8:0:1::7", "2001:db8:0:2::7", False, id="two networks of IPv6"),
        pytest.param("192.0.2.7", "192.0.2.7", True, id="one address"),
        pytest.param("192.0.2.7", "192.0.2.8", False, id="neighbours of IPv4"),
        pytest.param("::ffff:192.0.2.7", "::ffff:192.0.2.8", False, id="neighbours of IPv4 at a socket of IPv6"),
        pytest.param("1", "2", False, id="accounts"),
    ],
)
def test_tries_are_counted_for_an_address_or_for_a_network_of_ipv6(one: str, other: str, *, together: bool) -> None:
    assert _together(one, other) is together
