"""`ports`: the pre-visit sheet. Which ports must be open, and the rules to ask for, from the configuration alone."""

from __future__ import annotations

import ipaddress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

import click

from propagator import settings
from propagator.cli import Place, ending, json_option, located, print_json, visible
from propagator.cli.configured import wanted as wanted_settings
from propagator.core.remedy import Tool, open_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from propagator.core.remedy import Network, Remedy
    from propagator.settings import Settings

_TOOLS: Final = (Tool.UFW, Tool.FIREWALLD, Tool.NFT, Tool.IPTABLES, Tool.WINDOWS, Tool.NETSH)
_SELF: Final = "this server"
_LOCAL: Final = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the sheet. `way` is `in` or `out`, as seen from this server; `port` None: ICMP has none."""

    way: str
    protocol: str
    port: int | None
    source: str
    destination: str
    why: str


class NetworkType(click.ParamType):  # type: ignore[type-arg]  # generic in the stubs only
    """A network, as 10.1.0.0/24."""

    name = "NETWORK"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Network:
        """Read it; what is none ends the command with 2."""
        try:
            return ipaddress.ip_network(str(value), strict=False)
        except ValueError:
            self.fail(f"{value!r} is no network: 10.1.0.0/24 or fd00::/64", param, ctx)


@click.command(
    epilog=ending(
        {0: "the sheet is printed", 2: "wrong usage or configuration"},
        ["propagator ports", "propagator ports --network 10.1.0.0/24", "propagator ports --json"],
    )
)
@json_option
@click.option("--network", "networks", type=NetworkType(), multiple=True, help="The devices' network; may be repeated.")
@located
def ports(place: Place, as_json: bool, networks: tuple[Network, ...]) -> None:
    """Print which ports must be open for this server, and the rules to ask for.

    From the configuration alone: to be sent to whoever keeps the firewalls before anyone travels. Nothing is probed
    and nothing is changed.
    """
    wanted = wanted_settings(place)
    rows = tuple(_rows(wanted, networks))
    inward = [row.port for row in rows if row.way == "in" and row.port is not None]
    remedies = [open_port(tool, port, networks) for port in inward for tool in _TOOLS]
    if as_json:
        server = {"id": wanted.server.id, "name": wanted.server.name, "role": wanted.role}
        print_json(
            {
                "schema": 1,
                "server": server,
                "ports": [asdict(row) for row in rows],
                "remedies": [{**asdict(each), "tool": str(each.tool)} for each in remedies],
            }
        )
        return
    _print(wanted, rows, remedies)


def _rows(wanted: Settings, networks: Sequence[Network]) -> Iterator[Row]:
    devices = ", ".join(map(str, networks)) or "the devices' network"
    if wanted.downlink is not None:
        yield from _downlink(wanted, devices)
    if wanted.uplink is not None:
        yield from _uplink(wanted)
    for name, table in (("metrics", wanted.metrics), ("status page", wanted.web)):
        if table.listen is not None and table.listen.host not in _LOCAL:
            yield Row("in", "TCP", table.listen.port, "whoever reads it", _SELF, f"the {name}")
    if wanted.downlink is not None or wanted.uplink is not None:
        told = "fragmentation needed (IPv4 type 3 code 4, IPv6 type 2): without it large messages vanish in tunnels"
        yield Row("both", "ICMP", None, "the way between", _SELF, told)


def _downlink(wanted: Settings, devices: str) -> Iterator[Row]:
    downlink = wanted.downlink
    if downlink is None:
        return
    if downlink.external is not None:
        yield Row(
            "out", "TCP", downlink.external.port, _SELF, downlink.external.host, "the external broker (MQTT, TLS)"
        )
    elif downlink.listen.host not in _LOCAL:
        yield Row("in", "TCP", downlink.listen.port, devices, _SELF, "devices fetch the registration (MQTT, TLS)")


def _uplink(wanted: Settings) -> Iterator[Row]:
    link = settings.load_uplink(wanted.state_dir / settings.UPLINK_FILE)
    why = "the registration comes from the lead (MQTT, TLS)"
    if link is None:
        yield Row("out", "TCP", 8883, _SELF, "the lead (not attached yet: its port may differ)", why)
    for address in () if link is None else link.addresses:
        yield Row("out", "TCP", address.port, _SELF, address.host, why)
    listen = None if wanted.uplink is None else wanted.uplink.probe_listen
    if listen is not None and listen.host not in _LOCAL:
        yield Row("in", "TCP", listen.port, "the lead", _SELF, "the lead's reverse probe (optional)")


def _print(wanted: Settings, rows: Sequence[Row], remedies: Sequence[Remedy]) -> None:
    lines = [f"Ports of {wanted.server.name} ({wanted.server.id}), {wanted.role}", ""]
    for row in rows:
        port = "" if row.port is None else f" {row.port}"
        lines.append(f"  {row.way:<5} {row.protocol}{port}  from {row.source} to {row.destination}: {row.why}")
    if not rows:
        lines.append("  none: this server has no links, and serves nothing to others")
    if any(row.way == "out" for row in rows):
        lines += [
            "",
            "Answers of established connections must be let back in; nothing else is needed for what goes out.",
        ]
    if remedies:
        lines += ["", "Rules for this server's own firewall, by the tool that manages it:"]
    for each in remedies:
        lines += [f"  {each.tool}", *(f"    {command}" for command in each.commands)]
        lines += [f"    back: {command}" for command in each.undo]
    for line in lines:
        click.echo(visible(line))
