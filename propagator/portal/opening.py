"""Opens a portal: its data directory, its key, its database brought to the present tables; and closes it again.

The data directory holds the signing key, so it is this user's alone (0700); one that others may read is refused, and
so is a key that others may read. One process holds the directory.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import fcntl
import os
import stat
from typing import TYPE_CHECKING, Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from propagator.core.errors import InputError, PropagatorError, RefusedError, StateError, StoreError
from propagator.core.signing import PrivateKey
from propagator.portal import database, migrating
from propagator.portal.context import Portal
from propagator.portal.limits import Limits
from propagator.portal.passwords import Passwords
from propagator.portal.refusals import Refusals
from propagator.portal.settings import KEY_FILE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine
    from structlog.typing import FilteringBoundLogger

    from propagator.portal.settings import Settings

log: FilteringBoundLogger = structlog.get_logger(logger_name="portal.opening")

LOCK_FILE: Final = "portal.lock"


def _utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


@contextlib.asynccontextmanager
async def opened(
    settings: Settings, *, clock: Callable[[], dt.datetime] = _utc_now, limits: Limits | None = None
) -> AsyncIterator[Portal]:
    """Open a portal, and close it at the end.

    Raises InputError (the directory or the key is open to others), RefusedError (another process holds it, or a newer
    program made its tables), StateError and StoreError.
    """
    with _held(settings.data_dir):
        key = load_key(settings.data_dir)
        engine = _connect(settings)
        try:
            await _migrate(settings, engine)
            yield Portal(
                settings,
                key,
                engine,
                database.sessions(engine),
                clock,
                limits or Limits(),
                Passwords(),
                Refusals(),
                asyncio.Event(),
            )
        finally:
            await engine.dispose()


def _connect(settings: Settings) -> AsyncEngine:
    try:
        return database.connect(settings.database_url)
    except (SQLAlchemyError, ValueError) as error:
        raise InputError(f"The database's URL does not read: {error}", hint=_DATABASE_HINT) from error


_DATABASE_HINT: Final = "write it like postgresql://portal:password@localhost/portal"


async def _migrate(settings: Settings, engine: AsyncEngine) -> None:
    """Bring the tables to this program's, and tell what a database refuses in words."""
    try:
        await migrating.migrate(engine)
    except PropagatorError:
        raise
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        reason = " ".join(str(getattr(error, "orig", None) or error).split()) or type(error).__name__
        hint = (
            f"Look at it with: ls -l {settings.data_dir}"
            if engine.dialect.name == "sqlite"
            else "see that it runs, that the database is there, and that user and password are right"
        )
        where = engine.url.render_as_string(hide_password=True)
        raise StoreError(f"The portal's database {where} cannot be used: {reason[:300]}.", hint=hint) from error


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Make the data directory where it is missing, and hold it for this process."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
        if not stat.S_ISDIR(status.st_mode):
            raise InputError(f"{folder} is no directory.", hint="name another with --data-dir")
        if status.st_mode & 0o077:
            mode = stat.S_IMODE(status.st_mode)
            raise InputError(
                f"{folder} holds the portal's key, but others may look into it (mode {mode:04o}).",
                hint=f"chmod 700 {folder}",
            )
        descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileExistsError as error:
        raise InputError(f"{folder} is no directory.", hint="name another with --data-dir") from error
    except OSError as error:
        raise StateError(f"{folder} cannot be used: {error.strerror}.", hint="name another with --data-dir") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise RefusedError(f"Another portal runs on {folder}.", hint="stop it, or name another --data-dir") from error
    finally:
        os.close(descriptor)


def load_key(folder: Path) -> PrivateKey:
    """Load the key that this portal signs with, or make it. Raises InputError where it is damaged or open to others."""
    path = folder / KEY_FILE
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return _make_key(path)
    except OSError as error:
        raise StateError(f"{path} cannot be read: {error.strerror}.", hint="restore it from a backup") from error
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o077:
            raise InputError(f"{path} is private, but others may use it.", hint=f"chmod 600 {path}")
        try:
            return PrivateKey.from_pem(file.read())
        except InputError as error:
            raise InputError(f"{path} is damaged. {error}", hint="restore it from a backup") from error


def _make_key(path: Path) -> PrivateKey:
    """Make the key, whole or not at all; a new one is trusted by no server yet."""
    key = PrivateKey.generate()
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(key.pem)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    log.info("portal.key_made", key_thumbprint=key.thumbprint)
    return key
