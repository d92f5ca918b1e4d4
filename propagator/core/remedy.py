"""What a person types to open the port in the filter that was found, to look at it, and to take it back.

Takes the tool in charge, the port, and the networks that shall get through; gives shell commands as texts. The smallest
rule that serves: one port, one way, the site's networks. Nothing here changes a firewall, and nothing that stems from a
listing or a configuration gets into a command but as a checked name, an address or a number.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, collapse_addresses
from typing import TYPE_CHECKING, Final, TypeAlias

from propagator.core.errors import InputError
from propagator.core.ticket import plain

if TYPE_CHECKING:
    from collections.abc import Sequence

Network: TypeAlias = IPv4Network | IPv6Network
Address: TypeAlias = IPv4Address | IPv6Address

LEAD_HOST: Final = "the Enterprise Server's host"
DEVICE_HOST: Final = "this device"
ON_THE_WAY: Final = "the router or firewall in between"


class Tool(StrEnum):
    """What people manage a packet filter with."""

    UFW = "ufw"
    FIREWALLD = "firewalld"
    NFT = "nft"
    IPTABLES = "iptables"
    IPTABLES_LEGACY = "iptables-legacy"
    WINDOWS = "windows"
    NETSH = "netsh"
    ROUTER = "router"
    SYSCTL = "sysctl"


class Side(StrEnum):
    """Which packets shall pass: those to the port or the answers, on the lead (IN, ANSWERS) or a device (OUT, BACK)."""

    IN = "in"
    ANSWERS = "answers"
    OUT = "out"
    BACK = "back"

    @property
    def is_inward(self) -> bool:
        """Whether they come into the host."""
        return self in {Side.IN, Side.BACK}

    @property
    def where(self) -> str:
        """On which host that is."""
        return LEAD_HOST if self in {Side.IN, Side.ANSWERS} else DEVICE_HOST

    @property
    def chain(self) -> str:
        """The chain of iptables that they meet."""
        return "INPUT" if self.is_inward else "OUTPUT"

    @property
    def port(self) -> str:
        """The end at which the port is, as nft calls it."""
        return "dport" if self in {Side.IN, Side.OUT} else "sport"


@dataclass(frozen=True, slots=True)
class ChainRef:
    """The chain that drops, and the handle of the rule in it that does; without one it is the chain's policy."""

    family: str
    table: str
    chain: str
    handle: int | None = None


@dataclass(frozen=True, slots=True)
class Remedy:
    """Shell commands for one host: to open and keep, to take back, and to look. `where` says on which host."""

    tool: str
    where: str
    commands: tuple[str, ...]
    undo: tuple[str, ...]
    look: tuple[str, ...] = ()


def open_port(  # noqa: PLR0913  each of them is a word of the rule
    tool: Tool,
    port: int,
    networks: Sequence[Network],
    *,
    zone: str | None = None,
    chain: ChainRef | None = None,
    side: Side = Side.IN,
) -> Remedy:
    """Say how to let TCP to `port` through, for these networks alone; for none named, for everybody.

    `zone` is firewalld's (without one its default zone), `chain` the one that drops, for nft and iptables. `networks`
    are those of the other end. Raises InputError for a port, a name or a family that no filter can have, and where the
    networks are not of the chain's family.
    """
    if not 0 < port < _PORTS:
        raise InputError(f"{port} is no TCP port.", hint=f"A port is a number from 1 to {_PORTS - 1}.")
    wanted = _Wanted(port, tuple(collapse(networks)), side)
    match tool:
        case Tool.UFW:
            return _ufw(wanted)
        case Tool.FIREWALLD:
            return _firewalld(wanted, zone)
        case Tool.NFT:
            return _nft(wanted, chain or ChainRef("inet", "filter", side.chain.lower()))
        case Tool.IPTABLES | Tool.IPTABLES_LEGACY:
            return _iptables(tool, wanted, chain)
        case Tool.WINDOWS:
            return _windows(wanted)
        case Tool.NETSH:
            return _netsh(wanted)
        case Tool.ROUTER | Tool.SYSCTL:
            raise InputError(f"{tool} opens no port.", hint="Use `forward`, or `track_more`.")


_PORTS: Final = 65536


