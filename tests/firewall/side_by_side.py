"""Runs the cases that a test run asks for in labs side by side: most of a case is waiting.

A test takes the result of its own case, so it fails alone and says what it saw.
"""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from tests.firewall.case import Case

T = TypeVar("T")

LABS: Final = int(os.environ.get("PROPAGATOR_TEST_LABS") or 4 * (os.cpu_count() or 1))
"""Labs at once. More only wait for one another: a case costs three seconds of a core, and ten to twenty of waiting."""


def asked_for(request: pytest.FixtureRequest) -> list[Case]:
    """Give the cases of this file's tests that this run has selected."""
    items = [item for item in request.session.items if item.path == request.path]
    parameters = [item.callspec.params for item in items if hasattr(item, "callspec")]
    return list(dict.fromkeys(each["case"] for each in parameters if "case" in each))


def parametrized(cases: Iterable[Case]) -> pytest.MarkDecorator:
    """Give each case a test under its name."""
    return pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in cases])


@contextmanager
def side_by_side(work: Callable[[Case], T], cases: Iterable[Case]) -> Iterator[Mapping[str, Future[T]]]:
    """Do this for each case; gives each one's result to come, by its name."""
    with ThreadPoolExecutor(LABS) as pool:
        try:
            yield {case.name: pool.submit(work, case) for case in cases}
        finally:
            pool.shutdown(cancel_futures=True)
