"""Certificates that are not as they should be, for stand-ins; the right one is made by the product."""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.firewall.room import LEAD, LEAD_STATE, NAME

if TYPE_CHECKING:
    from pathlib import Path

    from tests.firewall.lab import Lab

_NOW: Final = dt.datetime.now(dt.UTC)
_DAY: Final = dt.timedelta(days=1)


class Files(NamedTuple):
    """Where a certificate and its key lie in the lab."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Authority:
    """Who signs: a CA's name and key."""

    name: x509.Name
    key: ec.EllipticCurvePrivateKey


def lead_authority(lab: Lab) -> Authority:
    """Give the lead's own CA, which the shadow has pinned."""
    ca = lab.path(LEAD_STATE / "keys" / "ca.crt")
    return Authority(x509.load_pem_x509_certificate(ca.read_bytes()).subject, lead_key(lab, "ca.key"))


def lead_key(lab: Lab, name: str = "server.key") -> ec.EllipticCurvePrivateKey:
    """Give one of the lead's own keys."""
    key = serialization.load_pem_private_key(lab.path(LEAD_STATE / "keys" / name).read_bytes(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def other_authority(name: str) -> Authority:
    """Make a CA that nobody knows."""
    return Authority(_name(name), ec.generate_private_key(ec.SECP256R1()))


def install(
    lab: Lab,
    authority: Authority | None,
    names: tuple[str, ...] = (NAME, LEAD),
    *,
    begins: dt.datetime = _NOW - _DAY,
    ends: dt.datetime = _NOW + _DAY,
    key: ec.EllipticCurvePrivateKey | None = None,
) -> Files:
    """Make a server's certificate and put it into the lab; without an authority it signs itself."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = _name("stand-in")
    signer = authority or Authority(subject, key)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer.name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.SubjectAlternativeName([_alternative(name) for name in names]), critical=False)
        .sign(signer.key, hashes.SHA256())
    )
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    return Files(
        lab.write("/etc/stand-in.crt", certificate.public_bytes(encoding)),
        lab.write("/etc/stand-in.key", key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain)),
    )


def yesterday() -> tuple[dt.datetime, dt.datetime]:
    """Give a time that is over."""
    return _NOW - 30 * _DAY, _NOW - _DAY


def tomorrow() -> tuple[dt.datetime, dt.datetime]:
    """Give a time that is to come."""
    return _NOW + _DAY, _NOW + 30 * _DAY


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