@dataclass(frozen=True, slots=True)
class _Wanted:
    port: int
    networks: tuple[Network, ...]
    side: Side

    @property
    def comment(self) -> str:
        """The mark by which the rule is found again."""
        return f"propagator-{self.port}"

    def of(self, version: int) -> tuple[Network, ...]:
        """The networks of IPv4 or IPv6."""
        return tuple(network for network in self.networks if network.version == version)


def collapse(networks: Sequence[Network]) -> list[Network]:
    """Leave out what others of them contain, IPv4 first."""
    four = [one for one in networks if isinstance(one, IPv4Network)]
    six = [one for one in networks if isinstance(one, IPv6Network)]
    return [*collapse_addresses(four), *collapse_addresses(six)]


def _ufw(wanted: _Wanted) -> Remedy:
    """`prepend`: a rule behind one that denies the port would not help (ufw 0.36 and later have it).

    One case stays shut: a rule of the very same words that denies. ufw then says "Skipping inserting existing rule".
    """
    if wanted.side in {Side.ANSWERS, Side.BACK}:
        raise InputError(
            "ufw lets answers pass by itself.", hint="Look with `nft list ruleset` at who else drops them."
        )
    if wanted.side is Side.OUT:
        rules = [f"out proto tcp to {network} port {wanted.port}" for network in wanted.networks] or [
            f"out {wanted.port}/tcp"
        ]
    else:
        rules = [f"proto tcp from {network} to any port {wanted.port}" for network in wanted.networks] or [
            f"{wanted.port}/tcp"
        ]
    return Remedy(
        Tool.UFW,
        wanted.side.where,
        tuple(f"ufw prepend allow {rule} comment {wanted.comment}" for rule in rules),
        tuple(f"ufw delete allow {rule}" for rule in rules),
        ("ufw status numbered",),
    )


def _firewalld(wanted: _Wanted, zone: str | None) -> Remedy:
    """At once and for good, without a reload, which would undo what others changed until the next start."""
    if wanted.side in {Side.ANSWERS, Side.BACK}:
        raise InputError(
            "firewalld lets answers pass by itself.", hint="Look with `nft list ruleset` at who drops them."
        )
    if wanted.side is Side.OUT:
        return _firewalld_out(wanted)
    given = "" if zone is None else f"--zone={_name('zone', zone)} "
    options = [
        shlex.quote(
            f'rule family="ipv{network.version}" source address="{network}" '
            f'port port="{wanted.port}" protocol="tcp" accept'
        )
        for network in wanted.networks
    ]
    added = [f"rich-rule={option}" for option in options] or [f"port={wanted.port}/tcp"]
    return Remedy(
        Tool.FIREWALLD,
        wanted.side.where,
        tuple(f"firewall-cmd {kept}{given}--add-{one}" for one in added for kept in ("", "--permanent ")),
        tuple(f"firewall-cmd {kept}{given}--remove-{one}" for one in added for kept in ("", "--permanent ")),
        (f"firewall-cmd {given}--list-all", "firewall-cmd --get-active-zones"),
    )


def _firewalld_out(wanted: _Wanted) -> Remedy:
    """Let out by a direct rule, before others: firewalld itself drops nothing on its way out."""
    rules = [f"ipv{version} filter OUTPUT -1 {words} -j ACCEPT" for version, words in _words(wanted)]
    return Remedy(
        Tool.FIREWALLD,
        wanted.side.where,
        tuple(f"firewall-cmd {kept}--direct --add-rule {rule}" for rule in rules for kept in ("", "--permanent ")),
        tuple(f"firewall-cmd {kept}--direct --remove-rule {rule}" for rule in rules for kept in ("", "--permanent ")),
        ("firewall-cmd --direct --get-all-rules",),
    )


_FAMILIES: Final = {"inet": (4, 6), "ip": (4,), "ip6": (6,), "netdev": (4, 6)}
_KEPT: Final = "/etc/nftables.conf"


