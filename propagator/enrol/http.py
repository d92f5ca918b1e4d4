"""Asks a Registration Portal one thing: one request, one answer. The only import of httpx.

Every step has a deadline, an answer has a size, a redirect is an answer and is not followed, and no cookie is kept.
Names are looked up here and not by httpx, whose thread nobody could end. Whoever imports this loads httpx: the agent
does so only where it has a portal to ask.
"""

from __future__ import annotations

import asyncio
import base64
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from propagator import __version__
from propagator.core.diagnosis.seen import Lookup
from propagator.enrol import failure
from propagator.probe import names

_COMMAND: Final = "httpx._main"
sys.modules[_COMMAND] = cast("ModuleType", None)  # httpx's own command line would bring rich and pygments (2 MB)
try:
    import httpx
finally:
    del sys.modules[_COMMAND]

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

    from propagator.config import Address
    from propagator.enrol.failure import PortalError
    from propagator.enrol.way import Way

ASK_S: Final = 15.0
"""For all of it: lookup, connection, TLS, answer."""

STEP_S: Final = 5.0
LARGEST: Final = 131_072
"""A statement may have 64 KiB, and comes as a text inside JSON."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back. Header texts are empty where there is none; `server` and `via` say who spoke on the way."""

    status: int
    body: bytes
    content_type: str = ""
    etag: str = ""
    server: str = ""
    via: str = ""
    location: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: a form is posted, anything else is a GET. `token` goes out over TLS, or stays on this machine."""

    path: str
    form: Mapping[str, str] | None = None
    token: str = ""
    edition: int | None = None

    def headers(self) -> dict[str, str]:
        """Give the headers of the request."""
        told = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": f"propagator/{__version__}"}
        if self.token:
            told["Authorization"] = f"Bearer {self.token}"
        if self.edition is not None:
            told["If-None-Match"] = f'"{self.edition}"'
        return told


async def ask(way: Way, question: Question, *, limit_s: float = ASK_S) -> Reply:
    """Ask the portal. Raises PortalError where there is no answer, InputError where the CA is none."""
    try:
        async with asyncio.timeout(limit_s):
            return await _ask(way, question)
    except TimeoutError as exc:
        raise failure.of_time(str(way.portal), limit_s) from exc


async def _ask(way: Way, question: Question) -> Reply:
    if way.proxy is not None:
        proxy = way.proxy.address
        hosts = await _addresses(proxy, way)
        return await _first(way, question, [_Dial(str(way.portal), proxy=proxy._replace(host=host)) for host in hosts])
    portal = way.portal
    hosts = await _addresses(portal.address, way)
    return await _first(way, question, [_Dial(str(portal._replace(host=host)), name=portal.host) for host in hosts])


@dataclass(frozen=True, slots=True)
class _Dial:
    """One try: the URL to dial, by a proxy's address or by the portal's own, whose `name` TLS and HTTP are told."""

    url: str
    proxy: Address | None = None
    name: str = ""


async def _addresses(address: Address, way: Way) -> tuple[str, ...]:
    """Look a host up, this machine included: a portal may run beside its lead."""
    name = await names.look_up(address.host, here=True)
    if name.lookup is not Lookup.FOUND:
        raise failure.of_name(address.host, name.lookup.value, str(way.portal))
    return name.addresses


async def _first(way: Way, question: Question, dials: list[_Dial]) -> Reply:
    """Ask by the first address that lets us in; whoever was connected to is the one who answers."""
    for number, dial in enumerate(dials, start=1):
        try:
            return await _exchange(way, question, dial)
        except (httpx.ConnectError, httpx.ConnectTimeout) as exc:
            if number == len(dials):
                raise _told(exc, way) from exc
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as exc:
            raise _told(exc, way) from exc
    raise AssertionError("a name that is found has an address")


async def _exchange(way: Way, question: Question, dial: _Dial) -> Reply:
    async with _client(way, dial) as client:
        request = client.build_request(
            "GET" if question.form is None else "POST",
            f"{dial.url}/{question.path}",
            data=question.form,
            headers=question.headers() | ({"Host": way.portal.authority} if dial.name else {}),
            extensions={"sni_hostname": dial.name} if dial.name and way.portal.secure else None,
        )
        response = await client.send(request, stream=True)
        try:
            return await _read(response, way)
        finally:
            await response.aclose()


def _client(way: Way, dial: _Dial) -> httpx.AsyncClient:
    proxy = None
    if dial.proxy is not None and way.proxy is not None:
        account = way.proxy.account.encode()
        told = {"Proxy-Authorization": f"Basic {base64.b64encode(account).decode()}"} if account else {}
        proxy = httpx.Proxy(f"http://{dial.proxy}", headers=told)
    return httpx.AsyncClient(
        verify=way.context(),
        proxy=proxy,
        trust_env=False,
        follow_redirects=False,
        timeout=STEP_S,
        limits=httpx.Limits(max_connections=1, max_keepalive_connections=0),
    )


async def _read(response: httpx.Response, way: Way) -> Reply:
    headers = response.headers
    body = bytearray()
    async for part in response.aiter_raw():
        body += part
        if len(body) > LARGEST:
            raise failure.of_answer(str(way.portal), f"answers with more than {LARGEST} bytes, which no portal does")
    return Reply(
        response.status_code,
        bytes(body),
        content_type=headers.get("content-type", ""),
        etag=headers.get("etag", ""),
        server=headers.get("server", ""),
        via=headers.get("via", ""),
        location=headers.get("location", ""),
    )


def _told(exc: httpx.HTTPError | httpx.InvalidURL | httpx.StreamError, way: Way) -> PortalError:
    portal = str(way.portal)
    if isinstance(exc, httpx.ProxyError) and way.proxy is not None:
        return failure.of_proxy(str(way.proxy.address), str(exc) or "it gives no reason", portal)
    if isinstance(exc, httpx.TimeoutException):
        return failure.of_time(portal, STEP_S)
    if isinstance(exc, httpx.RemoteProtocolError | httpx.InvalidURL | httpx.StreamError):
        return failure.of_answer(portal, "answers, and not in HTTP")
    return failure.of(exc, portal)
