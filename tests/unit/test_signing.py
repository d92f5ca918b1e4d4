"""Signatures: one algorithm, keys named by thumbprint, and a chain from the signing key to the identity key."""

from __future__ import annotations

import hashlib
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from propagator.core import record, signing
from propagator.core.errors import InputError, Unreadable
from propagator.core.record import Hop
from propagator.core.signing import Authority, Delegation, Envelope, PrivateKey, PublicKey
from propagator.core.wire import Typ
from tests.unit.builders import Lead, b64, flipped, forged, key, opened, registered, secret, unb64

NAMES: dict[str, object] = {"typ": "record", "lead": "es-1", "sender": "es-1"}
LEAD = Lead()
HOP = Hop(id="es-1", identity="i" * 43)

# Keys


def test_a_thumbprint_is_that_of_rfc_7638() -> None:
    """The example of RFC 8037, appendix A.3."""
    public = PublicKey("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
    assert public.thumbprint == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    assert public.jwk == {"kty": "OKP", "crv": "Ed25519", "x": public.x}


def test_a_signature_is_that_of_rfc_8032() -> None:
    """The same bytes each time, and they verify with nothing of ours."""
    one = key("es-1 signing 1").sign({"typ": "record"}, b"{}")
    assert one == key("es-1 signing 1").sign({"typ": "record"}, b"{}")
    signed, _, signature = one.rpartition(b".")
    secret("es-1 signing 1").public_key().verify(unb64(signature), signed)


def test_a_key_goes_through_its_pem() -> None:
    made = PrivateKey.generate()
    assert PrivateKey.from_pem(made.pem).thumbprint == made.thumbprint == made.public.thumbprint
    assert made.thumbprint != PrivateKey.generate().thumbprint


# Opening


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(b"[" * 40_000, id="lists"),
        pytest.param(b'{"alg":' * 5_000, id="objects"),
    ],
)
def test_f41_a_deep_header_is_unreadable(header: bytes) -> None:
    """joserfc reads the header with a reader that knows no depth: ours must come first."""
    assert signing.open_envelope(forged(header)) == Unreadable("not a signed document: nested deeper than 32 levels")


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        pytest.param(b"", "an empty message", id="nothing (F05)"),
        pytest.param(b"x" * (64 * 1024 + 1), "larger than 65536 bytes", id="one byte too many"),
        pytest.param(b"." * 64 * 1024, "not a signed document", id="dots"),
        pytest.param(b"\x00" * 999, "not a signed document", id="noughts"),
        pytest.param(b64(b"{}") + b"." + b64(b"{}"), "signed with another algorithm", id="two parts"),
        pytest.param(forged(NAMES) + b".x", "not a signed document", id="four parts"),
        pytest.param(b" " + forged(NAMES), "not a signed document", id="a space before"),
        pytest.param(forged(NAMES).replace(b".", b".\n"), "not a signed document", id="line feeds between"),
        pytest.param(forged(b"[]"), "its header is no JSON object", id="a header that is a list"),
        pytest.param(forged(b'"alg"'), "its header is no JSON object", id="a header that is a text"),
        pytest.param(forged(b"null"), "its header is no JSON object", id="a header that is null"),
        pytest.param(forged(b"\xff"), "not UTF-8", id="a header that is not UTF-8"),
        pytest.param(forged(b'{"alg":"Ed25519","alg":"Ed25519"}'), "stands twice", id="a name twice in the header"),
        pytest.param(forged(b'{"alg":"none","\\u0061lg":"Ed25519"}'), "stands twice", id="a name twice, once escaped"),
        pytest.param(forged(b'{"alg":NaN}'), "NaN", id="NaN in the header"),
        pytest.param(forged({**NAMES, "alg": "none"}), "another algorithm than Ed25519", id="alg none"),
        pytest.param(forged({**NAMES, "alg": "HS256"}), "another algorithm than Ed25519", id="alg HS256"),
        pytest.param(forged({**NAMES, "alg": "EdDSA"}), "another algorithm than Ed25519", id="alg EdDSA"),
        pytest.param(forged({**NAMES, "alg": "ES256"}), "another algorithm than Ed25519", id="alg ES256"),
        pytest.param(forged({**NAMES, "alg": "ed25519"}), "another algorithm than Ed25519", id="alg in small letters"),
        pytest.param(forged({**NAMES, "alg": ["Ed25519"]}), "another algorithm than Ed25519", id="alg that is a list"),
        pytest.param(forged({**NAMES, "crit": ["exp"]}), "asks for an extension", id="crit"),
        pytest.param(forged({**NAMES, "crit": []}), "asks for an extension", id="an empty crit"),
        pytest.param(forged({**NAMES, "b64": True}), "asks for an extension", id="b64 true"),
        pytest.param(
            forged({**NAMES, "b64": False, "crit": ["b64"]}), "asks for an extension", id="b64 false (RFC 7797)"
        ),
        pytest.param(
            forged({**NAMES, "delegation": 1}), "its delegation is no text", id="a delegation that is a number"
        ),
        pytest.param(forged({**NAMES, "delegation": "\ud800"}), "half a surrogate pair", id="half a surrogate pair"),
    ],
)
def test_f41_what_opens_is_a_signed_document_or_unreadable(raw: bytes, says: str) -> None:
    unreadable = signing.open_envelope(raw)
    assert isinstance(unreadable, Unreadable)
    assert says in unreadable.detail


