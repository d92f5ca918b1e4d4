"""One transaction is all or nothing, durable, and never keeps another process out longer than it lasts."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import pytest

from propagator.core.errors import StateError, StoreError
from propagator.core.state import Event, Origin
from propagator.store import changes, connection, held, migration
from tests.store.contents import AT, opened_for, rows
from tests.unit.builders import registered

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Iterator
    from pathlib import Path

    from propagator.store import Store, Tx

_WRITER = """
import sqlite3, sys, time
database = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=float(sys.argv[2]))
database.execute("BEGIN IMMEDIATE")
database.execute("UPDATE server SET session = session + 1")
print("holding", flush=True)
time.sleep(float(sys.argv[3]))
database.execute("COMMIT")
"""


def another_process(path: Path, *, patience_s: float = 0.0, holding_s: float = 0.0) -> subprocess.Popen[str]:
    """Start a process that writes in one transaction: waits `patience_s` for the lock, then holds it `holding_s`."""
    return subprocess.Popen(
        [sys.executable, "-c", _WRITER, path, str(patience_s), str(holding_s)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def assert_another_process_can_write_at_once(path: Path) -> None:
    with another_process(path) as writer:
        _, trouble = writer.communicate(timeout=20)
    assert writer.returncode == 0, trouble


@contextlib.contextmanager
def somebody_holding(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other


async def write_two_things(tx: Tx) -> None:
    await held.begin_session(tx, 7)
    await changes.write_own(tx, registered(), event=Event.REGISTERED, origin=Origin.OWN, pending=False, at=AT)


async def session_of(store: Store) -> int:
    async with store.reading() as tx:
        return await held.last_session(tx)


async def test_transaction_keeps_all_of_it(store: Store) -> None:
    async with store.transaction() as tx:
        await write_two_things(tx)
    assert rows(store.path.parent, "SELECT session FROM server") == [(7,)]
    assert rows(store.path.parent, "SELECT event FROM history") == [("registered",)]


async def test_transaction_that_raises_keeps_nothing_of_it(store: Store) -> None:
    with pytest.raises(RuntimeError, match="in the middle"):  # noqa: PT012
        async with store.transaction() as tx:
            await write_two_things(tx)
            raise RuntimeError("in the middle")
    assert rows(store.path.parent, "SELECT session FROM server") == [(0,)]
    assert rows(store.path.parent, "SELECT event FROM history") == []
    assert_another_process_can_write_at_once(store.path)


async def test_transaction_with_a_statement_that_fails_keeps_nothing_of_it(store: Store) -> None:
    with pytest.raises(StoreError, match="cannot be used") as failed:  # noqa: PT012
        async with store.transaction() as tx:
            await write_two_things(tx)
            await tx.run("INSERT INTO server SELECT * FROM server")
    assert failed.value.hint
    assert await session_of(store) == 0


async def test_cancelled_transaction_keeps_nothing_and_holds_no_lock(store: Store) -> None:
    inside = asyncio.Event()

    async def write_and_wait() -> None:
        async with store.transaction() as tx:
            await write_two_things(tx)
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(write_and_wait())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert rows(store.path.parent, "SELECT event FROM history") == []
    assert_another_process_can_write_at_once(store.path)
    assert await session_of(store) == 1


async def test_transaction_cancelled_at_any_of_its_steps_is_all_or_nothing(store: Store) -> None:
    """Wherever the cancellation falls: no half is kept, no lock, and the store works on."""

    async def write(step: int) -> None:
        async with store.transaction() as tx:
            await held.begin_session(tx, step + 1)
            await changes.write_own(
                tx, None, event=Event.UNDONE, origin=Origin.OWN, pending=False, at=AT, detail=str(step)
            )

    kept = []
    for step in itertools.count():
        driven = CancelledAt(step, write(step))
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.create_task(driven.run())
        with closing(sqlite3.connect(store.path, isolation_level=None, timeout=0)) as other:
            other.execute("BEGIN IMMEDIATE")  # at once, or it raises
            other.execute("ROLLBACK")
        session = rows(store.path.parent, "SELECT session FROM server") == [(step + 1,)]
        history = bool(rows(store.path.parent, "SELECT 1 FROM history WHERE detail = ?", str(step)))
        assert session == history, f"cancelled at step {step}: one half was kept without the other"
        kept.append(session)
        if driven.is_through:
            break
    assert len(kept) > 2, "it waits to begin, and to commit"
    assert kept[-1]
    assert not kept[0], "only the commit itself, once it is on its way, may still succeed"


class CancelledAt:
    """Drives a coroutine and cancels the task it runs in when the coroutine waits for the `step`th time, from 0."""

    def __init__(self, step: int, work: Coroutine[object, object, None]) -> None:
        self.is_through = False
        self._left = step
        self._work = work.__await__()

    async def run(self) -> None:
        await self

    def __await__(self) -> Generator[object, None, None]:
        send: Callable[[], object] = lambda: next(self._work)  # noqa: E731
        while True:
            try:
                waited_for = send()
            except StopIteration:
                self.is_through = self._left >= 0
                return
            if self._left == 0 and (task := asyncio.current_task()) is not None:
                task.cancel()
            self._left -= 1
            try:
                yield waited_for
                send = lambda: next(self._work)  # noqa: E731
            except BaseException as error:  # noqa: BLE001  handed on to the coroutine
                send = partial(self._work.throw, error)


async def test_transaction_cancelled_twice_leaves_a_store_that_works(store: Store) -> None:
    inside = asyncio.Event()

    async def write_and_wait() -> None:
        async with store.transaction() as tx:
            await write_two_things(tx)
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(write_and_wait())
    await inside.wait()
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with store.transaction() as tx:
        await held.begin_session(tx, 3)
    assert rows(store.path.parent, "SELECT session FROM server") == [(3,)]
    assert rows(store.path.parent, "SELECT event FROM history") == []
    assert_another_process_can_write_at_once(store.path)


async def test_transaction_cancelled_while_it_waits_for_another_process_holds_no_lock_later(store: Store) -> None:
    async def write() -> None:
        async with store.transaction() as tx:
            await write_two_things(tx)

    with somebody_holding(store.path) as other:
        task = asyncio.create_task(write())
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.sleep(0.05)
        other.execute("COMMIT")
        with pytest.raises(asyncio.CancelledError):
            await task
        assert_another_process_can_write_at_once(store.path)
    assert rows(store.path.parent, "SELECT event FROM history") == []


async def test_transactions_of_one_process_take_turns(store: Store) -> None:
    async def count_up() -> None:
        async with store.transaction() as tx:
            before = await held.last_session(tx)
            await asyncio.sleep(0)
            await held.begin_session(tx, before + 1)

    await asyncio.gather(*(count_up() for _ in range(25)))
    assert await session_of(store) == 25


async def test_two_processes_that_write_both_succeed(store: Store) -> None:
    with another_process(store.path, holding_s=0.3) as writer:
        assert writer.stdout
        assert writer.stdout.readline() == "holding\n"
        async with store.transaction() as tx:  # waits for it
            assert await held.last_session(tx) == 1
            await held.begin_session(tx, 2)
        assert writer.wait(timeout=20) == 0
    assert await session_of(store) == 2


async def test_several_processes_lose_no_write(store: Store) -> None:
    writers = [another_process(store.path, patience_s=20) for _ in range(4)]
    for _ in range(20):
        async with store.transaction() as tx:
            await held.begin_session(tx, await held.last_session(tx) + 1)
    for writer in writers:
        with writer:
            assert writer.wait(timeout=20) == 0
    assert await session_of(store) == 24


async def test_database_that_another_program_holds_too_long_is_an_error_that_says_so(store: Store) -> None:
    await store._connection.execute("PRAGMA busy_timeout = 20")
    with somebody_holding(store.path):
        with pytest.raises(StoreError, match="locked") as failed:
            async with store.transaction() as tx:
                await write_two_things(tx)
        assert "another program" in failed.value.hint
    async with store.transaction() as tx:
        await write_two_things(tx)


async def test_reading_sees_one_picture_while_another_process_writes(store: Store) -> None:
    async with store.reading() as tx:
        assert await held.last_session(tx) == 0
        assert_another_process_can_write_at_once(store.path)
        assert await held.last_session(tx) == 0
    assert await session_of(store) == 1


async def test_reading_is_not_held_up_by_who_writes(store: Store) -> None:
    with somebody_holding(store.path):
        assert await session_of(store) == 0


async def test_full_disk_is_an_error_that_says_so_and_the_store_heals_by_itself(store: Store) -> None:
    """F33: the old record stays readable, nothing half is kept, and the next try succeeds once there is room."""
    async with store._connection.execute("PRAGMA page_count") as cursor:
        pages = await cursor.fetchone()
    assert pages
    await store._connection.execute(f"PRAGMA max_page_count = {pages[0]}")
    with pytest.raises(StoreError, match="full") as failed:  # noqa: PT012
        async with store.transaction() as tx:
            await held.begin_session(tx, 9)
            for _ in range(200):
                await changes.write_own(
                    tx, registered(), event=Event.REGISTERED, origin=Origin.OWN, pending=False, at=AT
                )
    assert "space" in failed.value.hint
    assert await session_of(store) == 0
    await store._connection.execute("PRAGMA max_page_count = 1000000")
    async with store.transaction() as tx:
        await write_two_things(tx)
    assert await session_of(store) == 7


async def test_database_that_may_not_be_written_is_an_error_that_says_so(store: Store) -> None:
    await store._connection.execute("PRAGMA query_only = ON")
    with pytest.raises(StoreError, match="readonly") as failed:
        async with store.transaction() as tx:
            await write_two_things(tx)
    assert "writable" in failed.value.hint


@pytest.mark.parametrize(
    ("pragma", "value"),
    [
        pytest.param("journal_mode", "wal", id="write-ahead log"),
        pytest.param("synchronous", 2, id="every commit reaches the disk: FULL"),
        pytest.param("foreign_keys", 1, id="references are held"),
        pytest.param("busy_timeout", 5000, id="a writer waits 5 s for another"),
    ],
)
async def test_open_database_is_set_up(store: Store, pragma: str, value: object) -> None:
    async with store._connection.execute(f"PRAGMA {pragma}") as cursor:
        row = await cursor.fetchone()
    assert row
    assert row[0] == value


async def test_reference_to_a_version_that_was_never_issued_is_refused(lead_store: Store) -> None:
    with pytest.raises(StoreError, match="FOREIGN KEY"):
        async with lead_store.transaction() as tx:
            await tx.run("INSERT INTO downlink (one, current) VALUES (1, '1.1.none.1')")


async def test_commit_lies_in_the_log_before_the_transaction_ends(store: Store) -> None:
    """Another process finds it while this one still has the database open: nothing waits for a checkpoint."""
    async with store.transaction() as tx:
        await write_two_things(tx)
    assert store.path.with_name("propagator.db-wal").stat().st_size > 0
    reader = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('SELECT session FROM server').fetchone())"
    found = subprocess.run(  # noqa: ASYNC221
        [sys.executable, "-c", reader, store.path], capture_output=True, text=True, check=True
    )
    assert found.stdout == "(7,)\n"


async def test_missing_database_is_no_state(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="no state") as missing:
        async with connection.opened(tmp_path):
            pass
    assert "init" in missing.value.hint
    assert os.listdir(tmp_path) == []  # noqa: PTH208


async def test_newer_schema_is_refused_whole(tmp_path: Path) -> None:
    """F39."""
    async with opened_for(tmp_path):
        pass
    with closing(sqlite3.connect(tmp_path / connection.FILE_NAME)) as database:
        database.execute(f"PRAGMA user_version = {migration.SCHEMA_VERSION + 1}")
    before = (tmp_path / connection.FILE_NAME).read_bytes()
    with pytest.raises(StoreError, match="newer program") as refused:
        async with connection.opened(tmp_path):
            pass
    assert "nothing was changed" in refused.value.hint
    assert (tmp_path / connection.FILE_NAME).read_bytes() == before


@pytest.mark.parametrize(
    "content",
    [pytest.param(b"", id="an empty file"), pytest.param(b"SQLite format 4\0" + b"junk" * 400, id="no database")],
)
async def test_file_that_holds_no_state_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / connection.FILE_NAME).write_bytes(content)
    with pytest.raises(StoreError) as refused:
        async with connection.opened(tmp_path):
            pass
    assert "backup" in refused.value.hint


async def test_database_is_made_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failing, or killed, `init` can be tried again: nothing is left behind that looks like a state."""

    class _Broken:
        def joinpath(self, _: str) -> _Broken:
            return self

        def read_text(self) -> str:
            return "CREATE TABLE server (one INTEGER) STRICT; CREATE nonsense;"

    with monkeypatch.context() as broken:
        broken.setattr("propagator.store.connection.resources.files", lambda _: _Broken())
        with pytest.raises(StoreError):
            await connection.create(tmp_path)
    assert os.listdir(tmp_path) == []  # noqa: PTH208
    await connection.create(tmp_path)
    async with connection.opened(tmp_path):
        pass
    assert (tmp_path / connection.FILE_NAME).stat().st_mode & 0o777 == 0o660


async def test_a_store_keeps_few_pages_in_memory_and_syncs_every_commit(store: Store) -> None:
    """What a device with little memory is promised, and what "reported" means: 2 is FULL."""
    async with store.reading() as tx:
        kept = {name: (await tx.all(f"PRAGMA {name}"))[0][0] for name in ("cache_size", "synchronous")}
    assert kept == {"cache_size": -connection.CACHE_KIB, "synchronous": 2}
