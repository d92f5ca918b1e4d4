"""The diagnosis of the way to a portal, against real servers, proxies and certificates on loopback."""

from __future__ import annotations

import contextlib
import datetime as dt
import email.utils
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from propagator import config
from propagator.core.errors import InputError
from propagator.diagnose import portal as diagnosis
from propagator.diagnose.portal import Known, PortalDiagnosis
from propagator.enrol.way import Way
from tests.enrol import places
from tests.enrol.places import KEY, NAME, NOW, Ca
from tests.ports import free_port

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator
    from pathlib import Path

    from tests.enrol.places import Answer, Place, Request

CA = Ca.made("portal ca")
NOTHING = Known()
TRUSTED = Known(KEY.thumbprint, "t0ken", 3)


def portal(request: Request) -> Answer:
    """A portal that is well, and knows the token."""
    if request.path == "/api/portal":
        return places.said(places.about())
    known = request.headers.get("authorization") == "Bearer t0ken"
    return (304, {"ETag": '"3"'}, b"") if known else places.said({"error": "not_logged_on"}, 401)


async def look(way: Way, known: Known = NOTHING) -> PortalDiagnosis:
    begun_s = time.monotonic()
    found = await diagnosis.diagnose(way, known)
    assert time.monotonic() - begun_s < 20
    return found


def verdict(found: PortalDiagnosis) -> tuple[str, str]:
    return found.verdict.code.value, found.verdict.confidence.value


def results(found: PortalDiagnosis) -> dict[str, str]:
    return {step.stage.value: step.result for step in found.steps}


async def test_a_portal_that_is_well_passes_every_stage_in_under_a_second(tmp_path: Path) -> None:
    tls = places.context_of(tmp_path, CA.leaf("127.0.0.1"))
    with places.http(portal, tls) as place:
        begun_s = time.monotonic()
        found = await look(place.way(CA), TRUSTED)
        took_s = time.monotonic() - begun_s
    assert verdict(found) == ("PORTAL_OK", "certain")
    assert results(found) == dict.fromkeys(("resolve", "tcp", "tls", "http", "api", "key", "right"), "passed")
    assert took_s < 1


async def test_what_is_not_known_here_is_not_checked() -> None:
    with places.http(portal) as place:
        found = await look(place.way())
    assert verdict(found) == ("PORTAL_OK", "certain")
    assert results(found)["key"] == results(found)["right"] == "not_checked"


async def test_the_json_of_it_has_stages_and_a_verdict() -> None:
    with places.http(portal) as place:
        told = (await look(place.way())).as_json()
        assert told["portal"] == place.url()
    assert set(told) == {"schema", "at", "portal", "stages", "verdict"}


async def test_another_key_is_told_before_our_right_is_shown() -> None:
    with places.http(portal) as place:
        found = await look(place.way(), Known("o" * 43, "t0ken", 3))
    assert verdict(found) == ("PORTAL_KEY_CHANGED", "certain")
    assert all("authorization" not in request.headers for request in place.requests)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (places.said({"error": "not_logged_on", "error_description": "x"}, 401), "PORTAL_RIGHT_REFUSED"),
        (places.said({"error": "associated_elsewhere", "error_description": "x"}, 410), "PORTAL_MOVED"),
        (places.said({"error": "internal", "error_description": "x"}, 503), "PORTAL_FAILS"),
    ],
)
async def test_what_the_portal_says_to_our_right_is_told(answer: Answer, code: str) -> None:
    with places.http(lambda asked: portal(asked) if asked.path == "/api/portal" else answer) as place:
        assert verdict(await look(place.way(), TRUSTED)) == (code, "certain")


# Name and TCP.


async def test_a_name_that_does_not_exist() -> None:
    found = await look(Way(config.parse_portal(f"https://{NAME}")))
    assert verdict(found) == ("PORTAL_NO_SUCH_NAME", "certain")
    assert results(found)["tcp"] == "not_checked"


async def test_a_closed_port() -> None:
    found = await look(Way(config.parse_portal(f"https://127.0.0.1:{free_port()}")))
    assert verdict(found) == ("PORTAL_CLOSED", "probable")


