"""What `status`, `record` and `history` draw: at 80 columns, piped and on a terminal, with hostile text."""

from __future__ import annotations

import datetime as dt
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from propagator import status
from propagator.cli import commands, drawing
from propagator.core import moment
from propagator.core.state import State
from tests import states
from tests.states import FIRST
from tests.unit.test_status import DOWNLINK, UPLINK, agent

if TYPE_CHECKING:
    from pathlib import Path

    from propagator.core.difference import JsonObject

_ESCAPE = re.compile(r"\x1b")


def _shown(command: str, state_dir: Path, *args: str) -> str:
    done = CliRunner().invoke(commands, [command, "--state-dir", str(state_dir), *args])
    assert done.exit_code in {0, 1}, done.output
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert not _ESCAPE.search(done.stdout)
    assert not any(line.endswith(" ") for line in done.stdout.splitlines())
    return done.stdout


def _flat(text: str) -> str:
    return " ".join(text.split())


def test_status_of_a_lead_shows_online_and_holding_as_two_facts(tmp_path: Path) -> None:
    """R19: online does not prove that the registration arrived."""
    refused: JsonObject = {**states.report(State.REFUSED, FIRST), "refusal": {"reason": "fork", "text": "…"}}
    reports: dict[str, JsonObject | None] = {
        "as-1": states.report(),
        "as-2": states.report(version=FIRST),
        "as-3": refused,
        "as-4": None,
        "as-5": states.report(State.STALE),
        "as-6": states.report(State.DETACHED, FIRST),
        "as-7": {**states.report(), "state": "half_asleep"},
    }
    states.lead(tmp_path, reports=reports)
    states.change(tmp_path, "UPDATE member SET cloned = 1 WHERE id = 'as-1'")
    with agent(tmp_path, {"ok": True, "uplink": None, "downlink": DOWNLINK}):
        shown = _shown("status", tmp_path)
    assert shown.startswith("Enterprise Server (es-1): problem\n")
    assert re.search(r"^Shadow +Online +Holds the registration +Last heard$", shown, re.MULTILINE)
    rows = {line.split()[0]: re.split(r"  +", line) for line in shown.splitlines() if line.startswith("as-")}
    assert [rows[name][1:3] for name in sorted(rows)] == [
        ["yes", "yes, two machines!"],
        ["yes", f"no (behind, has {FIRST})"],
        ["yes", "no (refused: fork)"],
        ["no", "not known (unknown)"],
        ["yes", "yes (stale)"],
        ["yes", f"no (detached, has {FIRST})"],
        ["yes", "not known (half asleep)"],
    ]
    assert list(rows)[-1] == "as-1"  # what is well comes last
    assert "Shadows 7: 1 in sync, 1 behind, 1 refused, 1 stale, 2 unknown, 1 detached" in _flat(shown)
    assert "Problem: 1 shadow refused the record: as-3 (fork).\nTry: on as-3: propagator status\n" in shown


def test_status_of_a_shadow_shows_its_uplink(tmp_path: Path) -> None:
    states.shadow(tmp_path)
    with agent(tmp_path, {"ok": True, "uplink": UPLINK, "downlink": None}):
        shown = _flat(_shown("status", tmp_path))
    assert "Role shadow, server-device" in shown
    assert "Record Riverside House, Riverside Estates Ltd from es-1, version 1.2.bbbbbb.2 stored 2026-11-24" in shown
    assert (
        "Uplink follows Enterprise Server (es-1): refused, online in this state since 2026-11-24 11:59:00 UTC" in shown
    )
    assert "refused 2 × (rollback), last 2026-11-24 11:59:00 UTC" in shown
    assert "It is old." in shown
    assert shown.endswith(
        "Problem: The record that es-1 offers was refused (rollback). Try: on es-1: propagator status"
    )


