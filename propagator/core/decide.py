"""The decision (DESIGN §3): what a shadow does with a record that it was offered.

Ten rules; the first that applies wins. Facts in, a value out: nothing is stored or sent here.

The *floor* is the highest record ever accepted from this lead under its identity key. It outlives the record in force
(which may be the device's own again after `detach --restore`), so an old record stays old.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from propagator.core import signing
from propagator.core.errors import Unreadable
from propagator.core.record import Record, read
from propagator.core.signing import Authority, Envelope, open_envelope
from propagator.core.state import Reason, State
from propagator.core.version import Order, Version
from propagator.core.wire import Typ, path_of

Path: TypeAlias = "tuple[tuple[str, str], ...]"


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom this server follows, by its invitation: the lead's id, its pinned identity key, the lowest seq it takes.

    `lowest` is the version its token was written at; `own_identity` this server's own identity key, if it leads too.
    """

    lead: str
    identity: str
    seq: int
    lowest: Version | None = None
    own_identity: str | None = None


@dataclass(frozen=True, slots=True)
class Floor:
    """The highest record accepted from this lead. `registered`: one of its records once carried a registration."""

    version: Version
    hash: str
    path: Path
    registered: bool


@dataclass(frozen=True, slots=True)
class InForce:
    """The local record: the signed bytes it came in (None: it is this server's own), the hash of what is stored."""

    raw: bytes | None
    hash: str


@dataclass(frozen=True, slots=True)
class Overwrite:
    """Take this record over, and raise the floor to it, in one transaction."""

    record: Record
    floor: Floor


@dataclass(frozen=True, slots=True)
class Keep:
    """The record in force is this very one."""

    record: Record


@dataclass(frozen=True, slots=True)
class RaiseFloor:
    """The lead has no registration: keep ours, remember the version, and say which state that is."""

    floor: Floor
    state: State


@dataclass(frozen=True, slots=True)
class Refuse:
    """Change nothing, for this reason. `verified`: it is this lead's own word, so the state may show it (rules 4-7)."""

    reason: Reason
    text: str
    verified: bool = False


Decision: TypeAlias = Overwrite | Keep | RaiseFloor | Refuse


def decide(floor: Floor | None, in_force: InForce, offer: Envelope | Unreadable, trust: Trust) -> Decision:
    """Decide on an offered record. The numbers are those of DESIGN §3."""
    if isinstance(offer, Unreadable):  # 1
        return Refuse(Reason.UNREADABLE, f"It is {offer.detail}.")
    if offer.typ != Typ.RECORD:
        return Refuse(Reason.UNREADABLE, "It is a signed document, but no record.")
    if offer.lead != trust.lead:  # 2
        return Refuse(Reason.WRONG_LEAD, f"It names the lead {offer.lead!r}; this server follows {trust.lead!r}.")
    authority = signing.authority(offer)
    if (stranger := judge(authority, trust)) is not None:  # 3
        return stranger
    record = read(Record, offer.payload)
    if isinstance(record, Unreadable):  # 4
        return Refuse(
            Reason.UNREADABLE, f"It is signed by the lead, but does not parse: {record.detail}.", verified=True
        )
    if _speaks_for_another(record, authority):
        return Refuse(Reason.BAD_SIGNATURE, "Its version, lead or path is not that of the key that signed it.")
    return _weigh(floor, in_force, record, trust)


def judge(authority: Authority | None, trust: Trust) -> Refuse | None:
    """Hold a lead's signature to the pinned identity key (rule 3); None if it stands. Heartbeats are judged alike."""
    if authority is None:
        return Refuse(Reason.BAD_SIGNATURE, "Its signature or its delegation does not verify.")
    if authority.identity != trust.identity:
        return Refuse(
            Reason.SECOND_LEAD,
            f"It is signed under another identity key ({authority.identity[:12]}…) in the name of {trust.lead!r}.",
        )
    if authority.seq < trust.seq:
        return Refuse(
            Reason.REVOKED_KEY, f"It is signed by delegation {authority.seq}; {trust.seq} has already replaced that."
        )
    return None


def _speaks_for_another(record: Record, authority: Authority | None) -> bool:
    """Rule 3 on what only the payload says: its lead, seq and last hop must be those that signed."""
    last = record.path[-1]
    return authority != Authority(record.lead, last.identity, record.version.seq)


def _weigh(floor: Floor | None, in_force: InForce, record: Record, trust: Trust) -> Decision:
    path = path_of(record.path)
    if trust.own_identity is not None and any(identity == trust.own_identity for _, identity in path):  # 5
        return Refuse(Reason.LOOP, "It came through this very server: the tiers form a circle.", verified=True)
    if (newer := _known_above(record.version, floor, trust)) is not None:  # 6
        return Refuse(Reason.ROLLBACK, f"It is version {record.version}; {newer} came before.", verified=True)
    order = None if floor is None else record.version.compared_to(floor.version)
    other = floor is not None and (record.hash, path) != (floor.hash, floor.path)
    if order is Order.FORKED or (order is Order.EQUAL and other):  # 7
        return Refuse(Reason.FORK, f"It is version {record.version}, but not the one that came first.", verified=True)
    if order is Order.EQUAL and _holds(in_force, record, trust):  # 8
        return Keep(record)
    registered = floor is not None and floor.registered
    if record.registration is None:  # 9
        state = State.WITHDRAWN if registered else State.LEAD_UNREGISTERED
        return RaiseFloor(Floor(record.version, record.hash, path, registered), state)
    return Overwrite(record, Floor(record.version, record.hash, path, registered=True))  # 10


def _known_above(version: Version, floor: Floor | None, trust: Trust) -> Version | None:
    """Give the version known to be newer: the floor, or what the token was written at (a later token knows more)."""
    known = (None if floor is None else floor.version, trust.lowest)
    return next((least for least in known if least is not None and version.compared_to(least) is Order.LOWER), None)


def _holds(in_force: InForce, record: Record, trust: Trust) -> bool:
    """Whether the record in force is this very one and its stored bytes still verify (a bit may have flipped, F35)."""
    if in_force.raw is None or in_force.hash != record.hash:
        return False
    stored = open_envelope(in_force.raw)
    if isinstance(stored, Unreadable) or judge(signing.authority(stored), trust) is not None:
        return False
    held = read(Record, stored.payload)
    return held == record
