"""The processes of a benchmark: started so that they die with us, spoken with in lines, ended for certain."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from propagator.demo.processes import bound

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

READY: Final = b"ready\n"
START_S: Final = 240.0
END_S: Final = 15.0
TICKS: Final = os.sysconf("SC_CLK_TCK")


class Child:
    """One process. It says `ready` once, then answers each line that it is told with one of its own."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.pid = process.pid
        self._process = process
        self._log = log

    async def ready(self) -> None:
        """Wait until it says that it is. Raises RuntimeError if it ends instead."""
        async with asyncio.timeout(START_S):
            if (line := await self._line()) != READY:
                raise RuntimeError(f"a process did not start, but said {line!r} and: {self._log.read_text()[-1000:]}")

    async def tell(self, line: str) -> str:
        """Tell it a line; give its answer."""
        stdin = self._process.stdin
        if stdin is None:
            raise RuntimeError("this process takes no lines")
        stdin.write(f"{line}\n".encode())
        return (await self._line()).decode().strip()

    async def _line(self) -> bytes:
        stdout = self._process.stdout
        return b"" if stdout is None else await stdout.readline()

    async def end(self) -> None:
        """SIGTERM, and SIGKILL where that does not end it."""
        if self._process.returncode is None:
            self._process.terminate()
            try:
                async with asyncio.timeout(END_S):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
                await self._process.wait()


@asynccontextmanager
async def python(module: str, *arguments: str, log: Path) -> AsyncIterator[Child]:
    """Run a module of ours as long as the block lasts."""
    async with program(sys.executable, "-m", module, *arguments, log=log) as child:
        yield child


@asynccontextmanager
async def program(*command: str, log: Path) -> AsyncIterator[Child]:
    """Run a program as long as the block lasts; what it says on stderr goes to `log`."""
    pipe = asyncio.subprocess.PIPE
    with log.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(*bound(command), stdin=pipe, stdout=pipe, stderr=stderr)
    child = Child(process, log)
    try:
        yield child
    finally:
        await child.end()


async def answer_lines(answer: Callable[[str], Awaitable[str]], *work: Coroutine[object, object, None]) -> None:
    """In a child: say `ready`, then answer lines until there are no more; `work` goes on as long as that."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(coroutine) for coroutine in work]
        say("ready")
        while line := await reader.readline():
            say(await answer(line.decode().strip()))
        for task in tasks:
            task.cancel()


async def nothing(line: str) -> str:
    """Answer a line with itself."""
    return line


def say(line: str) -> None:
    """Say a line to whoever started this process."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def cpu_s(pid: int) -> float:
    """Give the processor time that a process has used, in seconds (proc(5), stat, fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS
