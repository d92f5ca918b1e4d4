"""The tables of the configuration: the whole key set (DESIGN §9).

A field's description is its one text, used as the comment in the file that `init` writes and as what would do when the
value is wrong. `TABLES` names the tables that a configuration may have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator

from propagator import config
from propagator.config import Address, Proxy, Role
from propagator.core.errors import InputError

Kind = Literal["enterprise-central", "enterprise-server", "server-device"]
Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "console", "json"]


def default_kind(role: Role) -> Kind:
    """Return the kind of server that a role stands for where no other is named."""
    return "enterprise-server" if role in ("lead", "relay") else "server-device"


def kind_of(value: object) -> str:
    """Name what a value is, for a message."""
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return f"the number {value}"
        case str():
            return f"the text {config.quoted(value)}"
        case Mapping():
            return "a table"
        case _:
            return "a list" if isinstance(value, list | tuple) else "a date or time"


def _by(parse: Callable[[str], object]) -> Callable[[object], object]:
    """Make a validator of a function that takes a text and raises InputError; what is parsed already passes."""

    def validate(value: object) -> object:
        if isinstance(value, Path | Address | Proxy):
            return value
        if not isinstance(value, str):
            raise ValueError(f"is {kind_of(value)}")  # noqa: TRY004  pydantic takes a TypeError for a fault of the program
        try:
            return parse(value)
        except InputError as exc:
            raise ValueError(str(exc).removesuffix(".")) from exc

    return validate


def _each_by(parse: Callable[[str], object]) -> Callable[[object], object]:
    """Make the same validator for a list; what stands twice is taken once."""
    one = _by(parse)

    def validate(value: object) -> object:
        if not isinstance(value, list | tuple):
            raise ValueError(f"is {kind_of(value)}")  # noqa: TRY004  as above
        return tuple(dict.fromkeys(one(item) for item in value))

    return validate


def _path(text: str) -> Path:
    if not text or "\0" in text:
        raise InputError(f"{config.quoted(text)} is no path.")
    return Path(text)


def _absolute(text: str) -> Path:
    if not _path(text).is_absolute():
        raise InputError(f"{config.quoted(text)} is not absolute: it would depend on where the program was started.")
    return Path(text)


def _address_or_off(text: str) -> Address | None:
    return config.parse_address(text) if text else None


def _proxy_or_none(text: str) -> Proxy | None:
    return config.parse_proxy(text) if text else None


Identifier = Annotated[str, PlainValidator(_by(config.parse_id))]
Name = Annotated[str, PlainValidator(_by(config.parse_name))]
Broker = Annotated[str, PlainValidator(_by(config.parse_broker))]
Hosts = Annotated[tuple[str, ...], PlainValidator(_each_by(config.parse_host))]
Listen = Annotated[Address, PlainValidator(_by(config.parse_address))]
ListenOrOff = Annotated[Address | None, PlainValidator(_by(_address_or_off))]
Addresses = Annotated[tuple[Address, ...], PlainValidator(_each_by(config.parse_address)), Field(min_length=1)]
RelativePath = Annotated[Path, PlainValidator(_by(_path))]
AbsolutePath = Annotated[Path, PlainValidator(_by(_absolute))]
ProxyOrNone = Annotated[Proxy | None, PlainValidator(_by(_proxy_or_none))]
Seconds = Annotated[float, Field(ge=0.1, le=3600, allow_inf_nan=False)]


class Section(BaseModel):
    """One table: nothing but its keys, each of its very type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ServerTable(Section):
    """Who this server is."""

    id: Identifier = Field(description="this server's id for good: up to 63 of a-z, 0-9 and -, no - at either end")
    name: Name = Field(description="its name for people: 1 to 100 characters, one line")
    kind: Kind = Field(description="enterprise-central, enterprise-server or server-device")


