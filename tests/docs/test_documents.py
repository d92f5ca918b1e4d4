"""The documents say what the code does: a name in them that is not there any more turns a test red."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from propagator.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "tests/README.md"]
DECISIONS = sorted((ROOT / "docs/decisions").glob("*.md"))


def test_every_command_is_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text()
    missing = [name for name in COMMANDS if not re.search(rf"`(propagator )?{name}\b", text)]
    assert missing == []


def test_the_readme_names_no_command_that_does_not_exist() -> None:
    text = (ROOT / "README.md").read_text()
    named = set(re.findall(r"^\s*(?:\$ )?propagator ([a-z-]+)", text, re.MULTILINE))
    assert named
    assert named <= set(COMMANDS)


@pytest.mark.parametrize("document", ["README.md", "ARCHITECTURE.md"])
def test_every_file_that_a_document_names_exists(document: str) -> None:
    named = set(re.findall(r"`([\w./-]+(?:\.py|\.sql|\.md|\.toml|/))`", (ROOT / document).read_text()))
    places = (ROOT, ROOT / "propagator")
    missing = sorted(name for name in named if not any((place / name).exists() for place in places))
    assert named
    assert missing == []


@pytest.mark.parametrize("decision", DECISIONS, ids=lambda path: path.stem)
def test_a_decision_is_numbered_and_says_its_number(decision: Path) -> None:
    number = decision.name[:4]
    assert re.match(rf"# {number}: \S", decision.read_text())
    assert [path.name[:4] for path in DECISIONS].count(number) == 1


def test_every_layer_of_the_plan_has_its_module() -> None:
    """A new module must be placed in the layers (pyproject.toml), where `lint-imports` holds it."""
    layers = (ROOT / "pyproject.toml").read_text()
    modules = {path.stem for path in (ROOT / "propagator").iterdir() if path.suffix == ".py" or path.is_dir()}
    unplaced = sorted(name for name in modules - {"__init__", "__pycache__", "core", "schema"} if name not in layers)
    assert unplaced == []


def test_nothing_of_this_workplace_is_committed() -> None:
    """No path of a developer's machine and no host of a registry stands in a file of the project."""
    forbidden = re.compile(
        "/wo" + "rk/|py" + "pi\\.org|files\\.pythonhosted|registry\\.npm" + "js|deb\\.deb" + "ian\\.org"
    )
    folders = ["propagator", "config", "tests", "systemd", "docs", "benchmarks", ".ci"]
    inside = [path for folder in folders for path in (ROOT / folder).rglob("*") if "__pycache__" not in path.parts]
    beside = [path for path in ROOT.iterdir() if path.suffix in {".md", ".toml"} or path.name == "Makefile"]
    files = [path for path in (*inside, *beside) if path.is_file()]
    assert [str(path) for path in files if forbidden.search(path.read_text(errors="replace"))] == []