SAME_X = key("stranger").public.x
NO_KEY = "its header does not name what it is, whose it is, and its Ed25519 key"


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"typ": None}, id="no typ"),
        pytest.param({"lead": 1}, id="a lead that is a number"),
        pytest.param({"sender": ["es-1"]}, id="a sender that is a list"),
        pytest.param({"lead": "x" * 65}, id="a lead of 65 characters"),
        pytest.param({"kid": None}, id="no kid"),
        pytest.param({"kid": key("another").thumbprint}, id="the kid of another key"),
        pytest.param({"kid": key("stranger").thumbprint[:-1]}, id="a kid cut short"),
        pytest.param({"jwk": None}, id="no jwk"),
        pytest.param({"jwk": "x"}, id="a jwk that is a text"),
        pytest.param({"jwk": key("another").public.jwk}, id="the jwk of another key"),
        pytest.param({"jwk": {"kty": "OKP", "crv": "Ed25519"}}, id="a jwk without x"),
        pytest.param({"jwk": {"kty": "OKP", "crv": "Ed25519", "x": 7}}, id="an x that is a number"),
        pytest.param({"jwk": {"kty": "OKP", "crv": "Ed25519", "x": SAME_X + "="}}, id="an x with padding"),
        pytest.param({"jwk": {"kty": "OKP", "crv": "Ed25519", "x": SAME_X[:-1] + "\n"}}, id="an x with a line feed"),
        pytest.param({"jwk": {"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}}, id="an x of three bytes"),
        pytest.param({"jwk": {"kty": "OKP", "crv": "Ed25519", "x": "\u00e9" * 43}}, id="an x that is no base64url"),
        pytest.param({"jwk": {"kty": "OKP", "crv": "Ed448", "x": SAME_X}}, id="curve Ed448"),
        pytest.param({"jwk": {"kty": "OKP", "crv": "X25519", "x": SAME_X}}, id="curve X25519"),
        pytest.param({"jwk": {"kty": "EC", "crv": "P-256", "x": SAME_X, "y": SAME_X}}, id="curve P-256"),
        pytest.param({"jwk": {"kty": "oct", "k": SAME_X}}, id="a shared secret"),
    ],
)
def test_f04_a_header_must_name_its_ed25519_key(changes: dict[str, object]) -> None:
    assert signing.open_envelope(forged({**NAMES, **changes})) == Unreadable(NO_KEY)


def test_a_key_has_one_writing() -> None:
    """The last sign of x carries two bits that nobody reads: another writing would be another thumbprint."""
    other = SAME_X[:-1] + chr(ord(SAME_X[-1]) + 1)
    assert unb64(other) == unb64(SAME_X)
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": other}
    written = json.dumps(dict(sorted(jwk.items())), separators=(",", ":"))
    thumbprint = b64(hashlib.sha256(written.encode()).digest()).decode()
    assert signing.open_envelope(forged({**NAMES, "jwk": jwk, "kid": thumbprint})) == Unreadable(NO_KEY)


def test_an_envelope_says_what_its_header_says_and_keeps_its_bytes() -> None:
    raw = signing.seal("report", HOP, key("plant-3"), lead="es-1", sender="plant-3")
    assert signing.open_envelope(raw) == Envelope(
        raw, "report", "es-1", "plant-3", key("plant-3").thumbprint, None, verified=True, payload=record.write(HOP)
    )


def test_a_document_of_just_64_kib_opens() -> None:
    payload = b"x" * (48 * 1024 - 600)
    raw = forged(NAMES, payload)
    raw = forged(NAMES, payload + b"x" * ((signing.SIZE_LIMIT - len(raw)) * 3 // 4))
    assert signing.SIZE_LIMIT - 4 < len(raw) <= signing.SIZE_LIMIT
    assert opened(raw).verified


def test_f51_a_newer_programs_header_member_is_ignored() -> None:
    assert opened(forged({**NAMES, "newer": {"a": 1}, "zip": "DEF"})).verified


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(forged(NAMES)[:-1] + b"!", id="a signature that is no base64url"),
        pytest.param(forged(NAMES) + b"\n", id="a line feed after the signature"),
        pytest.param(forged(NAMES) + b"=", id="padding after the signature"),
        pytest.param(forged(NAMES)[:-4], id="a signature cut short"),
        pytest.param(forged(NAMES).rpartition(b".")[0] + b".", id="no signature"),
        pytest.param(forged(NAMES).rpartition(b".")[0] + b"." + b64(bytes(64)), id="a signature of noughts"),
        pytest.param(
            forged({**NAMES, "jwk": key("es-1 signing 1").public.jwk, "kid": LEAD.signing.thumbprint}), id="swapped jwk"
        ),
        pytest.param(forged({**NAMES, "jku": 1}), id="a header member of the wrong type"),
        pytest.param(
            forged(NAMES).rpartition(b".")[0] + b"." + forged(NAMES, b"[]").rpartition(b".")[2],
            id="the signature of another payload",
        ),
    ],
)
def test_f04_a_signature_that_does_not_hold_is_said_to(raw: bytes) -> None:
    assert not opened(raw).verified


def test_f04_no_bit_may_flip() -> None:
    raw = LEAD.signed("1.1.aaaa.1", registered())
    for index in range(0, len(raw), 5):
        envelope = signing.open_envelope(flipped(raw, index))
        assert isinstance(envelope, Unreadable) or not envelope.verified, f"a bit of byte {index}"


@given(st.binary(max_size=300) | st.builds(forged, st.binary(max_size=60), st.binary(max_size=60)))
def test_f41_opening_never_fails_in_another_way(raw: bytes) -> None:
    envelope = signing.open_envelope(raw)
    assert isinstance(envelope, Unreadable)


_MEMBER = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.sampled_from(["es-1", "none", "Ed25519", LEAD.delegation])
)
_HEADERS = st.dictionaries(
    st.sampled_from(["alg", "kid", "jwk", "typ", "lead", "sender", "delegation", "crit", "b64", "jku", "x5c", "newer"]),
    _MEMBER | st.lists(_MEMBER, max_size=2) | st.dictionaries(st.sampled_from(["kty", "crv", "x", "d"]), _MEMBER),
)


