"""Where the configuration lies, read as plain TOML; the only file that reads the environment.

Takes `--config FILE`, `$PROPAGATOR_CONFIG` or the default place, and hands a `Found` on: to `settings.load`, which is
strict, for the agent; to `state_dir`, `server` and `role`, which are lenient and need the standard library alone, for
the commands that only look (`status`, `record`, `history`). The `parse_…` functions say what an address, an id, a name
or a broker may look like, in the file and on the command line.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import tomllib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from propagator.core.errors import InputError

Role: TypeAlias = Literal["standalone", "lead", "shadow", "relay"]
Table: TypeAlias = Mapping[str, object]

DEFAULT_PATH = Path("/etc/propagator/propagator.toml")
DEFAULT_STATE_DIR = Path("/var/lib/propagator")
VARIABLE = "PROPAGATOR_CONFIG"


@dataclass(frozen=True, slots=True)
class Found:
    """The configuration as it was found: `table` is empty when the file does not exist."""

    path: Path
    table: Table
    exists: bool


class Server(NamedTuple):
    """Who this server is, as far as a lenient reading tells: a missing text is empty."""

    id: str
    name: str
    kind: str


def find(explicit: Path | None = None, *, default: Path = DEFAULT_PATH) -> Found:
    """Read the configuration file: `explicit` (`--config`), else `$PROPAGATOR_CONFIG`, else the default place.

    Raises InputError where a file that was named does not exist, or the file cannot be read, or is not TOML. A default
    file that does not exist is no error: the commands that can do without answer, the others say what is missing.
    """
    if explicit is not None:
        return _read(explicit, missing="Name a file that exists, or write one with `propagator init`.")
    if os.environ.get(VARIABLE):
        return _read(path(), missing=f"${VARIABLE} names this file: correct it or unset it.")
    return _read(default, missing=None)


def path(explicit: Path | None = None, *, default: Path = DEFAULT_PATH) -> Path:
    """Return where the configuration is looked for, whether it is there or not."""
    return explicit or Path(os.environ.get(VARIABLE) or default)


class Service(NamedTuple):
    """What a service manager wants to be told: where (sd_notify(3)), and how often that we live, None: never."""

    socket: str
    watchdog_s: float | None


def service() -> Service | None:
    """Return what the service manager that started this process wants to be told; None: nothing, or there is none."""
    socket = os.environ.get("NOTIFY_SOCKET", "")
    if not socket.startswith(("/", "@")):
        return None
    period = os.environ.get("WATCHDOG_USEC", "")
    ours = os.environ.get("WATCHDOG_PID") in {None, "", str(os.getpid())}
    wanted = ours and period.isascii() and period.isdigit() and len(period) <= _PERIOD_DIGITS and int(period) > 0
    return Service(socket, int(period) / 1e6 if wanted else None)


_PERIOD_DIGITS = 18


def state_dir(found: Found) -> Path:
    """Return the state directory, leniently: the default where the key is missing or is no text."""
    value = found.table.get("state_dir")
    return Path(value) if isinstance(value, str) and value else DEFAULT_STATE_DIR


def server(found: Found) -> Server:
    """Return id, name and kind of this server, leniently; a server without a name is called by its id."""
    table = found.table.get("server")
    texts = {key: value for key, value in table.items() if isinstance(value, str)} if isinstance(table, Mapping) else {}
    identity = texts.get("id", "")
    return Server(identity, texts.get("name") or identity, texts.get("kind", ""))


def role(table: Table) -> Role:
    """Return the role that a configuration asks for: a table that is present is a link that is wanted (DESIGN §1)."""
    return role_of(uplink="uplink" in table, downlink="downlink" in table)


def role_of(*, uplink: bool, downlink: bool) -> Role:
    """Return the role that follows from the links that are wanted."""
    if downlink:
        return "relay" if uplink else "lead"
    return "shadow" if uplink else "standalone"


def parse_toml(content: bytes, path: Path) -> dict[str, object]:
    """Return the table in `content`, which was read from `path`; raise InputError that names the file and the line."""
    try:
        text = content.decode("utf-8-sig")  # editors on Windows put a byte order mark in front
    except UnicodeDecodeError as exc:
        line = content[: exc.start].count(b"\n") + 1
        raise InputError(f"{path}, line {line}: this is not UTF-8 text.", hint="Save the file as UTF-8.") from exc
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as exc:  # TOMLDecodeError is a ValueError; so is a number of 5,000 digits
        raise _not_toml(str(exc), text, path) from exc


def _read(path: Path, *, missing: str | None) -> Found:
    """Read one file; `missing` is the hint when it must exist, None when it need not."""
    try:
        content = path.read_bytes()
    except FileNotFoundError as exc:
        if missing is None:
            return Found(path, {}, exists=False)
        raise InputError(f"{path} does not exist.", hint=missing) from exc
    except PermissionError as exc:
        raise InputError(f"{path} may not be read by this user.", hint=f"sudo chmod 644 {path}") from exc
    except OSError as exc:
        raise InputError(f"{path} cannot be read: {exc.strerror}.", hint="Name a readable file with --config.") from exc
    return Found(path, parse_toml(content, path), exists=True)


# tomllib of Python 3.11 tells the place in its message only: "Invalid value (at line 3, column 8)".
_PLACE = re.compile(r"^(?P<what>.*) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)$", re.DOTALL)


def _not_toml(message: str, text: str, path: Path) -> InputError:
    """Say where the file stops being TOML and what would do; never quotes the line, which may hold a password."""
    place = _PLACE.match(message)
    what = place["what"] if place else message
    line = int(place["line"]) if place and place["line"] else len(text.splitlines())
    return InputError(f"{path}, line {line}: this is not TOML ({what[:1].lower()}{what[1:]}).", hint=_toml_hint(what))


def _toml_hint(what: str) -> str:
    if "twice" in what or "overwrite" in what.lower() or "mutate" in what:
        return "This key or table stands twice in the file: keep one of them."
    if "escape" in what:
        return "Write a backslash inside double quotes twice, or put the text in single quotes."
    return (
        'Write `key = value`, one a line: text in "double quotes", numbers, true and false without; tables: [server].'
    )


class Address(NamedTuple):
    """A host (name or IP address, without brackets) and a TCP port; `str()` writes it back, IPv6 in brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str, default_port: int | None = None) -> Address:
    """Return host and port of `host:port`, `192.0.2.1:port` or `[2001:db8::1]:port`.

    With `default_port` the port, and then the brackets too, may be left out. Raises InputError that says what would do.
    """
    host, port = _split(text.strip())
    if not port and default_port is None:
        raise InputError(f"{quoted(text)} has no port.", hint=_ADDRESS_HINT)
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= _PORT_DIGITS else 0
    if port and not 1 <= number <= _LAST_PORT:
        raise InputError(f"{quoted(text)} has no port from 1 to {_LAST_PORT} after its last colon.", hint=_ADDRESS_HINT)
    try:
        return Address(parse_host(host), number if port else default_port or 0)
    except InputError as exc:
        raise InputError(f"{quoted(text)} has no host name or IP address.", hint=_ADDRESS_HINT) from exc


