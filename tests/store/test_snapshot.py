"""The picture of the store that needs no agent: while it is written, after a crash, damaged, or not there at all."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from propagator import snapshot
from propagator.core.errors import StateError, StoreError
from propagator.core.state import DownlinkState, Event, State
from propagator.snapshot import connection as reading
from propagator.store import connection, migration
from tests import states
from tests.states import AT, CURRENT, HOUSE, LATER, LEAD, MILL


def _database(state_dir: Path) -> Path:
    return state_dir / connection.FILE_NAME


def _content(state_dir: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in state_dir.iterdir()}


def test_it_reads_what_the_store_writes() -> None:
    assert reading.FILE_NAME == connection.FILE_NAME
    assert reading.SCHEMA_VERSION == migration.SCHEMA_VERSION


def test_read_gives_a_lead_with_its_shadows(tmp_path: Path) -> None:
    states.lead(tmp_path, reports={"as-1": states.report(), "as-2": None, "as-3": states.report(State.BEHIND)})
    states.change(tmp_path, "UPDATE member SET revoked_at = ? WHERE id = 'as-3'", LATER)
    read = snapshot.read(tmp_path)
    assert read.server == snapshot.Server("es-1", "Enterprise Server", "enterprise-server", "SYS-1", False, True)  # noqa: FBT003
    assert read.record == snapshot.Record(
        origin="own",
        registration=HOUSE.canonical,
        hash=HOUSE.hash,
        lead=None,
        version=CURRENT,
        path=(("es-1", LEAD.identity.thumbprint),),
        stored_at=AT,
        pending=False,
        detached_from=None,
    )
    assert (read.uplink, read.refusals) == (None, ())
    raw = LEAD.signed(CURRENT, HOUSE)
    assert read.downlink == snapshot.Downlink(
        "embedded", "ok", None, CURRENT, HOUSE.hash, AT, raw, LEAD.identity.thumbprint
    )
    assert [member.id for member in read.members] == ["as-1", "as-2"]  # who is revoked is not shown
    first, second = read.members
    assert (first.report, first.reported_at, first.online, first.confirmed) == (states.report(), LATER, True, True)
    assert (second.report, second.attached_at, second.online, second.last_heard) == (None, AT, False, None)


def test_read_gives_a_lost_lead_without_an_issue(tmp_path: Path) -> None:
    states.lead(tmp_path, None, state=DownlinkState.LOST)
    assert snapshot.read(tmp_path).downlink == snapshot.Downlink("embedded", "lost", None, None, None, None, None)


def test_read_gives_a_shadow_with_its_uplink(tmp_path: Path) -> None:
    states.shadow(tmp_path, state=State.STALE)
    states.change(tmp_path, "UPDATE uplink SET refusal = ?, finding = ?", '{"reason": "fork"}', '{"code": "X"}')
    states.change(tmp_path, "INSERT INTO refusal VALUES ('fork', 3, 'why', ?)", LATER)
    read = snapshot.read(tmp_path)
    assert read.record.lead == "es-1"
    assert read.record.version == CURRENT
    assert read.refusals == (snapshot.Refusals("fork", 3, "why", LATER),)
    assert read.downlink is None
    assert read.uplink == snapshot.Uplink(
        lead="es-1",
        lead_name="Enterprise Server",
        identity=LEAD.identity.thumbprint,
        state="stale",
        since=LATER,
        address="192.0.2.10:8883",
        last_heard=LATER,
        period_s=60.0,
        refusal={"reason": "fork"},
        finding={"code": "X"},
        seq=1,
    )


def test_read_gives_a_server_of_its_own_without_links(tmp_path: Path) -> None:
    states.standalone(tmp_path)
    read = snapshot.read(tmp_path)
    assert (read.record.registration, read.record.path, read.uplink, read.downlink) == (None, (), None, None)


def test_history_is_newest_first_and_bounded(tmp_path: Path) -> None:
    states.shadow(tmp_path)
    lines = snapshot.history(tmp_path)
    assert [line.event for line in lines] == [Event.OVERWRITTEN, Event.ATTACHED, Event.REGISTERED]
    assert snapshot.history(tmp_path, 2) == lines[:2]
    newest = lines[0]
    assert (newest.before, newest.after) == (MILL.document, HOUSE.document)
    assert (newest.lead, newest.version, newest.fingerprint) == ("es-1", CURRENT, LEAD.signing.thumbprint)
    assert newest.raw == LEAD.signed(CURRENT, HOUSE)
    assert newest.replaced is not None
    assert newest.replaced["hash"] == MILL.hash


# It only looks, and in any weather.


def test_a_cleanly_closed_store_is_left_as_it_was(tmp_path: Path) -> None:
    """A log left behind by an operator who looked would keep the agent from starting (fs.protected_regular = 2)."""
    states.shadow(tmp_path)
    before = _content(tmp_path)
    assert list(before) == [connection.FILE_NAME]
    snapshot.read(tmp_path)
    snapshot.history(tmp_path)
    assert _content(tmp_path) == before


def test_a_store_of_a_newer_program_is_left_as_it_was_too(tmp_path: Path) -> None:
    states.shadow(tmp_path)
    states.change(tmp_path, f"PRAGMA user_version = {migration.SCHEMA_VERSION + 1}")
    before = _content(tmp_path)
    with pytest.raises(StoreError):
        snapshot.read(tmp_path)
    assert _content(tmp_path) == before


def test_a_store_is_read_while_it_is_written(tmp_path: Path) -> None:
    states.shadow(tmp_path)
    with closing(sqlite3.connect(_database(tmp_path), isolation_level=None)) as writer:
        writer.execute("UPDATE server SET name = 'written'")
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE server SET name = 'half written'")
        assert snapshot.read(tmp_path).server.name == "written"
        writer.execute("COMMIT")
        assert snapshot.read(tmp_path).server.name == "half written"
        assert {f"{connection.FILE_NAME}-wal", f"{connection.FILE_NAME}-shm"} < set(_content(tmp_path))


_KILLED = """
import os, signal, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("UPDATE server SET name = 'committed'")
database.execute("BEGIN IMMEDIATE")
database.execute("UPDATE server SET name = 'lost'")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_f32_a_store_is_read_after_kill_9_with_what_was_committed(tmp_path: Path) -> None:
    states.shadow(tmp_path)
    killed = subprocess.run([sys.executable, "-c", _KILLED, _database(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    before = _content(tmp_path)
    assert before[f"{connection.FILE_NAME}-wal"]  # what was committed is in there alone
    assert snapshot.read(tmp_path).server.name == "committed"
    after = _content(tmp_path)
    for name in (connection.FILE_NAME, f"{connection.FILE_NAME}-wal"):
        assert after[name] == before[name]


def test_a_path_of_any_signs_is_opened(tmp_path: Path) -> None:
    odd = tmp_path / "what? 100% #1 & more" / os.fsdecode(b"no\xffutf-8")
    states.standalone(odd)
    assert snapshot.read(odd).server.id == "as-9"


def test_a_relative_path_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    states.standalone(tmp_path / "here")
    monkeypatch.chdir(tmp_path)
    assert snapshot.read(Path("here")).server.id == "as-9"


def test_f32_reading_inside_the_agent_leaves_its_log_to_it(tmp_path: Path) -> None:
    """A descriptor that is closed drops the process's locks: the next command would take the agent's log away."""
    states.shadow(tmp_path)
    log = tmp_path / f"{connection.FILE_NAME}-wal"
    with closing(sqlite3.connect(_database(tmp_path), isolation_level=None)) as agent:
        agent.execute("UPDATE server SET name = 'before'")
        snapshot.read(tmp_path)  # as its diagnosis does
        inode = log.stat().st_ino
        command = (
            "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute('SELECT * FROM server'); db.close()"
        )
        subprocess.run([sys.executable, "-c", command, str(_database(tmp_path))], check=True, timeout=60)
        assert log.stat().st_ino == inode
        agent.execute("UPDATE server SET name = 'after'")
        assert snapshot.read(tmp_path).server.name == "after"


# What cannot be read is told, with what to do.


@pytest.mark.parametrize("folder", [".", "missing"], ids=["an empty directory", "no directory"])
def test_no_state_is_told_with_init(tmp_path: Path, folder: str) -> None:
    with pytest.raises(StateError, match="There is no state in") as raised:
        snapshot.read(tmp_path / folder)
    assert raised.value.hint.startswith("propagator init")
    assert raised.value.exit_code == 3
    assert list(tmp_path.iterdir()) == []


def test_a_state_dir_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match="Not a directory") as raised:
        snapshot.read(tmp_path / "file")
    assert "--state-dir" in raised.value.hint


def test_no_right_is_told_with_who_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may read everything, so the refusal is a stand-in."""
    states.standalone(tmp_path)

    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    with pytest.raises(StateError, match="may not be read by this user") as raised:
        snapshot.read(tmp_path)
    assert raised.value.hint == "run this as root, or as a member of the group propagator"
    assert raised.value.exit_code == 3


def test_f39_a_newer_schema_is_refused_whole(tmp_path: Path) -> None:
    states.shadow(tmp_path)
    states.change(tmp_path, f"PRAGMA user_version = {migration.SCHEMA_VERSION + 1}")
    for look in (snapshot.read, snapshot.history):
        with pytest.raises(StoreError, match=r"newer program \(schema 3; this one knows 2\)") as raised:
            look(tmp_path)
        assert (raised.value.exit_code, raised.value.hint != "") == (3, True)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        pytest.param(b"", "holds no state", id="empty"),
        pytest.param(b"not SQLite at all " * 100, "is damaged", id="something else"),
    ],
)
def test_f35_a_file_that_is_no_store_is_told(tmp_path: Path, content: bytes, text: str) -> None:
    _database(tmp_path).write_bytes(content)
    with pytest.raises(StoreError, match=text) as raised:
        snapshot.read(tmp_path)
    assert "backup" in raised.value.hint


def test_f35_a_store_with_damaged_pages_is_told(tmp_path: Path) -> None:
    states.shadow(tmp_path)
    whole = _database(tmp_path).read_bytes()
    _database(tmp_path).write_bytes(whole[:4096] + b"\xa5" * (len(whole) - 4096))
    with pytest.raises(StoreError, match="is damaged") as raised:
        snapshot.read(tmp_path)
    assert raised.value.hint == "restore it from a backup"


@pytest.mark.parametrize("table", ["server", "record"])
def test_a_store_that_is_not_complete_is_told(tmp_path: Path, table: str) -> None:
    states.standalone(tmp_path)
    states.change(tmp_path, f"DELETE FROM {table}")  # noqa: S608
    with pytest.raises(StoreError, match=f"not complete: {table} is empty"):
        snapshot.read(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "hint"),
    [
        ("SQLITE_BUSY_RECOVERY", "is held by another program", "try again"),
        ("SQLITE_CANTOPEN", "cannot be opened", "member of the group"),
        ("SQLITE_READONLY_DIRECTORY", "cannot be opened", "member of the group"),
        ("SQLITE_IOERR_READ", "cannot be read", "backup"),
    ],
)
def test_what_sqlite_says_is_told_with_what_to_do(tmp_path: Path, name: str, text: str, hint: str) -> None:
    error = sqlite3.OperationalError("…")
    error.sqlite_errorname = name
    with pytest.raises(StoreError, match=text) as raised, reading._told(tmp_path):
        raise error
    assert hint in raised.value.hint


def test_f34_a_read_only_file_system_is_told_with_the_way_around_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_is_read_only", lambda _path: True)
    error = sqlite3.OperationalError("unable to open database file")
    error.sqlite_errorname = "SQLITE_CANTOPEN"
    with pytest.raises(StoreError, match="cannot be opened") as raised, reading._told(tmp_path):
        raise error
    assert raised.value.hint.startswith("its file system is read-only: copy the state directory")


def test_f35_damaged_columns_keep_nothing_else_from_being_shown(tmp_path: Path) -> None:
    states.shadow(tmp_path)
    states.change(
        tmp_path, "UPDATE record SET registration = CAST(? AS TEXT), path = '[', detached_from = '{'", b"\xff{"
    )
    states.change(tmp_path, "UPDATE uplink SET refusal = '[]', finding = 'nonsense'")
    states.change(tmp_path, "UPDATE history SET before = '{', replaced = NULL")
    read = snapshot.read(tmp_path)
    assert read.record.registration == "\ufffd{"
    assert (read.record.path, read.record.detached_from) == ((), None)
    assert read.uplink is not None
    assert (read.uplink.refusal, read.uplink.finding) == (None, None)
    assert {(line.before is None, line.replaced) for line in snapshot.history(tmp_path)} == {(True, None)}
