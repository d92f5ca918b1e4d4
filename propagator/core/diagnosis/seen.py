"""What a probe saw of the way to a lead: plain values, no verdict. Times are seconds, addresses text.

`probe` makes them from sockets and /proc, tests make them by hand; `reach` and `talk` judge them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import datetime as dt

    from propagator.core.conntrack import Flow, Table
    from propagator.core.remedy import ChainRef


class Answer(StrEnum):
    """How one try to connect ended."""

    CONNECTED = "connected"
    RESET = "reset"  # a TCP RST
    REJECTED = "rejected"  # an ICMP message other than `time exceeded`, see `Attempt.icmp`
    EXPIRED = "expired"  # ICMP time exceeded: a router of the way said so
    SILENT = "silent"
    NO_ROUTE = "no route"  # the kernel knows no way there
    DENIED = "denied"  # the kernel was told to refuse it


class Icmp(StrEnum):
    """What an ICMP message says, of either IP version."""

    PORT = "port unreachable"
    HOST = "host unreachable"
    NET = "net unreachable"
    PROHIBITED = "prohibited"  # by an administrator: host, net, communication, policy or reject route
    OTHER = "another ICMP error"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to connect. `source` is who sent the ICMP message, `retransmits`: SYNs that were sent again.

    `ttl` is what the ICMP message itself arrived with.
    """

    answer: Answer
    took_s: float = 0.0
    errno: int | None = None
    icmp: Icmp | None = None
    source: str | None = None
    retransmits: int = 0
    ttl: int | None = None


class Neighbour(StrEnum):
    """What the kernel knows of the next station's link address."""

    REACHABLE = "reachable"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Route:
    """The kernel's way to an address: our own source address and its network, and the gateway.

    `gateway` is None if the address is on our own link, and empty where the kernel did not say.
    """

    source: str
    gateway: str | None
    device: str = ""
    network: str = ""

    @property
    def on_link(self) -> bool:
        """Whether no router stands between."""
        return self.gateway is None


@dataclass(frozen=True, slots=True)
class Ladder:
    """Tries with a TTL of 1, 2, 3 and so on. `of` says on what: `port 8883`, `UDP`."""

    of: str
    rungs: tuple[Attempt, ...]

    @property
    def arrival(self) -> int | None:
        """The lowest TTL that reached whoever answers, None if nobody did."""
        for ttl, rung in enumerate(self.rungs, start=1):
            if rung.answer in _ANSWERS:
                return ttl
        return None

    @property
    def last_router(self) -> tuple[int, str] | None:
        """The farthest router that was heard: its hop and its address."""
        routers = [(ttl, rung.source) for ttl, rung in enumerate(self.rungs, start=1) if rung.answer is Answer.EXPIRED]
        heard = [(ttl, source) for ttl, source in routers if source is not None]
        return heard[-1] if heard else None

    def at(self, ttl: int) -> Attempt | None:
        """The try with this TTL."""
        return self.rungs[ttl - 1] if 0 < ttl <= len(self.rungs) else None

    def __str__(self) -> str:
        return " ".join(_rung(rung) for rung in self.rungs)


_ANSWERS: Final = frozenset({Answer.CONNECTED, Answer.RESET, Answer.REJECTED})


