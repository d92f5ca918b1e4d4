"""The wire (DESIGN §4): the topics as an inverse pair, and every document that crosses it.

`topic text -> Topic -> topic text`, and `bytes -> signing.open_envelope -> read(kind, payload)`. Raw bytes are verified
first and parsed after. Documents of the lead carry its delegation, those of a shadow its own key.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeVar

from pydantic import AfterValidator, Field, JsonValue, PlainSerializer, PlainValidator, StrictBool, StrictInt, StrictStr

from propagator.core import session
from propagator.core.record import (
    Document,
    Hop,
    Moment,
    Record,
    ServerId,
    Sha256,
    SystemId,
    Thumbprint,
    VersionText,
)
from propagator.core.registration import plain_text
from propagator.core.session import Mark, Session
from propagator.core.signing import Delegation
from propagator.core.state import Reason, State

if TYPE_CHECKING:
    from propagator.core.version import Version

W = TypeVar("W", State, Reason)

PREFIX: Final = "propagator/1"
ATTACH_SUFFIX: Final = "_attach"
PROBE_SUFFIX: Final = "_probe"
_ID: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_TOPIC: Final = re.compile(
    rf"{PREFIX}/(?P<lead>{_ID})/(?:(?P<own>registration|heartbeat)"
    rf"|shadows/(?P<sender>{_ID}(?:_attach|_probe)?)/(?P<leaf>report|presence|request|answer))",
    re.ASCII,
)


class Leaf(StrEnum):
    """The last level of a topic: which document lies there."""

    REGISTRATION = "registration"
    HEARTBEAT = "heartbeat"
    REPORT = "report"
    PRESENCE = "presence"
    REQUEST = "request"
    ANSWER = "answer"


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic of a lead. `account` is the shadow's broker account (an id, `ID_attach` or `ID_probe`), or None."""

    lead: str
    leaf: Leaf
    account: str | None = None

    def __str__(self) -> str:
        below = "" if self.account is None else f"shadows/{self.account}/"
        return f"{PREFIX}/{self.lead}/{below}{self.leaf}"


def parse_topic(text: str) -> Topic | None:
    """Read a topic; None if it is none of ours. `parse_topic(str(topic)) == topic`."""
    match = _TOPIC.fullmatch(text)
    if match is None:
        return None
    return Topic(match["lead"], Leaf(match["own"] or match["leaf"]), match["sender"])


def everything_from_shadows(lead: str) -> tuple[str, ...]:
    """Give the filters that a lead subscribes to, beside its own topics."""
    return tuple(f"{PREFIX}/{lead}/shadows/+/{leaf}" for leaf in (Leaf.REPORT, Leaf.PRESENCE, Leaf.ANSWER))


_WORD: Final = re.compile(r"[a-z][a-z0-9_]{0,31}", re.ASCII)


def _state(value: object) -> State | str:
    """Read a state; the word of a newer program is kept as it is, so that the rest of its document counts (F51)."""
    return _known(State, value)


def _reason(value: object) -> Reason | str:
    """Read a reason, as `_state` reads a state."""
    return _known(Reason, value)


def _known(words: type[W], value: object) -> W | str:
    if not isinstance(value, str) or _WORD.fullmatch(value) is None:
        raise ValueError("is no word; written like in_sync")
    return words(value) if value in set(words) else value


def _session(value: object) -> Session:
    parsed = value if isinstance(value, Session) else session.parse(value) if isinstance(value, str) else None
    if parsed is None:
        raise ValueError("is no session; written like 1764000000-k7f3q2")
    return parsed


StateWord = Annotated[State | str, PlainValidator(_state), PlainSerializer(str)]
ReasonWord = Annotated[Reason | str, PlainValidator(_reason), PlainSerializer(str)]
SessionText = Annotated[Session, PlainValidator(_session), PlainSerializer(str)]
Counter = Annotated[StrictInt, Field(ge=0, le=2**53 - 1)]
Nonce = Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9_-]{16,64}$")]
Line = Annotated[StrictStr, AfterValidator(plain_text), Field(max_length=500)]  # composing (NFC) may lengthen a text
Mac = Annotated[StrictStr, Field(pattern=r"^[0-9a-f]{64}$")]
SignedText = Annotated[StrictStr, Field(max_length=64 * 1024)]


class Said(Document):
    """What has a place in the order of its sender's words."""

    session: SessionText
    counter: Counter

    @property
    def mark(self) -> Mark:
        """The place."""
        return Mark(self.session, self.counter)


class Heard(Document):
    """The last other heartbeat under the lead's own key: two leads prove each other by it (F03)."""

    session: SessionText
    counter: Counter


class Upstream(Document):
    """How a relay's own uplink stands."""

    state: StateWord
    since: Moment | None
    version: VersionText | None
    hash: Sha256 | None


class Heartbeat(Said):
    """A sign of life of the lead, every `period_s`. `version` null: alive, but it knows no record."""

    version: VersionText | None
    hash: Sha256 | None
    heard: Heard | None
    upstream: Upstream | None
    period_s: Annotated[float, Field(strict=True, gt=0, le=3600)]


