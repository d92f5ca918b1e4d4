"""What a page says of the deed before it: a notice survives one redirect, in a cookie that holds only its name."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from fastapi import Request
    from starlette.responses import Response

_COOKIE: Final = "propagator-notice"
_SECONDS: Final = 60


class Notice(Enum):
    """Every notice there is. What else stands in the cookie says nothing."""

    REGISTERED = "The system is registered. Next, get a Registration code, or let its server ask this portal."
    SAVED = (
        "Saved. Servers that ask this portal receive the change within minutes; for others get a new Registration code."
    )
    UNCHANGED = "Nothing was different, so nothing was changed."
    ASSOCIATED = "The new System ID has taken over the registration."
    APPROVED = "Approved. The server fetches the registration within seconds."
    DENIED = "Denied. The server was told so, and receives nothing."
    INVITED = "The invitation was sent by e-mail. It can be accepted for seven days."
    JOINED = "You have joined this system."
    WITHDRAWN = "The registration was withdrawn. Servers that ask this portal learn it within minutes."
    FREED = "The place is free. Somebody else can be invited."
    SET_UP = "The administrator's account is made. Log on with it."
    PASSWORD_CHOSEN = "Your password is set. Log on with it."  # noqa: S105  a sentence
    PASSWORD_CHANGED = "Your password was changed. Whoever was logged on with the old one elsewhere is logged off."  # noqa: S105
    LINK_SENT = (
        "If this address has an account here, a link to choose a new password is on its way to it. It works once, for "
        "an hour."
    )
    LOGGED_OFF = "You are logged off."
    CLOSED = "The account is closed: nobody can log on with it."
    OPENED = "The account is open again."

    def put(self, response: Response) -> None:
        """Leave it for the next page."""
        response.set_cookie(_COOKIE, self.name.lower(), max_age=_SECONDS, path="/", httponly=True, samesite="lax")


def take(request: Request) -> Notice | None:
    """Find the notice for this page."""
    return Notice.__members__.get(request.cookies.get(_COOKIE, "").upper())


def clear(response: Response) -> None:
    """It was read: once is enough."""
    response.delete_cookie(_COOKIE, path="/", httponly=True, samesite="lax")
