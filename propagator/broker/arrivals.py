"""Arrivals: from which addresses each account connected last, by what Mosquitto writes.

Law: the line is written once an account has proven itself, and begins in a way that no name can imitate; so strangers
neither fill this nor get into it.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

ACCOUNTS: Final = 10_000
"""Accounts that are remembered; the one that did not come for the longest time is forgotten first."""

ADDRESSES: Final = 2
"""Addresses of one account: two machines that share it take turns."""

_ARRIVED: Final = re.compile(r"New client connected from (\S+):(\d+) as ([A-Za-z0-9][\w.-]{0,127}) \(p", re.ASCII)


class Arrivals:
    """The last addresses of each account, since this program started."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[str, ...]] = {}

    def hear(self, line: str) -> bool:
        """Take a line of the broker's log; says whether an account came in over the network by it."""
        found = _ARRIVED.match(line)
        address = None if found is None else _address(found[1])
        if found is None or address is None:
            return False
        before = self._last.pop(found[3], ())
        self._last[found[3]] = (address, *(other for other in before if other != address))[:ADDRESSES]
        if len(self._last) > ACCOUNTS:
            del self._last[next(iter(self._last))]
        return True

    def of(self, account: str) -> tuple[str, ...]:
        """Give the addresses that an account connected from, the last one first."""
        return self._last.get(account, ())


def _address(text: str) -> str | None:
    """Give the address in its usual form; None for what is none: the lead comes over a Unix socket."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    return str(getattr(found, "ipv4_mapped", None) or found)
