"""Registration codes at real servers: entered in every form, refused for each reason, taken over after a lost database.

The portal here is a key: what it signs is sealed as the portal's program seals it (core.statement).
"""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
from typing import TYPE_CHECKING, Final

import pytest
import segno

from propagator import register
from propagator.core import code, moment, statement
from propagator.core.signing import PrivateKey
from propagator.core.statement import Statement, grouped
from tests.acceptance.site import Said, Server, Site, eventually
from tests.acceptance.test_lost_lead import lose, name_of, needed, version_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEY: Final = PrivateKey.generate()
STRANGER: Final = PrivateKey.generate()
DAY: Final = dt.timedelta(days=1)


def serial() -> str:
    return PrivateKey.generate().thumbprint[:22]


def said(server: Server, name: str | None = "Portal House", **changes: object) -> Statement:
    """What the portal says of a server: registered as a site of this name; None: withdrawn."""
    now = dt.datetime.now(dt.UTC)
    members = {
        "system_id": server.status().json["server"]["system_id"],
        "system": "R-7KQ2M9",
        "edition": 1,
        "serial": serial(),
        "issued_at": moment.write(now),
        "expires_at": moment.write(now + DAY),
        "replaces": None,
        "registration": None if name is None else register.read_file(server.site.registration(name)),
        **changes,
    }
    return Statement(**members)


def written(what: Statement, key: PrivateKey = KEY) -> str:
    return code.write(statement.seal(what, key))


def enter(server: Server, text: str, *more: str, command: str = "register") -> Said:
    """Enter a code that is pasted on stdin, from the portal that is trusted here."""
    return server.ask(command, "--code", "-", "--yes", "--portal-key", KEY.thumbprint, *more, stdin=text)


def site_name(server: Server) -> str | None:
    record = server.status().json["record"]
    return None if record is None else str(record["registration"]["site"]["name"])


@pytest.fixture
def alone(site: Site) -> Server:
    """A server of its own, with no registration yet."""
    return site.server("as-9", "standalone")


# The forms of a code.


def typed(_: Path, text: str) -> tuple[str, str]:
    return text, ""


def in_one_line(_: Path, text: str) -> tuple[str, str]:
    return "-".join(text.lower().split()), ""


def on_stdin(_: Path, text: str) -> tuple[str, str]:
    return "-", f"\n  {text}\n\n"


def in_a_file(place: Path, text: str) -> tuple[str, str]:
    (place / "code.txt").write_text(code.commented(text, ["System ID: SYS", "Site: Portal House"]))
    return str(place / "code.txt"), ""


def in_a_picture(place: Path, text: str) -> tuple[str, str]:
    segno.make(code.for_picture(text), error="m").save(str(place / "code.png"), scale=4)
    return str(place / "code.png"), ""


def picture_on_stdin_is_no_text(place: Path, text: str) -> tuple[str, str]:
    from PIL import Image  # noqa: PLC0415  for this one

    in_a_picture(place, text)
    with Image.open(place / "code.png") as picture:
        picture.convert("RGB").rotate(5, expand=True, fillcolor="white").save(place / "photo.jpg", quality=80)
    return str(place / "photo.jpg"), ""


@pytest.mark.parametrize(
    "form",
    [typed, in_one_line, on_stdin, in_a_file, in_a_picture, picture_on_stdin_is_no_text],
    ids=lambda f: f.__name__,
)
def test_code_is_taken_in_every_form(alone: Server, form: Callable[[Path, str], tuple[str, str]]) -> None:
    value, stdin = form(alone.site.directory, written(said(alone)))
    told = alone.ask("register", "--code", value, "--portal-key", KEY.thumbprint, "--yes", stdin=stdin)
    assert told.code == 0, told
    assert told.out == "Saved.\n"
    assert "site.name: – → Portal House" in told.err
    status = alone.status()
    assert (status.record["origin"], status.record["pending"]) == ("code", False)
    portal = status.json["portal"]
    assert (portal["key"], portal["system"], portal["edition"]) == (KEY.thumbprint, "R-7KQ2M9", 1)
    assert (portal["url"], portal["finding"]) == (None, None)
    assert "Portal" in alone.ask("status").out
    (line, *_) = alone.history()
    assert (line["event"], line["origin"]) == ("registered", "code")
    assert "R-7KQ2M9 edition 1" in line["detail"]


