"""A verdict as JSON, as `status` shows it, reports carry it and `diagnose` prints it (DESIGN §9)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from propagator.core.diagnosis import Code, Confidence, Side, Verdict, advice

if TYPE_CHECKING:
    from propagator.core.diagnosis.seen import Filter
    from propagator.core.difference import JsonObject, JsonValue

SCHEMA: Final = 1


def finding(verdict: Verdict, found: Filter | None = None, at: str = "") -> JsonObject:
    """Tell a verdict as JSON. `found` is the lead's filter, where it was read; `at` when all this was seen."""
    entry = verdict.entry
    remedies: list[JsonValue] = [
        {
            "tool": str(each.tool),
            "where": each.where,
            "commands": list(each.commands),
            "undo": list(each.undo),
            "look": list(each.look),
        }
        for each in advice.remedies(verdict, found)
    ]
    return {
        "code": verdict.code.value,
        "title": entry.title,
        "cause": verdict.cause,
        "confidence": verdict.confidence.value,
        "reason": verdict.reason,
        "settled_by": verdict.settled_by,
        "address": verdict.address,
        "facts": dict(verdict.facts),
        "side": entry.side.value,
        "remedies": remedies,
        "ticket": advice.ticket_text(verdict, at),
    }


def verdict_of(told: JsonObject) -> Verdict:
    """Read a verdict out of a finding, as `finding` tells it: from another process, or another program's version."""
    try:
        code, sure = Code(str(told.get("code"))), Confidence(str(told.get("confidence")))
    except ValueError:
        return Verdict(Code.CANNOT_TELL, Confidence.POSSIBLE, "what was found has no name that is known here")
    address, facts = told.get("address"), told.get("facts")
    known = {str(key): str(value) for key, value in facts.items()} if isinstance(facts, dict) else {}
    return Verdict(code, sure, str(told.get("reason", "")), str(address) if address is not None else None, known)


def as_root(verdict: Verdict) -> str:
    """Say what more could be told with more rights; empty if nothing."""
    if verdict.code is Code.CANNOT_TELL:
        return "run it as root, or as the service's user: then the account at the lead can be used"
    if verdict.entry.side is Side.HERE and verdict.code.value.startswith("OWN_FIREWALL"):
        return "nft list ruleset: which of this server's own rules it is"
    far = "gateway" in verdict.facts and "ttl" not in verdict.facts
    if far and verdict.code in _ANSWERED and verdict.confidence is not Confidence.CERTAIN:
        seen = f"host {verdict.address} and port {verdict.facts.get('port', '')}"
        return f"tcpdump -nvi any '{seen}', meanwhile: the TTL of the answer, which was not checked"
    return ""


_ANSWERED: Final = frozenset({Code.PORT_CLOSED, Code.REJECTED_ON_PATH, Code.INTERCEPTED, Code.TLS_INTERCEPTED})
"""Verdicts on an answer, of which it counts from how far it comes."""
