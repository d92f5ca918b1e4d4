"""What a soak ends with: figures as one value, for a table and for JSON."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.soak.watch import Loss

Sizes: TypeAlias = "dict[str, tuple[int, float, int]]"
"""Of each process: pid, resident megabytes, descriptors."""

_NEWS = 20
_DETAIL = 600


@dataclass(frozen=True, slots=True)
class Sample:
    """The sizes at one moment; `at_rest`: everything had been equal."""

    at_s: float
    at_rest: bool
    sizes: Sizes


@dataclass(frozen=True, slots=True)
class Grown:
    """How a kind of process grew between the first and the last rest. A slope is within one life of a process."""

    first_mb: float
    last_mb: float
    peak_mb: float
    slope_mb_min: float | None
    first_fds: int
    last_fds: int
    peak_fds: int
    slope_fds_min: float | None


@dataclass
class Report:
    """All figures of a run."""

    seed: int
    shadows: int
    minutes: float = 0.0
    waves: int = 0
    changes: int = 0
    changes_refused: list[str] = field(default_factory=list)
    versions_signed: int = 0
    overwrites_held: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    faults_that_found_nobody: dict[str, int] = field(default_factory=dict)
    hostile: dict[str, int] = field(default_factory=dict)
    refused_by_shadows: dict[str, int] = field(default_factory=dict)
    looks: int = 0
    convergence_s: list[float] = field(default_factory=list)
    grown: dict[str, Grown] = field(default_factory=dict)
    losses: list[Loss] = field(default_factory=list)

    def as_json(self) -> dict[str, object]:
        return {**dataclasses.asdict(self), "worst_convergence_s": max(self.convergence_s, default=None)}

    def lines(self) -> list[str]:
        """Give the closing table, in Markdown."""
        rows = [
            ("shadows", f"{self.shadows}"),
            ("minutes", f"{self.minutes:.1f}"),
            ("waves of faults", f"{self.waves}"),
            ("changes made", f"{self.changes}"),
            ("changes refused", f"{len(self.changes_refused)}"),
            ("versions signed", f"{self.versions_signed}"),
            ("overwrites held", f"{self.overwrites_held:,}"),
            ("looks at all stores", f"{self.looks}"),
            *((f"fault: {kind}", f"{count:,}") for kind, count in self.faults.items()),
            *((f"at the port: {kind}", f"{count:,}") for kind, count in self.hostile.items()),
            *((f"refused by shadows: {reason}", f"{count:,}") for reason, count in self.refused_by_shadows.items()),
            *((f"{name}, memory", _memory(grown)) for name, grown in self.grown.items()),
            *((f"{name}, descriptors", _descriptors(grown)) for name, grown in self.grown.items()),
            ("worst convergence after a heal", f"{max(self.convergence_s, default=float('nan')):.1f} s"),
            ("losses", f"{len(self.losses)}"),
        ]
        table = [f"| {what} | {figure} |" for what, figure in rows]
        lost = [f"LOST {loss.what}: {loss.who}: {loss.detail[:_DETAIL]}" for loss in self.losses[:_NEWS]]
        return [f"seed {self.seed}", "", "| what | figure |", "|---|---|", *table, "", *lost]


def _memory(grown: Grown) -> str:
    return (
        f"{grown.first_mb:.1f} MB, then {grown.last_mb:.1f} MB; peak {grown.peak_mb:.1f} MB; "
        f"slope {_slope(grown.slope_mb_min, 'MB')}"
    )


def _descriptors(grown: Grown) -> str:
    slope = _slope(grown.slope_fds_min, "")
    return f"{grown.first_fds}, then {grown.last_fds}; peak {grown.peak_fds}; slope {slope}"


def _slope(value: float | None, unit: str) -> str:
    return "not known: no process lived long enough" if value is None else f"{value:+.2f} {unit}".strip() + " a minute"


def grown(samples: list[Sample]) -> dict[str, Grown]:
    """Say how each kind of process grew; all groups of shadows are one kind, each as large as they are on average."""
    found: dict[str, Grown] = {}
    rests = [sample for sample in samples if sample.at_rest]
    for kind in ("lead", "broker", "shadows"):
        resting = [_of(kind, sample.sizes) for sample in rests]
        ends = [sizes for sizes in resting if sizes]
        every = [size for sample in samples for size in _of(kind, sample.sizes)]
        if not ends:
            continue
        found["shadows (a process)" if kind == "shadows" else kind] = Grown(
            first_mb=_mean(size[1] for size in ends[0]),
            last_mb=_mean(size[1] for size in ends[-1]),
            peak_mb=max(size[1] for size in every),
            slope_mb_min=_pooled([(sample.at_s, *size[:2]) for sample in rests for size in _of(kind, sample.sizes)]),
            first_fds=round(_mean(size[2] for size in ends[0])),
            last_fds=round(_mean(size[2] for size in ends[-1])),
            peak_fds=max(size[2] for size in every),
            slope_fds_min=_pooled(
                [(sample.at_s, size[0], float(size[2])) for sample in rests for size in _of(kind, sample.sizes)]
            ),
        )
    return found


def _of(kind: str, sizes: Sizes) -> list[tuple[int, float, int]]:
    return [size for name, size in sizes.items() if name.startswith(kind)]


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)


def _pooled(points: list[tuple[float, int, float]]) -> float | None:
    """Give the growth a minute by least squares, each process (pid) about its own mean; None where none can be told."""
    lives: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for at_s, pid, size in points:
        lives[pid].append((at_s, size))
    above = below = 0.0
    for life in lives.values():
        middle_s, middle = _mean(at_s for at_s, _ in life), _mean(size for _, size in life)
        above += sum((at_s - middle_s) * (size - middle) for at_s, size in life)
        below += sum((at_s - middle_s) ** 2 for at_s, _ in life)
    return 60 * above / below if below else None
