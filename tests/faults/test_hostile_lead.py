"""F44: what answers at the lead's address is hostile or broken. A verdict, never a stack trace, never beyond its time.

Real servers on loopback, each of which spoils one thing; the stages' time is cut short, or most of these would take it.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ipaddress
import socket
import ssl
import struct
import threading
import time
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import count
from typing import TYPE_CHECKING, Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from propagator.bus import Tls
from propagator.core.diagnosis import judge
from propagator.core.diagnosis.seen import Address, End, Seen, Stage
from propagator.core.wire import Heartbeat, Leaf, Topic, Typ
from propagator.diagnose import conversation, course
from propagator.diagnose.conversation import Account, Peer, converse
from propagator.probe import counters, kernel, names, path
from propagator.probe.certificate import certificate_of
from tests.ports import free_port, mute_port
from tests.unit.builders import Lead, key, registered
from tests.unit.sights import connecting, named, said

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from propagator.core.diagnosis.seen import Conversation

STAGE_S: Final = 0.3
"""What each stage may take here."""

MARGIN_S: Final = 3.0
"""For a machine that is busy with other things."""

LEAD = Lead()
STRANGER = Lead(identity=key("stranger"), signing=key("stranger signing"))
HOST: Final = "127.0.0.1"


@pytest.fixture(autouse=True)
def _short_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "STAGE_S", STAGE_S)


# Servers.

Speak = "Callable[[socket.socket], None]"


@contextlib.contextmanager
def serving(speak: Callable[[socket.socket], None]) -> Iterator[int]:
    """Hold this conversation with everybody who comes, each in a thread; nobody is left in the end."""
    peers: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def hold(peer: socket.socket) -> None:
        with peer, contextlib.suppress(OSError, ValueError):
            speak(peer)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = server.accept()
                peers.append(peer)
                threads.append(threading.Thread(target=hold, args=(peer,), daemon=True))
                threads[-1].start()

    with socket.create_server((HOST, 0), backlog=64) as server:
        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        accepting.join(5)
    for peer in peers:
        with contextlib.suppress(OSError):  # most have hung up by themselves
            peer.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join(5)


def close_at_once(_: socket.socket) -> None:
    """Take the connection and hang up; what then comes is answered with a reset."""


def hear_and_close(peer: socket.socket) -> None:
    """Read the first word, and hang up."""
    peer.recv(65536)


def reset_at_once(peer: socket.socket) -> None:
    """Take the connection, and reset it before a byte is read."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def reset_after_a_word(peer: socket.socket) -> None:
    peer.recv(1)
    reset_at_once(peer)


def say_nothing(peer: socket.socket) -> None:
    while peer.recv(65536):
        pass


def saying(first: bytes, *more: bytes, every_s: float = 0.0) -> Callable[[socket.socket], None]:
    """Say this, and then the rest for ever, as fast as the other side takes it or one piece in a while."""

    def speak(peer: socket.socket) -> None:
        peer.sendall(first)
        for index in count():
            if not more:
                break
            time.sleep(every_s)
            peer.sendall(more[index % len(more)])
        say_nothing(peer)

    return speak


def answering(said: bytes) -> Callable[[socket.socket], None]:
    """Hear something, then answer with this and hang up."""

    def speak(peer: socket.socket) -> None:
        peer.recv(65536)
        peer.sendall(said)
        peer.shutdown(socket.SHUT_WR)
        say_nothing(peer)

    return speak


def packet(kind: int, body: bytes) -> bytes:
    size, length = b"", len(body)
    while length > 127:
        size += bytes([length % 128 | 128])
        length //= 128
    return bytes([kind]) + size + bytes([length]) + body


def publication(leaf: Leaf, payload: bytes, *, retained: bool = False) -> bytes:
    topic = str(Topic(LEAD.id, leaf)).encode()
    return packet(0x31 if retained else 0x30, struct.pack(">H", len(topic)) + topic + payload)


