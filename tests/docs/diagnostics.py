"""docs/diagnostics.md: the verdicts of a diagnosis as tables, made of the catalogue in propagator/core/diagnosis."""

from __future__ import annotations

import re
from typing import Final

from propagator.core.diagnosis import CATALOGUE, Code, Side
from propagator.core.diagnosis.catalogue import CERTAIN_ALONE, CONFIDENCE

_HEAD: Final = """\
# Verdicts of a diagnosis

`propagator diagnose` (with `--portal`: the way to the Registration Portal) ends with one of these codes, says how sure
it is and why, and what to do. The codes are part of the interface: `propagator diagnose --json` and `status --json`
carry them, and none changes its meaning.

*certain*: nothing else fits what was seen. *probable*: the likeliest of several. *possible*: one of many. Where it is
not certain, the last column says what would settle it. Words in angle brackets are filled in from what was seen. A
remedy is something to be done by a person: a diagnosis changes nothing.
"""
_TITLES: Final = {
    Side.HERE: "To be done on this server",
    Side.LEAD: "To be done on the lead's host",
    Side.PATH: "To be done in the network between",
    Side.PORTAL: "To be done at the Registration Portal",
    Side.NOWHERE: "Nothing to be done",
}


def made() -> str:
    """Give the whole document."""
    return "\n".join([_HEAD, *(_table(side) for side in _TITLES)])


def _table(side: Side) -> str:
    codes = [code for code in Code if CATALOGUE[code].side is side]
    head = "| code | meaning | proof | how sure | remedy | settled by |\n|---|---|---|---|---|---|"
    return "\n".join([f"## {_TITLES[side]}", "", head, *map(_row, codes), ""])


def _row(code: Code) -> str:
    entry = CATALOGUE[code]
    sure = ", ".join(CONFIDENCE.get(code, CERTAIN_ALONE))
    cells = (f"`{code}`", f"{entry.title}. {entry.cause}", entry.proof, sure, entry.advice, entry.settled_by)
    return f"| {' | '.join(_plain(cell) for cell in cells)} |"


def _plain(text: str) -> str:
    spaced = re.sub(r"(?<=\w)(?={)", " ", text)  # hop and rule bring a space of their own, where they are known
    return spaced.replace("|", "\\|").replace("{", "&lt;").replace("}", "&gt;")
