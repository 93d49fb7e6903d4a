"""Asks all hosts that a name leads to, again and again, until they are clean or it is time to give up.

Decides nothing: `rounds` does.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable, Collection

import aiohttp
from yarl import URL

from mirror.cleanup.rounds import SETTLED_S, Round, Rounds
from mirror.cleanup.stay import CLEANED_PATH, CLEANED_TEXT
from mirror.errors import MirrorError
from mirror.settings.model import Address

# A name to its addresses. Raises: OSError.
Resolve = Callable[[str], Awaitable[Collection[str]]]

PERIOD_S = 2.0
# A host that is asked answers in a round trip; one that is down takes all of this.
ASK_TIMEOUT_S = 3.0
# 500 hosts that are all down take half a minute a round then, and no more sockets than a small process may have.
ASKED_AT_ONCE_COUNT = 50
# The C library may hold a thread for longer where no name server answers; a round does not wait for it, the end does.
RESOLVE_TIMEOUT_S = 10.0


class NotClean(MirrorError):
    """Not all hosts said in time that they are clean."""


async def wait(
    wait_for: Address,
    give_up_after_s: float,
    said: Callable[[str], None],
    *,
    resolve: Resolve | None = None,
    settled_s: float = SETTLED_S,
    period_s: float = PERIOD_S,
) -> int:
    """How many hosts are clean. `said` is told what changes. `resolve` None: by the machine. Raises: NotClean."""
    rounds = Rounds(wait_for.host, settled_s)
    begun_s = time.monotonic()
    standing = ""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ASK_TIMEOUT_S)) as session:
        try:
            async with asyncio.timeout(give_up_after_s):
                while not rounds.heard(
                    await _round(session, wait_for, resolve or _resolve), time.monotonic()
                ):
                    if rounds.standing != standing:
                        standing = rounds.standing
                        said(standing)
                    await asyncio.sleep(period_s)
        except TimeoutError:
            raise NotClean(rounds.failure(time.monotonic() - begun_s)) from None
    return rounds.clean_count


async def _resolve(name: str) -> Collection[str]:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(RESOLVE_TIMEOUT_S):
        found = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return {str(one[4][0]) for one in found}


async def _round(session: aiohttp.ClientSession, wait_for: Address, resolve: Resolve) -> Round:
    try:
        addresses = sorted(await resolve(wait_for.host))
    except OSError as exc:  # a timeout is one
        return Round({}, exc.strerror or "no name server answers")
    slots = asyncio.Semaphore(ASKED_AT_ONCE_COUNT)
    async with asyncio.TaskGroup() as tasks:
        asked = {
            address: tasks.create_task(_trouble(session, slots, Address(address, wait_for.port)))
            for address in addresses
        }
    return Round({address: task.result() for address, task in asked.items()})


async def _trouble(session: aiohttp.ClientSession, slots: asyncio.Semaphore, host: Address) -> str | None:
    """Why this host is not clean, None: it is."""
    url = URL.build(scheme="http", host=host.host, port=host.port, path=CLEANED_PATH)
    try:
        async with slots, session.get(url, allow_redirects=False) as answer:
            text = (await answer.content.readline()).decode(errors="replace")
    except TimeoutError:
        return f"no answer in {ASK_TIMEOUT_S:g} s at port {host.port}"
    except aiohttp.ClientConnectorError as exc:
        why = os.strerror(exc.os_error.errno) if exc.os_error.errno else exc.os_error
        return f"port {host.port} is not open: {why}"
    except (aiohttp.ClientError, OSError, ValueError) as exc:  # ValueError: a line without an end
        return f"no answer at port {host.port}: {exc}"
    if answer.status != 200 or text != CLEANED_TEXT:
        return f"another program answers at port {host.port} (the daemon, which has not ended yet?)"
    return None
