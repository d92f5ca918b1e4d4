"""The portal's key: what a server trusts, for everybody to compare."""

from __future__ import annotations

import json
from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from propagator.portal.pages.rendering import show
from propagator.portal.web import Visitor, portal_of

router: Final = APIRouter()

_GROUP: Final = 6


@router.get("/key")
async def key(request: Request, visit: Visitor) -> Response:
    """Show the thumbprint in groups, which two people can compare over the telephone."""
    portal = portal_of(request)
    thumbprint = portal.key.thumbprint
    groups = [thumbprint[at : at + _GROUP] for at in range(0, len(thumbprint), _GROUP)]
    return show(
        request,
        visit,
        "key.html",
        title="Key of this portal",
        thumbprint=thumbprint,
        groups=groups,
        url=portal.settings.url,
    )


@router.get("/key/portal.jwk")
async def download(request: Request) -> Response:
    """Give the public key as a JSON Web Key."""
    text = json.dumps(portal_of(request).key.public.jwk, indent=2)
    disposition = {"Content-Disposition": 'attachment; filename="portal.jwk"'}
    return Response(f"{text}\n", media_type="application/jwk+json", headers=disposition)
