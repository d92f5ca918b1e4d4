"""Drawing a way that is well, and reading what was drawn: real sockets and TLS on loopback."""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import ssl
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from propagator import at_need
from propagator.bus import Tls
from propagator.core.diagnosis.seen import Answer, Icmp, Picture
from propagator.probe import pictures, sockets, tries
from propagator.probe.certificate import certificate_of
from tests.enrol import places
from tests.enrol.places import Ca
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOST = "127.0.0.1"
AT = "2026-11-24T10:00:00.000Z"
BOTH = pytest.mark.parametrize("address", [HOST, "::1"])
CA = Ca.made("lead ca")
PEM, _KEY = CA.leaf(HOST)
DER = ssl.PEM_cert_to_DER_cert(PEM.decode())


@contextlib.contextmanager
def listening(address: str = HOST) -> Iterator[int]:
    with socket.create_server((address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET) as server:
        yield server.getsockname()[1]


async def shown(_: str) -> bytes | None:
    return DER


async def nothing_shown(_: str) -> bytes | None:
    return None


# Pictures.


async def test_what_is_drawn_is_read(tmp_path: Path) -> None:
    with listening() as port:
        await pictures.draw(tmp_path, HOST, port, AT, shown)
    picture = pictures.load(tmp_path)[HOST]
    assert (picture.at, picture.hops, picture.routers, picture.ttl) == (AT, 1, (), 64)
    assert picture.certificate is not None
    key = x509.load_der_x509_certificate(DER).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert picture.certificate.issuer == "CN=lead ca"
    assert picture.certificate.fingerprint == hashlib.sha256(DER).hexdigest()
    assert picture.certificate.key == hashlib.sha256(key).hexdigest()


async def test_who_is_not_the_lead_is_not_drawn_and_the_last_good_picture_stays(tmp_path: Path) -> None:
    with listening() as port:
        await pictures.draw(tmp_path, HOST, port, AT, shown)
        await pictures.draw(tmp_path, HOST, port, "2026-11-25T10:00:00.000Z", nothing_shown)
    assert pictures.load(tmp_path)[HOST].at == AT


async def test_a_name_that_is_not_found_is_not_drawn(tmp_path: Path) -> None:
    await pictures.draw(tmp_path, places.NAME, 9, AT, shown)
    assert pictures.load(tmp_path) == {}


def test_a_picture_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    old = {"ways": {HOST: {"at": AT, "hops": 3, "routers": ["10.1.0.1", "10.2.0.2"]}}}
    (tmp_path / pictures.FILE_NAME).write_text(json.dumps(old))
    assert pictures.load(tmp_path) == {HOST: Picture(AT, 3, ("10.1.0.1", "10.2.0.2"))}


@pytest.mark.parametrize(
    "spoilt",
    [
        {"ttl": "62", "certificate": 7},
        {"ttl": 0, "certificate": ""},
        {"ttl": 256, "certificate": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"},
        {"ttl": None, "certificate": None},
    ],
    ids=str,
)
def test_what_cannot_be_read_of_a_picture_is_not_known(tmp_path: Path, spoilt: dict[str, object]) -> None:
    told = {"ways": {HOST: {"at": AT, "hops": 3, "routers": [], **spoilt}}}
    (tmp_path / pictures.FILE_NAME).write_text(json.dumps(told))
    assert pictures.load(tmp_path) == {HOST: Picture(AT, 3)}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"ways": []}', '{"ways": {"a": {"hops": "3", "at": 1}}}'])
def test_a_spoilt_file_is_no_picture(tmp_path: Path, content: str) -> None:
    (tmp_path / pictures.FILE_NAME).write_text(content)
    assert pictures.load(tmp_path) == {}


def test_a_certificate_with_a_serial_number_below_nought_is_read_without_a_word() -> None:
    """The library warns of it, on the terminal of whoever asked for a diagnosis; in these tests that is an error."""
    number = x509.load_der_x509_certificate(DER).serial_number
    serial = number.to_bytes(number.bit_length() // 8 + 1, "big")  # as DER writes it
    assert DER.count(serial) == 1
    found = certificate_of(DER.replace(serial, bytes([serial[0] | 0x80]) + serial[1:]))
    assert found is not None
    assert found.issuer == "CN=lead ca"


# The certificate, held to the CA that is known.


async def test_the_certificate_is_taken_from_the_lead_alone(tmp_path: Path) -> None:
    with places.http(lambda _: places.said({}), places.context_of(tmp_path, (PEM, _KEY))) as place:
        port = place.port
        assert await at_need._certificate(HOST, port, "es-1.example", Tls(CA.pem, verify_name=False)) == DER
        another = Tls(Ca.made("lead ca").pem, verify_name=False)
        assert await at_need._certificate(HOST, port, "es-1.example", another) is None
        assert await at_need._certificate(HOST, port, "es-1.example", Tls(CA.pem)) is None
    assert await at_need._certificate(HOST, free_port(), HOST, Tls(CA.pem)) is None


async def test_who_is_mute_shows_no_certificate_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(at_need, "SHOWN_S", 0.2)
    with listening() as port:
        assert await at_need._certificate(HOST, port, HOST, Tls(CA.pem)) is None


# The TTL.


@BOTH
@pytest.mark.parametrize("guess", [None, 1, 63, 64, 65, 255])
async def test_whatever_is_guessed_the_ttl_is_found(address: str, guess: int | None) -> None:
    with listening(address) as port:
        assert await tries.answer_ttl(address, port, guess, wait_s=0.15) == 64


async def test_a_guess_that_is_right_costs_one_try_that_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    real, asked = tries._answers_above, []

    async def above(address: str, port: int, ttl: int, wait_s: float) -> bool:
        asked.append((ttl, await real(address, port, ttl, wait_s)))
        return asked[-1][1]

    monkeypatch.setattr(tries, "_answers_above", above)
    with listening() as port:
        assert await tries.answer_ttl(HOST, port, 64) == 64
    assert asked == [(1, True), (64, True), (65, False)]


async def test_a_kernel_that_counts_every_answer_knows_no_ttl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "ignore_below", lambda *_: False)
    with listening() as port:
        assert await tries.answer_ttl(HOST, port) is None


@BOTH
async def test_icmp_tells_how_far_it_came(address: str) -> None:
    found = await tries.knock(address, port=free_port())
    assert (found.answer, found.icmp, found.ttl) == (Answer.REJECTED, Icmp.PORT, 64)
