"""Measure, print the table, and keep the figures as JSON. See the package for what is measured."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import resource
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks import floor, memory, nats_kv, ours, race, report, site, status
from propagator import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

SIZES: Final = (3, 50, 250, 1000)
ROUNDS: Final = 5


def main() -> None:
    """Measure everything; `--json FILE` keeps what was measured."""
    options = _options()
    _allow_descriptors()
    figures = measure(options.shadows, options.rounds)
    if options.json is not None:
        options.json.write_text(f"{json.dumps(figures, indent=2)}\n")
    print("\n".join(report.lines(figures)))


def measure(sizes: Sequence[int], rounds: int) -> dict[str, object]:
    """Give every figure of one run."""
    lacking = nats_kv.missing()
    if lacking is not None:
        _talk(f"without NATS: {lacking}")
    figures: dict[str, object] = {
        "version": __version__,
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "rounds": rounds,
        "tls": True,
        "heartbeat_s": site.HEARTBEAT_S,
        "without_nats": lacking,
        "load_before": race.load(),
    }
    races: dict[str, dict[str, object]] = {}
    for size in sizes:
        races[str(size)], took = _race(size, rounds, with_nats=lacking is None, with_status=size == sizes[0])
        if took is not None:
            figures["status"] = took
    figures["race"] = races
    _talk("one shadow at rest")
    with tempfile.TemporaryDirectory(prefix="pb-") as folder:
        small = site.make(Path(folder), 2)
        figures["memory"] = asyncio.run(memory.measure(small))
    figures["load_after"] = race.load()
    return figures


def _race(
    size: int, rounds: int, *, with_nats: bool, with_status: bool
) -> tuple[dict[str, object], dict[str, float] | None]:
    with tempfile.TemporaryDirectory(prefix="pb-") as folder:
        _talk(f"{size} shadows: making their states")
        return asyncio.run(_run(site.make(Path(folder), size), rounds, with_nats=with_nats, with_status=with_status))


async def _run(
    made: site.Site, rounds: int, *, with_nats: bool, with_status: bool
) -> tuple[dict[str, object], dict[str, float] | None]:
    async with AsyncExitStack() as stack:
        arms: list[race.Arm] = []
        for arm in (ours, floor, nats_kv) if with_nats else (ours, floor):
            _talk(f"  starting {arm.__name__.rpartition('.')[2]}")
            arms.append(await stack.enter_async_context(arm.running(made)))
        _talk(f"  {rounds} rounds")
        times = await race.run(arms, rounds)
        took = await asyncio.to_thread(status.measure, made) if with_status else None
    return {name: taken.as_json() for name, taken in times.items()}, took


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--shadows", type=_sizes, default=SIZES, metavar="N,N", help="sizes; 3,50,250,1000 without it")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="rounds that count; 5 without it")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures there")
    return parser.parse_args()


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _allow_descriptors() -> None:
    """An agent takes about six: as many as this user may have. The processes below inherit it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _talk(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
