"""The lead's side of attaching (DESIGN §5): prove itself to a device with a token, and bind the device's key.

The device speaks on its attach account and proves by a MAC that it holds the token's secret; the secret itself never
travels. Whatever does not prove that is answered by silence.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from propagator import accounts, log
from propagator.core import moment, token
from propagator.core.errors import Unreadable
from propagator.core.record import read
from propagator.core.roster import Seen
from propagator.core.signing import open_envelope
from propagator.core.throttle import Throttle
from propagator.core.wire import AttachAsk, AttachBind, AttachHello, AttachOutcome, AttachResult, Membership, Typ
from propagator.store import held, issued, members

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Awaitable, Callable

    from propagator.core.signing import Envelope
    from propagator.keys import LeadKeys
    from propagator.store import Store, Tx
    from propagator.store.members import Invitation

_Word = TypeVar("_Word", AttachAsk, AttachBind)

GARBAGE_PERIOD_S = 60.0


@dataclass(frozen=True, slots=True)
class _Bound:
    """How a bind was answered: `is_new`, if the broker must learn a new account or a changed one."""

    outcome: AttachOutcome
    membership: str | None = None
    is_new: bool = False
    was_member: bool = False


class Welcome:
    """Answers devices. `reload` brings the broker's accounts up to the store."""

    def __init__(
        self,
        store: Store,
        keys: LeadKeys,
        *,
        now: Callable[[], dt.datetime],
        reload: Callable[[], Awaitable[None]],
    ) -> None:
        self._store = store
        self._keys = keys
        self._now = now
        self._reload = reload
        self._garbage = Throttle()
        self._log = log.get("welcome")

    async def answer(self, device: str, raw: bytes, send: Callable[[bytes], Awaitable[None]]) -> None:
        """Answer one message of a device; `send` publishes on its request topic."""
        envelope = open_envelope(raw)
        async with self._store.reading() as tx:
            invitation = await members.invitation(tx, device)
        if invitation is None or not accounts.is_answered(invitation, self._now()):
            return
        if isinstance(envelope, Unreadable) or not envelope.verified:
            self._ignored(device, "not a signed document")
            return
        if (envelope.lead, envelope.sender) != (self._keys.lead, device):
            self._ignored(device, "signed for another lead or device")
            return
        if envelope.typ == Typ.ATTACH_ASK:
            await self._hello(invitation, envelope, send)
        elif envelope.typ == Typ.ATTACH_BIND:
            await self._bind(invitation, envelope, send)

    async def _hello(
        self, invitation: Invitation, envelope: Envelope, send: Callable[[bytes], Awaitable[None]]
    ) -> None:
        ask = self._proved(invitation, envelope, AttachAsk)
        if ask is None:
            return
        async with self._store.reading() as tx:
            issue = await issued.current(tx)
            name = (await held.server(tx)).name
        hello = AttachHello(nonce=ask.nonce, name=name, record=None if issue is None else issue.raw.decode())
        await send(self._keys.seal(Typ.ATTACH_HELLO, hello))

    async def _bind(self, invitation: Invitation, envelope: Envelope, send: Callable[[bytes], Awaitable[None]]) -> None:
        bind = self._proved(invitation, envelope, AttachBind)
        if bind is None or bind.key != envelope.kid:
            return
        async with self._store.transaction() as tx:
            bound = await self._decide(tx, invitation.device, bind)
        result = AttachResult(nonce=bind.nonce, outcome=bound.outcome, membership=bound.membership)
        reply = self._keys.seal(Typ.ATTACH_RESULT, result)
        if bound.is_new and not bound.was_member:  # the device comes with its new account at once: make it first
            await self._reload()
        await send(reply)
        if bound.is_new and bound.was_member:  # changing an account ends its session: answer first
            await self._reload()
        self._log.info("welcome.device_answered", device=invitation.device, outcome=bound.outcome)

    async def _decide(self, tx: Tx, device: str, bind: AttachBind) -> _Bound:
        """Bind by this lead's own clock. The same token with the same key is answered `bound` any number of times."""
        invitation = await members.invitation(tx, device)
        member = await members.member(tx, device)
        at = moment.write(self._now())
        if invitation is None or invitation.revoked_at is not None:
            return _Bound(AttachOutcome.REVOKED)
        if invitation.used_at is not None:
            if invitation.key == bind.key and member is not None and member.key == bind.key:
                return _Bound(AttachOutcome.BOUND, member.membership)
            return _Bound(AttachOutcome.USED)
        if at >= invitation.expires_at:
            return _Bound(AttachOutcome.EXPIRED)
        serial = secrets.token_hex(16)
        membership = Membership(device=device, key=bind.key, serial=serial)
        written = self._keys.seal(Typ.MEMBERSHIP, membership).decode()
        shadow = members.Member(
            id=device,
            name=bind.name,
            kind=bind.kind,
            system_id=bind.system_id,
            key=bind.key,
            password_hash=bind.password_hash,
            serial=serial,
            membership=written,
            attached_at=at,
            revoked_at=None,
            seen=Seen(None, confirmed=False),
            report=None,
            online=False,
            presence=None,
            told_seq=self._keys.seq,
        )
        await members.bind(tx, shadow, at=at)
        return _Bound(AttachOutcome.BOUND, written, is_new=True, was_member=member is not None)

    def _proved(self, invitation: Invitation, envelope: Envelope, kind: type[_Word]) -> _Word | None:
        """Read a device's word, if its MAC shows that the device holds the token's secret."""
        word = read(kind, envelope.payload)
        if isinstance(word, Unreadable):
            self._ignored(invitation.device, word.detail)
            return None
        members_of: dict[str, str] = word.model_dump(mode="json")
        if not hmac.compare_digest(word.mac, token.mac(invitation.mac_key, envelope.typ, members_of)):
            self._ignored(invitation.device, "its MAC does not fit the token")
            return None
        return word

    def _ignored(self, device: str, why: str) -> None:
        now_s = asyncio.get_running_loop().time()
        if count := self._garbage.counted(device, GARBAGE_PERIOD_S, now_s):
            self._log.warning("welcome.message_ignored", device=device, why=why, count=count)
