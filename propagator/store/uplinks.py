"""The uplink: which lead this server follows, how the link stood last, and what was refused of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from propagator.core.state import Event, Reason, State
from propagator.store import changes, held, history

if TYPE_CHECKING:
    from propagator.core.difference import JsonObject
    from propagator.core.version import Version
    from propagator.store.connection import Tx


@dataclass(frozen=True, slots=True)
class Uplink:
    """The link that this shadow follows, and how it stood last."""

    lead: str
    lead_name: str
    identity: str
    state: State
    since: str
    period_s: float
    last_heard: str | None = None


async def uplink(tx: Tx) -> Uplink | None:
    """Give the link that this server follows, if any."""
    row = await tx.one("SELECT * FROM uplink")
    if row is None:
        return None
    stood = State(row["state"]), row["since"], row["period_s"], row["last_heard"]
    return Uplink(row["lead"], row["lead_name"], row["identity"], *stood)


async def attach(tx: Tx, link: Uplink, *, seq: int, lowest: Version | None, at: str) -> None:
    """Follow a lead from now on. Its floor, if this server followed it before, still counts."""
    await tx.run(
        "INSERT INTO trust (lead, identity, seq, lowest) VALUES (?, ?, ?, ?) ON CONFLICT (lead, identity)"
        " DO UPDATE SET seq = max(seq, excluded.seq), lowest = excluded.lowest",
        *(link.lead, link.identity, seq, held.version_text(lowest)),
    )
    await tx.run("DELETE FROM uplink")
    await tx.run("DELETE FROM refusal")
    await tx.run(
        "INSERT INTO uplink (one, lead, lead_name, identity, state, since, period_s, attached_at)"
        " VALUES (1, ?, ?, ?, ?, ?, ?, ?)",
        *(link.lead, link.lead_name, link.identity, link.state, link.since, link.period_s, at),
    )
    was = await held.local(tx)
    await history.add(
        tx,
        event=Event.ATTACHED,
        origin=was.origin,
        after=was.registration,
        at=at,
        lead=link.lead,
        fingerprint=link.identity,
        detail=f"to {link.lead_name or link.lead}",
    )
    await tx.run("UPDATE record SET detached_from = NULL")


async def detach(tx: Tx, *, restore: bool, at: str) -> held.LocalRecord | None:
    """End the uplink. The last reflected registration stays, marked detached; or what it overwrote comes back.

    Returns what came back; None if nothing did (nothing was overwritten since attaching, or `restore` is false).
    """
    link = await uplink(tx)
    was = await held.local(tx)
    if link is None:
        return None
    await tx.run("DELETE FROM uplink")
    mark = json.dumps({"lead": link.lead, "version": held.version_text(was.version), "at": at})
    await history.add(
        tx, event=Event.DETACHED, origin=was.origin, after=was.registration, at=at, lead=link.lead, fingerprint=None
    )
    await tx.run("UPDATE record SET detached_from = ? WHERE lead = ?", mark, link.lead)
    return await changes.restore(tx, at) if restore else None


async def was_detached(tx: Tx) -> bool:
    """Say whether the last thing that happened to the uplink was its end."""
    row = await tx.one(
        "SELECT event FROM history WHERE event IN (?, ?) ORDER BY id DESC LIMIT 1", Event.ATTACHED, Event.DETACHED
    )
    return row is not None and row["event"] == Event.DETACHED


async def note_uplink(  # noqa: PLR0913  the columns
    tx: Tx, *, state: State, since: str, address: str | None, last_heard: str | None, finding: JsonObject | None
) -> None:
    """Remember how the uplink stands, for a `status` without an agent."""
    await tx.run(
        "UPDATE uplink SET state = ?, since = ?, address = ?, last_heard = coalesce(?, last_heard), finding = ?",
        *(state, since, address, last_heard, None if finding is None else json.dumps(finding)),
    )


async def note_refusal(tx: Tx, *, reason: str, text: str, count: int, at: str) -> None:
    """Remember what was refused last, and how often (`count` more times) for this reason."""
    await tx.run(
        "INSERT INTO refusal (reason, count, text, last_at) VALUES (?, ?, ?, ?) ON CONFLICT (reason)"
        " DO UPDATE SET count = count + excluded.count, text = excluded.text, last_at = excluded.last_at",
        *(reason, count, text, at),
    )
    await tx.run("UPDATE uplink SET refusal = ?", json.dumps({"reason": reason, "text": text, "at": at}))


async def refusals(tx: Tx) -> tuple[tuple[Reason, int, str, str], ...]:
    """Give each reason met since attaching: how often, with the last text and time."""
    rows = await tx.all("SELECT * FROM refusal ORDER BY reason")
    return tuple((Reason(row["reason"]), row["count"], row["text"], row["last_at"]) for row in rows)
