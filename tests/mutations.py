"""What each rule of the core is worth: take it away (`mutations.txt`), and a named test turns red.

`test_mutations.py` runs them all against a copy of the tree (`-m slow`); `python -m tests.mutations` prints the tables
of `tests/README.md`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final, NamedTuple

LIST: Final = Path(__file__).with_suffix(".txt")
_ENTRY: Final = re.compile(r"^\* (.+)\n  ([\w/]+): (\w+)\n((?:-.*\n)+)((?:\+.*\n)+)", re.MULTILINE)


class Mutation(NamedTuple):
    """One line of a table. `file` is a module of propagator/core, as a path, `test` a function of its test file."""

    name: str
    file: str
    test: str
    old: str
    new: str

    @property
    def node(self) -> str:
        """The pytest id of the test."""
        return f"tests/unit/test_{self.file.removesuffix('/__init__').replace('/', '_')}.py::{self.test}"

    def applied(self, root: Path) -> tuple[Path, str]:
        """The file below `root` and its mutated text. Raises ValueError if `old` does not stand in it just once."""
        path = root / "propagator" / "core" / f"{self.file}.py"
        text = path.read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name}: stands {text.count(self.old)} times in {self.file}.py: {self.old!r}")
        return path, text.replace(self.old, self.new)


def tables() -> dict[str, list[Mutation]]:
    """Read the list, table by table."""
    _, *parts = LIST.read_text(encoding="utf-8").split("\n== ")
    return {part.partition("\n")[0]: [_mutation(*entry) for entry in _ENTRY.findall(part + "\n")] for part in parts}


def _mutation(name: str, file: str, test: str, old: str, new: str) -> Mutation:
    return Mutation(name, file, test, _lines(old), _lines(new))


def _lines(block: str) -> str:
    return "\n".join(line[2:] for line in block.splitlines())


def markdown() -> str:
    """The tables as tests/README.md shows them."""
    parts = []
    for title, mutations in tables().items():
        rows = [f"| {one.name} | {one.file} | `{one.test}` |" for one in mutations]
        parts.append("\n".join([f"### {title}", "", "| taken away | module | turns red |", "|---|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.stdout.write(markdown())
