"""Versions: which signed record is the newer one (DESIGN §3).

`Version(seq, generation, epoch, revision)`, written `1.4.k7f3q2.41`. Ordered by (seq, generation), then by revision
within one epoch. Two epochs of one generation are two lives that nobody ordered: `Order.FORKED`.

- seq: which delegation of the identity key signed it. A higher seq is above every version of a lower one.
- generation, epoch: one life of a lead, from its first change after a start to its end.
- revision: goes on through all lives, + 1 a change.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from random import Random

LIMIT: Final = 2**53 - 1
"""The largest number of a version: the largest whole number that every JSON reader keeps exact (RFC 8785)."""

LIVES_KEPT: Final = 8
"""How many of its last lives a record lists."""

_EPOCH_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_EPOCH_LENGTH: Final = 6
_WRITTEN: Final = re.compile(r"(0|[1-9]\d{0,15})\.(0|[1-9]\d{0,15})\.([0-9a-z]{4,16})\.(0|[1-9]\d{0,15})", re.ASCII)


class Order(StrEnum):
    """How one version stands to another."""

    LOWER = "lower"
    EQUAL = "equal"
    HIGHER = "higher"
    FORKED = "forked"


@dataclass(frozen=True, slots=True)
class Version:
    """One issue of a lead's record. Numbers are 1 to 2^53 − 1."""

    seq: int
    generation: int
    epoch: str
    revision: int

    def __str__(self) -> str:
        return f"{self.seq}.{self.generation}.{self.epoch}.{self.revision}"

    def compared_to(self, other: Version) -> Order:
        """Say whether this version is lower than, equal to, higher than or forked from `other`."""
        if self == other:
            return Order.EQUAL
        if (self.seq, self.generation) != (other.seq, other.generation):
            return Order.HIGHER if (self.seq, self.generation) > (other.seq, other.generation) else Order.LOWER
        if self.epoch != other.epoch:
            return Order.FORKED
        return Order.HIGHER if self.revision > other.revision else Order.LOWER

    def next_revision(self) -> Version:
        """Give the next change of the same life."""
        return replace(self, revision=self.revision + 1)

    def next_life(self, epoch: str) -> Version:
        """Give the first change of a new life, under a new random `epoch`."""
        return replace(self, generation=self.generation + 1, epoch=epoch, revision=self.revision + 1)

    @property
    def is_exhausted(self) -> bool:
        """Whether no further life or change fits; only a higher seq (`rotate`) helps."""
        return self.generation >= LIMIT or self.revision >= LIMIT


@dataclass(frozen=True, slots=True)
class Life:
    """One life of a lead: the last revision it issued under this generation and epoch."""

    generation: int
    epoch: str
    revision: int


def parse(text: str) -> Version | None:
    """Read a written version; None if it is none, or if a number is 0 or above 2^53 − 1."""
    match = _WRITTEN.fullmatch(text)
    if match is None:
        return None
    seq, generation, epoch, revision = match.groups()
    version = Version(int(seq), int(generation), epoch, int(revision))
    numbers = (version.seq, version.generation, version.revision)
    return version if all(1 <= number <= LIMIT for number in numbers) else None


def new_epoch(rng: Random) -> str:
    """Draw the name of a new life: 30 random bits, so that two lives of one generation differ."""
    return "".join(rng.choices(_EPOCH_ALPHABET, k=_EPOCH_LENGTH))


def first(epoch: str) -> Version:
    """Give the version that `init` signs."""
    return Version(1, 1, epoch, 1)


def lives_after(lives: tuple[Life, ...], version: Version) -> tuple[Life, ...]:
    """Bring the list of lives up to `version`; the oldest beyond the last 8 are dropped."""
    earlier = tuple(life for life in lives if (life.generation, life.epoch) != (version.generation, version.epoch))
    return (*earlier, Life(version.generation, version.epoch, version.revision))[-LIVES_KEPT:]


def contains(lives: tuple[Life, ...], version: Version) -> bool:
    """Say whether `version` was issued in one of these lives of the same seq."""
    return any(
        (life.generation, life.epoch) == (version.generation, version.epoch) and version.revision <= life.revision
        for life in lives
    )
