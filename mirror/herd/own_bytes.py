"""Where the bytes of one blob's pieces lie on this host: in the spool, or in a file of the own containerd's.

Knows descriptors and pieces, and neither why a piece is here nor whether it is right. Nothing is closed while somebody
holds it: a descriptor's number may be another file's a moment later.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mirror.oci.byterange import ByteSpan
from mirror.store.disk_work import run_to_the_end
from mirror.store.file_hash import hash_span
from mirror.swarm.bitfield import mask_of
from mirror.swarm.pieces import PieceLayout

if TYPE_CHECKING:
    from hashlib import _Hash

# Below, the blob lies in memory: no file, no thread. Manifests, configs, small layers.
IN_MEMORY_MAX_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Portion:
    """Bytes `span` of the blob, at the same place of an open file."""

    descriptor: int
    span: ByteSpan


@dataclass(frozen=True, slots=True)
class SpoolSpace:
    """A file of the blob's size. `give_back` is called once."""

    descriptor: int
    give_back: Callable[[], None]


MakeSpace = Callable[[], Awaitable[SpoolSpace]]


class _Hold:
    """Any of them. Not a generator: each piece and each portion is held several times."""

    __slots__ = ("_own",)

    def __init__(self, own: OwnBytes) -> None:
        self._own = own

    def __enter__(self) -> None:
        self._own.held()

    def __exit__(self, *_: object) -> None:
        self._own.let_go()


