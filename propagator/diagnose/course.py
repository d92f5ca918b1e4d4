"""The course of a diagnosis: names, then every address on its own, then the one that lets us in (FIREWALL.md §4).

Quick where it works; thorough where nothing does, on the first addresses of each family only. One deadline for all of
it: what was not reached by then is `not checked`, never failed (F47).
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from propagator.core.diagnosis.seen import Address, Answer, Attempt, End, Lookup, Name, Seen, Stage, Talk
from propagator.diagnose.conversation import Peer, converse, pause
from propagator.probe import names, path

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from propagator.core.diagnosis.portal import PortalStage
    from propagator.core.diagnosis.seen import Conversation, Picture
    from propagator.core.difference import JsonObject

TOTAL_S: Final = 18.0
"""All of it; with the start of the program, and a goodbye of 1 s to a broker that does not listen, it is under 20 s."""

DEEP_AT_MOST: Final = 2
MOST_ADDRESSES: Final = 6
_STRANGE_ENDS: Final = frozenset({End.TIMEOUT, End.TLS, End.CLOSED, End.RESET, End.NOT_MQTT})
"""Ends after which the distance of whoever answered is asked for."""


@dataclass(frozen=True, slots=True)
class Step:
    """One stage at one address, as it ended. `result` is `passed`, `failed` or `not_checked`."""

    stage: Stage | PortalStage
    address: str | None
    result: str
    took_s: float | None
    evidence: tuple[str, ...] = ()

    def as_json(self) -> JsonObject:
        """As `propagator diagnose --json` lists it."""
        return {
            "stage": self.stage.value,
            "address": self.address,
            "result": self.result,
            "took_s": None if self.took_s is None else round(self.took_s, 4),
            "evidence": list(self.evidence),
        }


def step_of(told: JsonObject) -> Step:
    """Read a step, as `as_json` writes it."""
    took_s, evidence = told.get("took_s"), told.get("evidence")
    return Step(
        Stage(str(told.get("stage"))),
        None if told.get("address") is None else str(told["address"]),
        str(told.get("result")),
        took_s if isinstance(took_s, float) else None,
        tuple(map(str, evidence)) if isinstance(evidence, list) else (),
    )


@dataclass(slots=True)
class _Course:
    peer: Peer
    tell: Callable[[Step], None]
    pictures: Mapping[str, Picture]
    idle_s: float
    steps: list[Step] = field(default_factory=list)
    names: list[Name] = field(default_factory=list)
    addresses: dict[tuple[str, int], Address] = field(default_factory=dict)
    talks: dict[str, Conversation] = field(default_factory=dict)

    def step(self, stage: Stage, address: str | None, result: str, took_s: float | None, *evidence: str) -> None:
        """Note a stage that ended, and tell whoever watches."""
        step = Step(stage, address, result, took_s, tuple(text for text in evidence if text))
        self.steps.append(step)
        self.tell(step)

    def seen(self, unchecked: str | None) -> Seen:
        """All that was seen so far."""
        return Seen(tuple(self.names), tuple(self.addresses.values()), tuple(self.talks.items()), unchecked)


async def run(
    targets: Sequence[tuple[str, int]],
    peer: Peer,
    tell: Callable[[Step], None],
    pictures: Mapping[str, Picture],
    idle_s: float = 0.0,
) -> tuple[Seen, tuple[Step, ...]]:
    """Diagnose the way to these hosts and ports. Never raises for what it meets on the way.

    Takes `TOTAL_S` at most, and `idle_s` more: so long a connection that works is kept quiet, to see whether it lives.
    """
    course = _Course(peer, tell, pictures, idle_s)
    total_s = TOTAL_S + idle_s
    unchecked = None
    try:
        async with asyncio.timeout(total_s):
            await _all(course, targets)
    except TimeoutError:
        unchecked = f"the time was up after {total_s:g} s"
    _tell_unchecked(course, unchecked)
    return course.seen(unchecked), tuple(course.steps)


async def _all(course: _Course, targets: Sequence[tuple[str, int]]) -> None:
    wanted = await _resolve(course, targets)
    hosts = {address: host for host, address, _ in wanted}
    looked = await asyncio.gather(
        *(path.look(address, port, course.pictures.get(address)) for _, address, port in wanted)
    )
    for seen in looked:
        course.addresses[seen.address, seen.port] = seen
    for seen in looked:
        _tell_way(course, seen)
    if await _talk_to_each(course, hosts, [seen for seen in looked if seen.connected]):
        return
    silent = [seen for seen in looked if not seen.connected][:DEEP_AT_MOST]
    if not course.talks:
        for deeper in await asyncio.gather(*(path.look_deeper(seen) for seen in silent)):
            course.addresses[deeper.address, deeper.port] = deeper


async def _talk_to_each(course: _Course, hosts: dict[str, str], open_ones: Sequence[Address]) -> bool:
    """Talk to every address that lets us in; True once one is the lead."""
    done = False
    for seen in open_ones:
        heard = await _talk_to(course, seen, hosts[seen.address])
        done = done or heard.first.end is End.DONE
        if heard.first.end in _STRANGE_ENDS:
            course.addresses[seen.address, seen.port] = await path.climb(seen)
    return done


async def _talk_to(course: _Course, seen: Address, host: str) -> Conversation:
    """Talk to one address; what is heard is kept at once, for the time may be up at any moment."""
    where = seen.address, seen.port, host, course.peer
    told = False
    async with contextlib.aclosing(converse(*where)) as hearing:
        async for more in hearing:
            course.talks[seen.address] = more
            if not told:
                _tell_talk(course, seen, more.first)
            told = True
    heard = course.talks[seen.address]
    if heard.first.end is End.DONE and course.idle_s:
        heard = course.talks[seen.address] = await pause(*where, heard, course.idle_s)
        _tell_pause(course, seen, heard)
    return heard


async def _resolve(course: _Course, targets: Sequence[tuple[str, int]]) -> list[tuple[str, str, int]]:
    """Look every name up: (host, address, port), each address once."""
    found = await asyncio.gather(*(names.look_up(host) for host in dict.fromkeys(host for host, _ in targets)))
    course.names += found
    for name in found:
        good = name.lookup is Lookup.FOUND
        evidence = ", ".join(name.addresses) if good else f"{name.host}: {name.lookup}"
        left = f"not tried: {', '.join(name.left_out)}" if name.left_out else ""
        course.step(Stage.RESOLVE, None, "passed" if good else "failed", name.took_s, evidence, left)
    known = {name.host: name.addresses for name in found}
    wanted = [(host, address, port) for host, port in targets for address in known[host]]
    return list({(address, port): (host, address, port) for host, address, port in reversed(wanted)}.values())[::-1][
        :MOST_ADDRESSES
    ]


def _tell_way(course: _Course, seen: Address) -> None:
    way = seen.route
    if way is None:
        course.step(Stage.ROUTE, seen.address, "failed", None, "the kernel knows no route")
        return
    via = "on this server's own network" if way.on_link else f"by the gateway {way.gateway or '(not told)'}"
    course.step(Stage.ROUTE, seen.address, "passed", None, f"{via}, from {way.source} ({way.device})")
    first = seen.tries[0]
    again = sum(attempt.retransmits > 0 for attempt in seen.tries)
    lost = f"{again} of {len(seen.tries)} first packets were sent again" if again else ""
    told = ("",) if seen.connected else (explained(first), _before(seen))
    course.step(Stage.TCP, seen.address, "passed" if seen.connected else "failed", first.took_s, *told, lost)


def _before(seen: Address) -> str:
    """Say how the way was when all was well."""
    then = seen.before
    if then is None:
        return "how it was when all was well is not known"
    return f"on {then.at} it answered from hop {then.hops}" + ("" if then.ttl is None else f" with a TTL of {then.ttl}")


def explained(attempt: Attempt) -> str:
    """Say how a try ended, with its proof."""
    number = "" if attempt.errno is None else f" (errno {attempt.errno})"
    match attempt.answer:
        case Answer.REJECTED:
            return f"ICMP {attempt.icmp} from {attempt.source}{number}"
        case Answer.SILENT:
            return f"no answer, {attempt.retransmits} packets sent again{number}"
        case _:
            return f"{attempt.answer}{number}"


def _tell_talk(course: _Course, seen: Address, first: Talk) -> None:
    for stage, took_s in first.passed:
        course.step(stage, seen.address, "passed", took_s)
    if first.end is End.DONE:
        return
    if first.end is End.UNCHECKED:
        course.step(first.stage, seen.address, "not_checked", None, first.detail)
        return
    course.step(first.stage, seen.address, "failed", first.took_s, *_talk_evidence(first))


def _tell_pause(course: _Course, seen: Address, heard: Conversation) -> None:
    if heard.idle is not None and heard.idle.end is not End.DONE:
        told = f"after {heard.idle_s:g} s without a word: {heard.idle.end}"
        course.step(Stage.HEARTBEAT, seen.address, "failed", heard.idle.took_s, told, heard.idle.detail)


def _talk_evidence(talk: Talk) -> tuple[str, ...]:
    bytes_seen = f"{max(talk.acked - 1, 0)} bytes of ours were acknowledged" if talk.end in _STRANGE_ENDS else ""
    return talk.end.value, talk.detail, bytes_seen


def _tell_unchecked(course: _Course, unchecked: str | None) -> None:
    """Tell the stages that were never reached anywhere."""
    told = {step.stage for step in course.steps}
    for stage in Stage:
        if stage in told or (stage is Stage.TLS and course.peer.tls is None):
            continue
        course.step(stage, None, "not_checked", None, unchecked or "an earlier stage failed")
