"""The device's side of attaching (DESIGN §5): find the lead, know it, show what would change, bind the own key.

Nothing of this device changes before the lead has answered `bound`; a crash at any line leaves either the old link or
the new one, and the same token can be tried again.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeVar

from propagator import certificates, files, keys, settings, subtree
from propagator.broker import hash_password
from propagator.bus import Endpoint, MqttBus
from propagator.config import parse_address
from propagator.core import moment, signing, token
from propagator.core.decide import Refuse, Trust, judge
from propagator.core.errors import BusError, RefusedError, StateError, Unreadable
from propagator.core.record import Document, Record, read
from propagator.core.signing import PrivateKey, open_envelope
from propagator.core.state import State
from propagator.core.wire import (
    ATTACH_SUFFIX,
    AttachAsk,
    AttachBind,
    AttachHello,
    AttachOutcome,
    AttachResult,
    Leaf,
    Topic,
    Typ,
)
from propagator.following import FIRST_PERIOD_S, tls
from propagator.keys import Credentials
from propagator.store import held, members, uplinks

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable
    from pathlib import Path

    from propagator.bus import Bus
    from propagator.bus import Session as Link
    from propagator.core.token import Derived, Token
    from propagator.core.version import Version
    from propagator.store import Store

ANSWER_TIMEOUT_S: Final = 10.0

_Reply = TypeVar("_Reply", AttachHello, AttachResult)

_REFUSED: Final = {
    AttachOutcome.USED: "The token was used already, for another device or another key.",
    AttachOutcome.EXPIRED: "The token has expired.",
    AttachOutcome.REVOKED: "The token was revoked.",
}


@dataclass(frozen=True, slots=True)
class Preview:
    """What attaching would do: the lead, and its record (None: it has none) beside this server's own."""

    lead: str
    lead_name: str
    record: Record | None
    local: held.LocalRecord
    attached_to: str | None
    below: int


