"""How far a followed lead has come, so that nothing goes back: highest record, delegation and heartbeat."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from propagator.core import session, version
from propagator.core.decide import Floor, Trust
from propagator.core.session import Mark
from propagator.store import held

if TYPE_CHECKING:
    from propagator.store.connection import Tx


async def floor(tx: Tx, lead: str, identity: str) -> Floor | None:
    """Give the highest record ever accepted from a lead under this identity key."""
    row = await tx.one("SELECT * FROM floor WHERE lead = ? AND identity = ?", lead, identity)
    reached = None if row is None else version.parse(row["version"])
    if row is None or reached is None:
        return None
    return Floor(reached, row["hash"], held.read_path(row["path"]), bool(row["registered"]))


async def raise_floor(tx: Tx, floor: Floor, trust: Trust) -> None:
    """Remember the highest record accepted, and the highest delegation seen with it."""
    await tx.run(
        "INSERT INTO floor (lead, identity, version, hash, path, registered) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (lead, identity) DO UPDATE SET version = excluded.version, hash = excluded.hash,"
        " path = excluded.path, registered = excluded.registered",
        *(trust.lead, trust.identity, str(floor.version), floor.hash, json.dumps(floor.path), floor.registered),
    )
    await raise_seq(tx, trust, floor.version.seq)


async def trust(tx: Tx, lead: str, identity: str, own_identity: str | None) -> Trust:
    """Give whom this server follows, as the invitation pinned it."""
    row = held.required(await tx.one("SELECT * FROM trust WHERE lead = ? AND identity = ?", lead, identity))
    lowest = None if row["lowest"] is None else version.parse(row["lowest"])
    return Trust(lead, identity, row["seq"], lowest, own_identity)


async def raise_seq(tx: Tx, trust: Trust, seq: int) -> None:
    """Remember the highest delegation seen; lower ones are refused from now on."""
    await tx.run(  # an UPDATE that changes nothing would still be written to the disk
        "UPDATE trust SET seq = ? WHERE lead = ? AND identity = ? AND seq < ?", seq, trust.lead, trust.identity, seq
    )


async def heartbeat_mark(tx: Tx, trust: Trust) -> Mark | None:
    """Give the highest heartbeat durably noted under the present delegation."""
    row = await tx.one("SELECT * FROM trust WHERE lead = ? AND identity = ?", trust.lead, trust.identity)
    spoken = None if row is None or row["session"] is None else session.parse(row["session"])
    return None if row is None or spoken is None else Mark(spoken, row["counter"])


async def note_heartbeat(  # noqa: PLR0913  the columns
    tx: Tx, trust: Trust, *, seq: int, mark: Mark, period_s: float, at: str
) -> None:
    """Remember durably how far the lead's heartbeats have come."""
    await tx.run(
        "UPDATE trust SET seq = max(seq, ?), session = ?, counter = ? WHERE lead = ? AND identity = ?",
        *(seq, str(mark.session), mark.counter, trust.lead, trust.identity),
    )
    await tx.run("UPDATE uplink SET last_heard = ?, period_s = ?", at, period_s)
