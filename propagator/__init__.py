"""Propagator: one registration, from the lead to the last device below it.

The path of the data in the names of the files: `register` writes it, `lead` signs and announces it, `bus` carries it,
`shadow` takes it over, `store` holds it, `lead` hears the report, `status` shows it. What is decided on the way is
decided in `core`, which neither waits nor opens anything.
"""

__version__ = "0.1.0"
