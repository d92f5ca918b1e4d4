"""The lead's private CA and the certificate of its embedded broker, in PEM and DER.

Makes bytes and touches no file: `init` and the broker write them, tokens carry the CA's DER form. The CA signs nothing
but this lead's own certificates, and all are valid from 1970 to 9999: a device whose clock stands at the epoch must
still reach its lead (DESIGN §5, F36), and what ends trust is `revoke` or `rotate`, never a date.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from typing import TYPE_CHECKING, Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from propagator.core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

# RFC 5280 §4.1.2.5: 99991231235959Z is how a certificate says that it has no end.
_VALID_FROM: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_VALID_TO: Final = dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)


class KeyPair(NamedTuple):
    """A private key (PKCS #8) and its certificate, both PEM. The key is written by `files.write_private` only."""

    key_pem: bytes
    cert_pem: bytes


def make_authority(lead_id: str) -> KeyPair:
    """Make a private CA (EC P-256) under the lead's id (`config.parse_id`); short, since every token carries it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, lead_id)])
    certificate = (
        _builder(name, name, key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _pair(key, certificate)


def make_server_certificate(authority: KeyPair, names: Sequence[str]) -> KeyPair:
    """Make a new key and certificate of the broker for these host names and IP addresses (`advertise`).

    Without a name it carries the lead's id. To renew one, make another: clients trust the CA. Raises InputError for a
    name that no certificate can carry, and for an authority that is damaged.
    """
    ca_key, ca = _load(authority)
    key = ec.generate_private_key(ec.SECP256R1())
    lead_id = ca.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    # Another name than the CA's: a certificate whose issuer bears its own name counts as self-issued.
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "broker"), *lead_id])
    certificate = (
        _builder(subject, ca.subject, key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(_alternatives(names or [str(lead_id[0].value)])), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    return _pair(key, certificate)


def pem_to_der(cert_pem: bytes) -> bytes:
    """Return the DER form of the one certificate in `cert_pem`; raises InputError if there is none."""
    try:
        return x509.load_pem_x509_certificate(cert_pem).public_bytes(serialization.Encoding.DER)
    except ValueError as exc:
        raise InputError("This is no certificate in PEM form.", hint=_DAMAGED) from exc


def der_to_pem(cert_der: bytes) -> bytes:
    """Return the PEM form of a certificate; raises InputError if it is none."""
    try:
        return x509.load_der_x509_certificate(cert_der).public_bytes(serialization.Encoding.PEM)
    except ValueError as exc:
        raise InputError("This is no certificate in DER form.", hint=_DAMAGED) from exc


_DAMAGED: Final = "It is damaged or cut short: take it again from where it came from."


def _builder(subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_VALID_FROM)
        .not_valid_after(_VALID_TO)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _alternatives(names: Sequence[str]) -> list[x509.GeneralName]:
    try:
        return list(dict.fromkeys(_alternative(name) for name in names))
    except ValueError as exc:
        raise InputError(
            f"A certificate cannot carry one of these names: {', '.join(names)}.", hint=_ADVERTISE
        ) from exc


_ADVERTISE: Final = "Write host names in ASCII and IP addresses without a port into [downlink] advertise."


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name.partition("%")[0]))  # a zone means nothing elsewhere
    except ValueError:
        return x509.DNSName(name.removesuffix("."))


def _load(authority: KeyPair) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    try:
        key = serialization.load_pem_private_key(authority.key_pem, password=None)
        certificate = x509.load_pem_x509_certificate(authority.cert_pem)
    except (ValueError, TypeError) as exc:  # TypeError: a key under a password
        raise InputError("The CA of this lead cannot be read.", hint=_RESTORE) from exc
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise InputError("The key of this lead's CA does not belong to its certificate.", hint=_RESTORE)
    return key, certificate


_RESTORE: Final = "Restore the folder keys of the state directory from a backup."


def _pair(key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> KeyPair:
    encoding = serialization.Encoding.PEM
    plain = serialization.NoEncryption()  # the file's mode protects it, as with every key here
    return KeyPair(
        key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain), certificate.public_bytes(encoding)
    )
