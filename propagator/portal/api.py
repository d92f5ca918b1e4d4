"""The API that servers speak: who the portal is, the device grant (RFC 8628), later editions. JSON, and nothing else.

What an error says is `{"error", "error_description"}` everywhere (RFC 6749 §5.2).
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Header, Request
from pydantic import BaseModel, ConfigDict
from starlette.responses import JSONResponse, Response

from propagator import __version__
from propagator.portal import bearers, grants, web
from propagator.portal.errors import FieldProblems, NotLoggedOn, PortalError, TooMany
from propagator.portal.grants import PollError
from propagator.portal.web import Db

GRANT_TYPE: Final = "urn:ietf:params:oauth:grant-type:device_code"
CLIENT: Final = "propagator"

router = APIRouter(prefix="/api")


class Key(BaseModel):
    """An Ed25519 public key (RFC 8037)."""

    crv: Literal["Ed25519"]
    kty: Literal["OKP"]
    x: str


class About(BaseModel):
    """Who this portal is. `thumbprint` (RFC 7638) is what a server trusts: compare it with what people were told."""

    name: str
    id: str
    key: Key
    thumbprint: str
    version: str


class Health(BaseModel):
    """That it answers."""

    status: Literal["ok"]


class Authorization(BaseModel):
    """A grant that waits for a person (RFC 8628 §3.2)."""

    device_code: str
    user_code: str
    verification_uri: str
    verification_uri_complete: str
    expires_in: int
    interval: int


class Token(BaseModel):
    """What an approved server gets (RFC 6749 §5.1), and the statement, a signed document."""

    access_token: str
    token_type: Literal["Bearer"]
    statement: str


class Edition(BaseModel):
    """The statement of the present edition."""

    statement: str


class Refused(BaseModel):
    """Why not (RFC 6749 §5.2)."""

    model_config = ConfigDict(extra="forbid")

    error: str
    error_description: str


def _refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": Refused} for status in (400, *statuses)}


def _form_of(required: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Describe a form for the OpenAPI document; it is read by `web.read_urlencoded`, strictly."""
    schema = {"type": "object", "properties": required, "required": sorted(required)}
    return {"requestBody": {"required": True, "content": {"application/x-www-form-urlencoded": {"schema": schema}}}}


_TEXT: Final[dict[str, Any]] = {"type": "string"}


@router.get("/health", responses=_refusals())
async def health() -> Health:
    """Say that it answers."""
    return Health(status="ok")


@router.get("/portal", responses=_refusals())
async def about(request: Request) -> About:
    """Say who this portal is, and by which key it signs."""
    portal = web.portal_of(request)
    return About(
        name=portal.settings.name,
        id=portal.settings.id,
        key=Key.model_validate(portal.key.public.jwk),
        thumbprint=portal.key.thumbprint,
        version=__version__,
    )


@router.post(
    "/device_authorization",
    responses=_refusals(413, 415, 429, 503),
    openapi_extra=_form_of(
        {
            "client_id": {"type": "string", "enum": [CLIENT]},
            "system_id": {"type": "string", "pattern": "^[\\x21-\\x7e]{1,64}$"},
            "server_name": {"type": "string", "minLength": 1, "maxLength": 100},
            "kind": {"type": "string", "enum": ["enterprise-central", "enterprise-server", "server-device"]},
            "purpose": {"type": "string", "enum": ["register", "associate"]},
        }
    ),
)
async def device_authorization(request: Request, db: Db) -> Authorization:
    """Begin a device grant (RFC 8628 §3.1): a person approves it at `verification_uri`."""
    form = await web.read_urlencoded(request)
    _hold_client(form)
    wanted = grants.wanted({name: form.get(name, "") for name in grants.Wanted.model_fields})
    begun = await grants.begin(db, wanted)
    uri = f"{web.portal_of(request).settings.url}/device"
    return Authorization(
        device_code=begun.device_code,
        user_code=begun.user_code,
        verification_uri=uri,
        verification_uri_complete=f"{uri}?user_code={begun.user_code}",
        expires_in=begun.expires_in_s,
        interval=begun.interval_s,
    )


@router.post(
    "/token",
    responses=_refusals(409, 413, 415, 429, 503),
    openapi_extra=_form_of(
        {
            "grant_type": {"type": "string", "enum": [GRANT_TYPE]},
            "device_code": _TEXT,
            "client_id": {"type": "string", "enum": [CLIENT]},
        }
    ),
)
async def token(request: Request, db: Db) -> Token:
    """Ask whether a person approved (RFC 8628 §3.4). A device code is good once."""
    form = await web.read_urlencoded(request)
    _hold_client(form)
    if form.get("grant_type") != GRANT_TYPE:
        raise PollError("unsupported_grant_type", f"grant_type must be {GRANT_TYPE}.")
    if not form.get("device_code"):
        raise PollError("invalid_request", "device_code is missing.")
    granted = await grants.poll(db, form["device_code"])
    return Token(access_token=granted.access_token, token_type="Bearer", statement=granted.statement)  # noqa: S106


def _hold_client(form: web.Posted) -> None:
    if form.get("client_id") != CLIENT:
        raise PollError("invalid_client", f"client_id must be {CLIENT}.")


@router.get(
    "/registration",
    response_model=Edition,
    responses={
        304: {"description": "The server has this edition."},
        **_refusals(401, 410, 429, 503),
    },
    openapi_extra={"security": [{"bearer": []}]},
)
async def registration(
    db: Db,
    authorization: Annotated[str | None, Header(include_in_schema=False)] = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Give the present edition of the registration of the server that holds the token; 304 where it has it."""
    scheme, _, bearer = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not bearer.strip():
        raise NotLoggedOn("A bearer token is needed.")
    asked = _EDITION.fullmatch(if_none_match.strip()) if if_none_match else None
    signed, edition = await bearers.registration(db, bearer.strip(), int(asked[1]) if asked else None)
    headers = {"ETag": f'"{edition}"'}
    if signed is None:
        return Response(status_code=304, headers=headers)
    return JSONResponse({"statement": signed.jws.decode()}, headers=headers)


_EDITION: Final = re.compile(r'(?:W/)?"([0-9]{1,15})"', re.ASCII)


def refused(error: PortalError) -> JSONResponse:
    """Answer an error of the services, for a server."""
    said = " ".join(str(error).split())
    if isinstance(error, FieldProblems):
        return answer(400, "invalid_request", "; ".join(f"{path}: {text}" for path, text in error.problems.items()))
    if isinstance(error, PollError):
        return answer(error.status, error.reason, said)
    response = answer(error.status, error.code, said)
    if isinstance(error, NotLoggedOn):
        response.headers["WWW-Authenticate"] = 'Bearer realm="propagator"'
    if isinstance(error, TooMany):
        response.headers["Retry-After"] = str(error.retry_after_s)
    return response


def answer(status: int, error: str, description: str) -> JSONResponse:
    """Answer with an error, as OAuth writes them."""
    return JSONResponse({"error": error, "error_description": description[:1000]}, status)
