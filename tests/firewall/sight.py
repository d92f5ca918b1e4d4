"""A look at a spoilt lab, in the words of `case.Sight`: from the shadow, and what the lead counts meanwhile."""

from __future__ import annotations

import json
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from tests.firewall.room import NAME, NAMES, PORT, SHADOW_STATE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.firewall.case import Sight
    from tests.firewall.lab import Lab

_TABLES: Final = ("snmp", "netstat", "tcp", "tcp6")
_SYN_RECV: Final = "03"


@dataclass(frozen=True, slots=True)
class LeadView:
    """What the lead's network counts, readable by anybody there."""

    counters: Mapping[str, int]
    half_open: tuple[int, ...]
    """For each connection that waits for the shadow's last word: how often the answer was repeated."""

    def since(self, before: LeadView) -> dict[str, str]:
        """Say what has happened since."""
        risen = {name: self.counters[name] - before.counters[name] for name in self.counters}
        repeated = risen.pop("syn_retrans") > 0 or any(self.half_open)
        half_open = "none" if not self.half_open else "repeated" if repeated else "unsent"
        return {**{f"lead_{name}": _some(count) for name, count in risen.items()}, "lead_half_open": half_open}


def look_at(lab: Lab, question: Mapping[str, Any]) -> dict[str, str]:
    """Look at a spoilt lab from the shadow, while the lead counts."""
    before = _lead_view(lab)
    seen = lab.look(**_about(lab, question))
    return {**_worded(seen), **_lead_view(lab).since(before)}


def differences(wanted: Sight, seen: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Give what was not seen as wanted: word → (wanted, seen)."""
    found = {word: (str(pattern), seen.get(word, "nothing")) for word, pattern in wanted.items()}
    return {word: pair for word, pair in found.items() if not fnmatchcase(pair[1], pair[0])}


def _about(lab: Lab, question: Mapping[str, Any]) -> dict[str, Any]:
    """Ask with the account and the CA that the shadow's state holds."""
    keys = lab.path(SHADOW_STATE / "keys")
    (account,) = keys.glob("uplink-*.json")
    held = json.loads(account.read_text())
    return {
        "host": NAME,
        "port": PORT,
        "ca_file": str(SHADOW_STATE / "keys" / account.with_suffix(".crt").name),
        "username": held["username"],
        "password": held["password"],
        "topic": "propagator/1/es-1/registration",
        **question,
    }


def _worded(seen: Mapping[str, Any]) -> dict[str, str]:
    slow = " slow" if seen["resolve"]["took_s"] > 2.5 else ""
    words = {"resolve": seen["resolve"]["result"] + slow}
    if not (tries := seen.get("tries")):
        return words
    first = tries[0]
    words["connect"] = first["result"]
    words["took"] = "at once" if first["took_s"] < 0.7 else f"{min(first['took_s'], 9):.0f} s"
    words["icmp"] = f"{first['icmp']} from {_who(first['from'])}" if first["icmp"] else "none"
    words["retransmitted"] = _some(sum(one["retransmissions"] for one in tries if one["result"] == "connected"))
    words["udp"] = seen["udp"]
    for one in tries:
        words["v6" if ":" in one["address"] else "v4"] = one["result"]
    words |= {name: _some(count) for name, count in seen["counters"].items()}
    words |= {name: " ".join(map(_who, seen[name])) for name in ("ladder", "control") if name in seen}
    return words | {name: seen[name] for name in ("session", "small") if name in seen}


def _who(address: str) -> str:
    icmp, at, sender = address.partition("@")
    return f"{icmp}@{NAMES.get(sender, sender)}" if at else NAMES.get(address, address)


def _some(count: int) -> str:
    return "some" if count > 0 else "none"


def _lead_view(lab: Lab) -> LeadView:
    said = lab.run("lead", "cat", *(f"/proc/self/net/{name}" for name in _TABLES), user="lead")
    lines = said.splitlines()
    ip, tcp = _table(lines, "Ip:"), _table(lines, "TcpExt:")
    counters = {
        "swallowed": ip["InReceives"] - ip["InDelivers"],
        "no_routes": ip["OutNoRoutes"],
        "rp_filter": tcp["IPReversePathFilter"],
        "overflows": tcp["ListenOverflows"],
        "syn_retrans": tcp["TCPSynRetrans"],
    }
    return LeadView(counters, tuple(_half_open(lines)))


def _table(lines: list[str], head: str) -> dict[str, int]:
    names, values = (line.split()[1:] for line in lines if line.startswith(head))
    return dict(zip(names, map(int, values), strict=True))


def _half_open(lines: list[str]) -> Iterator[int]:
    """Find the rows of /proc/net/tcp in SYN_RECV on the lead's port; gives how often each was repeated."""
    for line in lines:
        columns = line.split()
        if len(columns) > 6 and columns[3] == _SYN_RECV and columns[1].endswith(f":{PORT:04X}"):
            yield int(columns[6], 16)