@given(_HEADERS, st.binary(max_size=20))
def test_f58_whatever_a_rogue_signs_it_is_not_the_lead(header: dict[str, object], payload: bytes) -> None:
    envelope = signing.open_envelope(forged({**NAMES, **header}, payload))
    if isinstance(envelope, Envelope):
        assert signing.authority(envelope) is None


# The delegation


def _authority(raw: bytes | str) -> Authority | None:
    return signing.authority(opened(raw.encode() if isinstance(raw, str) else raw))


def test_a_leads_document_leads_to_its_identity_key() -> None:
    assert _authority(LEAD.seal(Typ.RECORD, HOP)) == Authority("es-1", LEAD.identity.thumbprint, 1)
    assert _authority(LEAD.rotated().seal(Typ.RECORD, HOP)) == Authority("es-1", LEAD.identity.thumbprint, 2)


def _delegated(payload: bytes | None = None, *, by: str = "es-1 identity", **header: object) -> str:
    """Make a delegation by hand, of which one link may be broken."""
    right = record.write(Delegation(lead="es-1", seq=1, key=LEAD.signing.thumbprint))
    members = {"typ": "delegation", "lead": "es-1", "sender": "es-1", **header}
    return forged(members, right if payload is None else payload, by=by).decode()


def _appoints(**members: object) -> bytes:
    return json.dumps({"lead": "es-1", "seq": 1, "key": LEAD.signing.thumbprint, **members}).encode()


