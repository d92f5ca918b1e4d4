"""What the tests of bus and broker share: waiting, certificates, accounts, a broker set up by hand, a bad network."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ipaddress
import shutil
import signal
import socket
import subprocess
import threading
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from propagator.broker import Account, Listener, hash_password
from propagator.bus import Endpoint, Tls
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from propagator.broker import Right
    from propagator.bus import Bus, Message, Session

LEAD = "lead-1"
ROOT = f"propagator/1/{LEAD}"
DAY = dt.timedelta(days=1)


async def eventually(check: Callable[[], object], timeout_s: float = 5.0) -> None:
    """Wait until `check()` is true; AssertionError with its last value when the time is up."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while not (value := check()):
        assert asyncio.get_running_loop().time() < deadline, f"not within {timeout_s:g} s; last was {value!r}"
        await asyncio.sleep(0.01)


T = TypeVar("T")


async def within(awaitable: Awaitable[T], timeout_s: float = 5.0) -> T:
    async with asyncio.timeout(timeout_s):
        return await awaitable


async def next_message(session: Session, timeout_s: float = 5.0) -> Message:
    return await within(anext(aiter(session.messages())), timeout_s)


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def resources() -> dict[str, set[str]]:
    """What a connection could leave behind in this process."""
    fds: set[str] = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # that of the listing itself
            fds.add(f"{descriptor.name} {descriptor.readlink()}")
    return {
        "descriptors": fds,
        "tasks": {repr(task) for task in asyncio.all_tasks() if task is not asyncio.current_task()},
        "threads": {thread.name for thread in threading.enumerate()},
    }


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except FileNotFoundError:
        return False


def password_of(name: str) -> str:
    return f"secret-of-{name}"


def account(name: str, *rights: Right, password: str | None = None) -> Account:
    return Account(name, hash_password(password or password_of(name), name.encode().ljust(12, b"=")[:12]), rights)


def lead_account() -> Account:
    return account(LEAD, ("readwrite", f"{ROOT}/#"))