_ADDRESS_HINT = "Write host:port, as in es-1.example:8883, 192.0.2.10:8883 or [2001:db8::10]:8883."
_LAST_PORT = 65535
_PORT_DIGITS = 5


def _split(text: str) -> tuple[str, str]:
    """Part host and port; a text of several colons without brackets is an IPv6 address without a port."""
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
        whole = closed and ":" in host and (not rest or (rest.startswith(":") and port))
        return (host, port) if whole else ("", port)
    if text.count(":") > 1:
        return text, ""
    host, colon, port = text.partition(":")
    return ("", port) if colon and not port else (host, port)


# DNS labels (a final dot is allowed, underscores are met in the field).
_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*\.?")


def parse_host(text: str) -> str:
    """Return a host name or an IP address (IPv6 without brackets) as it stands; raise InputError if it is neither."""
    try:
        ipaddress.ip_address(text)
    except ValueError as exc:
        numeric = text.replace(".", "").isdigit()  # 192.0.2.300 is a mistyped address, never a name
        if numeric or not _HOST_NAME.fullmatch(text):
            raise InputError(f"{quoted(text)} is no host name or IP address.", hint="Leave out port and URL.") from exc
    return text


EMBEDDED = "embedded"
MQTTS_PORT = 8883


def parse_broker(text: str) -> str:
    """Return `embedded` or `mqtts://host:port`; raise InputError, which never quotes an account in a URL (F20)."""
    if text == EMBEDDED:
        return text
    hint = f'Write "{EMBEDDED}" or mqtts://host:{MQTTS_PORT}.'
    scheme, _, rest = text.partition("://")
    if "@" in text:
        raise InputError("holds an account, which belongs into username and password_file.", hint=hint)
    if scheme == "mqtt":
        raise InputError("mqtt:// is MQTT without TLS, which would send passwords in the clear.", hint=hint)
    if scheme != "mqtts":
        raise InputError(f"{quoted(text)} is no broker.", hint=hint)
    return f"mqtts://{parse_address(rest.removesuffix('/'), MQTTS_PORT)}"


