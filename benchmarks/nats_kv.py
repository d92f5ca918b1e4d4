"""NATS JetStream in the race: nats-server (Debian's) and nats-py doing the same durable work with a key-value bucket.

The lead puts the record into the bucket; each shadow watches it over a connection of its own, commits in its own file
(synchronous=FULL) and puts its report, acknowledged by JetStream; the lead's side commits what it receives, as the
floor's does. TLS with the same certificate as everywhere here. No accounts and no topic rules; JetStream itself syncs
its files every two minutes only, so what is durable in this arm is the SQLite files.

    python -m benchmarks.nats_kv lead|shadows DIRECTORY PORT
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks import children, roster
from benchmarks.floor import (
    OWN_TABLE,
    PUT,
    RECORD_BYTES,
    REPORT_BYTES,
    body,
    check_files,
    lead_file,
    number_of,
    shadow_file,
)
from benchmarks.race import Arm
from benchmarks.site import Site
from propagator import files, keys
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.js import JetStreamContext

ARM: Final = "nats"
RECORDS: Final = "records"
REPORTS: Final = "reports"
KEY: Final = "registration"
START_S: Final = 20.0
POLL_S: Final = 0.02
_ELSEWHERE: Final = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"


def missing() -> str | None:
    """Say what this arm lacks on this machine; None: nothing."""
    if shutil.which("nats-server", path=_ELSEWHERE) is None:
        return "nats-server is not installed (apt-get install nats-server)"
    try:
        import nats  # noqa: F401, PLC0415  whether it is there is the question
    except ImportError:
        return "nats-py is not installed (pip install '.[bench]')"
    return None


class Nats(Arm):
    """A running NATS server, lead and shadows."""

    name = ARM

    def __init__(self, site: Site, lead: children.Child, pids: dict[str, int]) -> None:
        super().__init__(pids)
        self._site = site
        self._lead = lead

    async def change(self, number: int) -> float:
        """Tell the lead to change; give the seconds until it has every report."""
        began = time.perf_counter()
        await self._lead.tell(str(number))
        shadows = len(self._site.devices)
        return await roster.until_all(lead_file(self._site, ARM), roster.COUNT_BARE, f"{number} ", shadows) - began

    def check(self, number: int) -> None:
        """Hold every shadow's own file to it."""
        check_files(self._site, ARM, number)


@asynccontextmanager
async def running(site: Site) -> AsyncIterator[Nats]:
    """Run the server, the lead and the shadows."""
    port = free_port()
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(_server(site, port))
        pids = {}
        for what in ("lead", "shadows"):
            arguments = (what, str(site.directory), str(port))
            log = site.directory / f"nats-{what}.log"
            child = await stack.enter_async_context(children.python("benchmarks.nats_kv", *arguments, log=log))
            await child.ready()
            pids[what] = child
        yield Nats(site, pids["lead"], {"shadows": pids["shadows"].pid, "lead": pids["lead"].pid, "broker": server.pid})


@asynccontextmanager
async def _server(site: Site, port: int) -> AsyncIterator[children.Child]:
    folder = site.lead_dir / files.KEYS_DIR
    configuration = site.directory / "nats.conf"
    configuration.write_text(f"""\
listen: "127.0.0.1:{port}"
jetstream {{ store_dir: "{site.directory / "nats"}" }}
tls {{
    cert_file: "{folder / keys.SERVER_CERTIFICATE}"
    key_file: "{folder / keys.SERVER_KEY}"
    timeout: 20
}}
""")
    program = shutil.which("nats-server", path=_ELSEWHERE) or "nats-server"
    log = site.directory / "nats-server.log"
    async with children.program(program, "-c", str(configuration), log=log) as child:
        await _until_answered(port)
        yield child


async def _until_answered(port: int) -> None:
    """Wait for the server. Raises OSError."""
    for _ in range(round(START_S / POLL_S)):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        await asyncio.sleep(POLL_S)
    raise ConnectionRefusedError("nats-server does not answer")


async def _connect(site: Site, port: int) -> tuple[Client, JetStreamContext]:
    import nats  # noqa: PLC0415  only where this arm runs

    client = await nats.connect(f"tls://127.0.0.1:{port}", tls=site.tls(), connect_timeout=int(START_S))
    return client, client.jetstream(timeout=60)


# The process of the lead.


async def _lead(site: Site, port: int) -> None:
    reports = roster.Reports(lead_file(site, ARM))
    own = roster.opened(site.directory / "nats-own.db", OWN_TABLE)
    _, stream = await _connect(site, port)
    records = await stream.create_key_value(bucket=RECORDS)
    await stream.create_key_value(bucket=REPORTS)

    async def heard(message: Msg) -> None:
        reports.hear(message.subject.rpartition(".")[2], message.data)

    await stream.subscribe(f"$KV.{REPORTS}.>", cb=heard, ordered_consumer=True)

    async def change(line: str) -> str:
        document = body(int(line), RECORD_BYTES)
        own.execute(PUT, (document,))
        await records.put(KEY, document)
        return line

    await children.answer_lines(change, reports.keep())


# The process of the shadows.


async def _shadows(site: Site, port: int) -> None:
    watching = [await _watch(site, device, port) for device in site.devices]
    await children.answer_lines(children.nothing, *watching)


async def _watch(site: Site, device: str, port: int) -> Coroutine[object, object, None]:
    """Connect a shadow and let it watch the record; gives what it does from then on."""
    database = roster.opened(shadow_file(site, device, ARM), OWN_TABLE)
    _, stream = await _connect(site, port)
    records, reports = await stream.key_value(RECORDS), await stream.key_value(REPORTS)
    watcher = await records.watch(KEY)

    async def follow() -> None:
        async for update in watcher:
            if update is not None and update.value is not None:
                database.execute(PUT, (update.value,))
                await reports.put(device, body(number_of(update.value), REPORT_BYTES))

    return follow()


def main() -> None:
    """Run one of the two processes until its stdin ends."""
    what, directory, port = sys.argv[1:]
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run({"lead": _lead, "shadows": _shadows}[what](Site(Path(directory)), int(port)))


if __name__ == "__main__":
    main()
