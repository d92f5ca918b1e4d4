"""Probes of the network without any privilege: sockets, the kernel's tables, its counters. What they mean, core says.

Law: `sockets` knows the kernel's options, `tries` makes single tries of them, `path` looks at one address, `names` at
one name; `kernel` asks for routes and neighbours, `counters` reads /proc/self/net. Everything has a deadline.
"""
