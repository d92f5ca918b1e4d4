"""Asks the portal for later editions of this server's registration, for as long as the agent runs (DESIGN §7).

At the start, at the interval of the configuration, and when a command pokes the agent; only where the store knows a
portal and holds a right to ask it, and not while this server follows a lead. What the portal signed is handed on and
judged there: trouble of any kind, a statement that does not count included, is a finding beside the record and never
changes it. httpx is loaded once there is somebody to ask.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from propagator import config, log
from propagator.core import moment
from propagator.core.errors import PropagatorError, RefusedError
from propagator.core.statement import StatementReason
from propagator.enrol.failure import CONNECTIONS, PortalError, Trouble
from propagator.enrol.way import way_to
from propagator.store import portals, uplinks

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Awaitable, Callable
    from pathlib import Path
    from random import Random
    from typing import Protocol

    from propagator.core.difference import JsonObject
    from propagator.core.statement import Refusal
    from propagator.enrol.http import Reply
    from propagator.enrol.way import Way
    from propagator.settings import PortalTable
    from propagator.store import Store
    from propagator.store.portals import Portal

    class Findings(Protocol):
        """How trouble becomes a finding: the agent hands it in."""

        async def of_way(self, way: Way, known: Portal) -> JsonObject | None:
            """Diagnose the way to the portal; None if all is well by now."""

        def of_code(self, code: str, portal: str, why: str) -> JsonObject:
            """Give the finding of what the portal said itself, one of `CODES`."""

        def of_setting(self, portal: str, problem: PropagatorError) -> JsonObject:
            """Give the finding of a way that is set so that it cannot be gone."""


START_SPREAD_S: Final = 2.0
"""Servers that start together, after a power cut, do not ask together."""

POKED_APART_S: Final = 1.0
TRIES: Final = 3
TRIES_APART_S: Final = 1.0
"""Unreached is said after three tries, one second apart (R17)."""

FIRST_AGAIN_S: Final = 30.0
DIAGNOSED_APART_S: Final = 600.0
"""Trouble of the same kind is diagnosed again after so long."""

RIGHT_REFUSED: Final = "PORTAL_RIGHT_REFUSED"
MOVED: Final = "PORTAL_MOVED"
KEY_CHANGED: Final = "PORTAL_KEY_CHANGED"
STATEMENT_REFUSED: Final = "PORTAL_STATEMENT_REFUSED"
CODES: Final = (RIGHT_REFUSED, MOVED, KEY_CHANGED, STATEMENT_REFUSED)
"""The verdicts that a portal's own answer gives; by name, for the catalogue is loaded with the diagnosis."""

_OK: Final = 200
_NOT_MODIFIED: Final = 304
_UNAUTHORISED: Final = 401
_GONE: Final = 410


