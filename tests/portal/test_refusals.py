"""What is refused has one line a minute and kind, with its count, however often strangers try."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from sqlalchemy.util import greenlet_spawn

from propagator.portal.refusals import Refusals
from propagator.portal.rules import Kind
from propagator.portal.settings import DATABASE_FILE
from tests.logged import logged
from tests.portal.process import ENDED_S, running
from tests.portal.world import World, log_on, served

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

TIMES = 15


def test_a_kind_has_one_line_a_minute_with_its_count() -> None:
    now, said = [0.0], []
    refusals = Refusals(lambda: now[0])

    def say(event: str, **why: object) -> None:
        said.append((now[0], event, why["reason"], why["count"]))

    for now[0] in (0.0, 1.0, 59.0, 60.0, 61.0, 300.0):
        refusals.note(say, "refused", reason="size")
    refusals.note(say, "refused", reason="host")
    refusals.note(say, "gone", reason="host")
    at_300 = [(300.0, "refused", "size", 2), (300.0, "refused", "host", 1), (300.0, "gone", "host", 1)]
    assert said == [(0.0, "refused", "size", 1), (60.0, "refused", "size", 3), *at_300]


async def _flood(client: httpx.AsyncClient, world: World) -> None:
    """Let everything be refused again and again."""
    csrf = {"csrf": await log_on(client, world, world.people["ann"])}
    grant = {"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "client_id": "propagator"}
    for count in range(TIMES):
        world.monotonic[0] += 1000
        assert (await client.get("/", headers={"Host": "elsewhere.example"})).status_code == 400
        assert (await client.post("/log-on", content=b"x" * 70_000)).status_code == 413
        assert (await client.post("/account", data=csrf, headers={"Origin": "http://evil"})).status_code == 403
        assert (await client.post("/account", data={"csrf": "guessed"})).status_code == 403
        refused = await client.post("/log-on", data={**csrf, "email": f"{count}@people.example", "password": "x"})
        assert refused.status_code == 422
        token = await client.post("/api/token", data={**grant, "device_code": "guessed"})
        assert token.json()["error"] == "invalid_grant"
        asked = await client.post("/forgotten-password", data={**csrf, "email": f"{count}@people.example"})
        assert asked.status_code == 303


async def test_each_kind_of_refusal_has_one_line_for_a_flood(small_world: World) -> None:
    await small_world.account("ann", Kind.PARTNER)
    with logged() as lines:
        async with served(small_world) as client:
            await _flood(client, small_world)
    told = [(line["event"], line.get("reason")) for line in lines if line["event"].endswith("_refused")]
    assert sorted(told, key=str) == [
        ("portal.device_code_refused", "unknown"),
        ("portal.form_refused", "origin"),
        ("portal.form_refused", "token"),
        ("portal.log_on_refused", None),
        ("portal.password_link_refused", None),
        ("portal.request_refused", "invalid_host"),
        ("portal.request_refused", "too_large"),
    ]


async def test_a_database_that_is_away_has_one_line_for_a_flood(small_world: World) -> None:
    ann = await small_world.account("ann", Kind.PARTNER)
    with logged() as lines:
        async with served(small_world) as client:
            await log_on(client, small_world, ann)
            database = small_world.portal.settings.data_dir / DATABASE_FILE
            database.rename(database.with_suffix(".away"))
            database.mkdir()
            engine = small_world.portal.engine
            former = engine.sync_engine.pool
            await engine.dispose()  # whatever is asked from here on opens it anew
            for _ in range(TIMES):
                assert (await client.get("/systems")).status_code == 503
        await greenlet_spawn(former.dispose)  # and with it what was in use at that moment, and came back since
    assert [line["log_level"] for line in lines if line["event"] == "portal.database_failed"] == ["error"]


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        pytest.param(b"\x16\x03\x01 no HTTP\r\n\r\n", "Invalid HTTP request received.", id="no HTTP"),
        pytest.param(
            b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            "Unsupported upgrade request.",
            id="a websocket",
        ),
    ],
)
def test_what_is_no_request_has_one_line_for_a_flood(tmp_path: Path, sent: bytes, reason: str) -> None:
    with running(tmp_path / "portal") as portal:
        port = int(portal.url.rpartition(":")[2])
        for _ in range(TIMES):
            with socket.create_connection(("127.0.0.1", port), timeout=10) as stranger:
                stranger.sendall(sent)
                assert stranger.recv(100).startswith(b"HTTP/1.1 ")
        assert portal.stop() < ENDED_S
        assert portal.process.stderr is not None
        lines = [line for line in portal.process.stderr if reason in line or "library.warned" in line]
    assert len(lines) == 1, lines
    assert '"event": "portal.connection_refused"' in lines[0]
