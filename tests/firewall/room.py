"""What every lab is made of: its addresses and files, the script that makes its room, and the wires of its networks."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal, TypeAlias

Place: TypeAlias = Literal["lead", "r2", "r1", "shadow"]
Topology: TypeAlias = Literal["routed", "onlink"]

PLACES: Final[tuple[Place, ...]] = ("lead", "r2", "r1", "shadow")
PORT: Final = 8883
LEAD: Final = "10.3.0.2"
LEAD6: Final = "fd00:3::2"
SHADOW: Final = "10.1.0.2"
NAME: Final = "es-1.example"
"""The name that the shadow knows its lead by; `Lab.hosts` and `Lab.resolver` say what it means."""

NAMES: Final = {
    "10.1.0.2": "self",
    "fd00:1::2": "self",
    "10.3.0.9": "self",
    "fd00:3::9": "self",
    "10.1.0.1": "r1",
    "fd00:1::1": "r1",
    "10.2.0.2": "r2",
    "fd00:2::2": "r2",
    "10.3.0.1": "r2",
    LEAD: "lead",
    LEAD6: "lead",
}
"""Whose an address is, from the shadow."""

SITE: Final = Path("/srv")
SHADOW_CONFIG: Final = SITE / "shadow.toml"
LEAD_CONFIG: Final = SITE / "lead.toml"
LEAD_STATE: Final = SITE / "lead"
SHADOW_STATE: Final = SITE / "shadow"
WAYS: Final = SHADOW_STATE / "paths.json"
"""What the shadow's agent remembers of the way to a lead that was well."""

LEAD_USER: Final = "daemon"
"""As whom the lead's agent runs: a user that Debian has, without any right."""

MAKING: Final = """
set -eu
wiring=$1 root=/mnt/root; shift
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work "$root"
mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
for path in /run /srv /tmp; do mount -t tmpfs tmpfs "$root$path" -o mode=755; done
chmod 1777 "$root/tmp"
for path in "$@"; do
    above=$path
    while [ "$above" != / ]; do mkdir -p "$root$above"; chmod o+x "$root$above"; above=$(dirname "$above"); done
done
for path in "$@"; do mount --bind "$path" "$root$path" -o ro; done
mkdir "$root/run/netns"
exec chroot "$root" bash -c "$wiring"
"""
"""Makes the room of a script and of the directories that its programs need: those may lie on another file system than
the root, and the shadow's user, who has no right here, must get to them wherever the checkout lies."""

NETWORKS: Final = {
    "routed": """
link lead eth0 r2 eth1
link r2 eth0 r1 eth1
link r1 eth0 shadow eth0
address lead eth0 10.3.0.2/24 fd00:3::2/64
address r2 eth1 10.3.0.1/24 fd00:3::1/64
address r2 eth0 10.2.0.2/24 fd00:2::2/64
address r1 eth1 10.2.0.1/24 fd00:2::1/64
address r1 eth0 10.1.0.1/24 fd00:1::1/64
address shadow eth0 10.1.0.2/24 fd00:1::2/64
route lead default 10.3.0.1 fd00:3::1
route shadow default 10.1.0.1 fd00:1::1
via r2 10.1.0.0/24 10.2.0.1 fd00:1::/64 fd00:2::1
via r1 10.3.0.0/24 10.2.0.2 fd00:3::/64 fd00:2::2
""",
    "onlink": """
link lead eth0 shadow eth0
address lead eth0 10.3.0.2/24 fd00:3::2/64
address shadow eth0 10.3.0.9/24 fd00:3::9/64
""",
}

WIRING: Final = """
set -eu
for place in lead r2 r1 shadow; do
    ip netns add "$place"
    ip -n "$place" link set lo up
done
for router in r2 r1; do
    nsenter --net="/run/netns/$router" sh -c '
        echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding'
done
link() { ip link add "$2" netns "$1" type veth peer name "$4" netns "$3"; }
address() {
    ip -n "$1" address add "$3" dev "$2"
    ip -n "$1" address add "$4" dev "$2" nodad
    ip -n "$1" link set "$2" up
}
route() { ip -n "$1" route add default via "$3"; ip -n "$1" -6 route add default via "$4"; }
via() { ip -n "$1" route add "$2" via "$3"; ip -n "$1" -6 route add "$4" via "$5"; }
"""

UNSHARE: Final = ("unshare", "--mount", "--propagation=private", "--pid", "--net", "--fork", "--kill-child")

STAYING: Final = """
echo ready
exec sleep infinity
"""