class OwnBytes:
    """`make_space` makes the spool file when the first byte is to be written. Raises: what it raises."""

    def __init__(self, layout: PieceLayout, make_space: MakeSpace) -> None:
        self._layout = layout
        self._make_space = make_space
        self._making = asyncio.Lock()
        self._space: SpoolSpace | None = None
        self._spooled = 0
        self._own: int | None = None
        self._owned = 0
        # The own containerd's file is the blob, verified: the spool is not needed any more.
        self._stands_whole = False
        # What is to be closed once nobody uses it.
        self._retired: list[Callable[[], None]] = []
        self._holds_count = 0
        self._hold = _Hold(self)
        self._is_closed = False

    # -- pieces ----------------------------------------------------------------------------------------------------

    @property
    def mask(self) -> int:
        return self._spooled | self._owned

    def forget(self, mask: int) -> None:
        """These are not the blob's."""
        self._spooled &= ~mask
        self._owned &= ~mask

    def spooled(self, piece: int) -> None:
        """It was written whole."""
        if not self._stands_whole:
            self._spooled |= 1 << piece

    def owned(self, piece: int) -> None:
        """It stands in the file of the own containerd's."""
        assert self._own is not None
        self._owned |= 1 << piece

    def portions(self, span: ByteSpan) -> list[Portion] | None:
        """In order; None: not all of it is here."""
        pieces = self._layout.touched(span)
        wanted = mask_of(pieces.start, pieces.stop)
        if wanted & ~self.mask:
            return None
        if len(pieces) == 1:
            return [Portion(self._descriptor(pieces.start), span)]
        found: list[Portion] = []
        for piece in pieces:
            # The own containerd's file first: its pages are in memory, and the spool's may be dropped.
            descriptor = self._descriptor(piece)
            whole = self._layout.span(piece, piece + 1)
            part = ByteSpan(max(whole.start, span.start), min(whole.stop, span.stop))
            if found and found[-1].descriptor == descriptor:
                part = ByteSpan(found.pop().span.start, part.stop)
            found.append(Portion(descriptor, part))
        return found

    def _descriptor(self, piece: int) -> int:
        if self._owned >> piece & 1:
            assert self._own is not None
            return self._own
        assert self._space is not None
        return self._space.descriptor

    # -- files -----------------------------------------------------------------------------------------------------

    def hold(self) -> AbstractContextManager[None]:
        """Nothing is closed meanwhile."""
        return self._hold

    def held(self) -> None:
        """Only its holds call this, and the next."""
        self._holds_count += 1

    def let_go(self) -> None:
        self._holds_count -= 1
        if not self._holds_count:
            if self._is_closed:
                # Who wrote meanwhile had made it.
                self._retire_space()
            self._close_retired()

    def take_own(self, descriptor: int) -> None:
        """Owned from now on. Pieces that stand in another file before it are forgotten."""
        self.lose_own()
        self._own = descriptor

    def stands_whole(self) -> None:
        """The own containerd verified its file, which is the whole blob."""
        assert self._own is not None
        self._stands_whole = True
        self._owned = mask_of(0, self._layout.count)
        self._retire_space()

    def exchange_own(self, descriptor: int) -> None:
        """For a file with the same bytes, and no fewer. Owned from now on."""
        owned = self._owned
        self.take_own(descriptor)
        self._owned = owned

    @property
    def has_own(self) -> bool:
        return self._own is not None

    def lose_own(self) -> None:
        own, self._own = self._own, None
        self._owned = 0
        self._stands_whole = False
        if own is not None:
            self._retire(lambda: os.close(own))

    def close(self) -> None:
        """Idempotent; files go when nobody holds them."""
        self._is_closed = True
        self.lose_own()
        if not self._holds_count:
            self._retire_space()

    def _retire_space(self) -> None:
        space, self._space = self._space, None
        self._spooled = 0
        if space is not None:
            self._retire(space.give_back)

    def _retire(self, close: Callable[[], None]) -> None:
        self._retired.append(close)
        if not self._holds_count:
            self._close_retired()

    def _close_retired(self) -> None:
        # A cancelled loop.sendfile may still set the position of a descriptor's number in this round of the loop.
        for close in self._retired:
            asyncio.get_running_loop().call_soon(close)
        self._retired.clear()

    # -- bytes -----------------------------------------------------------------------------------------------------

    async def write(self, offset: int, data: bytes | bytearray) -> None:
        """Raises: SpoolFull, OSError."""
        with self.hold():
            async with self._making:
                if self._stands_whole:
                    return
                if self._space is None:
                    if self._layout.size_bytes <= IN_MEMORY_MAX_BYTES:
                        self._space = _in_memory()
                    else:
                        self._space = await self._make_space()
                space = self._space
            if self._layout.size_bytes <= IN_MEMORY_MAX_BYTES:
                _pwrite(space.descriptor, offset, data)
            else:
                await run_to_the_end(_pwrite, space.descriptor, offset, data)

    async def read(self, span: ByteSpan) -> bytes:
        """All of it must be here. Raises: OSError."""
        portions = self.portions(span)
        assert portions is not None, span
        with self.hold():
            return await run_to_the_end(_read, portions)

    async def hash_into(self, hasher: _Hash, span: ByteSpan) -> None:
        """All of it must be here. Raises: OSError."""
        portions = self.portions(span)
        assert portions is not None, span
        with self.hold():
            await run_to_the_end(_hash, hasher, portions)

    async def piece_digests(self, pieces: Iterable[int]) -> dict[int, bytes]:
        """SHA-256 of each of them that is here. Raises: OSError."""
        found: dict[int, bytes] = {}
        with self.hold():
            for piece in pieces:
                portions = self.portions(self._layout.span(piece, piece + 1))
                if portions is not None:
                    hasher = hashlib.sha256()
                    await run_to_the_end(_hash, hasher, portions)
                    found[piece] = hasher.digest()
        return found


def _in_memory() -> SpoolSpace:
    descriptor = os.memfd_create("peili-blob", os.MFD_CLOEXEC)
    return SpoolSpace(descriptor, lambda: os.close(descriptor))


def _pwrite(descriptor: int, offset: int, data: bytes | bytearray) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view = view[written:]
        offset += written


def _read(portions: list[Portion]) -> bytes:
    found = []
    for portion in portions:
        data = os.pread(portion.descriptor, portion.span.length_bytes, portion.span.start)
        if len(data) != portion.span.length_bytes:
            raise OSError(
                f"a file ends at {portion.span.start + len(data)}, and should reach {portion.span.stop}"
            )
        found.append(data)
    return b"".join(found)


def _hash(hasher: _Hash, portions: list[Portion]) -> None:
    for portion in portions:
        read_bytes = hash_span(hasher, portion.descriptor, portion.span)
        if read_bytes != portion.span.length_bytes:
            raise OSError(
                f"a file ends at {portion.span.start + read_bytes}, and should reach {portion.span.stop}"
            )
