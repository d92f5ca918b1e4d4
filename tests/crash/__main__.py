"""`python -m tests.crash`: record a site's life, crash it at every step, and judge what is left.

--scenario overwrite [--state 1234]     one scenario, one state of it; all of them otherwise
--recording FOLDER                      one that was kept; else a new one is made and kept in a folder that is named
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.crash import judge as judging
from tests.crash.judge import ALL, SCENARIOS
from tests.crash.launched import WEAKENED
from tests.crash.recording import IN_MEMORY, read, record
from tests.crash.weaken import WAYS


def main() -> int:
    """Do as the command line says. 0: every invariant held; 1: what failed is printed."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--scenario", choices=SCENARIOS)
    parser.add_argument("--state", type=int)
    parser.add_argument("--recording", type=Path)
    parser.add_argument("--weakened", choices=WAYS, default="", help=f"a care to take away ({WEAKENED})")
    parser.add_argument("--most", type=int, default=ALL)
    parser.add_argument("--repeats", type=int, default=ALL)
    asked = parser.parse_args()
    recording = (
        read(asked.recording)
        if asked.recording is not None
        else record(Path(tempfile.mkdtemp(prefix="crash-")), weakened=asked.weakened)
    )
    failed = 0
    with tempfile.TemporaryDirectory(prefix="cj-", dir=IN_MEMORY) as folder:
        for scenario in [asked.scenario] if asked.scenario else SCENARIOS:
            begun_s = time.monotonic()
            judged = judging.run(recording, scenario, Path(folder), asked.most, asked.repeats, only=asked.state)
            failed += len(judged.failed)
            took_s = time.monotonic() - begun_s
            sys.stdout.write(
                f"{scenario}: {judged.states} states, {judged.judged} different ones judged, "
                f"{judged.repeated} gone on from, {len(judged.failed)} failed, {took_s:.0f} s\n"
            )
            sys.stdout.writelines(f"  {line}\n" for line in judged.failed[:20])
            sys.stdout.flush()
    sys.stdout.write(f"recording: {recording.folder}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
