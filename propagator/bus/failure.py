"""Says why there is no connection: whatever the libraries raise becomes a BusError, one sentence and one hint."""

from __future__ import annotations

import socket
import ssl
from typing import Final

import aiomqtt

from propagator.bus.contract import BusKind
from propagator.core.errors import BusError

# CONNACK: bad user name or password, not authorised, banned, bad authentication method (MQTT 5 §3.2.2.2); paho
# translates those of 3.1.1.
_NOT_AUTHORISED: Final = frozenset({134, 135, 138, 140})
# X509_V_ERR_*; any other is a chain that does not end at a CA we know.
_CERTIFICATE: Final = {
    9: ("is not valid yet", "Set this machine's clock."),
    10: ("has expired", "Check this machine's clock, then renew the certificate on the broker."),
    62: ("is for another name", "Use a name that is in the certificate."),
    64: ("is for another name", "Use an address that is in the certificate."),
}
_UNKNOWN_CA: Final = ("is signed by a CA that we do not know", "Check the CA; a lead set up anew must invite again.")
_NOT_TLS: Final = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST"})
_OLD_TLS: Final = frozenset({"UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION", "WRONG_SSL_VERSION"})
_ANSWERS: Final = "Check that the broker runs, and that no firewall on the way drops the connection."


class UnreadableCaError(ssl.SSLError):
    """What was given as the CA is no certificate."""


def explained(exc: OSError | aiomqtt.MqttError, address: str) -> BusError:
    """Return the BusError for what was raised while connecting to `address`."""
    kind, text, hint = _explain(exc)
    return BusError(f"{address} {text}.", kind=kind, address=address, hint=hint)


def unanswered(timeout_s: float, address: str, missing: str = "") -> BusError:
    """Return the BusError for an attempt that ran out of time. `missing`: what whoever took it did not do."""
    if not missing:
        text = f"{address} does not answer within {timeout_s:g} s."
        return BusError(text, kind=BusKind.TIMEOUT, address=address, hint=_ANSWERS)
    text = f"{address} accepts the connection but does not {missing} within {timeout_s:g} s."
    return BusError(text, kind=BusKind.MUTE, address=address, hint=_ANSWERS)


def telling(exc: OSError | BusError) -> int:
    """Rank failures: the one that got furthest tells most."""
    kind = exc.kind if isinstance(exc, BusError) else _explain(exc)[0]
    return list(BusKind).index(BusKind(kind))


def plain(exc: BaseException) -> str:
    """Return what a library says, without aiomqtt's numbers: `[code:135] Not authorized` is `Not authorized`."""
    return str(exc).partition("] ")[2] or str(exc)


def _explain(exc: OSError | aiomqtt.MqttError) -> tuple[BusKind, str, str]:
    match exc:
        case ssl.SSLEOFError() | ssl.SSLZeroReturnError():
            return _HUNG_UP
        case ssl.SSLError():
            return BusKind.TLS, *_explain_tls(exc)
        case socket.gaierror():
            hint = "Check the name and this machine's DNS (`getent hosts NAME`), or use an IP address."
            return BusKind.DNS, f"is not found by its name ({exc.strerror})", hint
        case TimeoutError():
            return BusKind.TIMEOUT, "does not answer", _ANSWERS
        case ConnectionRefusedError() | FileNotFoundError():
            hint = "Check the port, and that the broker runs there."
            return BusKind.REFUSED, "refuses the connection: nobody listens there", hint
        case ConnectionError():
            return _HUNG_UP
        case OSError():
            hint = "Check this machine's network, its route to the broker, and its own firewall."
            return BusKind.UNREACHABLE, f"cannot be reached ({exc.strerror or exc})", hint
        case aiomqtt.MqttCodeError() if _value(exc) in _NOT_AUTHORISED:
            hint = "Check the account and its password; a device that was revoked needs a new invitation."
            return BusKind.NOT_AUTHORISED, f"does not accept our account ({plain(exc)})", hint
    return BusKind.PROTOCOL, f"refuses the MQTT connection ({plain(exc)})", "Look at the log of the broker."


_HUNG_UP: Final = (
    BusKind.CLOSED,
    "hangs up before the connection stands",
    "Check whether this port wants TLS, and whether the broker has reached its limit of connections.",
)


def _explain_tls(exc: ssl.SSLError) -> tuple[str, str]:
    if isinstance(exc, ssl.SSLCertVerificationError):
        what, hint = _CERTIFICATE.get(exc.verify_code, _UNKNOWN_CA)
        return f"shows a TLS certificate that {what}", hint
    if isinstance(exc, UnreadableCaError):
        return "cannot be verified: the CA given for it is no certificate", "Give the certificate of its CA, as PEM."
    if exc.reason in _NOT_TLS:
        return "does not speak TLS on this port", "Use the TLS port of the broker (8883)."
    if exc.reason in _OLD_TLS:
        return "offers no TLS 1.2 or later", "Update the broker."
    return f"fails in the TLS handshake ({exc.reason or exc})", "Check the certificate and the key of the broker."


def _value(exc: aiomqtt.MqttCodeError) -> int | None:
    return exc.rc if isinstance(exc.rc, int | None) else exc.rc.value
