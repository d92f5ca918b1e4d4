"""Each case of FIREWALL.md §2 by the installed command: the real lead, the real shadow's state, users without rights.

The command runs as uid 65534 with no capability and no way to one; the lead's half as another such user.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.firewall.cases import CASES, Case
from tests.firewall.diagnosing import DEADLINE_S, Diagnosis, diagnose_case
from tests.firewall.side_by_side import asked_for, parametrized, side_by_side

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from concurrent.futures import Future

LIMIT_S: Final = 20.0
"""The longest that a diagnosis may take."""

START_S: Final = 20.0
"""For Python to start, on a machine that runs many labs at once."""

FINE: Final = frozenset({"OK", "OK_BUT_IPV6_BROKEN"})

ALONE: Final = [case for case in CASES.values() if not case.why_left_out]
JOINT: Final = [case for case in CASES.values() if case.joint is not None]


@pytest.fixture(scope="module")
def diagnoses(request: pytest.FixtureRequest, site_files: bytes) -> Iterator[Mapping[str, Future[Diagnosis]]]:
    """The diagnosis of every case that is asked for."""
    with side_by_side(lambda case: diagnose_case(case, site_files), asked_for(request)) as coming:
        yield coming


@parametrized(ALONE)
def test_f45_the_shadow_alone_says_of(case: Case, diagnoses: Mapping[str, Future[Diagnosis]]) -> None:
    found = diagnoses[case.name].result(DEADLINE_S)
    assert "Traceback" not in found.said.err, found.said.err
    assert found.alone == case.alone, str(found)
    assert found.said.code == (0 if case.alone.code in FINE else 1), found.said
    assert found.took_s < LIMIT_S + START_S, str(found)


@parametrized(JOINT)
def test_f45_both_ends_say_of(case: Case, diagnoses: Mapping[str, Future[Diagnosis]]) -> None:
    found = diagnoses[case.name].result(DEADLINE_S)
    assert found.joint == case.joint, str(found)


def test_what_is_left_out_has_a_reason() -> None:
    assert {case.name for case in CASES.values()} - {case.name for case in ALONE} == {"tls-wanted"}