@dataclass(frozen=True)
class Broker:
    """As much of an MQTT 3.1.1 broker as a diagnosis meets. None: it hangs up in the place of this answer."""

    connack: int | None = 0
    suback: int | None = 1
    record: tuple[bytes, ...] = ()
    heartbeat: tuple[bytes, ...] = ()
    asked: tuple[bytes, ...] = ()
    after: Callable[[socket.socket], None] = field(default=say_nothing)

    def __call__(self, peer: socket.socket) -> None:
        subscriptions = 0
        while kind := peer.recv(1):
            body = self._body(peer)
            match kind[0] >> 4:
                case 1 if self.connack is not None and body[2:6] == b"MQTT":
                    peer.sendall(bytes([0x20, 2, 0, self.connack]))
                case 8 if self.suback is not None:
                    peer.sendall(bytes([0x90, 3]) + body[:2] + bytes([self.suback]))
                    subscriptions += 1
                    if subscriptions == 2:
                        for said in (*self.record, *self.heartbeat):
                            peer.sendall(said)
                case 3:
                    size = struct.unpack_from(">H", body)[0]
                    peer.sendall(bytes([0x40, 2]) + body[2 + size : 4 + size])
                    for said in self.asked:
                        peer.sendall(said)
                case _:
                    return

    @staticmethod
    def _body(peer: socket.socket) -> bytes:
        size = shift = 0
        while digit := peer.recv(1):
            size |= (digit[0] & 127) << shift
            shift += 7
            if digit[0] < 128:
                break
        body = b""
        while len(body) < size:
            if not (piece := peer.recv(size - len(body))):
                raise OSError("the other side hung up")
            body += piece
        return body


# Certificates.

NOW: Final = dt.datetime.now(dt.UTC)
DAY: Final = dt.timedelta(days=1)


@dataclass(frozen=True)
class Shown:
    """A certificate with its key, both as PEM, and the CA's."""

    ca: str
    pem: bytes

    def context(self, folder: Path) -> ssl.SSLContext:
        file = folder / "server.pem"
        file.write_bytes(self.pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context


@cache
def _ca(name: str) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    secret = ec.generate_private_key(ec.SECP256R1())
    made = _unsigned(name, name, secret, NOW - DAY, NOW + DAY)
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return secret, made.sign(secret, hashes.SHA256())


def _unsigned(
    subject: str, issuer: str, secret: ec.EllipticCurvePrivateKey, begins: dt.datetime, ends: dt.datetime
) -> x509.CertificateBuilder:
    name, by = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in (subject, issuer))
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(by)
        .public_key(secret.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
    )


def shown(
    by: str = "site", names_: tuple[str, ...] = (), *, begins: dt.datetime = NOW - DAY, ends: dt.datetime = NOW + DAY
) -> Shown:
    """Make a certificate for 127.0.0.1, or for these names."""
    ca_key, ca = _ca(by)
    secret = ec.generate_private_key(ec.SECP256R1())
    listed: list[x509.GeneralName] = [x509.DNSName(name) for name in names_]
    made = _unsigned("lead", by, secret, begins, ends).add_extension(
        x509.SubjectAlternativeName(listed or [x509.IPAddress(ipaddress.ip_address(HOST))]), critical=False
    )
    encoding = serialization.Encoding.PEM
    private = secret.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    certificate = made.sign(ca_key, hashes.SHA256()).public_bytes(encoding)
    return Shown(ca.public_bytes(encoding).decode(), certificate + private)


def over_tls(context: ssl.SSLContext, speak: Callable[[socket.socket], None]) -> Callable[[socket.socket], None]:
    """Speak this over TLS; who does not get so far is heard out, so that no reset drowns the alert."""

    def secured(peer: socket.socket) -> None:
        try:
            secure = context.wrap_socket(peer.dup(), server_side=True)
        except OSError:
            peer.shutdown(socket.SHUT_WR)
            say_nothing(peer)
            return
        with secure:
            speak(secure)

    return secured


