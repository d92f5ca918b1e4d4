"""`python -m tests.fuzz --minutes 10`: every reader of `targets.py` fuzzed for this long, two at once.

--target envelope     one alone, in this process
--seeds               write the seeds of the corpus anew, from the golden vectors and the examples

Guided by what is reached in the code where atheris is installed (the extra `fuzz`), by chance alone where it is
not. What fails is put into the corpus; `make test` tries it first from then on.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fuzz.targets import Target

BATCH = 500
NAMES = (
    *("envelope", "payload", "json", "topic", "token", "code", "statement"),
    *("configuration", "uplink", "registration-toml", "registration-json"),
)


def main() -> int:
    """Do as the command line says. 0: nothing was found; 1: what was is printed and kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--target", choices=NAMES)
    parser.add_argument("--seeds", action="store_true")
    asked = parser.parse_args()
    if asked.seeds:
        return _plant()
    if asked.target is not None:
        return _fuzz(asked.target, 60 * asked.minutes)
    with ThreadPoolExecutor(2) as pool:
        minutes = 2 * asked.minutes / len(NAMES)
        codes = list(pool.map(lambda name: _process(name, minutes), NAMES))
    return int(any(codes))


def _process(name: str, minutes: float) -> int:
    command = [sys.executable, "-m", "tests.fuzz", "--target", name, "--minutes", f"{minutes:g}"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    told = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith(("stat::number", "Done "))]
    sys.stdout.write(
        f"{name}: {'; '.join(told)}\n" if done.returncode == 0 else f"{name}: FAILED\n{done.stdout}{done.stderr}\n"
    )
    sys.stdout.flush()
    return done.returncode


def _plant() -> int:
    from tests.fuzz.runs import plant  # noqa: PLC0415  after atheris, where that is
    from tests.fuzz.targets import TARGETS, seeds  # noqa: PLC0415  as above

    for target in TARGETS:
        plant(target, seeds()[target.name])
    return 0


def _fuzz(name: str, duration_s: float) -> int:
    guided = find_spec("atheris") is not None
    with _instrumented() if guided else contextlib.nullcontext():
        from tests.fuzz import runs  # noqa: PLC0415  what is imported here is instrumented
        from tests.fuzz.targets import TARGETS  # noqa: PLC0415  as above

    (target,) = (target for target in TARGETS if target.name == name)
    assert [target.name for target in TARGETS] == list(NAMES)
    for content in runs.kept(target).values():
        target.check(content)
    watched = runs.kept_when_failing(target)
    if guided:
        _guided(watched, duration_s)
    return _by_chance(watched, duration_s)


def _instrumented() -> contextlib.AbstractContextManager[object]:
    instrumented: contextlib.AbstractContextManager[object] = import_module("atheris").instrument_imports(
        include=["propagator", "joserfc", "rfc8785"], enable_loader_override=False
    )
    return instrumented


def _guided(target: Target, duration_s: float) -> None:
    """Let atheris choose, until the time is up; it ends the process."""
    from tests.fuzz.runs import tried  # noqa: PLC0415  as above

    atheris = import_module("atheris")
    one: Callable[[bytes], object] = tried(target, 1).hypothesis.fuzz_one_input  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory() as crashes:
        options = [f"-max_total_time={duration_s:.0f}", "-max_len=8192", "-len_control=0", "-print_final_stats=1"]
        atheris.Setup(["fuzz", *options, f"-artifact_prefix={crashes}/"], one)
        atheris.Fuzz()


def _by_chance(target: Target, duration_s: float) -> int:
    from tests.fuzz.runs import tried  # noqa: PLC0415  as above

    until_s = time.monotonic() + duration_s
    runs = 0
    while time.monotonic() < until_s:
        tried(target, BATCH, derandomize=False)()
        runs += BATCH
    sys.stdout.write(f"Done {runs} runs\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
