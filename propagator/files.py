"""Files of the state directory: written whole or not at all, private ones private, all of one owner.

Takes paths and bytes; nothing here knows what they mean. The state directory is sticky and shared with the group of
operators (DESIGN §6), whose members may plant names in it: a temporary file gets a fresh name and is renamed over the
old one, and no link is followed on the way to a change of owner or mode.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import fcntl
import grp
import json
import os
import pwd
import secrets
import stat
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from propagator.core.errors import InputError, RefusedError, StateError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GROUP: Final = "propagator"
KEYS_DIR: Final = "keys"
BROKER_DIR: Final = "broker"
LOCK_FILE: Final = "agent.lock"
DATABASE: Final = "propagator.db"
"""As the store names it; a test holds them equal."""


def write_private(path: Path, data: bytes, *, owner_of: Path | None = None) -> None:
    """Replace `path` in one step by a file of mode 0600 that is on the disk when this returns.

    Run by root, the file takes the owner of `owner_of` (the state directory; by default the folder of `path`). Raises
    StateError; then the old file is as it was.
    """
    _replace(path, data, 0o600, owner_of or path.parent)


def write_public(path: Path, data: bytes, *, owner_of: Path | None = None) -> None:
    """Do as `write_private` does, with mode 0644."""
    _replace(path, data, 0o644, owner_of or path.parent)


def write_shared(path: Path, data: bytes) -> None:
    """Do as `write_private` does, with mode 0660: the group's, too."""
    _replace(path, data, 0o660, path.parent)


def _replace(path: Path, data: bytes, mode: int, owner_of: Path) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            try:
                file.write(data)
                file.flush()
                _own(file.fileno(), owner_of)
                os.fchmod(file.fileno(), mode)
                os.fsync(file.fileno())
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
        _sync(path.parent)
    except OSError as exc:
        raise _failure("written", path, exc) from exc


def move(path: Path, to: Path) -> None:
    """Rename a file within its folder, over what is there; on the disk when this returns. Raises StateError."""
    try:
        path.replace(to)
        _sync(to.parent)
    except OSError as exc:
        raise _failure("renamed", path, exc) from exc


