"""What is wrong with a status: each cause once, as a sentence with one thing to try, in the order of cause.

A cause hides its symptoms: without an agent nobody is asked why the rows are old. What counts as a problem is the
paragraph on exit codes in DESIGN §9; a status is `ok` exactly if nothing is found here.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Final, NamedTuple

from propagator.core.state import DownlinkState, Reason, State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from propagator.core.difference import JsonObject
    from propagator.core.view import Agent, Downlink, Record, Row, Status, Uplink

BEHIND_GRACE_S: Final = 10.0
"""A record takes its way: behind is a problem after 10 s (DESIGN §9)."""

START_GRACE_S: Final = 10.0
"""An agent that has just been started may be silent for a while."""

QUIET_PERIODS: Final = 3
"""Unknown and unconfirmed are problems after 3 heartbeat periods: a report may be on its way (DESIGN §9)."""

_AGED: Final = frozenset({State.BEHIND, State.STALE, State.UNREACHABLE, State.UNKNOWN, State.UNCONFIRMED})
"""States that come of nobody listening: symptoms where the agent or the broker is dead."""

_UNTOLD: Final = frozenset({State.LEAD_UNREGISTERED, State.WITHDRAWN})
"""States that come of a lead without a registration."""


class Problem(NamedTuple):
    """One cause, as a sentence, and the one thing to try."""

    text: str
    hint: str


def of(status: Status) -> Iterator[Problem]:
    """Find the problems of a status."""
    yield from _record(status.record, status.uplink)
    yield from _unattached(status)
    dead = _keys(status) or _agent(status)
    yield from dead
    hidden = _AGED if dead else frozenset[State]()
    if status.uplink is not None and status.uplink.state not in hidden | {State.UNATTACHED}:
        yield from _uplink(status.uplink, status.at)
    if status.downlink is not None and status.downlink.state is not DownlinkState.UNATTACHED:
        yield from _downlink(status, status.downlink, hidden)


def when(text: str | None) -> dt.datetime | None:
    """Read a stored time; None if there is none, or if it is no time with a zone."""
    try:
        read = dt.datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return None if read.tzinfo is None else read


def counts(state: State, since: str | None, now: dt.datetime, period_s: float) -> bool:
    """Say whether a link in this state, since then, is a problem."""
    match state:
        case State.IN_SYNC | State.DETACHED:
            return False
        case State.BEHIND:
            return _lasts(since, now, BEHIND_GRACE_S)
        case State.UNKNOWN | State.UNCONFIRMED:
            return _lasts(since, now, QUIET_PERIODS * period_s)
        case _:
            return True


def _lasts(since: str | None, now: dt.datetime, grace_s: float) -> bool:
    """Say whether more than `grace_s` went by. A clock that went back gives no grace."""
    began = when(since)
    return began is None or not 0 <= (now - began).total_seconds() <= grace_s


def _record(record: Record | None, uplink: Uplink | None) -> Iterator[Problem]:
    if record is not None and record.damaged:
        fetched = uplink is not None and uplink.lead == record.lead
        hint = "systemctl restart propagator" if fetched else "propagator register FILE"
        yield Problem("The stored registration was damaged: its hash is not the one it was stored with.", hint)


def _unattached(status: Status) -> Iterator[Problem]:
    if status.uplink is not None and status.uplink.state is State.UNATTACHED:
        hint = f"on the lead: propagator invite {status.server.id}; then here: propagator attach TOKEN"
        yield Problem("This server is to follow a lead, but is not attached to one.", hint)
    if status.downlink is not None and status.downlink.state is DownlinkState.UNATTACHED:
        yield Problem("This server is to lead, but has no keys for it.", f"propagator init --role {status.role}")


def _keys(status: Status) -> list[Problem]:
    link = status.downlink
    if link is None or not link.keys_gone:
        return []
    text = "The keys that this lead signs with are gone, and no device trusts other ones"
    begin = f"propagator init --role {status.role} --id {status.server.id}"
    hint = "restore keys/ in its state directory from a backup"
    distrust = [row for row in link.roster if row.invite is not None]
    if distrust:
        hint = f"{hint}; if there is none: {begin}, then for each device: {_invitations(distrust)}"
    return [Problem(f"{text}{_whom(distrust)}.", hint)]


def _whom(rows: list[Row]) -> str:
    return f": {', '.join(row.id for row in rows)}" if rows else ""


def _invitations(rows: list[Row]) -> str:
    return "; ".join(row.invite for row in rows if row.invite is not None)


def _agent(status: Status) -> list[Problem]:
    agent = status.agent
    if status.uplink is None and status.downlink is None:  # a link that is wanted is there, if only as unattached
        return []
    if not agent.running:
        return [Problem("The agent is not running, so nothing is propagated.", "systemctl start propagator")]
    if not agent.answers and _lasts(agent.since, status.at, START_GRACE_S):
        return [Problem(f"The agent{_process(agent)} does not answer.", "systemctl restart propagator")]
    return []


def _process(agent: Agent) -> str:
    return "" if agent.pid is None else f" (process {agent.pid})"


_UPLINK: Final = {
    State.REFUSED: ("The record that {lead} offers was refused{why}.", "on {lead}: propagator status"),
    State.STALE: (
        "{lead} has given no sign of life for 3 heartbeat periods; its record stays in force.",
        "on {lead}: propagator status",
    ),
    State.UNREACHABLE: ("{lead} cannot be reached; its record stays in force.", "on {lead}: propagator status"),
    State.BEHIND: ("{lead} speaks of a newer record, which does not arrive.", "on {lead}: propagator status"),
    State.LEAD_UNREGISTERED: (
        "{lead} has no registration yet; this server keeps its own.",
        "on {lead}: propagator register FILE",
    ),
    State.LEAD_LOST: (
        "{lead} has lost its record; the last one stays in force.",
        "on {lead}: propagator associate --from-field",
    ),
    State.WITHDRAWN: (
        "{lead} has withdrawn its registration; the last one stays in force.",
        "on {lead}: propagator register FILE",
    ),
}
_UNHEARD: Final = ("It is not known how this server stands to {lead}.", "on {lead}: propagator status")

_REFUSED: Final = {
    Reason.UNREADABLE: "bring this server to the version of {lead}",
    Reason.LOOP: "propagator detach",
    Reason.FORK: "on the lead that shall count: propagator take-over",
    Reason.SECOND_LEAD: "switch the other lead off, or follow it: propagator attach TOKEN",
}


def _uplink(link: Uplink, now: dt.datetime) -> Iterator[Problem]:
    if not counts(link.state, link.since, now, link.period_s):
        return
    text, hint = _UPLINK.get(link.state, _UNHEARD)
    reason = link.refusal.reason if link.state is State.REFUSED and link.refusal is not None else None
    why = "" if reason is None else f" ({reason})"
    hint = next((better for known, better in _REFUSED.items() if known == reason), hint)
    plain = Problem(text.format(lead=link.lead, why=why), hint.format(lead=link.lead))
    yield _found(link.finding, plain) if link.state is State.UNREACHABLE else plain


def _found(finding: JsonObject | None, otherwise: Problem) -> Problem:
    """Tell a finding's cause and its first remedy, as far as it has them; one that is over tells nothing."""
    if finding is None or finding.get("over_since") is not None:
        return otherwise
    cause = finding.get("cause") or finding.get("title")
    remedies = finding.get("remedies")
    first = remedies[0] if isinstance(remedies, list) and remedies else None
    commands = first.get("commands") if isinstance(first, dict) else None
    hint = commands[0] if isinstance(commands, list) and commands else None
    return Problem(
        cause if isinstance(cause, str) else otherwise.text, hint if isinstance(hint, str) else otherwise.hint
    )


