"""Looking a lead's name up, with a time limit, and leaving out what no connection may go to.

getaddrinfo cannot be cancelled: it runs in a thread that nobody waits for. Of what a name gives, addresses that name
nobody, this host or a service of the machine's provider are never tried, unless somebody wrote them as addresses: a
name that is bent must not make this server knock where its bender likes (FIREWALL.md §5, 7).
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from typing import Final

from propagator.core.diagnosis.seen import Lookup, Name

LOOKUP_S: Final = 5.0
MOST: Final = 6
"""So many addresses of a name are tried, no more."""

_NO_NAME: Final = frozenset({socket.EAI_NONAME, socket.EAI_NODATA})
_NOBODYS: Final = frozenset({"169.254.169.254", "fd00:ec2::254", "255.255.255.255"})  # the provider's, and everybody's


async def look_up(host: str, limit_s: float = LOOKUP_S, *, here: bool = False) -> Name:
    """Look a name up; a literal address is its own answer. `here`: it may be the name of this very machine."""
    if (literal := _literal(host)) is not None:
        return Name(host, Lookup.FOUND, (literal,))
    loop = asyncio.get_running_loop()
    begun = loop.time()
    try:
        async with asyncio.timeout(limit_s):
            found = await _addresses(host)
    except TimeoutError:
        return Name(host, Lookup.UNAVAILABLE, took_s=loop.time() - begun)
    except socket.gaierror as error:
        lookup = Lookup.NO_SUCH_NAME if error.errno in _NO_NAME else Lookup.UNAVAILABLE
        return Name(host, lookup, took_s=loop.time() - begun)
    usable = [address for address in found if _is_usable(address, host, here=here)]
    unusable = [address for address in found if address not in usable]
    left_out = (*unusable, *(f"{address} (more than {MOST})" for address in usable[MOST:]))
    lookup = Lookup.FOUND if usable else Lookup.UNUSABLE
    return Name(host, lookup, tuple(usable[:MOST]), tuple(left_out), loop.time() - begun)


def _literal(host: str) -> str | None:
    """Write an address in the one way that the kernel writes it too; None for a name."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None


def _is_usable(address: str, host: str, *, here: bool) -> bool:
    written = ipaddress.ip_address(address)
    mapped = written.ipv4_mapped if isinstance(written, ipaddress.IPv6Address) else None
    known = mapped or written  # connecting to ::ffff:127.0.0.1 is connecting to 127.0.0.1
    if known.is_loopback:
        return here or host == "localhost"
    return not (known.is_unspecified or known.is_multicast or str(known) in _NOBODYS)


async def _addresses(host: str) -> list[str]:
    """Ask the C library in a thread of its own. Raises gaierror."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[str]] = loop.create_future()

    def tell(found: list[str] | socket.gaierror) -> None:
        if answer.done():
            return
        if isinstance(found, socket.gaierror):
            answer.set_exception(found)
        else:
            answer.set_result(found)

    def ask() -> None:
        found = _ask(host)
        if not loop.is_closed():
            loop.call_soon_threadsafe(tell, found)

    threading.Thread(target=ask, name="look-up", daemon=True).start()
    return await answer


def _ask(host: str) -> list[str] | socket.gaierror:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        return error
    except UnicodeError:
        return socket.gaierror(socket.EAI_NONAME, "no name of a host")
    return list(dict.fromkeys(str(where[0]) for *_, where in found))