def test_a_delegation_made_by_hand_is_followed() -> None:
    """Otherwise the broken ones below prove nothing."""
    raw = LEAD.forged(b"{}", delegation=_delegated())
    assert _authority(raw) == Authority("es-1", LEAD.identity.thumbprint, 1)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(LEAD.forged(b"{}", delegation=None), id="no delegation"),
        pytest.param(LEAD.forged(b"{}", delegation=""), id="an empty delegation"),
        pytest.param(LEAD.forged(b"{}", delegation="a.b.c"), id="a delegation that is no signed document"),
        pytest.param(LEAD.forged(b"{}", delegation="\u00e9"), id="a delegation that is not ASCII"),
        pytest.param(LEAD.forged(b"{}", sender="plant-3"), id="another sender than the lead"),
        pytest.param(LEAD.forged(b"{}", lead="es-2", sender="es-2"), id="the delegation of another lead"),
        pytest.param(flipped(LEAD.forged(b"{}"), -9), id="a document whose signature does not hold"),
        pytest.param(
            LEAD.forged(b"{}", delegation=flipped(LEAD.delegation.encode(), -9).decode()),
            id="a delegation whose signature does not hold",
        ),
        pytest.param(LEAD.forged(b"{}", delegation=_delegated(typ="record")), id="a delegation of another typ"),
        pytest.param(LEAD.forged(b"{}", delegation=_delegated(b"{}")), id="a delegation that appoints nobody"),
        pytest.param(LEAD.forged(b"{}", delegation=_delegated(_appoints(seq=0))), id="a seq of nought"),
        pytest.param(LEAD.forged(b"{}", delegation=_delegated(_appoints(seq="1"))), id="a seq that is a text"),
        pytest.param(
            LEAD.forged(b"{}", delegation=_delegated(_appoints(lead="es-2"))), id="an appointment for another lead"
        ),
        pytest.param(
            LEAD.forged(b"{}", delegation=_delegated(_appoints(key=key("another").thumbprint))),
            id="an appointment of another key",
        ),
        pytest.param(
            LEAD.forged(
                b"{}", delegation=_delegated(_appoints(key=key("another").thumbprint), key=LEAD.signing.thumbprint)
            ),
            id="an appointment of another key, with ours in the header",
        ),
    ],
)
def test_f04_a_chain_that_is_broken_leads_to_nobody(raw: bytes) -> None:
    assert _authority(raw) is None


def test_f03_a_stranger_who_appoints_himself_is_named() -> None:
    """He leads to his own identity key, which nobody pinned: `decide` calls him a second lead."""
    own = _delegated(_appoints(key=key("stranger").thumbprint), by="stranger")
    assert _authority(forged({**NAMES, "delegation": own})) == Authority("es-1", key("stranger").thumbprint, 1)


def test_a_delegation_alone_is_no_word_of_the_lead() -> None:
    assert _authority(LEAD.delegation) is None


def test_read_delegation_names_whom_it_appoints() -> None:
    named = signing.read_delegation(opened(LEAD.delegation.encode()))
    assert named == (Authority("es-1", LEAD.identity.thumbprint, 1), LEAD.signing.thumbprint)
    assert signing.read_delegation(opened(_delegated(typ="record").encode())) is None
    assert signing.read_delegation(opened(_delegated(b"{}").encode())) is None
    assert signing.read_delegation(opened(flipped(LEAD.delegation.encode(), -9))) is None


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"e30=." + b64(b"{}") + b".AAAA", id="padding"),
        pytest.param(b"e3.e30.AAAA", id="bits that nobody reads"),
        pytest.param(b"=", id="padding alone"),
    ],
)
def test_f41_what_is_no_base64url_is_called_so(raw: bytes) -> None:
    assert signing.open_envelope(raw) == Unreadable("not a signed document: no base64url")


def _pem(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | x25519.X25519PrivateKey | ed448.Ed448PrivateKey,
) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


_UNKNOWN_KIND = b"-----BEGIN PRIVATE KEY-----\nMA4CAQAwBQYDKgMEBAIEAA==\n-----END PRIVATE KEY-----\n"
_ED25519 = ed25519.Ed25519PrivateKey.generate()


@pytest.mark.parametrize(
    "pem",
    [
        pytest.param(b"", id="an empty file"),
        pytest.param(b"\xff\xfe", id="no text"),
        pytest.param(b"-----BEGIN PRIVATE KEY-----\nMC4C\n-----END PRIVATE KEY-----\n", id="a PEM cut short"),
        pytest.param(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", id="no certificate even"),
        pytest.param(
            _ED25519.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")),
            id="an encrypted key",
        ),
        pytest.param(
            _ED25519.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), id="a public key"
        ),
        pytest.param(_UNKNOWN_KIND, id="a key of a kind that nobody knows"),
        pytest.param(_pem(rsa.generate_private_key(65537, 2048)), id="an RSA key"),
        pytest.param(_pem(ec.generate_private_key(ec.SECP256R1())), id="a key on P-256"),
        pytest.param(_pem(x25519.X25519PrivateKey.generate()), id="a key on X25519"),
        pytest.param(_pem(ed448.Ed448PrivateKey.generate()), id="a key on Ed448"),
    ],
)
def test_from_pem_refuses(pem: bytes) -> None:
    with pytest.raises(InputError, match="The key file "):
        PrivateKey.from_pem(pem)
