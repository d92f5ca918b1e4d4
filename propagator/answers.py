"""Answers: what a running agent answers on its control socket, and what it does because a command asked.

Takes the two links and hands on to them; what goes wrong there is told with its hint. A command that wrote to the store
pokes: everything is looked at again, whatever it was.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from propagator import config, control, log
from propagator.core import wire
from propagator.core.errors import BusError, PropagatorError
from propagator.core.state import Origin
from propagator.core.statement import Refusal
from propagator.entering import Access, Offer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from propagator.at_need import LeadDiagnosis
    from propagator.core.difference import JsonObject
    from propagator.core.version import Version
    from propagator.enrol.watch import Watch
    from propagator.lead import Lead
    from propagator.leading import Leading
    from propagator.shadowing import Shadowing

POKE_TIMEOUT_S: Final = 4.0

_OPEN: Final = frozenset({"live", "diagnose"})
"""What every operator may ask: how the links stand, and why."""

_NO_LEAD: Final[JsonObject] = {"ok": False, "error": "This server is no lead."}


class Answers:
    """The answers of one agent."""

    def __init__(
        self, state_dir: Path, leading: Leading, shadowing: Shadowing, diagnosis: LeadDiagnosis, portal: Watch
    ) -> None:
        self._state_dir = state_dir
        self._owner_uid = state_dir.stat().st_uid
        self._leading = leading
        self._shadowing = shadowing
        self._diagnosis = diagnosis
        self._portal = portal
        self._diagnosing = asyncio.Lock()
        self._log = log.get("agent")

    async def serve(self) -> None:
        """Answer until cancelled. Raises StateError if the socket cannot be made."""
        by_op = {
            "live": self._live,
            "diagnose": self._diagnose,
            "poke": self._poke,
            "ask-field": self._ask_field,
            "associate": self._associate,
            "enter": self._enter,
            "take-over": self._take_over,
            "evidence": self._evidence,
            "probe": self._probe,
            "probed": self._probed,
        }
        await control.serve(self._state_dir, by_op, owner_uid=self._owner_uid, open_ops=_OPEN)

    async def _live(self, asked: JsonObject) -> JsonObject:
        return {"ok": True, "uplink": self._shadowing.live(), "downlink": self._leading.live(asked.get("whence"))}

    async def _diagnose(self, _: JsonObject) -> JsonObject:
        """Diagnose for an operator who may not read this server's keys; one at a time."""
        async with self._diagnosing:
            return {"ok": True, "diagnosis": await self._diagnosis.tell()}

    async def _poke(self, _: JsonObject) -> JsonObject:
        """Look at the store again: accounts, content, uplink, portal. Says which version the broker has now."""
        self._portal.poke()
        try:
            async with asyncio.timeout(POKE_TIMEOUT_S):
                version = await self._leading.refresh()
                await self._shadowing.refresh()
        except (PropagatorError, TimeoutError) as error:
            self._log.warning("agent.poke_failed", error=str(error) or "no answer in time")
            return {"ok": True, "published": None, "error": str(error)}
        return {"ok": True, "published": wire.version_text(version)}

    # What is asked of a lead.

    async def _ask_field(self, _: JsonObject) -> JsonObject:
        if (lead := self._leading.lead) is None:
            return _NO_LEAD
        return {"ok": True, **await lead.ask_field()}

    async def _associate(self, asked: JsonObject) -> JsonObject:
        return await self._publish(lambda lead: lead.record.associate(str(asked.get("version"))))

    async def _enter(self, asked: JsonObject) -> JsonObject:
        """Take over, at a lead that lost its record, what a portal signed."""
        if (lead := self._leading.lead) is None:
            return _NO_LEAD
        if (offer := _offered(asked)) is None:
            return {"ok": False, "error": "The agent knows no such origin."}
        done, version = await lead.record.enter(offer)
        if isinstance(done, Refusal):
            return {"ok": False, "error": f"Refused ({done.reason}). {done.text}", "hint": done.hint}
        if done.above is None:
            self._leading.look_at_keys()
        told: JsonObject = {"answered": done.answered, "above": done.above, "renewed": done.above is None}
        return {"ok": True, "published": wire.version_text(version), **told}

    async def _take_over(self, _: JsonObject) -> JsonObject:
        return await self._publish(lambda lead: lead.take_over())

    async def _evidence(self, asked: JsonObject) -> JsonObject:
        if (lead := self._leading.lead) is None:
            return _NO_LEAD
        return {"ok": True, "weighed": await lead.record.weigh(str(asked.get("record")).encode())}

    async def _probe(self, asked: JsonObject) -> JsonObject:
        if (lead := self._leading.lead) is None:
            return _NO_LEAD
        try:
            return {"ok": True, "nonce": await lead.probe(config.parse_id(str(asked.get("device"))))}
        except BusError as error:
            return {"ok": False, "error": str(error), "hint": error.hint}

    async def _probed(self, asked: JsonObject) -> JsonObject:
        if (lead := self._leading.lead) is None:
            return _NO_LEAD
        return {"ok": True, "report": lead.probed(str(asked.get("device")), str(asked.get("nonce")))}

    async def _publish(self, act: Callable[[Lead], Awaitable[Version | None]]) -> JsonObject:
        """Let the lead do what a person decided; say which version the broker has now, or what went wrong."""
        if (lead := self._leading.lead) is None:
            return _NO_LEAD
        try:
            return {"ok": True, "published": wire.version_text(await act(lead))}
        except PropagatorError as error:
            return {"ok": False, "error": str(error), "hint": error.hint}


def _offered(asked: JsonObject) -> Offer | None:
    """Read what `cli.entering` offers of a portal; None: it came in no way that we know."""
    origin, trusted, url, token = (asked.get(name) for name in ("origin", "trusted", "url", "token"))
    if not isinstance(origin, str) or origin not in set(Origin):
        return None
    access = None if url is None or token is None else Access(str(url), str(token))
    raw = str(asked.get("statement")).encode()
    return Offer(raw, Origin(origin), None if trusted is None else str(trusted), associates=True, access=access)
