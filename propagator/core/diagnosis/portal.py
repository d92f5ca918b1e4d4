"""Why the Registration Portal is not reached: from what was seen of the way to it to one verdict. Pure.

The stages in their order, each with its rules; the first stage that did not go well decides, for a cause hides its
symptoms. With a proxy the name and the address that are looked at are the proxy's: it finds the portal by itself.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from propagator.core.diagnosis import reach
from propagator.core.diagnosis.codes import Code, Confidence
from propagator.core.diagnosis.seen import End, Lookup
from propagator.core.diagnosis.verdict import Verdict

if TYPE_CHECKING:
    from propagator.core.diagnosis.seen import Address, Certificate, Name

_CERTAIN, _PROBABLE, _POSSIBLE = Confidence.CERTAIN, Confidence.PROBABLE, Confidence.POSSIBLE


class PortalStage(StrEnum):
    """The stages of the way to a portal, in their order."""

    PROXY = "proxy"
    RESOLVE = "resolve"
    TCP = "tcp"
    TLS = "tls"
    HTTP = "http"
    API = "api"
    KEY = "key"
    RIGHT = "right"


@dataclass(frozen=True, slots=True)
class ProxySeen:
    """What came of asking a proxy to connect us. `status` None: it gave no answer that is one of a proxy.

    `end` says how a try without a status ended, `garbled` that it said something else; `server` what it calls itself.
    """

    address: str
    source: str
    end: End = End.DONE
    garbled: bool = False
    status: int | None = None
    reason: str = ""
    server: str = ""


@dataclass(frozen=True, slots=True)
class Handshake:
    """One TLS handshake with what answers as the portal.

    `certificate` is what it shows, believed or not; `server_time` what its answer names as the time, read without
    trust; `now` our own clock. `minted`: under a name that nobody has, it showed a certificate for that name, too,
    of the same issuer. `other_name`: under such a name the handshake went on.
    """

    end: End
    now: dt.datetime
    verify_code: int | None = None
    tls_reason: str = ""
    certificate: Certificate | None = None
    server_time: dt.datetime | None = None
    minted: bool = False
    other_name: bool = False
    own_ca: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """One answer over HTTP. `is_json`: it is read as JSON; `word` the error that it names; `trouble`: none came."""

    status: int = 0
    is_json: bool = False
    is_page: bool = False
    server: str = ""
    via: str = ""
    location: str = ""
    word: str = ""
    trouble: str = ""
    timed_out: bool = False


@dataclass(frozen=True, slots=True)
class PortalSeen:
    """All that was seen of the way to a portal. What was not looked at is None, or empty.

    `about` is the answer to the question who it is, `key` the thumbprint that it shows, `trusted` the one that this
    server trusts; `right` the answer to the question for the registration.
    """

    portal: str
    host: str
    port: int
    proxy: ProxySeen | None = None
    name: Name | None = None
    addresses: tuple[Address, ...] = ()
    handshake: Handshake | None = None
    about: Page | None = None
    key: str | None = None
    trusted: str | None = None
    right: Page | None = None
    unchecked: str = ""
    setting: str = ""
    facts: dict[str, str] = field(default_factory=dict)


def judge(seen: PortalSeen) -> Verdict:
    """Make the one verdict: the first stage that did not go well, or that all is well as far as it was looked at."""
    for rule in (_setting, _name, _address, _proxy, _tls, _answer, _key, _right, _unfinished):
        if (verdict := rule(seen)) is not None:
            return verdict.knowing(**_facts(seen))
    return Verdict(Code.PORTAL_OK, _CERTAIN, _all_well(seen)).knowing(**_facts(seen))


def _facts(seen: PortalSeen) -> dict[str, str]:
    known = {"portal": seen.portal, "host": seen.host, "port": str(seen.port), **seen.facts}
    if seen.proxy is not None:
        known |= {"proxy": seen.proxy.address, "source": seen.proxy.source}
    route = next((address.route for address in seen.addresses if address.route is not None), None)
    if route is not None and route.network:
        known["network"] = route.network
    return known


def _all_well(seen: PortalSeen) -> str:
    told = ["it answers as a portal"]
    told += ["with the key that this server trusts"] if seen.trusted is not None else []
    told += ["and it knows this server"] if seen.right is not None else []
    return ", ".join(told)


def _setting(seen: PortalSeen) -> Verdict | None:
    if not seen.setting:
        return None
    return Verdict(Code.PORTAL_SETTING, _CERTAIN, "it was read, and cannot be used", None, {"other": seen.setting})


# Name and address: the portal's, or the proxy's.

_LOOKUPS: Final = {
    Lookup.NO_SUCH_NAME: (Code.PORTAL_NO_SUCH_NAME, "the resolver's own answer"),
    Lookup.UNAVAILABLE: (Code.PORTAL_NAME_UNANSWERED, "the resolver gave no answer within its time"),
    Lookup.UNUSABLE: (Code.PORTAL_NAME_BLOCKED, "no host has such an address"),
}


def _name(seen: PortalSeen) -> Verdict | None:
    name = seen.name
    if name is None or name.lookup is Lookup.FOUND:
        return None
    code, told = _LOOKUPS[name.lookup]
    if seen.proxy is not None:
        return Verdict(Code.PORTAL_PROXY_UNKNOWN, _CERTAIN, told)
    facts = {"other": ", ".join(name.left_out)} if name.left_out else {}
    return Verdict(code, _CERTAIN, told, None, facts)


_REACH: Final = {
    Code.NO_ROUTE_LOCAL: Code.PORTAL_NO_ROUTE,
    Code.OWN_FIREWALL_DROPS: Code.PORTAL_OWN_FIREWALL,
    Code.OWN_FIREWALL_REJECTS: Code.PORTAL_OWN_FIREWALL,
    Code.OWN_FIREWALL_DROPS_REPLY: Code.PORTAL_OWN_FIREWALL,
    Code.GATEWAY_DOWN: Code.PORTAL_UNREACHABLE,
    Code.HOST_DOWN_ONLINK: Code.PORTAL_UNREACHABLE,
    Code.HOST_UNREACHABLE: Code.PORTAL_UNREACHABLE,
    Code.NET_UNREACHABLE: Code.PORTAL_UNREACHABLE,
    Code.REJECTED_ON_PATH: Code.PORTAL_REJECTED,
    Code.REJECTED_BY_FIREWALL: Code.PORTAL_REJECTED,
    Code.DROPPED_ON_PATH: Code.PORTAL_DROPPED,
    Code.DROPPED_AT_LEAD_OR_LAST_HOP: Code.PORTAL_DROPPED,
    Code.LEAD_FIREWALL_DROPS: Code.PORTAL_DROPPED,
    Code.NO_ANSWER_AT_ALL: Code.PORTAL_DROPPED,
    Code.PORT_CLOSED: Code.PORTAL_CLOSED,
}
"""What is seen of an address means the same for a portal as for a lead; the words and the remedies are others."""

_SURE: Final = list(Confidence)


def _address(seen: PortalSeen) -> Verdict | None:
    if not seen.addresses or any(address.connected for address in seen.addresses):
        return None
    judged = [found for address in seen.addresses if (found := reach.judge(address)) is not None]
    found = min(judged, key=lambda verdict: _SURE.index(verdict.confidence))
    if seen.proxy is not None:
        return Verdict(Code.PORTAL_PROXY_AWAY, _CERTAIN, f"{found.reason} ({found.code})", found.address, found.facts)
    code = _REACH.get(found.code, Code.CANNOT_TELL)
    own = {"source": "this server's own kernel"} if code is Code.PORTAL_UNREACHABLE else {}
    sure = _least_sure(code, found.confidence)
    return Verdict(code, sure, found.reason, found.address, found.facts).knowing(**own)


def _least_sure(code: Code, sure: Confidence) -> Confidence:
    """A code that is never certain for a portal stays what it is at most."""
    return _PROBABLE if code is Code.PORTAL_DROPPED and sure is _CERTAIN else sure


_NO_TUNNEL: Final = 400
_WANTS_ACCOUNT: Final = 407
_FAILS: Final = 500


def _proxy(seen: PortalSeen) -> Verdict | None:
    proxy = seen.proxy
    if proxy is None or (proxy.status is not None and 200 <= proxy.status < 300):  # noqa: PLR2004  it connects us
        return None
    if proxy.status is None:
        if proxy.end is End.TIMEOUT:
            return Verdict(Code.PORTAL_PROXY_MUTE, _CERTAIN, "no answer to CONNECT within its time")
        if proxy.end is End.DONE and not proxy.garbled:  # it was not asked at all
            return None
        told = "its answer is none in HTTP" if proxy.garbled else "it hangs up at CONNECT"
        return Verdict(Code.PORTAL_PROXY_IS_NONE, _CERTAIN, told)
    named = f", {proxy.server}" if proxy.server else ""
    facts = {"other": f"{proxy.status} {proxy.reason}".strip() + named}
    told = f"its answer to CONNECT: {facts['other']}"
    if proxy.status == _WANTS_ACCOUNT:
        return Verdict(Code.PORTAL_PROXY_ACCOUNT, _CERTAIN, told, None, facts)
    if proxy.status >= _FAILS:
        return Verdict(Code.PORTAL_PROXY_FAILS, _CERTAIN, told, None, facts)
    if proxy.status in {404, 405, 501} or proxy.status < _NO_TUNNEL:
        return Verdict(Code.PORTAL_PROXY_IS_NONE, _CERTAIN, told, None, facts)
    return Verdict(Code.PORTAL_PROXY_REFUSES, _CERTAIN, told, None, facts)


# TLS.

# X509_V_ERR_* of OpenSSL
_EXPIRED: Final = 10
_NOT_YET: Final = 9
_NAME: Final = frozenset({62, 64})
_NO_TLS: Final = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST"})

MADE: Final = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
"""Before this program was written no clock that is right can have stood."""

_AGREE: Final = dt.timedelta(minutes=10)

_OPENERS: Final = re.compile(
    r"\b(avast|barracuda|bitdefender|blue ?coat|burp|charles proxy|check point|cisco|cloudflare gateway|eset|fiddler"
    r"|forcepoint|forti(gate|net)|iboss|kaspersky|mcafee|mitmproxy|netskope|palo alto|securly|skyhigh|smoothwall"
    r"|sonicwall|sophos|squid|symantec web|trellix|trend micro|umbrella|untangle|watchguard|zscaler)\b",
    re.IGNORECASE,
)
"""Words in the names of those who open TLS on the way: makers of web filters and of virus scanners."""


def _tls(seen: PortalSeen) -> Verdict | None:
    shake = seen.handshake
    if shake is None or shake.end is End.DONE:
        return None
    if shake.verify_code is not None:
        verdict = _certificate(shake, shake.verify_code)
    elif shake.tls_reason in _NO_TLS:
        verdict = Verdict(Code.PORTAL_NOT_TLS, _CERTAIN, f"the TLS library says {shake.tls_reason}")
    elif shake.end in {End.RESET, End.CLOSED, End.TIMEOUT}:
        verdict = _cut(shake)
    else:
        told = shake.tls_reason or "the handshake ended"
        verdict = Verdict(Code.PORTAL_TLS_FAILED, _CERTAIN, told, None, {"other": told})
    return verdict if shake.certificate is None else verdict.knowing(issuer=shake.certificate.issuer)


def _cut(shake: Handshake) -> Verdict:
    """Tell a filter that reads names from a host that hangs up."""
    told = {End.TIMEOUT: "nothing comes back", End.RESET: "a reset comes back"}.get(shake.end, "it is closed")
    if shake.other_name:
        told = f"at our first word {told}, and under a name that nobody has the handshake goes on"
        return Verdict(Code.PORTAL_TLS_BLOCKED, _CERTAIN, told)
    if shake.end is End.TIMEOUT:
        return Verdict(Code.PORTAL_MUTE, _PROBABLE, "the handshake was begun, and nothing came back")
    return Verdict(Code.PORTAL_TLS_BLOCKED, _PROBABLE, f"at our first word {told}; a host that is ill looks the same")


def _certificate(shake: Handshake, code: int) -> Verdict:
    told = f"the certificate was checked (verify code {code})"
    if shake.minted:
        told = "a name that nobody has gets a certificate of the same issuer at once"
        return Verdict(Code.PORTAL_TLS_INTERCEPTED, _CERTAIN, told)
    if code in {_EXPIRED, _NOT_YET}:
        return _dates(shake, code)
    if code in _NAME:
        names = "other names" if shake.certificate is None else ", ".join(shake.certificate.names)
        facts = {"other": names or "no name at all"}
        return Verdict(Code.PORTAL_TLS_NAME_MISMATCH, _CERTAIN, told, None, facts)
    issuer = "" if shake.certificate is None else shake.certificate.issuer
    if _OPENERS.search(issuer):
        return Verdict(Code.PORTAL_TLS_INTERCEPTED, _PROBABLE, f"{issuer} is known for opening TLS")
    if shake.own_ca:
        told = "a CA was given for this portal, and the certificate is of another"
        return Verdict(Code.PORTAL_TLS_INTERCEPTED, _PROBABLE, told)
    told += "; a device that opens TLS and signs for no name but this one looks the same"
    return Verdict(Code.PORTAL_TLS_UNKNOWN_CA, _PROBABLE, told)


def _dates(shake: Handshake, code: int) -> Verdict:
    """Tell a clock that is wrong here from a certificate that is wrong there."""
    ours, theirs, shown = shake.now, shake.server_time, shake.certificate
    clock = {"other": f"{ours:%Y-%m-%d %H:%M}"}
    if ours < MADE:
        return Verdict(Code.PORTAL_CLOCK, _CERTAIN, f"this program was made on {MADE:%Y-%m-%d}", None, clock)
    if theirs is not None and shown is not None and shown.not_before <= theirs <= shown.not_after:
        told = f"what answers says that it is {theirs:%Y-%m-%d %H:%M}, and then the certificate is valid"
        return Verdict(Code.PORTAL_CLOCK, _PROBABLE, told, None, clock)
    agrees = theirs is not None and abs(theirs - ours) <= _AGREE
    if code == _EXPIRED:
        facts = {"other": "a past date" if shown is None else f"{shown.not_after:%Y-%m-%d}"}
        told = "what answers says the same time as this server" if agrees else "by this server's clock"
        return Verdict(Code.PORTAL_TLS_EXPIRED, _CERTAIN if agrees else _PROBABLE, told, None, facts)
    if agrees:
        facts = {"other": "a future date" if shown is None else f"{shown.not_before:%Y-%m-%d}"}
        told = "what answers says the same time as this server"
        return Verdict(Code.PORTAL_TLS_NOT_YET_VALID, _CERTAIN, told, None, facts)
    return Verdict(Code.PORTAL_CLOCK, _PROBABLE, "certificates are rarely made for days to come", None, clock)


# HTTP, and what a portal says.

_OK: Final = 200
_NOT_MODIFIED: Final = 304
_NOT_FOUND: Final = 404
_UNAUTHORISED: Final = 401
_GONE: Final = 410
_TOO_MANY: Final = 429


def _answer(seen: PortalSeen) -> Verdict | None:
    return None if seen.about is None or seen.key is not None else _of_page(seen, seen.about)


def _of_page(seen: PortalSeen, page: Page) -> Verdict:
    """Say what answers in a way that a portal that is well would not."""
    if page.trouble:
        code = Code.PORTAL_MUTE if page.timed_out else Code.PORTAL_IS_NONE
        sure = _PROBABLE if page.timed_out else _CERTAIN
        return Verdict(code, sure, page.trouble, None, {"other": page.trouble})
    status = f"status {page.status}"
    if page.is_page and (page.status < _FAILS or page.status == 511) and page.status != _NOT_FOUND:  # noqa: PLR2004  RFC 6585
        return Verdict(Code.PORTAL_PAGE, _CERTAIN, f"{status}, and no JSON", None, {"other": _who(seen, page)})
    if page.status >= _FAILS or page.status == _TOO_MANY:
        by = f", by {page.server}" if page.server else ""
        return Verdict(Code.PORTAL_FAILS, _CERTAIN, f"{status}{by}", None, {"other": f"{status}{by}"})
    told = f"{status}, {'JSON of another kind' if page.is_json else 'no JSON'}"
    return Verdict(Code.PORTAL_IS_NONE, _CERTAIN, told, None, {"other": told})


def _who(seen: PortalSeen, page: Page) -> str:
    """Name who sent a page, as far as it says so; who signs its certificate says it, too."""
    told = [each for each in (page.server, page.via) if each]
    told += [f"it leads to {page.location}"] if page.location else []
    certificate = None if seen.handshake is None else seen.handshake.certificate
    told += [f"certificate of {certificate.issuer}"] if certificate is not None else []
    return f" ({'; '.join(told)})" if told else ""


def _key(seen: PortalSeen) -> Verdict | None:
    if seen.key is None or seen.trusted is None or seen.key == seen.trusted:
        return None
    told = f"this server trusts {seen.trusted}"
    return Verdict(Code.PORTAL_KEY_CHANGED, _CERTAIN, told, None, {"other": seen.key})


def _right(seen: PortalSeen) -> Verdict | None:
    page = seen.right
    if page is None or page.status == _NOT_MODIFIED or (page.status == _OK and page.is_json):
        return None
    if page.status == _UNAUTHORISED and page.is_json:
        return Verdict(Code.PORTAL_RIGHT_REFUSED, _CERTAIN, "its answer: 401")
    if page.status == _GONE and page.word == "associated_elsewhere":
        return Verdict(Code.PORTAL_MOVED, _CERTAIN, "its answer: 410, associated_elsewhere")
    return _of_page(seen, page)


def _unfinished(seen: PortalSeen) -> Verdict | None:
    return Verdict(Code.CANNOT_TELL, _POSSIBLE, seen.unchecked) if seen.unchecked else None
