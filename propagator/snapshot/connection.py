"""Opening the store read-only, with the standard library, whatever state it was left in (DESIGN §6)."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from propagator.core.errors import PropagatorError, StateError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCHEMA_VERSION: Final = 2
FILE_NAME: Final = "propagator.db"
"""Both are the store's, which stands beside this module in the layers; a test holds them equal."""

BUSY_TIMEOUT_S: Final = 2.0
"""How long a reader waits for an agent that recovers its log or folds it up; else readers and writers do not meet."""

_NO_RIGHT: Final = "run this as root, or as a member of the group propagator"
_FULL: Final = "free some space on its disk; the record is unharmed"
_READ_ONLY: Final = "its file system is read-only: copy the state directory and name the copy with --state-dir"


@contextlib.contextmanager
def opened(state_dir: Path) -> Iterator[sqlite3.Connection]:
    """Open the database for one picture. What reading added to the directory is taken away again.

    Raises StateError where there is no state or no right to read it, StoreError where the database cannot be used.
    """
    path = state_dir / FILE_NAME
    _look(path)
    beside = [path.with_name(f"{FILE_NAME}{suffix}") for suffix in ("-wal", "-shm")]
    whole = all(file.exists() for file in beside)
    with _told(path), contextlib.ExitStack() as last, contextlib.closing(_connect(path, "ro")) as db:
        try:
            db.execute("BEGIN")
            _check_schema(db, path)
            yield db
        finally:
            if not whole:
                _fold(path, last)


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    address = f"file://{quote(os.fsencode(path.absolute()))}?mode={mode}"
    db = sqlite3.connect(address, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    db.row_factory = sqlite3.Row
    db.text_factory = _text  # a flipped bit must not keep the rest from being shown (F35)
    return db


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _fold(path: Path, last: contextlib.ExitStack) -> None:
    """Let SQLite remove the log that a read-only connection had to make where a cleanly closed store had none.

    Left there it would belong to the operator who looked, and where `fs.protected_regular` is 2 (Debian's setting) the
    kernel keeps the agent from opening a stranger's file in a sticky directory with O_CREAT, as SQLite does. Only a
    connection that may write removes it, and only if it is the last. It is opened while the other still is: a log that
    nobody has open is one that a killed command left.
    """
    with contextlib.suppress(sqlite3.Error):
        last.enter_context(contextlib.closing(_connect(path, "rw"))).execute("PRAGMA user_version").fetchone()


def _look(path: Path) -> None:
    """Tell what SQLite cannot tell apart: no state, no right, another kind of file.

    Without opening it: in a process that has the database open, as the agent has, to close any other descriptor of it
    drops SQLite's locks (fcntl(2)). The next command would believe itself alone, and take the log away.
    """
    try:
        path.stat()
    except FileNotFoundError:
        raise StateError(
            f"There is no state in {path.parent}.", hint="propagator init --role lead|shadow|standalone"
        ) from None
    except PermissionError as exc:
        raise _no_right(path) from exc
    except OSError as exc:
        hint = "name the state directory with --state-dir" if exc.errno == errno.ENOTDIR else f"ls -l {path.parent}"
        raise StateError(f"{path} cannot be read: {exc.strerror}.", hint=hint) from exc
    if not os.access(path, os.R_OK, effective_ids=True):
        raise _no_right(path)


def _no_right(path: Path) -> StateError:
    return StateError(f"The state in {path.parent} may not be read by this user.", hint=_NO_RIGHT)


def schema_of(db: sqlite3.Connection) -> int:
    """Give the version of the schema that the database has."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _check_schema(db: sqlite3.Connection, path: Path) -> None:
    found = schema_of(db)
    if found > SCHEMA_VERSION:
        raise StoreError(
            f"{path} was written by a newer program (schema {found}; this one knows {SCHEMA_VERSION}).",
            hint="install the newer propagator again; nothing was changed",
        )
    if found < 1:  # what is merely older can be read; who writes next migrates it
        raise StoreError(f"{path} holds no state of propagator.", hint="restore it from a backup, or init elsewhere")


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except PropagatorError:
        raise
    except sqlite3.Error as exc:
        text, hint = _cause(exc, path)
        raise StoreError(f"The database {path} {text}.", hint=hint) from exc


def _cause(exc: sqlite3.Error, path: Path) -> tuple[str, str]:
    match getattr(exc, "sqlite_errorname", "").split("_")[:2]:
        case ["SQLITE", "CORRUPT" | "NOTADB"]:
            return f"is damaged ({exc})", "restore it from a backup"
        case ["SQLITE", "BUSY"]:
            return "is held by another program", "try again"
        case ["SQLITE", "CANTOPEN" | "READONLY" | "PERM"]:
            return f"cannot be opened ({exc})", _READ_ONLY if _is_read_only(path) else _NO_RIGHT
        case ["SQLITE", "IOERR" | "FULL"] if not os.statvfs(path).f_bavail:
            return "cannot be read on a full disk", _FULL
        case _:
            return f"cannot be read ({exc})", "restore it from a backup"


def _is_read_only(path: Path) -> bool:
    """Say whether nothing can be written there (F34): then SQLite cannot make the log that even a reader needs."""
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