class Refusal(Document):
    """The last offer that was refused."""

    reason: ReasonWord
    text: Line


class FloorEntry(Document):
    """The highest record that a shadow accepted from this lead."""

    version: VersionText
    hash: Sha256


class Report(Said):
    """What a shadow durably holds. `version` is null when the record in force is not this lead's."""

    nonce: Nonce | None
    floor: FloorEntry | None
    version: VersionText | None
    hash: Sha256 | None
    stored_at: Moment | None
    lead_session: SessionText | None
    state: StateWord
    refusal: Refusal | None
    finding: dict[str, JsonValue] | None
    subtree: dict[str, JsonValue] | None
    name: Line
    kind: Line
    system_id: SystemId | None


class Presence(Said):
    """Birth and will of a connection, with its session: for display only."""

    online: StrictBool


class Request(Document):
    """What the lead asks one shadow: to report again, to send the record or the heartbeats it holds, or to probe it.

    `at` is the lead's time; a request that comes by another way than the broker must be fresh (FIREWALL.md §5, 3).
    """

    nonce: Nonce
    wanted: Literal["report", "record", "heartbeats", "probe"]
    membership: SignedText | None = None
    at: Moment | None = None


class Answer(Document):
    """What a shadow holds of its lead's, signed: record and membership for a lead that lost something.

    `heartbeats`: the last of each of the two sessions that it heard last, for a lead that may have a copy (F03).
    """

    nonce: Nonce
    record: SignedText | None
    membership: SignedText | None
    heartbeats: Annotated[tuple[SignedText, ...], Field(max_length=2)] = ()


class AttachAsk(Document):
    """A device with a token asks its lead to prove itself. `mac` is under the key derived from the token's secret."""

    nonce: Nonce
    mac: Mac


class AttachHello(Document):
    """The lead proves itself: the device's nonce, and its current signed record (null: it has none)."""

    nonce: Nonce
    name: Line
    record: SignedText | None


class AttachBind(Document):
    """The device's own key (it signs this) and its broker password as mosquitto's `$7$` line, under the MAC."""

    nonce: Nonce
    key: Thumbprint
    password_hash: Annotated[StrictStr, Field(pattern=r"^\$7\$[1-9]\d{0,3}\$[A-Za-z0-9+/]{16}\$[A-Za-z0-9+/]{86}==$")]
    name: Line
    kind: Line
    system_id: SystemId
    mac: Mac


class AttachOutcome(StrEnum):
    """How a lead answers a bind, by its own clock."""

    BOUND = "bound"
    USED = "used"
    EXPIRED = "expired"
    REVOKED = "revoked"


class AttachResult(Document):
    """The lead's answer to a bind; with `bound`, the membership that the device keeps."""

    nonce: Nonce
    outcome: AttachOutcome
    membership: SignedText | None


class Membership(Document):
    """The lead's word that this device key is one of its shadows. `serial` is 128 random bits, to revoke it by."""

    device: ServerId
    key: Thumbprint
    serial: Annotated[StrictStr, Field(pattern=r"^[0-9a-f]{32}$")]


class Typ(StrEnum):
    """The `typ` of each document's header."""

    RECORD = "record"
    HEARTBEAT = "heartbeat"
    REPORT = "report"
    PRESENCE = "presence"
    REQUEST = "request"
    ANSWER = "answer"
    ATTACH_ASK = "attach-ask"
    ATTACH_HELLO = "attach-hello"
    ATTACH_BIND = "attach-bind"
    ATTACH_RESULT = "attach-result"
    MEMBERSHIP = "membership"
    DELEGATION = "delegation"


DOCUMENTS: Final[dict[str, type[Document]]] = {
    Typ.RECORD: Record,
    Typ.HEARTBEAT: Heartbeat,
    Typ.REPORT: Report,
    Typ.PRESENCE: Presence,
    Typ.REQUEST: Request,
    Typ.ANSWER: Answer,
    Typ.ATTACH_ASK: AttachAsk,
    Typ.ATTACH_HELLO: AttachHello,
    Typ.ATTACH_BIND: AttachBind,
    Typ.ATTACH_RESULT: AttachResult,
    Typ.MEMBERSHIP: Membership,
    Typ.DELEGATION: Delegation,
}
"""What each `typ` carries."""

BY_A_LEAD: Final = frozenset(
    {Typ.RECORD, Typ.HEARTBEAT, Typ.REQUEST, Typ.ATTACH_HELLO, Typ.ATTACH_RESULT, Typ.MEMBERSHIP}
)
"""What counts only with a delegation of the lead's identity key."""


def path_of(hops: tuple[Hop, ...]) -> tuple[tuple[str, str], ...]:
    """Give a path as plain pairs (id, identity thumbprint), as floors keep it."""
    return tuple((hop.id, hop.identity) for hop in hops)


def version_text(version: Version | None) -> str | None:
    """Write a version, or none."""
    return None if version is None else str(version)
