"""What a lead says beside its record: held to the same rules, and in the order of its heartbeats."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from propagator.core import signing
from propagator.core.decide import Refuse, judge
from propagator.core.errors import Unreadable
from propagator.core.record import Document, read
from propagator.core.signing import open_envelope
from propagator.core.state import Reason
from propagator.core.wire import Answer, Membership, Typ

if TYPE_CHECKING:
    from propagator.core.decide import Trust
    from propagator.core.session import Mark
    from propagator.core.signing import Envelope

_Word = TypeVar("_Word", bound=Document)


def lead_word(envelope: Envelope | Unreadable, trust: Trust, typ: Typ, kind: type[_Word]) -> _Word | Refuse:
    """Hold a document of the lead to rules 1 to 4, as `decide` holds a record."""
    if isinstance(envelope, Unreadable):
        return Refuse(Reason.UNREADABLE, f"A {typ} is {envelope.detail}.")
    if envelope.typ != typ:
        return Refuse(Reason.UNREADABLE, f"A signed document, but no {typ}.")
    if envelope.lead != trust.lead:
        return Refuse(Reason.WRONG_LEAD, f"A {typ} names the lead {envelope.lead!r}.")
    if (stranger := judge(signing.authority(envelope), trust)) is not None:
        return stranger
    word = read(kind, envelope.payload)
    return Refuse(Reason.UNREADABLE, f"A {typ} does not parse: {word.detail}") if isinstance(word, Unreadable) else word


def seq_of(envelope: Envelope | Unreadable) -> int:
    """Give the seq of the delegation under which a document was signed; 0 if it does not verify."""
    authority = None if isinstance(envelope, Unreadable) else signing.authority(envelope)
    return 0 if authority is None else authority.seq


def is_later(seq: int, mark: Mark, last: tuple[int, Mark]) -> bool:
    """Heartbeats are ordered by delegation, then by session and counter."""
    return seq > last[0] or (seq == last[0] and mark.is_after(last[1]))


def heartbeats_in(answer: Envelope | Unreadable) -> tuple[str, ...]:
    """Give the heartbeats that a shadow sends back. Each is judged by its own signature, whoever brings it."""
    if isinstance(answer, Unreadable) or answer.typ != Typ.ANSWER:
        return ()
    word = read(Answer, answer.payload)
    return () if isinstance(word, Unreadable) else word.heartbeats


def binds(written: str, trust: Trust, *, device: str, key: str) -> bool:
    """Say whether a membership is this lead's word that this very device key belongs to it."""
    word = lead_word(open_envelope(written.encode()), trust, Typ.MEMBERSHIP, Membership)
    return not isinstance(word, Refuse) and (word.device, word.key) == (device, key)