def _nft(wanted: _Wanted, chain: ChainRef) -> Remedy:
    """Into the chain that drops, before the rule that drops: an accept in another table saves nobody."""
    if chain.family not in _FAMILIES:
        raise InputError(f"{chain.family!r} is no family of nft.", hint=f"One of {', '.join(_FAMILIES)}.")
    place = f"{chain.family} {_name('table', chain.table)} {_name('chain', chain.chain)}"
    at = "" if chain.handle is None else f" position {int(chain.handle)}"
    rules = _nft_rules(wanted, chain.family)
    kept = [f"insert rule {place} {rule}" for rule in rules]
    table = rf"^[[:space:]]*table[[:space:]]+{chain.family}[[:space:]]+{re.escape(chain.table)}([[:space:]{{]|$)"
    guard = f"grep -qE {shlex.quote(table)} {_KEPT} 2>/dev/null"
    note = f"Not kept over a restart: the table {chain.family} {chain.table} is not made by {_KEPT}."
    lines = " ".join(shlex.quote(line) for line in kept)
    mine = f'comment "{wanted.comment}"'
    found = f"s/.*{mine}.* # handle \\([0-9]*\\)$/\\1/p"
    return Remedy(
        Tool.NFT,
        wanted.side.where,
        (
            *(f"nft {shlex.quote(f'insert rule {place}{at} {rule}')}" for rule in rules),
            f"if {guard}; then printf '%s\\n' {lines} >>{_KEPT}; else echo {shlex.quote(note)}; fi",
        ),
        (
            f"nft -a list chain {place} | sed -n {shlex.quote(found)} | xargs -r -n 1 nft delete rule {place} handle",
            f"if {guard}; then sed -i {shlex.quote(f'/^insert rule .*{mine}$/d')} {_KEPT}; fi",
        ),
        (f"nft -a list chain {place}",),
    )


def _nft_rules(wanted: _Wanted, family: str) -> list[str]:
    """One rule for each IP version that is asked for and that the table has."""
    end = "saddr" if wanted.side.is_inward else "daddr"
    tail = f'tcp {wanted.side.port} {wanted.port} counter accept comment "{wanted.comment}"'
    if not wanted.networks:
        return [tail]
    rules = []
    for version in _FAMILIES[family]:
        networks = ", ".join(map(str, wanted.of(version)))
        if networks:
            addresses = f"{{ {networks} }}" if "," in networks else networks
            rules.append(f"{'ip' if version == _V4 else 'ip6'} {end} {addresses} {tail}")
    return rules or _of_another_family(family)


_V4: Final = 4


def _of_another_family(family: str) -> list[str]:
    raise InputError(
        f"A table of the family {family} sees none of these networks.", hint="Name networks of its family."
    )


def _iptables(tool: Tool, wanted: _Wanted, chain: ChainRef | None) -> Remedy:
    """Insert as the first rule of the chain that drops, for each IP version. Kept where Debian keeps rules."""
    families = {None: (4, 6), "ip": (4,), "ip6": (6,)}
    family = None if chain is None else chain.family
    if family not in families:
        raise InputError(f"{family!r} is no family of iptables.", hint="One of ip, ip6.")
    table = "" if chain is None or chain.table == "filter" else f"-t {_name('table', chain.table)} "
    name = wanted.side.chain if chain is None else _name("chain", chain.chain)
    legacy = "-legacy" if tool is Tool.IPTABLES_LEGACY else ""
    programs = {4: f"iptables{legacy}", 6: f"ip6tables{legacy}"}
    rules = [(programs[version], words) for version, words in _words(wanted) if version in families[family]]
    if not rules:
        _of_another_family(str(family))
    tail = f"-m comment --comment {wanted.comment} -j ACCEPT"
    keep = (
        "if command -v netfilter-persistent >/dev/null; then netfilter-persistent save; "
        "else echo 'Not kept over a restart: install iptables-persistent, or add it to your own script.'; fi"
    )
    kept = keep.partition("; else ")[0] + "; fi"
    used = sorted({program for program, _ in rules})
    return Remedy(
        tool,
        wanted.side.where,
        (*(f"{program} {table}-I {name} 1 {words} {tail}" for program, words in rules), keep),
        (*(f"{program} {table}-D {name} {words} {tail}" for program, words in rules), kept),
        tuple(f"{program} {table}-L {name} -nv --line-numbers" for program in used),
    )


def _words(wanted: _Wanted) -> list[tuple[int, str]]:
    """Give the matches of iptables, with the IP version that each is for."""
    end = "-s" if wanted.side.is_inward else "-d"
    tail = f"-p tcp -m tcp --{wanted.side.port} {wanted.port}"
    if not wanted.networks:
        return [(4, tail), (6, tail)]
    return [(network.version, f"{end} {network} {tail}") for network in wanted.networks]


