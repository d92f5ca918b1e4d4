"""How far a change came: saved, published, or waiting for the agent (DESIGN §6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from propagator import control, files
from propagator.cli import visible

if TYPE_CHECKING:
    from pathlib import Path

PUBLISH_S: Final = 0.2
"""How long a command waits for the publish before it says `saved; not yet published` (DESIGN §6)."""

ATTACHABLE: Final = (
    "Note: a device that is to be attached need not be registered; its lead's registration will overwrite this one."
)
"""Rule R4: warned, never refused."""


def outcome(state_dir: Path, *, leads: bool) -> str:
    """Let a running agent publish what was written, and say how far it came."""
    if not leads:
        return "Saved."
    if not files.is_locked(state_dir):
        return "Saved; it is published when the agent runs (propagator run)."
    answer = control.ask(state_dir, "poke", PUBLISH_S)
    version = None if answer is None else answer.get("published")
    return (
        "Saved; not yet published." if version is None else f"Saved and published as version {visible(str(version))}."
    )
