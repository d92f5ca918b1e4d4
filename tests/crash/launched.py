"""The installed command, as it is traced: it also says, to a file of marks, whose it is and what it publishes.

A mark is one write(2), so that it stands in the trace among the steps on the disk. A word to a broker is marked before
it leaves: whatever is lost after that, somebody may have heard it.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from propagator.__main__ import main as command
from propagator.bus import mqtt

if TYPE_CHECKING:
    from typing import NoReturn

MARKS: Final = "TEST_CRASH_MARKS"
WEAKENED: Final = "TEST_CRASH_WEAKENED"

_SCRIPT: Final = """\
#!{python}
import sys
sys.path.insert(0, {tree!r})
from tests.crash.launched import main
main()
"""


def write_script(path: Path) -> Path:
    """Write the program that stands for the command."""
    path.write_text(_SCRIPT.format(python=sys.executable, tree=str(Path(__file__).parents[2])))
    path.chmod(0o755)
    return path


def say(kind: str, server: str, **said: str) -> None:
    """Make a mark."""
    marks = os.open(os.environ[MARKS], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(marks, f"{json.dumps({'kind': kind, 'server': server, **said})}\n".encode())
    finally:
        os.close(marks)


def main() -> NoReturn:
    """Run one command."""
    server = next(Path(word).stem for at, word in enumerate(sys.argv) if sys.argv[at - 1] == "--config")
    say("begun", server, words=" ".join(sys.argv[1:]))
    publish = mqtt._MqttSession.publish

    async def published(session: mqtt._MqttSession, topic: str, payload: bytes, *, retain: bool = False) -> None:
        say("published", server, topic=topic, payload=payload.decode())
        await publish(session, topic, payload, retain=retain)

    mqtt._MqttSession.publish = published  # type: ignore[method-assign,assignment]
    if WEAKENED in os.environ:
        from tests.crash import weaken  # noqa: PLC0415  only where the harness itself is tried

        weaken.apply(os.environ[WEAKENED])
    command()