def test_status_without_an_agent_says_who_is_online_is_not_known(tmp_path: Path) -> None:
    states.lead(tmp_path, reports={"as-1": states.report()})
    shown = _shown("status", tmp_path)
    assert re.search(r"^as-1 +\? +yes ", shown, re.MULTILINE)
    assert "Problem: The agent is not running, so nothing is propagated.\nTry: systemctl start propagator\n" in shown


@pytest.mark.parametrize(
    ("links", "text"), [("wants_uplink", "Uplink unattached"), ("wants_downlink", "Downlink unattached")]
)
def test_status_shows_a_link_that_is_only_wanted(tmp_path: Path, links: str, text: str) -> None:
    states.standalone(tmp_path)
    states.change(tmp_path, f"UPDATE server SET {links} = 1")  # noqa: S608
    assert text in _flat(_shown("status", tmp_path))


def test_status_says_that_a_record_was_detached_or_is_not_published(tmp_path: Path) -> None:
    states.shadow(tmp_path)
    mark = '{"lead": "es-1", "version": null, "at": "2026-11-24T11:20:31.123Z"}'
    states.change(tmp_path, "UPDATE record SET detached_from = ?, pending = 1", mark)
    assert "detached from es-1 2026-11-24 11:20:31 UTC" in _flat(_shown("status", tmp_path))
    assert "not published yet" in _shown("status", tmp_path)
    assert "Detached detached from es-1 2026-11-24 11:20:31 UTC" in _flat(_shown("record", tmp_path))


def test_record_shows_every_member_in_the_order_of_the_form(tmp_path: Path) -> None:
    states.shadow(tmp_path)
    shown = _shown("record", tmp_path)
    paths = re.findall(r"^  ([a-z_]+\.[a-z_.]+) ", shown, re.MULTILINE)
    assert [path.partition(".")[0] for path in paths] == [*["site"] * 3, *["address"] * 5, "contact"]
    assert "Origin from es-1 Version 1.2.bbbbbb.2 Stored 2026-11-24 11:30:00 UTC" in _flat(shown)


def test_record_shows_the_way_that_it_came(tmp_path: Path) -> None:
    states.shadow(tmp_path)
    states.change(tmp_path, "UPDATE record SET path = ?", '[["ec-1", "x"], ["es-1", "y"]]')
    assert "Origin from es-1, by way of ec-1 > es-1" in _flat(_shown("record", tmp_path))


def test_history_shows_each_change_newest_first(tmp_path: Path) -> None:
    states.shadow(tmp_path)
    shown = _shown("history", tmp_path)
    assert re.findall(r"^(\w+)  20", shown, re.MULTILINE) == ["overwritten", "attached", "registered"]
    assert "  site.name: Riverside Mill → Riverside House\n" in shown
    assert "  site.name: – → Riverside Mill\n" in shown
    assert f"  lead es-1, version 1.2.bbbbbb.2, key {states.LEAD.signing.thumbprint[:16]}\n" in shown
    assert "  to Enterprise Server\n" in shown
    assert _shown("history", tmp_path, "--limit", "1").count("UTC") == 1


def test_text_from_elsewhere_steers_no_terminal_and_is_no_markup(tmp_path: Path) -> None:
    evil = "[red]x[/red] \x1b[2J \x07 \u202e :smile: \nnext"
    states.lead(tmp_path / "lead", reports={"as-1": {**states.report(), "name": evil, "version": evil}})
    states.change(tmp_path / "lead", "UPDATE server SET name = ?, system_id = ?", evil, evil)
    states.change(tmp_path / "lead", "UPDATE downlink SET broker = ?, finding = ?", evil, "{}")
    states.shadow(tmp_path / "shadow")
    states.change(
        tmp_path / "shadow",
        "UPDATE record SET registration = ?, lead = ?",
        '{"site": {"name": "[red]\\u001b[2J\\u202e"}, "\\u001b[1m": ["\\u0007"]}',
        evil,
    )
    states.change(tmp_path / "shadow", "UPDATE history SET event = ?, detail = ?", evil, evil)
    states.change(tmp_path / "shadow", "UPDATE uplink SET lead_name = ?, address = ?", evil, evil)
    for command, state_dir in (
        *(("status", tmp_path / "lead"), ("status", tmp_path / "shadow")),
        *(("record", tmp_path / "shadow"), ("history", tmp_path / "shadow")),
    ):
        shown = _shown(command, state_dir)
        assert not set(shown) & {"\x1b", "\x07", "\u202e", "\r"}
        assert "[red]" in shown
        assert "\\x1b[2J" in shown


