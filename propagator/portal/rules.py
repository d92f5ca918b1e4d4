"""Who may do what. A table, and nothing but it: what is not in it is refused (default deny).

R1 keeps a system to one integrator and one end-user; everybody else but an administrator does not even learn that it
is there. R9: an integrator edits installation information only while no end-user is associated. R10: warranty is the
integrator's alone. An administrator keeps accounts, frees a slot and withdraws, and edits no installation information.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal, TypeAlias


class Kind(StrEnum):
    """The kinds of account. A branch and a partner are both system integrators."""

    ADMINISTRATOR = "administrator"
    BRANCH = "branch"
    PARTNER = "partner"
    END_USER = "end_user"


Slot: TypeAlias = Literal["integrator", "end_user"]

SLOT_OF: Final[dict[Kind, Slot]] = {Kind.BRANCH: "integrator", Kind.PARTNER: "integrator", Kind.END_USER: "end_user"}
"""Which slot of a system an account takes (R1). An administrator takes none."""


class General(StrEnum):
    """What is done with no registered system in particular."""

    REGISTER = "register"
    LIST_SYSTEMS = "list_systems"
    ANSWER_DEVICE = "answer_device"
    KEEP_ACCOUNTS = "keep_accounts"
    CHANGE_OWN_PASSWORD = "change_own_password"  # noqa: S105  the name of an act
    FORGET_PASSWORD = "forget_password"  # noqa: S105


_INTEGRATORS: Final = frozenset({Kind.BRANCH, Kind.PARTNER})
_REGISTRANTS: Final = _INTEGRATORS | {Kind.END_USER}

_GENERAL: Final = {
    General.REGISTER: _REGISTRANTS,
    General.LIST_SYSTEMS: frozenset(Kind),
    General.ANSWER_DEVICE: _REGISTRANTS,
    General.KEEP_ACCOUNTS: frozenset({Kind.ADMINISTRATOR}),
    General.CHANGE_OWN_PASSWORD: frozenset(Kind),
    General.FORGET_PASSWORD: frozenset(Kind),
}


class Relation(StrEnum):
    """What an account is to one system."""

    INTEGRATOR = "integrator"
    END_USER = "end_user"
    ADMINISTRATOR = "administrator"
    STRANGER = "stranger"


class Action(StrEnum):
    """What is done with one registered system."""

    VIEW = "view"
    EDIT_INSTALLATION = "edit_installation"
    EDIT_WARRANTY = "edit_warranty"
    EDIT_CONSENTS = "edit_consents"
    ISSUE_CODE = "issue_code"
    ASSOCIATE = "associate"
    INVITE_INTEGRATOR = "invite_integrator"
    INVITE_END_USER = "invite_end_user"
    FREE_SLOT = "free_slot"
    WITHDRAW = "withdraw"


@dataclass(frozen=True, slots=True)
class Standing:
    """What the rules look at: what the account is to the system, and how the system stands."""

    relation: Relation
    has_integrator: bool
    has_end_user: bool
    withdrawn: bool


class Verdict(StrEnum):
    """Allowed, or why not. `HIDDEN`: it does not show that the system exists."""

    ALLOWED = "allowed"
    HIDDEN = "hidden"
    DENIED = "denied"
    END_USER_EDITS = "end_user_edits"
    SLOT_TAKEN = "slot_taken"
    WITHDRAWN = "withdrawn"


_OWNERS: Final = frozenset({Relation.INTEGRATOR, Relation.END_USER})
_ADMINISTRATOR: Final = frozenset({Relation.ADMINISTRATOR})

_ACTIONS: Final = {
    Action.VIEW: _OWNERS | _ADMINISTRATOR,
    Action.EDIT_INSTALLATION: _OWNERS,
    Action.EDIT_WARRANTY: frozenset({Relation.INTEGRATOR}),
    Action.EDIT_CONSENTS: _OWNERS,
    Action.ISSUE_CODE: _OWNERS,
    Action.ASSOCIATE: _OWNERS,
    Action.INVITE_INTEGRATOR: frozenset({Relation.END_USER}),
    Action.INVITE_END_USER: frozenset({Relation.INTEGRATOR}),
    Action.FREE_SLOT: _ADMINISTRATOR,
    Action.WITHDRAW: _ADMINISTRATOR,
}

_END_USERS_ONCE_THERE: Final = frozenset({Action.EDIT_INSTALLATION, Action.EDIT_CONSENTS})
"""An integrator's until an end-user is associated, the end-user's from then on (R9)."""

_WHEN_WITHDRAWN: Final = frozenset({Action.VIEW, Action.FREE_SLOT})
"""What is left to do with a registration that was withdrawn."""


def may(kind: Kind, general: General) -> bool:
    """Say whether an account of this kind may do this."""
    return kind in _GENERAL[general]


def verdict(action: Action, standing: Standing) -> Verdict:
    """Say whether this may be done with a system, and if not, why. The first rule that applies wins."""
    if standing.relation is Relation.STRANGER:
        return Verdict.HIDDEN
    if standing.relation not in _ACTIONS[action]:
        return Verdict.DENIED
    if standing.withdrawn and action not in _WHEN_WITHDRAWN:
        return Verdict.WITHDRAWN
    if action in _END_USERS_ONCE_THERE and standing.relation is Relation.INTEGRATOR and standing.has_end_user:
        return Verdict.END_USER_EDITS
    taken = {Action.INVITE_INTEGRATOR: standing.has_integrator, Action.INVITE_END_USER: standing.has_end_user}
    if taken.get(action, False):
        return Verdict.SLOT_TAKEN
    return Verdict.ALLOWED


def allowed(standing: Standing) -> frozenset[Action]:
    """Name everything that may be done with a system: what a page offers."""
    return frozenset(action for action in Action if verdict(action, standing) is Verdict.ALLOWED)
