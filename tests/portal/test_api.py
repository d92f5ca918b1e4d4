"""The API and the door, as a server meets them: real HTTP to a real uvicorn, real SQLite."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import httpx
import pytest
import structlog
from sqlalchemy import text

from propagator.core import statement
from propagator.core.statement import Proven, Standing
from propagator.portal import door, grants, systems, web
from propagator.portal.app import create_app
from propagator.portal.rules import Kind
from tests.portal.world import PASSWORD, World, form, installation, log_on, open_world, served, settings_in

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from structlog.typing import Processor

GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
ASK: Final = {
    "client_id": "propagator",
    "system_id": "SYS-1",
    "server_name": "ES 1",
    "kind": "enterprise-server",
    "purpose": "register",
}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(settings_in(tmp_path)) as opened:
        yield opened


@pytest.fixture
async def client(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with served(world) as client:
        yield client


async def _raw(world: World, request: bytes) -> bytes:
    """Send bytes as they are; give all of the answer."""
    host, port = world.portal.settings.listen.split(":")
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(request)
        await writer.drain()
        answer = await reader.read()
        writer.close()
    return answer


async def test_the_portal_says_who_it_is(world: World, client: httpx.AsyncClient) -> None:
    said = (await client.get("/api/portal")).json()
    assert said["thumbprint"] == world.portal.key.thumbprint
    assert said["key"] == world.portal.key.public.jwk
    assert (said["id"], said["name"]) == ("portal", "Registration Portal")
    assert (await client.get("/api/health")).json() == {"status": "ok"}


async def test_a_server_registers_online_and_hears_of_later_editions(world: World, client: httpx.AsyncClient) -> None:
    ann = await world.account("ann", Kind.PARTNER)
    begun = (await client.post("/api/device_authorization", data=ASK)).json()
    assert begun["verification_uri"] == f"{world.portal.settings.url}/device"
    assert begun["verification_uri_complete"].endswith(f"?user_code={begun['user_code']}")
    assert (begun["expires_in"], begun["interval"]) == (900, 5)
    asked = {"grant_type": GRANT, "device_code": begun["device_code"], "client_id": "propagator"}
    pending = await client.post("/api/token", data=asked)
    assert (pending.status_code, pending.json()["error"]) == (400, "authorization_pending")
    async with world.db() as db:
        system = await grants.approve_new(db, ann, await grants.find(db, ann, begun["user_code"]), form())
    granted = (await client.post("/api/token", data=asked)).json()
    assert granted["token_type"] == "Bearer"
    standing = Standing("SYS-1", world.clock.now, {world.portal.key.thumbprint})
    assert isinstance(statement.read(granted["statement"].encode(), standing), Proven)
    replayed = await client.post("/api/token", data=asked)
    assert (replayed.status_code, replayed.json()["error"]) == (400, "invalid_grant")

    bearer = {"Authorization": f"Bearer {granted['access_token']}"}
    first = await client.get("/api/registration", headers=bearer)
    assert (first.status_code, first.headers["etag"]) == (200, '"1"')
    known = {**bearer, "If-None-Match": '"1"'}
    same = await client.get("/api/registration", headers=known)
    assert (same.status_code, same.headers["etag"], same.content) == (304, '"1"', b"")
    async with world.db() as db:
        await systems.modify(db, ann, system, installation(contact={"email": "new@riverside.example"}))
    second = await client.get("/api/registration", headers=known)
    assert (second.status_code, second.headers["etag"]) == (200, '"2"')
    async with world.db() as db:
        await systems.associate(db, ann, system, "SYS-2")
    moved = await client.get("/api/registration", headers=known)
    assert (moved.status_code, moved.json()["error"]) == (410, "associated_elsewhere")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer nonsense"},
        {"Authorization": "Basic YTpi"},
        {"Authorization": b"Bearer \xff\xfe"},
    ],
)
async def test_without_a_token_there_is_no_registration(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    refused = await client.get("/api/registration", headers=headers)
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"].startswith("Bearer")


async def test_a_session_of_a_person_is_no_token(world: World, client: httpx.AsyncClient) -> None:
    await log_on(client, world, await world.account("ann", Kind.PARTNER))
    assert (await client.get("/api/registration")).status_code == 401


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"client_id": "other"}, "invalid_client"),
        ({"system_id": ""}, "invalid_request"),
        ({"system_id": "two words"}, "invalid_request"),
        ({"system_id": "x" * 65}, "invalid_request"),
        ({"system_id": "Grüße"}, "invalid_request"),
        ({"server_name": ""}, "invalid_request"),
        ({"server_name": "a\nb"}, "invalid_request"),
        ({"server_name": "x" * 101}, "invalid_request"),
        ({"kind": "toaster"}, "invalid_request"),
        ({"purpose": "steal"}, "invalid_request"),
    ],
)
async def test_a_wrong_request_of_a_server_is_told(
    client: httpx.AsyncClient, change: dict[str, str], error: str
) -> None:
    refused = await client.post("/api/device_authorization", data={**ASK, **change})
    assert (refused.status_code, refused.json()["error"]) == (400, error)
    assert set(refused.json()) == {"error", "error_description"}


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        ({"grant_type": "password", "device_code": "x", "client_id": "propagator"}, "unsupported_grant_type"),
        ({"grant_type": GRANT, "client_id": "propagator"}, "invalid_request"),
        ({"grant_type": GRANT, "device_code": "x", "client_id": "propagator"}, "invalid_grant"),
        ({"client_id": ""}, "invalid_client"),
    ],
)
async def test_a_wrong_request_for_a_token_is_told(client: httpx.AsyncClient, sent: dict[str, str], error: str) -> None:
    refused = await client.post("/api/token", data=sent)
    assert (refused.status_code, refused.json()["error"]) == (400, error)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/nothing", 404),
        ("GET", "/api", 404),
        ("GET", "/api/", 404),
        ("GET", "/api/docs", 404),
        ("GET", "/docs", 404),
        ("GET", "/redoc", 404),
        ("GET", "/openapi.json", 404),
        ("POST", "/api/health", 405),
        ("DELETE", "/api/registration", 405),
        ("GET", "/api/token", 405),
        ("GET", "/static/../portal.key", 404),
        ("GET", "/static/nothing.css", 404),
        ("GET", "/static/", 404),
        ("GET", "/api/%2e%2e/portal.key", 400),
        ("GET", "/api%2fhealth", 400),
        ("GET", "/api/%5chealth", 400),
        ("GET", "//api/health", 400),
        ("GET", "/systems/%00", 400),
        ("GET", "/systems/%0d%0aX: y", 400),
        ("GET", "/systems/%ff", 400),
        ("GET", "/systems/%ed%a0%80", 400),
        ("GET", "/api/health?x=%00", 400),
        ("GET", f"/api/{'x' * 2000}", 414),
        ("GET", f"/api/health?{'x' * 5000}", 414),
    ],
)
async def test_a_path_that_is_none_is_refused(client: httpx.AsyncClient, method: str, path: str, status: int) -> None:
    answer = await client.request(method, httpx.URL(client.base_url, raw_path=path.encode()))
    assert answer.status_code == status
    if path.startswith("/api/"):
        assert set(answer.json()) == {"error", "error_description"}


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": ""},
        {"Host": "127.0.0.1:1@evil.example"},
        {"Host": "\x7f"},
    ],
)
async def test_another_host_is_refused(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    assert (await client.get("/api/health", headers=headers)).status_code == 400


@pytest.mark.parametrize(
    "header",
    ["X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded", "X-Original-URL", "X-Rewrite-URL"],
)
async def test_a_strangers_forwarding_headers_change_nothing(
    world: World, client: httpx.AsyncClient, header: str
) -> None:
    said = await client.post("/api/device_authorization", data=ASK, headers={header: "evil.example"})
    assert said.json()["verification_uri"] == f"{world.portal.settings.url}/device"


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /api/health HTTP/1.1\r\n\r\n",
        b"GET /api/health HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n",
        b"GET http://evil.example/api/health HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"POST /api/token HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/token HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"GET /\x00 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"GET /api/health HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
    ],
)
async def test_a_request_that_is_no_http_is_answered_400(
    world: World, client: httpx.AsyncClient, request_bytes: bytes
) -> None:
    assert client.base_url.port is not None
    closing = request_bytes.replace(b"HTTP/1.1\r\n", b"HTTP/1.1\r\nConnection: close\r\n", 1)
    assert (await _raw(world, closing)).startswith((b"HTTP/1.1 400", b"HTTP/1.1 431"))


async def test_a_body_that_is_too_large_is_refused_before_it_is_read(world: World, client: httpx.AsyncClient) -> None:
    head = f"POST /api/token HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {door.BODY_LIMIT + 1}\r\n"
    assert client.base_url.port is not None
    answer = await _raw(world, f"{head}Content-Type: application/x-www-form-urlencoded\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 413")


async def test_a_body_that_grows_without_a_length_is_cut_at_the_limit(client: httpx.AsyncClient) -> None:
    async def without_end() -> AsyncIterator[bytes]:
        for _ in range(1000):
            yield b"x" * 1024

    sent = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await client.post("/api/token", content=without_end(), headers=sent)
    assert (answer.status_code, answer.json()["error"]) == (413, "too_large")


@pytest.mark.parametrize(
    ("media", "body", "status"),
    [
        ("application/json", b"{}", 415),
        ("multipart/form-data; boundary=x", b"--x--", 415),
        ("", b"a=b", 415),
        ("application/x-www-form-urlencoded", b"\xff\xfe", 400),
        ("application/x-www-form-urlencoded", b"client_id=%ff", 400),
        ("application/x-www-form-urlencoded", b"client_id=%ed%a0%80", 400),
        ("application/x-www-form-urlencoded", b"client_id=%00", 400),
        ("application/x-www-form-urlencoded", b"&".join(b"a=%d" % number for number in range(1000)), 400),
        ("application/x-www-form-urlencoded; charset=utf-7", b"client_id=+2AA-", 400),
    ],
)
async def test_a_body_that_is_no_form_is_refused(
    client: httpx.AsyncClient, media: str, body: bytes, status: int
) -> None:
    for path in ("/api/token", "/log-on"):
        answer = await client.post(path, content=body, headers={"Content-Type": media} if media else {})
        assert answer.status_code in ({status} if path.startswith("/api") else {status, 422})


async def test_every_answer_has_the_headers_that_guard_a_browser(client: httpx.AsyncClient) -> None:
    for path in ("/", "/api/health", "/api/nothing", "/nothing", "/static/portal.css", "/systems", "/%00"):
        answer = await client.get(path)
        policy = answer.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert (answer.headers.get("cache-control") == "no-store") != path.startswith("/static/")
        assert "server" not in answer.headers


async def test_logging_on_by_the_form_needs_its_origin_and_sets_a_guarded_cookie(
    world: World, client: httpx.AsyncClient
) -> None:
    ann = await world.account("ann", Kind.PARTNER)
    sent = {"email": ann.email, "password": PASSWORD}
    own = world.portal.settings.url
    for headers in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": own, "Sec-Fetch-Site": "cross-site"},
        {"Origin": own, "Sec-Fetch-Site": "same-site"},
    ):
        refused = await client.post("/log-on", data=sent, headers=headers)
        assert (refused.status_code, "set-cookie" in refused.headers) == (403, False)
    answer = await client.post("/log-on", data=sent, headers={"Origin": own})
    assert answer.status_code == 303
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("propagator=")
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Path=/" in cookie


async def test_a_form_without_the_sessions_token_is_refused(world: World, client: httpx.AsyncClient) -> None:
    ann, bob = await world.account("ann", Kind.PARTNER), await world.account("bob", Kind.PARTNER)
    others = await log_on(client, world, bob)
    own = await log_on(client, world, ann)
    for token in ("", "x", others, own[:-1], "\udcff"):
        sent = f"csrf={token}".encode("utf-8", "surrogateescape")
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        assert (await client.post("/log-off", content=sent, headers=kind)).status_code in {400, 403}
    assert (await client.post("/log-off", data={"csrf": own})).status_code == 303


@pytest.mark.parametrize(
    "asked", ["//evil.example", "/\\evil.example", "https://evil.example", "javascript:alert(1)", "/a\nb", "\\", ""]
)
async def test_nobody_is_sent_to_another_site_after_logging_on(asked: str) -> None:
    assert web.local_path(asked) == "/"


async def test_where_somebody_wanted_to_go_survives_logging_on(client: httpx.AsyncClient) -> None:
    answer = await client.get("/device", params={"user_code": "BCDF-GHJK"})
    assert answer.headers["location"] == "/log-on?next=%2Fdevice%3Fuser_code%3DBCDF-GHJK"
    assert web.local_path("/device?user_code=BCDF-GHJK") == "/device?user_code=BCDF-GHJK"


@pytest.mark.parametrize("path", ["/api/broken", "/link/broken"])
async def test_a_mistake_of_ours_is_told_without_a_word_of_it(
    world: World, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = create_app(world.portal)
    kept = structlog.testing.CapturingLogger()
    told: list[Processor] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    monkeypatch.setattr(door, "log", structlog.wrap_logger(kept, processors=told))

    @app.get(path)
    async def broken() -> None:
        raise RuntimeError("a secret of the portal")

    app.router.routes.insert(0, app.router.routes.pop())
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=world.portal.settings.url) as browser:
        answer = await browser.get(path)
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.headers["content-security-policy"]
    logged = "\n".join(str(call.args) for call in kept.calls)
    assert logged.count("portal.request_failed") == 1, logged
    assert "/link/broken" not in logged.partition("Traceback")[0]


async def test_a_database_that_does_not_answer_is_told_as_503(world: World, client: httpx.AsyncClient) -> None:
    async with world.portal.engine.begin() as connection:
        await connection.execute(text("DROP TABLE device_grant"))
    answer = await client.post("/api/device_authorization", data=ASK)
    assert (answer.status_code, answer.json()["error"]) == (503, "unavailable")


async def test_too_many_requests_are_told_when_to_try_again(client: httpx.AsyncClient) -> None:
    answers = [await client.post("/api/device_authorization", data=ASK) for _ in range(31)]
    assert [answer.status_code for answer in answers] == [200] * 30 + [429]
    assert int(answers[-1].headers["retry-after"]) > 0


async def test_behind_a_trusted_proxy_the_client_is_who_it_says(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, trusted_proxies=["127.0.0.1", "10.0.0.1"], public_url="https://portal.example")
    async with open_world(settings) as world:
        app_url = f"http://{settings.listen}"
        async with served(world) as client:
            for said in ("192.0.2.1, 198.51.100.9, 10.0.0.1", "198.51.100.9"):
                answer = await client.post(
                    f"{app_url}/api/device_authorization",
                    data=ASK,
                    headers={"X-Forwarded-For": said, "Host": "portal.example"},
                )
                assert answer.json()["verification_uri"] == "https://portal.example/device"
                assert answer.headers["strict-transport-security"]
            statuses = []
            for number in range(40):
                headers = {"X-Forwarded-For": f"203.0.113.{number}, garbage\x7f", "Host": "portal.example"}
                answer = await client.post(f"{app_url}/api/device_authorization", data=ASK, headers=headers)
                statuses.append(answer.status_code)
            assert statuses[-1] == 429, "who writes garbage is the proxy itself"
            assert web.cookie_name(settings) == "__Host-propagator"
