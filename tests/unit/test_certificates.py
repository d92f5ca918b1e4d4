"""The private CA and the broker's certificate, held against OpenSSL itself: what it refuses here, a device refuses."""

from __future__ import annotations

import datetime as dt
import ssl
import subprocess
from typing import TYPE_CHECKING

import pytest
from cryptography import x509

from propagator import certificates
from propagator.certificates import KeyPair
from propagator.core.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("es-1.example", "192.0.2.10", "2001:db8::10")
LONGEST = "a" * 63


@pytest.fixture(scope="module")
def authority() -> KeyPair:
    return certificates.make_authority("es-1")


@pytest.fixture(scope="module")
def server(authority: KeyPair) -> KeyPair:
    return certificates.make_server_certificate(authority, NAMES)


def _shake_hands(folder: Path, server: KeyPair, ca_pem: bytes, name: str | None) -> None:
    """Run a whole TLS handshake in memory; with a name, the client checks it. Raises what the client raises."""
    pair = folder / "pair.pem"
    pair.write_bytes(server.key_pem + server.cert_pem)
    offers = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    offers.load_cert_chain(pair)
    asks = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    asks.load_verify_locations(cadata=ca_pem.decode())
    asks.verify_flags |= ssl.VERIFY_X509_STRICT  # the default from Python 3.13 on
    asks.check_hostname = name is not None
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = asks.wrap_bio(down, up, server_hostname=name)
    broker = offers.wrap_bio(up, down, server_side=True)
    waiting = [client, broker]
    for side in (client, broker) * 4:
        if side in waiting:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(side)
    assert not waiting


def _verify(folder: Path, ca_pem: bytes, cert_pem: bytes, at: int, between_pem: bytes = b"") -> bool:
    for name, content in (("ca", ca_pem), ("cert", cert_pem), ("between", between_pem or ca_pem)):
        (folder / name).write_bytes(content)
    command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-attime", str(at)]
    command += ["-CAfile", str(folder / "ca"), "-untrusted", str(folder / "between"), str(folder / "cert")]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("name", [*NAMES, None])
def test_openssl_takes_the_chain_under_each_name_and_without_one(
    tmp_path: Path, authority: KeyPair, server: KeyPair, name: str | None
) -> None:
    _shake_hands(tmp_path, server, authority.cert_pem, name)


def test_openssl_refuses_a_name_that_was_not_advertised(tmp_path: Path, authority: KeyPair, server: KeyPair) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        _shake_hands(tmp_path, server, authority.cert_pem, "other.example")


def test_openssl_refuses_the_certificate_of_another_lead_of_the_same_id(tmp_path: Path, server: KeyPair) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        _shake_hands(tmp_path, server, certificates.make_authority("es-1").cert_pem, None)


def test_f37_a_renewed_certificate_is_taken_by_who_knows_the_ca(tmp_path: Path, authority: KeyPair) -> None:
    renewed = certificates.make_server_certificate(authority, ["new.example"])
    _shake_hands(tmp_path, renewed, authority.cert_pem, "new.example")


def test_the_longest_id_makes_a_certificate_and_stands_for_a_missing_name(tmp_path: Path) -> None:
    authority = certificates.make_authority(LONGEST)
    _shake_hands(tmp_path, certificates.make_server_certificate(authority, []), authority.cert_pem, LONGEST)


def _at(year: int) -> int:
    return int(dt.datetime(year, 1, 1, tzinfo=dt.UTC).timestamp())


@pytest.mark.parametrize("at", [0, 1, _at(2026), _at(2036), _at(2050), _at(9999)])
def test_f36_the_chain_holds_whatever_the_clock_says(
    tmp_path: Path, authority: KeyPair, server: KeyPair, at: int
) -> None:
    assert _verify(tmp_path, authority.cert_pem, server.cert_pem, at)


def test_f36_the_clock_is_looked_at(tmp_path: Path, authority: KeyPair, server: KeyPair) -> None:
    """The test above would say nothing if OpenSSL took a time of 0 for no time at all."""
    assert not _verify(tmp_path, authority.cert_pem, server.cert_pem, -1)


def test_the_ca_signs_no_other_ca(tmp_path: Path, authority: KeyPair, server: KeyPair) -> None:
    """A broker's key that was stolen cannot make a second broker."""
    forged = certificates.make_server_certificate(server, ["es-1.example"])
    assert not _verify(tmp_path, authority.cert_pem, forged.cert_pem, _at(2026), server.cert_pem)


def test_the_ca_says_what_it_may_do(authority: KeyPair) -> None:
    certificate = x509.load_pem_x509_certificate(authority.cert_pem)
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert (constraints.value.ca, constraints.value.path_length) == (True, 0)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.key_cert_sign, usage.crl_sign, usage.digital_signature) == (True, True, False)


def test_the_ca_is_short_enough_for_a_token() -> None:
    """Bytes of DER with the longest id; a token carries them, in a QR picture too."""
    assert len(certificates.pem_to_der(certificates.make_authority(LONGEST).cert_pem)) < 500


def test_the_server_certificate_names_each_address_once(authority: KeyPair) -> None:
    pair = certificates.make_server_certificate(
        authority, ["es-1.example.", "es-1.example", "fe80::1%eth0", "::1", "::1"]
    )
    names = x509.load_pem_x509_certificate(pair.cert_pem).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert [str(name.value) for name in names.value] == ["es-1.example", "fe80::1", "::1"]


def test_keys_are_made_anew_each_time(authority: KeyPair, server: KeyPair) -> None:
    keys = {server.key_pem, certificates.make_server_certificate(authority, NAMES).key_pem, authority.key_pem}
    assert len(keys) == 3


def test_a_name_that_no_certificate_can_carry_is_refused(authority: KeyPair) -> None:
    with pytest.raises(InputError, match="münchen") as caught:
        certificates.make_server_certificate(authority, ["es-1", "münchen.example"])
    assert "advertise" in caught.value.hint


def test_a_damaged_authority_is_refused(authority: KeyPair, server: KeyPair) -> None:
    for damaged in (KeyPair(b"", authority.cert_pem), KeyPair(authority.key_pem, b"x")):
        with pytest.raises(InputError, match="cannot be read"):
            certificates.make_server_certificate(damaged, NAMES)
    with pytest.raises(InputError, match="does not belong"):
        certificates.make_server_certificate(KeyPair(server.key_pem, authority.cert_pem), NAMES)


def test_der_and_pem_are_two_forms_of_one_certificate(authority: KeyPair) -> None:
    assert certificates.der_to_pem(certificates.pem_to_der(authority.cert_pem)) == authority.cert_pem


@pytest.mark.parametrize("junk", [b"", b"junk", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_f41_junk_is_no_certificate(junk: bytes) -> None:
    with pytest.raises(InputError, match="PEM"):
        certificates.pem_to_der(junk)
    with pytest.raises(InputError, match="DER"):
        certificates.der_to_pem(junk)


def test_f41_a_certificate_cut_short_is_none(authority: KeyPair) -> None:
    with pytest.raises(InputError, match="DER"):
        certificates.der_to_pem(certificates.pem_to_der(authority.cert_pem)[:-1])
