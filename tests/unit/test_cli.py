"""The command line: the group, its error door, and the commands that only look. What they draw is in test_show."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner

from propagator import __version__, cli
from propagator.cli import COMMANDS, Commands, commands, visible
from propagator.core.errors import InputError, Problem, RefusedError, StateError
from tests import states

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from click.testing import Result

HEAVY = {"pydantic", "structlog", "aiosqlite", "aiomqtt", "cryptography", "joserfc", "rich", "asyncio"}


def _run(*args: str, env: Mapping[str, str] | None = None) -> Result:
    return CliRunner().invoke(commands, args, env=env)


def _process(*args: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "propagator", *args]
    given = {**os.environ, **(env or {})}
    return subprocess.run(program, capture_output=True, text=True, check=False, timeout=60, env=given)


def _loaded(*args: str) -> set[str]:
    """Run a command in a process of its own, and say which of the heavy modules it loaded."""
    code = (
        "import sys\nfrom propagator.__main__ import main\n"
        f"try: main()\nfinally: print({HEAVY!r} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, check=False, timeout=60)
    found = eval(done.stderr.splitlines()[-1])  # noqa: S307  what this very test had printed
    assert isinstance(found, set)
    return found


# The group.


def test_help_lists_every_command_with_what_it_is_for() -> None:
    shown = _run("--help")
    assert shown.exit_code == 0
    for name, (_, text) in COMMANDS.items():
        assert f"  {name} " in shown.stdout
        assert text in shown.stdout


def test_help_and_version_load_no_command() -> None:
    assert _loaded("--help") == _loaded("--version") == set()


def test_without_a_command_the_help_is_an_error() -> None:
    shown = _run()
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert "Commands:" in shown.stderr


def test_version() -> None:
    assert _run("--version").stdout == f"propagator {__version__}\n"


@pytest.mark.parametrize("name", [None, *COMMANDS])
def test_every_help_ends_with_exit_codes_and_two_examples(name: str | None) -> None:
    shown = _run(*([name] if name else []), "--help")
    assert shown.exit_code == 0, shown.output
    _, codes, rest = shown.stdout.partition("\n  Exit codes:\n")
    meanings, examples, lines = rest.partition("\n  Examples:\n")
    assert codes
    assert examples
    assert all(line[4].isdigit() for line in meanings.strip("\n").splitlines())
    assert [line for line in lines.splitlines() if not line.startswith("    propagator")] == []
    assert len(lines.splitlines()) >= 2


@pytest.mark.parametrize(
    "name", ["status", "record", "history", "decode", "init", "run", "register", "invite", "attach"]
)
def test_every_command_that_touches_state_can_be_told_where_it_is(name: str) -> None:
    shown = _run(name, "--help").stdout
    assert "--config FILE" in shown
    assert "--state-dir DIR" in shown


# The one error door.


def _door(callback: Callable[[], object]) -> Result:
    class Door(Commands):
        def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:  # noqa: ARG002
            return click.Command(cmd_name, callback=callback)

    door = Door({"work": ("", "")}, help_text="", epilog="")
    return CliRunner().invoke(door, ["work"])


def _raising(error: BaseException) -> Callable[[], None]:
    def callback() -> None:
        raise error

    return callback


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        pytest.param(RefusedError("No."), 1, "Error: No.\n", id="a refusal without a hint"),
        pytest.param(StateError("No state.", hint="init"), 3, "Error: No state.\nTry: init\n", id="no state"),
        pytest.param(
            InputError("Two problems.", (Problem("a.b", "is missing"), Problem("", "too long")), hint="correct it"),
            2,
            "Error: Two problems.\n  a.b: is missing\n  too long\nTry: correct it\n",
            id="an input with every problem of it",
        ),
        pytest.param(
            InputError("\x1b[2J\u202egone."), 2, "Error: \\x1b[2J\\u202egone.\n", id="signs that steer terminals"
        ),
        pytest.param(
            click.UsageError("No such\n  thing."), 2, "Error: No such thing.\nTry: propagator work --help\n", id="usage"
        ),
        pytest.param(click.ClickException("Hm."), 2, "Error: Hm.\nTry: propagator --help\n", id="anything of click"),
        pytest.param(KeyboardInterrupt(), 130, "\n", id="Ctrl-C, quietly"),
        pytest.param(click.Abort(), 130, "", id="Ctrl-C at a prompt, quietly"),
    ],
)
def test_an_error_is_told_once_with_its_exit_code(error: BaseException, code: int, told: str) -> None:
    shown = _door(_raising(error))
    assert (shown.exit_code, shown.stdout, shown.stderr) == (code, "", told)


def test_what_nobody_foresaw_is_one_sentence_without_a_stack_trace() -> None:
    shown = _door(_raising(ZeroDivisionError("secret detail")))
    assert shown.exit_code == 1
    error, hint = shown.stderr.splitlines()
    assert error.startswith("Error: internal error: ZeroDivisionError at unit/test_cli.py:")
    assert hint == "Try: report it with the output of `propagator status --json`"


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (1, 1), (3, 3)])
def test_a_command_ends_with_the_code_that_it_returns(returned: int | None, code: int) -> None:
    assert _door(lambda: returned).exit_code == code


def test_a_command_may_end_with_click_s_own_exit() -> None:
    assert _door(lambda: click.get_current_context().exit(7)).exit_code == 7


@pytest.mark.parametrize(
    ("args", "error", "hint"),
    [
        (["stauts"], 'There is no command "stauts". Did you mean status?', "propagator --help"),
        (["\x1b[2J"], 'There is no command "\\u001b[2J".', "propagator --help"),
        (["--nope"], "No such option", "propagator --help"),
        (["status", "--nope"], "No such option", "propagator status --help"),
        (["history", "--limit", "0"], "not in the range", "propagator history --help"),
        (["completion"], "Choose from: bash, zsh, fish", "propagator completion --help"),
        (["status", "--watch"], "--watch draws on a terminal", "propagator status --help"),
        (["status", "--watch", "--json"], "--watch draws on a terminal", "propagator status --help"),
    ],
)
def test_wrong_usage_is_told_in_the_same_form(args: list[str], error: str, hint: str) -> None:
    shown = _run(*args)
    first, second = shown.stderr.splitlines()
    assert shown.exit_code == 2
    assert first.startswith("Error: ")
    assert error in first
    assert second == f"Try: {hint}"


def test_a_reader_that_left_is_no_error(tmp_path: Path) -> None:
    states.lead(tmp_path, reports={f"as-{number}": states.report() for number in range(400)})
    program = [sys.executable, "-m", "propagator", "status", "--json", "--state-dir", str(tmp_path)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 141


def test_a_terminal_that_cannot_show_a_sign_gets_it_written_out(tmp_path: Path) -> None:
    states.standalone(tmp_path)
    states.change(tmp_path, "UPDATE server SET name = 'Ölmühle 油'")
    program = [sys.executable, "-m", "propagator", "status", "--state-dir", str(tmp_path)]
    env = {**os.environ, "PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"}
    shown = subprocess.run(program, capture_output=True, check=False, timeout=60, env=env)
    assert (shown.returncode, shown.stderr) == (0, b"")
    assert shown.stdout.startswith(b"\xd6lm\xfchle \\u6cb9 (as-9): ok\n")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Ölmühle, 油\nnext", "Ölmühle, 油\nnext"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("user\u202egpj.exe", "user\\u202egpj.exe"),
        ("a\u200db", "a\u200db"),
        ("\udc80", "\\udc80"),
        ("\u2028", "\\u2028"),
    ],
)
def test_visible(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_print_json_escapes_what_could_steer_a_terminal_and_stays_json(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"name": "Öl \x1b[2J \x9b \u202e \U000e0001 \u200d \x7f"}
    cli.print_json(value)
    printed = capsys.readouterr().out
    assert json.loads(printed) == value
    assert printed == '{\n  "name": "Öl \\u001b[2J \\u009b \\u202e \\udb40\\udc01 \u200d \\u007f"\n}\n'


# Where the state is.


def test_the_state_dir_is_that_of_the_command_line_then_of_the_file(tmp_path: Path) -> None:
    states.standalone(tmp_path / "named")
    states.lead(tmp_path / "filed", states.HOUSE)
    file = tmp_path / "propagator.toml"
    file.write_text(f'state_dir = "{tmp_path / "filed"}"\n')
    by_env = {"PROPAGATOR_CONFIG": str(file)}
    for args, env, server in (
        (["--config", str(file)], {}, "es-1"),
        ([], by_env, "es-1"),
        (["--state-dir", str(tmp_path / "named")], by_env, "as-9"),
        (["--config", str(file), "--state-dir", str(tmp_path / "named")], {}, "as-9"),
    ):
        assert json.loads(_run("status", "--json", *args, env=env).stdout)["server"]["id"] == server


def test_a_named_file_that_is_missing_is_wrong_usage(tmp_path: Path) -> None:
    shown = _run("status", "--config", str(tmp_path / "missing.toml"))
    assert shown.exit_code == 2
    assert "does not exist" in shown.stderr


def test_a_state_dir_needs_no_file(tmp_path: Path) -> None:
    states.standalone(tmp_path)
    broken = tmp_path / "broken.toml"
    broken.write_text("= nonsense")
    args = ["status", "--json", "--state-dir", str(tmp_path)]
    assert _run(*args, env={"PROPAGATOR_CONFIG": str(broken)}).exit_code == 0
    assert _run(*args, "--config", str(broken)).exit_code == 2  # but one that is named is read


@pytest.mark.parametrize(("written", "period_s"), [("5", 5.0), ("0.5", 0.5), ('"x"', 60.0), ("-1", 60.0)])
def test_the_heartbeat_of_the_file_is_read_leniently(tmp_path: Path, written: str, period_s: float) -> None:
    states.lead(tmp_path / "state")
    file = tmp_path / "propagator.toml"
    file.write_text(f'state_dir = "{tmp_path / "state"}"\n[downlink]\nheartbeat_s = {written}\n')
    shown = json.loads(_run("status", "--json", "--config", str(file)).stdout)
    assert shown["downlink"]["heartbeat_s"] == period_s


# The commands that look are light, and answer without agent and broker.


@pytest.mark.parametrize("command", ["status", "record", "history"])
def test_the_commands_that_look_load_nothing_heavy(tmp_path: Path, command: str) -> None:
    """DESIGN §6: neither pydantic, structlog, aiosqlite nor aiomqtt; and with --json neither rich nor asyncio."""
    states.shadow(tmp_path)
    assert _loaded(command, "--json", "--state-dir", str(tmp_path)) == set()
    assert _loaded(command, "--state-dir", str(tmp_path)) <= {"rich"}


@pytest.mark.parametrize("command", ["status", "record", "history"])
def test_without_state_the_commands_that_look_cannot_tell(tmp_path: Path, command: str) -> None:
    shown = _run(command, "--state-dir", str(tmp_path))
    assert shown.exit_code == 3
    assert shown.stderr == f"Error: There is no state in {tmp_path}.\nTry: {_INIT}\n"


_INIT = "propagator init --role lead|shadow|standalone"


def test_status_json_has_a_verdict_even_without_state(tmp_path: Path) -> None:
    shown = _run("status", "--json", "--state-dir", str(tmp_path))
    told = json.loads(shown.stdout)
    assert shown.exit_code == 3
    assert (told["schema"], told["verdict"], told["server"]) == (1, "unknown", None)
    assert told["problems"] == [{"text": f"There is no state in {tmp_path}.", "hint": _INIT}]


def test_status_ends_with_its_verdict(tmp_path: Path) -> None:
    states.standalone(tmp_path / "ok")
    states.shadow(tmp_path / "problem")
    for name, code in (("ok", 0), ("problem", 1)):
        for args in ([], ["--json"]):
            assert _run("status", *args, "--state-dir", str(tmp_path / name)).exit_code == code


def test_record_json_is_the_record_of_status(tmp_path: Path) -> None:
    states.shadow(tmp_path)
    told = json.loads(_run("status", "--json", "--state-dir", str(tmp_path)).stdout)["record"]
    shown = _run("record", "--json", "--state-dir", str(tmp_path))
    assert (json.loads(shown.stdout), shown.exit_code) == (told, 0)
    assert told["registration"] == states.HOUSE.document


def test_record_without_a_registration_is_a_problem(tmp_path: Path) -> None:
    states.standalone(tmp_path)
    shown = _run("record", "--json", "--state-dir", str(tmp_path))
    assert (shown.stdout, shown.exit_code) == ("null\n", 1)
    shown = _run("record", "--state-dir", str(tmp_path))
    assert (shown.stdout, shown.exit_code) == ("This server has no registration.\n", 1)
    assert shown.stderr.startswith("Try: propagator register FILE")


@pytest.mark.parametrize("args", [[], ["--json"]])
def test_record_that_is_damaged_is_shown_and_is_a_problem(tmp_path: Path, args: list[str]) -> None:
    states.shadow(tmp_path)
    states.change(tmp_path, "UPDATE record SET registration = ?", states.MILL.canonical)
    shown = _run("record", *args, "--state-dir", str(tmp_path))
    assert shown.exit_code == 1
    assert "Riverside Mill" in shown.stdout
    assert "Problem: The stored registration was damaged" in shown.stderr


def test_history_json_has_what_was_overwritten(tmp_path: Path) -> None:
    states.shadow(tmp_path)
    shown = _run("history", "--json", "--state-dir", str(tmp_path))
    lines = json.loads(shown.stdout)
    assert (shown.exit_code, [line["event"] for line in lines]) == (0, ["overwritten", "attached", "registered"])
    newest = lines[0]
    assert newest["changes"] == [{"path": "site.name", "before": "Riverside Mill", "after": "Riverside House"}]
    assert (newest["before"], newest["after"]) == (states.MILL.document, states.HOUSE.document)
    assert (newest["lead"], newest["version"]) == ("es-1", states.CURRENT)
    assert newest["fingerprint"] == states.LEAD.signing.thumbprint
    assert newest["raw"].encode() == states.LEAD.signed(states.CURRENT, states.HOUSE)
    assert newest["replaced"]["origin"] == "own"
    assert len(json.loads(_run("history", "--json", "--limit", "1", "--state-dir", str(tmp_path)).stdout)) == 1


def test_history_json_of_bytes_that_are_no_text_is_base64(tmp_path: Path) -> None:
    states.shadow(tmp_path)
    states.change(tmp_path, "UPDATE history SET raw = ?", b"\xff\x00")
    lines = json.loads(_run("history", "--json", "--limit", "1", "--state-dir", str(tmp_path)).stdout)
    assert lines[0]["raw"] == "base64:/wA="


def test_history_of_nothing(tmp_path: Path) -> None:
    states.standalone(tmp_path)
    assert _run("history", "--json", "--state-dir", str(tmp_path)).stdout == "[]\n"
    assert _run("history", "--state-dir", str(tmp_path)).stdout == "Nothing has happened to the record yet.\n"


# Completion.


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_the_script_of(shell: str) -> None:
    shown = _run("completion", shell)
    assert shown.exit_code == 0
    assert f"_PROPAGATOR_COMPLETE={shell}_complete" in shown.stdout


def test_completion_completes_commands_and_options() -> None:
    for words, found in (("propagator hi", "plain,history"), ("propagator status --j", "plain,--json")):
        asked = {"_PROPAGATOR_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        assert _process(env=asked).stdout.splitlines() == [found]
