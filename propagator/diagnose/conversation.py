"""One conversation with what answers at the lead's address: TLS, MQTT, subscription, record, heartbeat.

Each stage has its own time; what ended it is told with what TCP knows of the very connection, for silence has many
causes. No secret goes out before the certificate was checked.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from propagator.bus import BusKind, Endpoint, Trace, handshake, over
from propagator.core.decide import Refuse
from propagator.core.diagnosis.seen import Answer, Conversation, End, Stage, Talk
from propagator.core.errors import BusError
from propagator.core.record import Record
from propagator.core.signing import open_envelope
from propagator.core.wire import Heartbeat, Leaf, Topic, Typ
from propagator.core.word import lead_word
from propagator.probe import sockets, tries
from propagator.probe.certificate import certificate_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from propagator.bus import Message, Session, Tls
    from propagator.core.decide import Trust
    from propagator.core.diagnosis.seen import Certificate
    from propagator.probe.sockets import TcpInfo

STAGE_S: Final = 3.0
"""How long each stage may take."""

SMALL_SEGMENT: Final = 536
"""The segment size that every path of IPv4 carries (RFC 9293 §3.7.1)."""

_STRANGER: Final = "propagator-probe"
_RESERVED: Final = b"\x20"  # the first byte of a CONNACK


@dataclass(frozen=True, slots=True)
class Account:
    """As whom a diagnosis speaks: an account that may read and ends nobody's session. `ask` seals a sign of life."""

    username: str
    identifier: str
    password: str = field(repr=False)
    ask: Callable[[], bytes] | None = None


@dataclass(frozen=True, slots=True)
class Peer:
    """Whom a diagnosis talks to.

    Why TLS cannot be checked, or the account is not to be had, stands in `no_tls` and `no_account`.
    """

    lead: str
    tls: Tls | None
    trust: Trust | None
    account: Account | None = None
    no_account: str = ""
    no_tls: str = ""

    @property
    def is_complete(self) -> bool:
        """Whether every stage can be gone through."""
        return self.account is not None and self.trust is not None and not self.no_tls


async def converse(address: str, port: int, host: str, peer: Peer) -> AsyncGenerator[Conversation, None]:
    """Talk to one address; after silence once more with small segments, and once more as before.

    Gives what was heard whenever there is more of it: the first conversation counts even if no time is left for others.
    """
    first = await _talk(address, port, host, peer)
    heard = Conversation(first)
    yield heard
    if first.end is End.TIMEOUT or (first.end is End.NOTHING and first.gap > 0):
        heard = replace(heard, small=await _talk(address, port, host, peer, segment=SMALL_SEGMENT))
        yield heard
        yield replace(heard, again=await _talk(address, port, host, peer))
        return
    if first.verify_code is not None:
        heard = replace(heard, certificate=await _certificate(address, port, host))
        yield heard
    if first.stage in {Stage.TLS, Stage.MQTT} and first.end in {End.TLS, End.CLOSED, End.RESET, End.NOT_MQTT}:
        other_way = first.verify_code is None and await _answers_the_other_way(address, port, peer)
        yield replace(heard, other_way=other_way)


async def pause(  # noqa: PLR0913, PLR0917  as `converse`, what that heard, and how long
    address: str, port: int, host: str, peer: Peer, heard: Conversation, seconds: float
) -> Conversation:
    """After a conversation that went well: keep a connection quiet for a while, say a word on it, then talk anew.

    `seconds` up to `LONGEST_PAUSE_S`: what asks nothing meanwhile is ended by the broker after a while of its own.
    """
    loop = asyncio.get_running_loop()
    course = _Course(Stage.TLS, loop.time())
    idle = Talk(Stage.HEARTBEAT, End.DONE)
    async with _connected(address, port, None) as sock:
        if sock is None:
            return heard
        watch = sock.dup()
        with watch:
            course.watch(watch)
            try:
                await _quiet(sock, address, host, peer, course, seconds)
            except _EndedError as ended:
                idle = _ended(course, ended, watch)
    return replace(heard, idle=idle, idle_s=seconds, again=await _talk(address, port, host, peer))


LONGEST_PAUSE_S: Final = 100.0
_KEEPALIVE_S: Final = 120
"""The longest that Mosquitto takes from a client of the embedded broker."""


