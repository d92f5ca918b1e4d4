"""How a Registration Portal is reached: its address, the proxy in between, and the CA of its certificate."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from propagator import config, files
from propagator.core.errors import InputError, StateError

if TYPE_CHECKING:
    from pathlib import Path

    from propagator.config import Portal, Proxy
    from propagator.settings import PortalTable

CA_FILE: Final = "portal-ca.pem"
"""In the state directory: the CA that `--portal-ca` named, for the agent, which asks later."""


@dataclass(frozen=True, slots=True)
class Way:
    """The way to a portal. `ca` is PEM; None: the CAs of this machine. `ca_source` says where it was found."""

    portal: Portal
    proxy: Proxy | None = None
    ca: str | None = None
    ca_source: str = "this machine's CAs"

    def context(self) -> ssl.SSLContext:
        """Make what TLS is checked with: chain and name, TLS 1.2 or later. Raises InputError where the CA is none.

        For a portal without TLS it is one that trusts nobody.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if not self.portal.secure:
            return context
        if self.ca is None:
            context.load_default_certs()
            return context
        try:
            context.load_verify_locations(cadata=self.ca)
        except (ssl.SSLError, ValueError, TypeError) as exc:
            raise InputError(f"{self.ca_source} holds no certificate.", hint="give the portal's CA, as PEM") from exc
        return context


def way_to(portal: Portal, table: PortalTable, state_dir: Path, ca_file: Path | None = None) -> Way:
    """Find the way to a portal: `ca_file` (`--portal-ca`), else the configuration's, else the one kept in the state.

    Raises InputError where the environment names a proxy that is none, or a CA that was named cannot be used.
    """
    if not portal.secure:  # it is on this very machine
        return Way(portal)
    proxy = table.proxy or config.proxy_of_environment(portal.host)
    kept = state_dir / CA_FILE
    source = ca_file or table.ca_file or (kept if files.is_there(kept) else None)
    if source is None:
        return Way(portal, proxy)
    way = Way(portal, proxy, _read(source), str(source))
    way.context()
    return way


def keep_ca(state_dir: Path, way: Way, ca_file: Path | None) -> None:
    """Keep the CA that a person named for this portal, for the agent; without one, forget that of an earlier portal."""
    kept = state_dir / CA_FILE
    if ca_file is not None and way.ca is not None:
        files.write_shared(kept, way.ca.encode())
    elif way.ca_source != str(kept):
        kept.unlink(missing_ok=True)


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("ascii")
    except UnicodeDecodeError as exc:
        raise InputError(f"{path} is no PEM file.", hint="give the portal's CA, as PEM") from exc
    except FileNotFoundError as exc:
        raise InputError(f"There is no file {path}.", hint="name the file of the portal's CA, as PEM") from exc
    except OSError as exc:
        raise StateError(f"{path} cannot be read: {exc.strerror}.", hint=f"ls -l {path}") from exc
