"""The tables of tests/README.md stay true: each rule taken away, in a copy of the tree, turns its test red."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests import mutations

if TYPE_CHECKING:
    from tests.mutations import Mutation

ROOT: Final = Path(__file__).parent.parent
ALL: Final = [mutation for table in mutations.tables().values() for mutation in table]


def test_the_list_is_read_whole() -> None:
    starred = re.findall(r"^\* ", mutations.LIST.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(ALL) == len(starred) > 100
    assert len({mutation.name for mutation in ALL}) == len(ALL)


@pytest.mark.parametrize("mutation", ALL, ids=lambda mutation: mutation.name)
def test_what_is_to_be_taken_away_is_there(mutation: Mutation) -> None:
    """Quick, and so not slow: who changes a rule is told at once that its mutation says nothing any more."""
    _, text = mutation.applied(ROOT)
    compile(text, mutation.file, "exec")
    tests = (ROOT / mutation.node.partition("::")[0]).read_text(encoding="utf-8")
    assert re.search(rf"^def {mutation.test}\(", tests, re.MULTILINE)


def test_the_tables_of_the_readme_are_those_of_the_list() -> None:
    assert mutations.markdown() in (ROOT / "tests" / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree, so that nothing here ever touches the files that are worked on."""
    folder = tmp_path_factory.mktemp("tree")
    for name in ("propagator", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".hypothesis"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def _run(copy: Path, *nodes: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *nodes]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}  # a mutation may keep size and second of its file
    return subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.slow
def test_all_named_tests_are_green_before_anything_is_taken_away(copy: Path) -> None:
    done = _run(copy, *dict.fromkeys(mutation.node for mutation in ALL))
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("mutation", ALL, ids=lambda mutation: mutation.name)
def test_a_rule_taken_away_turns_its_test_red(copy: Path, mutation: Mutation) -> None:
    path, text = mutation.applied(copy)
    kept = path.read_text(encoding="utf-8")
    path.write_text(text, encoding="utf-8")
    try:
        done = _run(copy, mutation.node)
    finally:
        path.write_text(kept, encoding="utf-8")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout
    assert mutation.test in done.stdout
