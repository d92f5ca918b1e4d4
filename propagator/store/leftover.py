"""What a killed command of another user left beside the database: its log, which would lock the agent out.

SQLite opens log and index with O_CREAT. Where `fs.protected_regular` is 2 (Debian's setting) the kernel refuses that,
to root too, for a file in a sticky directory that belongs neither to who opens it nor to the owner of the directory;
SQLite then takes the database for one that may only be read (tried). So they are given to the owner of the directory.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from typing import TYPE_CHECKING, Final

from propagator import files
from propagator.core.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE_S: Final = 5.0
"""How long a command of another user may still be at work; it writes in one short transaction."""

_LOCK_BYTES: Final = (0x4000_0000, 512)
"""Where SQLite's locks lie in a database (its os.h, PENDING_BYTE); who has it open holds one of them."""


def claim(path: Path) -> None:
    """Give the database's log to the owner of its directory. Called by root or that owner, else it does nothing.

    What was committed stays. Raises StoreError if another user's command does not let go within `PATIENCE_S`. To be
    called before this process opens the database: its locks would be lost.
    """
    with _told(path):
        if os.geteuid() == 0:
            for file in _strangers(path):
                files.take_owner(file, path.parent)
        elif os.geteuid() == path.parent.stat().st_uid and _strangers(path):
            with _alone_with(path):
                for file in _strangers(path):
                    _replace(file, path)


def wait(path: Path) -> None:
    """Wait, as an operator, for another one whose log the kernel refuses. Root and the owner `claim` it instead.

    Raises StoreError if that one does not let go within `PATIENCE_S`, or was killed and left the log.
    """
    with _told(path):
        if os.geteuid() not in {0, path.parent.stat().st_uid} and _others(path):
            with _alone_with(path):
                if _others(path):
                    raise PermissionError(errno.EPERM, "it belongs to another user")


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hint = f"as root: chown --reference={path.parent} {path}*"
        raise StoreError(f"The log of {path} cannot be taken over: {error.strerror}.", hint=hint) from error


def _strangers(path: Path) -> list[Path]:
    """List those of the three files that do not belong to the owner of the directory."""
    return _not_of(path, path.parent.stat().st_uid)


def _others(path: Path) -> list[Path]:
    """List those that belong neither to the owner of the directory nor to this user."""
    return _not_of(path, path.parent.stat().st_uid, os.geteuid())


def _not_of(path: Path, *users: int) -> list[Path]:
    found = []
    for file in (path, *(path.with_name(f"{path.name}{ending}") for ending in ("-wal", "-shm"))):
        with contextlib.suppress(FileNotFoundError):
            if file.lstat().st_uid not in users:
                found.append(file)
    return found


@contextlib.contextmanager
def _alone_with(path: Path) -> Iterator[None]:
    """Hold every lock of the database, so that nobody has it open, and nobody can open it meanwhile."""
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        deadline_s = time.monotonic() + PATIENCE_S
        while not _locked(descriptor):
            if time.monotonic() > deadline_s:
                raise StoreError(f"{path} is held by another user's command.", hint=f"see who: fuser -v {path}")
            time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    start, length = _LOCK_BYTES
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, length, start)
    except OSError as error:
        if error.errno in {errno.EAGAIN, errno.EACCES}:
            return False
        raise
    return True


def _replace(file: Path, database: Path) -> None:
    """Put an own copy of the log into its place. Its index is made anew; what is no log of SQLite's goes."""
    if file == database:
        raise PermissionError(errno.EPERM, "it belongs to another user")
    if file.name.endswith("-wal") and stat.S_ISREG(file.lstat().st_mode):
        with os.fdopen(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as log:
            files.write_shared(file, log.read())
    else:
        file.unlink()