def test_code_of_full_size_is_taken_from_a_file(alone: Server) -> None:
    more = "".join(PrivateKey.generate().thumbprint for _ in range(500))
    content = register.read_file(alone.site.registration("Portal House")).document
    from propagator.core import registration  # noqa: PLC0415

    big = registration.from_document({**content, "x": more[: 28 * 1024 - 600]})
    path = alone.site.directory / "code.txt"
    path.write_text(written(said(alone, registration=big)))
    told = alone.ask("register", "--code", path, "--portal-key", KEY.thumbprint, "--yes")
    assert told.code == 0, told
    assert alone.record()["registration"]["x"].startswith(more[:100])


# Whom to trust.


def test_unknown_portal_is_refused_without_a_terminal_and_says_what_to_do(alone: Server) -> None:
    before = alone.content()
    told = alone.ask("register", "--code", "-", "--yes", stdin=written(said(alone)))
    assert (told.code, told.out) == (1, "")
    assert "unknown_portal" in told.err
    assert grouped(KEY.thumbprint) in told.err
    assert "--portal-key" in told.err
    assert alone.content() == before


def test_unknown_portal_is_shown_and_may_be_trusted_at_a_terminal(alone: Server) -> None:
    text = "".join(written(said(alone)).split())
    told = alone.answer("n", "register", "--code", text)
    assert (told.code, grouped(KEY.thumbprint) in told.err) == (1, True), told
    assert "Trust this portal from now on?" in told.err
    assert site_name(alone) is None
    told = alone.answer("y\ny", "register", "--code", text)
    assert (told.code, "Proceed?" in told.err) == (0, True), told
    assert site_name(alone) == "Portal House"
    assert alone.ask("register", "--code", "-", "--yes", stdin=written(said(alone, "Next House"))).code == 0
    assert site_name(alone) == "Next House"


def test_code_is_asked_for_at_a_terminal_and_no_is_an_answer(alone: Server) -> None:
    text = written(said(alone))
    told = alone.answer(f"{text}\nn", "register", "--portal-key", KEY.thumbprint, "--code")
    assert (told.code, "Proceed?" in told.err, site_name(alone)) == (1, True, None), told
    told = alone.answer(f"{text}\ny", "register", "--portal-key", KEY.thumbprint, "--code")
    assert (told.code, site_name(alone)) == (0, "Portal House"), told


def test_question_without_a_terminal_and_without_yes_is_wrong_usage(alone: Server) -> None:
    told = alone.ask("register", "--code", "-", "--portal-key", KEY.thumbprint, stdin=written(said(alone)))
    assert (told.code, "--yes" in told.err, site_name(alone)) == (2, True, None), told
    told = alone.ask("register", "--code")
    assert (told.code, "no terminal" in told.err) == (2, True), told


@pytest.mark.parametrize("inner", [True, False], ids=["as the portal tells of itself", "a JSON Web Key"])
def test_portals_key_is_taken_from_a_file(alone: Server, inner: bool) -> None:  # noqa: FBT001
    file = alone.site.directory / "portal.jwk"
    jwk = KEY.public.jwk
    file.write_text(json.dumps({"name": "Portal", "key": jwk} if inner else jwk))
    told = alone.ask("register", "--code", "-", "--yes", "--portal-key", file, stdin=written(said(alone)))
    assert (told.code, site_name(alone)) == (0, "Portal House"), told


