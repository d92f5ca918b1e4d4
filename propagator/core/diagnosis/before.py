"""What the last good picture of a way says of what answers now: the lead, or somebody else in its place. Pure.

Two witnesses know how far an answer comes from: the hop at which the port answers, and the TTL that its answers arrive
with. Neither counts against the other. Ways change, too, so that alone is never certain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from propagator.core.diagnosis.seen import Address, Certificate, Picture

_BEGINNINGS: Final = (64, 128, 255)
"""The TTL that systems send with: of Linux and the BSDs, of Windows, of many routers."""


def hops_of(ttl: int) -> int:
    """How many hops away whoever sent a packet is that arrives with this TTL."""
    return next(begin for begin in _BEGINNINGS if begin >= ttl) - ttl + 1


def nearer(seen: Address) -> str | None:
    """Say how what answers now is nearer than the lead was; None if it is not, or nothing is known to compare."""
    then = seen.before
    if then is None:
        return None
    hop = None if seen.target is None else seen.target.arrival
    now, was = [], []
    witnesses = ("at hop {}", hop, then.hops, int), ("with a TTL of {}", seen.ttl, then.ttl, hops_of)
    for text, value, former, far in witnesses:
        if value is None or former is None:
            continue
        if far(value) >= far(former):
            return None
        now.append(text.format(value))
        was.append(text.format(former))
    if not now:
        return None
    return f"the answer comes {', '.join(now)}; on {then.at} the lead's came {', '.join(was)}"


def is_the_leads_key(then: Picture | None, shown: Certificate | None) -> bool:
    """Whether what shows this certificate has the key that the lead had: a handshake under it proves that."""
    former = None if then is None else then.certificate
    return former is not None and shown is not None and bool(shown.key) and shown.key == former.key


def compared(then: Picture | None, shown: Certificate | None) -> str:
    """Say how a certificate that is shown differs from the lead's last good one; empty where either is not known."""
    former = None if then is None else then.certificate
    if then is None or former is None or shown is None:
        return ""
    if shown.fingerprint == former.fingerprint:
        return f"it is the lead's own of {then.at}, which held then: it ran out, or the CA known here has changed"
    if is_the_leads_key(then, shown):
        return f"it has the key that the lead's had on {then.at}, then certified by {former.issuer}: the lead, renewed"
    if shown.issuer == former.issuer:
        return (
            f"on {then.at} the lead's had another key, and an issuer of the same name: a lead that was set up anew"
            " makes such a CA, and so may anybody"
        )
    return f"on {then.at} the lead's was issued by {former.issuer}, with another key"