@pytest.mark.parametrize("length", [63, 200])
def test_long_names_are_folded_and_not_cut(tmp_path: Path, length: int) -> None:
    long = "x" * length
    states.lead(tmp_path, reports={long: {**states.report(version=FIRST), "name": "y" * length}})
    shown = _shown("status", tmp_path)
    assert min(shown.count("x"), shown.count("y")) >= length
    assert "…" not in shown


def test_an_installation_without_a_name_is_shown(tmp_path: Path) -> None:
    states.standalone(tmp_path, states.HOUSE)
    states.change(tmp_path, "UPDATE record SET registration = '{}'")
    assert "a registration without a name" in _shown("status", tmp_path)


NOW = moment.read("2026-11-24T12:00:00.000Z")


@pytest.mark.parametrize(
    ("before", "at", "ago"),
    [
        (dt.timedelta(seconds=3), "2026-11-24 11:59:57 UTC (3 s ago)", "3 s ago (11:59)"),
        (dt.timedelta(seconds=119), "2026-11-24 11:58:01 UTC (119 s ago)", "119 s ago (11:58)"),
        (dt.timedelta(minutes=5), "2026-11-24 11:55:00 UTC (5 min ago)", "5 min ago (11:55)"),
        (dt.timedelta(hours=13), "2026-11-23 23:00:00 UTC (13 h ago)", "13 h ago (23:00)"),
        (dt.timedelta(days=3), "2026-11-21 12:00:00 UTC (3 d ago)", "3 d ago (2026-11-21)"),
        (
            dt.timedelta(seconds=-5),
            "2026-11-24 12:00:05 UTC (in the future: a clock is wrong)",
            "in the future: a clock is wrong (12:00)",
        ),
    ],
)
def test_times_are_told_from_now_and_in_full(before: dt.timedelta, at: str, ago: str) -> None:
    text = moment.write(NOW - before)
    assert (drawing.at(text, NOW), drawing.ago(text, NOW)) == (at, ago)


def test_no_time_is_never() -> None:
    assert drawing.at(None, NOW) == drawing.ago("nonsense", NOW) == "never"


# On a terminal.


