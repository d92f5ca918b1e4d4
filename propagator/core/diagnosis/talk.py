"""Why a connection that stands does not bring the registration: from a conversation to a verdict (FIREWALL.md §4).

An answer from too near comes before every other explanation: whoever speaks there is not the lead.
"""

from __future__ import annotations

from typing import Final

from propagator.core.diagnosis import before
from propagator.core.diagnosis.catalogue import Code, Confidence
from propagator.core.diagnosis.reach import facts, nearer
from propagator.core.diagnosis.seen import Address, Conversation, End, Stage, Talk
from propagator.core.diagnosis.verdict import Verdict

_CERTAIN, _PROBABLE = Confidence.CERTAIN, Confidence.PROBABLE

# X509_V_ERR_* of OpenSSL
_EXPIRED: Final = frozenset({10})
_NOT_YET: Final = frozenset({9})
_NAME: Final = frozenset({62, 64})
_UNKNOWN_CA: Final = frozenset({2, 7, 18, 19, 20, 21, 27})  # 7: of a CA of the same name, with another key

_CLIENT_CERTIFICATE: Final = "CERTIFICATE_REQUIRED"
_NO_TLS: Final = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST"})
_SYN: Final = 1
"""TCP counts its SYN among the acknowledged bytes."""


def judge(seen: Address, heard: Conversation) -> Verdict:
    """Say what a conversation shows; `OK` if everything came and was signed by the lead."""
    return _judge(seen, heard).knowing(**facts(seen), **_certificate(heard))


def _judge(seen: Address, heard: Conversation) -> Verdict:
    first = heard.first
    if first.end is End.DONE:
        return _idle(seen, heard) or _verdict(seen, Code.OK, _CERTAIN, "a full round trip")
    if (hop := intercepted_at(seen)) is not None:
        code = Code.TLS_INTERCEPTED if first.verify_code is not None else Code.INTERCEPTED
        told = f"the port answers at hop {hop}, where the way to the host still goes on"
        return _verdict(seen, code, _CERTAIN, told, hop=f" at hop {hop}")
    silent = first.end is End.TIMEOUT or _is_recovered(first, heard)
    found = _silence(seen, heard) if silent else _ended(seen, first, heard)
    return _in_its_place(seen, heard, found) or found


_ANYBODYS: Final = frozenset(
    {
        *(Code.SILENT_AFTER_CONNECT, Code.ACCEPTED_BUT_MUTE, Code.RESET_ON_PAYLOAD, Code.CLOSED_BEFORE_CONNACK),
        *(Code.NOT_MQTT, Code.TLS_NOT_TLS, Code.TLS_FAILED, Code.TLS_UNKNOWN_CA, Code.TLS_NAME_MISMATCH),
    }
)
"""What may be of the lead, or of anybody who answers in its place."""


def _in_its_place(seen: Address, heard: Conversation, found: Verdict) -> Verdict | None:
    """Say that somebody else answers, because it does so from nearer than the lead did, and has not its key."""
    if found.code not in _ANYBODYS or before.is_the_leads_key(seen.before, heard.certificate):
        return None
    if (near := before.nearer(seen)) is None:
        return None
    code = Code.TLS_INTERCEPTED if heard.first.verify_code is not None else Code.INTERCEPTED
    hop = None if seen.target is None else seen.target.arrival
    known = {} if hop is None else {"hop": f" at hop {hop}"}
    return _verdict(seen, code, _PROBABLE, f"{near} ({found.reason})", **known)


def _idle(seen: Address, heard: Conversation) -> Verdict | None:
    """Say whether the pause killed the connection: the first word after it is lost, and a new connection works."""
    idle, again = heard.idle, heard.again
    if idle is None or idle.end is End.DONE or again is None or again.end is not End.DONE:
        return None
    pause = f"{heard.idle_s:g}"
    if idle.end is End.TIMEOUT and idle.unacked > 0:
        told = f"after {pause} s without a word nothing of the next one was acknowledged, and a new connection works"
        return _verdict(seen, Code.IDLE_FLOW_KILLED, _CERTAIN, told, seconds=pause)
    if idle.end in {End.RESET, End.CLOSED}:
        told = f"the first word after {pause} s ended the connection, and a new one works"
        return _verdict(seen, Code.IDLE_FLOW_RESET, _CERTAIN, told, seconds=pause)
    return None