async def test_a_silent_port_is_told_in_time() -> None:
    """A listener whose queue is full drops what comes."""
    with full() as port:
        found = await look(Way(config.parse_portal(f"https://127.0.0.1:{port}")))
    assert found.verdict.code.value in {"PORTAL_DROPPED", "PORTAL_OWN_FIREWALL"}, found.verdict
    assert found.verdict.confidence.value != "certain"


@contextlib.contextmanager
def full() -> Iterator[int]:
    """Listen, accept nobody, and have a full queue already."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(1)
        for _ in range(4):
            peer = stack.enter_context(socket.socket())
            peer.setblocking(False)  # noqa: FBT003
            with contextlib.suppress(BlockingIOError):
                peer.connect(server.getsockname())
        yield server.getsockname()[1]


# TLS.


@pytest.mark.parametrize(
    ("names", "begins", "ends", "date", "wanted"),
    [
        (("127.0.0.1",), -30, -1, 0, ("PORTAL_TLS_EXPIRED", "certain")),
        (("127.0.0.1",), -30, -1, -2, ("PORTAL_CLOCK", "probable")),
        (("127.0.0.1",), -30, -1, None, ("PORTAL_TLS_EXPIRED", "probable")),
        (("127.0.0.1",), 1, 30, 0, ("PORTAL_TLS_NOT_YET_VALID", "certain")),
        (("127.0.0.1",), 1, 30, 2, ("PORTAL_CLOCK", "probable")),
        (("127.0.0.1",), 1, 30, None, ("PORTAL_CLOCK", "probable")),
        (("127.0.0.2",), -30, 30, 0, ("PORTAL_TLS_NAME_MISMATCH", "certain")),
        (("other.example",), -30, 30, 0, ("PORTAL_TLS_NAME_MISMATCH", "certain")),
    ],
)
async def test_a_certificate_that_is_wrong(  # noqa: PLR0917  a row of the table
    tmp_path: Path, names: tuple[str, ...], begins: int, ends: int, date: int | None, wanted: tuple[str, str]
) -> None:
    """The time that an answer names (`date`: days from now) tells a wrong clock here from a wrong one there."""
    pair = CA.leaf(*names, begins=NOW + begins * places.DAY, ends=NOW + ends * places.DAY)
    said = {} if date is None else {"Date": email.utils.format_datetime(dt.datetime.now(dt.UTC) + date * places.DAY)}
    with places.http(lambda _: (200, said, b""), places.context_of(tmp_path, pair)) as place:
        found = await look(place.way(CA), TRUSTED)
    assert verdict(found) == wanted
    assert all("authorization" not in request.headers for request in place.requests)


async def test_a_ca_that_is_not_known_is_named(tmp_path: Path) -> None:
    own = Ca.made("Riverside Root")
    way = Way(config.parse_portal("https://127.0.0.1"))
    with places.http(portal, places.context_of(tmp_path, own.leaf("127.0.0.1"))) as place:
        found = await look(Way(way.portal._replace(port=place.port)))
    assert verdict(found) == ("PORTAL_TLS_UNKNOWN_CA", "probable")
    assert "CN=Riverside Root" in found.verdict.cause
    assert "--portal-ca" in found.verdict.advice


async def test_another_ca_than_the_one_that_was_given_is_somebody_in_between(tmp_path: Path) -> None:
    tls = places.context_of(tmp_path, Ca.made("Some Root").leaf("127.0.0.1"))
    with places.http(portal, tls) as place:
        assert verdict(await look(place.way(CA))) == ("PORTAL_TLS_INTERCEPTED", "probable")


async def test_a_maker_of_filters_is_known_by_its_name(tmp_path: Path) -> None:
    tls = places.context_of(tmp_path, Ca.made("FortiGate CA", "Fortinet").leaf("127.0.0.1"))
    with places.http(portal, tls) as place:
        found = await look(Way(place.way(CA).portal))
    assert verdict(found) == ("PORTAL_TLS_INTERCEPTED", "probable")
    assert "Fortinet" in found.verdict.cause


async def test_who_signs_for_a_name_that_nobody_has_is_somebody_in_between(tmp_path: Path) -> None:
    """A middlebox makes a certificate for whatever name is asked for: that is proof."""
    with places.http(portal, minting(tmp_path, Ca.made("Quiet Root"))) as place:
        found = await look(Way(config.parse_portal(f"https://localhost:{place.port}")))
    assert verdict(found) == ("PORTAL_TLS_INTERCEPTED", "certain")
    assert "CN=Quiet Root" in found.verdict.cause


def minting(tmp_path: Path, ca: Ca) -> ssl.SSLContext:
    """TLS as a middlebox speaks it: a certificate for each name, made as it is asked for."""

    def choose(connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext) -> None:
        connection.context = places.context_of(tmp_path, ca.leaf(name or "127.0.0.1"), f"minted-{time.monotonic_ns()}")

    context = places.context_of(tmp_path, ca.leaf("127.0.0.1"), "minting")
    context.sni_callback = choose  # type: ignore[assignment,unused-ignore]
    return context


async def test_a_port_without_tls() -> None:
    with places.listening(places.plain) as place:
        assert verdict(await look(place.way(CA))) == ("PORTAL_NOT_TLS", "certain")


async def test_a_filter_that_reads_names_is_told_from_a_host_that_hangs_up(tmp_path: Path) -> None:
    """The connection is reset at the portal's name, and goes on under another: nobody but a filter does that."""
    context = places.context_of(tmp_path, CA.leaf("localhost"))

    def filtered(peer: socket.socket) -> None:
        hello = peer.recv(65536, socket.MSG_PEEK)
        if b"localhost" in hello:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            peer.close()
            return
        with context.wrap_socket(peer, server_side=True) as secure:
            secure.recv(1)

    with places.listening(filtered) as place:
        found = await look(Way(config.parse_portal(f"https://localhost:{place.port}"), None, CA.pem))
    assert verdict(found) == ("PORTAL_TLS_BLOCKED", "certain")


