"""The lead's half of a joint verdict: watches the port until its input ends, then prints what it saw as JSON.

What `propagator diagnose --watch` does, for as long as the shadow's diagnosis takes and no longer.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys

from propagator.diagnose.watching import usual, watching


async def watch(port: int) -> None:
    async with watching(port) as watched:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)
        seen = watched.seen()
    side = dataclasses.replace(seen, usual=await usual(seen.window_s))  # the shadow holds still by now
    sys.stdout.write(json.dumps(dataclasses.asdict(side)) + "\n")


if __name__ == "__main__":
    asyncio.run(watch(int(sys.argv[1])))
