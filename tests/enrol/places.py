"""Programs on loopback that stand where a portal, a proxy or somebody in between would: real TCP, TLS and HTTP.

Each holds its conversations in threads of its own; at the end of its block every connection is closed.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import json
import socket
import ssl
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from propagator import config
from propagator.core.signing import PrivateKey
from propagator.enrol.way import Way

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NOW: Final = dt.datetime.now(dt.UTC)
DAY: Final = dt.timedelta(days=1)
NAME: Final = "portal.invalid"
"""A name that no resolver knows (RFC 6761); a proxy under test does."""


# Certificates.


@dataclass(frozen=True, slots=True)
class Ca:
    """A certification authority."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @classmethod
    def made(cls, name: str, organisation: str = "") -> Ca:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(name, organisation)
        builder = _builder(subject, subject, key.public_key(), NOW - 400 * DAY, NOW + 400 * DAY)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        return cls(builder.sign(key, hashes.SHA256()), key)

    def leaf(
        self,
        *names: str,
        begins: dt.datetime = NOW - 30 * DAY,
        ends: dt.datetime = NOW + 30 * DAY,
        subject: str = "",
    ) -> tuple[bytes, bytes]:
        """Give a certificate and its key, as PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = _builder(_name(subject or names[0]), self.certificate.subject, key.public_key(), begins, ends)
        made = made.add_extension(x509.SubjectAlternativeName([_alternative(name) for name in names]), critical=False)
        pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
        private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
        return made.sign(self.key, hashes.SHA256()).public_bytes(pem), private


def _name(name: str, organisation: str = "") -> x509.Name:
    more = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation)] if organisation else []
    return x509.Name([*more, x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    begins: dt.datetime,
    ends: dt.datetime,
) -> x509.CertificateBuilder:
    return x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number(), begins, ends)


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def context_of(tmp_path: Path, pair: tuple[bytes, bytes], name: str = "leaf") -> ssl.SSLContext:
    """Make a server's TLS of a certificate and its key."""
    certificate, key = tmp_path / f"{name}.crt", tmp_path / f"{name}.key"
    certificate.write_bytes(pair[0])
    key.write_bytes(pair[1])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


# Servers.


@dataclass(frozen=True, slots=True)
class Request:
    """What came in."""

    line: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return self.line.split(" ")[1]


@dataclass(slots=True)
class Place:
    """A server that stands. `requests` is all that it was asked."""

    port: int
    requests: list[Request] = field(default_factory=list)

    def url(self, *, secure: bool = False) -> str:
        return f"{'https' if secure else 'http'}://127.0.0.1:{self.port}"

    def way(self, ca: Ca | None = None, proxy: config.Proxy | None = None) -> Way:
        """Give the way to it; with a CA it is over TLS."""
        portal = config.parse_portal(self.url(secure=ca is not None))
        return Way(portal, proxy, None if ca is None else ca.pem, "the test")

    @property
    def proxy(self) -> config.Proxy:
        """Itself as a proxy."""
        return config.Proxy(config.Address("127.0.0.1", self.port))


@contextmanager
def listening(talk: Callable[[socket.socket], None], tls: ssl.SSLContext | None = None) -> Iterator[Place]:
    """Hold this conversation with everybody who connects."""
    open_ones: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def hold(peer: socket.socket) -> None:
        with peer, contextlib.suppress(OSError, ValueError):
            if tls is None:
                talk(peer)
                return
            if not peer.recv(1, socket.MSG_PEEK):  # who connects to look, and leaves; CPython leaks such a socket
                return
            with tls.wrap_socket(peer, server_side=True) as secure:
                open_ones.append(secure)
                talk(secure)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = server.accept()
                open_ones.append(peer)
                thread = threading.Thread(target=hold, args=(peer,), daemon=True)
                threads.append(thread)
                thread.start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threads.append(threading.Thread(target=serve, daemon=True))
        threads[0].start()
        try:
            yield Place(server.getsockname()[1])
        finally:
            for each in (server, *open_ones):
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join(5)


