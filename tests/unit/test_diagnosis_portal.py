"""The way to a portal, as a table: what was seen, and the one verdict that it gives."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

import pytest

from propagator.core.diagnosis import Code, Confidence, Side
from propagator.core.diagnosis.advice import remedies, ticket_text
from propagator.core.diagnosis.portal import MADE, Handshake, Page, PortalSeen, ProxySeen, judge
from propagator.core.diagnosis.portal_catalogue import CONFIDENCE, ENTRIES
from propagator.core.diagnosis.seen import (
    Address,
    Answer,
    Attempt,
    Certificate,
    End,
    Icmp,
    Ladder,
    Lookup,
    Name,
    Neighbour,
    Route,
)

NOW = MADE + dt.timedelta(days=100)
DAY = dt.timedelta(days=1)
CERTAIN, PROBABLE, POSSIBLE = Confidence.CERTAIN, Confidence.PROBABLE, Confidence.POSSIBLE

ROUTE = Route("10.1.0.2", "10.1.0.1", "eth0", "10.1.0.0/24")
OPEN = Address("192.0.2.9", 443, ROUTE, (Attempt(Answer.CONNECTED),))
CERTIFICATE = Certificate("CN=portal", "CN=Example CA", ("portal.example",), NOW - 30 * DAY, NOW + 30 * DAY, "f" * 64)
KEY, OTHER_KEY = "k" * 43, "o" * 43

SILENT = Attempt(Answer.SILENT, 3.3, retransmits=2)
WELL = PortalSeen(
    "https://portal.example",
    "portal.example",
    443,
    name=Name("portal.example", Lookup.FOUND, ("192.0.2.9",)),
    addresses=(OPEN,),
    handshake=Handshake(End.DONE, NOW, certificate=CERTIFICATE),
    about=Page(200, is_json=True),
    key=KEY,
    trusted=KEY,
    right=Page(304),
)
PROXY = ProxySeen("proxy.example:3128", "$HTTPS_PROXY", status=200)


def seen(**more: Any) -> PortalSeen:
    return replace(WELL, **more)


def address(*tries: Attempt, **more: Any) -> PortalSeen:
    return seen(addresses=(Address("192.0.2.9", 443, ROUTE, tries, **more),), handshake=None, about=None, key=None)


def proxy(**more: Any) -> PortalSeen:
    return seen(proxy=replace(PROXY, **more), handshake=None, about=None, key=None)


def shaken(verify_code: int | None = None, end: End = End.TLS, **more: Any) -> PortalSeen:
    made = replace(Handshake(end, NOW, verify_code, certificate=CERTIFICATE), **more)
    return seen(handshake=made, about=None, key=None)


def issued_by(issuer: str) -> Certificate:
    return replace(CERTIFICATE, issuer=issuer)


def dated(begins: int, ends: int) -> Certificate:
    return replace(CERTIFICATE, not_before=NOW + begins * DAY, not_after=NOW + ends * DAY)


def page(status: int = 200, **more: Any) -> PortalSeen:
    return seen(about=replace(Page(status), **more), key=None, right=None)


HTML: dict[str, Any] = {"is_page": True, "server": "squid/5.7", "via": "1.1 cache"}
LADDER = Ladder("port 443", (Attempt(Answer.EXPIRED, source="10.1.0.1"), SILENT, SILENT, SILENT, SILENT))
FARTHER = Ladder(
    "UDP",
    (
        Attempt(Answer.EXPIRED, source="10.1.0.1"),
        Attempt(Answer.EXPIRED, source="10.2.0.1"),
        Attempt(Answer.REJECTED, icmp=Icmp.PORT, source="192.0.2.9"),
    ),
)

TABLE = [
    ("all is well", WELL, Code.PORTAL_OK, CERTAIN),
    ("no key is known yet", seen(trusted=None, right=None), Code.PORTAL_OK, CERTAIN),
    ("all is well by a proxy", seen(proxy=PROXY), Code.PORTAL_OK, CERTAIN),
    ("the proxy that is set is none", seen(setting="it is a socks5"), Code.PORTAL_SETTING, CERTAIN),
    # the proxy
    (
        "the proxy's name is unknown",
        seen(proxy=ProxySeen("p:1", "x"), name=Name("p", Lookup.NO_SUCH_NAME)),
        Code.PORTAL_PROXY_UNKNOWN,
        CERTAIN,
    ),
    (
        "the proxy's port is closed",
        replace(address(Attempt(Answer.RESET, errno=111)), proxy=ProxySeen("p:1", "x")),
        Code.PORTAL_PROXY_AWAY,
        CERTAIN,
    ),
    (
        "the proxy is silent",
        replace(address(SILENT), proxy=ProxySeen("p:1", "x")),
        Code.PORTAL_PROXY_AWAY,
        CERTAIN,
    ),
    ("the proxy swallows", proxy(status=None, end=End.TIMEOUT), Code.PORTAL_PROXY_MUTE, CERTAIN),
    ("the proxy hangs up", proxy(status=None, end=End.CLOSED), Code.PORTAL_PROXY_IS_NONE, CERTAIN),
    ("the proxy resets", proxy(status=None, end=End.RESET), Code.PORTAL_PROXY_IS_NONE, CERTAIN),
    ("the proxy speaks something else", proxy(status=None, garbled=True), Code.PORTAL_PROXY_IS_NONE, CERTAIN),
    ("a web server stands there", proxy(status=405), Code.PORTAL_PROXY_IS_NONE, CERTAIN),
    ("a web server leads elsewhere", proxy(status=302), Code.PORTAL_PROXY_IS_NONE, CERTAIN),
    ("the proxy wants an account", proxy(status=407), Code.PORTAL_PROXY_ACCOUNT, CERTAIN),
    ("the proxy forbids it", proxy(status=403), Code.PORTAL_PROXY_REFUSES, CERTAIN),
    ("the proxy does not get there", proxy(status=502), Code.PORTAL_PROXY_FAILS, CERTAIN),
    # the name
    (
        "there is no such name",
        seen(name=Name("portal.example", Lookup.NO_SUCH_NAME)),
        Code.PORTAL_NO_SUCH_NAME,
        CERTAIN,
    ),
    (
        "no name server answers",
        seen(name=Name("portal.example", Lookup.UNAVAILABLE)),
        Code.PORTAL_NAME_UNANSWERED,
        CERTAIN,
    ),
    (
        "a filter bends the name",
        seen(name=Name("portal.example", Lookup.UNUSABLE, (), ("224.0.0.1",))),
        Code.PORTAL_NAME_BLOCKED,
        CERTAIN,
    ),
    # the way
    ("no route", seen(addresses=(Address("192.0.2.9", 443, None),)), Code.PORTAL_NO_ROUTE, CERTAIN),
    ("our own rules drop it", address(SILENT, unsent=2), Code.PORTAL_OWN_FIREWALL, CERTAIN),
    ("our own rules deny it", address(Attempt(Answer.DENIED, errno=1)), Code.PORTAL_OWN_FIREWALL, CERTAIN),
    ("our own rules drop the answer", address(SILENT, swallowed=3), Code.PORTAL_OWN_FIREWALL, CERTAIN),
    (
        "the gateway is down",
        address(SILENT, neighbour=Neighbour.FAILED),
        Code.PORTAL_UNREACHABLE,
        CERTAIN,
    ),
    (
        "a router knows no way",
        address(Attempt(Answer.REJECTED, icmp=Icmp.NET, source="10.1.0.1")),
        Code.PORTAL_UNREACHABLE,
        CERTAIN,
    ),
    (
        "a router rejects",
        address(Attempt(Answer.REJECTED, icmp=Icmp.PROHIBITED, source="10.1.0.1")),
        Code.PORTAL_REJECTED,
        CERTAIN,
    ),
    ("nothing answers", address(SILENT), Code.PORTAL_DROPPED, POSSIBLE),
    ("it is lost on the way", address(SILENT, target=LADDER, control=FARTHER), Code.PORTAL_DROPPED, PROBABLE),
    ("the port is closed", address(Attempt(Answer.RESET, errno=111)), Code.PORTAL_CLOSED, PROBABLE),
    (
        "one address is silent and another one lets us in",
        seen(addresses=(Address("192.0.2.8", 443, ROUTE, (SILENT,)), OPEN)),
        Code.PORTAL_OK,
        CERTAIN,
    ),
    # TLS
    ("a CA that is not known", shaken(20), Code.PORTAL_TLS_UNKNOWN_CA, PROBABLE),
    ("it signs itself", shaken(18), Code.PORTAL_TLS_UNKNOWN_CA, PROBABLE),
    ("a name that nobody has is signed, too", shaken(20, minted=True), Code.PORTAL_TLS_INTERCEPTED, CERTAIN),
    (
        "an opener's own name",
        shaken(20, certificate=issued_by("O=Fortinet,CN=FGT60F")),
        Code.PORTAL_TLS_INTERCEPTED,
        PROBABLE,
    ),
    (
        "a town that is called like one",
        shaken(20, certificate=issued_by("L=San Francisco,CN=Example")),
        Code.PORTAL_TLS_UNKNOWN_CA,
        PROBABLE,
    ),
    ("another CA than the one that was given", shaken(20, own_ca=True), Code.PORTAL_TLS_INTERCEPTED, PROBABLE),
    ("another name", shaken(62), Code.PORTAL_TLS_NAME_MISMATCH, CERTAIN),
    ("another address", shaken(64), Code.PORTAL_TLS_NAME_MISMATCH, CERTAIN),
    (
        "expired, and the clocks agree",
        shaken(10, certificate=dated(-90, -1), server_time=NOW),
        Code.PORTAL_TLS_EXPIRED,
        CERTAIN,
    ),
    ("expired, by our clock alone", shaken(10, certificate=dated(-90, -1)), Code.PORTAL_TLS_EXPIRED, PROBABLE),
    (
        "expired here, valid by the other clock",
        shaken(10, certificate=dated(-90, -1), server_time=NOW - 10 * DAY),
        Code.PORTAL_CLOCK,
        PROBABLE,
    ),
    (
        "not yet valid here, valid by the other clock",
        shaken(9, certificate=dated(1, 90), server_time=NOW + 2 * DAY),
        Code.PORTAL_CLOCK,
        PROBABLE,
    ),
    ("not yet valid, by our clock alone", shaken(9, certificate=dated(1, 90)), Code.PORTAL_CLOCK, PROBABLE),
    (
        "not yet valid, and the clocks agree",
        shaken(9, certificate=dated(1, 90), server_time=NOW),
        Code.PORTAL_TLS_NOT_YET_VALID,
        CERTAIN,
    ),
    (
        "a clock of 1970",
        shaken(9, now=dt.datetime(1970, 1, 1, 4, tzinfo=dt.UTC), certificate=dated(1, 90)),
        Code.PORTAL_CLOCK,
        CERTAIN,
    ),
    ("no TLS there", shaken(tls_reason="WRONG_VERSION_NUMBER", certificate=None), Code.PORTAL_NOT_TLS, CERTAIN),
    ("the handshake fails", shaken(tls_reason="NO_SHARED_CIPHER", certificate=None), Code.PORTAL_TLS_FAILED, CERTAIN),
    ("reset at the name", shaken(end=End.RESET, other_name=True), Code.PORTAL_TLS_BLOCKED, CERTAIN),
    ("closed at the name", shaken(end=End.CLOSED, other_name=True), Code.PORTAL_TLS_BLOCKED, CERTAIN),
    ("silent at the name", shaken(end=End.TIMEOUT, other_name=True), Code.PORTAL_TLS_BLOCKED, CERTAIN),
    ("reset whatever the name", shaken(end=End.RESET, certificate=None), Code.PORTAL_TLS_BLOCKED, PROBABLE),
    ("silent whatever the name", shaken(end=End.TIMEOUT, certificate=None), Code.PORTAL_MUTE, PROBABLE),
    # what it says
    ("no answer", page(0, trouble="no answer within 6 s", timed_out=True), Code.PORTAL_MUTE, PROBABLE),
    ("no HTTP", page(0, trouble="answers, and not in HTTP"), Code.PORTAL_IS_NONE, CERTAIN),
    ("a page for logging on", page(200, **HTML), Code.PORTAL_PAGE, CERTAIN),
    ("a page that leads elsewhere", page(302, is_page=True, location="http://log.on"), Code.PORTAL_PAGE, CERTAIN),
    ("a page that says blocked", page(403, **HTML), Code.PORTAL_PAGE, CERTAIN),
    ("a page that wants a log-on", page(511, **HTML), Code.PORTAL_PAGE, CERTAIN),
    ("another web server", page(404, **HTML), Code.PORTAL_IS_NONE, CERTAIN),
    ("another program", page(200, is_json=True), Code.PORTAL_IS_NONE, CERTAIN),
    ("plain text", page(200), Code.PORTAL_IS_NONE, CERTAIN),
    ("the web server in front alone", page(502, **HTML), Code.PORTAL_FAILS, CERTAIN),
    ("the portal is busy", page(429, is_json=True), Code.PORTAL_FAILS, CERTAIN),
    # key and right
    ("another key", seen(trusted=OTHER_KEY), Code.PORTAL_KEY_CHANGED, CERTAIN),
    ("the right is gone", seen(right=Page(401, is_json=True)), Code.PORTAL_RIGHT_REFUSED, CERTAIN),
    (
        "the registration moved",
        seen(right=Page(410, is_json=True, word="associated_elsewhere")),
        Code.PORTAL_MOVED,
        CERTAIN,
    ),
    ("the right is given", seen(right=Page(200, is_json=True)), Code.PORTAL_OK, CERTAIN),
    ("the right is asked, and a page comes", seen(right=Page(200, is_page=True)), Code.PORTAL_PAGE, CERTAIN),
    ("the right gets no answer", seen(right=Page(trouble="late", timed_out=True)), Code.PORTAL_MUTE, PROBABLE),
    ("the portal fails there", seen(right=Page(503, is_json=True)), Code.PORTAL_FAILS, CERTAIN),
    (
        "the time was up",
        seen(about=None, key=None, right=None, unchecked="the time was up"),
        Code.CANNOT_TELL,
        POSSIBLE,
    ),
]


@pytest.mark.parametrize(("saw", "code", "sure"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_what_was_seen_gives_one_verdict(saw: PortalSeen, code: Code, sure: Confidence) -> None:
    verdict = judge(saw)
    assert (verdict.code, verdict.confidence) == (code, sure), verdict
    assert verdict.confidence in CONFIDENCE.get(code, (CERTAIN, POSSIBLE))
    assert "{" not in verdict.cause + verdict.advice


def test_every_code_of_a_portal_is_in_the_table() -> None:
    given = {row[2] for row in TABLE}
    assert set(ENTRIES) - given == {Code.PORTAL_STATEMENT_REFUSED}  # the agent says that, of a statement


def test_a_cause_hides_its_symptoms() -> None:
    """The name fails first, whatever stands in the stages behind it."""
    assert judge(replace(page(403, **HTML), name=Name("x", Lookup.NO_SUCH_NAME))).code is Code.PORTAL_NO_SUCH_NAME


def test_a_page_names_who_sent_it_and_who_signs_for_it() -> None:
    cause = judge(page(403, **HTML)).cause
    assert all(word in cause for word in ("squid/5.7", "1.1 cache", "CN=Example CA"))


def test_an_intercepted_connection_names_whose_certificate_it_is() -> None:
    verdict = judge(shaken(20, minted=True, certificate=issued_by("O=Sophos")))
    assert "O=Sophos" in verdict.cause
    assert verdict.entry.side is Side.PATH


def test_the_network_is_asked_for_exactly_the_way_out_that_is_missing() -> None:
    text = ticket_text(judge(address(SILENT)), "2026-11-24T12:00:00Z")
    assert text is not None
    assert "Source:       10.1.0.0/24" in text
    assert "Destination:  192.0.2.9 (portal.example)" in text
    assert "Port:         443" in text
    assert "TCP (HTTPS)" in text


def test_the_keepers_of_a_proxy_are_asked_for_the_site() -> None:
    text = ticket_text(judge(proxy(status=403)), "2026-11-24T12:00:00Z")
    assert text is not None
    assert "through the proxy" in text
    assert "Destination:  portal.example" in text
    assert "Proxy:        proxy.example:3128" in text


@pytest.mark.parametrize("saw", [page(502), seen(trusted=OTHER_KEY), shaken(18), WELL])
def test_nobody_is_asked_for_what_no_network_can_heal(saw: PortalSeen) -> None:
    assert ticket_text(judge(saw), "now") is None


def test_our_own_firewall_gets_the_command_of_each_tool() -> None:
    made = remedies(judge(address(SILENT, unsent=2)))
    assert {"ufw", "firewalld", "nft", "iptables"} <= {str(each.tool) for each in made}
    assert all("192.0.2.9" in " ".join(each.commands) for each in made if each.tool != "hint")
