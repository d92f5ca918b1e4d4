"""The control socket, STATE/control.sock: how a command speaks with the running agent (DESIGN §6).

One JSON object on one line in, one out: `{"op": "live"}` -> `{"ok": true, …}`, or `{"ok": false, "error": "…"}`.
Commands `ask`, the agent `serve`s; the serving half lies in `desk`. The kernel says who is at the other end
(SO_PEERCRED): who may open the socket may look, only root and the owner of the state directory may have something done.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from propagator.core import strict_json

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path
    from typing import NoReturn

    from propagator.core.difference import JsonObject, JsonValue

SOCKET_FILE: Final = "control.sock"

REPLY_LIMIT: Final = 1024 * 1024
"""Bytes of a reply: several times what `live` can grow to."""

Answer: TypeAlias = "Callable[[JsonObject], Awaitable[JsonObject]]"


def ask(state_dir: Path, op: str, timeout_s: float = 5.0, **members: JsonValue) -> JsonObject | None:
    """Ask the agent of a state directory, and give its reply; None where no agent answers within `timeout_s`."""
    deadline_s = time.monotonic() + timeout_s
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
            # Before Python's own timeout, under which a full queue refuses at once: the kernel waits for a place in it.
            patience = struct.pack("ll", int(timeout_s), int(timeout_s % 1 * 1_000_000))
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)
            peer.connect(str(state_dir / SOCKET_FILE))
            peer.settimeout(max(deadline_s - time.monotonic(), 0.001))
            if uid_of(peer) not in {0, state_dir.stat().st_uid}:
                return None  # somebody else's socket under the agent's name
            peer.sendall(written({"op": op, **members}))
            return read(_hear(peer, deadline_s))
    except (OSError, strict_json.Invalid):  # nobody there, too slow, a path too long for anybody to listen at, garbage
        return None


async def serve(
    state_dir: Path,
    answers: Mapping[str, Answer],
    *,
    open_ops: frozenset[str] = frozenset({"live"}),
    owner_uid: int,
) -> NoReturn:
    """Answer on the control socket until cancelled; the caller holds the lock of the state directory.

    `answers` is by op; those not in `open_ops` are for root and `owner_uid` alone. What raises a PropagatorError is
    told with its hint. The socket stands once this has begun, and is gone once it ended. Raises StateError if it
    cannot be made.
    """
    from propagator.control import desk  # noqa: PLC0415  asyncio; `status` asks with this module and has no time for it

    await desk.serve(state_dir, desk.Desk(answers, open_ops, owner_uid))


def _hear(peer: socket.socket, deadline_s: float) -> bytes:
    heard = b""
    while b"\n" not in heard and len(heard) <= REPLY_LIMIT:
        peer.settimeout(max(deadline_s - time.monotonic(), 0.001))
        part = peer.recv(64 * 1024)
        if not part:
            break
        heard += part
    return heard


def written(members: Mapping[str, JsonValue]) -> bytes:
    """Write one line."""
    return json.dumps(members, separators=(",", ":")).encode() + b"\n"


def read(line: bytes) -> JsonObject:
    """Read one line. Raises strict_json.Invalid if it is not one whole line with a JSON object."""
    if not line.endswith(b"\n"):
        raise strict_json.Invalid("not one whole line")
    value = strict_json.loads(line)
    if not isinstance(value, dict):
        raise strict_json.Invalid("no JSON object")
    return cast("JsonObject", value)


def uid_of(peer: socket.socket) -> int:
    """Ask the kernel which user is at the other end: struct ucred of unix(7)."""
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])