def _rung(rung: Attempt) -> str:
    match rung.answer:
        case Answer.EXPIRED:
            return rung.source or "?"
        case Answer.SILENT:
            return "-"
        case Answer.REJECTED:
            return f"{rung.icmp} by {rung.source}"
        case _:
            return rung.answer.value


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a certificate says of itself; nothing of it is believed.

    `fingerprint` is of all of it, `key` of its key alone: whoever shakes hands under it has that key.
    """

    subject: str
    issuer: str
    names: tuple[str, ...]
    not_before: dt.datetime
    not_after: dt.datetime
    fingerprint: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """The last good picture of a path: hops to the lead, routers on the way, the TTL of its answers, its certificate.

    `certificate` was held to the CA that this server knew then. What could not be had is None.
    """

    at: str
    hops: int | None = None
    routers: tuple[str, ...] = ()
    ttl: int | None = None
    certificate: Certificate | None = None


@dataclass(frozen=True, slots=True)
class Address:
    """All that was seen of one address of the lead.

    `tries` are plain connects to the port. The rest is there only where none of them succeeded, or where what answered
    did not do as the lead would: the ladder on the port, the ladder on something else of the same host (`control`),
    single tries at other ports, and our own kernel's counters over a failed try: `unsent` (SYNs that our own output
    dropped), `swallowed` (packets that our own input dropped), `usual` (as many in the second before: not ours).
    `udp_denied`: sending UDP there is refused by our own host. `ttl` and `control_ttl` are the TTL that answers of the
    port and of the control arrive with.
    """

    address: str
    port: int
    route: Route | None
    tries: tuple[Attempt, ...] = ()
    neighbour: Neighbour = Neighbour.UNKNOWN
    target: Ladder | None = None
    control: Ladder | None = None
    others: tuple[tuple[int, Attempt], ...] = ()
    unsent: int = 0
    swallowed: int = 0
    usual: int = 0
    udp_denied: bool = False
    ttl: int | None = None
    control_ttl: int | None = None
    before: Picture | None = None

    @property
    def connected(self) -> bool:
        """Whether any try got through."""
        return any(attempt.answer is Answer.CONNECTED for attempt in self.tries)


class Lookup(StrEnum):
    """How the lookup of a name ended."""

    FOUND = "found"
    NO_SUCH_NAME = "no such name"
    UNAVAILABLE = "unavailable"
    UNUSABLE = "unusable"  # it names nobody: 0.0.0.0, ourselves, a multicast group


@dataclass(frozen=True, slots=True)
class Name:
    """One name of the lead, looked up. `left_out`: addresses that were found and are not tried, with the reason."""

    host: str
    lookup: Lookup
    addresses: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    took_s: float = 0.0


class Stage(StrEnum):
    """The stages of a diagnosis, in their order (issue: resolve to signed heartbeat)."""

    RESOLVE = "resolve"
    ROUTE = "route"
    TCP = "tcp"
    TLS = "tls"
    MQTT = "mqtt"
    AUTHORISED = "authorised"
    RECORD = "record"
    HEARTBEAT = "heartbeat"


class End(StrEnum):
    """How a conversation ended."""

    DONE = "done"
    TIMEOUT = "timeout"
    RESET = "reset"
    CLOSED = "closed"
    TLS = "tls"  # the handshake failed: `verify_code` or `tls_reason`
    REFUSED = "refused"  # CONNACK said no
    NOT_MQTT = "not mqtt"
    SUBSCRIPTION = "subscription"  # SUBACK said no
    NOTHING = "nothing"  # nothing came within the time
    UNTRUSTED = "untrusted"  # something came that the lead did not sign
    UNCHECKED = "unchecked"  # it went well so far, and could not be checked further: `detail`


@dataclass(frozen=True, slots=True)
class Talk:
    """One conversation on a connection that stood, and how far it got. `acked`: bytes of ours that TCP acknowledged.

    `sent`: bytes of ours that are known of, `unacked`: segments of ours that wait for their acknowledgement; `gap`:
    segments that arrived out of order (RFC 9293 says such are acknowledged again and again: a hole in front of them).
    `passed`: the stages that went well, with their seconds.
    """

    stage: Stage
    end: End
    took_s: float = 0.0
    detail: str = ""
    verify_code: int | None = None
    tls_reason: str | None = None
    sent: int = 0
    acked: int = 0
    unacked: int = 0
    gap: int = 0
    passed: tuple[tuple[Stage, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Conversation:
    """The conversation with one address: `first`, and after silence the same with small segments, then as before.

    `other_way`: after a failed handshake, what answers when TLS is left out (or spoken). `idle`: what came of the first
    word after a pause of `idle_s`, with `again` after it.
    """

    first: Talk
    small: Talk | None = None
    again: Talk | None = None
    other_way: bool = False
    certificate: Certificate | None = None
    idle: Talk | None = None
    idle_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Seen:
    """All that one diagnosis saw. `unchecked`: stages from this one on were left out, with the reason."""

    names: tuple[Name, ...]
    addresses: tuple[Address, ...]
    talks: tuple[tuple[str, Conversation], ...] = ()
    unchecked: str | None = None


@dataclass(frozen=True, slots=True)
class Counters:
    """The kernel's counters since its start; `later - earlier` is what happened between.

    `swallowed`: packets that arrived and were neither delivered nor forwarded, IPv4 and IPv6 apart: what netfilter eats
    is among them. `unsent`: segments that our own output refused to send again.
    """

    swallowed: int = 0
    swallowed6: int = 0
    unsent: int = 0
    syn_retrans: int = 0
    out_resets: int = 0
    no_routes: int = 0
    listen_overflows: int = 0
    listen_drops: int = 0
    queue_full: int = 0
    rpfilter: int = 0

    def __sub__(self, earlier: Counters) -> Counters:
        return Counters(*(getattr(self, each.name) - getattr(earlier, each.name) for each in fields(self)))


@dataclass(frozen=True, slots=True)
class HalfOpen:
    """A connection that a peer has begun and not finished; `retransmits`: how often our answer was sent again."""

    peer: str
    retransmits: int


@dataclass(frozen=True, slots=True)
class Filter:
    """What the lead's own rules do to a connection to its port: `outcome` as `core.ruleset` says it, and the rule.

    `tool` is in charge of the rules, `chain` the one that decides, `zone` that of firewalld; `agreed`: the replay of
    the rules in a scratch namespace says the same. `source` is the address that the connection was reckoned from.
    """

    outcome: str
    rule: str = ""
    tool: str = ""
    chain: ChainRef | None = None
    zone: str = ""
    agreed: bool = False
    caveats: tuple[str, ...] = ()
    source: str = ""


@dataclass(frozen=True, slots=True)
class LeadSide:
    """What a lead saw of its own port over a while: listeners, queues, half-open connections, counters.

    `usual` is what the counters do in as long a while by themselves; `unread`: connections that nobody accepted, with
    words in them; `queue`: connections that waited; `wire`: SYNs for the port that arrived at the interface, None where
    that could not be watched. `own` are the host's addresses; `at_cap`: the agent says that its broker is full.
    `conntrack`: the kernel's table of connections, `dropped` over this while; None: there is none, or it is not shown.
    `flows`: who is in it by this port, as far as root read that; `flows_unread`: why that may not be all. `about`:
    addresses, or networks, of the shadows that do not get through; `unrouted`: to which of them there is no route.
    `dialled`: the address that the shadow tried.
    """

    port: int
    listeners: tuple[str, ...]
    own: tuple[str, ...] = ()
    passed: Counters = Counters()
    usual: Counters = Counters()
    half_open: tuple[HalfOpen, ...] = ()
    unread: int = 0
    queue: int = 0
    connected: tuple[str, ...] = ()
    wire: int | None = None
    filter: Filter | None = None
    window_s: float = 0.0
    at_cap: bool = False
    conntrack: Table | None = None
    flows: tuple[Flow, ...] = ()
    flows_unread: str = "not asked for"
    about: tuple[str, ...] = ()
    unrouted: tuple[str, ...] = ()
    dialled: str | None = None

    @property
    def swallowed(self) -> int:
        """Packets that arrived and were not delivered, beyond what is usual.

        Of the family that was `dialled`, else of both: a network that is set up sends multicasts of IPv6 by itself.
        """
        four = max(0, self.passed.swallowed - self.usual.swallowed)
        six = max(0, self.passed.swallowed6 - self.usual.swallowed6)
        if self.dialled is None:
            return four + six
        return six if ":" in self.dialled else four
