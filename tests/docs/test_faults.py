"""docs/faults.md has a row for every fault that is to be survived, and every row has a test that bears its id."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
DOCUMENT: Final = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")

FAULTS: Final = [
    *("F01", "F02", "F03", "F04", "F05", "F06", "F07", "F08", "F09", "F10", "F11", "F12", "F13", "F14", "F15"),
    *("F16", "F17", "F18", "F19", "F20", "F21", "F22", "F23", "F24", "F25", "F26", "F27", "F28", "F29", "F30"),
    *("F31", "F32", "F33", "F34", "F35", "F36", "F37", "F38", "F39", "F40", "F41", "F42", "F43", "F44", "F45"),
    *("F46", "F47", "F48", "F49", "F50", "F51", "F52", "F53", "F54", "F55", "F56", "F57", "F58"),
]
"""All there are. A new one comes here, into the document, and into the name of a test."""

ROWS: Final = {
    cells[0]: cells[1:]
    for line in DOCUMENT.splitlines()
    if re.fullmatch(r"F\d\d", (cells := [cell.strip() for cell in line.strip("|").split(" | ")])[0])
}


def test_every_fault_has_a_row_in_its_order() -> None:
    assert list(ROWS) == FAULTS
    assert len(re.findall(r"^\| F\d\d ", DOCUMENT, re.MULTILINE)) == len(FAULTS), "none twice"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_row_says_what_is_done_and_promised_and_by_which_tests(fault: str) -> None:
    what, done, promised, tests = ROWS[fault]
    assert what
    assert done
    assert promised
    named = re.findall(r"`([^`]+\.py)::(\w+)`", tests)
    assert named, "no test"
    assert "<br>".join(f"`{file}::{test}`" for file, test in named) == tests
    for file, test in named:
        assert test in _tests_in(file), f"{file} has no {test}"
        assert f"_{fault.lower()}_" in test, f"{test} does not bear the id"


@cache
def _tests_in(file: str) -> frozenset[str]:
    """The tests that a file below tests/ really has: functions at its top, under no marker that leaves them out."""
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return frozenset(node.name for node in functions if not {"skip", "skipif", "xfail"} & _marks(node))


def _marks(function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    return {node.attr for each in function.decorator_list for node in ast.walk(each) if isinstance(node, ast.Attribute)}
