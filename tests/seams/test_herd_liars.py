"""Who sent wrong bytes of one digest is believed about no other."""

from __future__ import annotations

import random

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler

from mirror.oci.digest import Digest
from tests.support.herd_hosts import MIB, PullFailed, herd
from tests.support.meddling import Meddle, Meddling

LIED_OF = random.Random(21).randbytes(4 * MIB + 77)
OTHER = random.Random(22).randbytes(3 * MIB + 77)


async def test_a_liar_is_not_asked_for_another_digest() -> None:
    meddling = Meddling(LIED_OF, Meddle.WRONG_BYTES)
    asked: list[str] = []

    @web.middleware
    async def lie(request: web.Request, handler: Handler) -> web.StreamResponse:
        if str(Digest.of(LIED_OF)) in request.path:
            answer: web.StreamResponse = await meddling.middleware(request, handler)
            return answer
        if str(Digest.of(OTHER)) in request.path:
            asked.append(f"{request.method} {request.headers.get('Range', '')}")
        return await handler(request)

    async with herd(0, LIED_OF, OTHER) as bed:
        await bed.host(LIED_OF, OTHER, middleware=lie)
        host = await bed.host(verify_always=True)
        with pytest.raises(PullFailed):
            await host.pull(Digest.of(LIED_OF), len(LIED_OF))
        other = await host.pull(Digest.of(OTHER), len(OTHER))
        assert (bytes(other.data), other.origin_bytes) == (OTHER, len(OTHER))
        assert not asked