@pytest.mark.parametrize("value", ["short", "!" * 43, "{}", '{"kty":"OKP","crv":"Ed25519","x":"short"}', "{no json"])
def test_portals_key_that_is_none_is_wrong_usage(alone: Server, value: str) -> None:
    told = alone.ask("register", "--code", "-", "--yes", "--portal-key", value, stdin=written(said(alone)))
    assert (told.code, "key" in told.err, "Try:" in told.err) == (2, True, True), told


def test_another_portals_key_takes_the_place_of_the_one_before(alone: Server) -> None:
    assert enter(alone, written(said(alone, edition=7))).code == 0
    told = alone.ask(
        *("register", "--code", "-", "--yes", "--portal-key", STRANGER.thumbprint),
        stdin=written(said(alone, "Other House"), STRANGER),
    )
    assert (told.code, site_name(alone)) == (0, "Other House"), told
    told = alone.ask("register", "--code", "-", "--yes", stdin=written(said(alone, edition=8)))
    assert (told.code, "unknown_portal" in told.err) == (1, True), told


# Refused, each with its own reason.


def swapped(server: Server) -> str:
    return str(said(server).system_id).swapcase()


REFUSALS: Final[list[tuple[str, Callable[[Server], str], str]]] = [
    ("other_system", lambda server: written(said(server, system_id="ANOTHER-ONE")), "ANOTHER-ONE"),
    ("other_system", lambda server: written(said(server, system_id=swapped(server))), "differ in case only"),
    ("expired", lambda server: written(said(server, expires_at="2026-01-01T00:00:00.000Z")), "2026-01-01"),
    ("superseded", lambda server: written(said(server, edition=2)), "edition 2 of R-7KQ2M9; edition 3"),
    ("unknown_portal", lambda server: written(said(server), STRANGER), "does not know"),
    ("tampered", lambda server: code.write(tampered(server)), "changed after the portal signed it"),
    (
        "unreadable",
        lambda _: code.write(KEY.sign({"typ": "record", "lead": "x", "sender": "x"}, b"{}")),
        "no statement",
    ),
]


def tampered(server: Server) -> bytes:
    header, payload, _ = statement.seal(said(server), KEY).split(b".")
    return b".".join([header, payload, statement.seal(said(server), KEY).split(b".")[2]])


def test_f15_code_is_refused_for_each_reason_and_changes_nothing(alone: Server) -> None:
    text = written(said(alone, edition=3))
    assert enter(alone, text).code == 0
    before = alone.content()
    for reason, make, words in [*REFUSALS, ("already_used", lambda _: text, "used here before")]:
        told = enter(alone, make(alone))
        assert (told.code, told.out) == (1, ""), (reason, told)
        assert f"Refused ({reason})" in told.err
        assert words in " ".join(told.err.split())
        assert "Try: " in told.err
        assert alone.content() == before, reason


def test_f15_typing_error_is_told_with_its_place(alone: Server) -> None:
    groups = written(said(alone)).split()
    groups[17] = f"{'B' if groups[17][0] != 'B' else 'C'}{groups[17][1:]}"
    told = enter(alone, " ".join(groups))
    assert (told.code, f"line 3, group 2: {groups[17]}" in told.err) == (1, True), told


@pytest.mark.parametrize(
    ("words", "text"),
    [
        pytest.param((), "Name one source", id="no source"),
        pytest.param(("x.toml", "--code", "-"), "Name one source", id="two sources"),
        pytest.param(("--code", "-", "--online", "https://portal.example"), "Name one source", id="two portals"),
        pytest.param(("x.toml", "--portal-key", "x"), "--portal-key goes with", id="a key for a file"),
        pytest.param(("--code", "-", "--portal-ca", "x"), "--portal-ca goes with", id="a CA for a code"),
        pytest.param(("--code", "./nowhere.txt"), "There is no file", id="a file that is not there"),
    ],
)
def test_wrong_usage(alone: Server, words: tuple[str, ...], text: str) -> None:
    told = alone.ask("register", *words)
    assert (told.code, text in told.err) == (2, True), told


