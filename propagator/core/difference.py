"""What an overwrite changed: one line per member of the registration, before and after. Free of pydantic."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TypeAlias

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"
JsonObject: TypeAlias = dict[str, "JsonValue"]


@dataclass(frozen=True, slots=True)
class Change:
    """One member that differs: its dotted path, and its text before and after (None: not there)."""

    path: str
    before: str | None
    after: str | None


def between(before: JsonObject | None, after: JsonObject | None) -> tuple[Change, ...]:
    """List every member that differs, sorted by path. A missing registration has no members."""
    old, new = dict(_leaves("", before or {})), dict(_leaves("", after or {}))
    return tuple(
        Change(path, _text(old, path), _text(new, path))
        for path in sorted(old.keys() | new.keys())
        if _written(old, path) != _written(new, path)
    )


def _leaves(path: str, value: JsonValue) -> list[tuple[str, JsonValue]]:
    if isinstance(value, dict):
        return [leaf for name, member in value.items() for leaf in _leaves(f"{path}.{name}" if path else name, member)]
    return [(path, value)]


def _written(leaves: JsonObject, path: str) -> str | None:
    """Give a value as JSON: what is compared, because `["a, b"]` and `["a", "b"]` read the same to a person."""
    return json.dumps(leaves[path], ensure_ascii=False) if path in leaves else None


def _text(leaves: JsonObject, path: str) -> str | None:
    value = leaves.get(path)
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(map(str, value))
    return _written(leaves, path)