# Peers: whom a diagnosis believes to talk to.

ACCOUNT: Final = Account("plant-3_probe", "plant-3_probe", "secret")
PLAIN: Final = Peer(LEAD.id, None, LEAD.trust(), ACCOUNT)


def pinned(certificate: Shown | None = None, *, verify_name: bool = False) -> Peer:
    ca = (certificate or shown()).ca
    return replace(PLAIN, tls=Tls(ca, verify_name))


async def heard(port: int, peer: Peer, *, stages: int = 1) -> Conversation:
    """Converse, and see that it took no longer than so many stages, three times over."""
    began_s = time.monotonic()
    found = [heard async for heard in converse(HOST, port, HOST, peer)][-1]
    assert time.monotonic() - began_s < 3 * stages * STAGE_S + MARGIN_S
    return found


def judged(found: Conversation, port: int = 8883) -> str:
    seen: Address = replace(connecting(address=HOST), port=port)
    return said(judge(Seen((named(HOST),), (seen,), ((HOST, found),))))


# Anything may answer.

NOISE: Final = bytes(range(255, -1, -1)) * 16

ANYTHING = {
    "garbage": (saying(NOISE), "NOT_MQTT C", "NOT_MQTT C"),
    "garbage for ever": (saying(NOISE, NOISE), "NOT_MQTT C", "NOT_MQTT C"),
    "one byte in a while": (saying(b"S", b"S", every_s=0.05), "NOT_MQTT C", "NOT_MQTT C"),
    "one byte of TLS in a while": (
        saying(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc", b"\x03", every_s=0.05),
        "ACCEPTED_BUT_MUTE C",
        "NOT_MQTT C",
    ),
    "one byte of a greeting without end": (
        saying(b"\x20\xff\xff\xff\x7f", b"\0", every_s=0.05),
        "NOT_MQTT C",
        "ACCEPTED_BUT_MUTE C",
    ),
    "a banner without end": (saying(b"SSH-2.0-x", b"welcome " * 500), "NOT_MQTT C", "NOT_MQTT C"),
    "hangs up": (hear_and_close, "CLOSED_BEFORE_CONNACK C", "CLOSED_BEFORE_CONNACK C"),
    "says nothing": (say_nothing, "ACCEPTED_BUT_MUTE C", "ACCEPTED_BUT_MUTE C"),
    "HTTP": (answering(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), "NOT_MQTT C", "NOT_MQTT C"),
}


@pytest.mark.parametrize(("speak", "verdict"), [(each[0], each[1]) for each in ANYTHING.values()], ids=ANYTHING)
async def test_f44_where_tls_is_wanted(speak: Callable[[socket.socket], None], verdict: str) -> None:
    with serving(speak) as port:
        found = await heard(port, pinned(), stages=2)
    assert judged(found) == verdict


@pytest.mark.parametrize(("speak", "verdict"), [(each[0], each[2]) for each in ANYTHING.values()], ids=ANYTHING)
async def test_f44_where_mqtt_is_wanted(speak: Callable[[socket.socket], None], verdict: str) -> None:
    with serving(speak) as port:
        found = await heard(port, PLAIN, stages=2)
    assert judged(found) == verdict


@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")  # of wrap_socket, on a reset connection
@pytest.mark.parametrize("peer", [PLAIN, pinned()], ids=["MQTT is wanted", "TLS is wanted"])
@pytest.mark.parametrize("speak", [close_at_once, reset_at_once, reset_after_a_word])
async def test_f44_who_hangs_up_at_once_is_told(peer: Peer, speak: Callable[[socket.socket], None]) -> None:
    """Whether the connection stood, or a byte of ours was acknowledged, is a matter of microseconds here."""
    with serving(speak) as port:
        found = await heard(port, peer)
    ends = {"RESET_ON_PAYLOAD C", "CLOSED_BEFORE_CONNACK P", "CLOSED_BEFORE_CONNACK C", "FLAKY P"}
    assert judged(found) in ends


async def test_a_port_that_let_nobody_in_a_second_time() -> None:
    found = await heard(free_port(), PLAIN)
    assert judged(found) == "FLAKY P"


# TLS.


async def test_a_certificate_of_an_unknown_ca_is_read_and_not_believed(tmp_path: Path) -> None:
    other = shown("Corporate Web Gateway")
    with serving(over_tls(other.context(tmp_path), say_nothing)) as port:
        found = await heard(port, pinned())
    assert judged(found) == "TLS_UNKNOWN_CA C"
    assert found.certificate is not None
    assert found.certificate.issuer == "CN=Corporate Web Gateway"
    assert found.certificate.names == (HOST,)


@pytest.mark.parametrize(
    ("begins", "ends", "verdict"),
    [
        pytest.param(NOW - 30 * DAY, NOW - DAY, "TLS_EXPIRED C", id="expired"),
        pytest.param(NOW + DAY, NOW + 30 * DAY, "TLS_NOT_YET_VALID C", id="not yet valid"),
    ],
)
async def test_a_certificate_out_of_its_time(
    tmp_path: Path, begins: dt.datetime, ends: dt.datetime, verdict: str
) -> None:
    certificate = shown(begins=begins, ends=ends)
    with serving(over_tls(certificate.context(tmp_path), say_nothing)) as port:
        found = await heard(port, pinned(certificate))
    assert judged(found) == verdict
    assert found.certificate is not None
    assert abs(found.certificate.not_after - ends) < dt.timedelta(seconds=1)


async def test_a_certificate_of_another_name_counts_where_names_do(tmp_path: Path) -> None:
    certificate = shown(names_=("other.example",))
    with serving(over_tls(certificate.context(tmp_path), Broker(connack=5))) as port:
        assert judged(await heard(port, pinned(certificate, verify_name=True))) == "TLS_NAME_MISMATCH C"
        assert judged(await heard(port, pinned(certificate))) == "MQTT_REFUSED C"


@pytest.mark.parametrize(("names_", "verdict"), [(1_000, "TLS_UNKNOWN_CA C"), (10_000, "TLS_FAILED C")])
async def test_f44_a_huge_certificate(tmp_path: Path, names_: int, verdict: str) -> None:
    """OpenSSL takes 100 KB; of what it takes, ten names are told."""
    huge = shown("another", tuple(f"host-{index}.example" for index in range(names_)))
    with serving(over_tls(huge.context(tmp_path), say_nothing)) as port:
        found = await heard(port, pinned())
    assert judged(found) == verdict
    assert found.certificate is None or len(found.certificate.names) == 10


async def test_a_broker_that_wants_a_certificate_says_so(tmp_path: Path) -> None:
    certificate = shown()
    context = certificate.context(tmp_path)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=certificate.ca)
    with serving(over_tls(context, say_nothing)) as port:
        found = await heard(port, pinned(certificate))
    assert judged(found) == "TLS_CLIENT_CERT C"
    assert found.first.stage is Stage.MQTT