def intercepted_at(seen: Address) -> int | None:
    """Say at which hop somebody answers in the host's place; None if nothing shows that."""
    near = nearer(seen)
    return None if near is None else near[0]


def _is_recovered(first: Talk, heard: Conversation) -> bool:
    """Whether a record that did not come came with small segments."""
    return first.end is End.NOTHING and _is_farther(heard.small, first)


def _silence(seen: Address, heard: Conversation) -> Verdict:
    first, small, again = heard.first, heard.small, heard.again
    lost = sum(attempt.retransmits > 0 for attempt in seen.tries)
    if lost:
        told = "first packets were lost on the same way"
        return _verdict(seen, Code.FLAKY, _CERTAIN, told, other=f"{lost} of {len(seen.tries)} first packets")
    if first.end is End.TIMEOUT and first.sent == first.acked == 0:
        told = "it let us in a moment ago, and does not now"
        return _verdict(seen, Code.FLAKY, _PROBABLE, told, other="a connection that did not come about")
    later = small if _is_farther(small, first) and not _is_quick(small, first) else again
    if _is_farther(later, first):
        told = "the same conversation got farther a moment later"
        if first.unacked or first.gap:
            return _verdict(seen, Code.FLAKY, _CERTAIN, told, other="words of a conversation")
        told += "; a broker that was busy looks the same"
        return _verdict(seen, Code.FLAKY, _PROBABLE, told, other="words of a conversation")
    if _is_farther(small, first):
        if again is None:
            told = "it works with small segments; whether it still fails without was not seen"
            return _verdict(seen, Code.MTU_BLACKHOLE, _PROBABLE, told)
        told = "it works with small segments, and fails again without"
        return _verdict(seen, Code.MTU_BLACKHOLE, _CERTAIN, told)
    sure, with_small = (_PROBABLE, "") if small is None else (_CERTAIN, ", with small segments neither")
    if first.acked <= _SYN:
        told = f"none of our bytes was acknowledged{with_small}"
        return _verdict(seen, Code.SILENT_AFTER_CONNECT, sure, told)
    if first.unacked > 0:
        told = f"at the stage {first.stage} our words were not acknowledged any more{with_small}"
        return _verdict(seen, Code.SILENT_AFTER_CONNECT, sure, told)
    told = f"{first.acked - _SYN} bytes of ours were acknowledged, and no answer came"
    return _verdict(seen, Code.ACCEPTED_BUT_MUTE, sure, told)


_ORDER: Final = list(Stage)


def _is_farther(one: Talk | None, other: Talk) -> bool:
    return one is not None and (one.end is End.DONE or _ORDER.index(one.stage) > _ORDER.index(other.stage))


def _is_quick(small: Talk | None, first: Talk) -> bool:
    """Whether small segments soon did what large ones did not in all their time: else the answers are what is slow."""
    passed = () if small is None else small.passed
    return all(took_s < first.took_s / 2 for stage, took_s in passed if stage is first.stage)


def _ended(seen: Address, first: Talk, heard: Conversation) -> Verdict:
    match first.end:
        case End.TLS:
            return _tls(seen, first, heard)
        case End.CLOSED | End.RESET | End.NOT_MQTT if _is_other_way(first, heard):
            return _other_way(seen, first)
        case End.RESET if first.acked <= _SYN:
            told = "the reset came before any byte was acknowledged"
            return _verdict(seen, Code.RESET_ON_PAYLOAD, _CERTAIN, told)
        case End.CLOSED | End.RESET:
            return _hung_up(seen, first)
        case End.NOT_MQTT if first.stage in {Stage.TLS, Stage.MQTT}:
            return _not_mqtt(seen, first)
        case End.NOT_MQTT:
            told = f"the broker greeted, and does not keep to MQTT at the stage {first.stage}: {first.detail}"
            return _verdict(seen, Code.CANNOT_TELL, Confidence.POSSIBLE, told)
        case End.UNCHECKED:
            return _verdict(seen, Code.CANNOT_TELL, Confidence.POSSIBLE, first.detail or "it was not checked further")
        case End.NOTHING if first.stage is Stage.HEARTBEAT:
            told = "the record is there, and no heartbeat came within the time of this check"
            return _verdict(seen, Code.NO_HEARTBEAT, _PROBABLE, told)
        case _:
            return _verdict(seen, _PLAIN[first.end], _CERTAIN, first.detail or f"the broker's answer: {first.end}")


