"""Mosquitto's three files as text: configuration, passwords, topic rules. No I/O.

Everything that reaches a line of them is checked here: a line break in a name would be a rule of its own, and a topic
rule that Mosquitto cannot read takes all that follow with it.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from propagator.core.errors import InputError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

SOCKET: Final = "broker.sock"
CONFIGURATION: Final = "mosquitto.conf"
PASSWORDS: Final = "passwords"
TOPICS: Final = "topics"

# Mosquitto's own default. The passwords are long random secrets: more rounds would only slow down a herd that returns.
_ROUNDS: Final = 101
_SALT_BYTES: Final = 12
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", re.ASCII)
# A device sends the hash of its password (DESIGN §5): up to 9,999 rounds cost the broker 5 ms, and no more is taken.
_HASH: Final = re.compile(r"\$7\$[1-9]\d{0,3}\$[A-Za-z0-9+/]{16}\$[A-Za-z0-9+/]{86}==", re.ASCII)

Right: TypeAlias = tuple[Literal["read", "write", "readwrite"], str]


@dataclass(frozen=True, slots=True)
class Account:
    """Who may connect: `password_hash` as `hash_password` makes it, `rights` on topic filters. Raises InputError."""

    name: str
    password_hash: str
    rights: tuple[Right, ...]

    def __post_init__(self) -> None:
        problems = [Problem("name", "letters, digits and _ . - only")] if not _NAME.fullmatch(self.name) else []
        if not _HASH.fullmatch(self.password_hash):
            problems.append(Problem("password_hash", "is no $7$ line of Mosquitto with at most 9999 rounds"))
        problems += [
            Problem(f"rights.{index}", f"{topic!r} is no topic filter")
            for index, (_, topic) in enumerate(self.rights)
            if not topic or topic != topic.strip() or not topic.isprintable()
        ]
        if problems:
            raise InputError(f"The account {self.name!r} cannot be given to the broker.", tuple(problems))


@dataclass(frozen=True, slots=True)
class Listener:
    """Where servers connect, by TLS. `host` "" or "::" is every address, IPv4 and IPv6. Raises InputError."""

    host: str
    port: int
    cert_file: Path
    key_file: Path
    ca_file: Path

    def __post_init__(self) -> None:
        values = {
            "host": self.host,
            **{name: str(getattr(self, name)) for name in ("cert_file", "key_file", "ca_file")},
        }
        problems = [
            Problem(name, f"{value!r} cannot be written into Mosquitto's configuration")
            for name, value in values.items()
            if not value.isprintable() or value != value.strip() or (name == "host" and " " in value)
        ]
        if not 0 < self.port <= 65535:  # noqa: PLR2004
            problems.append(Problem("port", "must be from 1 to 65535"))
        if problems:
            raise InputError("The broker cannot listen like this.", tuple(problems))

    @property
    def certificates(self) -> tuple[Path, Path, Path]:
        """The files that Mosquitto reads at its start and at SIGHUP."""
        return self.cert_file, self.key_file, self.ca_file

    @property
    def everywhere(self) -> bool:
        """Whether it listens on every address, IPv4 and IPv6."""
        return self.host in {"", "::"}


def hash_password(password: str, salt: bytes) -> str:
    """Return what Mosquitto keeps instead of the password: `$7$`, PBKDF2 with SHA-512. The salt has 12 random bytes."""
    if len(salt) != _SALT_BYTES:
        raise ValueError(len(salt))
    derived = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ROUNDS)
    return f"$7${_ROUNDS}${base64.b64encode(salt).decode()}${base64.b64encode(derived).decode()}"


_ALWAYS: Final = f"""\
per_listener_settings false
allow_anonymous false
password_file {PASSWORDS}
acl_file {TOPICS}

# A cache: what a power cut takes from it, the lead publishes again.
persistence true
persistence_location ./
autosave_interval 30
persistent_client_expiration 7d

# 1,000 by default, and more are dropped in silence.
max_queued_messages 20000
max_queued_bytes 0
max_inflight_messages 100
max_packet_size 262144
max_keepalive 120
sys_interval 0
# Without it a connection by TLS takes 40 ms more (measured): a delayed acknowledgement waited for.
set_tcp_nodelay true

log_dest stderr
log_type error
log_type warning
log_type notice
log_timestamp false
"""


def configuration_text(listener: Listener, user: str, max_connections: int) -> str:
    """Return mosquitto.conf; names in it are relative to the broker's directory, which is where Mosquitto is started.

    Relative, because Mosquitto ends the path of a Unix socket at the first space (tried), and unlinks what it then has.
    """
    address = "" if listener.everywhere else f" {listener.host}"
    return f"""\
{_ALWAYS}
# Ours, always: as another user it could not read the key, and would outlive us (the kernel clears PDEATHSIG).
user {user}

# The lead alone. What follows a listener belongs to it; use_username_as_clientid before one has no effect.
listener 0 {SOCKET}
use_username_as_clientid true

listener {listener.port}{address}
use_username_as_clientid true
max_connections {max_connections}
cafile {listener.ca_file.absolute()}
certfile {listener.cert_file.absolute()}
keyfile {listener.key_file.absolute()}
tls_version tlsv1.2
"""


def passwords_text(accounts: Iterable[Account]) -> str:
    """Return the password file."""
    return "".join(f"{account.name}:{account.password_hash}\n" for account in accounts)


def topics_text(accounts: Iterable[Account]) -> str:
    """Return the topic rules: a block for each account, no `pattern` line, which would give everybody something."""
    return "".join(
        f"user {account.name}\n" + "".join(f"topic {access} {topic}\n" for access, topic in account.rights) + "\n"
        for account in accounts
    )
