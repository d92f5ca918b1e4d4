"""The status of this machine's server: what the store holds and what the running agent says, made one value.

Takes a state directory; `snapshot` reads the store, the lock tells whether the agent runs, `control` asks it how the
links stand now; hands a `view.Status` on. Loads nothing heavy, and needs neither the agent nor the broker (DESIGN §6).
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Final

from propagator import config, control, files, snapshot
from propagator.core import view
from propagator.core.state import DownlinkState, State, read_word
from propagator.core.view import Held

if TYPE_CHECKING:
    import datetime as dt
    from pathlib import Path

    from propagator.core.difference import JsonObject, JsonValue
    from propagator.snapshot import Member, Snapshot

LIVE_TIMEOUT_S: Final = 1.0
"""The agent answers `live` from memory; one that does not in this time is stopped or hangs."""


WHENCE_LIMIT: Final = 100
"""Copied devices whose addresses are asked for: more are no accident, and a request has its limit."""


def read(state_dir: Path, now: dt.datetime, *, heartbeat_s: float = 60.0) -> view.Status:
    """Read how this server stands. `heartbeat_s` is the period that its own configuration gives the downlink.

    Raises StateError where there is no state or no right to read it, StoreError where the store cannot be read.
    """
    stored = snapshot.read(state_dir)
    holder = files.holder(state_dir)
    copied = [member for member in stored.members if member.cloned]
    whence: list[JsonValue] = [member.id for member in copied[:WHENCE_LIMIT]]
    reply = None if holder is None else control.ask(state_dir, "live", LIVE_TIMEOUT_S, whence=whence)
    live = reply if reply is not None and reply.get("ok") is True else None
    agent = (
        view.Agent(running=False)
        if holder is None
        else view.Agent(True, holder.pid, holder.since, holder.version, answers=live is not None)  # noqa: FBT003
    )
    server = stored.server
    return view.Status(
        server=view.Server(server.id, server.name, server.kind, server.system_id),
        role=config.role_of(uplink=server.wants_uplink, downlink=server.wants_downlink),
        agent=agent,
        record=record(stored),
        uplink=_uplink(stored, _part(live, "uplink")),
        downlink=_downlink(stored, _part(live, "downlink"), heartbeat_s, keys_gone=_keys_gone(state_dir)),
        at=now,
        portal=_portal(stored),
    )


def record(stored: Snapshot) -> view.Record | None:
    """Give the record in force; None where there is no registration. What is stored is hashed, never trusted (F35)."""
    held = stored.record
    if held.registration is None:
        return None
    digest = hashlib.sha256(held.registration.encode()).hexdigest()
    return view.Record(
        origin=held.origin,
        pending=held.pending,
        version=held.version,
        hash=digest,
        stored_at=held.stored_at,
        path=tuple(view.Hop(*hop) for hop in held.path),
        detached_from=held.detached_from,
        registration=_parsed(held.registration),
        lead=held.lead,
        damaged=digest != held.hash,
    )


def _portal(stored: Snapshot) -> view.Portal | None:
    known = stored.portal
    if known is None:
        return None
    taken = known.system, known.edition, known.asked_at, known.answered_at
    return view.Portal(known.url, known.name, known.key, *taken, finding=known.finding)


def _parsed(registration: str) -> JsonObject | None:
    try:
        value = json.loads(registration)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _uplink(stored: Snapshot, live: JsonObject | None) -> view.Uplink | None:
    link = stored.uplink
    if link is None:
        return _UNATTACHED if stored.server.wants_uplink else None
    said = live or {}
    return view.Uplink(
        lead=link.lead,
        address=_text(said, "address") or link.address,
        connected=said.get("connected") is True,
        state=read_word(State, said.get("state", link.state), State.UNKNOWN),
        since=_text(said, "since") or link.since,
        last_heard=_text(said, "last_heard") or link.last_heard,
        refusal=_refusal(_object(said, "refusal") or link.refusal),
        finding=link.finding if live is None else _object(said, "finding"),
        lead_name=link.lead_name or None,
        refusals=_refusals(stored, said),
        upstream=_object(said, "upstream"),
        period_s=link.period_s,
    )


_UNATTACHED: Final = view.Uplink(
    lead=None,
    address=None,
    connected=False,
    state=State.UNATTACHED,
    since=None,
    last_heard=None,
    refusal=None,
    finding=None,
)


def _refusals(stored: Snapshot, said: JsonObject) -> tuple[view.Refusals, ...]:
    """Join what the store counted since attaching with what the agent, which writes once a minute, counted since."""
    known = {told.reason: view.Refusals(told.reason, told.count, told.text, told.last_at) for told in stored.refusals}
    listed = said.get("refusals")
    for told in listed if isinstance(listed, list) else []:
        if isinstance(told, dict) and isinstance(told.get("count"), int):
            reason, count = str(told.get("reason")), int(str(told["count"]))
            if reason not in known or count > known[reason].count:
                known[reason] = view.Refusals(reason, count, str(told.get("text")), str(told.get("last_at")))
    return tuple(known[reason] for reason in sorted(known))


_LEAD_KEYS: Final = ("signing.key", "delegation.jws")
"""As `keys` names them, which is too heavy to load here; a test holds them equal."""


def _keys_gone(state_dir: Path) -> bool:
    try:
        return not all((state_dir / files.KEYS_DIR / name).exists() for name in _LEAD_KEYS)
    except PermissionError:  # an operator may not look
        return False


def _downlink(
    stored: Snapshot, live: JsonObject | None, heartbeat_s: float, *, keys_gone: bool
) -> view.Downlink | None:
    link = stored.downlink
    if link is None:
        return _unmade() if stored.server.wants_downlink else None
    said = live or {}
    current = None if link.version is None else Held(link.version, link.hash)
    listening = said.get("listening")
    connected, at_cap = said.get("connected") is True, said.get("connections_at_cap")
    whence = _object(said, "addresses") or {}
    return view.Downlink(
        broker=link.broker,
        state=read_word(DownlinkState, said.get("state", link.state), DownlinkState.OK),
        finding=link.finding if live is None else _object(said, "finding"),
        listening=tuple(map(str, listening)) if isinstance(listening, list) else (),
        roster=tuple(
            _row(
                member,
                current,
                link.issued_at,
                present=connected,
                is_trusted=not keys_gone and (link.identity is None or member.trusts in {None, link.identity}),
                whence=whence.get(member.id),
            )
            for member in stored.members
        ),
        version=link.version,
        hash=link.hash,
        issued_at=link.issued_at,
        lead_connected=connected,
        heartbeat_s=heartbeat_s,
        keys_gone=keys_gone,
        connections_at_cap=at_cap if isinstance(at_cap, bool) else None,
    )


def _unmade() -> view.Downlink:
    return view.Downlink(broker="", state=DownlinkState.UNATTACHED, finding=None, listening=(), roster=())


def _row(  # noqa: PLR0913  of one member, what the store and the agent know beside it
    member: Member, current: Held | None, issued_at: str | None, *, present: bool, is_trusted: bool, whence: JsonValue
) -> view.Row:
    """Make the row of one shadow; who is online is known only while the lead itself is (`present`).

    `is_trusted`: the shadow was bound under the identity key that this lead has now. `whence`: what it connected from.
    """
    report = member.report or {}
    held, floor = _held(report), _held(_object(report, "floor") or {})
    said = None if member.report is None else read_word(State, report.get("state"), State.UNKNOWN)
    state = view.row_state(said, floor, held, confirmed=member.confirmed, current=current)
    return view.Row(
        id=member.id,
        name=member.name,
        kind=member.kind,
        state=state,
        version=_text(report, "version"),
        hash=_text(report, "hash"),
        stored_at=_text(report, "stored_at"),
        connected=member.online and present,
        last_heard=member.last_heard,
        refusal=_refusal(_object(report, "refusal")),
        finding=_object(report, "finding"),
        upstream=_object(report, "upstream"),
        downlink=_subtree(_object(report, "subtree"), heard=member.confirmed and member.online and present),
        cloned=member.cloned,
        since=_since(state, member, issued_at),
        reported=_text(report, "state"),
        invite=None if is_trusted or state is State.DETACHED else f"propagator invite {member.id} --again",
        addresses=tuple(map(str, whence)) if isinstance(whence, list) else None,
    )


def _since(state: State, member: Member, issued_at: str | None) -> str | None:
    """Say when a row's state began at the latest: nobody is behind a record before it was issued."""
    match state:
        case State.UNKNOWN:
            return member.reported_at or member.attached_at
        case State.BEHIND:
            return max(issued_at or "", member.attached_at)
        case _:
            return member.reported_at


def _subtree(said: JsonObject | None, *, heard: bool) -> JsonObject | None:
    """Give what a relay said of the shadows below it; of one not heard from they are unknown (DESIGN §1)."""
    if said is None or heard:
        return said
    shadows = _object(said, "shadows") or {}
    total = shadows.get("total")
    rest = {name: value for name, value in said.items() if name != "roster"}
    return {**rest, "shadows": {"total": total, "unknown": total}} if isinstance(total, int) else None


def _held(said: JsonObject) -> Held | None:
    version = _text(said, "version")
    return None if version is None else Held(version, _text(said, "hash"))


def _refusal(said: JsonObject | None) -> view.Refusal | None:
    if said is None:
        return None
    return view.Refusal(_text(said, "reason") or "", _text(said, "text") or "", _text(said, "at"))


def _part(live: JsonObject | None, name: str) -> JsonObject | None:
    return None if live is None else _object(live, name)


def _object(table: JsonObject, name: str) -> JsonObject | None:
    value = table.get(name)
    return value if isinstance(value, dict) else None


def _text(table: JsonObject, name: str) -> str | None:
    value = table.get(name)
    return value if isinstance(value, str) else None
