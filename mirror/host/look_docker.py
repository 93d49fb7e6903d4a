"""Asks Docker what it is, over its socket: one GET that changes nothing."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import aiohttp

from mirror.host.docker_info import docker_facts
from mirror.host.facts import DockerFacts

# It answers in milliseconds; while it starts, it holds the connection.
ANSWER_LIMIT_S = 5.0
# With hundreds of containers it has some kilobytes.
INFO_MAX_BYTES = 2**20
# Over a Unix socket any name will do.
_INFO_URL = "http://docker/info"


async def look_docker(sock: Path, *, default_sock: str) -> tuple[DockerFacts | None, str]:
    """What it says, or why a socket that is there does not say it. `default_sock`: as of `docker_facts`."""
    try:
        if not await asyncio.to_thread(sock.exists):
            return None, ""
        async with asyncio.timeout(ANSWER_LIMIT_S):
            info = await _info(sock)
    except TimeoutError:
        return None, f"{sock} does not answer within {ANSWER_LIMIT_S:.0f} s"
    except (OSError, aiohttp.ClientError, ValueError, RecursionError) as exc:
        return None, f"{sock}: {exc}"
    return docker_facts(info, default_sock=default_sock), ""


async def _info(sock: Path) -> object:
    body = bytearray()
    connector = aiohttp.UnixConnector(str(sock))
    async with aiohttp.ClientSession(connector=connector) as session, session.get(_INFO_URL) as response:
        response.raise_for_status()
        async for chunk in response.content.iter_chunked(2**16):
            body += chunk
            if len(body) > INFO_MAX_BYTES:
                raise ValueError("its answer has no end")
    return json.loads(body)
