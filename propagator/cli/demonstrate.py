"""`demo`: a lead, its broker and shadows on this machine, and the proof that a change reaches every one of them."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from propagator import demo as demonstration
from propagator.cli import ending, json_option, print_json
from propagator.core.errors import PropagatorError

if TYPE_CHECKING:
    from propagator.demo import Figures, Teller


@click.command(
    epilog=ending(
        {0: "all of it held", 1: "something did not hold; its logs are kept", 2: "wrong usage, or too little memory"},
        ["propagator demo", "propagator demo --shadows 50 --keep", "propagator demo --json | jq .changes[].seconds"],
    )
)
@click.option("--shadows", type=click.IntRange(1, 250), default=3, show_default=True, help="How many shadows.")
@click.option("--keep", is_flag=True, help="Leave all of it running, and say how to look at it and how to stop it.")
@click.option("--stop", metavar="DIR", type=click.Path(path_type=Path), help="Stop what --keep left, and remove it.")
@json_option
def demo(shadows: int, keep: bool, stop: Path | None, as_json: bool) -> int:
    """Run a lead, its broker and shadows on this machine.

    Each is a process of its own, with its own state, over real TLS on a free port of the loopback interface. The lead's
    registration is changed, one shadow is killed while that goes out, and every shadow has to hold the change in the
    end. Nothing of this machine is touched but one directory for temporary files, and nothing is left.
    """
    if stop is not None:
        if keep or as_json:
            raise click.UsageError("--stop stands alone.")
        ended = demonstration.stop(stop)
        click.echo(f"Stopped {ended} process{'es' * (ended != 1)}; {stop} is removed.")
        return 0
    try:
        with demonstration.Teller(sys.stderr if as_json else sys.stdout) as tell:
            figures = demonstration.run(shadows, keep=keep, tell=tell)
            if figures.directory is not None:
                _tell_kept(tell, figures)
    except demonstration.StoppedError as stopped:
        click.echo("Stopped and removed, as you asked.", err=True)
        return 128 + stopped.number
    except PropagatorError as error:
        if as_json:
            print_json({"schema": 1, "ok": False, "error": str(error), "hint": error.hint})
        raise
    if as_json:
        print_json(figures.as_json())
    return 0


def _tell_kept(tell: Teller, figures: Figures) -> None:
    command = _typed()
    tell.plain("")
    tell.plain(f"Look:  PROPAGATOR_CONFIG={figures.directory}/es-1.toml {command} status --watch")
    tell.plain(f"Stop:  {command} demo --stop {figures.directory}")


def _typed() -> str:
    """Give what a person types for this program: its name where the PATH finds it, else its path."""
    here, found = Path(sys.argv[0]).absolute(), shutil.which("propagator")
    if here.name == "__main__.py":
        return f"{sys.executable} -m propagator"
    return "propagator" if found is not None and Path(found).absolute() == here else str(here)
