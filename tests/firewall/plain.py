"""A diagnosis by a shadow that speaks without TLS, which none of ours does: all of it, with that one thing left out."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
from pathlib import Path

from propagator import diagnose
from propagator.diagnose import peer


async def main(state_dir: Path) -> None:
    wanted = peer.load(state_dir)
    plain = dataclasses.replace(wanted, peer=dataclasses.replace(wanted.peer, tls=None))
    found = await diagnose.diagnose(plain)
    sys.stdout.write(json.dumps(found.as_json()))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
