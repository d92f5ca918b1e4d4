"""What the portal's services raise: each is told to a person, and has its status on the web.

A caller that shows a form catches FieldProblems; the rest is turned into a page or JSON at one place, `app`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from propagator.core.errors import PropagatorError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from propagator.core.errors import Problem


class PortalError(PropagatorError):
    """Refused or impossible, told as one cause and one thing to try. `status` is its HTTP status, `code` its word."""

    status: ClassVar[int] = 400
    code: ClassVar[str] = "invalid_request"


class FieldProblems(PortalError):
    """What was entered has problems: dotted path (`site.name`, `system_id`, "" for the whole) to what is wrong."""

    status = 422
    code = "invalid_fields"

    def __init__(self, problems: Mapping[str, str]) -> None:
        count = len(problems)
        super().__init__(f"There {'is 1 problem' if count == 1 else f'are {count} problems'} in what was entered.")
        self.problems = dict(problems)

    @classmethod
    def of(cls, problems: Iterable[Problem], default: str, *, above: str = "") -> FieldProblems:
        """Take the problems that core named; `default` is said of the whole where it named none."""
        named = {f"{above}{problem.path}": problem.text for problem in problems}
        return cls(named or {"": default})


class NotLoggedOn(PortalError):
    """Nobody is logged on, and somebody has to be."""

    status = 401
    code = "not_logged_on"


class Denied(PortalError):
    """Who is logged on may not do this."""

    status = 403
    code = "denied"


class NotFound(PortalError):
    """There is no such thing, or it is nothing for whoever asks: both read the same."""

    status = 404
    code = "not_found"


class Conflict(PortalError):
    """It does not fit what is there already. `field` is the path of what was entered that does not, "" for no field."""

    status = 409
    code = "conflict"

    def __init__(self, message: str, *, hint: str = "", field: str = "") -> None:
        super().__init__(message, hint=hint)
        self.field = field


class TooMany(PortalError):
    """Too many tries; `retry_after_s` says when the next one is looked at."""

    status = 429
    code = "too_many_requests"

    def __init__(self, message: str, *, retry_after_s: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class Unavailable(PortalError):
    """The portal cannot answer just now: its database is busy or gone."""

    status = 503
    code = "unavailable"
