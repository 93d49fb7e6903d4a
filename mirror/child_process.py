"""The end of a child process that is not waited for any longer. Starts none."""

from __future__ import annotations

import asyncio
import contextlib

# A killed one is gone within milliseconds.
GONE_MAX_S = 1.0
_READ_BYTES = 64 * 1024


async def kill(process: asyncio.subprocess.Process) -> None:
    """Returns when it is gone, or after GONE_MAX_S. Nothing is done to one that has ended.

    asyncio tells that a process has ended when its pipes have ended, too (to 3.11.2, measured): a full pipe, which it
    does not read by itself, is read here. One that a process of its own holds open is given up."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(GONE_MAX_S):
            for pipe in (process.stdout, process.stderr):
                while pipe is not None and await pipe.read(_READ_BYTES):
                    pass
            await process.wait()
