"""docs/getting-started.md: its commands and options exist, and every problem that `status` can name is answered."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import click
import pytest

from propagator import settings
from propagator.cli import COMMANDS, commands
from propagator.config import Found
from propagator.core.state import Reason
from propagator.core.statement import StatementReason
from propagator.core.view import problems

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs/getting-started.md").read_text(encoding="utf-8")
LINES = sorted(set(re.findall(r"^    (?:\$ )?(propagator .*)$", GUIDE, re.MULTILINE)))
INLINE = sorted(set(re.findall(r"`(propagator [^`]*)`", GUIDE)))


@pytest.mark.parametrize("line", LINES + INLINE)
def test_a_command_of_the_guide_exists_with_its_options(line: str) -> None:
    name, *words = shlex.split(line.partition(" > ")[0])[1:]
    if name == "COMMAND":
        return
    assert name in COMMANDS
    command = commands.get_command(click.Context(commands), name)
    assert command is not None
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= known


def _source_texts() -> set[str]:
    """Every sentence that becomes a problem: those written where they are raised, and those of the tables."""
    source = Path(problems.__file__).read_text(encoding="utf-8")
    raised = re.findall(r'(?:Problem\(|text = )\s*f?"([^"]+)"', source)
    tables = [text for text, _ in (*problems._UPLINK.values(), problems._UNHEARD)]
    stopped = [problem.text for problem in problems._STOPPED.values()]
    return {*raised, *tables, *stopped, *(f"1 shadow {did}: " for did in problems._ROWS.values())}


@pytest.mark.parametrize("text", sorted(_source_texts()))
def test_a_problem_is_answered(text: str) -> None:
    fixed = [part for part in re.split(r"\{[^}]*\}", text) if len(part) > 2]
    assert [part for part in fixed if part not in GUIDE] == []


def test_every_reason_is_answered() -> None:
    assert [reason for reason in Reason if f"\n| `{reason}` |" not in GUIDE] == []


def test_the_settings_of_the_guide_are_settings() -> None:
    blocks = re.findall(r"(?:^    \w+ = .*\n)+", GUIDE, re.MULTILINE)
    assert len(blocks) == 2
    for block in blocks:
        table = {"server": {"id": "es-1"}, "downlink": tomllib.loads(block.replace("    ", ""))}
        assert settings.load(Found(Path("guide.toml"), table, exists=True)).downlink is not None


def test_the_files_of_the_guide_are_there() -> None:
    named = re.findall(r"(?<![\w./-])((?:systemd|config)/[\w./-]+)", GUIDE)
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_reason_why_a_code_is_refused_is_answered() -> None:
    assert [reason for reason in StatementReason if f"\n| `{reason}` |" not in GUIDE] == []
