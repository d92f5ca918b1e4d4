"""The invariants of FAULTS.md that hold at every moment: looked at after each commit, each signature and each report.

- A version never goes down: neither a shadow's floor, nor what a lead announces.
- No version is signed twice.
- No unauthorised byte becomes the record: what is in force was registered by a person, and came in bytes that a lead
  signed.
- What was overwritten can be shown: each change of the record has its line of history, with what was there before.
- What was reported as held is held when it is said, and still held after each start.

What a machine said before its disk was put back, or lost, it cannot be held to.
"""

from __future__ import annotations

import functools
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from unittest.mock import patch

from propagator.core import version
from propagator.core.registration import Registration, hash_of
from propagator.core.version import Order
from propagator.core.wire import Report, Typ
from propagator.following import Following
from propagator.keys import LeadKeys
from tests.simulation import process
from tests.virtual_time import START_S, running_loop

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from propagator.core.record import Document, Record
    from propagator.core.version import Version

_DOWN = frozenset({Order.LOWER, Order.FORKED})


@dataclass
class Held:
    """What one machine had stored at its last commit."""

    registration: str | None
    version: str | None
    floors: dict[tuple[str, str], Version]
    issued: Version | None
    line: int


@dataclass
class _Past:
    """What is known of one machine since its disk was last put back or lost."""

    held: Held | None = None
    hashes: set[str] = field(default_factory=lambda: {hash_of(None)})
    reported: set[str] = field(default_factory=set)
    damaged: set[str | bytes | None] = field(default_factory=set)
    """Registrations and signed bytes of which a bit flipped; a backup may bring them back."""


