"""`python -m tests.soak`, or `make soak`: many real shadows under every fault at once, for some minutes.

Exit 0: nothing was lost; 1: what was lost is printed; 2: ended before its time. The seed draws the faults;
how processes take turns it does not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import secrets
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.soak.faults import Pace
from tests.soak.run import Soak

if TYPE_CHECKING:
    from tests.soak.report import Report


def main() -> int:
    """Do as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument(
        "--minutes", type=float, default=20.0, help="no wave begins that would end later; 20 without it"
    )
    parser.add_argument("--shadows", type=int, default=200, help="200 without it")
    parser.add_argument("--seed", type=int, default=None, help="drawn, and printed, without it")
    parser.add_argument("--report", type=Path, metavar="FILE", help="keep the figures there, as JSON")
    asked = parser.parse_args()
    seed = secrets.randbelow(1_000_000) if asked.seed is None else asked.seed
    _say(f"seed {seed}: {asked.shadows} shadows, {asked.minutes:g} minutes")
    _allow_descriptors()
    with tempfile.TemporaryDirectory(prefix="sk-", ignore_cleanup_errors=True) as folder:
        soak = Soak(Path(folder), asked.shadows, seed, _say)
        try:
            done = asyncio.run(_until_told(soak, asked.minutes))
        except (KeyboardInterrupt, asyncio.CancelledError):
            _say("ended before its time; nothing is left running")
            return 2
    if asked.report is not None:
        asked.report.write_text(f"{json.dumps(done.as_json(), indent=2)}\n")
    _say("\n".join(done.lines()))
    return 1 if done.losses else 0


async def _until_told(soak: Soak, minutes: float) -> Report:
    """Run; SIGTERM ends it as Ctrl-C does, with all that it started."""
    task = asyncio.ensure_future(soak.run(minutes, Pace()))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


def _allow_descriptors() -> None:
    """An agent takes about six, a link four: as many as this user may have. The processes below inherit it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