async def test_a_broker_without_tls_where_tls_is_wanted() -> None:
    with serving(Broker()) as port:
        found = await heard(port, pinned())
    assert judged(found) == "TLS_NOT_TLS C"


async def test_a_broker_with_tls_where_none_is_wanted(tmp_path: Path) -> None:
    certificate = shown()
    with serving(over_tls(certificate.context(tmp_path), Broker())) as port:
        found = await heard(port, PLAIN)
    assert judged(found) == "TLS_WANTED C"


@given(st.data())
def test_f44_no_certificate_raises(data: st.DataObject) -> None:
    """Whatever stands in one: it is read for display alone."""
    raw = bytearray(_ca("site")[1].public_bytes(serialization.Encoding.DER))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    certificate_of(bytes(raw))


# MQTT.

RECORD: Final = publication(Leaf.REGISTRATION, LEAD.signed("1.1.aaaa.1", registered("Riverside House")), retained=True)


def heartbeat(lead: Lead = LEAD) -> bytes:
    said = Heartbeat.model_validate(
        {
            "session": "1-abcd",
            "counter": 1,
            "version": None,
            "hash": None,
            "heard": None,
            "upstream": None,
            "period_s": 60.0,
        }
    )
    return publication(Leaf.HEARTBEAT, lead.seal(Typ.HEARTBEAT, said))


