"""Says why a portal cannot be asked: whatever the library raises becomes a PortalError, one sentence and one hint."""

from __future__ import annotations

import ssl
from enum import StrEnum
from typing import Final

from propagator.core.errors import PropagatorError


class Trouble(StrEnum):
    """What kind of trouble it is, for logs; the diagnosis says the cause."""

    NAME = "name"
    CONNECTION = "connection"
    TIMEOUT = "timeout"
    TLS = "tls"
    PROXY = "proxy"
    PAGE = "page"  # a page for people in place of the portal's answer
    ANSWER = "answer"  # an answer that a portal would not give
    REFUSED = "refused"  # the portal says no


class PortalError(PropagatorError):
    """The portal could not be asked, or gave no answer that can be used. `word` is the error that the portal named."""

    def __init__(self, message: str, *, kind: Trouble, hint: str = "", word: str = "") -> None:
        super().__init__(message, hint=hint)
        self.kind = kind
        self.word = word


CONNECTIONS: Final = frozenset({Trouble.NAME, Trouble.CONNECTION, Trouble.TIMEOUT, Trouble.TLS, Trouble.PROXY})
"""Kinds that say that the portal was not reached at all."""


def look(portal: str) -> str:
    """What to try where the way to a portal is in doubt."""
    return f"propagator diagnose --portal {portal}"


# X509_V_ERR_*; any other is a chain that does not end at a CA we know.
_CERTIFICATE: Final = {
    9: "is not valid yet; is this machine's clock right",
    10: "has expired; is this machine's clock right",
    62: "is for another name",
    64: "is for another address",
}


def of_name(host: str, lookup: str, portal: str) -> PortalError:
    """The name of the portal, or of the proxy, gave no address."""
    return PortalError(f"{host} is not found by its name: {lookup}.", kind=Trouble.NAME, hint=look(portal))


def of_time(portal: str, seconds: float) -> PortalError:
    """The whole of it took too long."""
    return PortalError(f"{portal} gave no answer within {seconds:g} s.", kind=Trouble.TIMEOUT, hint=look(portal))


def of_proxy(proxy: str, told: str, portal: str) -> PortalError:
    """The proxy does not connect us."""
    text = f"The proxy {proxy} does not connect this server: {told}."
    return PortalError(text, kind=Trouble.PROXY, hint=look(portal))


def of_answer(portal: str, what: str) -> PortalError:
    """What came is not what a portal says."""
    return PortalError(f"{portal} {what}.", kind=Trouble.ANSWER, hint=look(portal))


def of(exc: BaseException, portal: str) -> PortalError:
    """Put into words what was raised while a portal was asked."""
    kind, what = _explained(exc)
    return PortalError(f"{portal} {what}.", kind=kind, hint=look(portal))


def _explained(exc: BaseException) -> tuple[Trouble, str]:
    for cause in _chain(exc):
        if isinstance(cause, ssl.SSLCertVerificationError):
            what = _CERTIFICATE.get(cause.verify_code, "is of a CA that this machine does not know")
            return Trouble.TLS, f"shows a TLS certificate that {what}"
        if isinstance(cause, ssl.SSLError):
            return Trouble.TLS, f"fails in the TLS handshake ({cause.reason or 'the connection ended'})"
        if isinstance(cause, ConnectionRefusedError):
            return Trouble.CONNECTION, "refuses the connection"
        if isinstance(cause, OSError) and cause.errno is not None:
            return Trouble.CONNECTION, f"cannot be reached ({cause.strerror})"
    return Trouble.CONNECTION, "hangs up before it answers"


def _chain(exc: BaseException | None) -> list[BaseException]:
    """List an exception and what it was raised from, a group's members among them."""
    found: list[BaseException] = []
    while exc is not None and exc not in found:
        found.append(exc)
        if isinstance(exc, BaseExceptionGroup):
            found += exc.exceptions
        exc = exc.__cause__ or exc.__context__
    return found
