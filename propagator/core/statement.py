"""The statement: what a Registration Portal signs for one System ID (DESIGN §7). A Registration code carries one.

A signed document as all others are (`core.signing`), under the portal's own key, which a server knows by its
thumbprint. `seal` is the portal's half. `read` is the server's: facts in, a value out, and the first rule that is
broken says why; nothing of a statement is looked at before its signature holds and its key is trusted.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Field, StrictStr

from propagator.core import moment, record, signing
from propagator.core.errors import Unreadable
from propagator.core.record import Document, Moment, Number, RegistrationDocument, SystemId
from propagator.core.signing import PrivateKey, open_envelope

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Collection

TYP: Final = "statement"
REALM: Final = "portal"
"""What the header names in place of a lead: a statement is none of any lead's documents."""

PORTAL: Final = "portal"
"""The id of a portal that nobody gave another one."""

Serial = Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9_-]{22}$")]
SystemNumber = Annotated[StrictStr, Field(pattern=r"^[A-Z0-9][A-Z0-9-]{0,31}$")]


class Statement(Document):
    """What a portal says of one System ID. `registration` null: it was withdrawn.

    `system` is the portal's number of the registered system, which outlives the System ID; `edition` rises with every
    change of it; `replaces` is the System ID that held this registration before. `expires_at` null: it was asked for
    online, and does not wait to be typed.
    """

    system_id: SystemId
    system: SystemNumber
    edition: Number
    serial: Serial
    issued_at: Moment
    expires_at: Moment | None
    replaces: SystemId | None
    registration: RegistrationDocument


class StatementReason(StrEnum):
    """Why a statement was refused, in the order of the rules."""

    UNREADABLE = "unreadable"
    TAMPERED = "tampered"
    UNKNOWN_PORTAL = "unknown_portal"
    OTHER_SYSTEM = "other_system"
    EXPIRED = "expired"
    ALREADY_USED = "already_used"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a statement does not count here, and the one thing to try. `kid` and `portal`: who signed, where it holds."""

    reason: StatementReason
    text: str
    hint: str
    kid: str | None = None
    portal: str | None = None


@dataclass(frozen=True, slots=True)
class Proven:
    """A statement that counts here: its signed bytes, the thumbprint of the key that signed, the id of the portal."""

    statement: Statement
    raw: bytes
    key: str
    portal: str


@dataclass(frozen=True, slots=True)
class Standing:
    """What a server knows, and a statement is held against.

    `trusted` are the thumbprints of the portals that it trusts, `used` the serials that were taken here before; `key`,
    `system` and `edition` are of the statement in force, None where there is none.
    """

    system_id: str
    now: dt.datetime
    trusted: Collection[str]
    used: Collection[str] = ()
    key: str | None = None
    system: str | None = None
    edition: int | None = None


def grouped(thumbprint: str) -> str:
    """Write a thumbprint for people to compare: in groups of five."""
    return " ".join(thumbprint[start : start + _GROUP] for start in range(0, len(thumbprint), _GROUP))


_GROUP: Final = 5


def seal(statement: Statement, key: PrivateKey, *, portal: str = PORTAL) -> bytes:
    """Sign a statement as the portal of this id."""
    return signing.seal(TYP, statement, key, lead=REALM, sender=portal)


def read(raw: bytes, standing: Standing) -> Proven | Refusal:
    """Read a statement that came to this server; the first rule that it breaks is the reason why it is refused."""
    offer = open_envelope(raw)
    if isinstance(offer, Unreadable):  # 1
        return Refusal(StatementReason.UNREADABLE, f"It is no statement of a portal: {offer.detail}.", _AGAIN)
    if (offer.typ, offer.lead) != (TYP, REALM):
        return Refusal(StatementReason.UNREADABLE, "It is a signed document, but no statement of a portal.", _AGAIN)
    if not offer.verified:  # 2
        return Refusal(StatementReason.TAMPERED, "It was changed after the portal signed it.", _AGAIN)
    if offer.kid not in standing.trusted:  # 3
        text = f"It was signed by a portal that this server does not know: {offer.sender}, key {grouped(offer.kid)}."
        return Refusal(StatementReason.UNKNOWN_PORTAL, text, _TRUST, kid=offer.kid, portal=offer.sender)
    statement = record.read(Statement, offer.payload)
    if isinstance(statement, Unreadable):
        text = f"This program does not understand what the portal signed: {statement.detail}."
        return Refusal(StatementReason.UNREADABLE, text, _UPDATE, kid=offer.kid, portal=offer.sender)
    return _judged(Proven(statement, raw, offer.kid, offer.sender), standing)


def _judged(proven: Proven, standing: Standing) -> Proven | Refusal:
    said = proven.statement
    if said.system_id != standing.system_id:  # 4
        return _refusal(proven, StatementReason.OTHER_SYSTEM, _other(said.system_id, standing.system_id), _FOR_THIS)
    if said.expires_at is not None and moment.read(said.expires_at) <= standing.now:  # 5
        text = f"It expired at {said.expires_at}; the clock here says {moment.write(standing.now)}."
        return _refusal(proven, StatementReason.EXPIRED, text, _NEW)
    if said.serial in standing.used:  # 6
        return _refusal(proven, StatementReason.ALREADY_USED, "It was used here before.", _NEW)
    if (proven.key, said.system) == (standing.key, standing.system) and said.edition < (standing.edition or 0):  # 7
        text = f"It is edition {said.edition} of {said.system}; edition {standing.edition} is in force here."
        return _refusal(proven, StatementReason.SUPERSEDED, text, _NEW)
    return proven


def _refusal(proven: Proven, reason: StatementReason, text: str, hint: str) -> Refusal:
    return Refusal(reason, text, hint, kid=proven.key, portal=proven.portal)


def _other(named: str, own: str) -> str:
    """Name both System IDs; they compare byte for byte (R6), so say what the eye passes over."""
    text = f"It is for the System ID {named}; this server's is {own}."
    return f"{text} The two differ in case only, and case counts." if named.lower() == own.lower() else text


_AGAIN: Final = "get it from the portal again, and copy the whole of it"
_TRUST: Final = "compare the key with the one that the portal shows, then add --portal-key with it"
_UPDATE: Final = "bring this server to the version of the portal"
_FOR_THIS: Final = "propagator status shows the System ID; let the portal make one for it"
_NEW: Final = "let the portal make a new one"
