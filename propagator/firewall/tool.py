"""The tools that list what the kernel holds: each with a deadline and a bound on its output, and no input."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import time
from typing import Final

DEADLINE_S: Final = 10.0
"""For each tool: `nft` takes a second for a set of 100,000 elements."""

OUTPUT_LIMIT: Final = 8 * 1024 * 1024
"""Bytes of each text: some 50,000 rules."""

PATH: Final = "/usr/sbin:/sbin:/usr/bin:/bin"


def run(words: list[str]) -> tuple[str | None, str]:
    """Run a tool; gives its output, or None and why there is none."""
    program = shutil.which(words[0], path=PATH)
    if program is None:
        return None, f"{words[0]} is not installed"
    with subprocess.Popen(
        [program, *words[1:]],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={"PATH": PATH, "LC_ALL": "C"},
    ) as process:
        assert process.stdout is not None  # noqa: S101  for mypy: it is a pipe
        output, why = _drain(process.stdout.fileno())
        if why:
            process.kill()
        code = process.wait()
    if why:
        return None, why
    if code:
        return None, f"{words[0]} ended with {code}"
    return output.decode("utf-8", "replace"), ""


def _drain(descriptor: int) -> tuple[bytes, str]:
    """Read to the end, or to the bound or the deadline, which is said."""
    found = bytearray()
    end_s = time.monotonic() + DEADLINE_S
    while (left_s := end_s - time.monotonic()) > 0:
        if not select.select([descriptor], [], [], left_s)[0]:
            break
        part = os.read(descriptor, 65536)
        if not part:
            return bytes(found), ""
        found += part
        if len(found) > OUTPUT_LIMIT:
            return b"", f"it lists more than {OUTPUT_LIMIT} bytes"
    return b"", f"it did not end within {DEADLINE_S:g} s"
