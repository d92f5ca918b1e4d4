"""The diagnosis of the way to the Registration Portal: proxy, name, TCP, TLS, HTTP, its words, its key, our right.

Every stage on its own, each as far as the one before allows. It goes to the portal that this server knows, or that its
user names, and to the proxy that is set: nowhere else. What was seen is judged in core.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from propagator.core import moment
from propagator.core.diagnosis.portal import Page, PortalSeen, PortalStage, ProxySeen, judge
from propagator.core.diagnosis.seen import Address, Answer, End, Lookup
from propagator.core.statement import grouped
from propagator.core.ticket import plain
from propagator.diagnose import tunnel
from propagator.diagnose.course import Step, explained
from propagator.diagnose.telling import SCHEMA, finding
from propagator.enrol import http, words
from propagator.enrol.failure import PortalError, Trouble
from propagator.probe import kernel, names, path, tries

if TYPE_CHECKING:
    from collections.abc import Callable

    from propagator.core.diagnosis import Verdict
    from propagator.core.difference import JsonObject
    from propagator.core.errors import PropagatorError
    from propagator.enrol.http import Question, Reply
    from propagator.enrol.way import Way

TOTAL_S: Final = 19.0
ASK_S: Final = 6.0
DEEP_AT_MOST: Final = 2


@dataclass(frozen=True, slots=True)
class Known:
    """What this server knows of the portal: the key that it trusts, and its right to ask, with the edition it has."""

    key: str | None = None
    token: str | None = field(default=None, repr=False)
    edition: int | None = None


@dataclass(frozen=True, slots=True)
class PortalDiagnosis:
    """What was found: the steps, and the one verdict."""

    portal: str
    steps: tuple[Step, ...]
    verdict: Verdict
    at: str

    def as_finding(self) -> JsonObject:
        """The finding of DESIGN §9."""
        return finding(self.verdict, at=self.at)

    def as_json(self) -> JsonObject:
        """The JSON of `propagator diagnose --portal`."""
        return {
            "schema": SCHEMA,
            "at": self.at,
            "portal": self.portal,
            "stages": [step.as_json() for step in self.steps],
            "verdict": self.as_finding(),
        }


async def diagnose(way: Way, known: Known, tell: Callable[[Step], None] = lambda _: None) -> PortalDiagnosis:
    """Diagnose the way to a portal, in 20 s at most; `tell` hears of each stage as it ends. Never raises."""
    at = moment.write(dt.datetime.now(dt.UTC))
    portal = way.portal
    proxy = None if way.proxy is None else ProxySeen(str(way.proxy.address), way.proxy.source)
    course = _Course(way, known, tell, PortalSeen(str(portal), portal.host, portal.port, proxy, trusted=known.key))
    try:
        async with asyncio.timeout(TOTAL_S):
            await _all(course)
    except TimeoutError:
        course.seen = replace(course.seen, unchecked=f"the time was up after {TOTAL_S:g} s")
    _tell_unchecked(course)
    return PortalDiagnosis(str(portal), tuple(course.steps), judge(course.seen), at)


def unusable(portal: str, problem: PropagatorError) -> PortalDiagnosis:
    """Give the diagnosis of a way that is set so that it cannot be gone."""
    at = moment.write(dt.datetime.now(dt.UTC))
    seen = PortalSeen(portal, portal, 443, setting=str(problem).removesuffix("."))
    return PortalDiagnosis(portal, (), judge(seen), at)


@dataclass(slots=True)
class _Course:
    way: Way
    known: Known
    tell: Callable[[Step], None]
    seen: PortalSeen
    steps: list[Step] = field(default_factory=list)

    def step(self, stage: PortalStage, result: str, took_s: float | None, *evidence: str, where: str = "") -> None:
        """Note a stage that ended, and tell whoever watches."""
        step = Step(stage, where or None, result, took_s, tuple(text for text in evidence if text))
        self.steps.append(step)
        self.tell(step)

    def passed(self, stage: PortalStage, begun_s: float, *evidence: str, good: bool) -> bool:
        """Note a stage by how it went; gives that."""
        self.step(stage, "passed" if good else "failed", _time() - begun_s, *evidence)
        return good


async def _all(course: _Course) -> None:
    """Go the whole way, until a stage does not go well."""
    entrance = await _reach(course)
    if entrance is None:
        return
    if not await _by_proxy(course, entrance):
        return
    if course.way.portal.secure and not await _secured(course, entrance):
        return
    if await _asked(course):
        await _held_to(course)


# Name and TCP: the portal's, or the proxy's.


async def _reach(course: _Course) -> tunnel.Entrance | None:
    """Look the name up and connect; None where nobody lets us in."""
    way = course.way
    target = way.portal.address if way.proxy is None else way.proxy.address
    begun_s = _time()
    name = await names.look_up(target.host, here=True)
    course.seen = replace(course.seen, name=name)
    found = name.lookup is Lookup.FOUND
    told = ", ".join(name.addresses) if found else f"{name.host}: {name.lookup}"
    whose = "" if way.proxy is None else f"the proxy's, {way.proxy.source}"
    if not course.passed(PortalStage.RESOLVE, begun_s, told, whose, good=found):
        return None
    looked = await asyncio.gather(*(_look(address, target.port) for address in name.addresses))
    course.seen = replace(course.seen, addresses=tuple(looked))
    for seen in looked:
        told = "" if seen.connected else "no route" if seen.route is None else explained(seen.tries[0])
        took_s = seen.tries[0].took_s if seen.tries else None
        course.step(PortalStage.TCP, "passed" if seen.connected else "failed", took_s, told, where=seen.address)
    used = next((seen for seen in looked if seen.connected), None)
    if used is None:
        await _deeper(course)
        return None
    return tunnel.Entrance(used.address, used.port, way)


async def _look(address: str, port: int) -> Address:
    """Try once: a portal's host is a stranger's."""
    way = kernel.route(address)
    if way is None:
        return Address(address, port, None)
    first = await tries.connect(address, port)
    neighbour = kernel.neighbour(way.gateway or address)
    return Address(address, port, way, (first,), neighbour)


async def _deeper(course: _Course) -> None:
    """See what the failed tries hide: how far they are heard, and whether our own rules stop them."""
    first, rest = course.seen.addresses[:DEEP_AT_MOST], course.seen.addresses[DEEP_AT_MOST:]
    if all(each.route is None or (each.tries[0].answer is Answer.RESET and each.route.on_link) for each in first):
        return
    deeper = await asyncio.gather(*(path.look_deeper(seen, others=False) for seen in first if seen.tries))
    course.seen = replace(course.seen, addresses=(*deeper, *rest) if deeper else course.seen.addresses)


async def _by_proxy(course: _Course, entrance: tunnel.Entrance) -> bool:
    proxy, begun_s = course.way.proxy, _time()
    if proxy is None:
        return True
    seen = await tunnel.ask_proxy(entrance, proxy)
    course.seen = replace(course.seen, proxy=seen)
    good = seen.status is not None and 200 <= seen.status < 300  # noqa: PLR2004  it connects us
    told = f"CONNECT: {seen.end}" if seen.status is None else f"CONNECT: {seen.status} {seen.reason}".strip()
    return course.passed(PortalStage.PROXY, begun_s, told, seen.server, f"named by {proxy.source}", good=good)


# TLS, and what is said over it.


async def _secured(course: _Course, entrance: tunnel.Entrance) -> bool:
    begun_s = _time()
    seen = await tunnel.shake(entrance)
    course.seen = replace(course.seen, handshake=seen)
    evidence = [] if seen.end is End.DONE else [seen.tls_reason or seen.end.value]
    if seen.verify_code is not None:
        evidence.append(f"verify code {seen.verify_code}")
    if seen.certificate is not None:
        shown = seen.certificate
        dates = f"{shown.not_before:%Y-%m-%d} to {shown.not_after:%Y-%m-%d}"
        evidence.append(f"certificate of {plain(shown.issuer, 120)}, {dates}")
    if seen.server_time is not None:
        evidence.append(f"it says that it is {seen.server_time:%Y-%m-%d %H:%M}")
    return course.passed(PortalStage.TLS, begun_s, *evidence, good=seen.end is End.DONE)


async def _asked(course: _Course) -> bool:
    """Ask who the portal is: over HTTP, in its words."""
    begun_s = _time()
    page, reply = await _page(course.way, http.Question("api/portal"))
    course.seen = replace(course.seen, about=page)
    if reply is None:
        return course.passed(PortalStage.HTTP, begun_s, page.trouble, good=False)
    course.passed(PortalStage.HTTP, begun_s, f"status {page.status}", page.server, page.via, good=True)
    begun_s = _time()
    try:
        about = words.read(reply, words.About, str(course.way.portal))
    except PortalError as error:
        return course.passed(PortalStage.API, begun_s, str(error), good=False)
    course.seen = replace(course.seen, key=about.thumbprint)
    return course.passed(PortalStage.API, begun_s, plain(about.name, 100), good=True)


async def _held_to(course: _Course) -> None:
    """Hold the portal to the key that is trusted, and ask whether it still knows this server."""
    known, key = course.known, course.seen.key
    if known.key is None:
        course.step(
            PortalStage.KEY, "not_checked", None, f"this server trusts none yet; its key is {grouped(str(key))}"
        )
        return
    if not course.passed(PortalStage.KEY, _time(), grouped(str(key)), good=key == known.key):
        return
    if known.token is None:
        course.step(PortalStage.RIGHT, "not_checked", None, "this server was not registered there online")
        return
    begun_s = _time()
    page, _ = await _page(course.way, http.Question("api/registration", token=known.token, edition=known.edition))
    course.seen = replace(course.seen, right=page)
    told = page.trouble or f"status {page.status}"
    good = not page.trouble and page.status in {200, 304}
    course.passed(PortalStage.RIGHT, begun_s, told, page.word, good=good)


async def _page(way: Way, question: Question) -> tuple[Page, Reply | None]:
    """Ask one thing, and see what answers."""
    try:
        reply = await http.ask(way, question, limit_s=ASK_S)
    except PortalError as error:
        return Page(trouble=str(error), timed_out=error.kind is Trouble.TIMEOUT), None
    return page_of(reply), reply


def page_of(reply: Reply) -> Page:
    """Say what kind of answer it is."""
    try:
        words.parsed(reply, "")
        is_json = True
    except PortalError:
        is_json = False
    is_page = not is_json and ("html" in reply.content_type.lower() or bool(reply.location))
    return Page(
        status=reply.status,
        is_json=is_json,
        is_page=is_page or (not is_json and reply.body[:256].lstrip().lower().startswith((b"<!doctype", b"<html"))),
        server=plain(reply.server, 80),
        via=plain(reply.via, 80),
        location=plain(reply.location, 120),
        word=words.refusal(reply, "").word if is_json and reply.status >= 400 else "",  # noqa: PLR2004
    )


def _tell_unchecked(course: _Course) -> None:
    """Tell the stages that were never reached."""
    told = {step.stage for step in course.steps}
    for stage in PortalStage:
        if stage in told or (stage is PortalStage.PROXY and course.way.proxy is None):
            continue
        if stage is PortalStage.TLS and not course.way.portal.secure:
            continue
        why = course.seen.unchecked or "an earlier stage failed"
        course.step(stage, "not_checked", None, why if _failed(course) else "not known here")


def _failed(course: _Course) -> bool:
    return bool(course.seen.unchecked) or any(step.result == "failed" for step in course.steps)


def _time() -> float:
    return asyncio.get_running_loop().time()
