"""Tasks that live and die together, and what they do when it is due."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Coroutine


async def together(**coroutines: Coroutine[object, object, None]) -> None:
    """Run coroutines as named tasks until all end; the first error ends the others and is raised as it is.

    Whoever is cancelled at the moment of an error is cancelled: the error would make it try again instead of stopping.
    """
    task = asyncio.current_task()
    cancelled = 0 if task is None else task.cancelling()
    try:
        async with asyncio.TaskGroup() as group:
            started = [group.create_task(coroutine, name=name) for name, coroutine in coroutines.items()]
            await asyncio.wait(started)  # in here the group takes back the cancellation by which it ends the others
    except BaseExceptionGroup as errors:
        if task is not None and task.cancelling() > cancelled:
            raise asyncio.CancelledError from errors
        raise errors.exceptions[0] from None


class Due:
    """Something that is done when it is wanted, and at most once in `period_s`. Times are those of the loop."""

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._wanted = False
        self._done_s = float("-inf")

    def want(self) -> None:
        """Want it done as soon as that is allowed."""
        self._wanted = True

    @property
    def at_s(self) -> float:
        """When it is to be done; infinite: nobody wants it."""
        return self._done_s + self._period_s if self._wanted else float("inf")

    def claim(self, now_s: float) -> bool:
        """Say whether it is to be done now; whoever asks then does it."""
        if now_s < self.at_s:
            return False
        self._wanted, self._done_s = False, now_s
        return True
