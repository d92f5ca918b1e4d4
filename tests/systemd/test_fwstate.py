"""The helper that captures the packet filter, started by a real systemd with all that its unit forbids.

What it writes is then read by people who may not list a rule themselves (FIREWALL.md §6).
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

import pytest

from propagator.core.ruleset import Source
from propagator.firewall.listing import STATE_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.systemd.service import Service

UNIT: Final = "propagator-fwstate"
RULES: Final = """
table inet site {
    chain input {
        type filter hook input priority filter
        iif lo accept
        ct state established,related accept
        tcp dport 8883 drop
    }
}
"""
LAN: Final = (
    "ip link add lan type veth peer name cable; ip address add 192.0.2.10/24 dev lan; ip link set lan up; "
    "ip link set cable up; nft -f /etc/site.nft; "
    "for tool in iptables-nft ip6tables-nft iptables-legacy ip6tables-legacy; do "
    "$tool -A INPUT -p tcp --dport 9 -m conntrack --ctstate INVALID -j DROP; done"
)
CLEARED: Final = "ip link delete lan; for tool in iptables ip6tables; do $tool-legacy -F; done; nft flush ruleset"


@pytest.fixture
def filtered(service: Service) -> Iterator[Service]:
    """The lead's host is in a network, has rules of every tool, one of which drops its port, and none is captured."""
    machine = service.machine
    machine.path("/etc/site.nft").write_text(RULES)
    machine.do("bash", "-ec", LAN)
    machine.do("rm", "-f", STATE_FILE)
    yield service
    machine.do("bash", "-ec", CLEARED)


def diagnosed(service: Service) -> dict[str, Any]:
    """What an operator is told who has no right to list a rule."""
    words = ("diagnose", "--firewall", "--source", "192.0.2.20", "--watch", "0", "--json")
    said = service.machine.run("propagator", *words, user="alice")
    assert said.out, said
    return dict(said.json)


def captured(service: Service) -> dict[str, Any]:
    said = service.machine.run("systemctl", "start", UNIT)
    assert said.code == 0, (said.err, service.journal(UNIT))
    return written(service)


def written(service: Service) -> dict[str, Any]:
    return dict(json.loads(service.machine.path(STATE_FILE).read_text()))


def test_without_the_helper_an_operator_is_told_to_start_it(filtered: Service) -> None:
    told = diagnosed(filtered)["lead"]
    assert told["filter"] is None
    assert told["filter_not_read"].endswith(f"As root: systemctl start {UNIT}")


def test_an_operator_is_told_the_rule_that_drops_once_the_helper_has_run(filtered: Service) -> None:
    captured(filtered)
    assert (filtered.show("ActiveState", UNIT), filtered.show("Result", UNIT)) == ("inactive", "success")
    assert filtered.machine.do("stat", "--format=%A %U:%G", STATE_FILE) == "-rw-r----- root:propagator\n"
    told = diagnosed(filtered)
    assert told["verdict"]["code"] == "LEAD_FIREWALL_DROPS", told
    assert "tcp dport 8883" in told["lead"]["filter"]["rule"]
    assert told["verdict"]["remedies"][1]["tool"] == "nft"


def test_confined_it_reads_all_that_root_reads_by_hand(filtered: Service) -> None:
    confined = captured(filtered)
    filtered.machine.do("propagator-fwstate")
    by_hand = written(filtered)
    assert confined["failed"] == by_hand["failed"] == {}
    assert [source for source in Source if "dport 9 " not in confined["texts"][source]] == [Source.NFT_JSON]
    assert uncounted(confined["texts"]) == uncounted(by_hand["texts"])
    assert sorted(confined["interfaces"]) == sorted(by_hand["interfaces"]) == ["cable", "lan", "lo"]


def uncounted(texts: dict[str, str]) -> dict[str, str]:
    """Leave counters and times out."""
    return {source: re.sub(r"\d+", "", text) for source, text in texts.items()}


def test_it_reads_who_is_in_the_table_of_connections(filtered: Service) -> None:
    asked = "import socket; socket.create_connection(('127.0.0.1', 8883), 5)"
    filtered.machine.do("/usr/bin/python3", "-c", asked, user="alice")
    told = captured(filtered)["conntrack"]
    assert told["unread"] == ""
    assert [8883, "127.0.0.1", "complete"] in [flow[:3] for flow in told["flows"]]


def test_a_stranger_reads_nothing_of_it(filtered: Service) -> None:
    filtered.machine.do("useradd", "mallory")
    captured(filtered)
    assert filtered.machine.run("cat", STATE_FILE, user="mallory").code == 1


FORBIDDEN: Final = {
    "writes a file of the system": "touch /etc/x",
    "makes a device": "mknod /tmp/x b 7 0",
    "reads the lead's keys": "cat /var/lib/propagator/keys/*",
    "speaks over the network": "timeout 2 bash -c 'echo >/dev/tcp/127.0.0.1/8883'",
    "makes a namespace": "unshare --net true",
    "becomes another user": "setpriv --reuid=1 --clear-groups true",
    "mounts": "mount -t tmpfs none /mnt && umount /mnt",
}
STATUS: Final = "grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status"


def test_it_is_confined_to_reading_the_filter(filtered: Service) -> None:
    """Tried from inside, by a second command of the unit; root by hand can do all of it."""
    machine, told = filtered.machine, "/run/propagator/tried"
    tries = [f'if {{ {command}; }} >/dev/null 2>&1; then echo "{name}"; fi' for name, command in FORBIDDEN.items()]
    script = machine.path("/usr/bin/try-it")
    script.write_text("\n".join(["#!/bin/sh", f"exec >{told}", *tries, STATUS, ""]))
    script.chmod(0o755)
    filtered.configure("ExecStartPost=/usr/bin/try-it", unit=UNIT)
    captured(filtered)
    confined = machine.path(told).read_text().splitlines()
    machine.do("/usr/bin/try-it")
    by_hand = machine.path(told).read_text().splitlines()
    assert by_hand[: len(FORBIDDEN)] == list(FORBIDDEN)
    capabilities = f"{1 << 12 | 1 << 13:016x}"  # CAP_NET_ADMIN, CAP_NET_RAW
    assert confined == [f"CapEff:\t{capabilities}", f"CapBnd:\t{capabilities}", "NoNewPrivs:\t1", "Seccomp:\t2"]
