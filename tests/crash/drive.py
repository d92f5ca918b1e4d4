"""`python -m tests.crash.drive WORKPLACE whole|short|beginning`: one site's life, to be run under a tracer.

Each part of it is marked. Every command and agent is the real one (`launched.py` says what it publishes), as is the
broker. What the driver itself changes on the disk, it changes between the parts.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from propagator.core import strict_json
from propagator.core.errors import Unreadable
from propagator.core.signing import open_envelope
from tests.acceptance.site import Server, Site, eventually
from tests.crash.launched import MARKS, say, write_script

if TYPE_CHECKING:
    from collections.abc import Iterator

DRIVER: Final = "driver"
LEAD, SHADOW = "es-1", "as-1"
PARTS: Final = ("init", "init of a shadow", "invite", "attach", "change", "detach", "rotate", "migrate")
"""What is recorded, in this order."""

NAMES: Final = ("First House", "Second House", "Third House")
"""What the lead is registered as: before the shadow is attached, and then twice more."""

OWN: Final = "Own House"
MIGRATED: Final = "Migrated House"
AGAIN: Final = "again.toml"
"""A registration that is left with the recording: of the last part, for commands that are repeated."""

WHOLE, SHORT, BEGINNING = "whole", "short", "beginning"
"""How much of it: all; the first part and the last, which need no agent; the first alone. For trying the harness."""

_SCHEMA_1: Final = "DROP TABLE portal; DROP TABLE used_code; PRAGMA user_version = 1;"


def main() -> None:
    """Live it."""
    workplace = Path(sys.argv[1])
    script = write_script(workplace / "propagator")
    with Site(str(script)) as site:
        say("root", DRIVER, path=str(site.directory))
        lead, shadow = Server(site, LEAD, "lead"), Server(site, SHADOW, "shadow")
        site.servers |= {LEAD: lead, SHADOW: shadow}
        for server in (lead, shadow):  # not beside the state: to sync one of the two folders is not to sync both
            server.config = site.directory / f"{server.id}-etc" / server.config.name
        _init_lead(site, lead)
        if sys.argv[2] == BEGINNING:
            return
        if sys.argv[2] != SHORT:
            _init_shadow(site, lead, shadow)
            _follow(site, lead, shadow)
            with _part("detach"):
                shadow.do("detach", "--restore")
            with _part("rotate"):
                lead.do("rotate")
        again = site.registration(MIGRATED)
        with closing(sqlite3.connect(lead.state_dir / "propagator.db", isolation_level=None)) as database:
            database.executescript(_SCHEMA_1)
        with _part("migrate"):
            lead.register(again)
        (workplace / AGAIN).write_bytes(again.read_bytes())


def _init_lead(site: Site, lead: Server) -> None:
    port = site.port()
    with _part("init"):
        words = ("init", "--role", "lead", "--id", LEAD, "--state-dir", lead.state_dir)
        lead.do(*words, "--listen", f"127.0.0.1:{port}")


def _init_shadow(site: Site, lead: Server, shadow: Server) -> None:
    with _part("init of a shadow"):
        shadow.do("init", "--role", "shadow", "--id", SHADOW, "--state-dir", shadow.state_dir)
    lead.set("heartbeat_s", "2")
    shadow.set("probe_interval_s", "1")
    for server in (lead, shadow):
        server.set("level", '"debug"')
        _sync(server.config)
    lead.register(site.registration(NAMES[0]))
    shadow.register(site.registration(OWN))


def _follow(site: Site, lead: Server, shadow: Server) -> None:
    site.start(lead, shadow)
    with _part("invite"):
        token = lead.do("invite", SHADOW).strip()
    with _part("attach"):
        shadow.do("attach", "-", "--yes", stdin=token)
        eventually(lambda: reported(NAMES[0]), "the shadow reports the lead's registration")
    with _part("change"):
        for name in NAMES[1:]:
            lead.register(site.registration(name))
            eventually(lambda name=name: reported(name), f"the shadow reports {name}")  # type: ignore[misc]
        shadow.stop()
        lead.stop()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


@contextmanager
def _part(name: str) -> Iterator[None]:
    say("part begun", DRIVER, name=name)
    yield
    say("part ended", DRIVER, name=name)


def reported(name: str) -> bool:
    """Say whether the shadow has reported the version that carries this name."""
    versions = {
        payload["version"]
        for leaf, payload in _published()
        if leaf == "registration" and (payload["registration"] or {}).get("site", {}).get("name") == name
    }
    return any(leaf == "report" and payload["version"] in versions for leaf, payload in _published())


def _published() -> Iterator[tuple[str, dict[str, Any]]]:
    for line in Path(os.environ[MARKS]).read_bytes().splitlines():
        mark = json.loads(line)
        if mark["kind"] == "published":
            yield mark["topic"].rpartition("/")[2], payload_of(mark["payload"])


def payload_of(raw: str) -> dict[str, Any]:
    """Read what a signed document says."""
    opened = open_envelope(raw.encode())
    assert not isinstance(opened, Unreadable)
    read = strict_json.loads(opened.payload)
    assert isinstance(read, dict)
    return dict(read)


if __name__ == "__main__":
    main()