_PLAIN: Final = {
    End.REFUSED: Code.MQTT_REFUSED,
    End.SUBSCRIPTION: Code.MQTT_SUBSCRIBE_REFUSED,
    End.NOTHING: Code.NO_RECORD,
    End.UNTRUSTED: Code.NOT_THE_LEAD,
}


def _hung_up(seen: Address, first: Talk) -> Verdict:
    """Whoever hangs up gives no reason; at which stage it is may be one."""
    told = f"the connection was {first.end} at the stage {first.stage}"
    match first.stage:
        case Stage.AUTHORISED:
            told += "; many brokers hang up on a subscription that is not allowed"
            return _verdict(seen, Code.MQTT_SUBSCRIBE_REFUSED, _PROBABLE, told)
        case Stage.RECORD | Stage.HEARTBEAT:
            return _verdict(seen, Code.CANNOT_TELL, Confidence.POSSIBLE, f"{told}: the broker greeted, and hung up")
        case Stage.MQTT if _has_tls(first):
            told += "; a broker that wants a certificate of this server looks the same"
            return _verdict(seen, Code.CLOSED_BEFORE_CONNACK, _PROBABLE, told)
        case _:
            sure = _CERTAIN if first.end is End.CLOSED else _PROBABLE
            return _verdict(seen, Code.CLOSED_BEFORE_CONNACK, sure, told)


def _has_tls(first: Talk) -> bool:
    return any(stage is Stage.TLS for stage, _ in first.passed)


def _tls(seen: Address, first: Talk, heard: Conversation) -> Verdict:
    certificate = heard.certificate
    if first.verify_code is None:
        reason = first.tls_reason or ""
        if _CLIENT_CERTIFICATE in reason:
            return _verdict(seen, Code.TLS_CLIENT_CERT, _CERTAIN, "the broker says so in a TLS alert")
        if _is_other_way(first, heard):
            return _other_way(seen, first)
        if reason in _NO_TLS:
            return _not_mqtt(seen, first)
        return _verdict(seen, Code.TLS_FAILED, _CERTAIN, reason or "the handshake ended", other=reason or "no reason")
    told = f"the certificate was checked (verify code {first.verify_code})"
    if differs := before.compared(seen.before, certificate):
        told += f"; {differs}"
    if first.verify_code in _EXPIRED:
        until = "a past date" if certificate is None else f"{certificate.not_after:%Y-%m-%d}"
        return _verdict(seen, Code.TLS_EXPIRED, _CERTAIN, told, other=until)
    if first.verify_code in _NOT_YET:
        start = "a future date" if certificate is None else f"{certificate.not_before:%Y-%m-%d}"
        return _verdict(seen, Code.TLS_NOT_YET_VALID, _CERTAIN, told, other=start)
    if first.verify_code in _NAME:
        names = "other names" if certificate is None else ", ".join(certificate.names) or certificate.subject
        return _verdict(seen, Code.TLS_NAME_MISMATCH, _CERTAIN, told, other=names)
    if first.verify_code in _UNKNOWN_CA:
        return _verdict(seen, Code.TLS_UNKNOWN_CA, _CERTAIN, told)
    return _verdict(seen, Code.TLS_FAILED, _CERTAIN, told, other=first.detail or "no reason")


def _is_other_way(first: Talk, heard: Conversation) -> bool:
    """Whether it is answered the other way round; where TLS was spoken already, that says nothing."""
    return heard.other_way and not _has_tls(first)


def _other_way(seen: Address, first: Talk) -> Verdict:
    """With TLS left out (or put on) it is answered. A conversation begins with the stage tls only where TLS is used."""
    code = Code.TLS_NOT_TLS if first.stage is Stage.TLS else Code.TLS_WANTED
    return _verdict(seen, code, _CERTAIN, "the other way round it is answered")


def _not_mqtt(seen: Address, first: Talk) -> Verdict:
    return _verdict(seen, Code.NOT_MQTT, _CERTAIN, first.detail or "the first byte is none that a broker sends")


def _certificate(heard: Conversation) -> dict[str, str]:
    return {} if heard.certificate is None else {"issuer": heard.certificate.issuer}


def _verdict(seen: Address, code: Code, confidence: Confidence, reason: str, **known: str) -> Verdict:
    return Verdict(code, confidence, reason, seen.address, known)