class Watch:
    """Looks on, and notes what must not be. `faults` is empty as long as all is well."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self._pasts: dict[str, _Past] = {}
        self._texts: dict[str, str] = {}
        self._hashes: dict[str, str] = {}
        self._signed: dict[tuple[str, str], bytes] = {}
        self._records: set[bytes] = set()
        self.rolled_back_machines: set[str] = set()

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Look over the shoulder of whoever signs."""
        lead_seal, shadow_seal = LeadKeys.seal, Following.seal

        def seal_record(keys: LeadKeys, typ: str, document: Document) -> bytes:
            raw = lead_seal(keys, typ, document)
            if typ == Typ.RECORD:
                self._note_record(keys.identity, document, raw)  # type: ignore[arg-type]
            return raw

        def seal_report(following: Following, typ: Typ, document: Document) -> bytes:
            if isinstance(document, Report):
                self._note_report(following, document)
            return shadow_seal(following, typ, document)

        with ExitStack() as stack:
            stack.enter_context(patch.object(LeadKeys, "seal", seal_record))
            stack.enter_context(patch.object(Following, "seal", seal_report))
            yield

    def fault(self, text: str) -> None:
        """Note that something is not as it must be."""
        self.faults.append(f"{running_loop().time() - START_S:9.3f} s  {text}")

    def registered(self, content: Registration) -> None:
        """Note what a person registers: this, and nothing else, may be in force anywhere."""
        self._texts[content.hash] = content.canonical
        self._hashes[content.canonical] = content.hash

    def stolen(self, raw: bytes, content: Registration) -> None:
        """Note what a thief signs with a lead's own key: nobody can tell it from the lead's word (F02)."""
        self.registered(content)
        self._records.add(raw)

    def is_signed(self, raw: bytes) -> bool:
        """Say whether a lead signed these very bytes."""
        return raw in self._records

    # What happens to a machine.

    def committed(self, machine: str, raw: sqlite3.Connection, *, touched: bool) -> None:
        """Hold what was just committed to what was there before; `touched`: it wrote what is looked at here."""
        past = self._pasts.setdefault(machine, _Past())
        if not touched and past.held is not None:
            return
        held = _read(raw)
        if held is None:
            return
        self._authorised(machine, raw, held)
        if past.held is not None:
            self._went_on(machine, raw, past.held, held)
        past.held = held
        past.hashes.add(self._hash(held))

    def started(self, machine: str, raw: sqlite3.Connection) -> None:
        """Hold a machine that starts to what it committed and reported before it ended."""
        past = self._pasts.setdefault(machine, _Past())
        held = _read(raw)
        if past.held is not None and held != past.held:
            self.fault(f"{machine} starts with {held}, and had committed {past.held}")
        self._still_held(machine, raw)

    def _still_held(self, machine: str, raw: sqlite3.Connection) -> None:
        """Find everything that a machine ever reported as held: in force, or in its history."""
        past = self._pasts.setdefault(machine, _Past())
        if not past.reported:
            return
        shown = {row[0] for row in raw.execute("SELECT registration FROM record UNION SELECT after FROM history")}
        for reported in past.reported:
            if self._texts.get(reported) not in shown:
                self.fault(f"{machine} reported {reported[:8]} as held, and can no longer show it")

    def rolled_back(self, machine: str) -> None:
        """Forget what a machine said: its disk is an older one."""
        self._pasts[machine] = _Past(damaged=self._pasts.get(machine, _Past()).damaged)
        self.rolled_back_machines.add(machine)

    def damaged(self, machine: str, raw: sqlite3.Connection) -> None:
        """Take what a machine holds after a bit of its record flipped for what it held: it may not leave it (F35)."""
        past = self._pasts.setdefault(machine, _Past())
        past.held = _read(raw)
        if past.held is not None and past.held.registration is not None:
            past.damaged.update(raw.execute("SELECT registration, raw FROM record").fetchone())
            past.hashes.add(hash_of(Registration(past.held.registration)))

    def copied(self, machine: str, copy: str) -> None:
        """Let a copy begin with the past of its original."""
        past = self._pasts.get(machine, _Past())
        self._pasts[copy] = replace(past, held=None, hashes=set(past.hashes), reported=set(past.reported))

    # The rules.

    def _authorised(self, machine: str, raw: sqlite3.Connection, held: Held) -> None:
        past = self._pasts[machine]
        known = held.registration in self._hashes or held.registration in past.damaged
        if held.registration is not None and not known:
            self.fault(f"{machine} has a registration in force that nobody registered: {held.registration[:60]}…")
        (signed,) = raw.execute("SELECT raw FROM record").fetchone()
        if signed is not None and signed not in past.damaged and not self.is_signed(signed):
            self.fault(f"{machine} has a record in force that no lead signed")

    def _went_on(self, machine: str, raw: sqlite3.Connection, before: Held, after: Held) -> None:
        for lead, floor in before.floors.items():
            reached = after.floors.get(lead)
            if reached is None or reached.compared_to(floor) in _DOWN:
                self.fault(f"the floor of {machine} for {lead[0]} went from {floor} to {reached}")
        if before.issued is not None and (after.issued is None or after.issued.compared_to(before.issued) in _DOWN):
            self.fault(f"{machine} announced {before.issued}, and now announces {after.issued}")
        if after.line < before.line:
            self.fault(f"the history of {machine} got shorter")
        if after.registration != before.registration:
            self._is_shown(machine, raw, before, after)

    def _is_shown(self, machine: str, raw: sqlite3.Connection, before: Held, after: Held) -> None:
        lines = raw.execute("SELECT before, after FROM history WHERE id > ? ORDER BY id", (before.line,)).fetchall()
        texts: list[str | None] = [before.registration, *(line[1] for line in lines)]
        if not lines or [line[0] for line in lines] != texts[:-1] or texts[-1] != after.registration:
            self.fault(f"the record of {machine} changed, and its history does not show from what to what")

    def _hash(self, held: Held) -> str:
        if held.registration is None:
            return hash_of(None)
        return self._hashes.get(held.registration) or hash_of(Registration(held.registration))

    def _note_record(self, identity: str, record: Record, raw: bytes) -> None:
        first = self._signed.setdefault((identity, str(record.version)), raw)
        self._records.add(first)
        if first != raw:
            self.fault(f"{process.current().machine} signed version {record.version} of {record.lead} a second time")

    def _note_report(self, following: Following, report: Report) -> None:
        machine = process.current().machine
        past = self._pasts.setdefault(machine, _Past())
        if report.hash not in past.hashes:
            self.fault(f"{machine} reports {report.hash}, which it never committed")
        floor = None if past.held is None else past.held.floors.get((following.lead, following.identity))
        if report.floor is not None and (floor is None or floor.compared_to(report.floor.version) in _DOWN):
            self.fault(f"{machine} reports the floor {report.floor.version}, and has committed {floor}")
        if report.hash in self._texts:
            past.reported.add(report.hash)


def _read(raw: sqlite3.Connection) -> Held | None:
    row = raw.execute("SELECT registration, version FROM record").fetchone()
    if row is None:
        return None
    floors = {
        (lead, identity): _version(text)
        for lead, identity, text in raw.execute("SELECT lead, identity, version FROM floor")
    }
    current = raw.execute("SELECT current FROM downlink").fetchone()
    (line,) = raw.execute("SELECT max(id) FROM history").fetchone()
    issued = None if current is None or current[0] is None else _version(current[0])
    return Held(row[0], row[1], floors, issued, line or 0)


@functools.lru_cache(1024)
def _version(text: str) -> Version:
    parsed = version.parse(text)
    assert parsed is not None, text
    return parsed
