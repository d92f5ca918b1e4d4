"""The text of a configuration, as `init` and `attach` write it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, Literal

from propagator import config
from propagator.config import Address
from propagator.settings.tables import TABLES, Kind, ServerTable, Settings, Uplink, default_kind

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from propagator.config import Role
    from propagator.settings.tables import Section


def render_uplink(uplink: Uplink) -> str:
    """Return the text of `uplink.toml`; `load_uplink` gives the same value back."""
    lines = ["# Written by `propagator attach`: the lead that this server follows."]
    lines += _lines(Uplink, {key: getattr(uplink, key) for key in Uplink.model_fields})
    return "\n".join(lines) + "\n"


def render(  # noqa: PLR0913  the options of `init`
    *,
    role: Role,
    server_id: str,
    name: str = "",
    kind: Kind | None = None,
    state_dir: Path = config.DEFAULT_STATE_DIR,
    listen: str = "[::]:8883",
) -> str:
    """Return the text of a commented configuration with every key of the role, as `init` writes it.

    Nothing is checked here: `load` the text to have every problem of the options named.
    """
    server = {"id": server_id, "name": name or server_id, "kind": kind or default_kind(role)}
    parts = [_HEAD, f"# {Settings.model_fields['state_dir'].description}", f"state_dir = {_literal(state_dir)}"]
    parts += ["", "[server]", *_lines(ServerTable, server)]
    if role in ("lead", "relay"):
        parts += ["", render_link("downlink", listen=listen)]
    if role in ("shadow", "relay"):
        parts += ["", render_link("uplink")]
    for table in ("portal", "log", "metrics", "web"):
        parts += ["", f"[{table}]", *_lines(TABLES[table], {})]
    return "\n".join(parts) + "\n"


def render_link(link: Literal["uplink", "downlink"], *, listen: str = "[::]:8883") -> str:
    """Return the table of one link, without a final line end: what `init` adds where a second link is wanted."""
    values = {"listen": listen} if link == "downlink" else {}
    return "\n".join([f"[{link}]", *_lines(TABLES[link], values)])


_HEAD: Final = """\
# Configuration of the propagator. Every key is here; a commented one shows an example.
# A [downlink] makes this server a lead, an [uplink] a shadow, both a relay, none leaves it alone.
"""


def _lines(table: type[Section], values: Mapping[str, object]) -> list[str]:
    """Write the keys of a table, each under its description; one that has an example and no value is commented out."""
    lines: list[str] = []
    for key, field in table.model_fields.items():
        value = values.get(key, field.default)
        lines.append(f"# {field.description}")
        if value is None and field.examples:
            lines.append(f"# {key} = {_literal(field.examples[0])}")
        else:
            lines.append(f"{key} = {_literal(value)}")
    return lines


def _literal(value: object) -> str:
    """Write a TOML value: text (paths and addresses too), boolean, number or list of texts; None is empty text."""
    match value:
        case bool():
            return str(value).lower()
        case int():
            return str(value)
        case float():
            return f"{value:g}"
        case tuple() if not isinstance(value, Address):
            return f"[{', '.join(_literal(item) for item in value)}]"
        case _:  # JSON's text is TOML's but for DEL
            return json.dumps("" if value is None else str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
