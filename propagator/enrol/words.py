"""Reads what a portal answers: JSON of known members, or a PortalError that says what stood there instead. Pure.

More members than these may come with a newer portal; they are passed over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, ValidationError

from propagator.core import strict_json
from propagator.core.signing import PublicKey
from propagator.core.ticket import plain
from propagator.enrol.failure import PortalError, Trouble, look, of_answer

if TYPE_CHECKING:
    from propagator.enrol.http import Reply

_Text = Annotated[StrictStr, Field(min_length=1, max_length=2048)]
_OK: Final = 200
_BAD_REQUEST: Final = 400


class _Words(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _Jwk(_Words):
    x: Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9_-]{43}$")]


class About(_Words):
    """Who the portal says that it is (GET /api/portal); `thumbprint` is that of `key`, reckoned here."""

    name: Annotated[StrictStr, Field(min_length=1, max_length=200)]
    id: Annotated[StrictStr, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
    key: _Jwk

    @property
    def thumbprint(self) -> str:
        """The RFC 7638 thumbprint of its key: what a person compares, and a server trusts."""
        return PublicKey(self.key.x).thumbprint


class Begun(_Words):
    """What a device authorization gives (RFC 8628 §3.2). Times are seconds."""

    device_code: _Text
    user_code: Annotated[StrictStr, Field(pattern=r"^[A-Z0-9-]{4,32}$")]
    verification_uri: _Text
    verification_uri_complete: _Text | None = None
    expires_in: Annotated[StrictInt, Field(ge=1, le=86_400)]
    interval: Annotated[StrictInt, Field(ge=1, le=600)] = 5


class Token(_Words):
    """What an approved device is given: the right to ask for later editions, and the signed statement."""

    access_token: Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9._~+/=-]{1,2048}$")]
    statement: Annotated[StrictStr, Field(min_length=1, max_length=65_536)]


class Edition(_Words):
    """The registration as it is now (GET /api/registration)."""

    statement: Annotated[StrictStr, Field(min_length=1, max_length=65_536)]


class _Refusal(_Words):
    error: Annotated[StrictStr, Field(pattern=r"^[a-z_]{1,64}$")]
    error_description: StrictStr | None = None


_AnyWords = TypeVar("_AnyWords", bound=_Words)


def read(reply: Reply, wanted: type[_AnyWords], where: str) -> _AnyWords:
    """Read a good answer. Raises PortalError for a refusal of the portal, a page for people, or anything else."""
    found = parsed(reply, where)
    if reply.status != _OK:
        raise refusal(reply, where)
    try:
        return wanted.model_validate(found)
    except ValidationError as exc:
        told = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['type']}" for each in exc.errors())
        raise of_answer(where, f"does not answer as a Registration Portal does ({plain(told, 120)})") from exc


def refusal(reply: Reply, where: str) -> PortalError:
    """Read an answer that is no good one: the error's word, where the portal itself says it."""
    try:
        said = _Refusal.model_validate(parsed(reply, where))
    except ValidationError:
        return of_answer(where, f"answers with status {reply.status}")
    told = f": {plain(said.error_description, 200)}" if said.error_description else ""
    hint = "" if reply.status == _BAD_REQUEST else look(where)
    return PortalError(f"{where} says {said.error}{told}", kind=Trouble.REFUSED, hint=hint, word=said.error)


def parsed(reply: Reply, where: str) -> object:
    """Give the JSON of an answer. Raises PortalError where there is none: then somebody else may have answered."""
    try:
        return strict_json.loads(reply.body)
    except strict_json.Invalid as exc:
        who = ", ".join(plain(each, 80) for each in (reply.server, reply.via) if each)
        named = f", by {who}" if who else ""
        text = f"In place of the portal's answer {where} sends a page (status {reply.status}{named})."
        raise PortalError(text, kind=Trouble.PAGE, hint=look(where)) from exc
