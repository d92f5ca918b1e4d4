"""Where a lead's broker is: the addresses that go into tokens, the embedded listener, or the external endpoint."""

from __future__ import annotations

import secrets
import socket
from typing import TYPE_CHECKING

from propagator import files, keys
from propagator.broker import Listener
from propagator.bus import Endpoint
from propagator.core.errors import InputError
from propagator.following import tls

if TYPE_CHECKING:
    from pathlib import Path

    from propagator.settings import DownlinkTable

_EVERYWHERE = {"::", "0.0.0.0", ""}  # noqa: S104  compared with, not listened on


def advertised(wanted: DownlinkTable) -> tuple[str, ...]:
    """Give the names and addresses by which devices reach this lead: those configured, else where it listens."""
    if wanted.advertise:
        return wanted.advertise
    return (socket.gethostname(),) if wanted.listen.host in _EVERYWHERE else (wanted.listen.host,)


def addresses(wanted: DownlinkTable) -> tuple[str, ...]:
    """Give the broker's addresses, `host:port`, for a token."""
    if wanted.external is not None:
        return (str(wanted.external),)
    return tuple(str(wanted.listen._replace(host=host)) for host in advertised(wanted))


def listener(wanted: DownlinkTable, state_dir: Path) -> Listener:
    """Give where and with which certificate the embedded broker listens."""
    folder = state_dir / files.KEYS_DIR
    return Listener(
        wanted.listen.host,
        wanted.listen.port,
        cert_file=folder / keys.SERVER_CERTIFICATE,
        key_file=folder / keys.SERVER_KEY,
        ca_file=folder / keys.CA_CERTIFICATE,
    )


def external_endpoint(wanted: DownlinkTable, lead: str) -> Endpoint:
    """Give the lead's own account at an external broker. Raises InputError or StateError for its files.

    The client id is new at each start: two copies of a machine must both stay connected to find each other (F03).
    """
    password = "" if wanted.password_file is None else files.read_private(wanted.password_file).decode().strip()
    return Endpoint(
        addresses(wanted),
        username=wanted.username or lead,
        password=password,
        identifier=f"{lead}-{secrets.token_hex(4)}",
        tls=tls(ca_pem(wanted)),
    )


def ca_pem(wanted: DownlinkTable) -> str | None:
    """Give the CA of an external broker; None: one that this machine trusts anyway."""
    if wanted.ca_file is None:
        return None
    try:
        return wanted.ca_file.read_text()
    except OSError as error:
        raise InputError(
            f"downlink.ca_file: {wanted.ca_file} cannot be read: {error.strerror}.", hint="correct the configuration"
        ) from error
