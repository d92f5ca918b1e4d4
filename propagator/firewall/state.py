"""The captured filter, read back without privileges; believed only if root wrote it, and only while it is fresh."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from propagator.core.ruleset import Listing, Source
from propagator.firewall.conntrack import NOT_CAPTURED, Flows
from propagator.firewall.conntrack import read as read_flows
from propagator.firewall.listing import SCHEMA, STATE_FILE
from propagator.firewall.tool import OUTPUT_LIMIT

if TYPE_CHECKING:
    from pathlib import Path

    from propagator.core.difference import JsonValue

FRESH_S: Final = 300.0
"""Rules are changed by hand while one looks: older ones are asked for again."""

SKEW_S: Final = 60.0
"""How far ahead the time of a capture may be, after the clock was set back."""

SIZE_LIMIT: Final = 7 * OUTPUT_LIMIT


class Reason(StrEnum):
    """Why there is no captured filter to judge."""

    NEVER_TAKEN = "never_taken"
    TOO_OLD = "too_old"
    NOT_TRUSTED = "not_trusted"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class FirewallState:
    """What the helper captured. `taken_s` is unix time."""

    listing: Listing
    interfaces: tuple[str, ...]
    ufw_enabled: bool | None
    taken_at: str
    taken_s: float
    flows: Flows = NOT_CAPTURED


@dataclass(frozen=True, slots=True)
class NotRead:
    """A value: there is nothing to judge, why, and what to do about it."""

    reason: Reason
    text: str
    hint: str = "As root: systemctl start propagator-fwstate"


def read(now_s: float, path: Path = STATE_FILE, *, fresh_s: float = FRESH_S, owner: int = 0) -> FirewallState | NotRead:
    """Read what the helper wrote. `now_s` is unix time, `owner` the user who must have written it (root)."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return NotRead(Reason.NEVER_TAKEN, f"{path} is not there: this server's own rules were not captured.")
    except OSError as exc:
        hint = "Run this as root, or as a member of the group propagator."
        return NotRead(Reason.UNREADABLE, f"{path} cannot be read: {exc.strerror}.", hint)
    with os.fdopen(descriptor, "rb") as file:
        told = os.fstat(descriptor)
        if not stat.S_ISREG(told.st_mode) or told.st_uid != owner or told.st_mode & 0o022:
            return NotRead(Reason.NOT_TRUSTED, f"{path} was not written by root alone: it is not believed.")
        raw = file.read(SIZE_LIMIT + 1)
    state = parse(raw)
    if isinstance(state, NotRead):
        return state
    if not -SKEW_S <= now_s - state.taken_s <= fresh_s:
        return NotRead(Reason.TOO_OLD, f"This server's rules were captured at {state.taken_at}, too long ago.")
    return state


def parse(raw: bytes) -> FirewallState | NotRead:
    """Read the document; what is not of its shape is not read."""
    wrong = NotRead(Reason.UNREADABLE, "The captured rules are not of the shape that this program writes.")
    if len(raw) > SIZE_LIMIT:
        return wrong
    try:
        told: JsonValue = json.loads(raw)
    except (ValueError, RecursionError):
        return wrong
    match told:
        case {
            "schema": int(schema),
            "taken_at": str(taken_at),
            "taken_s": int() | float() as taken_s,
            "texts": dict(texts),
            "failed": dict(failed),
            "interfaces": [*names],
            "ufw_enabled": bool() | None as ufw,
        } if schema == SCHEMA:
            listing = Listing(_by_source(texts), _by_source(failed))
            return FirewallState(listing, tuple(map(str, names)), ufw, taken_at, float(taken_s), read_flows(told))
        case _:
            return wrong


def _by_source(told: dict[str, JsonValue]) -> dict[Source, str]:
    known = {source.value: source for source in Source}
    return {known[name]: text for name, text in told.items() if name in known and isinstance(text, str)}