_STOPPED: Final = {
    DownlinkState.LOST: Problem(
        "This lead has lost its record, and announces none.", "propagator associate --from-field"
    ),
    DownlinkState.SECOND_LEAD: Problem(
        "A second lead runs under this lead's key, so this one announces nothing.",
        "switch the other one off; then here: propagator take-over",
    ),
}
"""A lead that announces nothing: what its shadows make of it is a symptom."""


def _downlink(status: Status, link: Downlink, hidden: frozenset[State]) -> Iterator[Problem]:
    if link.state in _STOPPED:
        yield _found(link.finding, _STOPPED[link.state])
        return
    if status.record is None and status.uplink is None:
        yield Problem("This lead has no registration, so its shadows keep theirs.", "propagator register FILE")
        hidden |= _UNTOLD
    if status.agent.answers and (broken := _broker(status, link)) is not None:
        yield broken
        hidden |= _AGED
    elif link.connections_at_cap:
        yield _AT_CAP
    if link.state is DownlinkState.PAUSED and _counting(link, State.BEHIND, status.at):
        text = "Propagation is paused, and shadows are behind."
        yield Problem(text, "set paused = false under [downlink], then: systemctl restart propagator")
        hidden |= {State.BEHIND}
    distrust = [row for row in link.roster if row.invite is not None]
    if distrust and not link.keys_gone:
        text = f"This lead has another identity key than these devices trust{_whom(distrust)}."
        yield Problem(text, _invitations(distrust))
    yield from _rows(link, hidden, status.at)


