"""Why an address does not let us connect: from tries, ladders and counters to a verdict (FIREWALL.md §4).

The rules stand in their order, and the first that applies decides: each proves more than those after it. What the
kernel or a named sender says comes before what silence may mean.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final

from propagator.core.diagnosis import before
from propagator.core.diagnosis.catalogue import Code, Confidence
from propagator.core.diagnosis.seen import Address, Answer, Attempt, Icmp, Ladder, Neighbour
from propagator.core.diagnosis.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

NEIGHBOUR_S: Final = 1.0
"""The kernel asks three seconds for a link address before it says host unreachable by itself; a firewall is at once."""

_CERTAIN, _PROBABLE, _POSSIBLE = Confidence.CERTAIN, Confidence.PROBABLE, Confidence.POSSIBLE


def judge(seen: Address) -> Verdict | None:
    """Say why this address cannot be connected to; None if it can, without a first packet lost."""
    for rule in _RULES:
        if (verdict := rule(seen)) is not None:
            return verdict.knowing(**facts(seen))
    return None


def facts(seen: Address) -> dict[str, str]:
    """Give what the sentences of the catalogue may want to know of an address."""
    route = seen.route
    known = {"port": str(seen.port)}
    if route is not None and route.network:
        known["network"] = route.network
    if route is not None and route.gateway:
        known["gateway"] = route.gateway
    if seen.ttl is not None:
        known["ttl"] = str(seen.ttl)
    return known


def _no_route(seen: Address) -> Verdict | None:
    if seen.route is not None:
        return None
    return _verdict(seen, Code.NO_ROUTE_LOCAL, _CERTAIN, "the kernel itself has no route")


def _flaky(seen: Address) -> Verdict | None:
    lost = sum(attempt.retransmits > 0 or attempt.answer is not Answer.CONNECTED for attempt in seen.tries)
    if not seen.connected:
        return None
    if lost == 0:
        return None
    told = f"{lost} of {len(seen.tries)}"
    return _verdict(
        seen,
        Code.FLAKY,
        _CERTAIN,
        f"{told} tries lost their first packet, the others did not",
        other=f"{told} first packets",
    )


def _nobody_next(seen: Address) -> Verdict | None:
    route = seen.route
    own = [attempt for attempt in seen.tries if attempt.icmp is Icmp.HOST and _is_own(seen, attempt)]
    waited = any(attempt.took_s >= NEIGHBOUR_S for attempt in own)
    if route is None or not (waited or (seen.neighbour is Neighbour.FAILED and not _answered(seen))):
        return None
    if route.gateway == "":
        told = "a link address was asked for, and nobody answered; whether the gateway's or the lead's is not told"
        return _verdict(seen, Code.GATEWAY_DOWN, _PROBABLE, told)
    code = Code.HOST_DOWN_ONLINK if route.on_link else Code.GATEWAY_DOWN
    return _verdict(seen, code, _CERTAIN, "its link address was asked for, and nobody answered")


def _answered(seen: Address) -> bool:
    return any(attempt.answer in {Answer.CONNECTED, Answer.RESET} for attempt in seen.tries) or (
        any(attempt.icmp is not None and not _is_own(seen, attempt) for attempt in seen.tries)
    )


def _rejected(seen: Address) -> Verdict | None:
    """An ICMP message: its sender says who refuses."""
    attempt = next((each for each in seen.tries if each.answer is Answer.REJECTED and each.source is not None), None)
    if attempt is None:
        return None
    source = attempt.source or ""
    told = f"{source} says {attempt.icmp}"
    if _is_own(seen, attempt):
        return _verdict(seen, Code.OWN_FIREWALL_REJECTS, _CERTAIN, f"{told}, and that is this server")
    if _is_same(source, seen.address):  # no host says of itself that it cannot be reached
        if (near := before.nearer(seen)) is not None:
            told += f", and that is the lead's address; but {near}"
            return _verdict(seen, Code.REJECTED_ON_PATH, _PROBABLE, told, hop=_arrival(seen))
        return _verdict(seen, Code.REJECTED_BY_FIREWALL, _CERTAIN, f"{told}, and that is the lead", source=source)
    by_kind = {Icmp.HOST: Code.HOST_UNREACHABLE, Icmp.NET: Code.NET_UNREACHABLE}
    code = Code.REJECTED_ON_PATH if attempt.icmp is None else by_kind.get(attempt.icmp, Code.REJECTED_ON_PATH)
    return _verdict(seen, code, _CERTAIN, told, source=source, hop=_hop_of(seen, source))


def _denied(seen: Address) -> Verdict | None:
    if not any(attempt.answer is Answer.DENIED for attempt in seen.tries):
        return None
    return _verdict(seen, Code.OWN_FIREWALL_REJECTS, _CERTAIN, "this server's own kernel was told to refuse it")


def _refused_by_kernel(seen: Address) -> Verdict | None:
    """The kernel refuses, though it has a route: before Linux 5.8, nobody says whether an ICMP message told it to."""
    if not seen.tries or any(attempt.answer is not Answer.NO_ROUTE for attempt in seen.tries):
        return None
    told = "the kernel refuses, although it has a route; a kernel before 5.8 hides who told it to"
    return _verdict(seen, Code.NO_ROUTE_LOCAL, _PROBABLE, told)


def _reset(seen: Address) -> Verdict | None:
    """A reset: whose it is, its distance says."""
    if not any(attempt.answer is Answer.RESET for attempt in seen.tries):
        return None
    near = nearer(seen)
    if near is not None:
        hop, router = near
        if hop == 1 and seen.route is not None and not seen.route.on_link and not _is_routers(seen, router):
            return _verdict(seen, Code.OWN_FIREWALL_REJECTS, _CERTAIN, "the reset comes from before the gateway")
        told = f"the reset comes at a TTL of {hop}; other ports of the host are farther"
        return _verdict(seen, Code.REJECTED_ON_PATH, _CERTAIN, told, **_refuser(seen, hop))
    if seen.ttl is not None and seen.control_ttl is not None and seen.ttl > seen.control_ttl and not _is_passed(seen):
        told = f"the reset arrives with a TTL of {seen.ttl}, answers of the host with {seen.control_ttl}"
        return _verdict(seen, Code.REJECTED_ON_PATH, _PROBABLE, told)
    if not _lets_in_elsewhere(seen) and (told_before := before.nearer(seen)) is not None:
        return _verdict(seen, Code.REJECTED_ON_PATH, _PROBABLE, told_before, hop=_arrival(seen))
    if _is_forwarded(seen):
        told = "the reset comes from one hop behind the address: a port forward leads to a closed port"
        return _verdict(seen, Code.PORT_CLOSED, _PROBABLE, told)
    told = "a firewall of the host that rejects with a reset looks the same"
    return _verdict(seen, Code.PORT_CLOSED, _PROBABLE, told)


def _lets_in_elsewhere(seen: Address) -> bool:
    """Whether another port of the address lets us in: then a host is there, wherever it was before."""
    return any(attempt.answer is Answer.CONNECTED for _, attempt in seen.others)


def _arrival(seen: Address) -> str:
    arrival = None if seen.target is None else seen.target.arrival
    return "" if arrival is None else f" at hop {arrival}"


def nearer(seen: Address) -> tuple[int, str] | None:
    """Say at which hop somebody nearer than the host answers on the port, and which router stands there.

    Proven by a control that at the same TTL, or at a higher one, still hears a router. Not where the address itself is
    among them: then the control is a port that it forwards, to a host behind.
    """
    arrival = None if seen.target is None else seen.target.arrival
    if arrival is None or seen.control is None or _is_passed(seen):
        return None
    beyond = seen.control.last_router
    if beyond is None or beyond[0] < arrival:
        return None
    rung = seen.control.at(arrival)
    return arrival, "" if rung is None or rung.source is None else rung.source


def _is_passed(seen: Address) -> bool:
    """Whether the control leads through the address, to somebody behind it."""
    rungs = () if seen.control is None else seen.control.rungs
    return any(
        rung.answer is Answer.EXPIRED and rung.source is not None and _is_same(rung.source, seen.address)
        for rung in rungs
    )


def _refuser(seen: Address, arrival: int) -> dict[str, str]:
    """Name who sent a reset that came at this TTL: the router there, or the one before, which counts before it filters.

    How far the reset came says which of the two.
    """
    came = None if seen.ttl is None else before.hops_of(seen.ttl)
    hop = arrival if arrival == 1 else came
    if hop is None or hop not in {arrival - 1, arrival}:
        return {"hop": f" at hop {arrival - 1} or {arrival}"}
    rung = None if seen.control is None else seen.control.at(hop)
    return {"hop": f" at hop {hop}", **({} if rung is None or rung.source is None else {"source": rung.source})}


def _is_routers(seen: Address, router: str) -> bool:
    """Whether the answers' TTL shows a router of the way rather than this server: one hop was counted down."""
    return bool(router) and seen.ttl is not None and seen.ttl not in {64, 128, 255}


