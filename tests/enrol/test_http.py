"""What is asked of a portal, and how it fails: against real servers on loopback."""

from __future__ import annotations

import base64
import json
import ssl
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from propagator import config
from propagator.core.errors import InputError
from propagator.enrol import http
from propagator.enrol.failure import PortalError, Trouble
from propagator.enrol.http import LARGEST, Question
from propagator.enrol.way import Way
from tests.enrol import places
from tests.enrol.places import NAME, NOW, Ca
from tests.ports import free_port

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from tests.enrol.places import Answer, Request

ABOUT = Question("api/portal")


def _about(_: Request) -> Answer:
    return places.said(places.about(), ETag='"3"', Server="uvicorn")


async def _fails(way: Way, limit_s: float = 5.0) -> PortalError:
    with pytest.raises(PortalError) as caught:
        await http.ask(way, ABOUT, limit_s=limit_s)
    return caught.value


async def test_an_answer_comes_back_with_what_its_headers_say() -> None:
    with places.http(_about) as place:
        reply = await http.ask(place.way(), ABOUT)
    assert (reply.status, reply.etag, reply.server) == (200, '"3"', "uvicorn")
    assert json.loads(reply.body)["name"] == "Riverside Portal"


async def test_a_question_carries_its_token_its_edition_and_its_form() -> None:
    with places.http(_about) as place:
        await http.ask(place.way(), Question("api/registration", token="t0ken", edition=3))
        await http.ask(place.way(), Question("api/token", form={"device_code": "a b&c"}))
    got, posted = place.requests
    assert got.line == "GET /api/registration HTTP/1.1"
    assert (got.headers["authorization"], got.headers["if-none-match"]) == ("Bearer t0ken", '"3"')
    assert got.headers["host"] == f"127.0.0.1:{place.port}"
    assert posted.line == "POST /api/token HTTP/1.1"
    assert posted.body == b"device_code=a+b%26c"


async def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    with places.http(lambda _: (302, {"Location": "http://127.0.0.1:9/log-on"}, b"")) as place:
        reply = await http.ask(place.way(), ABOUT)
    assert (reply.status, reply.location) == (302, "http://127.0.0.1:9/log-on")
    assert len(place.requests) == 1


async def test_an_answer_without_end_is_ended() -> None:
    def endless(peer: socket.socket) -> None:
        places.heard(peer)
        peer.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            peer.sendall(b"x" * 65536)

    with places.listening(endless) as place:
        error = await _fails(place.way())
    assert error.kind is Trouble.ANSWER
    assert str(LARGEST) in str(error)


async def test_a_byte_a_moment_is_ended_by_the_deadline() -> None:
    def slow(peer: socket.socket) -> None:
        places.heard(peer)
        for sign in b"HTTP/1.1 200 OK\r\nX-Endless: " + b"x" * 1000:
            peer.sendall(bytes([sign]))
            time.sleep(0.05)

    with places.listening(slow) as place:
        assert (await _fails(place.way(), limit_s=0.5)).kind is Trouble.TIMEOUT


@pytest.mark.parametrize("said", [b"\x00\x01\x02", b"SSH-2.0-x\r\n", b"HTTP/1.1 9999 x\r\n\r\n", b""])
async def test_what_is_no_http_is_told(said: bytes) -> None:
    def garbage(peer: socket.socket) -> None:
        places.heard(peer)
        peer.sendall(said)

    with places.listening(garbage) as place:
        assert (await _fails(place.way())).kind in {Trouble.ANSWER, Trouble.CONNECTION}


async def test_a_closed_port_is_told() -> None:
    error = await _fails(Way(config.parse_portal(f"http://127.0.0.1:{free_port()}")))
    assert error.kind is Trouble.CONNECTION
    assert "refuses the connection" in str(error)


async def test_a_name_that_does_not_exist_is_told() -> None:
    error = await _fails(Way(config.parse_portal(f"https://{NAME}")), limit_s=10)
    assert error.kind is Trouble.NAME
    assert NAME in str(error)


# TLS.


async def test_a_portal_is_known_by_its_ca_and_its_name(tmp_path: Path) -> None:
    ca = Ca.made("portal ca")
    tls = places.context_of(tmp_path, ca.leaf("127.0.0.1"))
    with places.http(_about, tls) as place:
        assert (await http.ask(place.way(ca), ABOUT)).status == 200


