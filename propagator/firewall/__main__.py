"""The program `propagator-fwstate`: what the oneshot unit of systemd runs as root. No arguments, no input.

A program of its own, and not a command of `propagator`: it runs as root with a capability that could flush the filter,
so it loads neither the command line nor a library, and stands where the unit finds it beside `propagator`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from propagator.core.errors import PropagatorError
from propagator.firewall import listing

if TYPE_CHECKING:
    from typing import NoReturn


def main() -> NoReturn:
    """Capture the filter of this host into `listing.STATE_FILE`, and end with 0, or 1 and a reason on stderr."""
    if len(sys.argv) > 1:
        sys.exit("propagator-fwstate takes no arguments: it writes down the packet filter for `propagator diagnose`.")
    try:
        listing.write(listing.capture())
    except PropagatorError as exc:
        sys.exit(f"Error: {exc}\nTry: {exc.hint}")
    sys.exit(0)


if __name__ == "__main__":
    main()