def test_picture_without_a_code_is_told(alone: Server) -> None:
    from PIL import Image  # noqa: PLC0415  for this one

    path = alone.site.directory / "blank.png"
    Image.new("RGB", (200, 200), "white").save(path)
    told = alone.ask("register", "--code", path, "--yes")
    assert (told.code, "no QR code" in told.err) == (1, True), told
    path.write_bytes(path.read_bytes()[:100])
    told = alone.ask("register", "--code", path, "--yes")
    assert (told.code, "damaged" in told.err) == (2, True), told


# Who may.


def test_attached_shadow_refuses_and_names_its_lead(site: Site) -> None:
    lead, shadow, _ = site.settled()
    before = shadow.content()
    for command in ("register", "associate"):
        told = enter(shadow, written(said(shadow)), command=command)
        assert (told.code, told.out) == (1, "")
        assert "'es-1'" in told.err
        assert f"{command} at es-1" in told.err
    assert shadow.content() == before
    assert lead.status().code == 1


def test_device_that_is_to_be_attached_is_warned_and_not_refused(site: Site) -> None:
    device = site.shadow("as-7")
    told = enter(device, written(said(device)))
    assert (told.code, "Note: " in told.err, site_name(device)) == (0, True, "Portal House"), told


# A lead.


def test_running_lead_publishes_what_a_code_brought_at_once_and_its_withdrawal(site: Site) -> None:
    lead, one, other = site.settled()
    site.start(lead, one, other)
    told = enter(lead, written(said(lead)))
    assert told.code == 0, told
    assert "Saved" in told.out
    eventually(lambda: {name_of(one), name_of(other)} == {"Portal House"}, "every shadow follows")
    assert one.status().record["origin"] == "lead"
    told = enter(lead, written(said(lead, None, edition=2)))
    assert (told.code, "withdrawn" in told.err) == (0, True), told
    for shadow in (one, other):
        shadow.wait_state("withdrawn")
        assert name_of(shadow) == "Portal House"
    assert lead.history()[0]["event"] == "withdrawn"


def begin_again(lead: Server) -> str:
    """Lose the database of a lead and begin anew; gives the System ID before."""
    before = str(lead.status().json["server"]["system_id"])
    lose(lead)
    lead.do("init", "--role", "lead", "--id", "es-1", "--state-dir", lead.state_dir)
    return before


def test_lead_whose_database_was_lost_associates_by_a_code_above_the_field(site: Site) -> None:
    lead, one, other = site.settled()
    site.start(one, other)
    held = version_of(one)
    before = begin_again(lead)
    text = written(said(lead, "Portal House", edition=2, replaces=before))
    told = enter(lead, text, command="associate")
    assert (told.code, "No agent runs" in told.err) == (3, True), told
    lead.start()
    one.wait_state("lead_lost")
    other.wait_state("lead_lost")
    told = enter(lead, text)
    assert (told.code, "propagator associate" in told.err) == (1, True), told
    assert lead.status().downlink["state"] == "lost"

    told = enter(lead, text, command="associate")
    assert told.code == 0, told
    assert before in told.err
    assert "2 shadows answered" in told.out
    lead.wait_rows(as_1="in_sync", as_2="in_sync")
    assert {name_of(one), name_of(other)} == {"Portal House"}
    generation = [int(version.split(".")[1]) for version in (held, version_of(lead))]
    assert generation[1] > generation[0]
    (line, *_) = lead.history()
    assert (line["event"], line["origin"]) == ("associated", "code")
    assert line["version"] == version_of(lead)
    assert before in line["detail"]
    assert held in line["detail"]
    assert "Registration code" in line["detail"]
    lead.register(site.registration("Next House"))
    eventually(lambda: {name_of(one), name_of(other)} == {"Next House"}, "every shadow follows again")


