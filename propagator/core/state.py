"""The words for how a shadow stands, and why a record was refused (DESIGN §3, §4). They are part of the JSON."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, TypeVar

W = TypeVar("W", bound=StrEnum)

STALE_PERIODS: Final = 3
"""A lead that is not heard for three heartbeat periods is stale; the record stays in force."""


def read_word(words: type[W], said: object, otherwise: W) -> W:
    """Give the word that was said; `otherwise` where it is none of these, as a newer program may say."""
    return words(said) if isinstance(said, str) and said in set(words) else otherwise


class State(StrEnum):
    """How a shadow stands to its lead."""

    IN_SYNC = "in_sync"
    BEHIND = "behind"
    REFUSED = "refused"
    STALE = "stale"
    LEAD_UNREGISTERED = "lead_unregistered"
    LEAD_LOST = "lead_lost"
    WITHDRAWN = "withdrawn"
    UNREACHABLE = "unreachable"
    UNCONFIRMED = "unconfirmed"
    UNKNOWN = "unknown"
    DETACHED = "detached"
    UNATTACHED = "unattached"


class Reason(StrEnum):
    """Why an offered record was refused: the rules 1 to 7 of DESIGN §3."""

    UNREADABLE = "unreadable"
    WRONG_LEAD = "wrong_lead"
    SECOND_LEAD = "second_lead"
    REVOKED_KEY = "revoked_key"
    BAD_SIGNATURE = "bad_signature"
    LOOP = "loop"
    ROLLBACK = "rollback"
    FORK = "fork"


class DownlinkState(StrEnum):
    """How a lead stands to its own publishing."""

    OK = "ok"
    PAUSED = "paused"
    LOST = "lost"
    SECOND_LEAD = "second_lead"
    UNATTACHED = "unattached"


class Origin(StrEnum):
    """Where the record in force came from."""

    OWN = "own"
    LEAD = "lead"
    CODE = "code"
    PORTAL = "portal"
    FIELD = "field"


class Event(StrEnum):
    """What a line of the history says happened to the record."""

    REGISTERED = "registered"
    OVERWRITTEN = "overwritten"
    ATTACHED = "attached"
    DETACHED = "detached"
    RESTORED = "restored"
    UNDONE = "undone"
    WITHDRAWN = "withdrawn"
    QUARANTINED = "quarantined"
    ADOPTED = "adopted"
    OVERRULED = "overruled"
    ASSOCIATED = "associated"
    ROTATED = "rotated"
