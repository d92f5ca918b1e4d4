"""Evidence: what a lead makes of a record of its own that it did not issue last (DESIGN §3, leads that lost something).

A restored backup, a deleted database, a copied machine: the field may know more of this lead than its own store does.
Only bytes that verify under the lead's own identity key at its present seq are evidence. The first that applies wins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from propagator.core import signing, version
from propagator.core.errors import Unreadable
from propagator.core.record import Record, read
from propagator.core.signing import Authority
from propagator.core.version import Order
from propagator.core.wire import Typ

if TYPE_CHECKING:
    from propagator.core.signing import Envelope
    from propagator.core.version import Version


@dataclass(frozen=True, slots=True)
class Ours:
    """What this lead knows of itself. `current` None: it lost its database. `pending`: a change is not issued yet."""

    authority: Authority
    system_id: str
    current: Version | None
    pending: bool


@dataclass(frozen=True, slots=True)
class Adopt:
    """The store was restored from a backup and not touched since: what the field holds is our own later word (F08)."""

    record: Record


@dataclass(frozen=True, slots=True)
class Reissue:
    """Our content stands, in a life above this record's generation; the record itself is a finding (F08, edited)."""

    record: Record


@dataclass(frozen=True, slots=True)
class Strange:
    """A record that nothing may be done about by itself: shown, with the one thing to do. `code` is stable."""

    code: str
    cause: str
    hint: str
    record: Record


Weight: TypeAlias = Adopt | Reissue | Strange | None


def weigh(ours: Ours, offer: Envelope | Unreadable) -> Weight:
    """Weigh a record found in the field. None: it proves nothing new."""
    record = proven(ours.authority, offer)
    if record is None:
        return None
    order = None if ours.current is None else record.version.compared_to(ours.current)
    if order in {Order.LOWER, Order.EQUAL}:
        return None
    if record.version.is_exhausted:
        return Strange(
            "VERSION_EXHAUSTED",
            f"The field holds version {record.version}, above which there is none under this signing key.",
            "propagator rotate",
            record,
        )
    if ours.current is None or record.system_id != ours.system_id:
        return Strange(
            "FIELD_HOLDS_ANOTHER_LIFE",
            f"The field holds version {record.version} of this lead, signed under the System ID {record.system_id}.",
            "propagator associate --from-field",
            record,
        )
    if not ours.pending and version.contains(record.life_list, ours.current):
        return Adopt(record)
    return Reissue(record)


def proven(authority: Authority, offer: Envelope | Unreadable) -> Record | None:
    """Read a record if it is truly this lead's own word at its present seq; None for anything else."""
    if isinstance(offer, Unreadable) or offer.typ != Typ.RECORD or signing.authority(offer) != authority:
        return None
    record = read(Record, offer.payload)
    if isinstance(record, Unreadable):
        return None
    last = record.path[-1]
    return record if Authority(record.lead, last.identity, record.version.seq) == authority else None