class DownlinkTable(Section):
    """The wanted link to shadows. `broker` is `embedded` or `mqtts://host:port`; the last three are for the latter."""

    broker: Broker = Field(
        config.EMBEDDED, description='"embedded", or mqtts://host:8883 of a broker that stands already'
    )
    listen: Listen = Field(
        Address("::", config.MQTTS_PORT),
        description="host:port where the embedded broker listens; [::] is every address",
    )
    advertise: Hosts = Field(
        (), description="list of the names and IP addresses that devices reach this server by; []: its host name"
    )
    paused: bool = Field(default=False, description="true or false; true holds propagation back and keeps the pairs")
    heartbeat_s: Seconds = Field(60.0, description="seconds from one heartbeat to the next, 0.1 to 3600")
    max_connections: Annotated[int, Field(ge=10, le=100_000)] = Field(
        4000, description="connections that the embedded broker takes at once, 10 to 100000"
    )
    username: Name | None = Field(None, description="this server's account at an external broker", examples=["es-1"])
    password_file: AbsolutePath | None = Field(
        None,
        description="absolute path of the file with that account's password; chmod 600",
        examples=["/etc/propagator/broker.password"],
    )
    ca_file: AbsolutePath | None = Field(
        None,
        description="absolute path of the CA (PEM) of an external broker; without it, those of this machine",
        examples=["/etc/propagator/broker-ca.pem"],
    )

    @property
    def external(self) -> Address | None:
        """Where the external broker is, None with the embedded one."""
        return None if self.broker == config.EMBEDDED else config.parse_address(self.broker.removeprefix("mqtts://"))


class UplinkTable(Section):
    """The wanted link to a lead. Which lead it is stands in `STATE/uplink.toml`."""

    probe_interval_s: Seconds = Field(60.0, description="seconds between probes of a lead that is away, 0.1 to 3600")
    probe_listen: ListenOrOff = Field(None, description='host:port for the reverse probe; "": off')


class LogTable(Section):
    """What is logged, and how."""

    level: Level = Field("info", description="debug, info, warning or error")
    format: Format = Field("auto", description="auto (console on a terminal, else json), console or json")


class PortalTable(Section):
    """How the Registration Portal is asked. Which portal that is, `register --online` wrote to the store."""

    interval_s: Annotated[float, Field(ge=10, le=86_400, allow_inf_nan=False)] = Field(
        900.0, description="seconds from one question to the portal to the next, 10 to 86400"
    )
    ca_file: AbsolutePath | None = Field(
        None,
        description="absolute path of the CA (PEM) of the portal; without it, those of this machine",
        examples=["/etc/propagator/portal-ca.pem"],
    )
    proxy: ProxyOrNone = Field(
        None, description='http://host:port of the web proxy to the portal; "": $HTTPS_PROXY, if that is set'
    )


class ListenTable(Section):
    """One page that may be served: the metrics for Prometheus, or the status page."""

    listen: ListenOrOff = Field(None, description='host:port where this is served; "": off')


class Settings(Section):
    """The whole configuration. A link's table that is present is a link that is wanted; `role` follows from them."""

    state_dir: AbsolutePath = Field(
        config.DEFAULT_STATE_DIR, description="absolute path of the state directory: keys, record, history"
    )
    server: ServerTable = Field(description="[server] with id, name and kind")
    downlink: DownlinkTable | None = Field(None, description="the table [downlink]")
    uplink: UplinkTable | None = Field(None, description="the table [uplink]")
    portal: PortalTable = Field(PortalTable(), description="the table [portal]")
    log: LogTable = Field(LogTable(), description="the table [log]")
    metrics: ListenTable = Field(ListenTable(), description="the table [metrics]")
    web: ListenTable = Field(ListenTable(), description="the table [web]")

    @property
    def role(self) -> Role:
        """What the wanted links make of this server (DESIGN §1)."""
        return config.role_of(uplink=self.uplink is not None, downlink=self.downlink is not None)


class Uplink(Section):
    """The lead that this server follows, as `attach` wrote it to `STATE/uplink.toml`; holds paths, no secret."""

    lead: Identifier = Field(description="id of the lead")
    addresses: Addresses = Field(description="list of the lead's addresses, host:port")
    ca_file: RelativePath | None = Field(
        None, description="path of the lead's CA (PEM); without it, those of this machine", examples=["lead-ca.pem"]
    )
    lead_key: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{43}$")] = Field(
        description="thumbprint of the lead's identity key, 43 characters"
    )
    credential_file: RelativePath = Field(description="path of this device's account file")


TABLES: Final[dict[str, type[Section]]] = {
    "server": ServerTable,
    "downlink": DownlinkTable,
    "uplink": UplinkTable,
    "portal": PortalTable,
    "log": LogTable,
    "metrics": ListenTable,
    "web": ListenTable,
}