class Terminal:
    """A process on a terminal of 80 columns. Its deadline is there for a test that fails."""

    def __init__(self, *args: str, **env: str) -> None:
        self.said = ""
        self._end, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        program = [sys.executable, "-m", "propagator", *args]
        self._process = subprocess.Popen(
            program, stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, **env}, start_new_session=True
        )
        os.close(theirs)

    def until(self, text: str, timeout_s: float = 30.0) -> None:
        deadline_s = time.monotonic() + timeout_s
        while text not in self.said:
            assert time.monotonic() < deadline_s, self.said
            if select.select([self._end], [], [], 0.1)[0]:
                self.said += os.read(self._end, 65536).decode()

    def ctrl_c(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def wait(self) -> int:
        try:
            while part := os.read(self._end, 65536):
                self.said += part.decode()
        except OSError:  # EIO: the other end is closed
            pass
        os.close(self._end)
        return self._process.wait(30)


@pytest.mark.parametrize(
    ("env", "coloured"),
    [
        pytest.param({"TERM": "xterm-256color"}, True, id="with colour"),
        pytest.param({"TERM": "xterm-256color", "NO_COLOR": "1"}, False, id="NO_COLOR"),
        pytest.param({"TERM": "dumb"}, False, id="a dumb terminal"),
    ],
)
def test_status_on_a_terminal_is(tmp_path: Path, env: dict[str, str], *, coloured: bool) -> None:
    states.shadow(tmp_path)
    terminal = Terminal("status", "--state-dir", str(tmp_path), **env)
    assert terminal.wait() == 1
    assert ("\x1b[1;31m" in terminal.said) is coloured
    assert "Enterprise Server (es-1)" in terminal.said


def test_status_watch_looks_again_until_ctrl_c_and_ends_with_the_last_verdict(tmp_path: Path) -> None:
    state_dir = tmp_path / "state"
    states.standalone(state_dir)
    terminal = Terminal("status", "--watch", "--state-dir", str(state_dir), TERM="xterm")
    terminal.until("as-9")
    states.change(state_dir, "UPDATE server SET wants_uplink = 1")
    terminal.until("propagator attach TOKEN")
    terminal.ctrl_c()
    assert terminal.wait() == 1
    assert "Traceback" not in terminal.said


def test_status_watch_draws_no_more_shadows_than_there_are_lines(tmp_path: Path) -> None:
    states.lead(tmp_path, reports={f"as-{number}": None for number in range(300)})
    terminal = Terminal("status", "--watch", "--state-dir", str(tmp_path), TERM="xterm")
    terminal.until("300 unknown")
    terminal.ctrl_c()
    assert terminal.wait() == 1
    value = status.read(tmp_path, NOW)
    shown = drawing.draw(drawing.status(value, most=24))
    assert shown.count("not known (unknown)") == 24
    assert "\n276 more\n" in shown


def test_status_watch_outlives_a_state_that_cannot_be_read_for_a_while(tmp_path: Path) -> None:
    state_dir = tmp_path / "state"
    terminal = Terminal("status", "--watch", "--state-dir", str(state_dir), TERM="xterm")
    terminal.until("There is no state")
    states.standalone(state_dir)
    terminal.until("as-9")
    terminal.ctrl_c()
    assert terminal.wait() == 0


PORTAL = (
    "INSERT INTO portal (one, key, name, url, system, edition, token, asked_at, answered_at, finding)"
    " VALUES (1, 'thumbprint', 'portal', {url}, 'R-7KQ2M9', 3, 'secret', {asked}, {asked}, {finding})"
)


@pytest.mark.parametrize(
    ("url", "asked", "finding", "line"),
    [
        pytest.param("NULL", "NULL", "NULL", r"portal, R-7KQ2M9 edition 3$", id="by a code"),
        pytest.param(
            *("'https://portal.example'", f"'{states.AT}'", "NULL"),
            r"https://portal\.example, R-7KQ2M9 edition 3, asked 2026-11-24 11:20:31 UTC",
            id="online",
        ),
        pytest.param("NULL", "NULL", '\'{"code": "X"}\'', r"edition 3, no answer$", id="it does not answer"),
    ],
)
def test_status_shows_the_portal_in_one_line(tmp_path: Path, url: str, asked: str, finding: str, line: str) -> None:
    states.standalone(tmp_path, states.HOUSE)
    assert "Portal" not in _shown("status", tmp_path)
    states.change(tmp_path, PORTAL.format(url=url, asked=asked, finding=finding))
    shown = _shown("status", tmp_path)
    assert re.search(line, _flat(shown.partition("Portal")[2].partition("\n\n")[0]))
    assert "secret" not in shown


def test_status_as_json_has_the_portal_without_what_it_is_asked_with(tmp_path: Path) -> None:
    states.standalone(tmp_path, states.HOUSE)
    now = moment.read(states.LATER)
    assert status.read(tmp_path, now).as_json()["portal"] is None
    states.change(tmp_path, PORTAL.format(url="'https://portal.example'", asked="NULL", finding="NULL"))
    assert status.read(tmp_path, now).as_json()["portal"] == {
        "url": "https://portal.example",
        "name": "portal",
        "key": "thumbprint",
        "system": "R-7KQ2M9",
        "edition": 3,
        "asked_at": None,
        "answered_at": None,
        "finding": None,
    }
