"""What must hold whatever happens, read from the stores as any other program would read them.

A version never goes down. What a lead was told is held is held. What a shadow holds its lead signed, byte for byte, and
somebody registered. What was overwritten can be shown. No version is signed twice or forgotten. Nobody falls over.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from propagator.core import version
from propagator.core.version import Order
from propagator.store import connection

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from propagator.core.version import Version
    from tests.soak.field import Field

_BUSY_S = 20.0
_SHADOW = """
    SELECT record.version, record.hash, record.registration, record.raw, record.origin,
        (SELECT count(*) FROM history) AS rows,
        (SELECT count(*) FROM history WHERE event = 'overwritten') AS overwritten
    FROM record
"""
_HISTORY = "SELECT event, before, after FROM history ORDER BY id"
_REPORTS = """
    SELECT id, report ->> 'version' AS version, report ->> 'hash' AS hash, report ->> 'state' AS state,
        confirmed AND online AS here
    FROM member WHERE report IS NOT NULL
"""


@dataclass(frozen=True, slots=True)
class Held:
    """What a shadow holds."""

    version: Version
    hash: str
    rows: int
    overwritten: int


@dataclass(frozen=True, slots=True)
class Loss:
    """An invariant that did not hold. There may be none."""

    what: str
    who: str
    detail: str


class Watch:
    """Looks at all stores of a field; `losses` are those of all looks."""

    def __init__(self, field: Field, say: Callable[[str], None]) -> None:
        self._field = field
        self._say = say
        self._held: dict[str, Held] = {}
        self._issues: dict[str, tuple[str, bytes]] = {}
        self.losses: list[Loss] = []
        self.looks = 0

    def look(self) -> None:
        """Hold every store to the invariants once."""
        reported = self._reports()
        rows = {device: self._rows(self._shadow(device), _SHADOW) for device in self._field.devices}
        self._look_at_issues()  # after the shadows: what they hold is signed by now
        for device, found in rows.items():
            if found:
                self._look_at_shadow(device, found[0], reported.get(device))
            elif device in self._held or (reported.get(device) or {"version": None})["version"] is not None:
                self._lose("a record is gone", device, "")
        for process in self._field.processes:
            if process.fell:
                self._lose("a process fell over", process.name, process.last_lines())
        self.looks += 1

    def _look_at_shadow(self, device: str, row: sqlite3.Row, reported: sqlite3.Row | None) -> None:
        now = version.parse(row["version"] or "")
        if now is None:
            self._lose("a record without a version", device, str(row["version"]))
            return
        held = Held(now, row["hash"], row["rows"], row["overwritten"])
        before = self._held.get(device, held)
        if now.compared_to(before.version) not in {Order.EQUAL, Order.HIGHER}:
            self._lose("a version went down", device, f"{before.version} to {now}")
        if held.rows < before.rows:
            self._lose("history went missing", device, f"{before.rows} rows to {held.rows}")
        if self._issues.get(row["version"]) != (row["hash"], row["raw"]):
            self._lose("not what the lead signed", device, f"{now} {row['hash']}")
        if self._field.known.get(row["hash"]) != row["registration"] or row["origin"] != "lead":
            self._lose("not what anybody registered", device, f"{now} {row['registration']}")
        self._held[device] = held
        said = None if reported is None else version.parse(reported["version"] or "")
        if reported is None or said is None:
            return
        if said.compared_to(now) not in {Order.EQUAL, Order.LOWER} or (said == now and reported["hash"] != held.hash):
            self._lose("reported and not held", device, f"{said} is reported, {now} held")

    def _look_at_issues(self) -> None:
        rows = self._rows(self._field.site.lead_dir, "SELECT version, hash, raw FROM issue")
        issues = {row["version"]: (row["hash"], row["raw"]) for row in rows}
        for number, signed in self._issues.items():
            if issues.get(number) != signed:
                self._lose("a version was signed twice, or forgotten", "lead", number)
        self._issues = issues

    # After the last heal.

    def is_settled(self) -> bool:
        """Whether the lead's roster says that every shadow holds what was registered last."""
        row = self._current()
        if row is None or row["hash"] != self._field.accepted[-1].hash:
            return False
        wanted = (row["version"], row["hash"], "in_sync", 1)
        reports = self._reports()
        return all(device in reports and tuple(reports[device])[1:] == wanted for device in self._field.devices)

    def settle(self, *, within: bool) -> None:
        """Hold all to being equal now, and every history to being whole. `within`: the time was not up before."""
        self.look()
        current = self._current()
        wanted = None if current is None else (current["version"], current["hash"])
        for device in self._field.devices:
            held = self._held.get(device)
            if held is None or (str(held.version), held.hash) != wanted:
                self._lose("not equal after the last heal", device, f"{held} where {wanted} is in force")
            elif not within:
                self._lose("not in the roster in time", device, self._said_of(device))
            self._look_at_history(device)
        self._look_at_lead()

    def _look_at_history(self, device: str) -> None:
        """What each line overwrote is what the line before it brought; the last one brought what is in force."""
        state_dir = self._shadow(device)
        shown = None
        for row in self._rows(state_dir, _HISTORY):
            if row["event"] != "overwritten":
                continue
            if row["before"] != shown:
                self._lose("an overwrite that cannot be shown", device, f"{row['before']} after {shown}")
            shown = row["after"]
        record = self._rows(state_dir, "SELECT registration FROM record")
        if record and record[0]["registration"] != shown:
            self._lose("an overwrite that cannot be shown", device, f"in force without a line: {shown}")

    def _look_at_lead(self) -> None:
        """Every change that `register` took stands in the lead's history, in its order."""
        rows = self._rows(self._field.site.lead_dir, "SELECT after FROM history WHERE event = 'registered' ORDER BY id")
        kept = [row["after"] for row in rows]
        if kept != [content.canonical for content in self._field.accepted]:
            self._lose("a change was lost", "lead", f"{len(self._field.accepted)} were made, {len(kept)} are there")

    # Counts for the report.

    @property
    def overwritten(self) -> int:
        return sum(held.overwritten for held in self._held.values())

    @property
    def issued(self) -> int:
        return len(self._issues)

    def in_sync(self) -> int:
        """How many are equal to the lead and known to be."""
        row = self._current()
        return 0 if row is None else sum(tuple(said)[1:3] == tuple(row) for said in self._reports().values())

    def refusals(self) -> Counter[str]:
        """How often shadows refused what they were offered, by reason."""
        found: Counter[str] = Counter()
        for device in self._field.devices:
            for row in self._rows(self._shadow(device), "SELECT reason, count FROM refusal"):
                found[row["reason"]] += row["count"]
        return found

    def oldest_issue(self) -> bytes:
        """Give the bytes of the first record of all."""
        rows = self._rows(self._field.site.lead_dir, "SELECT raw FROM issue ORDER BY number LIMIT 1")
        return bytes(rows[0]["raw"]) if rows else b""

    def _current(self) -> sqlite3.Row | None:
        sql = "SELECT issue.version, issue.hash FROM issue JOIN downlink ON downlink.current = issue.version"
        rows = self._rows(self._field.site.lead_dir, sql)
        return rows[0] if rows else None

    def _reports(self) -> dict[str, sqlite3.Row]:
        return {row["id"]: row for row in self._rows(self._field.site.lead_dir, _REPORTS)}

    def _said_of(self, device: str) -> str:
        sql = "SELECT report, online, confirmed, presence_session, session FROM member"
        rows = [dict(row) for row in self._rows(self._field.site.lead_dir, f"{sql} WHERE id = '{device}'")]
        return json.dumps(rows, default=str)

    def _shadow(self, device: str) -> Path:
        return self._field.site.shadow_dir(device)

    def _rows(self, state_dir: Path, sql: str) -> list[sqlite3.Row]:
        where = f"file:{state_dir / connection.FILE_NAME}?mode=ro"
        with closing(sqlite3.connect(where, uri=True, timeout=_BUSY_S)) as database:
            database.row_factory = sqlite3.Row
            return database.execute(sql).fetchall()

    def _lose(self, what: str, who: str, detail: str) -> None:
        loss = Loss(what, who, detail)
        if loss not in self.losses:
            self.losses.append(loss)
            self._say(f"LOST {what}: {who}: {detail}")
