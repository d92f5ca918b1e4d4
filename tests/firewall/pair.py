"""Two network namespaces and a cable: a `far` one that connects, a `near` one whose packet filter is under test.

Nothing outside is touched: what is started in a namespace ends with its first process, and where tools want to write
(ufw, firewalld) the mounts are private. Sockets are made in a thread that has gone there, and stay there.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import socket
import subprocess
import threading
import time
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, TypeAlias

from propagator.core.ruleset import Listing, Outcome, Source
from tests.acceptance.site import eventually, program

if TYPE_CHECKING:
    from collections.abc import Iterator

PORT: Final = 8883
DEVICE: Final = "enp3s0"
NEAR4, FAR4 = IPv4Address("10.77.0.1"), IPv4Address("10.77.0.2")
NEAR6, FAR6 = IPv6Address("fd77::1"), IPv6Address("fd77::2")
Address: TypeAlias = IPv4Address | IPv6Address
OTHERS4: Final = tuple(IPv4Address(f"10.77.{third}.{fourth}") for third in (0, 5, 130) for fourth in (7, 200))
OTHERS6: Final = tuple(IPv6Address(f"fd77::{part}:7") for part in ("a", "b", "8000"))

_MACS: Final = ("02:00:00:00:77:01", "02:00:00:00:77:02")
"""Fixed, and told to the other side: a rule that drops neighbour discovery is not what is tested."""

_SETUP: Final = "\n".join(
    [
        "set -e",
        "ip link set lo up",
        "sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0",  # the next rejects come within a second
        f"ip address add {NEAR4}/16 dev {DEVICE}",
        f"ip address add {NEAR6}/64 dev {DEVICE} nodad",
        f"ip link set {DEVICE} up",
        *(
            f"ip neigh add {address} lladdr {_MACS[1]} dev {DEVICE} nud permanent"
            for address in (FAR4, *OTHERS4, FAR6, *OTHERS6)
        ),
    ]
)
_SETUP_FAR: Final = "\n".join(
    [
        "set -e",
        "ip link set lo up",
        *(f"ip address add {address}/16 dev far0" for address in (FAR4, *OTHERS4)),
        *(f"ip address add {address}/64 dev far0 nodad" for address in (FAR6, *OTHERS6)),
        "ip link set far0 up",
        *(f"ip neigh add {address} lladdr {_MACS[0]} dev far0 nud permanent" for address in (NEAR4, NEAR6)),
    ]
)

_PRIVATE: Final = """
set -e
mount --make-rprivate /
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
for place in /etc /var/lib; do
    layer=$(mktemp -d -p /run)
    mount -t tmpfs tmpfs "$layer"
    mkdir "$layer/up" "$layer/work"
    mount -t overlay overlay -o "lowerdir=$place,upperdir=$layer/up,workdir=$layer/work" "$place"
