"""The rules: each relation and each action, as a table; what is not in it is refused."""

from __future__ import annotations

import itertools

import pytest

from propagator.portal.rules import Action, General, Kind, Relation, Standing, Verdict, allowed, may, verdict

_A = Action
_INTEGRATOR = {_A.VIEW, _A.EDIT_WARRANTY, _A.ISSUE_CODE, _A.ASSOCIATE}
_END_USER = {_A.VIEW, _A.EDIT_INSTALLATION, _A.EDIT_CONSENTS, _A.ISSUE_CODE, _A.ASSOCIATE}
_ADMINISTRATOR = {_A.VIEW, _A.FREE_SLOT, _A.WITHDRAW}


def _standing(relation: Relation, *, other: bool = False, withdrawn: bool = False) -> Standing:
    """Say how a system stands whose own slot is taken, and the other one if `other`."""
    return Standing(
        relation,
        has_integrator=other or relation is Relation.INTEGRATOR,
        has_end_user=other or relation is Relation.END_USER,
        withdrawn=withdrawn,
    )


@pytest.mark.parametrize(
    ("relation", "other", "wanted"),
    [
        (Relation.INTEGRATOR, False, _INTEGRATOR | {_A.EDIT_INSTALLATION, _A.EDIT_CONSENTS, _A.INVITE_END_USER}),
        (Relation.INTEGRATOR, True, _INTEGRATOR),
        (Relation.END_USER, False, _END_USER | {_A.INVITE_INTEGRATOR}),
        (Relation.END_USER, True, _END_USER),
        (Relation.ADMINISTRATOR, False, _ADMINISTRATOR),
        (Relation.ADMINISTRATOR, True, _ADMINISTRATOR),
        (Relation.STRANGER, True, set()),
        (Relation.STRANGER, False, set()),
    ],
)
def test_what_may_be_done_with_a_system(relation: Relation, *, other: bool, wanted: set[Action]) -> None:
    assert allowed(_standing(relation, other=other)) == wanted


@pytest.mark.parametrize(
    ("relation", "wanted"),
    [
        (Relation.INTEGRATOR, {_A.VIEW}),
        (Relation.END_USER, {_A.VIEW}),
        (Relation.ADMINISTRATOR, {_A.VIEW, _A.FREE_SLOT}),
        (Relation.STRANGER, set()),
    ],
)
def test_what_is_left_of_a_withdrawn_system(relation: Relation, wanted: set[Action]) -> None:
    assert allowed(_standing(relation, other=True, withdrawn=True)) == wanted


def test_r1_a_stranger_is_never_told_why() -> None:
    for action, other, withdrawn in itertools.product(Action, (True, False), (True, False)):
        standing = _standing(Relation.STRANGER, other=other, withdrawn=withdrawn)
        assert verdict(action, standing) is Verdict.HIDDEN


def test_r9_an_integrator_is_told_that_the_end_user_edits() -> None:
    standing = _standing(Relation.INTEGRATOR, other=True)
    assert verdict(Action.EDIT_INSTALLATION, standing) is Verdict.END_USER_EDITS


def test_r1_a_slot_that_is_taken_is_said_to_be() -> None:
    assert verdict(Action.INVITE_END_USER, _standing(Relation.INTEGRATOR, other=True)) is Verdict.SLOT_TAKEN
    assert verdict(Action.INVITE_INTEGRATOR, _standing(Relation.END_USER, other=True)) is Verdict.SLOT_TAKEN


@pytest.mark.parametrize(
    ("general", "kinds"),
    [
        (General.REGISTER, {Kind.BRANCH, Kind.PARTNER, Kind.END_USER}),
        (General.ANSWER_DEVICE, {Kind.BRANCH, Kind.PARTNER, Kind.END_USER}),
        (General.LIST_SYSTEMS, set(Kind)),
        (General.KEEP_ACCOUNTS, {Kind.ADMINISTRATOR}),
        (General.CHANGE_OWN_PASSWORD, set(Kind)),
        (General.FORGET_PASSWORD, set(Kind)),
    ],
)
def test_what_kinds_of_account_may_do(general: General, kinds: set[Kind]) -> None:
    assert {kind for kind in Kind if may(kind, general)} == kinds
