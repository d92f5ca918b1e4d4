"""Issuing: give the content in force a version, sign it, store the signed bytes, all in one transaction (DESIGN §3)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from propagator.core import version
from propagator.core.errors import StoreError
from propagator.core.record import Hop, Record, life_entries
from propagator.core.signing import Authority
from propagator.core.version import Order, Version
from propagator.core.wire import Typ
from propagator.store import held, issued

if TYPE_CHECKING:
    from random import Random

    from propagator.core.decide import Path
    from propagator.keys import LeadKeys
    from propagator.store import Store, Tx
    from propagator.store.issued import Issue


@dataclass(slots=True)
class Issuer:
    """Who issues: the keys of a lead, and the number of its session: the first change of a session begins a life.

    `rng` names new lives. `signed` is the last version signed since this start, whether its transaction was kept
    or not: bytes once signed exist, so no other record may carry their version (DESIGN §3).
    """

    keys: LeadKeys
    rng: Random
    session: int = 0
    signed: Version | None = field(default=None, init=False)

    @property
    def authority(self) -> Authority:
        """In whose name this lead signs at present."""
        return Authority(self.keys.lead, self.keys.identity, self.keys.seq)

    @property
    def own_hop(self) -> tuple[str, str]:
        """The last hop of every path that this lead signs: itself."""
        return self.keys.lead, self.keys.identity

    async def issue(self, store: Store, at: str) -> tuple[Issue | None, bool]:
        """Issue in a transaction of its own; see `carry`."""
        async with store.transaction() as tx:
            is_new = await self.carry(tx, at)
            return await issued.current(tx), is_new

    async def carry(self, tx: Tx, at: str) -> bool:
        """Issue a version if the current one does not carry the record in force, content and path; say whether.

        A lost lead has no current version and issues none, nor does one whose numbers are used up (`rotate` helps), or
        whose record is damaged: what it announced before stays.
        """
        current, local = await issued.current(tx), await held.local(tx)
        if current is None or current.version.is_exhausted or local.is_damaged or self._carries(current, local):
            return False
        in_life = await issued.life(tx) == self.session
        await self.sign(tx, self._following(current.version, in_life=in_life), at)
        return True

    async def issue_above(self, tx: Tx, found: Record, at: str) -> None:
        """Issue the record in force in a new life, above the generation and the revision of what was found."""
        current = await issued.current(tx)
        revision = max(found.version.revision, 0 if current is None else current.version.revision) + 1
        generation = max(found.version.generation, 0 if current is None else current.version.generation) + 1
        await self.sign(tx, Version(self.keys.seq, generation, self._epoch(), revision), at)

    async def renew(self, tx: Tx, at: str) -> None:
        """Issue the record in force again, in a new life."""
        current = await issued.current(tx)
        if current is not None:
            await self.sign(tx, current.version.next_life(self._epoch()), at)

    async def sign(self, tx: Tx, number: Version, at: str) -> None:
        """Sign the record in force as this version, and store it as the current one.

        Raises StoreError for a damaged one: nobody registered what it says by now (F35).
        """
        local = await held.local(tx)
        if local.is_damaged:
            raise StoreError("The stored registration was damaged; it is not signed.", hint="propagator status")
        current = await issued.current(tx)
        same_seq = current is not None and current.version.seq == number.seq
        lives = version.lives_after(await issued.lives(tx) if same_seq else (), number)
        record = Record(
            lead=self.keys.lead,
            system_id=(await held.server(tx)).system_id,
            version=number,
            lives=life_entries(lives),
            hash=local.hash,
            path=tuple(Hop(id=hop, identity=identity) for hop, identity in self._path(local)),
            issued_at=at,
            registration=local.registration,
        )
        self.signed = number
        raw = self.keys.seal(Typ.RECORD, record)
        await issued.issue(tx, record, raw, self.keys.signing.thumbprint, life=self.session)

    def _carries(self, current: Issue, local: held.LocalRecord) -> bool:
        return not local.pending and (current.hash, current.path) == (local.hash, self._path(local))

    def _following(self, current: Version, *, in_life: bool) -> Version:
        """Give the next version that was never signed; after a failed transaction, that is not the next one stored."""
        if not in_life:
            return current.next_life(self._epoch())
        signed = self.signed
        last = signed if signed is not None and signed.compared_to(current) is Order.HIGHER else current
        return last.next_revision()

    def _path(self, local: held.LocalRecord) -> Path:
        """A lead's path is itself; a relay adds itself to the path that its record came by, until it is detached."""
        follows = local.lead is not None and local.detached_from is None
        return (*(local.path if follows else ()), self.own_hop)

    def _epoch(self) -> str:
        return version.new_epoch(self.rng)