async def _quiet(  # noqa: PLR0913, PLR0917  as `_stages`, and how long
    sock: socket.socket, address: str, host: str, peer: Peer, course: _Course, seconds: float
) -> None:
    account = peer.account
    if account is None or account.ask is None:
        raise _EndedError(End.UNCHECKED, peer.no_account)
    if peer.tls is not None:
        sock = await _secured(sock, peer.tls, host)
    course.reach(Stage.MQTT)
    endpoint = Endpoint(
        (_written(address),),
        account.username,
        account.password,
        identifier=account.identifier,
        keepalive_s=_KEEPALIVE_S,
    )
    try:
        async with over(sock, endpoint, address, course.trace, STAGE_S) as session:
            course.reach(Stage.HEARTBEAT)
            await asyncio.sleep(seconds)
            await session.publish(str(Topic(peer.lead, Leaf.PRESENCE, account.username)), account.ask())
    except BusError as error:
        raise _of(error, course) from error


class _EndedError(Exception):
    """A stage did not go well."""

    def __init__(self, end: End, detail: str = "", **more: int | str | None) -> None:
        super().__init__(end, detail)
        self.end, self.detail, self.more = end, detail, more


@dataclass(slots=True)
class _Course:
    """How far a conversation has come."""

    stage: Stage
    begun_s: float
    passed: list[tuple[Stage, float]] = field(default_factory=list)
    trace: Trace = field(default_factory=Trace)
    info: TcpInfo | None = None

    def watch(self, sock: socket.socket) -> None:
        """Ask TCP how our words fared, before our goodbye is one of them."""
        self.trace.before_goodbye = lambda: setattr(self, "info", sockets.tcp_info(sock))

    def reach(self, stage: Stage) -> None:
        """The stage before went well."""
        now = asyncio.get_running_loop().time()
        self.passed.append((self.stage, now - self.begun_s))
        self.stage, self.begun_s = stage, now


async def _talk(address: str, port: int, host: str, peer: Peer, segment: int | None = None) -> Talk:
    loop = asyncio.get_running_loop()
    course = _Course(Stage.TLS if peer.tls is not None else Stage.MQTT, loop.time())
    async with _connected(address, port, segment) as sock:
        if sock is None:
            return Talk(course.stage, End.TIMEOUT, detail="a second connection did not come about")
        watch = sock.dup()
        with watch:
            course.watch(watch)
            try:
                await _stages(sock, address, host, peer, course)
            except _EndedError as ended:
                return _ended(course, ended, watch)
            course.reach(Stage.HEARTBEAT)
            return Talk(Stage.HEARTBEAT, End.DONE, passed=tuple(course.passed))


def _ended(course: _Course, ended: _EndedError, watch: socket.socket) -> Talk:
    info = course.info or sockets.tcp_info(watch)
    talk = Talk(
        stage=course.stage,
        end=ended.end,
        took_s=asyncio.get_running_loop().time() - course.begun_s,
        detail=ended.detail,
        sent=max(course.trace.sent, 1),
        acked=info.acked,
        unacked=info.unacked,
        gap=info.gap,
        passed=tuple(course.passed),
    )
    return replace(talk, **ended.more)  # type: ignore[arg-type]  # verify_code, tls_reason


@contextlib.asynccontextmanager
async def _connected(address: str, port: int, segment: int | None) -> AsyncIterator[socket.socket | None]:
    """Connect; None if that did not work this time."""
    family, where = sockets.sockaddr(address, port)
    sock = socket.socket(family, socket.SOCK_STREAM)
    with sock:
        sock.setblocking(False)  # noqa: FBT003
        if segment is not None:
            sockets.limit_segments(sock, segment)
        attempt = await tries.attempt(sock, where, tries.CONNECT_S)
        yield sock if attempt.answer is Answer.CONNECTED else None


async def _stages(sock: socket.socket, address: str, host: str, peer: Peer, course: _Course) -> None:
    if peer.no_tls:
        raise _EndedError(End.UNCHECKED, peer.no_tls)
    if peer.tls is not None:
        sock = await _secured(sock, peer.tls, host)
        course.reach(Stage.MQTT)
    if peer.account is None or peer.trust is None:
        sock.close()
        raise _EndedError(End.UNCHECKED, peer.no_account)
    account = peer.account
    endpoint = Endpoint((_written(address),), account.username, account.password, identifier=account.identifier)
    try:
        async with over(sock, endpoint, address, course.trace, STAGE_S) as session:
            course.reach(Stage.AUTHORISED)
            topics = [str(Topic(peer.lead, leaf)) for leaf in (Leaf.REGISTRATION, Leaf.HEARTBEAT)]
            await session.subscribe(*topics)
            course.reach(Stage.RECORD)
            await _hear(session, peer.lead, peer.trust, account, course)
    except BusError as error:
        raise _of(error, course) from error