Answer = tuple[int, dict[str, str], bytes]


@contextmanager
def http(answer: Callable[[Request], Answer], tls: ssl.SSLContext | None = None) -> Iterator[Place]:
    """Answer HTTP: one request a connection."""
    asked: list[Request] = []

    def talk(peer: socket.socket) -> None:
        request = heard(peer)
        asked.append(request)
        peer.sendall(written(*answer(request)))

    with listening(talk, tls) as place:
        place.requests = asked
        yield place


def heard(peer: socket.socket) -> Request:
    """Read one request. Raises OSError where the peer leaves before its end."""
    said = b""
    while b"\r\n\r\n" not in said:
        said += _some(peer)
    head, _, body = said.partition(b"\r\n\r\n")
    line, *rest = head.decode().splitlines()
    headers = {key.lower(): value.strip() for key, _, value in (each.partition(":") for each in rest)}
    while len(body) < int(headers.get("content-length", "0")):
        body += _some(peer)
    return Request(line, headers, body)


def _some(peer: socket.socket) -> bytes:
    part = peer.recv(65536)
    if not part:
        raise ConnectionError("the peer left")
    return part


def written(status: int, headers: dict[str, str], body: bytes) -> bytes:
    """Write one answer."""
    told = {"Content-Length": str(len(body)), "Connection": "close", **headers}
    head = "".join(f"{key}: {value}\r\n" for key, value in told.items())
    return f"HTTP/1.1 {status} So\r\n{head}\r\n".encode() + body


def said(value: object, status: int = 200, **headers: str) -> Answer:
    """An answer in JSON."""
    told = {"Content-Type": "application/json", **{key.replace("_", "-"): text for key, text in headers.items()}}
    return status, told, json.dumps(value).encode()


def page(status: int = 200, text: str = "<html><body>Please log on</body></html>", **headers: str) -> Answer:
    """A page for people."""
    told = {"Content-Type": "text/html", **{key.replace("_", "-"): value for key, value in headers.items()}}
    return status, told, text.encode()


KEY: Final = PrivateKey.generate()


def about(key: PrivateKey = KEY) -> dict[str, Any]:
    """What a portal says of itself."""
    return {
        "name": "Riverside Portal",
        "id": "portal",
        "key": key.public.jwk,
        "thumbprint": key.thumbprint,
        "version": "0.1.0",
    }


# Proxies.


@contextmanager
def connecting(
    target: int = 0, *, status: str = "200 Connection established", headers: str = "", account: str = ""
) -> Iterator[Place]:
    """A proxy: answer CONNECT with this status; on 200 carry what is said to `target` on loopback, whatever was named.

    With an `account` (the text after `Basic `) whoever does not give it is answered with 407.
    """
    asked: list[Request] = []

    def talk(peer: socket.socket) -> None:
        request = heard(peer)
        asked.append(request)
        told = status
        if account and request.headers.get("proxy-authorization") != f"Basic {account}":
            told = "407 Proxy Authentication Required"
        peer.sendall(f"HTTP/1.1 {told}\r\n{headers}\r\n".encode())
        if told.startswith("200"):
            with socket.create_connection(("127.0.0.1", target)) as there:
                back = threading.Thread(target=_pump, args=(there, peer), daemon=True)
                back.start()
                _pump(peer, there)
                back.join(5)

    with listening(talk) as place:
        place.requests = asked
        yield place


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while part := source.recv(65536):
            sink.sendall(part)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def mute(peer: socket.socket) -> None:
    """Read, and say nothing."""
    while peer.recv(65536):
        pass


def plain(peer: socket.socket) -> None:
    """Answer as a web server does that was spoken to in TLS on its port without."""
    peer.recv(65536)
    peer.sendall(written(*page(400, "Bad Request")))
