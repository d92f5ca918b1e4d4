"""Why a lead is away: what the error alone proves, and the diagnosis that the agent hands in (R17).

A shadow does not know how a diagnosis is made (DESIGN §8): it asks for one when it is due, and shows what it says.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final, Protocol

from propagator import log
from propagator.bus import UNIX, BusKind, split_address
from propagator.core import moment
from propagator.core.errors import PropagatorError
from propagator.core.standing import FAILED_PROBES

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable
    from random import Random

    from propagator.core.difference import JsonObject
    from propagator.core.errors import BusError
    from propagator.core.standing import Standing

AGAIN_S: Final = 600.0
"""A lead that stays away in the same way is diagnosed again after this long."""

ASKED_APART_S: Final = 10.0
"""A lead that asks for a diagnosis again sooner gets the last one."""

PICTURE_PERIOD_S: Final = 86_400.0
PICTURE_SPREAD_S: Final = 30.0
"""Once a day the way to a lead that is well is drawn, some time after connecting."""

_CAUSES: Final = {
    BusKind.DNS: ("DNS_UNAVAILABLE", "The lead's name is not resolved", "probable"),
    BusKind.REFUSED: ("PORT_CLOSED", "The lead's port is closed", "probable"),
    BusKind.UNREACHABLE: ("HOST_UNREACHABLE", "The lead's host cannot be reached", "probable"),
    BusKind.TIMEOUT: ("NO_ANSWER_AT_ALL", "The lead does not answer", "possible"),
    BusKind.MUTE: ("ACCEPTED_BUT_MUTE", "The lead takes the connection and says nothing", "possible"),
    BusKind.TLS: ("TLS_FAILED", "There is no trusted TLS connection to the lead", "certain"),
    BusKind.NOT_AUTHORISED: ("MQTT_REFUSED", "The lead's broker refuses this server's account", "certain"),
    BusKind.PROTOCOL: ("NOT_MQTT", "What answers is no MQTT broker", "probable"),
    BusKind.CLOSED: ("CLOSED_BEFORE_CONNACK", "The lead's broker hangs up", "certain"),
}


def finding_of(error: BusError, *, crowded: bool) -> JsonObject:
    """Say what an error of the bus proves, and no more. `crowded`: the connection was lost at once, again and again."""
    if crowded:
        return {
            "code": "ID_IN_USE",
            "title": "Another agent uses this server's id",
            "cause": "The connection ended within 10 s, three times in a row. Another login of this id does that; so"
            " does a broker that is restarted.",
            "confidence": "possible",
            "remedies": [{"tool": "propagator", "commands": ["propagator detach", "propagator attach TOKEN"]}],
        }
    code, title, confidence = _CAUSES.get(BusKind(error.kind), ("CONNECTION_LOST", "The connection ended", "certain"))
    return {
        "code": code,
        "title": title,
        "cause": str(error),
        "confidence": confidence,
        "remedies": [{"tool": "hint", "commands": [error.hint]}] if error.hint else [],
    }


class Diagnosis(Protocol):
    """How the way to the lead is diagnosed, and drawn while it is well."""

    async def find(self) -> JsonObject:
        """Give a finding, in 20 s at most. Raises PropagatorError or OSError where it cannot begin."""

    async def draw(self, host: str, port: int) -> None:
        """Keep a picture of a way that works. Raises PropagatorError or OSError where it cannot."""


class Inquiry:
    """When a diagnosis is due, and where its finding goes: into how the uplink stands."""

    def __init__(self, standing: Standing, diagnosis: Diagnosis | None, now: Callable[[], dt.datetime]) -> None:
        self._standing = standing
        self._diagnosis = diagnosis
        self._now = now
        self._kind = ""
        self._found_s = self._asked_s = self._drawn_s = float("-inf")
        self._log = log.get("shadow")

    async def after(self, error: BusError) -> bool:
        """Diagnose a lead that counts as away; again once it is away in another way, or after a while.

        Gives whether there is a new finding.
        """
        known = error.kind == self._kind and _time() - self._found_s < AGAIN_S
        if self._standing.failures < FAILED_PROBES or known:
            return False
        finding = await self._find()
        self._kind, self._found_s = error.kind, _time()
        if finding is not None:
            self._standing.find(finding, moment.write(self._now()))
            self._log.warning("shadow.diagnosed", code=finding.get("code"), confidence=finding.get("confidence"))
        return finding is not None

    async def asked(self) -> None:
        """Diagnose because the lead asks for it."""
        if _time() - self._asked_s < ASKED_APART_S:
            return
        self._asked_s = _time()
        if (finding := await self._find()) is not None:
            self._standing.say(finding, moment.write(self._now()))

    async def draw(self, address: str, rng: Random) -> None:
        """Draw the way to a lead that is well, once a day, when the herd that may have come with us has connected."""
        if self._diagnosis is None or address.startswith(UNIX) or _time() - self._drawn_s < PICTURE_PERIOD_S:
            return
        await asyncio.sleep(rng.uniform(1.0, PICTURE_SPREAD_S))
        self._drawn_s = _time()
        with contextlib.suppress(OSError, PropagatorError):
            await self._diagnosis.draw(*split_address(address))

    async def _find(self) -> JsonObject | None:
        if self._diagnosis is None:
            return None
        try:
            return await self._diagnosis.find()
        except (PropagatorError, OSError) as error:  # no sockets left, say: what the error alone says stays
            self._log.warning("shadow.diagnosis_failed", error=str(error))
            return None


def _time() -> float:
    return asyncio.get_running_loop().time()
