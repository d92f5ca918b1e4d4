"""Carrying by hand: a signed record on a stick to an islanded device, and its report back (DESIGN §6)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from propagator.core import roster
from propagator.core.errors import InputError, StateError, Unreadable
from propagator.core.record import read
from propagator.core.roster import Ignored
from propagator.core.signing import open_envelope
from propagator.core.wire import Report, Typ
from propagator.store import held, issued, members

if TYPE_CHECKING:
    from propagator.store import Store


async def export(store: Store) -> bytes:
    """Give the signed record in force: a lead's current version, or what a shadow took over. Raises StateError."""
    async with store.reading() as tx:
        current = await issued.current(tx)
        local = await held.local(tx)
    raw = local.raw if current is None else current.raw
    if raw is None:
        raise StateError("There is no signed record here.", hint="export it at the lead")
    return raw


def kind(raw: bytes) -> str:
    """Say which document was carried here: its `typ`. Raises InputError for anything that is none."""
    envelope = open_envelope(raw)
    if isinstance(envelope, Unreadable):
        raise InputError(f"This is no signed document of propagator: {envelope.detail}.", hint="propagator export")
    if envelope.typ not in {Typ.RECORD, Typ.REPORT}:
        raise InputError(f"This is a {envelope.typ}; a record or a report can be imported.", hint="propagator export")
    return envelope.typ


async def take_report(store: Store, lead: str, raw: bytes, *, at: str) -> str:
    """Take a shadow's report at its lead, shown `unconfirmed`; gives the shadow's id. Raises InputError."""
    envelope = open_envelope(raw)
    if isinstance(envelope, Unreadable) or not envelope.verified or envelope.lead != lead:
        raise InputError("This report is not signed for this lead.", hint="propagator decode FILE")
    report = read(Report, envelope.payload)
    if isinstance(report, Unreadable):
        raise InputError(f"This report does not parse: {report.detail}", hint="propagator decode FILE")
    async with store.transaction() as tx:
        member = await members.member(tx, envelope.sender)
        if member is None or member.key != envelope.kid:
            raise InputError(f"{envelope.sender!r} is no shadow of this lead.", hint="propagator status")
        folded = roster.fold(member.seen, report.mark, None, None)
        if isinstance(folded, Ignored):
            raise InputError("This report is older than what the lead knows already.", hint="propagator status")
        seen = replace(folded, confirmed=False)
        await members.note_report(tx, member.id, seen, report.model_dump(mode="json"), at)
    return envelope.sender
