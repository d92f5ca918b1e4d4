"""The roster fold (DESIGN §4): what a lead makes of a shadow's report.

A report counts if it comes after the last one, or if it echoes the nonce of the lead's outstanding request: then it is
accepted whatever its session and counter, because a restored image of a shadow began to count anew. Everything else
is a replay, a clone, or not confirmed yet, and moves nothing (F10).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from propagator.core.session import Mark, Session


@dataclass(frozen=True, slots=True)
class Seen:
    """How far a shadow's words were followed.

    `mark` None: nothing is known of this shadow's order (the roster was lost). `confirmed`: the last report is fresh.
    `superseded` is the session that a confirmed report replaced; `cloned`: two machines answer as this shadow.
    """

    mark: Mark | None
    confirmed: bool
    superseded: Session | None = None
    cloned: bool = False


class Ignored(StrEnum):
    """Why a report moved nothing.

    `doubted`: it is from a lower session, so a replay or a restored image. Only a request tells: the lead asks.
    """

    REPLAY = "replay"
    DOUBTED = "doubted"


Folded: TypeAlias = Seen | Ignored


def fold(seen: Seen, mark: Mark, nonce: str | None, outstanding: str | None) -> Folded:
    """Fold one verified report into what was seen. `outstanding` is the nonce of the request still open, if any."""
    if nonce is not None and nonce == outstanding:
        return _confirmed(seen, mark)
    if seen.mark is None:
        return Seen(mark, confirmed=False)
    if mark.is_clone_of(seen.mark):
        return Seen(seen.mark, seen.confirmed, seen.superseded, cloned=True)
    if mark.is_after(seen.mark):
        return Seen(mark, seen.confirmed, _replaced(seen, mark), seen.cloned)
    if mark.session == seen.mark.session:
        return Ignored.REPLAY
    return Ignored.DOUBTED


def _confirmed(seen: Seen, mark: Mark) -> Seen:
    """A fresh answer. From a session that was already replaced, it proves a second machine (F18)."""
    cloned = seen.cloned or mark.is_clone_of(seen.mark) or mark.session == seen.superseded
    return Seen(mark, confirmed=True, superseded=_replaced(seen, mark), cloned=cloned)


def _replaced(seen: Seen, mark: Mark) -> Session | None:
    if seen.mark is None or seen.mark.session == mark.session:
        return seen.superseded
    return seen.mark.session
