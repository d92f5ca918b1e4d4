"""The embedded broker: Mosquitto as a child of the lead's agent, with a configuration that the agent writes.

Takes the accounts that may connect, and their rights; hands on a running broker with two listeners: TLS for the
servers below, and a Unix socket for the lead alone, so that nobody's connections can lock it out of its own broker.
The broker is a cache that nobody has to trust: whatever it loses is published again (DESIGN §2).

Law: `configuration` turns accounts into Mosquitto's files and does no I/O; `port` and `child` know one thing of the
system each, a TCP port and a process; `embedded` puts them together.
"""

from propagator.broker.configuration import Account, Listener, Right, hash_password
from propagator.broker.embedded import EmbeddedBroker

__all__ = ["Account", "EmbeddedBroker", "Listener", "Right", "hash_password"]
