"""The portal's settings: the file that is shipped, and what is wrong with others."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from propagator.core.errors import InputError
from propagator.portal.settings import Settings, load

SHIPPED = Path(__file__).resolve().parents[2] / "config" / "portal.toml"


def _paths(kind: type[Settings], above: str = "") -> set[str]:
    from pydantic import BaseModel  # noqa: PLC0415

    found: set[str] = set()
    for name, field in kind.model_fields.items():
        parts = [
            part for part in (field.annotation, *getattr(field.annotation, "__args__", ())) if isinstance(part, type)
        ]
        inside = [part for part in parts if issubclass(part, BaseModel)]
        found |= {path for part in inside for path in _paths(part, f"{name}.")}  # type: ignore[arg-type]
        found |= set() if inside else {f"{above}{name}"}
    return found


def test_the_shipped_file_says_what_is_so_without_it() -> None:
    assert load(SHIPPED, {}) == load(None, {})


def test_the_shipped_file_shows_every_key_and_each_example_is_taken(tmp_path: Path) -> None:
    whole = tmp_path / "portal.toml"
    whole.write_text(re.sub(r"(?m)^# (\[\w+\]|\w+ = .*)$", r"\1", SHIPPED.read_text()))
    settings = load(whole, {})
    assert settings.database_url == "postgresql+asyncpg://portal:password@localhost/portal"
    assert (settings.is_https, settings.url) == (True, "https://registration.example")
    table = tomllib.loads(whole.read_text())
    shown = {f"{name}.{inner}" for name, part in table.items() if isinstance(part, dict) for inner in part}
    shown |= {name for name, value in table.items() if not isinstance(value, dict)}
    assert shown == _paths(Settings)


def test_the_command_line_beats_the_file(tmp_path: Path) -> None:
    file = tmp_path / "portal.toml"
    file.write_text('name = "File"\n[mail]\nserver = "a.example:25"\nsender = "a@b.example"\n')
    settings = load(file, {"name": "Line", "mail.server": "b.example:25"})
    assert settings.name == "Line"
    assert settings.mail is not None
    assert (settings.mail.server, settings.mail.sender) == ("b.example:25", "a@b.example")


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('nmae = "x"', "nmae"),
        ('data_dir = "relative"', "data_dir"),
        ('listen = "nowhere"', "listen"),
        ('listen = "[::1"', "listen"),
        ('listen = "a:99999"', "listen"),
        ('public_url = "ftp://a.example"', "public_url"),
        ('public_url = "https://a.example/portal"', "public_url"),
        ('public_url = "https://user@a.example"', "public_url"),
        ('public_url = "https://a.example:port"', "public_url"),
        ('database = "mysql://a"', "database"),
        ('database = "postgresql"', "database"),
        ('trusted_proxies = ["proxy.example"]', "trusted_proxies.0"),
        ('id = "Not An Id"', "id"),
        ('name = "two\\nlines"', "name"),
        ('[tls]\ncertificate = "/a"', "tls.key"),
        ('[mail]\nserver = "a:25"\nsender = "nobody"', "mail.sender"),
        ('[mail]\nserver = "a:25"\nsender = "a@b.example"\nusername = "a"', "mail"),
        ('[mail]\nserver = "a:25"\nsender = "a@b.example"\nsecurity = "maybe"', "mail.security"),
        ('[log]\nlevel = "loud"', "log.level"),
        ("trusted_proxies = 5", "trusted_proxies"),
    ],
)
def test_a_wrong_setting_is_told_with_its_path(tmp_path: Path, text: str, path: str) -> None:
    file = tmp_path / "portal.toml"
    file.write_text(text)
    with pytest.raises(InputError) as told:
        load(file, {})
    assert [problem.path for problem in told.value.problems] == [path]


@pytest.mark.parametrize("content", [b"\xff", b"name = ", b"a = " + b"[" * 5000])
def test_a_file_that_is_no_toml_is_told(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "portal.toml"
    file.write_bytes(content)
    with pytest.raises(InputError, match="TOML"):
        load(file, {})
    with pytest.raises(InputError, match="cannot be read"):
        load(tmp_path / "nothing.toml", {})


def test_the_password_of_the_database_is_in_no_text() -> None:
    settings = load(None, {"database": "postgresql://portal:secret@localhost/portal"})
    assert "secret" not in repr(settings)
