"""The command `completion`: the script with which a shell completes `propagator`."""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import get_completion_class

from propagator.cli import commands, ending

_VARIABLE: Final = "_PROPAGATOR_COMPLETE"
"""What click's scripts set to ask the program for words."""


@click.command(
    epilog=ending(
        {0: "printed", 2: "no such shell"},
        [
            "propagator completion bash > /etc/bash_completion.d/propagator",
            "propagator completion zsh > ~/.zfunc/_propagator",
        ],
    )
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell.

    To install it, write it where the shell looks, and open a new shell:

    \b
      bash  /etc/bash_completion.d/propagator, for all users
            ~/.local/share/bash-completion/completions/propagator, for one
      zsh   a file _propagator in a folder of $fpath
      fish  ~/.config/fish/completions/propagator.fish
    """  # noqa: D301  click reads the backspace itself as: do not wrap
    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"click knows no completion for {shell}.")
    click.echo(found(commands, {}, "propagator", _VARIABLE).source())
