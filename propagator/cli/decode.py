"""The command `decode`: what a signed document or an invitation says, whether it verifies, and whose it is.

Takes bytes from a file or stdin and opens them as every receiver does (`core.signing`); where there is state, the keys
in it are held against those of the document. The secret of an invitation is never shown.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import datetime as dt
import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from propagator import keys, settings, snapshot
from propagator.cli import Place, drawing, ending, json_option, located, print_json
from propagator.core import moment, signing, strict_json, token, wire
from propagator.core.errors import InputError, PropagatorError, RefusedError, Unreadable
from propagator.core.record import read
from propagator.core.signing import Envelope
from propagator.core.wire import Typ

if TYPE_CHECKING:
    from propagator.core.difference import JsonObject, JsonValue
    from propagator.core.signing import Authority
    from propagator.core.token import Token

INPUT_LIMIT: Final = 256 * 1024
"""Bytes that are read: four times the largest document, so that one too large is told as that."""


@click.command(
    epilog=ending(
        {0: "its signature verifies", 1: "it does not verify", 2: "it cannot be read"},
        ["propagator decode record.jws", "propagator history --json | jq -r '.[0].raw' | propagator decode"],
    )
)
@click.argument("file", type=click.Path(path_type=Path), required=False)
@json_option
@located
def decode(place: Place, file: Path | None, as_json: bool) -> int:
    """Read a signed document or an invitation from FILE or stdin, and check it.

    Says what it is, what it holds, whether its signature verifies under the key that it carries, and, where this
    server's state can be read, whether that key is one that this server knows. The secret of an invitation is not
    shown.
    """
    raw = _input(file).strip()
    if raw.startswith(f"{token.PREFIX}.".encode()):
        return _show_token(raw, _Known.of(place), as_json=as_json)
    envelope = signing.open_envelope(raw)
    if isinstance(envelope, Unreadable):
        raise InputError(f"This cannot be read: {envelope.detail}.", hint="give it whole, as it was published")
    opened = _opened(envelope, _Known.of(place))
    _show(opened.facts, opened.payload, as_json=as_json)
    if opened.unparsed:
        raise InputError(
            f"Its payload does not parse: {opened.unparsed}.", hint="bring this program to the sender's version"
        )
    return 0 if opened.facts["verifies"] is True else 1


def _input(file: Path | None) -> bytes:
    if file is None or str(file) == "-":
        if sys.stdin.isatty():
            click.echo("Paste the document, then press Enter and Ctrl-D.", err=True)
        return sys.stdin.buffer.read(INPUT_LIMIT)
    try:
        with file.open("rb") as stream:
            return stream.read(INPUT_LIMIT)
    except OSError as exc:
        raise InputError(f"{file} cannot be read: {exc.strerror}.", hint="propagator decode < FILE") from exc


@dataclass(frozen=True, slots=True)
class _Known:
    """The keys that this server's state knows, each with a word of `_WHO`. `missing`: why none are known.

    `lowest` is the seq below which the lead's delegations were replaced.
    """

    identities: dict[tuple[str, str], str]
    devices: dict[tuple[str, str], str]
    lowest: int = 0
    missing: str = ""

    @classmethod
    def of(cls, place: Place) -> _Known:
        """Read them; without state nobody is known, which is no error here."""
        try:
            stored = snapshot.read(place.state_dir)
        except PropagatorError as error:
            return cls({}, {}, missing=f"not checked: {error}")
        identities = {}
        if (link := stored.uplink) is not None:
            identities[link.lead, link.identity] = "lead"
        if (own := _own_authority(stored)) is not None:
            identities[own.lead, own.identity] = "own"
        devices = {(member.id, member.key): "shadow" for member in stored.members}
        if (key := _device_key(place.state_dir)) is not None:
            devices[stored.server.id, key] = "own"
        return cls(identities, devices, 0 if link is None else link.seq or 0)

    def who(self, found: Authority | None, sender: str, kid: str) -> str | None:
        """Say whose document this is; None: nobody's whom this server knows."""
        if found is None:
            return self.devices.get((sender, kid))
        word = self.identity(found.lead, found.identity)
        return "lead_before" if word == "lead" and found.seq < self.lowest else word

    def identity(self, lead: str, identity: str) -> str | None:
        """Say whose identity key this is."""
        return self.identities.get((lead, identity))

    def told(self, who: str | None) -> str:
        """Say it to a person."""
        return self.missing or _WHO.get(who or "", "nobody whom this server knows")


_WHO: Final = {
    "lead": "the lead that this server follows",
    "lead_before": "the lead that this server follows, under a delegation that it has replaced",
    "own": "this very server",
    "shadow": "a shadow of this server",
}


def _own_authority(stored: snapshot.Snapshot) -> Authority | None:
    """Find this lead's identity key in what it signed itself, which operators may read and the keys they may not."""
    raw = None if stored.downlink is None else stored.downlink.raw
    envelope = None if raw is None else signing.open_envelope(raw)
    return signing.authority(envelope) if isinstance(envelope, Envelope) else None


