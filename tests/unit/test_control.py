"""The control socket: real sockets, one machine. Peers that are not root are told by the kernel, here by a stand-in."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import stat
from typing import TYPE_CHECKING

import pytest

from propagator import control
from propagator.control import desk
from propagator.core.errors import RefusedError, StateError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from propagator.control import Answer
    from propagator.core.difference import JsonObject

OWNER = 4711


async def _live(_request: JsonObject) -> JsonObject:
    return {"ok": True, "uplink": None, "downlink": None}


async def _echo(request: JsonObject) -> JsonObject:
    return {"ok": True, "heard": request.get("text")}


ANSWERS: Mapping[str, Answer] = {"live": _live, "echo": _echo}


@contextlib.asynccontextmanager
async def serving(state_dir: Path, answers: Mapping[str, Answer] = ANSWERS) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(control.serve(state_dir, answers, owner_uid=OWNER))
        await asyncio.sleep(0)  # its first step makes the socket
        try:
            yield
        finally:
            task.cancel()


async def _asked(state_dir: Path, op: str, timeout_s: float = 5.0, **members: str) -> JsonObject | None:
    return await asyncio.to_thread(control.ask, state_dir, op, timeout_s, **members)


async def _said(state_dir: Path, raw: bytes) -> JsonObject:
    """Say raw bytes, close our half, and read the reply."""
    reader, writer = await asyncio.open_unix_connection(state_dir / control.SOCKET_FILE)
    try:
        writer.write(raw)
        writer.write_eof()
        reply = json.loads(await reader.readline())
    finally:
        writer.close()
        await writer.wait_closed()
    assert isinstance(reply, dict)
    return reply


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def _peer_is(monkeypatch: pytest.MonkeyPatch, uid: int) -> None:
    monkeypatch.setattr(desk, "uid_of", lambda _peer: uid)


async def test_ask_gets_the_answer_with_its_members(tmp_path: Path) -> None:
    async with serving(tmp_path):
        assert await _asked(tmp_path, "echo", text="Ölmühle") == {"ok": True, "heard": "Ölmühle"}


def test_ask_without_an_agent_gives_none(tmp_path: Path) -> None:
    assert control.ask(tmp_path, "live") is None


def test_ask_on_a_stale_socket_gives_none(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / control.SOCKET_FILE))
    assert control.ask(tmp_path, "live") is None


def test_ask_of_an_agent_that_is_stopped_gives_none_in_time(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stopped:  # the kernel accepts for it, nobody answers (F38)
        stopped.bind(str(tmp_path / control.SOCKET_FILE))
        stopped.listen()
        assert control.ask(tmp_path, "live", timeout_s=0.05) is None


async def test_ask_does_not_believe_a_stranger_under_the_agents_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "uid_of", lambda _peer: OWNER)  # what the asking side sees
    async with serving(tmp_path):
        assert await _asked(tmp_path, "live") is None


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(b"hello\n", id="that is no JSON"),
        pytest.param(b"[]\n", id="that is no object"),
        pytest.param(b'{"ok": true', id="that breaks off"),
        pytest.param(b'{"x": "' + b"x" * 2 * control.REPLY_LIMIT + b'"}\n', id="that is too long"),
    ],
)
async def test_ask_gives_none_for_a_reply(tmp_path: Path, reply: bytes) -> None:
    async def speak(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(reply)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(speak, tmp_path / control.SOCKET_FILE)
    async with server:
        assert await _asked(tmp_path, "live") is None


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        pytest.param(b"", "not one whole line", id="nothing at all"),
        pytest.param(b'{"op": "live"}', "not one whole line", id="a line that does not end"),
        pytest.param(b'{"op": "live"}\n{"op": "live"}', "not one whole line", id="more than a line"),
        pytest.param(b"\xff\xfe\n", "UTF-8", id="bytes that are no text"),
        pytest.param(b"[1, 2]\n", "no JSON object", id="JSON that is no object"),
        pytest.param(b'{"op": "live", "op": "echo"}\n', "twice", id="a name that stands twice"),
        pytest.param(b"[" * 5000 + b"\n", "nested", id="a depth that would end the reader"),
        pytest.param(b'{"op": 5}\n', "no such request", id="an op that is no text"),
        pytest.param(b'{"op": "reboot"}\n', "no such request", id="an op that nobody answers"),
        pytest.param(b"x" * (desk.LINE_LIMIT + 1), "longer than", id="a line too long"),
    ],
)
async def test_serve_answers_garbage_with_an_error_and_goes_on(tmp_path: Path, raw: bytes, error: str) -> None:
    async with serving(tmp_path):
        reply = await _said(tmp_path, raw)
        assert reply["ok"] is False
        assert error in str(reply["error"])
        assert await _asked(tmp_path, "live") == {"ok": True, "uplink": None, "downlink": None}


@pytest.mark.parametrize(
    ("uid", "allowed"),
    [
        pytest.param(0, True, id="root"),
        pytest.param(OWNER, True, id="the owner of the state directory"),
        pytest.param(OWNER + 1, False, id="an operator of the group"),
    ],
)
async def test_serve_has_something_done_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uid: int, *, allowed: bool
) -> None:
    _peer_is(monkeypatch, uid)
    async with serving(tmp_path):
        reply = await _asked(tmp_path, "echo", text="x")
    assert reply is not None
    assert reply["ok"] is allowed
    assert allowed or "only root or the owner" in str(reply["error"])


async def test_serve_lets_every_peer_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _peer_is(monkeypatch, OWNER + 1)
    async with serving(tmp_path):
        assert await _asked(tmp_path, "live") == {"ok": True, "uplink": None, "downlink": None}


def test_the_kernel_says_who_is_at_the_other_end() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert control.uid_of(ours) == os.geteuid()


async def test_serve_tells_what_an_answer_cannot_do_with_its_hint(tmp_path: Path) -> None:
    async def refuse(_request: JsonObject) -> JsonObject:
        raise RefusedError("It is paused.", hint="unpause it")

    async with serving(tmp_path, {"live": refuse}):
        assert await _asked(tmp_path, "live") == {"ok": False, "error": "It is paused.", "hint": "unpause it"}


async def test_serve_outlives_a_fault_in_an_answer_and_logs_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(_request: JsonObject) -> JsonObject:
        raise KeyError("x")

    async with serving(tmp_path, {"live": fail, "echo": _echo}):
        assert await _asked(tmp_path, "live") == {"ok": False, "error": "internal error of the agent: KeyError"}
        assert await _asked(tmp_path, "echo", text="x") == {"ok": True, "heard": "x"}
    assert [record.message for record in caplog.records] == ["control.answer_failed"]


async def test_serve_gives_up_a_peer_that_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "PEER_DEADLINE_S", 0.05)
    async with serving(tmp_path):
        reader, writer = await asyncio.open_unix_connection(tmp_path / control.SOCKET_FILE)
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


async def test_serve_gives_up_an_answer_that_does_not_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(_request: JsonObject) -> JsonObject:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(desk, "ANSWER_DEADLINE_S", 0.05)
    async with serving(tmp_path, {"live": never}):
        assert await _asked(tmp_path, "live") == {"ok": False, "error": "the agent took too long"}


async def test_serve_attends_to_one_while_others_are_silent(tmp_path: Path) -> None:
    async with serving(tmp_path):
        silent = [await asyncio.open_unix_connection(tmp_path / control.SOCKET_FILE) for _ in range(8)]
        assert await _asked(tmp_path, "echo", text="x") == {"ok": True, "heard": "x"}
        for _, writer in silent:
            writer.close()
            await writer.wait_closed()


async def test_serve_bounds_the_peers_and_takes_the_next_when_one_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "PEERS_LIMIT", 1)
    async with serving(tmp_path):
        _, silent = await asyncio.open_unix_connection(tmp_path / control.SOCKET_FILE)
        reader, waiting = await asyncio.open_unix_connection(tmp_path / control.SOCKET_FILE)
        waiting.write(b'{"op": "live"}\n')
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await reader.read(1)
        silent.close()
        await silent.wait_closed()
        assert json.loads(await reader.readline())["ok"] is True
        waiting.close()
        await waiting.wait_closed()


async def test_serve_replaces_a_stale_socket_and_leaves_none_behind(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / control.SOCKET_FILE))
    async with serving(tmp_path):
        assert await _asked(tmp_path, "echo", text="x") == {"ok": True, "heard": "x"}
    assert _names(tmp_path) == []


async def test_serve_is_for_owner_and_group_whatever_the_umask(tmp_path: Path) -> None:
    was = os.umask(0)
    try:
        async with serving(tmp_path):
            mode = (tmp_path / control.SOCKET_FILE).stat().st_mode
    finally:
        os.umask(was)
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o660


async def test_serve_leaves_no_task_behind(tmp_path: Path) -> None:
    before = asyncio.all_tasks()
    async with serving(tmp_path):
        reader, writer = await asyncio.open_unix_connection(tmp_path / control.SOCKET_FILE)
        writer.write(b'{"op"')
        await writer.drain()
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


async def test_serve_says_that_a_path_is_too_long(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    with pytest.raises(StateError, match="longer than 107 bytes") as raised:
        await control.serve(deep, ANSWERS, owner_uid=OWNER)
    assert raised.value.hint
    assert control.ask(deep, "live") is None


async def test_serve_takes_the_longest_path_that_the_kernel_takes(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * (desk.PATH_LIMIT - len(os.fsencode(tmp_path)) - len(control.SOCKET_FILE) - 2))
    deep.mkdir()
    assert len(os.fsencode(deep / control.SOCKET_FILE)) == desk.PATH_LIMIT
    async with serving(deep):
        assert await _asked(deep, "echo", text="x") == {"ok": True, "heard": "x"}


async def test_serve_says_that_the_socket_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"control\.sock cannot be made"):
        await control.serve(tmp_path / "missing", ANSWERS, owner_uid=OWNER)
    (tmp_path / control.SOCKET_FILE).mkdir()
    with pytest.raises(StateError, match=r"control\.sock cannot be made"):
        await control.serve(tmp_path, ANSWERS, owner_uid=OWNER)
    assert _names(tmp_path) == [control.SOCKET_FILE]
