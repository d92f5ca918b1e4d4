"""The open case: kept, read again in whatever form it is, and closed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from propagator.core.diagnosis import Code, Confidence, Verdict
from propagator.diagnose import memory
from propagator.diagnose.memory import Case

if TYPE_CHECKING:
    from pathlib import Path

AT, LATER = "2026-11-24T10:00:00.000Z", "2026-11-24T11:00:00.000Z"
CLOSED = Verdict(Code.PORTAL_CLOSED, Confidence.PROBABLE, "because")
CASE = Case(AT, "PORTAL_CLOSED", CLOSED.entry.title, "portal.example", 443, "https://portal.example")


def test_a_case_is_kept_and_closed_beside_the_other(tmp_path: Path) -> None:
    lead = Case(AT, "PORT_CLOSED", "Closed", "10.3.0.2", 8883)
    memory.keep_case(tmp_path, lead)
    memory.keep_case(tmp_path, CASE, memory.PORTAL_FILE_NAME)
    assert (memory.case(tmp_path), memory.case(tmp_path, memory.PORTAL_FILE_NAME)) == (lead, CASE)
    memory.keep_case(tmp_path, None, memory.PORTAL_FILE_NAME)
    assert (memory.case(tmp_path), memory.case(tmp_path, memory.PORTAL_FILE_NAME)) == (lead, None)


def test_a_case_names_what_it_is_about() -> None:
    assert str(CASE) == f"PORTAL_CLOSED of {AT}, https://portal.example"
    assert str(Case(AT, "PORT_CLOSED", "Closed", "10.3.0.2", 8883)) == f"PORT_CLOSED of {AT}, 10.3.0.2:8883"


def test_a_case_goes_on_while_the_verdict_is_the_same() -> None:
    where = ("portal.example", 443), "https://portal.example"
    assert memory.opened(CLOSED, None, AT, *where) == CASE
    assert memory.opened(CLOSED, CASE, LATER, *where) == CASE
    dropped = Verdict(Code.PORTAL_DROPPED, Confidence.PROBABLE, "because")
    assert memory.opened(dropped, CASE, LATER, *where).at == LATER


def test_a_case_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    old = {"at": AT, "code": "PORT_CLOSED", "title": "Closed", "host": "10.3.0.2", "port": 8883}
    (tmp_path / memory.FILE_NAME).write_text(json.dumps(old))
    assert memory.case(tmp_path) == Case(AT, "PORT_CLOSED", "Closed", "10.3.0.2", 8883)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"at": 1, "code": "c", "title": "t", "host": "h", "port": "x"}'])
def test_a_spoilt_case_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / memory.FILE_NAME).write_text(content)
    assert memory.case(tmp_path) is None


def test_where_nothing_can_be_kept_nothing_is_said(tmp_path: Path) -> None:
    memory.keep_case(tmp_path / "none", CASE)
    memory.keep_case(tmp_path / "none", None)
    assert not (tmp_path / "none").exists()
