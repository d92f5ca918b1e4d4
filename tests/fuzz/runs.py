"""Runs of a target: the corpus, and the one test that Hypothesis and atheris both drive."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hypothesis import HealthCheck, given, settings

from tests.fuzz.targets import Target

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis.strategies import SearchStrategy

CORPUS: Final = Path(__file__).parent / "corpus"


def kept(target: Target) -> dict[str, bytes]:
    """Give the corpus of a target by the names of its files."""
    return {path.name: path.read_bytes() for path in sorted((CORPUS / target.name).iterdir())}


def keep(target: Target, content: bytes) -> Path:
    """Put an input into the corpus, where every run tries it first from now on."""
    path = CORPUS / target.name / f"found-{hashlib.sha256(content).hexdigest()[:12]}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def tried(target: Target, examples: int, *, derandomize: bool = True) -> Callable[[], None]:
    """Make the test of a target: as many inputs as `examples`; what fails is shrunk."""

    def check(content: bytes) -> None:
        try:
            target.check(content)
        except Exception as error:
            error.add_note(f"{target.name} on {content!r}")
            raise

    check.__qualname__ = f"check_{target.name}"
    bounded = settings(
        max_examples=examples,
        derandomize=derandomize,
        database=None,
        deadline=None,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
    )
    return bounded(given(content=target.inputs)(check))


def plant(target: Target, inputs: dict[str, bytes]) -> None:
    """Write the inputs that a target begins with anew; what was found stays."""
    folder = CORPUS / target.name
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("seed-*"):
        path.unlink()
    for name, content in inputs.items():
        (folder / f"seed-{name}").write_bytes(content)


def kept_when_failing(target: Target) -> Target:
    """Make the same target, whose failing inputs go into the corpus."""

    def check(content: bytes) -> None:
        try:
            target.check(content)
        except Exception:
            keep(target, content)
            raise

    return replace(target, check=check)


def drawn(inputs: SearchStrategy[bytes], number: int) -> list[bytes]:
    """Draw inputs for a reader that is tried with all of them at once."""
    found: list[bytes] = []
    tried(Target("drawn", inputs, found.append, number), number)()
    return found
