"""A lab: a lead, two routers and a shadow, each a network of its own, in one room that ends as a whole.

    routed:  shadow 10.1.0.2 ── 10.1.0.1 r1 10.2.0.1 ── 10.2.0.2 r2 10.3.0.1 ── 10.3.0.2 lead
    on-link: shadow 10.3.0.9 ── 10.3.0.2 lead                     IPv6 alike: fd00:1::2 and so on

The room is a process namespace with a copy of this machine's root directory (an overlay in memory) and the four
network namespaces, known in it by plain names. Its first process dies with the test run, and the kernel then ends all
that was started in it and takes its networks, mounts and files away: nothing has a name outside, so nothing can be left
behind, and labs stand side by side. /etc, /run and /var are the lab's own: ufw and firewalld run there as on a server.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeAlias

from tests.acceptance.site import Said, environment, eventually, program
from tests.firewall.room import (
    LEAD,
    LEAD_CONFIG,
    LEAD_STATE,
    LEAD_USER,
    MAKING,
    NAME,
    NETWORKS,
    PORT,
    SHADOW_CONFIG,
    SHADOW_STATE,
    SITE,
    STAYING,
    UNSHARE,
    WIRING,
    Place,
    Topology,
)
from tests.machine import needed_by

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_UPLINK: Final = SHADOW_STATE / "uplink.toml"
_COMMAND_S: Final = 60.0
_HERE: Final = Path(__file__).parent

_UNPRIVILEGED: Final = ["--clear-groups", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
_USERS: Final = {
    "root": [],
    "shadow": ["--reuid=65534", "--regid=65534", *_UNPRIVILEGED],
    "lead": [f"--reuid={LEAD_USER}", f"--regid={LEAD_USER}", *_UNPRIVILEGED],
}

User: TypeAlias = Literal["root", "shadow", "lead"]


class Lab:
    """A lab, from `with` to its end. `files`: what the site's directory holds (tar); `real`: the lead is the product.

    Without `real` the lead is its broker alone, with the record that it kept: enough to look at the network.
    """

    def __init__(self, topology: Topology = "routed", files: bytes = b"", *, real: bool = True) -> None:
        assert os.geteuid() == 0, "this test makes network namespaces: run it as root"
        for name, package in (("nft", "nftables"), ("ip", "iproute2"), ("nsenter", "util-linux")):
            program(name, package)
        self.topology = topology
        self.real = real
        self.environment: dict[str, str] = {}
        """What the shadow's commands find in their environment, besides ours."""
        self._files = files
        self._servers: list[Server] = []
        self.first = 0
        """Its first process: what ends with it."""

    def __enter__(self) -> Self:
        self._holder = subprocess.Popen(
            _dying_with_us(*UNSHARE, "bash", "-c", MAKING, "lab", self._wiring, *map(str, _needed())),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
            start_new_session=True,
        )
        try:
            assert self._holder.stdout is not None
            said = self._holder.stdout.readline()
            assert said == b"ready\n", f"no lab: {said!r} {self._holder.communicate()[1]!r}"
            self.first = _child(self._holder.pid)
            self._furnish()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.kill()
        self._holder.communicate()
        for server in self._servers:
            server.end()

    @property
    def _wiring(self) -> str:
        return WIRING + NETWORKS[self.topology] + STAYING

    def _furnish(self) -> None:
        self.write("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n")
        self.write("/etc/resolv.conf", "nameserver 10.1.0.1\noptions timeout:2 attempts:2\n")
        self.hosts({NAME: [LEAD]})
        if self._files:
            self.run("lead", "tar", "-xpf", "-", "-C", SITE, stdin=self._files)

    # What is done in it.

    def path(self, path: str | Path) -> Path:
        """Give where a path of the lab lies as seen from outside."""
        return Path(f"/proc/{self.first}/root") / str(path).lstrip("/")

    def command(self, place: Place, *words: str | Path, user: User = "root") -> list[str]:
        """Give the command line that runs `words` there."""
        entering = [
            "--mount",
            "--root",
            "--pid",
            f"--net={self.path(f'/run/netns/{place}')}",
            f"--wd={self.path('/srv')}",
        ]
        return [
            *(program("nsenter", "util-linux"), f"--target={self.first}", *entering),
            *(program("setpriv", "util-linux"), *_USERS[user], "--pdeathsig=KILL", *map(str, words)),
        ]

    def ask(
        self, place: Place, *words: str | Path, user: User = "root", stdin: bytes = b"", timeout_s: float = _COMMAND_S
    ) -> Said:
        """Run a program there, whatever comes of it."""
        done = subprocess.run(
            self.command(place, *words, user=user),
            input=stdin,
            capture_output=True,
            timeout=timeout_s,
            env={**environment(), **self.environment},
            check=False,
        )
        return Said(done.returncode, done.stdout.decode(), done.stderr.decode())

    def run(self, place: Place, *words: str | Path, user: User = "root", stdin: bytes = b"") -> str:
        """Run a program that has to work; gives its stdout."""
        said = self.ask(place, *words, user=user, stdin=stdin)
        assert said.code == 0, (place, words, said)
        return said.out

    def sh(self, place: Place, script: str) -> str:
        """Run a script of the shell there, as root; the first command that fails ends it."""
        return self.run(place, "bash", "-euc", script)

    def nft(self, place: Place, rules: str) -> None:
        """Add rules there."""
        self.run(place, program("nft", "nftables"), "-f", "-", stdin=rules.encode())

    def start(self, place: Place, *words: str | Path, user: User = "root", stdin: bool = False) -> Server:
        """Start a program there; it ends with the lab, if not before. `stdin`: it has an input that can be ended."""
        server = Server(self, self.command(place, *words, user=user), stdin=stdin)
        self._servers.append(server)
        return server

    def stand_in(self, place: Place, *words: str | Path) -> Server:
        """Start one of `stand_ins.py` and wait until it stands."""
        server = self.start(place, sys.executable, "-I", _HERE / "stand_ins.py", *words)
        server.wait_for_line("ready")
        return server

    def look(self, **question: Any) -> dict[str, Any]:
        """Look from the shadow, as its user, with `look.py`."""
        said = self.run("shadow", sys.executable, "-I", _HERE / "look.py", json.dumps(question), user="shadow")
        return dict(json.loads(said))

    @contextlib.contextmanager
    def watching(self) -> Iterator[Callable[[], dict[str, Any]]]:
        """Watch the lead's port while the block runs, as the lead's user; then the value says what was seen."""
        watch = self.start("lead", interpreter(), _HERE / "watch.py", str(PORT), user="lead", stdin=True)
        watch.wait_for_line("ready")
        yield lambda: dict(json.loads(watch.said().splitlines()[-1]))
        watch.end_input()

    def write(self, path: str | Path, content: str | bytes, mode: int = 0o644) -> Path:
        """Write a file of the lab."""
        outside = self.path(path)
        outside.parent.mkdir(parents=True, exist_ok=True)
        outside.unlink(missing_ok=True)  # /etc/resolv.conf may be a link that leads out of the lab
        outside.write_bytes(content.encode() if isinstance(content, str) else content)
        outside.chmod(mode)
        return Path(path)

    # What the shadow is told.

    def hosts(self, names: Mapping[str, list[str]]) -> None:
        """Write /etc/hosts: the lead's name is nowhere else unless a case has a name server."""
        lines = [f"{address} {name}\n" for name, addresses in names.items() for address in addresses]
        self.write("/etc/hosts", "127.0.0.1 localhost\n" + "".join(lines))

    def know_lead_at(self, *addresses: str) -> None:
        """Let the lead's name mean these addresses, and no others."""
        self.hosts({NAME: list(addresses)})

    def dial(self, *hosts: str) -> None:
        """Let the shadow follow its lead at these names or addresses."""
        addresses = json.dumps([f"[{host}]:{PORT}" if ":" in host else f"{host}:{PORT}" for host in hosts])
        self._set_uplink(r"addresses = .*", f"addresses = {addresses}")

    def trust_publicly(self) -> None:
        """Let the shadow take the lead's CA for one of the public ones, where the name counts as well."""
        self.write("/etc/public-ca.pem", self.path(LEAD_STATE / "keys" / "ca.crt").read_bytes())
        self.environment["SSL_CERT_FILE"] = "/etc/public-ca.pem"
        self._set_uplink(r"ca_file = .*\n", "")

    def _set_uplink(self, pattern: str, text: str) -> None:
        path = self.path(_UPLINK)
        if path.exists():  # in the making of the site there is none
            said, count = re.subn(rf"(?m)^{pattern}", text, path.read_text())
            assert count == 1, (pattern, path.read_text())
            path.write_text(said)

    # Who serves.

    def listen(self, host: str) -> None:
        """Let the lead listen on one address only."""
        listen = f"[{host}]:{PORT}" if ":" in host else f"{host}:{PORT}"
        self.configure(LEAD_CONFIG, "listen", json.dumps(listen))
        broker = self.path(LEAD_STATE / "broker" / "mosquitto.conf")
        broker.write_text(broker.read_text().replace(f"listener {PORT}", f"listener {PORT} {host}"))

    def beat_every(self, seconds: float) -> None:
        """Let the lead's heart beat so often; every second, if not told."""
        self.configure(LEAD_CONFIG, "heartbeat_s", f"{seconds:g}")

    def answer_probes(self, port: int) -> None:
        """Let the shadow's agent take reverse probes."""
        self.configure(SHADOW_CONFIG, "probe_listen", json.dumps(f"[::]:{port}"))

    def configure(self, config: Path, key: str, value: str) -> None:
        """Set a key of a configuration that `init` wrote, the first of its name; `value` as TOML."""
        path = self.path(config)
        said, count = re.subn(rf"(?m)^{key} = .*$", f"{key} = {value}", path.read_text(), count=1)
        assert count, (key, path.read_text())
        path.write_text(said)

    def serve(self) -> Server:
        """Start the lead; returns when its broker listens."""
        if self.real:
            lead = self.start("lead", propagator(), "run", "--config", LEAD_CONFIG, user="lead")
            self._await(self._has_broker, lead)
        else:
            broker = LEAD_STATE / "broker"
            words = ("bash", "-c", f"cd {broker} && exec {program('mosquitto', 'mosquitto')} -c mosquitto.conf")
            lead = self.start("lead", *words, user="lead")
        self._await(lambda: self.listens("lead"), lead)
        return lead

    def _has_broker(self) -> bool:
        with contextlib.suppress(OSError, ValueError), socket.socket(socket.AF_UNIX) as agent:
            agent.settimeout(2)
            agent.connect(str(self.path(LEAD_STATE / "control.sock")))
            agent.sendall(b'{"op":"live"}\n')
            heard = b""
            while part := agent.recv(65536):
                heard += part
            return bool((json.loads(heard)["downlink"] or {}).get("connected"))
        return False

    def broker_pid(self) -> int:
        """Give the broker's process, as the lab's own know it."""
        script = 'for p in /proc/[0-9]*; do [ "$(cat $p/comm 2>/dev/null)" != mosquitto ] || echo "${p#/proc/}"; done'
        return int(self.sh("lead", script))

    def wait_listening(self, place: Place, port: int = PORT) -> None:
        """Wait until somebody does."""
        eventually(lambda: self.listens(place, port), f"somebody listens on {port}")

    def listens(self, place: Place, port: int = PORT) -> bool:
        """Whether anybody listens on a port there."""
        return bool(self.sh(place, f"ss -Hltn sport = :{port}").strip())

    def _await(self, check: Callable[[], bool], server: Server) -> None:
        def done() -> bool:
            assert server.is_running, f"it ended: {server.said()}"
            return check()

        eventually(done, "the server stands")


