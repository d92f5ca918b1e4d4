"""The log: its two forms, what never gets into it, and what a flood may write."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from enum import Enum, StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

import pytest
from pydantic import BaseModel

from propagator import log
from propagator.config import Address

if TYPE_CHECKING:
    from collections.abc import Iterator

CANARY = "hunter2canary"


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    handlers = list(logging.root.handlers)
    yield
    logging.root.handlers = handlers
    log._set_up("warning", log._Sink(None), console=False, colors=False)


@pytest.fixture
def out() -> io.StringIO:
    stream = io.StringIO()
    log.configure("debug", "json", stream)
    return stream


def _events(out: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def _logged(out: io.StringIO, **values: object) -> dict[str, object]:
    log.get("propagator.test").info("test.ran", **values)
    return _events(out)[-1]


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_json_is_one_line_with_time_level_and_event_first(out: io.StringIO) -> None:
    log.get("propagator.shadow").info("shadow.record_overwritten", revision=8, was=7)
    (event,) = _events(out)
    assert list(event) == ["timestamp", "level", "event", "logger_name", "revision", "was"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", str(event.pop("timestamp")))
    assert event == {
        "level": "info",
        "event": "shadow.record_overwritten",
        "revision": 8,
        "was": 7,
        "logger_name": "shadow",
    }


def test_an_error_carries_its_traceback_in_one_field_and_no_local_variables(out: io.StringIO) -> None:
    def fails(password: str) -> None:
        del password
        raise ValueError("broken")

    try:
        fails(CANARY)
    except ValueError:
        log.get("x").exception("test.failed")
    (event,) = _events(out)
    assert event["level"] == "error"
    assert str(event["exception"]).startswith("Traceback")
    assert str(event["exception"]).endswith("ValueError: broken")
    assert CANARY not in out.getvalue()


def test_level_holds_back_what_is_below() -> None:
    out = io.StringIO()
    log.configure("warning", "json", out)
    for say in (log.get("x").debug, log.get("x").info, log.get("x").warning, log.get("x").error):
        say("test.ran")
    assert [event["level"] for event in _events(out)] == ["warning", "error"]


def test_auto_is_json_where_there_is_no_terminal_and_console_where_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    pipe, terminal = io.StringIO(), _Terminal()
    for out in (pipe, terminal):
        log.configure("info", "auto", out)
        log.get("x").info("test.ran", revision=8)
    assert pipe.getvalue().startswith("{")
    assert "\x1b[" in terminal.getvalue()
    assert "test.ran" in terminal.getvalue()


@pytest.mark.parametrize(("variable", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_console_without_colours_where_the_terminal_wants_none(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv(variable, value)
    terminal = _Terminal()
    log.configure("info", "auto", terminal)
    log.get("x").info("test.ran")
    assert "\x1b" not in terminal.getvalue()


def test_console_shows_the_names_as_texts_and_the_traceback_on_lines_of_its_own() -> None:
    out = io.StringIO()
    log.configure("info", "console", out)
    log.get("propagator.shadow").error("shadow.failed", lead="es-1", exc_info=ValueError("broken"))
    first, *rest = out.getvalue().splitlines()
    assert "[error" in first
    assert "[shadow]" in first
    assert "lead='es-1'" in first
    assert rest[-1] == "ValueError: broken"


@pytest.mark.parametrize("form", ["console", "json"])
def test_f41_no_value_can_forge_a_line_or_drive_the_terminal(form: log.Format) -> None:
    out = io.StringIO()
    log.configure("info", form, out)
    log.get("x").info(
        "test.ran", name="a\n2026-01-01 [error] forged", other="\x1b[2J\x9b", exc_info=ValueError("\x1b[2J")
    )
    lines = out.getvalue().splitlines()
    assert len([line for line in lines if "test.ran" in line]) == 1
    assert not any(line.startswith("2026-01-01 [error]") for line in lines)
    assert "\x1b" not in out.getvalue()
    assert "\x9b" not in out.getvalue()


SECRET_KEYS = "password broker_password secret one_time_secret token invite_token key signing_key private_key pem jwk"
SECRET_KEYS += " payload credential authorization privateKey PASSWORD x-token keys registration"


@pytest.mark.parametrize("key", SECRET_KEYS.split())
@pytest.mark.parametrize(
    "value",
    [CANARY, CANARY.encode(), [CANARY], {"a": CANARY}, Path(CANARY), 47114711],
    ids=lambda value: type(value).__name__,
)
def test_f20_a_value_under_a_secret_name_is_blanked(out: io.StringIO, key: str, value: object) -> None:
    assert _logged(out, **{key: value})[key] == "[blanked]"
    assert CANARY not in out.getvalue()
    assert "47114711" not in out.getvalue()


@pytest.mark.parametrize("key", ["password_file", "lead_key_thumbprint", "token_id", "monkey", "keyboard", "tokenised"])
def test_a_value_that_is_only_about_a_secret_is_shown(out: io.StringIO, key: str) -> None:
    assert _logged(out, **{key: "shown"})[key] == "shown"


@pytest.mark.parametrize("value", [None, True, False])
def test_whether_there_is_a_secret_is_none(out: io.StringIO, value: object) -> None:
    assert _logged(out, token=value)["token"] is value


@dataclass
class _Invitation:
    word: str = CANARY


class _Told(_Invitation):
    def __str__(self) -> str:
        return "told"


class _Model(BaseModel):
    word: str = CANARY


class _Pair(NamedTuple):
    lead: str
    token: str


class _Word(StrEnum):
    ONE = "one"


class _Number(Enum):
    ONE = 1


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        pytest.param({"deep": {"password": CANARY, "n": 1}}, {"deep": {"password": "[blanked]", "n": 1}}, id="a table"),
        pytest.param([{"secret": CANARY}, (1, 2)], [{"secret": "[blanked]"}, [1, 2]], id="a list of tables"),
        pytest.param(CANARY.encode(), "<13 bytes>", id="bytes, which are some payload"),
        pytest.param(_Invitation(), "<_Invitation>", id="an object that Python would print with its fields"),
        pytest.param(_Model(), "<_Model>", id="a model, which prints its fields"),
        pytest.param(_Told(), "told", id="an object with a text of its own"),
        pytest.param(_Pair("es-1", "x"), ["es-1", "x"], id="a named tuple"),
        pytest.param(Address("::1", 8883), "[::1]:8883", id="an address"),
        pytest.param(Path("/a"), "/a", id="a path"),
        pytest.param(_Word.ONE, "one", id="a word of an enum"),
        pytest.param(_Number.ONE, 1, id="a number of an enum"),
        pytest.param(1.5, 1.5, id="a number"),
        pytest.param(ValueError("mqtts://u:hunter2canary@h"), "mqtts://[blanked]@h", id="an account in a URL"),
        pytest.param(
            f"a -----BEGIN EC PRIVATE KEY-----\n{CANARY}\n-----END EC PRIVATE KEY----- b", "a [blanked] b", id="a key"
        ),
        pytest.param(f"-----BEGIN PRIVATE KEY-----\n{CANARY}", "[blanked]", id="a key cut short"),
    ],
)
def test_f20_values_are_made_plain(out: io.StringIO, value: object, shown: object) -> None:
    assert _logged(out, value=value)["value"] == shown
    assert CANARY not in out.getvalue()


def test_f20_a_key_in_the_text_of_an_exception_is_blanked(out: io.StringIO) -> None:
    log.get("x").error("test.failed", exc_info=ValueError(f"-----BEGIN PRIVATE KEY-----\n{CANARY}\n"))
    assert CANARY not in out.getvalue()


def test_values_are_bounded(out: io.StringIO) -> None:
    nested: list[object] = []
    nested.append(nested)
    shown = _logged(out, text="x" * 9999, many=list(range(9999)), nested=nested)
    assert len(cast("str", shown["text"])) == 2001
    assert len(cast("list[int]", shown["many"])) == 50
    assert len(out.getvalue()) < 4000


def test_f33_a_log_that_cannot_be_written_stops_nobody_and_is_told_of_later() -> None:
    class Full(io.StringIO):
        full = True

        def write(self, text: str) -> int:
            if self.full:
                raise OSError(28, os.strerror(28))
            return super().write(text)

    out = Full()
    log.configure("info", "json", out)
    log.get("x").info("test.lost")
    log.get("x").info("test.lost")
    out.full = False
    log.get("x").info("test.ran")
    log.get("x").info("test.ran")
    assert [event.get("lines_lost") for event in _events(out)] == [2, None]


def test_a_closed_stream_stops_nobody(out: io.StringIO) -> None:
    out.close()
    log.get("x").info("test.ran")


def test_before_configure_nothing_goes_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    log.get("x").info("test.ran")
    log.get("x").warning("test.warned")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert json.loads(captured.err)["event"] == "test.warned"


def test_get_before_configure_follows_it() -> None:
    early, out = log.get("x"), io.StringIO()
    log.configure("info", "json", out)
    early.info("test.ran")
    assert _events(out)[0]["event"] == "test.ran"


def test_libraries_warn_into_the_same_log(out: io.StringIO) -> None:
    log.configure("debug", "json", out)  # a second time: there is still one line of each
    library = logging.getLogger("aiomqtt.test")
    library.debug("not this")
    library.warning("connection %s", "lost")
    library.error("connection refused")
    events = [{key: event[key] for key in ("level", "event", "library", "text")} for event in _events(out)]
    said = {"event": "library.warned", "library": "aiomqtt.test"}
    assert events == [
        {"level": "warning", "text": "connection lost", **said},
        {"level": "error", "text": "connection refused", **said},
    ]


def test_a_library_that_words_its_warning_wrongly_stops_nobody(out: io.StringIO) -> None:
    """Handed over past pytest's own handler, which raises here."""
    record = logging.LogRecord("aiomqtt", logging.ERROR, "", 0, "%d broken", ("no number",), (None, None, None))
    log._FromLibraries().handle(record)
    (event,) = _events(out)
    assert (event["text"], "exception" in event) == ("%d broken", False)


def test_libraries_fail_with_their_traceback(out: io.StringIO) -> None:
    try:
        asyncio.run(asyncio.wait_for(asyncio.Event().wait(), 0))
    except TimeoutError:
        logging.getLogger("asyncio").exception("never retrieved")
    assert "TimeoutError" in str(_events(out)[0]["exception"])


def test_an_agent_does_not_load_rich_and_whoever_wants_it_still_finds_it() -> None:
    """structlog would load it: 4 MB in every agent."""
    code = "import propagator.agent, sys; assert 'rich' not in sys.modules; import rich.console, structlog.dev"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