done
echo ready
exec sleep infinity
"""

CLONE_NEWNET: Final = 0x40000000
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


class Namespace:
    """A network namespace with mounts of its own, for as long as it is in `with`."""

    def __enter__(self) -> Self:
        assert os.geteuid() == 0, "this test makes network namespaces: run it as root"
        spaces = ("--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private")
        words = [program("unshare", "util-linux"), *spaces, "sh", "-c", _PRIVATE]
        self._holder = subprocess.Popen(words, stdout=subprocess.PIPE)
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"ready\n", "the namespace could not be made"
        self.pid = int(Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children").read_text())
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.kill()  # and with it the first process, and so all that was started there
        self._holder.wait()
        assert self._holder.stdout is not None
        self._holder.stdout.close()

    def command(self, *words: str | Path) -> list[str]:
        entering = (f"--target={self.pid}", "--net", "--mount", "--pid")
        return [program("nsenter", "util-linux"), *entering, *map(str, words)]

    def run(self, *words: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = self.command(*words)
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)

    def do(self, *words: str | Path, stdin: str = "") -> str:
        said = self.run(*words, stdin=stdin)
        assert said.returncode == 0, (words, said.stdout, said.stderr)
        return said.stdout

    def shell(self, script: str) -> str:
        return self.do("sh", "-c", script)

    def socket(self, family: socket.AddressFamily, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
        """Make a socket there."""
        made: list[socket.socket] = []

        def make() -> None:
            with Path(f"/proc/{self.pid}/ns/net").open("rb") as place:
                assert _LIBC.setns(place.fileno(), CLONE_NEWNET) == 0
            made.append(socket.socket(family, kind | socket.SOCK_NONBLOCK))

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        return made[0]


class Pair:
    """The two, joined."""

    def __init__(self) -> None:
        self.near, self.far = Namespace(), Namespace()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            undo.enter_context(self.near)
            undo.enter_context(self.far)
            ends = ("far0", "address", _MACS[1]), (DEVICE, "address", _MACS[0], "netns", str(self.near.pid))
            # Into the network alone: to `far`, the processes of `near` have no numbers.
            entering = (program("nsenter", "util-linux"), f"--target={self.far.pid}", "--net")
            subprocess.run([*entering, "ip", "link", "add", *ends[0], "type", "veth", "peer", *ends[1]], check=True)
            self.near.shell(_SETUP)
            self.far.shell(_SETUP_FAR)
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    @contextlib.contextmanager
    def listening(self, port: int = PORT) -> Iterator[dict[int, socket.socket]]:
        """Listen on the port, on IPv4 and IPv6."""
        with contextlib.ExitStack() as undo:
            found: dict[int, socket.socket] = {}
            for version, family in ((4, socket.AF_INET), (6, socket.AF_INET6)):
                listener = undo.enter_context(self.near.socket(family))
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if version == 6:
                    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                listener.bind(("::" if version == 6 else "0.0.0.0", port))  # noqa: S104  in a namespace
                listener.listen(64)
                found[version] = listener
            yield found

    def try_all(
        self, sources: list[Address], listeners: dict[int, socket.socket], wait_s: float = 0.3
    ) -> list[Outcome]:
        """Connect from each source at once with a real SYN; see which the near side refuses, and which it accepts.

        Accepted is what `accept()` gives: SYN, SYN-ACK and ACK have passed. What has not come after `wait_s` was
        dropped; the kernel needs microseconds.
        """
        with contextlib.ExitStack() as undo:
            tries = [undo.enter_context(self._begin(source)) for source in sources]
            ports = [one.getsockname()[1] for one in tries]
            end_s = time.monotonic() + wait_s
            waiting = {one.fileno(): number for number, one in enumerate(tries)}
            refused: set[int] = set()
            arrived: set[int] = set()
            poll = select.poll()
            for descriptor in waiting:
                poll.register(descriptor, select.POLLOUT)
            for listener in listeners.values():
                poll.register(listener, select.POLLIN)
            while len(refused | arrived) < len(tries) and (left_s := end_s - time.monotonic()) > 0:
                for descriptor, _ in poll.poll(left_s * 1000):
                    if descriptor in waiting:
                        poll.unregister(descriptor)
                        number = waiting[descriptor]
                        refused |= {number} if tries[number].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) else set()
                came = {one for listener in listeners.values() for one in _accepted(listener)}
                arrived |= {number for number, source in enumerate(sources) if (str(source), ports[number]) in came}
            return [
                Outcome.ACCEPT if number in arrived else Outcome.REJECT if number in refused else Outcome.DROP
                for number in range(len(sources))
            ]

    def _begin(self, source: Address) -> socket.socket:
        one = self.far.socket(socket.AF_INET if source.version == 4 else socket.AF_INET6)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        one.bind((str(source), 0))
        one.connect_ex((str(NEAR4 if source.version == 4 else NEAR6), PORT))
        return one


def _accepted(listener: socket.socket) -> set[tuple[str, int]]:
    """Accept all that has come; who it was."""
    found: set[tuple[str, int]] = set()
    with contextlib.suppress(BlockingIOError):
        while True:
            peer, address = listener.accept()
            peer.close()
            found.add(address[:2])
    return found


_COMMANDS: Final = {
    Source.NFT_JSON: ("nft", "-j", "list", "ruleset"),
    Source.NFT_TEXT: ("nft", "-a", "list", "ruleset"),
    Source.IPTABLES_NFT: ("iptables-nft-save",),
    Source.IP6TABLES_NFT: ("ip6tables-nft-save",),
    Source.IPTABLES_LEGACY: ("iptables-legacy-save",),
    Source.IP6TABLES_LEGACY: ("ip6tables-legacy-save",),
}


def listing(place: Namespace, *sources: Source) -> Listing:
    """Capture what the filter of a namespace is; of iptables only where something was made with it."""
    asked = sources or tuple(Source)
    return Listing({source: place.do(*_COMMANDS[source]) if source in asked else "" for source in Source})


def start_firewalld(place: Namespace) -> None:
    """Start firewalld, with a bus of its own, and wait until it answers."""
    place.shell("mkdir -p /run/dbus; dbus-daemon --system --nopidfile --fork")
    place.shell("firewalld --nofork --nopid </dev/null >/run/firewalld.log 2>&1 &")
    eventually(lambda: place.run("firewall-cmd", "--state").returncode == 0, "firewalld runs", timeout_s=60)
