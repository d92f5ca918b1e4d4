"""What may be asked of the history: times in a person's words, fields, versions; and what a wrong word is told."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from propagator.cli import commands
from propagator.cli.history import span_of
from propagator.core import registration
from tests import states

if TYPE_CHECKING:
    from pathlib import Path

NOW = dt.datetime(2026, 11, 24, 12, 0, 0, 500_000, tzinfo=dt.UTC)


def _asked(state_dir: Path, *args: str) -> list[str]:
    done = CliRunner().invoke(commands, ["history", "--json", "--state-dir", str(state_dir), *args])
    assert done.exit_code == 0, done.output
    return [line["event"] for line in json.loads(done.stdout)]


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        pytest.param("2026-11-23", "2026-11-23T00:00:00", "2026-11-24T00:00:00", id="a day is meant whole"),
        pytest.param("2026-11-23 11:20", "2026-11-23T11:20:00", "2026-11-23T11:21:00", id="so is a minute"),
        pytest.param("2026-11-23T11:20:31", "2026-11-23T11:20:31", "2026-11-23T11:20:32", id="and a second"),
        pytest.param(
            "2026-11-23T11:20:31.123Z",
            "2026-11-23T11:20:31.123",
            "2026-11-23T11:20:31.124",
            id="and a moment as the JSON shows it",
        ),
        pytest.param("2026-11-23 11:20+01:00", "2026-11-23T10:20:00", "2026-11-23T10:21:00", id="another zone"),
        pytest.param("11:20", "2026-11-24T11:20:00", "2026-11-24T11:21:00", id="a time today"),
        pytest.param("12:01", "2026-11-23T12:01:00", "2026-11-23T12:02:00", id="a time still to come was yesterday"),
        pytest.param("23:30-12:00", "2026-11-24T11:30:00", "2026-11-24T11:31:00", id="a time in a zone behind"),
        pytest.param("90s", "2026-11-24T11:58:30.5", "2026-11-24T11:58:30.5", id="seconds ago"),
        pytest.param("30m", "2026-11-24T11:30:00.5", "2026-11-24T11:30:00.5", id="minutes ago"),
        pytest.param("30 min ago", "2026-11-24T11:30:00.5", "2026-11-24T11:30:00.5", id="as status writes it"),
        pytest.param("2h", "2026-11-24T10:00:00.5", "2026-11-24T10:00:00.5", id="hours ago"),
        pytest.param("3d", "2026-11-21T12:00:00.5", "2026-11-21T12:00:00.5", id="days ago"),
        pytest.param("1w", "2026-11-17T12:00:00.5", "2026-11-17T12:00:00.5", id="weeks ago"),
    ],
)
def test_span_of_reads(text: str, start: str, end: str) -> None:
    span = span_of(text, NOW)
    assert span is not None
    assert [at.replace(tzinfo=None) for at in span] == [dt.datetime.fromisoformat(at) for at in (start, end)]
    assert {at.utcoffset() for at in span} == {dt.timedelta(0)}


@pytest.mark.parametrize(
    "text",
    [
        *("", "now", "yesterday", "2", "2x", "-2h", "1.5h", "2026", "2026-11", "24.11.2026", "11", "24:00", "11:60"),
        *("2026-02-30", "2026-11-24 11", "2026-11-24  11:20", "2026-11-24Z", "11:20+25:00", "11:20 2026-11-24"),
        *("9999-12-31", "0001-01-01 00:00+05:00", "999999w", "٢h", "2h\n", "2026-11-24T11:20:31.1234Z"),
    ],
)
def test_span_of_refuses(text: str) -> None:
    assert span_of(text, NOW) is None


@pytest.mark.parametrize(
    ("args", "found"),
    [
        pytest.param((), ["overwritten", "attached", "registered"], id="nothing: all of it"),
        pytest.param(("--since", states.LATER), ["overwritten"], id="since a moment, that one included"),
        pytest.param(("--since", "2026-11-24"), ["overwritten", "attached", "registered"], id="since a day"),
        pytest.param(("--since", "2026-11-25"), [], id="since the day after"),
        pytest.param(("--until", "2026-11-24"), ["overwritten", "attached", "registered"], id="until a day, whole"),
        pytest.param(("--until", "2026-11-24 11:20"), ["attached", "registered"], id="until a minute, whole"),
        pytest.param(("--until", "2026-11-24 11:19"), [], id="until the minute before"),
        pytest.param(("--event", "attached"), ["attached"], id="one event"),
        pytest.param(("--event", "attached", "--event", "undone"), ["attached"], id="one event or another"),
        pytest.param(("--origin", "lead"), ["overwritten"], id="what came from a lead"),
        pytest.param(("--field", "site.name"), ["overwritten", "registered"], id="what changed a field"),
        pytest.param(("--field", "site"), ["overwritten", "registered"], id="what changed a group of fields"),
        pytest.param(("--field", "address.city"), ["registered"], id="a field that changed once"),
        pytest.param(("--field", "warranty.start"), [], id="a field that never was set"),
        pytest.param(("--version", states.CURRENT), ["overwritten"], id="one version"),
        pytest.param(("--version", states.FIRST), [], id="a version that never came"),
        pytest.param(("--field", "site.name", "-n", "1", "--origin", "own"), ["registered"], id="all at once"),
        pytest.param(("--field", "address.city", "--limit", "1"), ["registered"], id="the limit counts what fits"),
    ],
)
def test_history_gives_what_fits(tmp_path: Path, args: tuple[str, ...], found: list[str]) -> None:
    states.shadow(tmp_path)
    assert _asked(tmp_path, *args) == found


def test_a_field_is_no_beginning_of_another_one(tmp_path: Path) -> None:
    states.shadow(tmp_path)
    states.change(tmp_path, """UPDATE history SET before = '{}', after = '{"site": {"names": "x"}, "sites": 1}'""")
    assert _asked(tmp_path, "--field", "site.name") == []
    assert CliRunner().invoke(commands, ["history", "--state-dir", str(tmp_path), "--field", "sit"]).exit_code == 2


def test_f51_a_field_of_a_newer_program_may_be_asked_for(tmp_path: Path) -> None:
    states.shadow(tmp_path)
    states.change(tmp_path, """UPDATE history SET after = '{"novel": {"part": 1}}' WHERE event = 'overwritten'""")
    assert _asked(tmp_path, "--field", "novel.part") == ["overwritten"]
    assert _asked(tmp_path, "--field", "novel.part", "--until", "2026-11-01") == []


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("--since", "yesterday"), '"yesterday" is no time. Write a day (2026-11-24)'),
        (("--until", "1h\x1b[2J"), '"1h\\u001b[2J" is no time.'),
        (("--since", "1h", "--until", "2h"), "--until is before --since"),
        (("--since", "2026-11-24", "--until", "2026-11-23"), "--until is before --since"),
        (("--event", "lost"), "'registered', 'overwritten'"),
        (("--origin", "moon"), "'own', 'lead'"),
        (("--version", "1.2"), '"1.2" is no version'),
        (("--field", "site.nmae"), 'no field "site.nmae"; did you mean site.name?'),
        (("--field", "qqqq"), "`propagator record --json` shows the names."),
        (("--field", ""), 'no field ""'),
        (("-n", "0"), "not in the range"),
    ],
)
def test_a_bad_value_is_told_in_one_message_and_nothing_is_shown(
    tmp_path: Path, args: tuple[str, ...], text: str
) -> None:
    states.shadow(tmp_path)
    for more in ([], ["--json"]):
        done = CliRunner().invoke(commands, ["history", "--state-dir", str(tmp_path), *args, *more])
        assert (done.exit_code, done.stdout) == (2, "")
        error, hint = done.stderr.splitlines()
        assert error.startswith("Error: ")
        assert text in error
        assert hint == "Try: propagator history --help"


def test_one_and_the_same_day_may_be_the_first_and_the_last(tmp_path: Path) -> None:
    states.shadow(tmp_path)
    assert _asked(tmp_path, "--since", "2026-11-24", "--until", "2026-11-24") == [
        "overwritten",
        "attached",
        "registered",
    ]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("propagator history --event over", ["plain,overwritten", "plain,overruled"]),
        ("propagator history --origin f", ["plain,field"]),
        ("propagator history --field site.n", ["plain,site.name"]),
    ],
)
def test_the_fixed_words_are_completed(words: str, found: list[str]) -> None:
    asked = {"_PROPAGATOR_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    program = [sys.executable, "-m", "propagator"]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, env={**os.environ, **asked}, check=False)
    assert done.stdout.splitlines() == found


def test_field_paths_are_those_of_a_registration() -> None:
    paths = registration.field_paths()
    assert paths[:3] == ("site.type", "site.name", "site.company")
    assert {"system.segments", "accounts.end_user.email", "warranty.reference"} < set(paths)
    assert len(set(paths)) == len(paths)
