"""What a certificate says of itself, whoever made it: bounded, and nothing of it is believed."""

from __future__ import annotations

import hashlib
import warnings

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from propagator.core.diagnosis.seen import Certificate


def certificate_of(raw: bytes) -> Certificate | None:
    """Read a certificate (DER); None where it cannot be read."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of a serial number of nought, say: nothing for an operator
            return _read(raw)
    except (ValueError, TypeError, x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return None  # what can be wrong in a certificate is found as it is read, piece by piece


def _read(raw: bytes) -> Certificate:
    found = x509.load_der_x509_certificate(raw)
    return Certificate(
        subject=found.subject.rfc4514_string()[:200],
        issuer=found.issuer.rfc4514_string()[:200],
        names=tuple(name[:100] for name in _names(found)[:10]),
        not_before=found.not_valid_before_utc,
        not_after=found.not_valid_after_utc,
        fingerprint=hashlib.sha256(raw).hexdigest(),
        key=_key(found),
    )


def _names(found: x509.Certificate) -> list[str]:
    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in names]


def _key(found: x509.Certificate) -> str:
    """The fingerprint of its key (SubjectPublicKeyInfo), empty for a kind of key that is not known here."""
    try:
        key = found.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm):
        return ""
    return hashlib.sha256(key).hexdigest()