def _sync(folder: Path) -> None:
    """Bring a rename to the disk; without this a power cut may undo it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _own(descriptor: int, owner_of: Path) -> None:
    if os.geteuid() == 0:
        owner = owner_of.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def read_private(path: Path) -> bytes:
    """Return the content of a private file.

    Raises InputError if group or others may use it or a stranger owns it: anybody but root, this user and the owner of
    its folder (who could replace it anyway, and who is the agent's user where root runs a command). Raises StateError
    if it is missing or cannot be read.
    """
    try:
        with open(path, "rb", opener=_open_quick) as file:
            _check_private(path, os.fstat(file.fileno()))
            return file.read()
    except FileNotFoundError as exc:
        raise StateError(f"{path} is missing.", hint="Restore it from a backup, or correct its path.") from exc
    except OSError as exc:
        raise _failure("read", path, exc) from exc


def is_there(path: Path) -> bool:
    """Say whether there is such a file. Raises StateError where this user may not look."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as exc:
        raise _failure("read", path, exc) from exc
    return True


def _open_quick(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a named pipe would wait for its writer


def _check_private(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path} is no regular file.", hint="Name a file that holds the secret itself.")
    if status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        raise InputError(f"{path} is private, but others may use it (mode {mode:04o}).", hint=f"chmod 600 {path}")
    if status.st_uid not in {0, os.geteuid(), path.parent.stat().st_uid}:
        ours = _user(os.geteuid())
        raise InputError(f"{path} belongs to {_user(status.st_uid)}, not to {ours}.", hint=f"chown {ours} {path}")


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def take_owner(path: Path, state_dir: Path) -> None:
    """Give `path` the owner and group of the state directory, where root runs this. Raises StateError."""
    if os.geteuid() != 0:
        return
    try:
        owner = state_dir.stat()
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
    except OSError as exc:
        raise _failure("given to its owner", path, exc) from exc


def make_state_dir(path: Path, group: str = GROUP) -> None:
    """Make the state directory with its folders `keys` and `broker`, or complete it.

    A new or empty directory is shared (03770) with `group` where that exists and this user may do so, and 0700
    otherwise. Root gives it to the user of that name, whom the service runs as, unless it is another user's; one that
    holds state already keeps owner and mode. Raises InputError for a directory that holds something else (its mode is
    not ours to change), StateError if it cannot be made.
    """
    try:
        make_parents(path)
        _make_folder(path)
        held = {entry.name for entry in path.iterdir()} - {LOCK_FILE}
        if held and not held & {KEYS_DIR, BROKER_DIR, DATABASE}:
            raise InputError(f"{path} is no state directory: it holds other files.", hint="Name an empty one.")
        if not held:
            _share(path, group)
        for name in (KEYS_DIR, BROKER_DIR):
            _make_private_dir(path / name, path)
    except (FileExistsError, NotADirectoryError) as exc:
        raise InputError(f"{exc.filename or path} is no directory.", hint="Name another state directory.") from exc
    except OSError as exc:
        raise _failure("made a state directory", path, exc) from exc


def make_parents(path: Path) -> None:
    """Make the folders on the way to `path`, open to all whatever the umask: the service's user must get there."""
    for folder in reversed([folder for folder in path.parents if not folder.exists()]):
        _make_folder(folder)
        folder.chmod(0o755)
    _make_folder(path.parent)


def _make_folder(path: Path) -> None:
    """Make a folder that is on the disk when this returns: what is synced in it would be lost with it."""
    if not path.is_dir():
        path.mkdir(mode=0o700, exist_ok=True)
        _sync(path.parent)


def _share(path: Path, group: str) -> None:
    try:
        gid = grp.getgrnam(group).gr_gid
    except KeyError:
        gid = None
    if gid is None or (os.geteuid() != 0 and gid not in {os.getegid(), *os.getgroups()}):
        path.chmod(0o700)
        return
    os.chown(path, _service_uid(path, group), gid)
    path.chmod(0o3770)


def _service_uid(path: Path, user: str) -> int:
    """Give whom root gives a new state directory to; -1: it keeps its owner (chown(2))."""
    if os.geteuid() != 0 or path.stat().st_uid != 0:
        return -1
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return -1


def _make_private_dir(path: Path, state_dir: Path) -> None:
    _make_folder(path)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _own(descriptor, state_dir)
        os.fchmod(descriptor, 0o700)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Holder:
    """The agent that holds a state directory, as it wrote itself into the lock: for display, None if unreadable."""

    pid: int | None
    since: str | None
    version: str | None


# A command that asks whether an agent runs holds the lock for some microseconds.
_PATIENCE_S: Final = 0.5


@contextlib.contextmanager
def lock_state_dir(state_dir: Path, *, version: str = "") -> Iterator[None]:
    """Hold the state directory for one agent; the kernel lets go of it when the process ends, however it ends (F40).

    Raises RefusedError if another agent holds it, StateError if there is no state directory, or if it is not this
    user's: an operator who is not its owner could neither read the keys nor leave files that the agent can use.
    """
    path = state_dir / LOCK_FILE
    try:
        owner = state_dir.stat().st_uid
        if os.geteuid() not in {0, owner}:
            raise StateError(
                f"The agent of {state_dir} runs as {_user(owner)}, not as {_user(os.geteuid())}.",
                hint=f"Run this as root, or as {_user(owner)}.",
            )
        descriptor = _open_lock(path)
    except OSError as exc:
        raise _failure("opened", path, exc) from exc
    try:
        _acquire(descriptor, state_dir)
        since = dt.datetime.now(dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "since": since, "version": version}).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _open_lock(path: Path) -> int:
    """Open the lock, or make it. Never O_CREAT alone, which fs.protected_regular refuses in a sticky directory."""
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    with contextlib.suppress(FileNotFoundError):
        return os.open(path, flags)
    try:
        descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return os.open(path, flags)
    _own(descriptor, path.parent)
    os.fchmod(descriptor, 0o660)
    return descriptor


def _acquire(descriptor: int, state_dir: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            if time.monotonic() < deadline:
                time.sleep(0.01)
                continue
            other = _read_holder(descriptor)
            known = f" (process {other.pid}, since {other.since})" if other.pid else ""
            raise RefusedError(
                f"Another agent runs on {state_dir}{known}.", hint="Stop it, or give this one another state_dir."
            ) from exc
        return


def holder(state_dir: Path) -> Holder | None:
    """Return who holds the state directory, None if no agent runs; needs no more than the right to read the lock.

    Raises StateError if this user may not even do that.
    """
    path = state_dir / LOCK_FILE
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise _failure("read", path, exc) from exc
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read_holder(descriptor)
    else:
        return None
    finally:
        os.close(descriptor)  # and so lets go of the shared lock


def is_locked(state_dir: Path) -> bool:
    """Tell whether an agent holds the state directory: `agent.running` of the status."""
    return holder(state_dir) is not None


_HOLDER_LIMIT: Final = 512


def _read_holder(descriptor: int) -> Holder:
    """Read what the holder wrote; any operator may write there, so nothing is believed but its types."""
    try:
        said = json.loads(os.pread(descriptor, _HOLDER_LIMIT, 0))
    except ValueError:
        return Holder(None, None, None)
    if not isinstance(said, dict):
        return Holder(None, None, None)
    pid, since, version = said.get("pid"), said.get("since"), said.get("version")
    return Holder(
        pid if type(pid) is int and pid > 0 else None,
        since if isinstance(since, str) else None,
        version if isinstance(version, str) and version else None,
    )


_HINTS: Final = {
    errno.EPERM: "Run this as root, or as the owner of the state directory.",
    errno.ENOSPC: "Free some space on its disk.",
    errno.EDQUOT: "Free some space on its disk.",
    errno.EROFS: "Mount its file system writable.",
    errno.ENOENT: "Make the state directory with `propagator init`.",
}


def _failure(what: str, path: Path, exc: OSError) -> StateError:
    hint = _HINTS.get(exc.errno or 0, f"Look at it with: ls -ld {path} {path.parent}")
    if exc.errno == errno.EACCES:
        hint = _who_may(path)
    return StateError(f"{path} cannot be {what}: {exc.strerror}.", hint=hint)


def _who_may(path: Path) -> str:
    """Say whose the folder is that keeps this user out; `keys` is kept from the group, too."""
    for folder in path.parents:
        with contextlib.suppress(OSError):
            status = folder.stat()
            shared = status.st_mode & stat.S_IWGRP
            who = f"a member of the group {_group(status.st_gid)}" if shared else _user(status.st_uid)
            return "Run this as root." if who == "root" else f"Run this as root, or as {who}."
    return "Run this as root."


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
