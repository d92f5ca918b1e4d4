"""docs/diagnostics.md says what the catalogue says; `make docs` writes it anew."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from propagator.core.diagnosis import CATALOGUE, Code
from propagator.core.diagnosis.catalogue import CERTAIN_ALONE, CONFIDENCE
from tests.docs import diagnostics, generate

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/diagnostics.md"
ROWS = {
    row[0].strip("`"): row
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines()
    if len(row := [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]) == 6 and row[0].startswith("`")
}


def test_the_document_is_that_of_the_catalogue() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == diagnostics.made(), "make docs"
    assert generate.made()["diagnostics.md"] == diagnostics.made()


def test_every_code_is_in_it_once() -> None:
    assert set(ROWS) == set(Code)
    assert DOCUMENT.read_text(encoding="utf-8").count("\n| `") == len(Code)


@pytest.mark.parametrize("code", Code)
def test_a_row_tells_how_sure_and_what_to_do(code: Code) -> None:
    _, meaning, proof, sure, remedy, settled = ROWS[code]
    assert sure.split(", ") == list(CONFIDENCE.get(code, CERTAIN_ALONE))
    assert meaning.startswith(CATALOGUE[code].title)
    assert proof
    assert remedy
    assert bool(settled) == bool(CATALOGUE[code].settled_by)