def _is_forwarded(seen: Address) -> bool:
    """Whether the port answers from farther away than the host itself."""
    arrival = None if seen.target is None else seen.target.arrival
    control = None if seen.control is None else seen.control.arrival
    return arrival is not None and control is not None and arrival > control


def _own_silence(seen: Address) -> Verdict | None:
    """Silence that our own host makes. Where a router heard of the port, packets do leave this server."""
    if not _is_silent(seen):
        return None
    leaves = seen.target is not None and seen.target.last_router is not None
    if seen.unsent > 0 and not leaves:
        return _verdict(seen, Code.OWN_FIREWALL_DROPS, _CERTAIN, f"the kernel could not send {seen.unsent} packets")
    if seen.udp_denied and not leaves:
        return _verdict(seen, Code.OWN_FIREWALL_DROPS, _PROBABLE, "this server's kernel refuses UDP to the same port")
    if seen.swallowed > 0:
        told = f"{seen.swallowed} packets arrived here during one try and were not delivered"
        due = max(2, seen.tries[-1].retransmits)  # an answer to each SYN; the last may still be on its way
        if seen.usual == 0 and seen.swallowed >= due:
            return _verdict(seen, Code.OWN_FIREWALL_DROPS_REPLY, _CERTAIN, told)
        told += ", which other traffic of this network may be"
        return _verdict(seen, Code.OWN_FIREWALL_DROPS_REPLY, _PROBABLE, told)
    return None