async def test_a_host_that_hangs_up_at_once() -> None:
    def hang_up(peer: socket.socket) -> None:
        peer.recv(65536)

    with places.listening(hang_up) as place:
        assert verdict(await look(place.way(CA))) == ("PORTAL_TLS_BLOCKED", "probable")


async def test_a_host_that_accepts_and_says_nothing() -> None:
    with places.listening(places.mute) as place:
        assert verdict(await look(place.way(CA))) == ("PORTAL_MUTE", "probable")


# HTTP.


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (places.page(), "PORTAL_PAGE"),
        (places.page(403, Server="FortiGuard", Via="1.1 gate"), "PORTAL_PAGE"),
        (places.page(511), "PORTAL_PAGE"),
        ((302, {"Location": "http://log.on/"}, b""), "PORTAL_PAGE"),
        ((200, {"Content-Type": "text/plain"}, b"<!DOCTYPE html><p>hello"), "PORTAL_PAGE"),
        (places.page(404), "PORTAL_IS_NONE"),
        (places.page(502, Server="nginx"), "PORTAL_FAILS"),
        (places.said({"hello": "world"}), "PORTAL_IS_NONE"),
        (places.said({"error": "too_many"}, 429), "PORTAL_FAILS"),
        ((200, {}, b"\x00\x01"), "PORTAL_IS_NONE"),
    ],
)
async def test_what_stands_in_the_place_of_the_portals_answer(answer: Answer, code: str) -> None:
    with places.http(lambda _: answer) as place:
        assert verdict(await look(place.way(), TRUSTED)) == (code, "certain")


async def test_a_page_names_the_filter_by_its_headers() -> None:
    with places.http(lambda _: places.page(403, Server="FortiGuard", Via="1.1 gate.example")) as place:
        cause = (await look(place.way())).verdict.cause
    assert "FortiGuard" in cause
    assert "1.1 gate.example" in cause


@pytest.mark.parametrize("said", [b"SSH-2.0-x\r\n", b"\x00" * 100, b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 30_000])
async def test_what_is_no_http(said: bytes) -> None:
    def garbage(peer: socket.socket) -> None:
        peer.recv(65536)
        peer.sendall(said)

    with places.listening(garbage) as place:
        assert verdict(await look(place.way())) == ("PORTAL_IS_NONE", "certain")


