"""A registry whose place a captive portal takes: its page is not handed around."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from mirror.oci.digest import Digest
from tests.support.herd_hosts import MIB, Origin, PullFailed, herd

LAYER = b"\x1f\x8b" + bytes(3 * MIB)
PAGE = b"<html>".ljust(len(LAYER), b".")
GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"


class Portal(Origin):
    """Sends its page to the first who asks, and the blob to everybody after."""

    async def read(self, who: str, digest: Digest, offset: int) -> AsyncIterator[bytes]:
        self._blobs[digest] = LAYER if self.opened else PAGE
        async for step in super().read(who, digest, offset):
            yield step


async def test_what_cannot_be_of_its_type_is_shown_to_nobody() -> None:
    digest = Digest.of(LAYER)
    async with herd(3, LAYER) as bed:
        bed.origin = Portal(LAYER)
        for host in bed.hosts:
            host.media_type, host.origin = GZIP, bed.origin
        claimant, *waiters = bed.hosts
        first = asyncio.ensure_future(claimant.pull(digest, len(LAYER)))
        while not bed.origin.opened and not first.done():
            await asyncio.sleep(0)
        pulls = await asyncio.gather(*(host.pull(digest, len(LAYER)) for host in waiters))
        with pytest.raises(PullFailed):
            await first
        assert digest in claimant.mirror.store.discarded
        assert claimant.mirror.metrics.value("peili_peer_served_bytes_total") == 0
        assert [bytes(pull.data) == LAYER for pull in pulls] == [True, True]