class Server:
    """A program of the lab that goes on. It ends with the lab."""

    def __init__(self, lab: Lab, command: list[str], *, stdin: bool = False) -> None:
        self._popen = subprocess.Popen(
            _dying_with_us() + command,
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**environment(), **lab.environment, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
        assert self._popen.stdout is not None
        os.set_blocking(self._popen.stdout.fileno(), False)
        self._heard = b""

    @property
    def is_running(self) -> bool:
        return self._popen.poll() is None

    def said(self) -> str:
        """Give all that it has written."""
        assert self._popen.stdout is not None
        with contextlib.suppress(BlockingIOError, ValueError):
            while part := self._popen.stdout.read(65536):
                self._heard += part
        return self._heard.decode(errors="replace")

    def wait_for_line(self, line: str) -> None:
        def seen() -> bool:
            said = self.said()
            assert self.is_running, f"it ended: {said}"
            return line in said.splitlines()

        eventually(seen, f"it says {line!r}")

    def send(self, number: signal.Signals) -> None:
        """Send it a signal: nsenter is its parent, and stays outside."""
        os.kill(_child(self._popen.pid), number)

    def end_input(self) -> None:
        """End its input, and wait until it ends as well."""
        assert self._popen.stdin is not None
        self._popen.stdin.close()
        self._popen.wait(10)

    def stop(self) -> None:
        self.send(signal.SIGTERM)
        self.wait()

    def end(self) -> None:
        """See it off: it is dead, but nsenter, its parent, may be stopped with it."""
        self._popen.kill()
        self.wait()

    def wait(self) -> None:
        self._popen.wait(10)
        self.said()
        for pipe in (self._popen.stdin, self._popen.stdout):
            if pipe is not None:
                pipe.close()


def propagator() -> str:
    """The command under test: $PROPAGATOR_COMMAND, else the one beside this Python."""
    return os.environ.get("PROPAGATOR_COMMAND") or str(Path(sys.executable).with_name("propagator"))


def interpreter() -> str:
    """The Python of the command under test."""
    return Path(propagator()).read_text().partition("\n")[0].removeprefix("#!").strip()


@cache
def _needed() -> tuple[Path, ...]:
    """Give the directories that must be there in a lab, compiled: nobody can write them there."""
    found = needed_by(propagator())
    subprocess.run([sys.executable, "-m", "compileall", "-q", found[-1], _HERE], check=True)
    return tuple(dict.fromkeys((*found, Path(sys.prefix), Path(sys.base_prefix), _HERE)))


def _dying_with_us(*words: str) -> list[str]:
    return [program("setpriv", "util-linux"), "--pdeathsig=KILL", *words]


def _child(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
