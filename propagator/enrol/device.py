"""Lets a person approve this server at the portal: the device authorization grant, from the device's side (RFC 8628).

`begin` gives a code for a person to enter at the portal; `wait` asks until that person said yes or no, or the time is
up. Nothing here touches the state of this server.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from propagator.enrol import http, words
from propagator.enrol.failure import CONNECTIONS, PortalError, Trouble

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from propagator.enrol.way import Way
    from propagator.enrol.words import About, Begun, Token

CLIENT: Final = "propagator"
_GRANT_TYPE: Final = "urn:ietf:params:oauth:grant-type:device_code"

SLOWER_S: Final = 5.0
"""How much slower a device asks that was told to slow down (RFC 8628 §3.5)."""

SLOWEST_S: Final = 60.0


class Purpose(StrEnum):
    """What a person is asked to approve."""

    REGISTER = "register"
    ASSOCIATE = "associate"


class No(StrEnum):
    """How a grant ended without a registration."""

    DENIED = "denied"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Asked:
    """For which server a person is asked, and what."""

    system_id: str
    server_name: str
    kind: str
    purpose: Purpose


async def about(way: Way) -> About:
    """Ask who the portal is. Raises PortalError."""
    return words.read(await http.ask(way, http.Question("api/portal")), words.About, str(way.portal))


async def begin(way: Way, asked: Asked) -> Begun:
    """Ask for a code that a person enters at the portal. Raises PortalError."""
    form = {
        "client_id": CLIENT,
        "system_id": asked.system_id,
        "server_name": asked.server_name,
        "kind": asked.kind,
        "purpose": asked.purpose.value,
    }
    reply = await http.ask(way, http.Question("api/device_authorization", form))
    return words.read(reply, words.Begun, str(way.portal))


async def wait(
    way: Way,
    begun: Begun,
    tell: Callable[[str], None] = lambda _: None,
    rest: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Token | No:
    """Ask until the person has answered; `tell` hears of trouble on the way, empty when it is over.

    A portal that is away for a while is asked again, more slowly (RFC 8628 §3.5). Raises PortalError where it says
    something that ends it all.
    """
    loop = asyncio.get_running_loop()
    until_s = loop.time() + begun.expires_in
    interval_s = float(begun.interval)
    while loop.time() < until_s:  # the last time may be after it: then the portal itself says so
        await rest(interval_s)
        try:
            answer = await _poll(way, begun.device_code)
        except PortalError as error:
            if error.kind not in CONNECTIONS:
                raise
            tell(str(error))
            interval_s = min(interval_s * 2, max(SLOWEST_S, interval_s))
            continue
        tell("")
        match answer:
            case _Not.PENDING:
                continue
            case _Not.SLOWER:
                interval_s += SLOWER_S
            case _:
                return answer
    return No.EXPIRED


class _Not(StrEnum):
    """Why there is no answer yet (RFC 8628 §3.5)."""

    PENDING = "authorization_pending"
    SLOWER = "slow_down"


_ENDS: Final = {"access_denied": No.DENIED, "expired_token": No.EXPIRED}


async def _poll(way: Way, device_code: str) -> Token | No | _Not:
    form = {"grant_type": _GRANT_TYPE, "device_code": device_code, "client_id": CLIENT}
    reply = await http.ask(way, http.Question("api/token", form))
    try:
        return words.read(reply, words.Token, str(way.portal))
    except PortalError as error:
        if error.kind is Trouble.REFUSED and error.word in _ENDS:
            return _ENDS[error.word]
        if error.kind is Trouble.REFUSED and error.word in set(_Not):
            return _Not(error.word)
        raise