def test_lost_lead_whose_field_is_silent_renews_its_key_and_stands_above_it(site: Site) -> None:
    lead, one, _ = site.settled()
    before = begin_again(lead)
    lead.start()
    told = enter(lead, written(said(lead, edition=2, replaces=before)), command="associate")
    assert (told.code, "No shadow answered" in told.out) == (0, True), told
    eventually(lambda: lead.status().downlink["state"] == "ok", "the lead leads again")
    assert version_of(lead).startswith("2.")
    assert "renewed" in lead.history()[0]["detail"]
    one.start()
    eventually(lambda: name_of(one) == "Portal House", "who was off follows")
    lead.wait_rows(as_1="in_sync")


def test_lost_lead_whose_field_is_silent_and_identity_key_is_away_changes_nothing(site: Site) -> None:
    lead, _, _ = site.settled()
    before = begin_again(lead)
    (lead.state_dir / "keys" / "identity.key").rename(site.directory / "identity.key")
    lead.start()
    text = written(said(lead, replaces=before))
    told = enter(lead, text, command="associate")
    assert (told.code, "identity key" in told.err) == (1, True), told
    assert lead.query("SELECT * FROM used_code") == []
    assert lead.status().json["portal"] is None
    (site.directory / "identity.key").rename(lead.state_dir / "keys" / "identity.key")
    assert enter(lead, text, command="associate").code == 0


@pytest.mark.parametrize("kept", [True, False], ids=["accounts beside the keys", "nothing beside the broker's"])
def test_lead_that_lost_its_keys_as_well_lists_whom_to_invite_again(site: Site, kept: bool) -> None:  # noqa: FBT001
    lead, one, other = site.settled()
    accounts = (lead.state_dir / "keys" / "accounts.json").read_bytes()
    before = str(lead.status().json["server"]["system_id"])
    lose(lead)
    shutil.rmtree(lead.state_dir / "keys")
    if kept:
        (lead.state_dir / "keys").mkdir(mode=0o700)
        (lead.state_dir / "keys" / "accounts.json").write_bytes(accounts)
        (lead.state_dir / "keys" / "accounts.json").chmod(0o600)
    (lead.state_dir / "keys").mkdir(mode=0o700, exist_ok=True)
    lead.do("init", "--role", "lead", "--id", "es-1", "--state-dir", lead.state_dir)
    told = enter(lead, written(said(lead, replaces=before)), command="associate")
    assert told.code == 0, told
    for device in ("as-1", "as-2"):
        assert f"propagator invite {device} --again" in told.err
    site.start(lead, one, other)
    assert needed(lead) == {name: f"propagator invite {name} --again" for name in ("as-1", "as-2")}
    site.attach(one, lead, "--again")
    eventually(lambda: name_of(one) == "Portal House", "who was invited again follows")
    eventually(lambda: needed(lead) == {"as-2": "propagator invite as-2 --again"}, "the other one is still named")


def test_stand_alone_server_whose_database_was_lost_associates(alone: Server) -> None:
    assert enter(alone, written(said(alone))).code == 0
    before = str(said(alone).system_id)
    lose(alone)
    alone.do("init", "--role", "standalone", "--id", "as-9", "--state-dir", alone.state_dir)
    told = enter(alone, written(said(alone, edition=2, replaces=before)), command="associate")
    assert (told.code, site_name(alone)) == (0, "Portal House"), told
    assert alone.history()[0]["event"] == "associated"


def test_nothing_of_a_code_is_left_open(alone: Server) -> None:
    """What lies on the disk after a code is for the owner and the group, as before."""
    assert enter(alone, written(said(alone))).code == 0
    modes = {path.name: os.stat(path).st_mode & 0o007 for path in alone.state_dir.glob("*.db*")}  # noqa: PTH116
    assert set(modes.values()) == {0}