class Attaching:
    """One attaching with one token, over one connection."""

    def __init__(self, store: Store, invitation: Token, state_dir: Path, now: Callable[[], dt.datetime]) -> None:
        self._store = store
        self._token = invitation
        self._state_dir = state_dir
        self._now = now
        self._derived: Derived = token.derive(invitation.secret)
        self._trust = Trust(invitation.lead, invitation.identity, invitation.seq)
        self._credentials = self._remembered() or self._fresh()
        self._seq = invitation.seq

    async def run(self, confirm: Callable[[Preview], bool]) -> Preview | None:
        """Attach, asking `confirm` before anything changes; None if it said no.

        Raises BusError (no connection), RefusedError (the lead said no, or is not the one of the token), StateError.
        """
        await self._check_device()
        async with self._bus().connect() as link:
            await link.subscribe(self._topic(Leaf.REQUEST))
            hello = await self._ask(link)
            preview = await self._preview(hello)
            if not confirm(preview):
                return None
            keys.save_credentials(keys.attaching_path(self._state_dir), self._credentials, self._state_dir)
            result = await self._bind(link)
        if result.outcome is not AttachOutcome.BOUND or result.membership is None:
            raise RefusedError(
                _REFUSED[result.outcome], hint=f"ask for a new one: propagator invite {self._token.device}"
            )
        await self._follow(preview, result.membership)
        return preview

    # Before a connection.

    async def _check_device(self) -> None:
        async with self._store.reading() as tx:
            server = await held.server(tx)
        if server.id != self._token.device:
            raise RefusedError(
                f"The token is for {self._token.device!r}; this server is {server.id!r}.",
                hint=f"at the lead: propagator invite {server.id}",
            )

    def _remembered(self) -> Credentials | None:
        """The key of an earlier try with this very token: the lead may have bound it already."""
        path = keys.attaching_path(self._state_dir)
        earlier = keys.load_credentials(path) if path.exists() else None
        return earlier if earlier is not None and earlier.token_id == self._derived.token_id else None

    def _fresh(self) -> Credentials:
        account = self._token.account
        return Credentials(
            username=self._token.device if account is None else account.username,
            password=secrets.token_urlsafe(32) if account is None else account.password,
            key=PrivateKey.generate(),
            membership="",
            token_id=self._derived.token_id,
        )

    def _bus(self) -> Bus:
        account = self._token.account
        return MqttBus(
            Endpoint(
                addresses=self._token.addresses,
                username=self._token.device + ATTACH_SUFFIX if account is None else account.username,
                password=self._derived.password if account is None else account.password,
                identifier=self._token.device + ATTACH_SUFFIX,
                tls=tls(ca_certificate(self._token)),
            )
        )

    # The conversation.

    async def _ask(self, link: Link) -> AttachHello:
        nonce = secrets.token_urlsafe(16)
        ask = AttachAsk(nonce=nonce, mac=self._mac(Typ.ATTACH_ASK, {"nonce": nonce}))
        await self._say(link, Typ.ATTACH_ASK, ask)
        return await self._reply(link, Typ.ATTACH_HELLO, AttachHello, nonce)

    async def _bind(self, link: Link) -> AttachResult:
        async with self._store.reading() as tx:
            server = await held.server(tx)
        nonce = secrets.token_urlsafe(16)
        members = {
            "nonce": nonce,
            "key": self._credentials.key.thumbprint,
            "password_hash": hash_password(self._credentials.password, secrets.token_bytes(12)),
            "name": server.name,
            "kind": server.kind,
            "system_id": server.system_id,
        }
        bind = AttachBind.model_validate({**members, "mac": self._mac(Typ.ATTACH_BIND, members)})
        await self._say(link, Typ.ATTACH_BIND, bind)
        return await self._reply(link, Typ.ATTACH_RESULT, AttachResult, nonce)

    async def _say(self, link: Link, typ: Typ, document: Document) -> None:
        key = self._credentials.key
        raw = signing.seal(typ, document, key, lead=self._token.lead, sender=self._token.device)
        await link.publish(self._topic(Leaf.ANSWER), raw)

    async def _reply(self, link: Link, typ: Typ, kind: type[_Reply], nonce: str) -> _Reply:
        """Wait for the lead's word that carries our nonce; anything else on the topic is not it."""
        stranger: Refuse | None = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                async for message in link.messages():
                    word = self._lead_word(message.payload, typ, kind)
                    if isinstance(word, Refuse):
                        stranger = word
                    elif word is not None and word.nonce == nonce:
                        return word
        if stranger is not None:
            raise RefusedError(
                f"What answers is not the lead of this token. {stranger.text}", hint="ask the lead for a new token"
            )
        raise BusError(
            f"The broker of {self._token.lead!r} is there, but the lead does not answer.",
            kind="timeout",
            hint="at the lead: propagator status",
        )

    def _lead_word(self, raw: bytes, typ: Typ, kind: type[_Reply]) -> _Reply | Refuse | None:
        envelope = open_envelope(raw)
        if isinstance(envelope, Unreadable) or envelope.typ != typ or envelope.lead != self._token.lead:
            return None
        authority = signing.authority(envelope)
        if (stranger := judge(authority, self._trust)) is not None:
            return stranger
        self._seq = self._seq if authority is None else authority.seq
        word = read(kind, envelope.payload)
        return None if isinstance(word, Unreadable) else word

    async def _preview(self, hello: AttachHello) -> Preview:
        async with self._store.reading() as tx:
            local = await held.local(tx)
            link = await uplinks.uplink(tx)
            below = subtree.count(await members.members(tx))
        record = None if hello.record is None else self._record(hello.record.encode())
        return Preview(self._token.lead, hello.name, record, local, None if link is None else link.lead, below)

    def _record(self, raw: bytes) -> Record | None:
        """Read the lead's record for showing; what counts is decided when it is offered."""
        envelope = open_envelope(raw)
        if isinstance(envelope, Unreadable) or judge(signing.authority(envelope), self._trust) is not None:
            raise RefusedError(
                "The lead's record does not verify under its own key.", hint="at the lead: propagator status"
            )
        record = read(Record, envelope.payload)
        return None if isinstance(record, Unreadable) else record

    # What is kept.

    async def _follow(self, preview: Preview, membership: str) -> None:
        """Keep the new link: its own files first, the database next, `uplink.toml` in one step at the end."""
        at = moment.write(self._now())
        ca = ca_certificate(self._token)
        credentials = replace(self._credentials, membership=membership)
        mine = keys.credentials_path(self._state_dir, self._derived.token_id)
        ca_file = None if ca is None else mine.with_suffix(".crt")
        keys.save_credentials(mine, credentials, self._state_dir)
        if ca is not None and ca_file is not None:
            files.write_public(ca_file, ca.encode(), owner_of=self._state_dir)
        lowest: Version | None = self._token.version
        link = uplinks.Uplink(preview.lead, preview.lead_name, self._token.identity, State.UNKNOWN, at, FIRST_PERIOD_S)
        async with self._store.transaction() as tx:
            await uplinks.attach(tx, link, seq=self._seq, lowest=lowest, at=at)
        uplink = settings.Uplink(
            lead=self._token.lead,
            addresses=tuple(parse_address(address) for address in self._token.addresses),
            ca_file=ca_file,
            lead_key=self._token.identity,
            credential_file=mine,
        )
        text = settings.render_uplink(uplink)
        files.write_public(self._state_dir / settings.UPLINK_FILE, text.encode(), owner_of=self._state_dir)
        keys.forget_credentials(self._state_dir, but=mine)

    def _mac(self, typ: Typ, members: dict[str, str]) -> str:
        return token.mac(self._derived.mac_key, typ, members)

    def _topic(self, leaf: Leaf) -> str:
        return str(Topic(self._token.lead, leaf, self._token.device + ATTACH_SUFFIX))


def ca_certificate(invitation: Token) -> str | None:
    """Give the lead's CA certificate as PEM; None: the lead stands behind a public CA."""
    return None if not invitation.ca else certificates.der_to_pem(_der(invitation.ca)).decode()


def _der(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise RefusedError("The token's CA certificate is damaged.", hint="ask the lead for a new token") from error


async def detach(store: Store, state_dir: Path, *, restore: bool, at: str) -> held.LocalRecord | None:
    """End the uplink: database first, then its files. Gives what came back, if anything. Raises StateError: none."""
    async with store.transaction() as tx:
        if await uplinks.uplink(tx) is None:
            raise StateError("This server is not attached to a lead.", hint="propagator status")
        restored = await uplinks.detach(tx, restore=restore, at=at)
    (state_dir / settings.UPLINK_FILE).unlink(missing_ok=True)
    return restored
