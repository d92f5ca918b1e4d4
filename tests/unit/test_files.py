"""Files of the state directory. Everything here holds for root as well, which may read and write whatever it likes."""

from __future__ import annotations

import errno
import fcntl
import grp
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from propagator import files
from propagator.core.errors import InputError, RefusedError, StateError


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    path = tmp_path / "state"
    files.make_state_dir(path, group="no-such-group")
    return path


@pytest.fixture
def chowned(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """Let root run the code whoever runs the tests, and note the changes of owner that it asks for."""
    calls: list[tuple[object, ...]] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "fchown", lambda _descriptor, uid, gid: calls.append((uid, gid)))
    monkeypatch.setattr(os, "chown", lambda path, uid, gid, **how: calls.append((Path(path).name, uid, gid, how)))
    return calls


@pytest.fixture
def other_owner(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Give a folder that seems to belong to user 4711 of group 4712."""
    folder = tmp_path / "owned"
    folder.mkdir()
    real = Path.stat

    def stat_of(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        found = real(path, follow_symlinks=follow_symlinks)
        return os.stat_result((*found[:4], 4711, 4712, *found[6:])) if path == folder else found

    monkeypatch.setattr(Path, "stat", stat_of)
    return folder


def test_write_private_is_for_its_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "key"
    was = os.umask(0)
    try:
        files.write_private(path, b"secret")
    finally:
        os.umask(was)
    assert (_mode(path), path.read_bytes()) == (0o600, b"secret")


def test_write_public_can_be_read_by_all_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "uplink.toml"
    was = os.umask(0o077)
    try:
        files.write_public(path, b"text")
    finally:
        os.umask(was)
    assert (_mode(path), path.read_bytes()) == (0o644, b"text")


def test_write_private_closes_a_file_that_stood_open(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"old")
    path.chmod(0o666)
    files.write_private(path, b"new")
    assert (_mode(path), path.read_bytes()) == (0o600, b"new")


def test_write_private_replaces_a_planted_link_and_not_what_it_points_to(tmp_path: Path) -> None:
    target, path = tmp_path / "passwd", tmp_path / "key"
    target.write_bytes(b"root")
    path.symlink_to(target)
    files.write_private(path, b"secret")
    assert target.read_bytes() == b"root"
    assert not path.is_symlink()


@pytest.mark.parametrize("step", ["fsync", "fchmod"])
def test_f33_a_write_that_fails_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "key"
    files.write_private(path, b"old")
    monkeypatch.setattr(os, step, full)
    with pytest.raises(StateError, match="No space left") as caught:
        files.write_private(path, b"new")
    assert caught.value.hint == "Free some space on its disk."
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["key"]


def test_write_syncs_the_file_before_the_rename_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, seen = tmp_path / "key", []
    monkeypatch.setattr(os, "fsync", lambda fd: seen.append((stat.S_ISDIR(os.fstat(fd).st_mode), path.exists())))
    files.write_private(path, b"x")
    assert seen == [(False, False), (True, True)]


def test_write_without_a_state_directory_says_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(StateError) as caught:
        files.write_private(tmp_path / "gone" / "key", b"x")
    assert "propagator init" in caught.value.hint


@pytest.mark.parametrize("write", [files.write_private, files.write_public])
def test_a_file_written_by_root_takes_the_owner_of_its_folder_or_the_one_named(
    tmp_path: Path, other_owner: Path, chowned: list[tuple[object, ...]], write: object
) -> None:
    assert callable(write)
    write(other_owner / "a", b"x")
    write(tmp_path / "b", b"x", owner_of=other_owner)
    assert chowned == [(4711, 4712), (4711, 4712)]


def test_take_owner_never_follows_a_planted_link(
    tmp_path: Path, other_owner: Path, chowned: list[tuple[object, ...]]
) -> None:
    files.take_owner(tmp_path / "state.db", other_owner)
    assert chowned == [("state.db", 4711, 4712, {"follow_symlinks": False})]


def test_take_owner_is_left_to_root(
    tmp_path: Path, chowned: list[tuple[object, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    files.take_owner(tmp_path / "state.db", tmp_path)
    files.write_private(tmp_path / "key", b"x")
    assert chowned == []


def test_take_owner_of_a_missing_file_is_a_state_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(StateError, match=r"state\.db cannot be given to its owner"):
        files.take_owner(tmp_path / "state.db", tmp_path)


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_read_private_reads_what_is_private(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"secret")
    path.chmod(mode)
    assert files.read_private(path) == b"secret"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o644, 0o660, 0o777])
def test_read_private_refuses_what_others_may_use(tmp_path: Path, mode: int) -> None:
    """Root could read it; it is refused all the same."""
    path = tmp_path / "key"
    path.write_bytes(b"hunter2canary")
    path.chmod(mode)
    with pytest.raises(InputError, match=f"mode {mode:04o}") as caught:
        files.read_private(path)
    assert caught.value.hint == f"chmod 600 {path}"
    assert caught.value.exit_code == 2
    assert "hunter2canary" not in str(caught.value)


def _owned_by(path: Path, uid: int) -> os.stat_result:
    found = os.stat(path)  # noqa: PTH116  Path.stat may be patched here
    return os.stat_result((*found[:4], uid, *found[5:]))


def test_read_private_refuses_the_file_of_a_stranger(tmp_path: Path) -> None:
    path = tmp_path / "key"
    files.write_private(path, b"x")
    with pytest.raises(InputError, match="belongs to 54321, not to ") as caught:
        files._check_private(path, _owned_by(path, 54321))
    assert caught.value.hint.startswith("chown ")


def test_read_private_takes_the_file_of_root_and_of_the_owner_of_the_folder(other_owner: Path) -> None:
    """Root that runs a command reads the keys of the agent's user, and the agent a password file of root's."""
    path = other_owner / "key"
    files.write_private(path, b"x")
    files._check_private(path, _owned_by(path, 0))
    files._check_private(path, _owned_by(path, 4711))


def test_read_private_without_the_file_is_a_state_error(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="key is missing") as caught:
        files.read_private(tmp_path / "key")
    assert caught.value.hint


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_read_private_refuses_what_is_no_file_and_does_not_wait_for_it(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    match kind:
        case "pipe":
            os.mkfifo(path, 0o600)
        case "folder":
            path.mkdir()
        case _:
            path.symlink_to("/dev/null")
    with pytest.raises((InputError, StateError), match=r"is no regular file|Is a directory"):
        files.read_private(path)


def test_make_state_dir_without_the_group_is_for_its_owner_alone(state: Path) -> None:
    assert _mode(state) == 0o700
    assert _mode(state / "keys") == _mode(state / "broker") == 0o700


def test_make_state_dir_shares_with_the_group_and_keeps_keys_back(tmp_path: Path) -> None:
    group = grp.getgrgid(os.getegid())
    path = tmp_path / "deep" / "state"
    files.make_state_dir(path, group=group.gr_name)
    assert (_mode(path), path.stat().st_gid) == (0o3770, group.gr_gid)
    assert _mode(path / "keys") == _mode(path / "broker") == 0o700


def test_make_state_dir_does_not_share_with_a_group_this_user_is_not_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "getegid", lambda: 1000)
    monkeypatch.setattr(os, "getgroups", list)
    files.make_state_dir(tmp_path / "state", group=grp.getgrgid(0).gr_name)
    assert _mode(tmp_path / "state") == 0o700


def test_make_state_dir_takes_an_empty_directory(tmp_path: Path) -> None:
    """As systemd makes it, or with the lock that an agent left that found nothing to run on."""
    (tmp_path / "agent.lock").touch()
    files.make_state_dir(tmp_path, group="no-such-group")
    assert (tmp_path / "keys").is_dir()


def test_make_state_dir_completes_one_that_exists_and_keeps_its_mode(state: Path) -> None:
    (state / "broker").rmdir()
    (state / "state.db").touch()
    state.chmod(0o750)
    files.make_state_dir(state, group=grp.getgrgid(os.getegid()).gr_name)
    assert _mode(state) == 0o750
    assert _mode(state / "broker") == 0o700


def test_make_state_dir_refuses_a_directory_of_something_else_and_leaves_it_alone(tmp_path: Path) -> None:
    (tmp_path / "hosts").touch()
    was = _mode(tmp_path)
    with pytest.raises(InputError, match="holds other files"):
        files.make_state_dir(tmp_path)
    assert _mode(tmp_path) == was
    assert [entry.name for entry in tmp_path.iterdir()] == ["hosts"]


def test_make_state_dir_refuses_a_planted_link_for_its_keys(tmp_path: Path, state: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir(mode=0o755)
    (state / "broker").rmdir()
    (state / "broker").symlink_to(victim)
    with pytest.raises(InputError, match="broker is no directory"):
        files.make_state_dir(state)
    assert _mode(victim) == 0o755


@pytest.mark.parametrize("below", ["", "state"])
def test_make_state_dir_refuses_a_file(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is no directory"):
        files.make_state_dir(tmp_path / "file" / below)


def test_the_lock_names_its_holder_while_it_is_held(state: Path) -> None:
    assert files.holder(state) is None
    with files.lock_state_dir(state, version="1.2.3"):
        found = files.holder(state)
        assert found is not None
        assert (found.pid, found.version) == (os.getpid(), "1.2.3")
        assert found.since is not None
        assert found.since.endswith("Z")
        assert files.is_locked(state)
    assert not files.is_locked(state)


def test_f40_a_second_agent_is_refused_and_told_which_one_runs(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_PATIENCE_S", 0.0)
    with (
        files.lock_state_dir(state),
        pytest.raises(RefusedError, match=rf"Another agent runs on {state} \(process {os.getpid()}, since 2") as caught,
        files.lock_state_dir(state),
    ):
        pass
    assert caught.value.exit_code == 1
    assert files.holder(state) is None


def test_the_lock_is_let_go_by_an_error_inside(state: Path) -> None:
    with pytest.raises(KeyError), files.lock_state_dir(state):
        raise KeyError
    assert not files.is_locked(state)


def test_f32_the_lock_ends_with_a_killed_agent_whatever_the_file_says(state: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from propagator import files\n"
        "with files.lock_state_dir(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, state],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    ) as agent:
        assert agent.stdout is not None
        assert agent.stdout.readline() == b"held\n"
        found = files.holder(state)
        assert found is not None
        assert found.pid == agent.pid
        agent.send_signal(signal.SIGKILL)
    assert json.loads((state / files.LOCK_FILE).read_bytes())["pid"] == agent.pid
    assert files.holder(state) is None
    with files.lock_state_dir(state):
        assert files.is_locked(state)


def test_a_command_that_asks_does_not_keep_an_agent_from_starting(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with files.lock_state_dir(state):
        pass
    asking = os.open(state / files.LOCK_FILE, os.O_RDONLY)
    fcntl.flock(asking, fcntl.LOCK_SH)
    monkeypatch.setattr(time, "sleep", lambda _: os.close(asking))
    with files.lock_state_dir(state):
        assert files.is_locked(state)


def test_the_lock_can_be_read_by_the_group_and_nobody_else(state: Path) -> None:
    with files.lock_state_dir(state):
        assert _mode(state / files.LOCK_FILE) == 0o660


@pytest.mark.parametrize(
    "said", [b"", b"{", b"\xff", b"[1]", b'{"pid": true}', b'{"pid": -1, "since": 3, "version": ["x"]}']
)
def test_f35_a_lock_that_says_nonsense_is_still_a_lock(state: Path, said: bytes) -> None:
    with files.lock_state_dir(state):
        (state / files.LOCK_FILE).write_bytes(said)
        assert files.holder(state) == files.Holder(None, None, None)


def test_the_lock_without_a_state_directory_is_a_state_error(tmp_path: Path) -> None:
    assert files.holder(tmp_path / "gone") is None
    with pytest.raises(StateError) as caught, files.lock_state_dir(tmp_path / "gone"):
        pass
    assert "propagator init" in caught.value.hint
