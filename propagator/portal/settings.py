"""The portal's settings: one strict file, and what the command line says, which beats it.

Unknown keys are refused; all problems are told at once, each with its path. config/portal.toml shows every key.
"""

from __future__ import annotations

import ipaddress
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, cast
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from propagator.core.errors import InputError, Problem
from propagator.core.record import ID_PATTERN
from propagator.core.registration import Mail, Text

if TYPE_CHECKING:
    from collections.abc import Mapping

DATABASE_FILE: Final = "portal.db"
KEY_FILE: Final = "portal.key"


def _wrong(text: str) -> PydanticCustomError:
    return PydanticCustomError("portal", "{text}", {"text": text})  # type: ignore[arg-type, unused-ignore]


def _path(value: object) -> object:
    if not isinstance(value, str | Path) or not str(value):
        raise _wrong("must be the absolute path of a file or folder")
    path = Path(value)
    if not path.is_absolute():
        raise _wrong(f"must be an absolute path, like /var/lib/propagator-portal; this is {str(value)[:80]!r}")
    return path


def split_address(text: str) -> tuple[str, int]:
    """Split `host:port` or `[v6]:port`. Raises ValueError."""
    found = _ADDRESS.fullmatch(text)
    if found is None or not 0 <= int(found["port"]) <= 65535:  # noqa: PLR2004
        raise ValueError("must be host:port, like 127.0.0.1:8080 or [::]:8080")
    host = found["six"] or found["host"]
    if found["six"]:
        ipaddress.IPv6Address(host)
    return host, int(found["port"])


_ADDRESS: Final = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9.-]{1,253})):(?P<port>[0-9]{1,5})", re.ASCII
)


def _address(text: str) -> str:
    try:
        split_address(text)
    except ValueError as error:
        raise _wrong("must be host:port, like 127.0.0.1:8080 or [::]:8080") from error
    return text


def _public_url(text: str) -> str:
    try:
        parts: SplitResult = urlsplit(text)
        port_reads = parts.port is None or parts.port >= 0
    except ValueError:
        port_reads = False
        parts = SplitResult("", "", "", "", "")
    if not port_reads or parts.scheme not in {"http", "https"} or not _HOST.fullmatch(parts.netloc):
        raise _wrong("must be http(s)://host[:port], like https://registration.example")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise _wrong("must end after the host: the portal needs a name of its own, not a folder of another site")
    return f"{parts.scheme}://{parts.netloc.lower()}"


_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]{1,253})(:[0-9]{1,5})?", re.ASCII)


def _database(text: str) -> str:
    """Take a URL as people write it, and name the driver that this program brings."""
    scheme, mark, rest = text.partition("://")
    driver = _DRIVERS.get(scheme)
    if not mark or driver is None:
        raise _wrong("must be postgresql://user@host/database, or sqlite:////absolute/path/portal.db")
    return f"{driver}://{rest}"


_DRIVERS: Final = {
    "postgresql": "postgresql+asyncpg",
    "postgres": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
}


def _proxy(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as error:
        raise _wrong("must be an IP address of the reverse proxy, like 127.0.0.1") from error


FilePath = Annotated[Path, BeforeValidator(_path)]
HostPort = Annotated[str, AfterValidator(_address)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class TlsFiles(_Part):
    """A certificate with its chain, and its private key, both PEM. The key is private (0600)."""

    certificate: FilePath
    key: FilePath


class MailServer(_Part):
    """Where mails are handed in. `security`: `starttls` as soon as the server offers it, `tls` from the first byte."""

    server: HostPort
    sender: Mail
    security: Literal["starttls", "tls", "none"] = "starttls"
    username: str | None = None
    password_file: FilePath | None = None

    @model_validator(mode="after")
    def _account_is_whole(self) -> MailServer:
        if (self.username is None) != (self.password_file is None):
            raise _wrong("needs username and password_file, or neither")
        return self


class Log(_Part):
    """How much is logged, and how: `auto` is console on a terminal and JSON otherwise."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = "auto"


class Settings(_Part):
    """Everything that is set. `public_url` is what people and servers enter; mails and device grants name it."""

    data_dir: FilePath = Path("/var/lib/propagator-portal")
    id: Annotated[str, Field(pattern=ID_PATTERN)] = "portal"
    name: Text = "Registration Portal"
    listen: HostPort = "127.0.0.1:8080"
    public_url: Annotated[str, AfterValidator(_public_url)] | None = None
    database: Annotated[str, AfterValidator(_database)] | None = Field(default=None, repr=False)  # holds a password
    trusted_proxies: tuple[Annotated[str, AfterValidator(_proxy)], ...] = ()
    tls: TlsFiles | None = None
    mail: MailServer | None = None
    log: Log = Log()

    @property
    def url(self) -> str:
        """Where people and servers reach the portal, without a slash at the end."""
        return self.public_url or f"{'https' if self.tls else 'http'}://{self.listen}"

    @property
    def is_https(self) -> bool:
        """Whether a browser comes by https: then cookies are for https alone."""
        return self.url.startswith("https://")

    @property
    def database_url(self) -> str:
        """The database, with its driver."""
        return self.database or f"sqlite+aiosqlite:///{self.data_dir / DATABASE_FILE}"


def load(path: Path | None, beats: Mapping[str, object]) -> Settings:
    """Read the settings; `beats` are those of the command line, by dotted path. Raises InputError with all problems."""
    table = {} if path is None else _table(path)
    for name, value in beats.items():
        _put(table, name, value)
    try:
        return Settings.model_validate(_tuples(table))
    except ValidationError as error:
        problems = tuple(
            Problem(".".join(map(str, detail["loc"])), _TEXTS.get(detail["type"], detail["msg"]))
            for detail in error.errors(include_url=False, include_input=False)
        )
        raise InputError(
            f"The portal's settings{f' in {path}' if path else ''} have problems.",
            problems,
            hint="correct what is named above; config/portal.toml shows every key",
        ) from error


_TEXTS: Final = {
    "extra_forbidden": "is no setting of the portal; remove it, or correct its name",
    "missing": "is missing",
    "string_pattern_mismatch": "must be up to 63 of a-z, 0-9 and -, with no - at either end",
}


def _table(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", hint="name the file with --config") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not TOML: {error}.", hint="correct it there; config/portal.toml is one") from error


def _put(table: dict[str, object], name: str, value: object) -> None:
    part, _, rest = name.partition(".")
    if not rest:
        table[part] = value
        return
    inside = table.setdefault(part, {})
    if isinstance(inside, dict):
        _put(cast("dict[str, object]", inside), rest, value)


def _tuples(table: dict[str, object]) -> dict[str, object]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in table.items()}
