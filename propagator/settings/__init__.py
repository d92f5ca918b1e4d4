"""The settings of one server: strict, whole, and read once at start.

Takes what `config.find` found and hands on a frozen `Settings`, or every problem of the file at once. `tables`
is the whole key set, `text` writes it. `uplink.toml`, which `attach` writes, is read here as well.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, TypeVar

from pydantic import ValidationError

from propagator import config
from propagator.core.errors import InputError, Problem, StateError
from propagator.settings.tables import (
    TABLES,
    DownlinkTable,
    Kind,
    Listen,
    PortalTable,
    Section,
    Settings,
    Uplink,
    default_kind,
    kind_of,
)
from propagator.settings.text import render, render_link, render_uplink

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic_core import ErrorDetails

    from propagator.config import Found, Table

__all__ = [
    "UPLINK_FILE",
    "DownlinkTable",
    "Kind",
    "Listen",
    "PortalTable",
    "Settings",
    "Uplink",
    "default_kind",
    "load",
    "load_uplink",
    "render",
    "render_link",
    "render_uplink",
]

UPLINK_FILE: Final = "uplink.toml"


def load(found: Found) -> Settings:
    """Return the settings of a configuration. Raises InputError with every problem of it, each with its path."""
    if not found.exists:
        raise InputError(
            f"There is no configuration: {found.path} does not exist.",
            hint="Write one with `propagator init`, or name yours with --config.",
        )
    table = _with_defaults(found.table)
    return _validated(Settings, table, found.path, _unfit(table), hint=f"Correct {found.path}.")


def load_uplink(path: Path) -> Uplink | None:
    """Return the lead that `STATE/uplink.toml` names, None without the file; relative paths in it are beside it.

    Raises InputError if it holds something else, StateError if it cannot be read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise StateError(f"{path} cannot be read: {exc.strerror}.", hint="Run this as root.") from exc
    hint = "`propagator attach` with a new token writes the file again."
    uplink = _validated(Uplink, config.parse_toml(content, path), path, [], hint=hint)
    files = {key: path.parent / value for key in ("ca_file", "credential_file") if (value := getattr(uplink, key))}
    return uplink.model_copy(update=files)


def _with_defaults(table: Table) -> dict[str, object]:
    """Fill in what follows from other keys: a server is called by its id, and its kind follows from the role."""
    server = table.get("server")
    if not isinstance(server, Mapping):
        return dict(table)
    identity = server.get("id")
    name = identity if isinstance(identity, str) and identity else "-"  # without an id nothing is loaded at all
    return {**table, "server": {"name": name, "kind": default_kind(config.role(table)), **server}}


_EXTERNAL: Final = ("username", "password_file", "ca_file")


def _unfit(table: Table) -> list[Problem]:
    """Find keys that do not go together, whatever else is wrong with the file."""
    downlink = table.get("downlink")
    if not isinstance(downlink, Mapping):
        return []
    if downlink.get("broker", config.EMBEDDED) == config.EMBEDDED:
        text = 'is for an external broker only; remove it, or set broker = "mqtts://…"'
        return [Problem(f"downlink.{key}", text) for key in _EXTERNAL if key in downlink]
    if "username" in downlink and "password_file" not in downlink:
        return [Problem("downlink.password_file", "is missing; it goes with username")]
    if "password_file" in downlink and "username" not in downlink:
        return [Problem("downlink.username", "is missing; it goes with password_file")]
    return []


_AnyTable = TypeVar("_AnyTable", bound=Section)


def _validated(model: type[_AnyTable], table: Table, path: Path, more: list[Problem], *, hint: str) -> _AnyTable:
    problems = list(more)
    try:
        value = model.model_validate(table)
    except ValidationError as exc:
        problems = [_problem(model, detail) for detail in exc.errors(include_url=False)] + problems
    else:
        if not problems:
            return value
    count = "one problem" if len(problems) == 1 else f"{len(problems)} problems"
    raise InputError(f"{path} has {count}.", tuple(problems), hint=hint)


def _problem(model: type[Section], detail: ErrorDetails) -> Problem:
    """Say one validation error in our words: what is wrong, then what would do."""
    *folders, key = (str(part) for part in detail["loc"])
    home = TABLES[folders[0]] if folders else model
    path = ".".join([*folders, key or '""'])
    value, field = detail["input"], home.model_fields.get(key)
    match detail["type"]:
        case "extra_forbidden":
            return Problem(path, _unknown(home, key, list(TABLES) if model is Settings else []))
        case "missing":
            wrong = "is missing"
        case "too_short":
            wrong = "is empty"
        case "value_error":
            wrong = str(detail["ctx"]["error"])
        case "literal_error" if isinstance(value, str):
            wrong = f"{config.quoted(value)} is not known"
        case "greater_than_equal" | "less_than_equal" | "finite_number":
            wrong = f"{value} is out of range"
        case "string_pattern_mismatch":
            wrong = f"{config.quoted(str(value))} does not fit"
        case _:
            wrong = f"is {kind_of(value)}"
    return Problem(path, f"{wrong}; wanted: {field.description if field else 'another value'}")


def _unknown(home: type[Section], key: str, tables: list[str]) -> str:
    """Say where an unknown key belongs, or which known one it resembles, or which there are."""
    homes = [f"[{name}]" for name in tables if key in TABLES[name].model_fields]
    if homes:
        return f"unknown key here; it belongs under {' or '.join(homes)}"
    near = difflib.get_close_matches(key.lower(), home.model_fields, n=1)
    return f"unknown key; did you mean {near[0]}?" if near else f"unknown key; known are {', '.join(home.model_fields)}"
