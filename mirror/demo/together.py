"""Several coroutines at once, where the first failure is the one to tell."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable

from mirror.errors import MirrorError


async def together(coroutines: Iterable[Coroutine[None, None, None]]) -> None:
    """The first failure ends the others and is raised as it is, without a group around it. Raises: MirrorError."""
    failure: MirrorError | None = None
    try:
        async with asyncio.TaskGroup() as tasks:
            for coroutine in coroutines:
                tasks.create_task(coroutine)
    except* MirrorError as failures:
        failure = next(error for error in failures.exceptions if isinstance(error, MirrorError))
    if failure is not None:
        raise failure