def _on_link_silence(seen: Address) -> Verdict | None:
    on_link = seen.route is not None and seen.route.on_link
    if not (_is_silent(seen) and on_link and seen.neighbour is Neighbour.REACHABLE):
        return None
    told = "the host answers for its link address and not on this port; a filter of its hypervisor looks the same"
    return _verdict(seen, Code.LEAD_FIREWALL_DROPS, _PROBABLE, told)


def _silence_on_the_way(seen: Address) -> Verdict | None:
    """Silence behind routers: how far the port is heard, against how far something else of the host is."""
    if not _is_silent(seen) or seen.control is None:
        return None
    heard = 0 if seen.target is None or seen.target.last_router is None else seen.target.last_router[0]
    control = seen.control.last_router[0] if seen.control.last_router is not None else 0
    arrival = seen.control.arrival
    farthest = control if arrival is None else arrival - 1
    if farthest > heard:
        told = f"the port is heard up to hop {heard} ({seen.target}), {seen.control.of} farther ({seen.control})"
        return _verdict(seen, Code.DROPPED_ON_PATH, _PROBABLE, told, hop=_hop(seen.control, heard))
    if arrival is None:
        return None
    told = f"the way is heard up to hop {heard}, and {seen.control.of} of the host answers"
    return _verdict(seen, Code.DROPPED_AT_LEAD_OR_LAST_HOP, _PROBABLE, told)


def _silence(seen: Address) -> Verdict | None:
    """Silence of everything: the last good picture may say where it begins."""
    if not _is_silent(seen):
        return None
    last = None if seen.target is None else seen.target.last_router
    heard, then = 0 if last is None else last[0], seen.before
    if then is not None and then.hops is not None and heard + 1 < then.hops:
        told = f"the way ends after hop {heard}; on {then.at} the lead answered from hop {then.hops}"
        told += f", and {then.routers[heard]} was next" if len(then.routers) == then.hops - 1 else ""
        return _verdict(seen, Code.DROPPED_ON_PATH, _PROBABLE, told, hop=_hop(seen.target, heard))
    told = "a host that is off and a firewall that drops everything look the same"
    where = "" if last is None else f" beyond hop {last[0]}, {last[1]}"
    return _verdict(seen, Code.NO_ANSWER_AT_ALL, _POSSIBLE, told, hop=where)


def _strange(seen: Address) -> Verdict | None:
    if seen.connected:
        return None
    return _verdict(seen, Code.CANNOT_TELL, _POSSIBLE, "the tries ended in ways that fit no cause")


_RULES: Final[tuple[Callable[[Address], Verdict | None], ...]] = (
    _no_route,
    _flaky,
    _nobody_next,
    _rejected,
    _denied,
    _refused_by_kernel,
    _reset,
    _own_silence,
    _on_link_silence,
    _silence_on_the_way,
    _silence,
    _strange,
)


def _is_silent(seen: Address) -> bool:
    return bool(seen.tries) and all(attempt.answer is Answer.SILENT for attempt in seen.tries)


def _is_own(seen: Address, attempt: Attempt) -> bool:
    return seen.route is not None and attempt.source is not None and _is_same(attempt.source, seen.route.source)


def _is_same(one: str, other: str) -> bool:
    """Whether two texts are one address: people write IPv6 in many ways, and only some with a zone."""
    return _plain(one) == _plain(other)


def _plain(address: str) -> str:
    return str(ipaddress.ip_address(address.partition("%")[0]))


def _hop_of(seen: Address, source: str) -> str:
    """Name the hop at which a router stands, if a ladder has heard it."""
    for ladder in (seen.target, seen.control):
        for ttl, rung in enumerate(() if ladder is None else ladder.rungs, start=1):
            if rung.source == source:
                return f" at hop {ttl}"
    return ""


def _hop(ladder: Ladder | None, ttl: int) -> str:
    rung = None if ladder is None else ladder.at(ttl)
    source = None if rung is None else rung.source
    named = str(ttl) if source is None else f"{ttl} ({source})"
    return f" between hop {named} and the next"


def _verdict(seen: Address, code: Code, confidence: Confidence, reason: str, **known: str) -> Verdict:
    return Verdict(code, confidence, reason, seen.address, known)
