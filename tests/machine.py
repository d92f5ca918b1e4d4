"""This machine once more, for tests that make users or boot systemd: what they change is gone when they end.

An overlay of the root directory in namespaces of its own: what is written there lies in memory, the programs are those
of the real machine, and `directory` is the same one inside and outside. Needs root.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import pytest

from tests.acceptance.site import END_S, Process, Said, environment, eventually, program

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_ROOM: Final = """
under=$1 root=$1/root shared=$2; shift 2
mount -t tmpfs tmpfs "$under"
mkdir "$under/upper" "$under/work" "$root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$under/upper,workdir=$under/work" "$root"
for path in "$shared" "$@"; do
    # Users of the machine must get to the programs under test, wherever the checkout lies.
    above=$path
    while [ "$above" != / ]; do
        mkdir -p "$root$above"
        chmod o+x "$root$above"
        above=$(dirname "$above")
    done
    # What is no part of the root file system is no part of the overlay either.
    if [ "$path" = "$shared" ]; then
        mount --bind "$path" "$root$path"
    elif [ "$(stat -c %d "$path")" != "$(stat -c %d /)" ]; then
        mount --bind "$path" "$root$path" -o ro
    fi
done
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/run" -o mode=755
"""

_STAY: Final = """
mount --rbind /dev "$root/dev"
touch "$root/run/ready"
exec chroot "$root" sleep infinity
"""

_BOOT: Final = r"""
mount -t tmpfs tmpfs "$root/dev" -o mode=755
for device in null zero full random urandom tty; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/shm" "$root/dev/pts" "$root/run/systemd"
mount -t tmpfs tmpfs "$root/dev/shm" -o mode=1777
mount -t devpts devpts "$root/dev/pts" -o newinstance,ptmxmode=0666
ln -s pts/ptmx "$root/dev/ptmx"
mount -t sysfs sysfs "$root/sys" -o ro
# A booting systemd sets what sysctl.d says; the kernel is everybody's.
mount --bind "$root/proc/sys" "$root/proc/sys" -o ro
mount -t tmpfs tmpfs "$root/sys/fs/cgroup" -o mode=755
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
# Nothing of this machine's own services, and none that cleans /tmp or sets the kernel: what a test wants, it starts.
rm -rf "$root"/etc/systemd/system/*.wants
for unit in systemd-tmpfiles-setup.service systemd-tmpfiles-setup-dev.service systemd-tmpfiles-clean.timer \
    systemd-sysctl.service systemd-modules-load.service systemd-remount-fs.service systemd-udevd.service; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
ln -sf /lib/systemd/system/basic.target "$root/etc/systemd/system/default.target"
mkdir "$root/run/below"
cd "$root"
pivot_root . run/below  # not chroot, in which no user namespace can be made
umount --lazy run/below
export container=other
exec chroot . /lib/systemd/systemd --system --show-status=no --log-target=null
"""


KILLED: Final = """
import os, signal, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("UPDATE server SET name = 'by a killed command'")
os.kill(os.getpid(), signal.SIGKILL)
"""
"""A command that is killed as soon as it has written to the database named; its log stays."""

_PROTECTED: Final = Path("/proc/sys/fs/protected_regular")


@pytest.fixture
def protected_regular() -> Iterator[None]:
    """Debian's setting of the kernel: no stranger's file in a sticky directory is opened with O_CREAT, not by root."""
    with _PROTECTED.open() as setting:
        fcntl.flock(setting, fcntl.LOCK_EX)  # the kernel is everybody's, also that of the tests beside these
        was = setting.read()
        _PROTECTED.write_text("2")
        try:
            yield
        finally:
            _PROTECTED.write_text(was)


def python_of(command: str) -> str:
    """Name the interpreter that the command under test runs in: it has our package."""
    return Path(command).read_text().partition("\n")[0].removeprefix("#!").strip()


def needed_by(command: str) -> tuple[Path, ...]:
    """Name the directories that the command under test is made of: its environment, its Python, and our package."""
    asked = (
        "import sys, pathlib, propagator; print(sys.prefix, sys.base_prefix, pathlib.Path(propagator.__file__).parent)"
    )
    said = subprocess.run([python_of(command), "-c", asked], capture_output=True, text=True, check=True, cwd="/")
    return tuple(map(Path, said.stdout.split()))


class Machine:
    """The machine, from `with` to its end. `boots`: systemd runs on it, with nothing but what the test starts."""

    def __init__(self, directory: Path, needed: Iterable[Path] = (), *, boots: bool = False) -> None:
        assert os.geteuid() == 0, "this test makes users, or boots systemd, in namespaces of its own: run it as root"
        self.directory = directory
        self._needed = tuple(needed)
        self._boots = boots
        self._cgroup = f"propagator-test-{os.getpid()}-{time.monotonic_ns()}"

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            under = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="pm-")))
            undo.callback(self._remove_cgroup)
            log = self.directory / "machine.log"
            self._holder = Process(self._holding(under), log)
            undo.callback(self._holder.kill)
            eventually(lambda: self._is_up(log), "the machine is up")
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def _holding(self, under: Path) -> list[str]:
        script = "set -eu\n" + _ROOM + (_BOOT if self._boots else _STAY)
        words = ["bash", "-c", script, "machine", str(under), str(self.directory), *map(str, self._needed)]
        unshare = [program("unshare", "util-linux"), "--mount", "--propagation", "private"]
        if not self._boots:
            return [*unshare, *words]
        program("systemctl", "systemd")
        namespaces = ["--fork", "--kill-child", "--pid", "--ipc", "--uts", "--cgroup", "--net"]
        inner = shlex.join([*unshare, *namespaces, *words])
        # A cgroup of its own: what systemd makes below it can be found again, and removed.
        script = (
            f'set -eu; mount -t cgroup2 cgroup2 "{under}"; mkdir "{under}/{self._cgroup}"; '
            f'echo $$ >"{under}/{self._cgroup}/cgroup.procs"; umount "{under}"; exec {inner}'
        )
        return [*unshare, "bash", "-c", script]

    def _remove_cgroup(self) -> None:
        if not self._boots:
            return
        with tempfile.TemporaryDirectory(prefix="pm-") as place:
            script = (
                f'mount -t cgroup2 cgroup2 "{place}"; for n in $(seq 100); do '
                f'find "{place}/{self._cgroup}" -depth -type d -exec rmdir {{}} + && exit; sleep 0.05; done'
            )
            subprocess.run(["unshare", "--mount", "bash", "-c", script], check=True, capture_output=True)

    def _is_up(self, log: Path) -> bool:
        assert self._holder.is_running, f"the machine cannot be made: {log.read_text()}"
        if self._boots:
            state = self.run("systemctl", "is-system-running")
            return state.out.strip() in {"running", "degraded"}
        return self.run("test", "-e", "/run/ready").code == 0

    @property
    def _first_process(self) -> int:
        """The process to enter by: the first one of the namespaces."""
        if not self._boots:
            return self._holder.pid
        children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children").read_text().split()
        return int(children[0]) if children else self._holder.pid

    def command(self, *words: str | Path, user: str = "root") -> list[str]:
        """Give the command line that runs `words` there as a user of the machine; it becomes that program."""
        entering = ["--mount", "--root", *(["--pid", "--ipc", "--uts", "--cgroup", "--net"] if self._boots else [])]
        become = ["--pdeathsig", "KILL", f"--reuid={user}", f"--regid={user}", "--init-groups"]
        return [
            *(program("nsenter", "util-linux"), f"--target={self._first_process}", *entering, "--wd=/"),
            *(program("setpriv", "util-linux"), *become, *map(str, words)),
        ]

    def run(self, *words: str | Path, user: str = "root", stdin: str = "") -> Said:
        """Run a program there, whatever comes of it."""
        done = subprocess.run(
            self.command(*words, user=user),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=6 * END_S,
            env=environment(),
            check=False,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    def do(self, *words: str | Path, user: str = "root") -> str:
        """Run a program that has to work; gives its stdout."""
        said = self.run(*words, user=user)
        assert said.code == 0, (words, said)
        return said.out

    def process(self, *words: str | Path, user: str, log: Path) -> Process:
        """Start a program there; it ends with this test run."""
        return Process(self.command(*words, user=user), log)

    def path(self, path: str | Path) -> Path:
        """Give where a path of the machine lies as seen from outside."""
        return Path(f"/proc/{self._first_process}/root") / str(path).lstrip("/")