class Portal(NamedTuple):
    """Where a Registration Portal is: `str()` is its URL, without a final slash."""

    secure: bool
    host: str
    port: int

    @property
    def address(self) -> Address:
        """Where it listens."""
        return Address(self.host, self.port)

    @property
    def authority(self) -> str:
        """Host and port as HTTP writes them: the usual port is left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (HTTPS_PORT if self.secure else HTTP_PORT) else str(self.address)

    def __str__(self) -> str:
        return f"{'https' if self.secure else 'http'}://{self.authority}"


HTTPS_PORT = 443
HTTP_PORT = 80


def parse_portal(text: str) -> Portal:
    """Return where a portal is: `https://host[:port]`. Raises InputError that says what would do.

    http:// would send the token of this server in the clear: it is for a portal on this very machine alone.
    """
    scheme, _, rest = text.strip().partition("://")
    where, _, path = rest.partition("/")
    hint = "Write the portal's address, as in https://portal.example or https://portal.example:8443."
    if scheme.lower() not in {"https", "http"}:
        raise InputError(f"{quoted(text)} is no https:// address.", hint=hint)
    if "@" in where or path:
        raise InputError("The portal's address holds more than a host and a port.", hint=hint)
    secure = scheme.lower() == "https"
    address = parse_address(where, HTTPS_PORT if secure else HTTP_PORT)
    if not secure and not is_here(address.host):
        raise InputError(f"{quoted(text)} is without TLS, and not on this machine.", hint="Write https://…")
    return Portal(secure, address.host.lower(), address.port)


def is_here(host: str) -> bool:
    """Say whether a host, as it is written, is this very machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


@dataclass(frozen=True, slots=True)
class Proxy:
    """A web proxy that is asked to connect us. `source` says who named it; `account` is `user:password`, or empty."""

    address: Address
    source: str = "[portal] proxy"
    account: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"http://{self.address}"


def parse_proxy(text: str) -> Proxy:
    """Return the proxy `http://host:port` names; raise InputError, which never quotes an account (F20)."""
    hint = "Write http://host:port, as in http://proxy.example:3128."
    scheme, separator, rest = text.strip().rstrip("/").rpartition("://")
    if "@" in rest:
        raise InputError("holds an account, which belongs into $HTTPS_PROXY of the service.", hint=hint)
    if separator and scheme.lower() != "http":
        raise InputError(f"{quoted(scheme)} is no kind of proxy that can be used here.", hint=hint)
    return Proxy(parse_address(rest))


def proxy_of_environment(host: str) -> Proxy | None:
    """Return the proxy that $HTTPS_PROXY or $ALL_PROXY names for this host; None without, or where $NO_PROXY spares it.

    Nothing on this machine goes by it. Raises InputError where it names something that is no http:// proxy.
    """
    from urllib import request  # noqa: PLC0415  it loads much, and only those who ask a portal need it
    from urllib.parse import unquote  # noqa: PLC0415  as above

    environment = request.getproxies_environment()
    kind = next((kind for kind in ("https", "all") if environment.get(kind)), None)
    if kind is None or is_here(host) or request.proxy_bypass(host):
        return None
    source = f"${kind.upper()}_PROXY"
    scheme, separator, rest = environment[kind].rpartition("://")
    account, _, where = rest.rpartition("@")
    try:
        proxy = parse_proxy(f"{scheme}{separator}{where}")
    except InputError as exc:
        raise InputError(f"{source} names no proxy that can be used: {exc}", hint=exc.hint) from exc
    return Proxy(proxy.address, source, unquote(account))


def parse_id(text: str) -> str:
    """Return an id as it stands; raise InputError if it is none (DESIGN §4)."""
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", text):
        raise InputError(f"{quoted(text)} is no id.", hint="Use up to 63 of a-z, 0-9 and -, with no - at either end.")
    return text


_NAME_LIMIT = 100
_UNFIT = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})  # these could rewrite a terminal


def parse_name(text: str) -> str:
    """Return a name for people, trimmed and composed (NFC), of 1 to 100 characters; raise InputError for others."""
    tidy = unicodedata.normalize("NFC", text.strip())
    hint = f"Write 1 to {_NAME_LIMIT} characters on one line."
    if any(unicodedata.category(sign) in _UNFIT and sign not in "\u200c\u200d" for sign in tidy):  # joiners of scripts
        raise InputError("holds a control character.", hint=hint)
    if not 1 <= len(tidy) <= _NAME_LIMIT:
        raise InputError("is empty." if not tidy else f"has {len(tidy)} characters.", hint=hint)
    return tidy


def quoted(text: str) -> str:
    """Return a text for a message: in double quotes, control characters escaped, long ones cut."""
    return json.dumps(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…", ensure_ascii=False)


_SHOWN = 60
