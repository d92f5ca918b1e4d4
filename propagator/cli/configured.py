"""What commands that need the whole configuration ask of a `Place`; apart, because it loads pydantic."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from propagator import config, settings
from propagator.cli import visible

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from propagator.cli import Place
    from propagator.core.difference import Change
    from propagator.settings import Settings


def configuration_path(place: Place) -> Path:
    """Give where the configuration is, or would be written."""
    return config.path(place.config_file)


def wanted(place: Place) -> Settings:
    """Load the configuration, all problems at once; `--state-dir` beats the file's. Raises InputError."""
    loaded = settings.load(place.found)
    return loaded.model_copy(update={"state_dir": place.state_dir.absolute()})


def print_difference(changes: Iterable[Change], *, err: bool = False) -> None:
    """Print one line a member: what it was, and what it becomes."""
    for change in changes:
        before = "–" if change.before is None else change.before
        after = "–" if change.after is None else change.after
        click.echo(f"  {visible(change.path)}: {visible(before)} → {visible(after)}", err=err)
