"""How blocking work on a disk runs beside the event loop. Leaves no thread behind that still works."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def run_to_the_end(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Runs `function` in a thread. Cancellation takes effect when it is done, never before.

    A thread cannot be stopped: were it abandoned, the caller would close a descriptor that the thread goes on
    writing to, and the number may belong to another file by then.
    """
    future = asyncio.get_running_loop().run_in_executor(None, partial(function, *args, **kwargs))
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError:
                continue  # The first one is raised below.
        raise
