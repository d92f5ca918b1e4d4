"""The only door to aiomqtt: one connection to a broker at a time, a deadline on everything, and no error but BusError.

Takes an `Endpoint` (where, as whom, with which TLS) and hands on a `Session`: subscribe, publish, messages. Whoever
uses it is level-based: when a session ends it connects again, and brings the world to the desired state again.

Law: `contract` says what a bus is and knows no library; `mqtt` keeps the promise; `client` is the one module that
touches aiomqtt's insides; `dial` opens sockets; `failure` says in a sentence what went wrong.
"""

from propagator.bus.contract import (
    UNIX,
    Bus,
    BusKind,
    Endpoint,
    Message,
    Session,
    Tls,
    Trace,
    Will,
    full_jitter,
    split_address,
)
from propagator.bus.dial import handshake
from propagator.bus.mqtt import MqttBus, over

__all__ = [
    "UNIX",
    "Bus",
    "BusKind",
    "Endpoint",
    "Message",
    "MqttBus",
    "Session",
    "Tls",
    "Trace",
    "Will",
    "full_jitter",
    "handshake",
    "over",
    "split_address",
]
