"""The command line: the table of commands, what they share, and the one door through which errors leave.

A command is a click command in a module of this package. It returns its exit code (None is 0) or raises;
`Commands.main` tells the error on stderr, as `Error:` and `Try:`, and ends the process. Modules are loaded when their
command is used, never for `--help`: the line that says what a command is for stands in `COMMANDS`.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import importlib
import io
import json
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, Final, ParamSpec, TypeVar, cast

import click

from propagator import __version__, config
from propagator.core.errors import InputError, PropagatorError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import NoReturn

    from _typeshed import DataclassInstance
    from click.shell_completion import CompletionItem

P = ParamSpec("P")
R = TypeVar("R")

COMMANDS: Final = {
    "init": ("propagator.cli.serve:init", "make this server's configuration, keys and state"),
    "run": ("propagator.cli.serve:run", "run the agent in the foreground"),
    "status": ("propagator.cli.show:status", "show how this server and its links stand"),
    "record": ("propagator.cli.show:record", "show the registration that applies to this server"),
    "history": ("propagator.cli.history:history", "show what happened to the record, newest first"),
    "diagnose": ("propagator.cli.diagnosing:diagnose", "find out why the registration does not arrive"),
    "ports": ("propagator.cli.planning:ports", "print which ports must be open, and the rules to ask for"),
    "register": ("propagator.cli.registering:register", "give this server a registration of its own"),
    "undo": ("propagator.cli.carrying:undo", "put the previous registration in force again"),
    "export": ("propagator.cli.carrying:export", "write the signed record, to carry it by hand"),
    "import": ("propagator.cli.carrying:import_", "take a record, or a report, that was carried here"),
    "decode": ("propagator.cli.decode:decode", "read a signed document or an invitation, and check it"),
    "invite": ("propagator.cli.trusting:invite", "invite a device to follow this lead"),
    "revoke": ("propagator.cli.trusting:revoke", "end a device's trust at this lead"),
    "associate": ("propagator.cli.leading:associate", "take an existing registration over after a lost database"),
    "rotate": ("propagator.cli.leading:rotate", "renew a lead's signing key"),
    "take-over": ("propagator.cli.leading:take_over", "decide which of two copies of a lead goes on"),
    "attach": ("propagator.cli.trusting:attach", "follow a lead, with its invitation"),
    "detach": ("propagator.cli.trusting:detach", "stop following the lead"),
    "portal": ("propagator.cli.portal:portal", "serve the Registration Portal, where systems are registered"),
    "demo": ("propagator.cli.demonstrate:demo", "run a lead, its broker and shadows on this machine"),
    "completion": ("propagator.cli.completion:completion", "print the completion script of a shell"),
}


class Commands(click.Group):
    """A group that loads a command when it is used, and tells every error in one form."""

    def __init__(self, lazy: Mapping[str, tuple[str, str]], *, help_text: str, epilog: str) -> None:
        super().__init__("propagator", callback=_without_command, invoke_without_command=True)
        self.help, self.epilog = help_text, epilog
        self.context_settings = {"help_option_names": ["-h", "--help"]}
        self.params.append(_version_option())
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        """Name the commands in the order of the table."""
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  click's signature
        """Load one command."""
        if cmd_name not in self._lazy:
            return None
        module, _, attribute = self._lazy[cmd_name][0].partition(":")
        return cast("click.Command", getattr(importlib.import_module(module), attribute))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; one that is not known is answered with the nearest."""
        if args[0] not in self._lazy and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], self._lazy, n=1)
            meant = f" Did you mean {near[0]}?" if near else ""
            raise click.UsageError(f"There is no command {config.quoted(args[0])}.{meant}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  as above
        """Write the table of commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self._lazy.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the name of a command from the table, without loading any."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415  only a completing shell needs it

        names = [
            CompletionItem(name, help=text) for name, (_, text) in self._lazy.items() if name.startswith(incomplete)
        ]
        return [*names, *click.Command.shell_complete(self, ctx, incomplete)]

    def invoke(self, ctx: click.Context) -> object:
        """Run the command. A reader that has left (`| head`) is no error: end as SIGPIPE would."""
        try:
            code = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            with open(os.devnull, "wb") as nowhere:  # noqa: PTH123  what is left in the buffer goes nowhere
                os.dup2(nowhere.fileno(), sys.stdout.fileno())
            return _SIGPIPE
        return code

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,  # noqa: ARG002, FBT002  click's signature; this door always ends the process
        **extra: object,
    ) -> NoReturn:
        """Run one command; tell what goes wrong; end the process with the exit code."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # a terminal that cannot show a sign is no error
        sys.exit(self._guarded(args, prog_name or "propagator", complete_var, extra))

    def _guarded(
        self, args: Sequence[str] | None, prog_name: str, complete_var: str | None, extra: Mapping[str, object]
    ) -> int:
        try:
            code = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except PropagatorError as error:
            problems = error.problems if isinstance(error, InputError) else ()
            return tell(str(error), *(f"  {problem}" for problem in problems), hint=error.hint, code=error.exit_code)
        except click.Abort:
            return _SIGINT
        except click.ClickException as error:
            return tell(" ".join(error.format_message().split()), hint=_usage_hint(error, prog_name), code=2)
        except Exception as error:  # the last door: a person gets one sentence, never a stack trace
            if sys.flags.dev_mode:
                raise
            return tell(f"internal error: {_where(error)}.", hint=_REPORT, code=1)
        return code if isinstance(code, int) else 0


_SIGINT: Final = 130
_SIGPIPE: Final = 141
_REPORT: Final = "report it with the output of `propagator status --json`"


def tell(message: str, *more: str, hint: str = "", code: int = 1) -> int:
    """Tell an error on stderr: `Error:`, further lines, `Try:`. Returns the exit code that was handed in."""
    lines = [f"Error: {message}", *more, *([f"Try: {hint}"] if hint else [])]
    click.echo("\n".join(visible(line) for line in lines), err=True)
    return code


def _usage_hint(error: click.ClickException, prog_name: str) -> str:
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"{context.command_path if context else prog_name} --help"


def _where(error: Exception) -> str:
    """Name the error and the place that raised it, without a path of this machine."""
    place, trace = "", error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if not code.co_filename.startswith("<"):  # Python's own frozen modules say nothing
            place = f" at {'/'.join(Path(code.co_filename).parts[-2:])}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"{type(error).__name__}{place}"


_UNUSUAL: Final = re.compile(r"[^\x20-\x7e\n]")


def visible(text: str) -> str:
    """Return a text from elsewhere as it may go to a terminal: control and override characters are written out."""
    return _UNUSUAL.sub(lambda match: match[0] if _fits(match[0]) else ascii(match[0])[1:-1], text)


def _fits(sign: str) -> bool:
    import unicodedata  # noqa: PLC0415  few texts need it

    joins = sign in "\u200c\u200d"  # these two belong to the spelling of some languages
    return joins or unicodedata.category(sign) not in {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"}


def print_json(value: object) -> None:
    """Print JSON for scripts, indented; characters that could steer a terminal are escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    click.echo(_UNUSUAL.sub(lambda match: match[0] if _fits(match[0]) else json.dumps(match[0])[1:-1], text))


@dataclass(frozen=True)
class Place:
    """Where a command works: `--config` and `--state-dir` as they were given, and what follows from them."""

    config_file: Path | None
    explicit_state_dir: Path | None

    @functools.cached_property
    def found(self) -> config.Found:
        """The configuration as found (`config.find`). Raises InputError where a named file cannot be used."""
        return config.find(self.config_file)

    @functools.cached_property
    def state_dir(self) -> Path:
        """The state directory: `--state-dir`, else the configuration's, else the default.

        Raises InputError where a configuration leads to the state of another server than the one that it names.
        """
        if self.explicit_state_dir is not None:
            return self.explicit_state_dir
        state_dir = config.state_dir(self.found)
        self._hold_owner(state_dir, config.server(self.found).id)
        return state_dir

    def _hold_owner(self, state_dir: Path, named: str) -> None:
        from propagator import snapshot  # noqa: PLC0415  `--help` needs no database

        owner = snapshot.owner(state_dir) if named else None
        if owner not in {None, named}:
            raise InputError(
                f"{self.found.path} is the configuration of {named!r}, but {state_dir} holds the state of {owner!r}.",
                hint="name the right file with --config, or correct server.id or state_dir in it",
            )


def located(function: Callable[Concatenate[Place, P], R]) -> Callable[P, R]:
    """Give a command `--config` and `--state-dir`, and its function a `Place` first. Stands just above the function."""

    @click.option("--config", "config_file", metavar="FILE", type=click.Path(path_type=Path), help=_CONFIG_HELP)
    @click.option(
        "--state-dir", metavar="DIR", type=click.Path(path_type=Path), help="State directory; beats the file's."
    )
    @functools.wraps(function)
    def placed(*args: P.args, **kwargs: P.kwargs) -> R:
        place = Place(cast("Path | None", kwargs.pop("config_file")), cast("Path | None", kwargs.pop("state_dir")))
        return function(place, *args, **kwargs)

    return placed


_CONFIG_HELP: Final = f"Configuration; else ${config.VARIABLE}, else {config.DEFAULT_PATH}."

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
"""`--json`, handed to the function as `as_json`."""


def gathered(kind: type[DataclassInstance], name: str) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Hand a command's function the options that `kind` has fields for as one value of it, called `name`."""

    def over(function: Callable[..., int]) -> Callable[..., int]:
        @functools.wraps(function)
        def packed(*args: object, **given: object) -> int:
            said = {field.name: given.pop(field.name) for field in dataclasses.fields(kind)}
            return function(*args, **{name: kind(**said)}, **given)

        return packed

    return over


def ending(codes: Mapping[int, str], examples: Sequence[str]) -> str:
    """Return the end of a command's help: what its exit codes mean, and examples. For `epilog=`."""
    meanings = "\n".join(f"  {code:<3} {meaning}" for code, meaning in codes.items())
    lines = "\n".join(f"  {example}" for example in examples)
    # A backspace on a line of its own is click's sign not to wrap the paragraph.
    return f"\b\nExit codes:\n{meanings}\n\n\b\nExamples:\n{lines}"


def _without_command() -> int:
    context = click.get_current_context()
    if context.invoked_subcommand is not None:
        return 0
    click.echo(context.get_help(), err=True)
    return 2


def _version_option() -> click.Option:
    def show(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
        if value and not ctx.resilient_parsing:
            click.echo(f"propagator {__version__}")
            ctx.exit()

    return click.Option(
        ["--version"], is_flag=True, expose_value=False, is_eager=True, callback=show, help="Show the version and exit."
    )


commands = Commands(
    COMMANDS,
    help_text="Carries the registration of a site from its lead server to every server below it.",
    epilog=ending(
        {
            0: "fine",
            1: "a problem was found",
            2: "wrong usage or configuration",
            3: "cannot tell: no state, or no agent",
        },
        ["propagator demo", "propagator init --role lead --id es-1"],
    ),
)