class Watch:
    """The task that asks. `take` judges a statement and puts it in force: a Refusal changed nothing."""

    def __init__(  # noqa: PLR0913  what the agent hands in
        self,
        store: Store,
        state_dir: Path,
        table: PortalTable,
        *,
        take: Callable[[bytes], Awaitable[Refusal | None]],
        findings: Findings,
        now: Callable[[], dt.datetime],
        rng: Random,
    ) -> None:
        self._store = store
        self._state_dir = state_dir
        self._table = table
        self._take = take
        self._findings = findings
        self._now = now
        self._rng = rng
        self._poked = asyncio.Event()
        self._failures = 0
        self._kind = ""
        self._diagnosed_s = float("-inf")
        self._finding: JsonObject | None = None
        self._log = log.get("enrol")

    def poke(self) -> None:
        """Ask soon."""
        self._poked.set()

    async def run(self) -> None:
        """Ask until cancelled."""
        await self._rest(self._rng.uniform(0, START_SPREAD_S))
        while True:
            self._poked.clear()
            try:
                wait_s = await self._turn()
            except (PropagatorError, OSError) as error:  # a full disk, no sockets left: the links are not to suffer
                self._log.warning("enrol.turn_failed", error=str(error))
                wait_s = FIRST_AGAIN_S
            await asyncio.sleep(POKED_APART_S)
            await self._rest(wait_s)

    async def _rest(self, seconds: float | None) -> None:
        """Wait for a poke, and for no longer than this; None: for as long as it takes."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._poked.wait()

    async def _turn(self) -> float | None:
        """Ask once, if there is somebody to ask; give the seconds until the next time, None: when poked."""
        async with self._store.reading() as tx:
            known, attached = await portals.portal(tx), await uplinks.uplink(tx) is not None
        if known is None or known.url is None or known.token is None or attached:
            return None
        try:
            way = way_to(config.parse_portal(known.url), self._table, self._state_dir)
        except PropagatorError as problem:
            return await self._failed(known, self._findings.of_setting(known.url, problem))
        try:
            reply = await self._asked(way, known.token, known.edition)
        except PortalError as error:
            return await self._failed(known, await self._diagnosed(way, known, error))
        return await self._answered(way, known, reply)

    async def _asked(self, way: Way, token: str, edition: int | None) -> Reply:
        """Ask up to three times, where the portal is not reached."""
        from propagator.enrol import http  # noqa: PLC0415  an agent without a portal does not pay for httpx

        question = http.Question("api/registration", token=token, edition=edition)
        for left in range(TRIES - 1, -1, -1):
            try:
                return await http.ask(way, question)
            except PortalError as error:
                if left == 0 or error.kind not in CONNECTIONS:
                    raise
                await asyncio.sleep(TRIES_APART_S)
        raise AssertionError("the last try raises or returns")

    async def _answered(self, way: Way, known: Portal, reply: Reply) -> float | None:
        from propagator.enrol import words  # noqa: PLC0415  as above

        portal = str(way.portal)
        try:
            if reply.status == _NOT_MODIFIED:
                return await self._well(known)
            if reply.status == _OK:
                return await self._offered(known, words.read(reply, words.Edition, portal).statement.encode())
            error = words.refusal(reply, portal)
        except PortalError as trouble:
            error = trouble
        if reply.status == _UNAUTHORISED and error.kind is Trouble.REFUSED:
            return await self._told(known, RIGHT_REFUSED, str(error))
        if reply.status == _GONE and error.word == "associated_elsewhere":
            self._log.warning("enrol.moved_elsewhere", portal=portal)
            await self._told(known, MOVED, str(error))
            return None
        return await self._failed(known, await self._diagnosed(way, known, error))

    async def _offered(self, known: Portal, raw: bytes) -> float:
        """Hand on what the portal signed."""
        try:
            refusal = await self._take(raw)
        except RefusedError as error:  # a shadow by now, or a lead that lost its record: `status` says so already
            self._log.info("enrol.edition_left", why=str(error))
            return await self._well(known)
        if refusal is None:
            self._log.info("enrol.edition_taken", portal=known.url)
            return await self._well(known)
        is_other = refusal.reason is StatementReason.UNKNOWN_PORTAL
        code = KEY_CHANGED if is_other else STATEMENT_REFUSED
        why = str(refusal.kid) if is_other else refusal.text.removesuffix(".")
        return await self._told(known, code, why)

    async def _well(self, known: Portal) -> float:
        if self._failures:
            self._log.info("enrol.trouble_ended", portal=known.url, failures=self._failures)
        self._failures, self._kind, self._finding = 0, "", None
        await self._note(known, finding=None, answered=True)
        return self._table.interval_s * self._rng.uniform(0.9, 1.1)

    async def _told(self, known: Portal, code: str, why: str) -> float:
        """Note what the portal's own answer shows."""
        return await self._failed(known, self._findings.of_code(code, str(known.url), why), answered=True)

    async def _failed(self, known: Portal, finding: JsonObject | None, *, answered: bool = False) -> float:
        """Note the finding, and wait longer each time, up to the interval."""
        if finding is not None and finding.get("code") != (self._finding or {}).get("code"):
            self._log.warning("enrol.trouble_found", code=finding.get("code"), portal=known.url)
        self._failures, self._finding = self._failures + 1, finding
        await self._note(known, finding=finding, answered=answered)
        grown_s = FIRST_AGAIN_S * 2.0 ** min(self._failures - 1, 20)
        return min(self._table.interval_s, grown_s) * self._rng.uniform(0.8, 1.2)

    async def _diagnosed(self, way: Way, known: Portal, error: PortalError) -> JsonObject | None:
        """Diagnose trouble of a new kind, and the same kind again after a while."""
        now_s = asyncio.get_running_loop().time()
        if error.kind == self._kind and now_s - self._diagnosed_s < DIAGNOSED_APART_S:
            return self._finding
        self._kind, self._diagnosed_s = error.kind, now_s
        return await self._findings.of_way(way, known)

    async def _note(self, known: Portal, *, finding: JsonObject | None, answered: bool) -> None:
        """Remember how the portal answered, unless a command has named another one, or another right, meanwhile."""
        at = moment.write(self._now())
        async with self._store.transaction() as tx:
            present = await portals.portal(tx)
            if present is not None and (present.url, present.token) == (known.url, known.token):
                await portals.note_asked(tx, asked_at=at, answered_at=at if answered else None, finding=finding)