@pytest.mark.parametrize(
    ("names", "begins", "ends", "told"),
    [
        (("127.0.0.1",), -30, -1, "has expired"),
        (("127.0.0.1",), 1, 30, "is not valid yet"),
        (("127.0.0.2",), -30, 30, "is for another address"),
    ],
)
async def test_a_certificate_that_is_wrong_is_told(
    tmp_path: Path, names: tuple[str, ...], begins: int, ends: int, told: str
) -> None:
    ca = Ca.made("portal ca")
    pair = ca.leaf(*names, begins=NOW + begins * places.DAY, ends=NOW + ends * places.DAY)
    with places.http(_about, places.context_of(tmp_path, pair)) as place:
        error = await _fails(place.way(ca))
    assert error.kind is Trouble.TLS
    assert told in str(error)
    assert place.requests == []


async def test_a_ca_that_is_not_known_is_told_and_nothing_is_sent(tmp_path: Path) -> None:
    tls = places.context_of(tmp_path, Ca.made("other ca").leaf("127.0.0.1"))
    with places.http(_about, tls) as place:
        error = await _fails(place.way(Ca.made("portal ca")))
    assert error.kind is Trouble.TLS
    assert "a CA that this machine does not know" in str(error)
    assert place.requests == []


async def test_a_port_without_tls_is_told() -> None:
    with places.listening(places.plain) as place:
        assert (await _fails(place.way(Ca.made("portal ca")))).kind is Trouble.TLS


def test_a_ca_that_is_none_is_told() -> None:
    with pytest.raises(InputError, match="holds no certificate"):
        Way(config.parse_portal("https://127.0.0.1"), None, "no pem", "ca.pem").context()


# Proxies.


async def test_a_proxy_is_asked_by_name_and_carries_tls(tmp_path: Path) -> None:
    ca = Ca.made("portal ca")
    tls = places.context_of(tmp_path, ca.leaf(NAME))
    with places.http(_about, tls) as place, places.connecting(place.port) as proxy:
        reply = await http.ask(Way(config.parse_portal(f"https://{NAME}"), proxy.proxy, ca.pem), ABOUT)
    assert reply.status == 200
    assert proxy.requests[0].line.startswith(f"CONNECT {NAME}:443 ")
    assert place.requests[0].headers["host"] == NAME


async def test_the_account_of_a_proxy_goes_to_the_proxy_alone(tmp_path: Path) -> None:
    ca = Ca.made("portal ca")
    account = base64.b64encode(b"es-1:p@ss").decode()
    tls = places.context_of(tmp_path, ca.leaf(NAME))
    with places.http(_about, tls) as place, places.connecting(place.port, account=account) as proxy:
        named = config.Proxy(proxy.proxy.address, "$HTTPS_PROXY", "es-1:p@ss")
        assert (await http.ask(Way(config.parse_portal(f"https://{NAME}"), named, ca.pem), ABOUT)).status == 200
    assert "proxy-authorization" not in place.requests[0].headers


@pytest.mark.parametrize("status", ["407 Proxy Authentication Required", "403 Forbidden", "502 Bad Gateway"])
async def test_a_proxy_that_says_no_is_told_with_its_reason(status: str) -> None:
    with places.connecting(status=status) as proxy:
        error = await _fails(Way(config.parse_portal(f"https://{NAME}"), proxy.proxy))
    assert error.kind is Trouble.PROXY
    assert status in str(error)


async def test_a_proxy_that_is_away_is_told() -> None:
    proxy = config.Proxy(config.Address("127.0.0.1", free_port()))
    assert (await _fails(Way(config.parse_portal(f"https://{NAME}"), proxy))).kind is Trouble.CONNECTION


async def test_a_proxy_that_swallows_is_ended_by_the_deadline() -> None:
    with places.listening(places.mute) as place:
        error = await _fails(Way(config.parse_portal(f"https://{NAME}"), place.proxy), limit_s=0.5)
    assert error.kind is Trouble.TIMEOUT


# What it costs.


def test_httpx_brings_neither_rich_nor_pygments_nor_certifis_list() -> None:
    code = (
        "import sys, propagator.enrol.http; print(sorted({'rich', 'pygments', 'certifi', 'trio'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_nothing_is_verified_by_nobody() -> None:
    """The context of a portal without TLS trusts no CA at all."""
    context = Way(config.parse_portal("http://127.0.0.1")).context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.cert_store_stats()["x509"] == 0
