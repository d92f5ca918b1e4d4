"""The capture: what nft and both iptables list, and whom conntrack knows (FIREWALL.md §6). Needs CAP_NET_ADMIN.

Reads no input but the kernel's own answers. What is missing or fails is written down as not read, with the reason, for
"not checked" is not "nothing there".
"""

from __future__ import annotations

import contextlib
import datetime as dt
import grp
import json
import os
import secrets
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from propagator.core.errors import StateError
from propagator.core.ruleset import Source
from propagator.firewall import conntrack, tool

if TYPE_CHECKING:
    from propagator.core.difference import JsonObject

STATE_FILE: Final = Path("/run/propagator/fwstate.json")
GROUP: Final = "propagator"
SCHEMA: Final = 1

_NAMES: Final = {
    Source.IPTABLES_LEGACY: Path("/proc/self/net/ip_tables_names"),
    Source.IP6TABLES_LEGACY: Path("/proc/self/net/ip6_tables_names"),
}


def capture(ufw: Path = Path("/etc/ufw/ufw.conf")) -> JsonObject:
    """Give the document that `state` reads: the texts, why others are missing, the interfaces, ufw, the connections."""
    texts: dict[str, str] = {}
    failed: dict[str, str] = {}
    for source in Source:
        text, why = _read(source, texts)
        if text is None:
            failed[source] = why
        else:
            texts[source] = text
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return {
        "schema": SCHEMA,
        "taken_at": now,
        "taken_s": time.time(),
        "texts": dict(texts),
        "failed": dict(failed),
        "interfaces": [name for _, name in socket.if_nameindex()],
        "ufw_enabled": _ufw_enabled(ufw),
        "conntrack": conntrack.capture(),
    }


def _read(source: Source, texts: dict[str, str]) -> tuple[str | None, str]:
    """Run one tool, where there is something for it to list: iptables' own tables only where JSON hides rules."""
    if source in {Source.IPTABLES_NFT, Source.IP6TABLES_NFT} and '"xt"' not in texts.get(Source.NFT_JSON, '"xt"'):
        return "", ""
    if source in _NAMES:
        try:
            if not _NAMES[source].read_text().strip():
                return "", ""
        except FileNotFoundError:
            return "", ""
        except OSError as exc:
            return None, f"{_NAMES[source]}: {exc.strerror}"
    return tool.run(source.split())


def _ufw_enabled(path: Path) -> bool | None:
    """Tell what ufw's own file says; None where there is no ufw."""
    try:
        text = path.read_text()
    except OSError:
        return None
    return any(line.strip().lower() == "enabled=yes" for line in text.splitlines())


def write(document: JsonObject, path: Path = STATE_FILE) -> None:
    """Replace the file in one step, 0640 and the group's. Raises StateError."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        path.parent.mkdir(mode=0o755, exist_ok=True)
        with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
            file.write(json.dumps(document).encode())
            _share(file.fileno())
        temporary.replace(path)
    except OSError as exc:
        temporary.unlink(missing_ok=True)
        hint = "Start it as root: systemctl start propagator-fwstate."
        raise StateError(f"{path} cannot be written: {exc.strerror}.", hint=hint) from exc


def _share(descriptor: int) -> None:
    """Give the group its file, where there is the group; in the unit it is so from the start."""
    with contextlib.suppress(KeyError, PermissionError):
        group = grp.getgrnam(GROUP).gr_gid
        if os.fstat(descriptor).st_gid != group:
            os.fchown(descriptor, -1, group)
    os.fchmod(descriptor, 0o640)
