"""Errors: what a command ends with, and what a person is told."""

from __future__ import annotations

import pytest

from propagator.core import errors
from propagator.core.errors import BusError, InputError, Problem, PropagatorError, Unreadable


@pytest.mark.parametrize(
    ("kind", "exit_code"),
    [
        (errors.PropagatorError, 1),
        (errors.InputError, 2),
        (errors.RefusedError, 1),
        (errors.StateError, 3),
        (errors.StoreError, 3),
        (errors.BrokerError, 1),
    ],
)
def test_an_error_says_its_cause_its_hint_and_its_exit_code(kind: type[PropagatorError], exit_code: int) -> None:
    error = kind("The disk is full.", hint="make room")
    assert (str(error), error.hint, error.exit_code) == ("The disk is full.", "make room", exit_code)
    assert kind("The disk is full.").hint == ""


def test_an_error_of_the_bus_says_which_kind_and_where() -> None:
    error = BusError("No route.", kind="unreachable", address="es-1:8883", hint="propagator diagnose")
    assert (error.kind, error.address, error.hint, error.exit_code) == (
        "unreachable",
        "es-1:8883",
        "propagator diagnose",
        1,
    )
    assert BusError("No route.", kind="unreachable").address == ""


def test_an_input_error_holds_every_problem() -> None:
    problems = (Problem("address.country", "is missing"), Problem("", "is no table"))
    error = InputError("2 problems.", problems)
    assert [str(problem) for problem in error.problems] == ["address.country: is missing", "is no table"]
    assert InputError("No file.").problems == ()


def test_unreadable_is_a_value() -> None:
    assert Unreadable("x") == Unreadable("x")
    assert not isinstance(Unreadable("x"), Exception)
