"""What a bus is, whatever carries it: the broker's address and our account, messages, sessions, kinds of failure.

The contract suite (tests/bus) holds every implementation to this, the in-memory bus of the simulation too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Literal, Protocol

from propagator.core.errors import InputError, Problem

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

UNIX: Final = "unix:"
_HOST_PORT: Final = re.compile(r"(?:\[(?P<v6>[^\[\]\s/]+)\]|(?P<host>[^:\[\]\s/]+)):(?P<port>[1-9]\d{0,4})", re.ASCII)
_HIGHEST_PORT: Final = 65535


class BusKind(StrEnum):
    """Why there is no connection: a stable word for logs and findings, ordered by how far the attempt got."""

    DNS = "dns"
    UNREACHABLE = "unreachable"
    REFUSED = "refused"
    TIMEOUT = "timeout"
    MUTE = "mute"  # the connection stands, and nothing answers on it
    CLOSED = "closed"  # hung up before the connection stood; or a session used after it was left
    TLS = "tls"
    PROTOCOL = "protocol"
    NOT_AUTHORISED = "not_authorised"
    LOST = "lost"  # a connection that stood has ended
    OVERFLOW = "overflow"  # ended by us: more messages came in than were taken


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS 1.2 or later.

    `ca_pem` None: the system's trust store. `verify_name` False: for a pinned private CA, whose chain is enough.
    """

    ca_pem: str | None = field(default=None, repr=False)
    verify_name: bool = True


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One broker and our account there. Raises InputError, naming every address that is none.

    `addresses` are `host:port`, `[IPv6]:port` or `unix:/path` (never TLS), tried in order. `identifier` is the user
    name unless given: by it brokers tell a take-over. `protocol` is 3.1.1 unless asked otherwise, because nothing here
    may build on more (DESIGN §4) and every broker speaks it (NATS speaks nothing else); 5 adds the broker's reasons.
    """

    addresses: tuple[str, ...]
    username: str
    password: str = field(repr=False)
    tls: Tls | None = None
    identifier: str = ""
    protocol: Literal["3.1.1", "5"] = "3.1.1"
    keepalive_s: int = 20

    def __post_init__(self) -> None:
        wrong = tuple(
            Problem(f"addresses.{index}", f"{address!r} is no address: host:port, [IPv6]:port or unix:/path")
            for index, address in enumerate(self.addresses)
            if not _is_address(address)
        )
        if wrong or not self.addresses:
            raise InputError(
                "The broker's addresses cannot be used.", wrong or (Problem("addresses", "there is none"),)
            )


def _is_address(address: str) -> bool:
    if address.startswith(UNIX):
        return address.startswith(f"{UNIX}/") and address.isprintable()
    found = _HOST_PORT.fullmatch(address)
    return found is not None and int(found["port"]) <= _HIGHEST_PORT


def split_address(address: str) -> tuple[str, int]:
    """Return host (an IPv6 one without its brackets) and port of an Endpoint's address that is no Unix socket."""
    found = _HOST_PORT.fullmatch(address)
    if found is None:
        raise ValueError(address)
    return found["v6"] or found["host"], int(found["port"])


@dataclass(frozen=True, slots=True)
class Message:
    """What came in. `retained`: the broker had it already when we subscribed."""

    topic: str
    payload: bytes
    retained: bool


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes, retained and with QoS 1, when the connection ends without a goodbye."""

    topic: str
    payload: bytes


@dataclass(slots=True)
class Trace:
    """What crossed one connection, noted as it happens, for a diagnosis; `failure` ended the reading.

    `before_goodbye` is called once all was said but our goodbye.
    """

    first: bytes = b""
    sent: int = 0
    failure: OSError | None = None
    before_goodbye: Callable[[], None] = lambda: None


class Session(Protocol):
    """One connection. Each call has a deadline and raises BusError; once the connection has ended, it does so at once.

    The broker's topic rules refuse in silence on most brokers: build nothing on the absence of an error.
    """

    @property
    def address(self) -> str:
        """The address that answered."""

    async def subscribe(self, *filters: str) -> None:
        """Subscribe with QoS 1; returns when it is granted. Raises BusError not_authorised if the broker says no."""

    async def unsubscribe(self, *filters: str) -> None:
        """End subscriptions; what is on its way may still come."""

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish with QoS 1; returns when the broker has it (PUBACK). Raises ValueError for what is no topic."""

    def messages(self) -> AsyncIterator[Message]:
        """Yield all that comes in, in order, to one reader; after the last raises BusError (lost, overflow, closed)."""


class Bus(Protocol):
    """A broker to connect to, any number of times."""

    def connect(self, will: Will | None = None) -> AbstractAsyncContextManager[Session]:
        """Connect with a clean session. Leaving the block says goodbye, and then the will is not published."""


def full_jitter(attempt: int, rng: random.Random, base_s: float = 0.5, cap_s: float = 60.0) -> float:
    """Return the seconds to wait before attempt `attempt` (from 0): uniform in [0, min(cap_s, base_s * 2**attempt)]."""
    return rng.uniform(0.0, min(cap_s, base_s * 2.0 ** min(attempt, 64)))
