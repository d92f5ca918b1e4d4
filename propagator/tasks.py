"""Tasks that live and die together."""

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
