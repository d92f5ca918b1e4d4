"""The program `propagator`: hands the command line to `cli`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from propagator.cli import commands

if TYPE_CHECKING:
    from typing import NoReturn


def main() -> NoReturn:
    """Run one command and end the process with its exit code (DESIGN §9)."""
    commands.main()


if __name__ == "__main__":
    main()
