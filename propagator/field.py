"""The field: what this lead's shadows and its own topic still hold of it, and what is done about that (DESIGN §3).

Takes signed bytes only; a number in a report merely says whom to ask. Adopting, or re-issuing above what was found, is
one transaction with its history row. `associate` is a person's decision: the field only answers what it holds.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, assert_never

from propagator import accounts, log
from propagator.core import evidence, moment, signing
from propagator.core.errors import RefusedError, Unreadable
from propagator.core.evidence import Adopt, Ours, Reissue, Strange
from propagator.core.record import read
from propagator.core.signing import Authority, open_envelope
from propagator.core.state import Event, Origin
from propagator.core.wire import Answer, Membership, Typ
from propagator.store import changes, held, history, issued, members

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from propagator.core.difference import JsonObject
    from propagator.core.record import Record
    from propagator.core.signing import Envelope
    from propagator.issuing import Issuer
    from propagator.store import Store, Tx

ASK_ALL_S: Final = 2.0
"""How long the shadows have to answer when a person asks what the field holds."""


class Weighed(StrEnum):
    """What a record from the field led to.

    `changed`: the current version is another one, announce it; `left`: it is shown, and a person decides; `nothing`.
    """

    CHANGED = "changed"
    LEFT = "left"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Holding:
    """A record of this lead that one shadow sent."""

    device: str
    record: Record
    raw: bytes


class Field:
    """What is known of the field. `ask` sends a request for the record that a shadow holds: (device, nonce)."""

    def __init__(  # noqa: PLR0913  what it works with
        self,
        store: Store,
        issuer: Issuer,
        state_dir: Path,
        *,
        now: Callable[[], dt.datetime],
        ask: Callable[[str, str], Awaitable[None]],
        may_raise: Callable[[], bool] = lambda: True,
        is_relay: bool = False,
    ) -> None:
        self._store = store
        self._issuer = issuer
        self._state_dir = state_dir
        self._now = now
        self._ask = ask
        self._may_raise = may_raise
        self._is_relay = is_relay
        self._raised = False
        self._asked: dict[str, tuple[str, float]] = {}
        self._held: dict[str, Holding] = {}
        self._sent = asyncio.Event()
        self._log = log.get("field")
        self.finding: JsonObject | None = None

    async def want(self, device: str, period_s: float) -> None:
        """Ask a shadow for the record it holds, at most once a period."""
        now_s = asyncio.get_running_loop().time()
        if device not in self._asked or now_s - self._asked[device][1] >= period_s:
            nonce = secrets.token_urlsafe(16)
            self._asked[device] = (nonce, now_s)
            await self._ask(device, nonce)

    async def weigh(self, raw: bytes) -> Weighed:
        """Weigh a record from the field, and do what follows."""
        offer = open_envelope(raw)
        at = moment.write(self._now())
        async with self._store.transaction() as tx:
            weight = evidence.weigh(await self._ours(tx), offer)
            match weight:
                case None:
                    return Weighed.NOTHING
                case Strange():
                    self.finding = _finding(weight)
                    return Weighed.LEFT
                case Adopt(record=record) if not self._is_relay:
                    await issued.adopt(tx, record, raw, fingerprint=_kid(offer), at=at)
                case Adopt(record=record) | Reissue(record=record):
                    return await self._raise_above(tx, record, raw, at)
                case _:
                    assert_never(weight)
        self._log.info("field.record_adopted", version=str(record.version))
        self.finding = None
        return Weighed.CHANGED

    async def take_answer(self, device: str, raw: bytes) -> Weighed:
        """Take what a shadow sent on request: know it again, and weigh the record it holds."""
        envelope = open_envelope(raw)
        if isinstance(envelope, Unreadable) or not envelope.verified or envelope.typ != Typ.ANSWER:
            return Weighed.NOTHING
        answer = read(Answer, envelope.payload)
        if isinstance(answer, Unreadable) or self._asked.get(device, ("", 0.0))[0] != answer.nonce:
            return Weighed.NOTHING
        if (envelope.lead, envelope.sender) != (self._issuer.keys.lead, device):
            return Weighed.NOTHING
        if not await self._is_member(device, envelope, answer.membership):
            return Weighed.NOTHING
        if answer.record is None:
            return Weighed.NOTHING
        raw = answer.record.encode()
        record = evidence.proven(self._authority, open_envelope(raw))
        if record is not None and not record.version.is_exhausted:  # who signed that one stole the key (F02)
            self._held[device] = Holding(device, record, raw)
            self._sent.set()
        return await self.weigh(raw)

    async def ask_all(self) -> tuple[Holding | None, int, int]:
        """Ask every shadow; give the highest record, how many hold it, and how many answered."""
        async with self._store.reading() as tx:
            known = {member.id for member in await members.members(tx)}
        known |= accounts.read_beside_keys(self._state_dir).keys()
        self._held.clear()
        for device in sorted(known):
            self._asked.pop(device, None)
            await self.want(device, 0.0)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ASK_ALL_S):
                while not known <= self._held.keys():
                    self._sent.clear()
                    await self._sent.wait()
        return (*self._highest(), len(self._held))

    async def tell(self) -> JsonObject:
        """Ask every shadow, and say what came of it: the highest record, how many hold it, how many answered."""
        best, agree, answered = await self.ask_all()
        if best is None:
            return {"found": None, "agree": 0, "answered": answered}
        record = best.record
        found: JsonObject = {
            "version": str(record.version),
            "system_id": record.system_id,
            "issued_at": record.issued_at,
            "registration": None if record.registration is None else record.registration.document,
        }
        return {"found": found, "agree": agree, "answered": answered}

    async def associate(self, wanted: str) -> None:
        """Take over the registration of this version, which the field holds, under this System ID (F07).

        Raises RefusedError if no shadow sent it.
        """
        found = next((held for held in self._held.values() if str(held.record.version) == wanted), None)
        if found is None:
            raise RefusedError(f"No shadow has sent version {wanted}.", hint="propagator associate --from-field")
        at = moment.write(self._now())
        record = found.record
        async with self._store.transaction() as tx:
            detail = f"System ID {record.system_id} before; version {record.version} of the field"
            await changes.write_own(
                tx,
                record.registration,
                event=Event.ASSOCIATED,
                origin=Origin.FIELD,
                pending=True,
                at=at,
                detail=detail,
            )
            await self._issuer.issue_above(tx, record, at)
        self.finding = None
        self._log.info("field.registration_associated", version=str(record.version))

    async def _raise_above(self, tx: Tx, record: Record, raw: bytes, at: str) -> Weighed:
        """Re-issue our content above what was found, once a start; more than that is a second lead at work."""
        if self._is_relay and not self._may_raise():
            return Weighed.LEFT  # the uplink has not decided yet: our content may be old itself
        if self._raised:
            self.finding = _finding(
                Strange(
                    "SECOND_LEAD",
                    f"Version {record.version} was issued under this lead's key, again, by somebody else.",
                    "propagator take-over",
                    record,
                )
            )
            return Weighed.LEFT
        self._raised = True
        await history.note_found(tx, record.registration, raw, version=record.version, lead=record.lead, at=at)
        await self._issuer.issue_above(tx, record, at)
        self._log.warning("field.record_overruled", version=str(record.version))
        return Weighed.CHANGED

    async def _is_member(self, device: str, envelope: Envelope, membership: str | None) -> bool:
        """Know a shadow by its row, or again by the membership that this lead signed before its database was lost."""
        async with self._store.transaction() as tx:
            member = await members.member(tx, device)
            if member is not None:
                return member.key == envelope.kid
            bound = accounts.read_beside_keys(self._state_dir).get(device)
            if bound is None or membership is None:
                return False
            word = self._membership(membership, device, envelope.kid)
            if isinstance(word, Unreadable):
                self._log.warning("field.membership_refused", device=device, why=word.detail)
                return False
            at = moment.write(self._now())
            await members.recognise(tx, device, word, membership, password_hash=bound["password_hash"], at=at)
        self._log.info("field.member_recognised", device=device)
        return True

    def _membership(self, written: str, device: str, key: str) -> Membership | Unreadable:
        """Take a membership that binds this device with this key, and say why where it is none."""
        sealed = open_envelope(written.encode())
        if isinstance(sealed, Unreadable):
            return sealed
        if sealed.typ != Typ.MEMBERSHIP:
            return Unreadable(f"it is a {sealed.typ}")
        if signing.authority(sealed) != self._authority:
            return Unreadable("it was signed by another lead, or under another key than today's")
        word = read(Membership, sealed.payload)
        if isinstance(word, Unreadable):
            return word
        if (word.device, word.key) != (device, key):
            return Unreadable("it binds another device, or another key")
        return Unreadable("it was revoked") if word.serial in accounts.read_revoked(self._state_dir) else word

    async def _ours(self, tx: Tx) -> Ours:
        current = await issued.current(tx)
        local = await held.local(tx)
        system_id = (await held.server(tx)).system_id
        return Ours(self._authority, system_id, None if current is None else current.version, local.pending)

    def _highest(self) -> tuple[Holding | None, int]:
        best: Holding | None = None
        for found in self._held.values():
            if best is None or found.record.version.compared_to(best.record.version) == "higher":
                best = found
        agree = 0 if best is None else sum(held.record == best.record for held in self._held.values())
        return best, agree

    @property
    def _authority(self) -> Authority:
        return self._issuer.authority


def _kid(offer: Envelope | Unreadable) -> str:
    return "" if isinstance(offer, Unreadable) else offer.kid


def _finding(strange: Strange) -> JsonObject:
    return {
        "code": strange.code,
        "title": "The field holds another record of this lead",
        "cause": strange.cause,
        "confidence": "certain",
        "remedies": [{"tool": "propagator", "commands": [strange.hint]}],
    }