BROKERS = {
    "refuses the account": (Broker(connack=5), "MQTT_REFUSED C"),
    "refuses the password": (Broker(connack=4), "MQTT_REFUSED C"),
    "hangs up on CONNECT": (Broker(connack=None), "CLOSED_BEFORE_CONNACK C"),
    "refuses the subscription": (Broker(suback=0x80), "MQTT_SUBSCRIBE_REFUSED C"),
    "hangs up on SUBSCRIBE": (Broker(suback=None), "MQTT_SUBSCRIBE_REFUSED P"),
    "has no record": (Broker(), "NO_RECORD C"),
    "has a record of a stranger": (
        Broker(record=(publication(Leaf.REGISTRATION, STRANGER.signed("1.1.aaaa.1", registered())),)),
        "NOT_THE_LEAD C",
    ),
    "has garbage for a record": (Broker(record=(publication(Leaf.REGISTRATION, NOISE),)), "NOT_THE_LEAD C"),
    "has an empty record": (Broker(record=(publication(Leaf.REGISTRATION, b""),)), "NOT_THE_LEAD C"),
    "has a record, and no heartbeat comes": (Broker(record=(RECORD,)), "NO_HEARTBEAT P"),
    "has a record, and a stranger's heartbeat": (
        Broker(record=(RECORD,), heartbeat=(heartbeat(STRANGER),)),
        "NOT_THE_LEAD C",
    ),
    "has heartbeats, and no record": (Broker(heartbeat=(heartbeat(),) * 300), "NO_RECORD C"),
    "has both": (Broker(record=(RECORD,), heartbeat=(heartbeat(),)), "OK C"),
    "has the heartbeat first": (Broker(record=(heartbeat(), RECORD)), "OK C"),
    "says nonsense after SUBACK": (Broker(record=(b"\x00\x00\xff\xff",)), "CANNOT_TELL ?"),
}


@pytest.mark.parametrize(("broker", "verdict"), BROKERS.values(), ids=BROKERS)
async def test_a_broker_that(broker: Broker, verdict: str) -> None:
    with serving(broker) as port:
        found = await heard(port, PLAIN, stages=4)
    assert judged(found) == verdict


async def test_a_sign_of_life_of_ours_brings_one_of_the_lead() -> None:
    asking = replace(PLAIN, account=replace(ACCOUNT, ask=lambda: b"a presence"))
    with serving(Broker(record=(RECORD,), asked=(heartbeat(),))) as port:
        assert judged(await heard(port, asking)) == "OK C"
        assert judged(await heard(port, PLAIN, stages=2)) == "NO_HEARTBEAT P"


@pytest.mark.parametrize(
    "peer",
    [
        pytest.param(replace(PLAIN, account=None, no_account="it cannot be read"), id="without an account"),
        pytest.param(replace(PLAIN, trust=None, no_account="it cannot be read"), id="without a lead to trust"),
    ],
)
async def test_what_this_user_may_not_read_is_not_checked(peer: Peer) -> None:
    with serving(Broker()) as port:
        found = await heard(port, peer)
    assert (found.first.end, found.first.detail) == (End.UNCHECKED, "it cannot be read")
    assert judged(found) == "CANNOT_TELL ?"