async def _secured(sock: socket.socket, tls: Tls, host: str) -> socket.socket:
    try:
        async with asyncio.timeout(STAGE_S):
            return await handshake(sock, tls, host)
    except TimeoutError as exc:
        raise _EndedError(End.TIMEOUT) from exc
    except ssl.SSLCertVerificationError as exc:
        raise _EndedError(End.TLS, exc.verify_message, verify_code=exc.verify_code) from exc
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError) as exc:
        raise _EndedError(End.CLOSED) from exc
    except ssl.SSLError as exc:
        raise _EndedError(End.TLS, exc.reason or "", tls_reason=exc.reason or "") from exc
    except ConnectionError as exc:
        raise _EndedError(End.RESET) from exc
    except OSError as exc:
        raise _EndedError(End.TIMEOUT, str(exc)) from exc


def _of(error: BusError, course: _Course) -> _EndedError:
    """Say how a stage over MQTT ended: what the bus says, with what was seen of the bytes."""
    trace = course.trace
    if trace.first and trace.first != _RESERVED and course.stage is Stage.MQTT:
        return _EndedError(End.NOT_MQTT, "its first byte is none that a broker sends")
    if isinstance(trace.failure, ssl.SSLError) and trace.failure.reason:
        return _EndedError(End.TLS, trace.failure.reason, tls_reason=trace.failure.reason)
    match error.kind:
        case BusKind.NOT_AUTHORISED:
            return _EndedError(End.REFUSED if course.stage is Stage.MQTT else End.SUBSCRIPTION)
        case BusKind.PROTOCOL:
            return _EndedError(End.NOT_MQTT, str(error))
        case BusKind.TIMEOUT | BusKind.MUTE:
            return _EndedError(End.TIMEOUT)
        case _:
            return _EndedError(End.RESET if isinstance(trace.failure, ConnectionResetError) else End.CLOSED)


async def _hear(session: Session, lead: str, trust: Trust, account: Account, course: _Course) -> None:
    """Wait for the record, then for a heartbeat, which may come first; each must be the lead's."""
    messages = session.messages()
    heard: set[Leaf] = set()
    record, heartbeat = (str(Topic(lead, leaf)) for leaf in (Leaf.REGISTRATION, Leaf.HEARTBEAT))
    for wanted, topic in ((Leaf.REGISTRATION, record), (Leaf.HEARTBEAT, heartbeat)):
        if wanted is Leaf.HEARTBEAT:
            course.reach(Stage.HEARTBEAT)
            if wanted not in heard and account.ask is not None:
                await session.publish(str(Topic(lead, Leaf.PRESENCE, account.username)), account.ask())
        try:
            async with asyncio.timeout(STAGE_S):
                while wanted not in heard:
                    message = await anext(messages)
                    _check(message, trust, record)
                    heard.add(Leaf.REGISTRATION if message.topic == record else Leaf.HEARTBEAT)
        except TimeoutError as exc:
            raise _EndedError(End.NOTHING, f"nothing came on {topic}") from exc


def _check(message: Message, trust: Trust, record: str) -> None:
    envelope = open_envelope(message.payload)
    word = (
        lead_word(envelope, trust, Typ.RECORD, Record)
        if message.topic == record
        else lead_word(envelope, trust, Typ.HEARTBEAT, Heartbeat)
    )
    if isinstance(word, Refuse):
        raise _EndedError(End.UNTRUSTED, word.text)


async def _answers_the_other_way(address: str, port: int, peer: Peer) -> bool:
    """Speak without TLS where it was used, and with it where it was not; says no name and no secret."""
    if peer.tls is None:
        return await _certificate(address, port, "propagator.invalid") is not None
    async with _connected(address, port, None) as sock:
        if sock is None:
            return False
        trace = Trace()
        stranger = Endpoint((_written(address),), _STRANGER, "")
        try:
            async with over(sock, stranger, address, trace, STAGE_S):
                return True
        except BusError as error:  # a whole CONNACK that says no is an answer; its first byte alone may be anything
            return trace.first == _RESERVED and error.kind in {BusKind.NOT_AUTHORISED, BusKind.PROTOCOL}


async def _certificate(address: str, port: int, host: str) -> Certificate | None:
    """Read the certificate that is shown, without trusting it; None where none is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        async with asyncio.timeout(STAGE_S):
            _, writer = await asyncio.open_connection(address, port, ssl=context, server_hostname=host)
    except (OSError, TimeoutError, ValueError):
        return None
    try:
        secure = writer.get_extra_info("ssl_object")
        raw = secure.getpeercert(binary_form=True)
        return None if raw is None else certificate_of(raw)
    finally:
        writer.transport.abort()


def _written(address: str) -> str:
    """An address as an Endpoint wants it; the socket is connected already, so the port is for texts."""
    return f"[{address}]:1" if ":" in address else f"{address}:1"
