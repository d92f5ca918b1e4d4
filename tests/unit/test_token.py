"""The invitation token: written and read, every typing error found, and what is derived from its secret."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import random
import string
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propagator.core import token
from propagator.core.errors import RefusedError
from propagator.core.token import Account, Token
from propagator.core.version import LIMIT, Version
from tests.unit.builders import key, v

TOKEN = Token(
    addresses=("es-1.example:8883", "192.0.2.10:8883"),
    lead="es-1",
    identity=key("es-1 identity").thumbprint,
    ca="MIIB",
    device="plant-3",
    secret="A" * 43,
    seq=2,
    version=v("2.4.k7f3q2.41"),
    expires_at="2026-11-24T11:20:31.123Z",
)
BASE64 = string.ascii_letters + string.digits + "+/"
IDS = st.from_regex(r"\A[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
NUMBERS = st.integers(1, LIMIT)
VERSIONS = st.builds(Version, NUMBERS, NUMBERS, st.text("abcdefgh0123", min_size=4, max_size=16), NUMBERS)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=128)
TOKENS = st.builds(
    Token,
    addresses=st.lists(st.text(st.characters(codec="ascii"), max_size=262), min_size=1, max_size=16),
    lead=IDS,
    identity=st.text(string.ascii_letters, min_size=43, max_size=43),
    ca=st.text(BASE64, max_size=4096),
    device=IDS,
    secret=st.text(string.ascii_letters, min_size=43, max_size=43),
    seq=NUMBERS,
    version=st.none() | VERSIONS,
    expires_at=st.just("2026-11-24T11:20:31.123Z"),
    account=st.none() | st.builds(Account, username=TEXTS, password=TEXTS),
)


def _sealed(body: bytes) -> str:
    """Write any body as a token whose checksum fits."""
    text = base64.urlsafe_b64encode(body).decode().rstrip("=")
    check = base64.b32encode(hashlib.sha256(text.encode()).digest()).decode().lower()[:8]
    return f"propagator1.{text}.{check}"


@given(TOKENS)
def test_read_is_the_inverse_of_write(made: Token) -> None:
    assert token.read(token.write(made)) == made


def test_a_token_without_a_version_reads_back() -> None:
    made = TOKEN.model_copy(update={"version": None})
    assert token.read(token.write(made)) == made


def test_the_largest_token_reads_back() -> None:
    rng = random.Random(1)
    made = Token(
        addresses=tuple("".join(rng.choices(BASE64, k=262)) for _ in range(16)),
        lead="l" * 63,
        identity="i" * 43,
        ca="".join(rng.choices(BASE64, k=4096)),
        device="d" * 63,
        secret="s" * 43,
        seq=LIMIT,
        version=Version(LIMIT, LIMIT, "z" * 16, LIMIT),
        expires_at=TOKEN.expires_at,
        account=Account(
            username="".join(map(chr, rng.choices(range(0x10000, 0x20000), k=128))),
            password="".join(map(chr, rng.choices(range(0x10000, 0x20000), k=256))),
        ),
    )
    assert token.read(token.write(made)) == made


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("propagator1", id="the prefix alone"),
        pytest.param("propagator1.AAAA", id="no checksum"),
        pytest.param(token.write(TOKEN) + ".x", id="a part too many"),
        pytest.param(token.write(TOKEN).replace("propagator1", "propagator2"), id="another prefix"),
        pytest.param(token.write(TOKEN).upper(), id="all in capitals"),
        pytest.param("propagator1." + "A" * token.SIZE_LIMIT + ".aaaaaaaa", id="too long"),
        pytest.param("propagator1.\udcff.aaaaaaaa", id="an argument that is not UTF-8"),
        pytest.param("propagator1.AAAA.\udcff", id="a checksum that is not UTF-8"),
        pytest.param("propagator1.ÄÖ.aaaaaaaa", id="letters that are not ASCII"),
    ],
)
def test_f14_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(RefusedError, match="This is no token") as caught:
        token.read(text)
    assert "propagator invite" in caught.value.hint
    assert caught.value.exit_code == 1


def test_white_space_in_a_token_does_not_matter() -> None:
    text = token.write(TOKEN)
    wrapped = "\n ".join(text[start : start + 20] for start in range(0, len(text), 20))
    assert token.read(f"  {wrapped}\r\n") == TOKEN


def _typos(text: str) -> list[str]:
    """Every character left out, doubled, swapped with its neighbour, or replaced by each other sign of a token."""
    signs = string.ascii_letters + string.digits + "-_."
    cut = [(text[:index], text[index], text[index + 1 :]) for index in range(len(text))]
    replaced = [before + sign + after for before, old, after in cut for sign in signs if sign != old]
    left_out = [before + after for before, _, after in cut]
    doubled = [before + old + old + after for before, old, after in cut]
    swapped = [before + after[:1] + old + after[1:] for before, old, after in cut if after and after[0] != old]
    return [*replaced, *left_out, *doubled, *swapped]


def test_f14_every_typo_of_one_character_is_found() -> None:
    """But for a capital in the checksum, which is read as the small letter it stands for."""
    text = token.write(TOKEN)
    head = text[: -len(text.rpartition(".")[2])]
    for typo in _typos(text):
        if typo.startswith(head) and typo.lower() == text.lower():
            assert token.read(typo) == TOKEN
            continue
        with pytest.raises(RefusedError, match=r"typing error|no token"):
            token.read(typo)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"junk", id="what is not deflated"),
        pytest.param(zlib.compress(b"[" * 500), id="what is no JSON"),
        pytest.param(zlib.compress(b"{}"), id="another document"),
        pytest.param(zlib.compress(b" " * 5_000_000), id="what inflates without end"),
        pytest.param(
            zlib.compress(json.dumps({**TOKEN.model_dump(mode="json"), "lead": "ES-1"}).encode()),
            id="an id in capitals",
        ),
    ],
)
def test_f14_a_token_with_a_fitting_checksum_but_another_body_is_refused(body: bytes) -> None:
    with pytest.raises(RefusedError, match="does not understand") as caught:
        token.read(_sealed(body))
    assert "version of its lead" in caught.value.hint


def test_a_body_of_impossible_base64_is_refused() -> None:
    """Five characters are no base64, though their checksum fits."""
    check = base64.b32encode(hashlib.sha256(b"AAAAA").digest()).decode().lower()[:8]
    with pytest.raises(RefusedError, match="does not understand"):
        token.read(f"propagator1.AAAAA.{check}")


def test_f14_a_body_that_inflates_without_end_is_cut() -> None:
    body = base64.urlsafe_b64encode(zlib.compress(b" " * 5_000_000)).decode()
    assert len(body) < token.SIZE_LIMIT < len(b" " * 5_000_000)
    assert len(token._inflated(body)) == token.SIZE_LIMIT


def test_a_newer_programs_member_is_ignored() -> None:
    members = {**TOKEN.model_dump(mode="json", exclude_none=True), "newer": True}
    assert token.read(_sealed(zlib.compress(json.dumps(members).encode()))) == TOKEN


def _hkdf(secret: str, info: str) -> bytes:
    """HKDF-SHA256 of RFC 5869, without salt, one block."""
    extracted = hmac.digest(bytes(32), secret.encode(), "sha256")
    return hmac.digest(extracted, info.encode() + b"\x01", "sha256")


@pytest.mark.parametrize("secret", ["A" * 43, "A" * 42 + "B"])
def test_derive_is_hkdf_under_three_names(secret: str) -> None:
    assert token.derive(secret) == token.Derived(
        password=_hkdf(secret, "propagator attach password").hex(),
        mac_key=_hkdf(secret, "propagator attach mac"),
        token_id=_hkdf(secret, "propagator attach id")[:8].hex(),
    )


@pytest.mark.parametrize(
    ("typ", "members"),
    [
        pytest.param("attach-ask", {"nonce": "m" * 16}, id="another member"),
        pytest.param("attach-bind", {"nonce": "n" * 16}, id="another document"),
        pytest.param("attach-ask", {"nonce": "n" * 16, "more": ""}, id="a member more"),
        pytest.param("attach-ask", {}, id="a member less"),
    ],
)
def test_mac_differs_for(typ: str, members: dict[str, str]) -> None:
    assert token.mac(b"k", "attach-ask", {"nonce": "n" * 16}) != token.mac(b"k", typ, members)


def test_mac_leaves_itself_out_and_does_not_mind_the_order() -> None:
    one = token.mac(b"k", "attach-ask", {"a": "1", "b": "2"})
    assert one == token.mac(b"k", "attach-ask", {"mac": one, "b": "2", "a": "1"})
    assert one != token.mac(b"l", "attach-ask", {"a": "1", "b": "2"})
