"""How the story looks: one calm line after another, with its time; colours and a sign of life on a terminal only."""

from __future__ import annotations

import textwrap
import time
from typing import TYPE_CHECKING, Final, Self, TextIO

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status

COLUMNS: Final = 80
_MARGIN: Final = 10
_FIGURE: Final = r"\b\d[\d.]* m?s\b"
_TITLE: Final = "bold"


class Teller:
    """Tells to one stream. Lines are cut at 80 columns and written out at once, so that a pipe shows them live."""

    def __init__(self, out: TextIO) -> None:
        self.out = out
        self.on_terminal = out.isatty()
        self._began_s = time.monotonic()
        self._console = self._open() if self.on_terminal else None
        self._status: Status | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.quiet()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the story began."""
        return time.monotonic() - self._began_s

    def title(self, text: str) -> None:
        """Tell what this is, or how it ended."""
        self._print(text, style=_TITLE)

    def step(self, text: str) -> None:
        """Tell that something happened, with the time."""
        when = f"{self.elapsed_s:6.1f} s  "
        self._print(_wrapped(text, first=when))

    def more(self, text: str, *, dim: bool = False) -> None:
        """Tell something that belongs to the last step."""
        self._print(_wrapped(text, first=" " * _MARGIN), style="dim" if dim else "")

    def plain(self, text: str) -> None:
        """Tell a text of several lines as it is."""
        self.quiet()
        click.echo(text, file=self.out)

    def waiting(self, text: str) -> None:
        """Show what is being waited for; seen on a terminal only, and gone with the next line's turn."""
        if self._console is None:
            return
        if self._status is None:
            self._status = self._console.status(text)
            self._status.start()
        self._status.update(text)

    def quiet(self) -> None:
        """Take the sign of life away, for a process that writes to the terminal itself."""
        if self._status is not None:
            self._status.stop()
            self._status = None

    def _open(self) -> Console:
        from rich.console import Console  # noqa: PLC0415  a pipe needs none of it

        return Console(file=self.out, markup=False, highlight=False, emoji=False, soft_wrap=True)

    def _print(self, lines: str, *, style: str = "") -> None:
        if self._console is None:
            click.echo(lines, file=self.out)
            return
        from rich.text import Text  # noqa: PLC0415  as above

        margin = 0 if style == _TITLE else _MARGIN
        told = Text(lines[margin:], style=style)
        told.highlight_regex(_FIGURE, "cyan")
        self._console.print(Text.assemble((lines[:margin], "dim"), told))


def _wrapped(text: str, *, first: str) -> str:
    return textwrap.fill(
        text,
        COLUMNS,
        initial_indent=first,
        subsequent_indent=" " * _MARGIN,
        break_long_words=False,
        break_on_hyphens=False,
    )


def span(seconds: float) -> str:
    """Write a duration: `13 ms`, `1.24 s`."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"