async def test_a_byte_a_moment_ends_in_time() -> None:
    def slow(peer: socket.socket) -> None:
        peer.recv(65536)
        for _ in range(300):
            peer.sendall(b"x")
            time.sleep(0.1)

    with places.listening(slow) as place:
        assert verdict(await look(place.way())) == ("PORTAL_MUTE", "probable")


# A proxy.


def by(place: Place, host: str = NAME) -> Way:
    return Way(config.parse_portal(f"https://{host}"), place.proxy, CA.pem, "the test")


async def test_a_portal_behind_a_proxy(tmp_path: Path) -> None:
    tls = places.context_of(tmp_path, CA.leaf(NAME))
    with places.http(portal, tls) as place, places.connecting(place.port) as proxy:
        found = await look(by(proxy), TRUSTED)
    assert verdict(found) == ("PORTAL_OK", "certain")
    assert results(found)["proxy"] == "passed"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("407 Proxy Authentication Required", "PORTAL_PROXY_ACCOUNT"),
        ("403 Forbidden", "PORTAL_PROXY_REFUSES"),
        ("502 Bad Gateway", "PORTAL_PROXY_FAILS"),
        ("503 Service Unavailable", "PORTAL_PROXY_FAILS"),
        ("404 Not Found", "PORTAL_PROXY_IS_NONE"),
        ("301 Moved", "PORTAL_PROXY_IS_NONE"),
    ],
)
async def test_a_proxy_that_says_no(status: str, code: str) -> None:
    with places.connecting(status=status, headers="Via: 1.1 squid.example\r\n") as proxy:
        found = await look(by(proxy))
    assert verdict(found) == (code, "certain")
    assert NAME in (found.as_finding()["ticket"] or NAME)  # type: ignore[operator]


async def test_a_proxy_that_swallows() -> None:
    with places.listening(places.mute) as proxy:
        assert verdict(await look(by(proxy))) == ("PORTAL_PROXY_MUTE", "certain")


async def test_a_proxy_that_is_none() -> None:
    def ssh(peer: socket.socket) -> None:
        peer.sendall(b"SSH-2.0-x\r\n\r\n\r\n\r\n")
        peer.recv(65536)

    with places.listening(ssh) as proxy:
        assert verdict(await look(by(proxy))) == ("PORTAL_PROXY_IS_NONE", "certain")


async def test_a_proxy_that_is_away() -> None:
    proxy = config.Proxy(config.Address("127.0.0.1", free_port()), "$HTTPS_PROXY")
    found = await look(Way(config.parse_portal(f"https://{NAME}"), proxy))
    assert verdict(found) == ("PORTAL_PROXY_AWAY", "certain")
    assert "$HTTPS_PROXY" in found.verdict.cause


async def test_a_proxy_whose_name_nobody_knows() -> None:
    proxy = config.Proxy(config.Address("proxy.invalid", 3128))
    assert verdict(await look(Way(config.parse_portal("https://127.0.0.1"), proxy)))[0] == "PORTAL_PROXY_UNKNOWN"


async def test_a_proxy_that_opens_tls_is_told(tmp_path: Path) -> None:
    """The proxy lets us through, and speaks TLS itself: under its own CA, for whatever name."""
    tls = minting(tmp_path, Ca.made("Proxy Root"))
    with places.http(portal, tls) as inside, places.connecting(inside.port) as proxy:
        found = await look(Way(by(proxy).portal, proxy.proxy))
    assert verdict(found) == ("PORTAL_TLS_INTERCEPTED", "certain")


async def test_f20_the_account_of_a_proxy_is_in_nothing_that_is_told() -> None:
    with places.connecting(account="nobody's") as proxy:
        named = config.Proxy(proxy.proxy.address, "$HTTPS_PROXY", "es-1:hunter2canary")
        found = await look(Way(config.parse_portal(f"https://{NAME}"), named))
    assert verdict(found) == ("PORTAL_PROXY_ACCOUNT", "certain")
    assert "hunter2canary" not in str(found) + str(found.as_json())


def test_a_way_that_is_set_wrongly_is_a_finding() -> None:
    problem = InputError("$HTTPS_PROXY names no proxy that can be used.")
    told: Any = diagnosis.unusable("https://portal.example", problem).as_finding()
    assert told["code"] == "PORTAL_SETTING"
    assert "$HTTPS_PROXY" in told["cause"]
