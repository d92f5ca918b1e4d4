"""`propagator decode`: what a document says, whether it verifies, whose it is, and never a secret."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from propagator.cli import commands
from propagator.core import signing, token
from propagator.core.token import Account, Token
from propagator.core.wire import Membership, Presence, Typ
from tests import states
from tests.states import CURRENT, HOUSE, LEAD
from tests.unit.builders import Lead, flipped, forged, key

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

RECORD = LEAD.signed(CURRENT, HOUSE)
STRANGER = Lead("es-1", key("other identity"), key("other signing"))
PRESENCE = signing.seal(
    Typ.PRESENCE, Presence.model_validate({"session": "1764000000-aaaa", "counter": 1, "online": True}), key("as-1"),
    lead="es-1", sender="as-1",
)  # fmt: skip


def _run(raw: bytes, state_dir: Path, *args: str) -> Result:
    return CliRunner().invoke(commands, ["decode", "--state-dir", str(state_dir), *args], input=raw)


def _json(raw: bytes, state_dir: Path) -> tuple[int, dict[str, object]]:
    done = _run(raw, state_dir, "--json")
    told = json.loads(done.stdout)
    assert isinstance(told, dict)
    return done.exit_code, told


def _invitation(lead: Lead = LEAD, **members: object) -> Token:
    given = {
        "addresses": ("192.0.2.10:8883",),
        "lead": lead.id,
        "identity": lead.identity.thumbprint,
        "ca": "AAEC",
        "device": "as-7",
        "secret": "S" * 43,
        "seq": 1,
        "expires_at": "2000-01-01T00:00:00.000Z",
        **members,
    }
    return Token.model_validate(given)


# Documents.


def test_a_document_is_shown_with_its_header_and_payload(tmp_path: Path) -> None:
    code, told = _json(b"\n " + RECORD + b"\n", tmp_path)
    assert code == 0
    payload = told.pop("payload")
    assert told == {
        "kind": "document",
        "typ": "record",
        "lead": "es-1",
        "sender": "es-1",
        "key": LEAD.signing.thumbprint,
        "identity": LEAD.identity.thumbprint,
        "seq": 1,
        "verifies": True,
        "problem": None,
        "known_as": None,
        "known": f"not checked: There is no state in {tmp_path}.",
    }
    assert isinstance(payload, dict)
    assert (payload["version"], payload["registration"]) == (CURRENT, HOUSE.document)


def test_a_document_is_shown_to_a_person(tmp_path: Path) -> None:
    done = _run(RECORD, tmp_path)
    assert done.exit_code == 0
    assert "  Document       record\n" in done.stdout
    assert "  Signature      verifies\n" in done.stdout
    assert '\nPayload:\n{\n  "lead": "es-1",\n' in done.stdout
    assert done.stderr == ""


def test_a_document_is_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "record.jws").write_bytes(RECORD)
    assert _run(b"", tmp_path, str(tmp_path / "record.jws")).exit_code == 0
    missing = _run(b"", tmp_path, str(tmp_path / "missing"))
    assert (missing.exit_code, missing.stderr.splitlines()[1]) == (2, "Try: propagator decode < FILE")


def test_members_that_this_program_does_not_know_are_shown(tmp_path: Path) -> None:
    code, told = _json(
        forged({"typ": "newer", "lead": "es-1", "sender": "as-1"}, b'{"new": [1, {"x": null}]}'), tmp_path
    )
    assert (code, told["typ"], told["payload"]) == (0, "newer", {"new": [1, {"x": None}]})


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        pytest.param(flipped(RECORD, -5), "the signature does not verify under the key", id="a flipped signature"),
        pytest.param(forged({"typ": "record", "lead": "es-1", "sender": "es-1"}), "no delegation", id="no delegation"),
        pytest.param(
            forged({"typ": "newer", "lead": "es-1", "sender": "es-1", "delegation": LEAD.delegation}),
            "no delegation of an identity key appoints the key",
            id="the delegation of another key",
        ),
    ],
)
def test_a_document_that_does_not_verify_says_so_and_ends_with_1(tmp_path: Path, raw: bytes, problem: str) -> None:
    states.shadow(tmp_path)
    done = _run(raw, tmp_path, "--json")
    told = json.loads(done.stdout)
    assert (told["verifies"], told["known_as"], told["known"]) == (
        False,
        None,
        "nobody can tell, since it does not verify",
    )
    assert problem in told["problem"]
    assert "DOES NOT VERIFY" in _run(raw, tmp_path).stdout


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        pytest.param(b"", "an empty message", id="nothing"),
        pytest.param(b"hello", "not a signed document", id="a word"),
        pytest.param(b"x" * 70_000, "larger than 65536 bytes", id="too much"),
        pytest.param(b"\xff\x00\x1b[2J", "not a signed document", id="bytes"),
    ],
)
def test_what_cannot_be_read_ends_with_2(tmp_path: Path, raw: bytes, error: str) -> None:
    done = _run(raw, tmp_path)
    assert (done.exit_code, done.stdout) == (2, "")
    assert error in done.stderr


def test_a_payload_that_does_not_parse_is_shown_and_ends_with_2(tmp_path: Path) -> None:
    done = _run(LEAD.forged(b'{"lead": 5}'), tmp_path, "--json")
    told = json.loads(done.stdout)
    assert (done.exit_code, told["verifies"], told["payload"]) == (2, True, {"lead": 5})
    assert "does not parse" in done.stderr


def test_a_payload_that_is_no_json_is_shown_as_text(tmp_path: Path) -> None:
    done = _run(forged({"typ": "newer", "lead": "es-1", "sender": "as-1"}, b'{"a": 1, "a": 2}\xff\x1b'), tmp_path)
    assert done.exit_code == 0
    assert '"{\\"a\\": 1, \\"a\\": 2}\\\\xff\\u001b"' in done.stdout


def test_a_document_cannot_steer_the_terminal(tmp_path: Path) -> None:
    raw = forged({"typ": "\x1b[2J", "lead": "[red]", "sender": "\u202e"}, b'"\\u001b[2J \xe2\x80\xae"')
    done = _run(raw, tmp_path)
    assert not set(done.stdout) & {"\x1b", "\u202e"}
    assert "[red]" in done.stdout


# Whose it is.


@pytest.mark.parametrize(
    ("raw", "who"),
    [
        pytest.param(RECORD, "lead", id="its lead's"),
        pytest.param(LEAD.rotated().signed("2.1.cccccc.3", HOUSE), "lead", id="its lead's under a later delegation"),
        pytest.param(STRANGER.signed(CURRENT, HOUSE), None, id="a stranger's in its lead's name"),
        pytest.param(PRESENCE, None, id="another shadow's"),
        pytest.param(LEAD.delegation.encode(), "lead", id="its lead's delegation"),
    ],
)
def test_a_shadow_says_whose_it_is(tmp_path: Path, raw: bytes, who: str | None) -> None:
    states.shadow(tmp_path)
    code, told = _json(raw, tmp_path)
    assert (code, told["verifies"], told["known_as"]) == (0, True, who)


def test_a_shadow_says_that_a_delegation_was_replaced(tmp_path: Path) -> None:
    states.shadow(tmp_path)
    states.change(tmp_path, "UPDATE trust SET seq = 2")
    assert _json(RECORD, tmp_path)[1]["known_as"] == "lead_before"
    assert _json(LEAD.rotated().signed("2.1.cccccc.3", HOUSE), tmp_path)[1]["known_as"] == "lead"


@pytest.mark.parametrize(
    ("raw", "who"),
    [
        pytest.param(RECORD, "own", id="its own"),
        pytest.param(STRANGER.signed(CURRENT, HOUSE), None, id="a second lead's"),
        pytest.param(PRESENCE, "shadow", id="its shadow's"),
        pytest.param(
            signing.seal(
                Typ.MEMBERSHIP,
                Membership(device="as-1", key=key("as-1").thumbprint, serial="0" * 32),
                LEAD.signing,
                lead="es-1",
                sender="es-1",
                delegation=LEAD.delegation,
            ),
            "own",
            id="a membership of its own",
        ),
        pytest.param(
            forged({"typ": "newer", "lead": "es-1", "sender": "as-1"}), None, id="a stranger's in its shadow's name"
        ),
    ],
)
def test_a_lead_says_whose_it_is(tmp_path: Path, raw: bytes, who: str | None) -> None:
    states.lead(tmp_path, reports={"as-1": None})
    code, told = _json(raw, tmp_path)
    assert (code, told["verifies"], told["known_as"]) == (0, True, who)


# Invitations.


def test_f20_an_invitation_is_shown_without_its_secrets(tmp_path: Path) -> None:
    states.shadow(tmp_path)
    written = token.write(_invitation(account=Account(username="as-7", password="p@ssw0rd")))
    for args in ([], ["--json"]):
        done = _run(written.encode(), tmp_path, *args)
        assert done.exit_code == 0
        assert "S" * 43 not in done.output
        assert "p@ssw0rd" not in done.output
        assert "192.0.2.10:8883" in done.stdout
    told = json.loads(_run(written.encode(), tmp_path, "--json").stdout)
    assert (told["kind"], told["lead"], told["device"], told["account"]) == ("invitation", "es-1", "as-7", "as-7")
    assert (told["expired"], told["known_as"]) == (True, "lead")
    assert told["ca_sha256"] == "ae4b3280e56e2faf83f414a6e3dabe9d5fbe18976544c05fed121accb85b53fc"


@pytest.mark.parametrize(("ca", "shown"), [("", None), ("!", "no certificate")])
def test_an_invitation_with_any_ca_is_shown(tmp_path: Path, ca: str, shown: str | None) -> None:
    written = token.write(_invitation(ca=ca, expires_at="2999-01-01T00:00:00.000Z"))
    code, told = _json(written.encode(), tmp_path)
    assert (code, told["ca_sha256"], told["expired"]) == (0, shown, False)


def test_f14_an_invitation_with_a_typing_error_cannot_be_read(tmp_path: Path) -> None:
    written = token.write(_invitation())
    done = _run(flipped(written.encode(), 40), tmp_path)
    assert done.exit_code == 2
    assert "typing error" in done.stderr
