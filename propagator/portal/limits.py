"""How often somebody may try: a bucket for each kind of try and each key (an address, an e-mail address, an account).

Kept in memory: a restart forgives, and the lock-out of an account, which lasts, is in the database. Bounded: of more
keys than `_KEYS` the fullest buckets are forgotten first, which are those that matter least.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from enum import Enum, auto
from ipaddress import IPv4Address, ip_address
from typing import TYPE_CHECKING, Final

from propagator.portal.errors import TooMany

if TYPE_CHECKING:
    from collections.abc import Callable

_KEYS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Rate:
    """`burst` tries at once, and one more every `every_s` seconds."""

    burst: int
    every_s: float


class Try(Enum):
    """What is tried."""

    LOG_ON_ADDRESS = auto()
    LOG_ON_ACCOUNT = auto()
    FORGOTTEN_ADDRESS = auto()
    FORGOTTEN_ACCOUNT = auto()
    LINK = auto()
    USER_CODE = auto()
    DEVICE_AUTHORIZATION = auto()
    TOKEN = auto()
    REGISTRATION = auto()
    INVITE = auto()


_RATES: Final = {
    Try.LOG_ON_ADDRESS: Rate(30, 4),
    Try.LOG_ON_ACCOUNT: Rate(10, 30),
    Try.FORGOTTEN_ADDRESS: Rate(10, 60),
    Try.FORGOTTEN_ACCOUNT: Rate(3, 600),  # each is a mail to somebody who may not have asked for it
    Try.LINK: Rate(30, 4),
    Try.USER_CODE: Rate(10, 30),  # RFC 8628 §5.1: the code is short, so guesses are few
    Try.DEVICE_AUTHORIZATION: Rate(30, 4),
    Try.TOKEN: Rate(240, 0.25),
    Try.REGISTRATION: Rate(600, 0.1),
    Try.INVITE: Rate(30, 60),
}


class Limits:
    """The buckets. `monotonic` is the clock they fill by; `scale` widens them all (for measurements)."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, *, scale: float = 1.0) -> None:
        self._monotonic = monotonic
        self._scale = scale
        self._full_at: dict[tuple[Try, str], float] = {}

    def hold(self, what: Try, key: str) -> None:
        """Count one try. Raises TooMany if there were too many."""
        rate = _RATES[what]
        every_s, capacity_s = rate.every_s / self._scale, rate.burst * rate.every_s
        now, bucket = self._monotonic(), (what, _whose(key))
        full_at = max(self._full_at.get(bucket, now), now) + every_s
        if full_at - now > capacity_s:
            wait_s = math.ceil(full_at - now - capacity_s)
            raise TooMany("Too many tries.", retry_after_s=max(1, wait_s), hint=f"wait {max(1, wait_s)} seconds")
        if len(self._full_at) >= _KEYS:
            self._forget(now)
        self._full_at[bucket] = full_at

    def give_back(self, what: Try, key: str) -> None:
        """Take one try back, which was right: who knows what they enter is never held up."""
        bucket = (what, _whose(key))
        if (full_at := self._full_at.get(bucket)) is not None:
            self._full_at[bucket] = full_at - _RATES[what].every_s / self._scale

    def _forget(self, now: float) -> None:
        """Forget the buckets that are full again; if all are in use, the half that is nearest to it."""
        kept = sorted((item for item in self._full_at.items() if item[1] > now), key=lambda item: item[1])
        self._full_at = dict(kept[len(kept) // 2 if len(kept) >= _KEYS else 0 :])


def _whose(key: str) -> str:
    """Take an IPv6 address for its /64, within which whoever has one address has them all; other keys as they are."""
    try:
        address = ip_address(key)
    except ValueError:
        return key
    if isinstance(address, IPv4Address) or address.ipv4_mapped is not None:
        return key
    return address.packed[:8].hex()
