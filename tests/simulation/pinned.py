"""What makes a run the same as the last one of its seed, byte for byte.

Chance comes from the seed (keys, serials, nonces, epochs, System IDs), time from the loop, SQLite works without threads
(`disk`), and sets of tasks keep an order. What stays outside: PYTHONHASHSEED, which a program can only set for another
one; `run.py` begins every process with 0. Work whose result does not change is done once (`once.py`).
"""

from __future__ import annotations

import asyncio
import functools
import gc
import hashlib
import itertools
import logging
import random
import secrets
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final
from unittest.mock import patch

import aiosqlite
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from propagator import agent, attach, control, hosting, keys, leading, shadowing
from propagator.core.signing import PrivateKey
from tests.simulation import disk, process
from tests.simulation.once import once
from tests.virtual_time import START_S, VirtualLoop, running_loop

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Coroutine, Iterator, Mapping, MutableMapping
    from pathlib import Path
    from typing import Any, NoReturn

    from propagator.control import Answer
    from propagator.core.difference import JsonObject
    from tests.simulation.network import Network


_RINGS: Final = 4


class _Task(asyncio.Task):  # type: ignore[type-arg]
    """A task that hashes to its number: a TaskGroup ends its tasks in the order of a set."""

    count = 0

    def __init__(self, *args: Any, **options: Any) -> None:
        _Task.count += 1
        self._number = _Task.count
        super().__init__(*args, **options)

    def __hash__(self) -> int:
        return self._number


class _Loop(VirtualLoop):
    """A loop without a list of generators, which asyncio would close at its end: no seed leaves one open."""

    def _asyncgen_firstiter_hook(self, _: object) -> None:
        pass


def new_loop() -> VirtualLoop:
    """Make a loop in virtual time whose tasks are numbered."""
    loop = _Loop()
    _Task.count = 0
    loop.set_task_factory(_numbered)  # type: ignore[arg-type]
    return loop


def _numbered(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **options: Any) -> _Task:
    return _Task(work, loop=loop, **options)


@contextmanager
def pinned(seed: int, network: Network, tell: Callable[[str], None] | None) -> Iterator[None]:
    """Let the product run over this network, by this seed; `tell` is given what it logs."""
    chance, count = random.Random(f"{seed}/chance"), itertools.count()
    with ExitStack() as stack:
        for target, name, value in (
            (secrets, "token_bytes", lambda count=32: chance.randbytes(count)),
            (secrets, "choice", chance.choice),
            (random, "SystemRandom", lambda: random.Random(chance.getrandbits(64))),
            (PrivateKey, "generate", lambda: _key(seed % _RINGS, next(count))),
            (keys, "write_server_certificate", lambda *_: None),
            (aiosqlite, "connect", disk.connect),
            (control, "serve", _serve),
            (leading, "MqttBus", network.bus),
            (shadowing, "MqttBus", network.bus),
            (attach, "MqttBus", network.bus),
            (hosting, "EmbeddedBroker", network.embedded),
            (agent, "LeadDiagnosis", NoDiagnosis),
            (threading.Thread, "start", _start_thread),
        ):
            stack.enter_context(patch.object(target, name, value))
        stack.enter_context(once())
        stack.enter_context(_logging(tell))
        stack.enter_context(_no_collector())
        yield


@contextmanager
def _logging(tell: Callable[[str], None] | None) -> Iterator[None]:
    """Tell what the product logs, with the machine and the virtual time; or nothing."""
    configured = structlog.get_config()
    level = logging.CRITICAL if tell is None else logging.INFO

    def render(_logger: object, _level: str, event: MutableMapping[str, Any]) -> str:
        at_s, what = running_loop().time() - START_S, event.pop("event")
        event.pop("logger_name", None)
        rest = " ".join(f"{key}={value}" for key, value in event.items())
        return f"{at_s:9.2f} s              {process.current().machine:<8} {what} {rest}"

    class Sink:
        def msg(self, line: str) -> None:
            if tell is not None:
                tell(line)

        info = warning = error = exception = msg

    structlog.configure(
        processors=[render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: Sink(),
        cache_logger_on_first_use=False,
    )
    try:
        yield
    finally:
        structlog.configure(**configured)


@contextmanager
def _no_collector() -> Iterator[None]:
    """Collect no garbage at moments of its own choosing."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class NoDiagnosis:
    """Stands in for the diagnosis, which looks at the real network of this machine, in threads."""

    def __init__(self, _state_dir: Path, _now: Callable[[], dt.datetime]) -> None:
        pass

    async def find(self) -> JsonObject:
        return {"code": "NOT_LOOKED_AT", "title": "The simulation has no network to look at", "confidence": "possible"}

    async def draw(self, host: str, port: int) -> None:
        """Keep no picture."""

    async def tell(self) -> JsonObject:
        return await self.find()


def _start_thread(thread: threading.Thread, start: Any = threading.Thread.start) -> None:
    """Start no thread from within a run: it answers when it likes. Others of this process may."""
    is_within = isinstance(asyncio._get_running_loop(), _Loop)
    if is_within:
        raise AssertionError(f"the simulation works without threads: {thread.name}")
    start(thread)


async def _serve(_state_dir: object, answers: Mapping[str, Answer], **_: object) -> NoReturn:
    """Stand in for the control socket: commands call the same answers."""
    process.current().answers = dict(answers)
    await asyncio.get_running_loop().create_future()
    raise AssertionError


@functools.lru_cache(4096)
def _key(ring: int, number: int) -> PrivateKey:
    """Give the key of this number. A run takes those of its ring in their order: most were made for an earlier one."""
    key = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(f"{ring}/{number}".encode()).digest())
    return PrivateKey.from_pem(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
