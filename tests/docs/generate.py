"""Write docs/schemas, asyncapi.yaml and diagnostics.md anew: `make docs`, or `python -m tests.docs.generate`.

They are made of the models and the catalogue in propagator/core, and part of the interface: look at what a change of
them changes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.docs import asyncapi, diagnostics, schemas

FOLDER: Final = Path(__file__).resolve().parents[2] / "docs"


def made() -> dict[str, str]:
    """Give every generated file by its path below docs/."""
    return {
        **{f"schemas/{name}": text for name, text in schemas.made().items()},
        "asyncapi.yaml": asyncapi.made(),
        "diagnostics.md": diagnostics.made(),
    }


def main() -> None:
    """Write all files, and remove those that are no longer made."""
    files = made()
    (FOLDER / "schemas").mkdir(exist_ok=True)
    for path in (FOLDER / "schemas").glob("*.json"):
        if f"schemas/{path.name}" not in files:
            path.unlink()
    for name, text in files.items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
