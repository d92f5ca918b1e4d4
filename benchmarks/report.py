"""The table: the figures of one run, their ratios, and which goals they meet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from benchmarks import memory, status

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

NATS_SIZE: Final = 1000
"""At this size no change may take longer than with NATS."""


def lines(figures: Mapping[str, object]) -> Iterator[str]:
    """Give the lines of the report."""
    yield f"{figures['cpus']} processors, load average {figures['load_before']} before, {figures['load_after']} after"
    yield ""
    yield f"From a change at the lead to the last durable report stored there; median of {figures['rounds']} rounds"
    yield ""
    yield f"{'shadows':>8} {'propagator':>12} {'floor':>10} {'NATS':>10} {'to floor':>9} {'to NATS':>8}"
    races = cast("Mapping[str, Mapping[str, Mapping[str, object]]]", figures["race"])
    for size, arms in races.items():
        yield _row(size, arms)
    yield ""
    yield "Processor time of one change, in seconds (median); shadows: all of them, in one process"
    yield ""
    yield f"{'shadows':>8} {'arm':>12} {'shadows':>10} {'lead':>10} {'broker':>9}"
    for size, arms in races.items():
        for arm, times in arms.items():
            used = cast("Mapping[str, float]", times["cpu_median_s"])
            yield f"{size:>8} {arm:>12} {used['shadows']:>10.2f} {used['lead']:>10.2f} {used['broker']:>9.2f}"
    yield ""
    yield from _at_rest(cast("Mapping[str, Mapping[str, float]]", figures["memory"]))
    yield from _status(cast("Mapping[str, float]", figures["status"]))
    yield ""
    yield "Goals"
    for goal, met in goals(figures):
        yield f"  {'met    ' if met else 'not met' if met is not None else 'unknown'}  {goal}"


def _row(size: str, arms: Mapping[str, Mapping[str, object]]) -> str:
    ours, floor, nats = (_median(arms, arm) for arm in ("propagator", "floor", "nats"))
    return (
        f"{size:>8} {_seconds(ours):>12} {_seconds(floor):>10} {_seconds(nats):>10}"
        f" {_ratio(ours, floor):>9} {_ratio(ours, nats):>8}"
    )


def _at_rest(processes: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    names = {"shadow": "one shadow", "bare": "bare loop", "lead": "the lead"}
    yield f"At rest {'RSS':>16} {'PSS':>9} {'private':>9} {'processor':>10}"
    yield ""
    for what, name in names.items():
        found = processes[what]
        sizes = " ".join(f"{found[size]:>6.1f} MB" for size in ("rss_mb", "pss_mb", "private_mb"))
        yield f"{name:>14} {sizes} {found['idle_cpu_percent']:>8.2f} %"
    yield ""


def _status(found: Mapping[str, float]) -> Iterator[str]:
    yield (
        f"status {found['status_s']:.3f} s, status --json {found['status_json_s']:.3f} s,"
        f" python -c 'import sqlite3' {found['sqlite3_s']:.3f} s, ratio {found['ratio']:.1f}"
    )


def goals(figures: Mapping[str, object]) -> list[tuple[str, bool | None]]:
    """Say which goals this run meets; None: it did not measure it."""
    arms = cast("Mapping[str, Mapping[str, Mapping[str, object]]]", figures["race"]).get(str(NATS_SIZE), {})
    ours, nats = _median(arms, "propagator"), _median(arms, "nats")
    shadow = cast("Mapping[str, Mapping[str, float]]", figures["memory"])["shadow"]
    took = cast("Mapping[str, float]", figures["status"])
    slowest = max(took["status_s"], took["status_json_s"])
    return [
        (f"no slower than NATS at {NATS_SIZE:,} shadows", None if ours is None or nats is None else ours <= nats),
        (f"one shadow under {memory.GOAL_MB:g} MB (RSS)", shadow["rss_mb"] < memory.GOAL_MB),
        (f"`status` under {status.GOAL_S:g} s", slowest < status.GOAL_S),
    ]


def _median(arms: Mapping[str, Mapping[str, object]], arm: str) -> float | None:
    return cast("float", arms[arm]["median_s"]) if arm in arms else None


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f} s"


def _ratio(value: float | None, to: float | None) -> str:
    return "–" if value is None or to is None else f"{value / to:.1f}"