def _windows(wanted: _Wanted) -> Remedy:
    name = f"propagator-mqtt-{wanted.port}" + ("" if wanted.side is Side.IN else f"-{wanted.side}")
    end = "LocalPort" if wanted.side.where == LEAD_HOST else "RemotePort"
    remote = f" -RemoteAddress {','.join(map(str, wanted.networks))}" if wanted.networks else ""
    look = (
        "Get-NetConnectionProfile | Select-Object Name,NetworkCategory",
        "Get-NetFirewallProfile | Select-Object Name,Enabled,DefaultInboundAction,AllowInboundRules",
        (
            "Get-NetFirewallPortFilter -PolicyStore ActiveStore -Protocol TCP | Where-Object "
            f"{{ $_.{end} -in '{wanted.port}','Any' }} | Get-NetFirewallRule | Where-Object "
            "{ $_.Enabled -eq 'True' } | Select-Object DisplayName,Direction,Action,Profile,PolicyStoreSourceType"
        ),
    )
    opened = (
        f'New-NetFirewallRule -Name {name} -DisplayName "Propagator MQTT {wanted.port}" '
        f"-Direction {'Inbound' if wanted.side.is_inward else 'Outbound'} -Action Allow -Protocol TCP "
        f"-{end} {wanted.port} -Profile Domain,Private{remote}"
    )
    return Remedy(Tool.WINDOWS, wanted.side.where, (opened,), (f"Remove-NetFirewallRule -Name {name}",), look)


def _netsh(wanted: _Wanted) -> Remedy:
    name = f'name="Propagator MQTT {wanted.port}"'
    way = "in" if wanted.side.is_inward else "out"
    ports = f"{'local' if wanted.side.where == LEAD_HOST else 'remote'}port={wanted.port}"
    remote = f" remoteip={','.join(map(str, wanted.networks))}" if wanted.networks else ""
    firewall = "netsh advfirewall firewall"
    return Remedy(
        Tool.NETSH,
        wanted.side.where,
        (f"{firewall} add rule {name} dir={way} action=allow protocol=TCP {ports} profile=domain,private{remote}",),
        (f"{firewall} delete rule {name} dir={way} protocol=TCP {ports}",),
        ("netsh advfirewall show currentprofile", f"{firewall} show rule {name}"),
    )


def forward(port: int, networks: Sequence[Network], targets: Sequence[Address], where: str = ON_THE_WAY) -> Remedy:
    """Say what a router between must let through, in words that any router's page has: nobody knows its make."""
    sources = ", ".join(map(str, collapse(networks))) or "any"
    target = ", ".join(map(str, targets))
    there = f"forward: allow TCP from {sources} to {target} port {port}, new and established connections"
    back = f"forward: allow TCP from {target} port {port} to {sources}, established connections"
    return Remedy(Tool.ROUTER, where, (there, back), (f"remove both rules for TCP port {port} again",))


_TRACKED: Final = "net.netfilter.nf_conntrack_max"
_TRACKED_FILE: Final = "/etc/sysctl.d/90-propagator-conntrack.conf"
_LOADED_FILE: Final = "/etc/modules-load.d/propagator-conntrack.conf"


def track_more(limit: int) -> Remedy:
    """Say how to let the kernel track twice as many connections as `limit`, now and after a restart.

    The module is named to be loaded at boot: where it is not there when the settings are made, they are passed over.
    """
    return Remedy(
        Tool.SYSCTL,
        LEAD_HOST,
        (
            f"sysctl -w {_TRACKED}={2 * limit}",
            f"echo '{_TRACKED} = {2 * limit}' >{_TRACKED_FILE}",
            f"echo nf_conntrack >{_LOADED_FILE}",
        ),
        (f"sysctl -w {_TRACKED}={limit}", f"rm -f {_TRACKED_FILE} {_LOADED_FILE}"),
        (f"sysctl net.netfilter.nf_conntrack_count {_TRACKED}", "cat /proc/net/stat/nf_conntrack"),
    )


_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")


def _name(what: str, name: str) -> str:
    """Let a name through that no shell and no tool reads as anything else."""
    if _NAME.fullmatch(name) is None:
        raise InputError(
            f"The {what} has a name that is not put into a command: {plain(name, 40)!r}.",
            hint="Write the rule by hand.",
        )
    return name