def _device_key(state_dir: Path) -> str | None:
    with contextlib.suppress(PropagatorError):  # without an uplink, or without the right to read its account file
        link = settings.load_uplink(state_dir / settings.UPLINK_FILE)
        return None if link is None else keys.load_credentials(link.credential_file).key.thumbprint
    return None


@dataclass(frozen=True, slots=True)
class _Opened:
    facts: JsonObject
    payload: JsonValue
    unparsed: str


def _opened(envelope: Envelope, known: _Known) -> _Opened:
    found = signing.authority(envelope)
    problem = _problem(envelope, found)
    if found is None and problem is None and envelope.typ == Typ.DELEGATION:
        appointed = signing.read_delegation(envelope)
        found = None if appointed is None else appointed[0]
    who = None if problem else known.who(found, envelope.sender, envelope.kid)
    kind = wire.DOCUMENTS.get(envelope.typ)
    parsed = None if kind is None else read(kind, envelope.payload)
    facts: JsonObject = {
        "kind": "document",
        "typ": envelope.typ,
        "lead": envelope.lead,
        "sender": envelope.sender,
        "key": envelope.kid,
        "identity": None if found is None else found.identity,
        "seq": None if found is None else found.seq,
        "verifies": problem is None,
        "problem": problem,
        "known_as": who,
        "known": known.told(who) if problem is None else "nobody can tell, since it does not verify",
    }
    return _Opened(facts, _payload(envelope.payload), parsed.detail if isinstance(parsed, Unreadable) else "")


def _problem(envelope: Envelope, found: Authority | None) -> str | None:
    if not envelope.verified:
        return "the signature does not verify under the key that it carries"
    if found is None and (envelope.delegation is not None or envelope.typ in wire.BY_A_LEAD):
        return "no delegation of an identity key appoints the key that signed it"
    return None


def _payload(payload: bytes) -> JsonValue:
    """Give the payload with all its members; what is no JSON, as text."""
    try:
        strict_json.loads(payload)
    except strict_json.Invalid:
        return payload.decode("utf-8", "backslashreplace")
    value: JsonValue = json.loads(payload)
    return value


def _show_token(raw: bytes, known: _Known, *, as_json: bool) -> int:
    try:
        invitation = token.read(raw.decode("utf-8", "replace"))
    except RefusedError as error:
        raise InputError(str(error), hint=error.hint) from error
    who = known.identity(invitation.lead, invitation.identity)
    facts: JsonObject = {"kind": "invitation", **_members(invitation), "known_as": who, "known": known.told(who)}
    _show(facts, None, as_json=as_json)
    return 0


def _members(invitation: Token) -> JsonObject:
    """Give all of an invitation but its secret and a password."""
    return {
        "lead": invitation.lead,
        "device": invitation.device,
        "addresses": list(invitation.addresses),
        "identity": invitation.identity,
        "seq": invitation.seq,
        "version": None if invitation.version is None else str(invitation.version),
        "expires_at": invitation.expires_at,
        "expired": moment.read(invitation.expires_at) < dt.datetime.now(dt.UTC),
        "ca_sha256": _fingerprint(invitation.ca),
        "account": None if invitation.account is None else invitation.account.username,
    }


def _fingerprint(certificate: str) -> str | None:
    with contextlib.suppress(binascii.Error):
        return hashlib.sha256(base64.b64decode(certificate, validate=True)).hexdigest() if certificate else None
    return "no certificate"


_NAMES: Final = {
    "kind": "Kind",
    "typ": "Document",
    "lead": "Lead",
    "sender": "Sender",
    "device": "Device",
    "addresses": "Addresses",
    "key": "Signed by key",
    "identity": "Identity key",
    "seq": "Delegation",
    "version": "From version",
    "expires_at": "Valid until",
    "ca_sha256": "CA (SHA-256)",
    "account": "Account",
    "known": "It is from",
}
_SILENT: Final = {"verifies", "problem", "known_as", "expired"}


def _show(facts: JsonObject, payload: JsonValue, *, as_json: bool) -> None:
    if as_json:
        print_json({**facts, "payload": payload} if facts["kind"] == "document" else facts)
        return
    lines = [(_NAMES[name], _line(value)) for name, value in facts.items() if name not in _SILENT and value is not None]
    if facts["kind"] == "document":
        lines.append(("Signature", "verifies" if facts["verifies"] is True else f"DOES NOT VERIFY: {facts['problem']}"))
    elif facts["expired"] is True:
        lines.append(("Expired", "yes, by the clock of this machine"))
    click.echo(drawing.draw(drawing.facts(iter(lines))), color=True)
    if facts["kind"] == "document":
        click.echo("\nPayload:")
        print_json(payload)


def _line(value: JsonValue) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return drawing.plain(text)