async def test_tls_is_checked_without_an_account(tmp_path: Path) -> None:
    certificate = shown()
    with serving(over_tls(certificate.context(tmp_path), say_nothing)) as port:
        found = await heard(port, replace(pinned(certificate), account=None))
    assert [stage for stage, _ in found.first.passed] == [Stage.TLS]
    assert found.first.end is End.UNCHECKED


async def test_a_good_conversation_tells_its_stages(tmp_path: Path) -> None:
    certificate = shown()
    broker = Broker(record=(RECORD,), heartbeat=(heartbeat(),))
    with serving(over_tls(certificate.context(tmp_path), broker)) as port:
        found = await heard(port, pinned(certificate))
    stages = [Stage.TLS, Stage.MQTT, Stage.AUTHORISED, Stage.RECORD, Stage.HEARTBEAT]
    assert found.first.end is End.DONE
    assert [stage for stage, _ in found.first.passed] == stages


# The whole course, with names that somebody bends.


async def diagnosed(monkeypatch: pytest.MonkeyPatch, *found: str, host: str = "es-1.example", port: int = 0) -> str:
    """Run the whole course to a name that leads there; the resolver alone is patched."""
    monkeypatch.setattr(names, "_ask", lambda _: list(found))
    began_s = time.monotonic()
    seen, steps = await course.run([(host, port or free_port())], PLAIN, lambda _: None, {})
    assert time.monotonic() - began_s < 10 + MARGIN_S
    assert {step.stage for step in steps} == set(Stage) - {Stage.TLS}
    return said(judge(seen))


@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1", "::", "::1", "224.0.0.1", "ff02::1", "::ffff:127.0.0.1"])  # noqa: S104
async def test_f44_a_name_that_leads_nowhere_is_not_dialled(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    async def dialled(*_: object) -> None:
        raise AssertionError("it was dialled")

    monkeypatch.setattr(path, "look", dialled)
    assert await diagnosed(monkeypatch, address) == "DNS_SINKHOLE C"


async def test_f44_a_name_of_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await diagnosed(monkeypatch) == "DNS_SINKHOLE C"


async def test_f44_of_fifty_addresses_few_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []
    look = path.look

    async def looked(address: str, *more: object) -> Address:
        tried.append(address)
        return await look(address, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(path, "look", looked)
    fifty = [f"127.0.0.{number}" for number in range(1, 51)]
    assert await diagnosed(monkeypatch, *fifty, host="localhost") == "PORT_CLOSED P"
    assert tried == fifty[:6]


async def test_one_good_address_of_several_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker(record=(RECORD,), heartbeat=(heartbeat(),))
    with serving(broker) as port:
        assert await diagnosed(monkeypatch, "127.0.0.2", HOST, host="localhost", port=port) == "OK C"


async def test_f47_a_course_ends_in_its_time_and_says_what_it_did_not_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "_ask", lambda _: [HOST])
    monkeypatch.setattr(course, "TOTAL_S", 0.3)
    with mute_port() as port:
        began_s = time.monotonic()
        seen, steps = await course.run([("localhost", port)], PLAIN, lambda _: None, {})
    assert time.monotonic() - began_s < 0.3 + MARGIN_S
    assert said(judge(seen)) == "CANNOT_TELL ?"
    assert "time was up" in judge(seen).reason
    assert {step.result for step in steps if step.stage is not Stage.RESOLVE} == {"not_checked"}


async def test_without_proc_and_netlink_there_is_still_a_verdict(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(counters, "_NET", tmp_path / "none")
    monkeypatch.setattr(kernel, "_ask", lambda *_, **__: iter(()))
    assert await diagnosed(monkeypatch, HOST, host="localhost") == "PORT_CLOSED P"


async def test_a_course_that_is_cancelled_leaves_nothing_behind() -> None:
    with serving(say_nothing) as port:
        underway = asyncio.Event()
        task = asyncio.create_task(course.run([(HOST, port)], PLAIN, lambda _: underway.set(), {}))
        await underway.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
