"""The network between every shadow and the lead: a process with one TCP link for each, stopped and healed by a line.

    python -m tests.soak.links LEAD_PORT PORT...

`NUMBER cut` ends what stands and everything that comes; `NUMBER stalled` delivers nothing more and closes nothing, of
new connections neither; `NUMBER open` heals: what waited is delivered.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from enum import StrEnum
from typing import TYPE_CHECKING

from benchmarks import children

if TYPE_CHECKING:
    from collections.abc import Coroutine

HOST = "127.0.0.1"
_BACKLOG = 200
_PIECE = 65_536


class Way(StrEnum):
    """How a link is."""

    OPEN = "open"
    CUT = "cut"
    STALLED = "stalled"


class Link:
    """The way of one shadow."""

    def __init__(self, lead_port: int) -> None:
        self._lead_port = lead_port
        self._way = Way.OPEN
        self._flows = asyncio.Event()
        self._flows.set()
        self._ends: set[asyncio.StreamWriter] = set()

    def turn(self, way: Way) -> None:
        self._way = way
        if way is Way.STALLED:
            self._flows.clear()
        else:
            self._flows.set()
        if way is Way.CUT:
            for end in self._ends:
                end.transport.abort()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection until either end, or the link, ends it."""
        ends = {writer}
        self._ends.add(writer)
        try:
            with suppress(OSError):
                await self._flows.wait()
                if self._way is Way.CUT:
                    return
                there, back = await asyncio.open_connection(HOST, self._lead_port)
                ends.add(back)
                self._ends.add(back)
                await self._both(self._pump(reader, back), self._pump(there, writer))
        finally:
            for end in ends:
                end.transport.abort()
            self._ends -= ends

    async def _both(self, *pumps: Coroutine[object, object, None]) -> None:
        """Run until one of them ends: a connection of which one half is gone is gone."""
        tasks = [asyncio.ensure_future(pump) for pump in pumps]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_PIECE):
            await self._flows.wait()
            writer.write(data)
            await writer.drain()
        await self._flows.wait()  # a goodbye does not come through either


async def _serve(lead_port: int, ports: list[int]) -> None:
    links = [Link(lead_port) for _ in ports]
    for link, port in zip(links, ports, strict=True):
        await asyncio.start_server(link.carry, HOST, port, backlog=_BACKLOG)

    async def turn(line: str) -> str:
        number, way = line.split()
        links[int(number)].turn(Way(way))
        return line

    await children.answer_lines(turn)


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), [int(port) for port in sys.argv[2:]]))
