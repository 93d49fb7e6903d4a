"""Hashes the pieces of one blob in order, in threads, as far as they are here. Says how far, and whether all is right.

Hashes only while it is wanted: bytes that the own containerd fetches from the origin it verifies itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mirror.herd.own_bytes import OwnBytes
from mirror.oci.byterange import ByteSpan
from mirror.oci.digest import Digest
from mirror.swarm.bitfield import ones_from
from mirror.swarm.events import DigestMatched, DigestMismatched, Event, PrefixHashed
from mirror.swarm.pieces import PieceLayout

# About 10 ms of a thread: small enough to stop soon, and so large that handing it over costs nothing beside it. The end
# of a blob waits for at most so much.
PORTION_BYTES = 8 * 1024 * 1024


class Digesting:
    def __init__(
        self,
        digest: Digest,
        layout: PieceLayout,
        own: OwnBytes,
        tell: Callable[[Event], None],
        *,
        portion_bytes: int = PORTION_BYTES,
    ) -> None:
        self._digest = digest
        self._portion_bytes = portion_bytes
        self._layout = layout
        self._own = own
        self._tell = tell
        self._hasher = digest.hasher()
        self._hashed_count = 0
        # The first piece behind those that are being hashed now.
        self._hashing_stop = 0
        self._generation = 0
        self._is_wanted = False
        self._is_over = False
        # What was here at the last look.
        self._seen = 0
        self._dropped: set[int] = set()
        self._changed = asyncio.Event()

    def look(self, *, is_wanted: bool) -> None:
        """Pieces came, or it is wanted now."""
        mask = self._own.mask
        if is_wanted is self._is_wanted and mask == self._seen:
            return
        self._is_wanted, self._seen = is_wanted, mask
        if is_wanted and not self._is_over and self._is_worth_a_thread():
            self._changed.set()

    def _is_worth_a_thread(self) -> bool:
        """A full portion is here, or all that is left."""
        ahead_count = ones_from(self._own.mask, self._hashed_count)
        left_count = self._layout.count - self._hashed_count
        return 0 < min(self._portion_count(), left_count) <= ahead_count

    def _portion_count(self) -> int:
        return max(1, self._portion_bytes // self._layout.piece_bytes)

    def dropped(self, pieces: tuple[int, ...]) -> None:
        """These came wrong: what was hashed from the first of them on is void."""
        self._dropped.update(pieces)
        if self._is_over or min(pieces) < max(self._hashed_count, self._hashing_stop):
            self._begin_again()

    def _begin_again(self) -> None:
        self._generation += 1
        self._hasher = self._digest.hasher()
        self._hashed_count = self._hashing_stop = 0
        self._is_over = False
        self._changed.set()

    async def run(self) -> None:
        """Until cancelled. Raises: OSError where what was written cannot be read."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            while self._is_wanted and not self._is_over and self._is_worth_a_thread():
                await self._hash_portion()

    async def _hash_portion(self) -> None:
        layout, first = self._layout, self._hashed_count
        count = min(self._portion_count(), layout.count - first)
        generation, hasher = self._generation, self._hasher
        self._hashing_stop = first + count
        await self._own.hash_into(hasher, layout.span(first, first + count))
        if generation != self._generation:
            return
        self._hashed_count = first + count
        self._tell(PrefixHashed(self._hashed_count))
        if generation == self._generation and self._hashed_count == layout.count:
            await self._judge(generation)

    async def _judge(self, generation: int) -> None:
        self._is_over = True
        if self._hasher.hexdigest() == self._digest.encoded:
            known = await self._own.piece_digests(sorted(self._dropped))
            if generation == self._generation:
                self._tell(DigestMatched(known))
            return
        digests = await self._own.piece_digests(range(self._layout.count))
        if generation == self._generation and len(digests) == self._layout.count:
            self._tell(DigestMismatched(tuple(digests[piece] for piece in range(self._layout.count))))

    async def is_right(self) -> bool:
        """Hashes all anew: all of it must be here. Raises: OSError."""
        hasher = self._digest.hasher()
        await self._own.hash_into(hasher, ByteSpan(0, self._layout.size_bytes))
        return hasher.hexdigest() == self._digest.encoded
