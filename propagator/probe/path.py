"""The way to one address: quick where it works, thorough where it does not (FIREWALL.md §4).

`look` connects. Where nothing got through, `look_deeper` asks what silence hides: our own counters, the neighbour,
other ports of the same host, the ladder on the port and then, after it, on the control that answers best. Only the
lead's own address is ever tried (F16).
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from propagator.core.diagnosis.seen import Address, Answer, Attempt, Neighbour
from propagator.probe import counters, kernel, tries

if TYPE_CHECKING:
    from propagator.core.diagnosis.seen import Ladder, Picture

REPEATS: Final = 5
"""Further quick tries where the first got through: lost first packets show in their time."""

OTHER_PORTS: Final = (22, 80, 443)
WINDOW_S: Final = 2.4
"""One silent try between two readings of the counters: room for two SYNs."""


async def look(address: str, port: int, before: Picture | None = None) -> Address:
    """Find the way and connect, with `tries.CONNECT_S` at most, and a few more times if that worked."""
    way = kernel.route(address)
    seen = Address(address, port, way, before=before)
    if way is None:
        return seen
    first = await tries.connect(address, port)
    if first.answer is not Answer.CONNECTED:
        return replace(seen, tries=(first,), neighbour=_neighbour(seen))
    more = await asyncio.gather(*(tries.connect(address, port) for _ in range(REPEATS)))
    return replace(seen, tries=(first, *more))


def _neighbour(seen: Address) -> Neighbour:
    next_station = seen.route.gateway if seen.route is not None and seen.route.gateway else seen.address
    return kernel.neighbour(next_station)


async def look_deeper(seen: Address, *, others: bool = True) -> Address:
    """Look at what a failed try hides. Takes 10 s at most where everything is silent, less where something answers.

    `others`: whether other ports of the host may be tried, too; a stranger's host might take that amiss.
    """
    if seen.route is None or seen.tries[0].answer in {Answer.NO_ROUTE, Answer.DENIED}:
        return seen
    if seen.tries[0].answer is Answer.REJECTED:
        return replace(seen, target=await tries.tcp_ladder(seen.address, seen.port), ttl=seen.tries[0].ttl)
    if seen.tries[0].answer is Answer.SILENT:
        seen = await _watch_one_try(seen)
    return await climb(seen, others=others)


async def _watch_one_try(seen: Address) -> Address:
    """Try again between two readings of our own counters; the second before is what is usual here."""
    start = counters.read()
    await asyncio.sleep(1.0)
    usual = counters.read() - start
    begun = counters.read()
    attempt, udp = await asyncio.gather(
        tries.connect(seen.address, seen.port, WINDOW_S), tries.knock(seen.address, 0.1, port=seen.port)
    )
    passed = counters.read() - begun
    six = ":" in seen.address
    swallowed, usually = (passed.swallowed6, usual.swallowed6) if six else (passed.swallowed, usual.swallowed)
    return replace(
        seen,
        tries=(*seen.tries, attempt),
        neighbour=_neighbour(seen),
        unsent=passed.unsent - usual.unsent,
        swallowed=max(0, swallowed - round(usually * WINDOW_S)),
        usual=usually,
        udp_denied=udp.answer is Answer.DENIED,
    )


async def climb(seen: Address, *, others: bool = True) -> Address:
    """Walk the ladders: first on the port, then on what else of the host answers, so that a silence can be believed."""
    target = await tries.tcp_ladder(seen.address, seen.port)
    found = await _other_ports(seen) if others else ()
    control = await _control(seen.address, found)
    seen = replace(seen, target=target, others=found, control=control)
    return await _measure(seen)


async def _measure(seen: Address) -> Address:
    """Find the TTL of the answers, where it says whose they are: of a reset, and where it was known before."""
    then = None if seen.before is None else seen.before.ttl
    reset = seen.tries[0].answer is Answer.RESET
    if seen.route is None or seen.route.on_link or not (reset or (seen.connected and then is not None)):
        return seen
    seen = replace(seen, ttl=await tries.answer_ttl(seen.address, seen.port, then))
    return replace(seen, control_ttl=await _control_ttl(seen)) if reset else seen


async def _other_ports(seen: Address) -> tuple[tuple[int, Attempt], ...]:
    ports = [*(port for port in OTHER_PORTS if port != seen.port), seen.port + 1 if seen.port < 65535 else 1]  # noqa: PLR2004
    found = await asyncio.gather(*(tries.connect(seen.address, port, tries.RUNG_S) for port in ports))
    return tuple(zip(ports, found, strict=True))


async def _control(address: str, others: tuple[tuple[int, Attempt], ...]) -> Ladder | None:
    """Climb on the best of what answers: an open port, a closed one, UDP; else on UDP, to hear the routers."""
    for wanted in (Answer.CONNECTED, Answer.RESET):
        for port, attempt in others:
            if attempt.answer is wanted:
                return await tries.tcp_ladder(address, port)
    return await tries.udp_ladder(address)


async def _control_ttl(seen: Address) -> int | None:
    for port, attempt in seen.others:
        if attempt.answer in {Answer.CONNECTED, Answer.RESET}:
            return await tries.answer_ttl(seen.address, port)
    return None