def _broker(status: Status, link: Downlink) -> Problem | None:
    plain = Problem("This lead has no connection to its broker.", "journalctl -u propagator says why")
    if link.finding is not None:
        return _found(link.finding, plain)
    waits = not link.lead_connected and _lasts(status.agent.since, status.at, START_GRACE_S)
    return plain if waits else None


_AT_CAP: Final = Problem(
    "The broker of this lead has as many connections as it may have, and turns others away.",
    "ss -tn shows who holds them: keep strangers out, or raise max_connections under [downlink]",
)

_SAID_ELSE: Final = "said else"
"""Stands for the state of a row that is `unknown` although the shadow did report: its program may be newer."""

_ROWS: Final[dict[str, str]] = {
    State.REFUSED: "refused the record",
    State.BEHIND: "fell behind",
    State.UNREACHABLE: "could not reach this lead",
    State.STALE: "heard nothing from this lead",
    State.LEAD_LOST: "found this lead without a record",
    State.LEAD_UNREGISTERED: "found this lead without a registration",
    State.WITHDRAWN: "kept the registration that this lead withdrew",
    State.UNCONFIRMED: "sent no fresh report",
    State.UNKNOWN: "never reported",
    _SAID_ELSE: "reported a state that this program does not know",
    State.UNATTACHED: "called itself unattached",
}
"""What shadows did, in the order in which it is told; worse first."""

_NAMED: Final = 3
"""Shadows that a problem names; the table below it has them all."""


def _rows(link: Downlink, hidden: frozenset[State], now: dt.datetime) -> Iterator[Problem]:
    for row in link.roster:
        if row.cloned:
            text = f"Two machines answer as {row.id}{_whence(row, link)}: one is a copy of the other."
            yield Problem(text, f"switch the copy off; then here: propagator invite {row.id} --again")
    for state, did in _ROWS.items():
        rows = _counting(link, state, now)
        if rows and rows[0].state not in hidden:
            subject = "1 shadow" if len(rows) == 1 else f"{len(rows)} shadows"
            newer = state == _SAID_ELSE
            hint = "bring this server to the version of its shadows" if newer else f"on {rows[0].id}: propagator status"
            plain = Problem(f"{subject} {did}: {_names(rows)}.", hint)
            yield plain._replace(hint=_found(rows[0].finding, plain).hint)


def _counting(link: Downlink, state: str, now: dt.datetime) -> list[Row]:
    rows = [row for row in link.roster if _told_as(row) == state and row.invite is None]
    if link.connections_at_cap:  # who is not connected is kept out: a symptom
        rows = [row for row in rows if row.connected or row.state not in _AGED]
    return [row for row in rows if counts(row.state, row.since, now, link.heartbeat_s)]


def _whence(row: Row, link: Downlink) -> str:
    """Say from where two machines connect, as far as the broker, or nobody but an external one, knows."""
    if row.addresses:
        return f", connected from {' and '.join(row.addresses)}"
    return " (from where, only its external broker knows)" if "://" in link.broker else ""


def _told_as(row: Row) -> str:
    newer = row.reported is not None and row.reported not in set(State)
    return _SAID_ELSE if newer and row.state is State.UNKNOWN else row.state


def _names(rows: list[Row]) -> str:
    named = [row.id if (why := _why(row)) is None else f"{row.id} ({why})" for row in rows]
    more = [f"{len(rows) - _NAMED} more"] if len(rows) > _NAMED else []
    return ", ".join([*named[:_NAMED], *more])


def _why(row: Row) -> str | None:
    if row.state is State.REFUSED:
        return None if row.refusal is None else row.refusal.reason
    return row.reported if _told_as(row) == _SAID_ELSE else None