def shadow_account(name: str, password: str | None = None) -> Account:
    mine = f"{ROOT}/shadows/{name}"
    return account(
        name,
        ("write", f"{mine}/report"),
        ("write", f"{mine}/presence"),
        ("write", f"{mine}/answer"),
        ("read", f"{mine}/request"),
        ("read", f"{ROOT}/registration"),
        ("read", f"{ROOT}/heartbeat"),
        password=password,
    )


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate with its key, as files."""

    cert_file: Path
    key_file: Path


class Authority:
    """A CA of our own."""

    def __init__(self, directory: Path, name: str = "Test CA") -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._skid = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        usage = x509.KeyUsage(
            digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
            key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
        )  # fmt: skip
        certificate = (
            self._builder(self._name, self._key, -3650 * DAY, 3650 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(self._skid, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
        directory.mkdir(parents=True, exist_ok=True)
        self.ca_file = directory / "ca.crt"
        self.ca_file.write_text(self.pem)

    def issue(
        self,
        label: str = "server",
        names: tuple[str, ...] = ("broker.example",),
        begins: dt.timedelta = -3650 * DAY,
        ends: dt.timedelta = 3650 * DAY,
    ) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, label)])
        certificate = (
            self._builder(subject, key, begins, ends)
            .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self._skid), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        pair = Pair(self._directory / f"{label}.crt", self._directory / f"{label}.key")
        pair.cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        pair.key_file.touch(mode=0o600)
        pair.key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return pair

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, begins: dt.timedelta, ends: dt.timedelta
    ) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + begins)
            .not_valid_after(now + ends)
        )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def listener(authority: Authority, port: int, host: str = "127.0.0.1", pair: Pair | None = None) -> Listener:
    pair = pair or authority.issue()
    return Listener(host, port, pair.cert_file, pair.key_file, authority.ca_file)


def endpoint(
    authority: Authority | None,
    *addresses: str,
    name: str = LEAD,
    password: str | None = None,
    identifier: str = "",
    keepalive_s: int = 20,
) -> Endpoint:
    """An endpoint with a pinned private CA; without an authority, one without TLS."""
    tls = Tls(authority.pem, verify_name=False) if authority else None
    return Endpoint(addresses, name, password or password_of(name), tls, identifier=identifier, keepalive_s=keepalive_s)


class StockBroker:
    """A Mosquitto as an operator would set one up by hand: TLS, a password file, an ACL file with patterns."""

    def __init__(self, directory: Path, authority: Authority, names: tuple[str, ...]) -> None:
        self.port = free_port()
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        pair = authority.issue()
        passwords = directory / "passwords"
        passwords.touch(mode=0o600)
        for name in (LEAD, *names):
            subprocess.run(["mosquitto_passwd", "-b", passwords, name, password_of(name)], check=True)
        (directory / "topics").write_text(
            f"user {LEAD}\ntopic readwrite {ROOT}/#\n\n"
            f"pattern write {ROOT}/shadows/%u/report\npattern write {ROOT}/shadows/%u/presence\n"
            f"pattern write {ROOT}/shadows/%u/answer\npattern read {ROOT}/shadows/%u/request\n"
            f"pattern read {ROOT}/registration\npattern read {ROOT}/heartbeat\n"
        )
        (directory / "topics").chmod(0o600)
        (directory / "mosquitto.conf").write_text(
            f"listener {self.port} 127.0.0.1\ncafile {authority.ca_file}\ncertfile {pair.cert_file}\n"
            f"keyfile {pair.key_file}\nallow_anonymous false\npassword_file {passwords}\n"
            f"acl_file {directory / 'topics'}\nuse_username_as_clientid true\nmax_queued_messages 20000\nuser root\n"
        )

    async def start(self) -> None:
        program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220
                ["setpriv", "--pdeathsig", "KILL", program, "-c", self._directory / "mosquitto.conf"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        await eventually(lambda: is_listening(self.port))

    async def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        await eventually(lambda: self._process.poll() is not None)


class Relay:
    """A network between client and broker that can be cut, without a goodbye, stalled, slow, and lead elsewhere."""

    def __init__(self) -> None:
        self.port = 0
        self.target_port = 0
        """Where new connections go."""
        self.delay_s = 0.0
        """How long everything is on its way, either way."""
        self.source = "127.0.0.1"
        """Where new connections come from."""
        self.swallows = False
        """Whether what is sent on a connection is dropped, both ways; the connection itself stands."""
        self._ends: set[asyncio.Transport] = set()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        return len(self._ends) // 2

    def cut(self) -> None:
        for end in list(self._ends):
            end.abort()

    def stall(self) -> None:
        """Deliver nothing more, in either direction, and close nothing."""
        for end in self._ends:
            end.pause_reading()

    def resume(self) -> None:
        """Deliver again, beginning with what waited."""
        for end in self._ends:
            end.resume_reading()

    @asynccontextmanager
    async def to(self, target_port: int) -> AsyncIterator[Relay]:
        self.target_port = target_port
        server = await asyncio.get_running_loop().create_server(
            lambda: _RelayEnd(self, self._ends, self.target_port), "127.0.0.1", 0
        )
        self.port = int(server.sockets[0].getsockname()[1])
        try:
            yield self
        finally:
            server.close()
            self.cut()
            await eventually(lambda: not self._ends)


class _RelayEnd(asyncio.Protocol):
    """One end of a relayed connection. The end towards the client dials the other one."""

    def __init__(
        self, relay: Relay, ends: set[asyncio.Transport], target_port: int | None, peer: _RelayEnd | None = None
    ) -> None:
        self._relay = relay
        self._ends = ends
        self._due_s = 0.0
        self._target_port = target_port
        self._peer = peer
        self._early = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._ends.add(transport)
        if self._target_port is not None:
            self._dialling = asyncio.get_running_loop().create_task(self._dial(self._target_port))

    async def _dial(self, port: int) -> None:
        try:
            _, self._peer = await asyncio.get_running_loop().create_connection(
                lambda: _RelayEnd(self._relay, self._ends, None, self),
                "127.0.0.1",
                port,
                local_addr=(self._relay.source, 0),
            )
        except OSError:
            assert self.transport
            self.transport.abort()
        else:
            self._peer.send(self._early)

    def send(self, data: bytes) -> None:
        if self._relay.swallows:
            return
        loop = asyncio.get_running_loop()
        self._due_s = max(loop.time() + self._relay.delay_s, self._due_s + 1e-6)  # nothing overtakes anything
        if self._relay.delay_s:
            loop.call_at(self._due_s, self._write, data)
        else:
            self._write(data)

    def _write(self, data: bytes) -> None:
        if self.transport and data and not self.transport.is_closing():
            self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        if self._peer:
            self._peer.send(data)
        else:
            self._early += data

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        assert self.transport
        self._ends.discard(self.transport)
        if self._peer and self._peer.transport:
            self._peer.transport.close()


@asynccontextmanager
async def tcp_server(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    """A TCP server that is no broker: `answer` is all it does; it hangs up afterwards. Yields its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await answer(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield int(server.sockets[0].getsockname()[1])


async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:  # noqa: ARG001
    with contextlib.suppress(asyncio.CancelledError):  # the server is closed while the client is still there
        while await reader.read(4096):
            pass


class World(Protocol):
    """A broker with the accounts LEAD, es-1 and es-2, as whoever uses a bus sees it."""

    def bus(self, name: str, *, password: str | None = None) -> Bus: ...

    async def cut(self, name: str) -> None:
        """End the account's connections without a goodbye."""

    async def restart(self) -> None: ...
