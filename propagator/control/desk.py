"""The agent's side of the control socket: peers come, say one line, get one line, and go."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from propagator import files
from propagator.control import SOCKET_FILE, read, uid_of, written
from propagator.core import strict_json
from propagator.core.errors import PropagatorError, StateError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from typing import NoReturn

    from propagator.control import Answer
    from propagator.core.difference import JsonObject

PATH_LIMIT: Final = 107
"""Bytes of a Unix socket's path: sun_path holds 108 with the closing zero (unix(7))."""

LINE_LIMIT: Final = 64 * 1024
"""Bytes of a request."""

PEER_DEADLINE_S: Final = 5.0
"""How long a peer may take to say its line, and again to take the reply."""

ANSWER_DEADLINE_S: Final = 60.0
"""How long the agent may take for an answer; the asking command gives up earlier."""

PEERS_LIMIT: Final = 32
"""Peers attended to at once; the rest wait in the kernel's queue."""

_log = logging.getLogger(__name__)


async def serve(state_dir: Path, desk: Desk) -> NoReturn:
    """Attend to every peer in a task of its own; all of them end with this one."""
    places = asyncio.Semaphore(PEERS_LIMIT)
    with _listening(state_dir / SOCKET_FILE, state_dir) as listener:
        async with asyncio.TaskGroup() as peers:
            while True:
                await places.acquire()
                try:
                    peer = await _accepted(listener)
                except OSError:  # no file descriptors left: time heals that
                    places.release()
                    await asyncio.sleep(1)
                    continue
                task = peers.create_task(desk.attend(peer), name="control peer")
                task.add_done_callback(partial(_leave, peer, places))


async def _accepted(listener: socket.socket) -> socket.socket:
    """Take the next peer. Nothing waits once it is taken: asyncio's own accept loses one that comes with a cancel."""
    while True:
        with contextlib.suppress(BlockingIOError):
            peer, _ = listener.accept()
            peer.setblocking(False)  # noqa: FBT003  the socket's signature
            return peer
        await _readable(listener)


async def _readable(listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(listener, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(listener)


def _leave(peer: socket.socket, places: asyncio.Semaphore, _task: asyncio.Task[None]) -> None:
    peer.close()
    places.release()


@contextlib.contextmanager
def _listening(path: Path, state_dir: Path) -> Iterator[socket.socket]:
    """Make the socket beside its place and move it there: never open too wide, and a stale one is replaced."""
    if len(os.fsencode(path)) > PATH_LIMIT:
        raise StateError(
            f"The path of the control socket, {path}, is longer than {PATH_LIMIT} bytes.",
            hint="give the state directory a shorter path",
        )
    fresh = path.with_name(f".ctl-{secrets.token_hex(3)}")  # no longer than the name it gets
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as listener:
        try:
            listener.bind(str(fresh))
            fresh.chmod(0o660)
            files.take_owner(fresh, state_dir)
            listener.listen(PEERS_LIMIT)
            fresh.replace(path)
        except OSError as exc:
            hint = f"ls -ld {state_dir} {path}"
            raise StateError(f"The control socket {path} cannot be made: {exc.strerror}.", hint=hint) from exc
        finally:
            _unlink(fresh)
        try:
            yield listener
        finally:
            _unlink(path)


def _unlink(path: Path) -> None:
    with contextlib.suppress(
        OSError
    ):  # gone already, or a file system that became read-only: the next start replaces it
        path.unlink()


@dataclass(frozen=True, slots=True)
class Desk:
    """What the agent answers, and to whom."""

    answers: Mapping[str, Answer]
    open_ops: frozenset[str]
    owner_uid: int

    async def attend(self, peer: socket.socket) -> None:
        """Hear one line, answer it. A peer that is slow, gone or talks garbage harms nobody."""
        with contextlib.suppress(OSError, TimeoutError):
            try:
                async with asyncio.timeout(PEER_DEADLINE_S):
                    request = read(await _hear(peer))
                reply = await self._reply(request, uid_of(peer))
            except strict_json.Invalid as exc:
                reply = _no(f"this is no request: {exc}")
            async with asyncio.timeout(PEER_DEADLINE_S):
                await asyncio.get_running_loop().sock_sendall(peer, written(reply))

    async def _reply(self, request: JsonObject, uid: int) -> JsonObject:
        op = request.get("op")
        if not isinstance(op, str) or op not in self.answers:
            return _no("the agent knows no such request")
        if op not in self.open_ops and uid not in {0, self.owner_uid}:
            no = _no(f"only root or the owner of the state directory may ask for {op}")
            return {**no, "hint": "run this as root"}
        try:
            async with asyncio.timeout(ANSWER_DEADLINE_S):
                return await self.answers[op](request)
        except TimeoutError:
            return _no("the agent took too long")
        except PropagatorError as exc:
            return {**_no(str(exc)), "hint": exc.hint}
        except Exception as exc:  # noqa: BLE001  one bad answer must not end the agent; it is logged with its traceback
            _log.exception("control.answer_failed")
            return _no(f"internal error of the agent: {type(exc).__name__}")


async def _hear(peer: socket.socket) -> bytes:
    heard = b""
    while b"\n" not in heard:
        part = await asyncio.get_running_loop().sock_recv(peer, 4096)
        if not part:
            break
        heard += part
        if len(heard) > LINE_LIMIT:
            raise strict_json.Invalid(f"longer than {LINE_LIMIT} bytes")
    return heard


def _no(error: str) -> JsonObject:
    return {"ok": False, "error": error}
