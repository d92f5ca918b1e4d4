"""The diagnosis: from what was seen of the way to a lead to one verdict with a reason (FIREWALL.md).

Law: pure. `seen` holds what was observed, `reach` judges addresses that do not connect, `talk` those that do, `joint`
adds what the lead saw of the same minute; `judge` makes the one verdict of them; `catalogue` has the words. A success
is said only of a full round trip, and what was not checked is never a failure (F47).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from propagator.core.diagnosis import reach, talk
from propagator.core.diagnosis.catalogue import CATALOGUE, FINE, Code, Confidence, Entry, Side
from propagator.core.diagnosis.seen import Lookup, Stage
from propagator.core.diagnosis.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from propagator.core.diagnosis.seen import Address, Name, Seen

__all__ = ["CATALOGUE", "FINE", "Code", "Confidence", "Entry", "Side", "Stage", "Verdict", "judge", "judge_each"]

SLOW_LOOKUP_S: Final = 2.0
_SURE: Final = list(Confidence)


def judge(seen: Seen) -> Verdict:
    """Make the one verdict: the best that any address gives, and the cause of the one that got furthest otherwise."""
    judged = judge_each(seen)
    if not judged:
        return _nameless(seen)
    fine = [verdict for verdict in judged if verdict.is_fine]
    if fine:
        return _fine(seen, fine[0], judged)
    spoken = {address for address, _ in seen.talks}
    return min(judged, key=lambda verdict: (verdict.address not in spoken, _SURE.index(verdict.confidence)))


def judge_each(seen: Seen) -> tuple[Verdict, ...]:
    """Judge every address on its own, in the order they were tried."""
    return tuple(_judge_one(seen, address) for address in seen.addresses)


def _judge_one(seen: Seen, address: Address) -> Verdict:
    spoken = next((heard for where, heard in seen.talks if where == address.address), None)
    named = next((name.host for name in seen.names if address.address in name.addresses), address.address)
    reached = reach.judge(address)
    if spoken is not None:
        said = talk.judge(address, spoken)
        found = reached if said.is_fine and reached is not None else said
    elif reached is not None:
        found = reached
    else:
        why = seen.unchecked or "another address was used"
        found = Verdict(Code.CANNOT_TELL, Confidence.POSSIBLE, f"it connects; the rest was not checked: {why}")
    return Verdict(found.code, found.confidence, found.reason, address.address, found.facts).knowing(host=named)


def _fine(seen: Seen, best: Verdict, judged: Sequence[Verdict]) -> Verdict:
    used = (name for name in seen.names if best.address in name.addresses)
    slow = max(used, key=lambda name: name.took_s, default=None)
    if slow is not None and slow.took_s >= SLOW_LOOKUP_S:
        told = f"the lookup took {slow.took_s:.1f} s, and then all is well"
        facts = {"host": slow.host, "seconds": f"{slow.took_s:.1f}"}
        return Verdict(Code.DNS_SLOW, Confidence.CERTAIN, told, None, facts)
    broken = [
        each for each in judged if _is_v6(each.address) and not each.is_fine and each.code is not Code.CANNOT_TELL
    ]
    if broken and not _is_v6(best.address):
        told = f"{broken[0].address}: {broken[0].reason}"
        facts = {**best.facts, "other": broken[0].code.value}
        return Verdict(Code.OK_BUT_IPV6_BROKEN, Confidence.CERTAIN, told, best.address, facts)
    return best


def _is_v6(address: str | None) -> bool:
    return address is not None and ":" in address


_LOOKUPS: Final = {
    Lookup.NO_SUCH_NAME: (Code.DNS_NO_SUCH_NAME, "the resolver's own answer"),
    Lookup.UNAVAILABLE: (Code.DNS_UNAVAILABLE, "the resolver gave no answer within its time, or says: try again"),
    Lookup.UNUSABLE: (Code.DNS_SINKHOLE, "no host of this network has such an address"),
}


def _nameless(seen: Seen) -> Verdict:
    name = next((name for name in seen.names if name.lookup in _LOOKUPS), None)
    if name is None:
        return Verdict(Code.CANNOT_TELL, Confidence.POSSIBLE, seen.unchecked or "there is no address to try")
    code, told = _LOOKUPS[name.lookup]
    return Verdict(code, Confidence.CERTAIN, told, None, _named(name))


def _named(name: Name) -> dict[str, str]:
    return {"host": name.host, **({"other": ", ".join(name.left_out)} if name.left_out else {})}
