"""One request of the own containerd, from the question to its end: waits for orders, gives out bytes as they may be.

Decides nothing: the ladder orders, the swarm releases.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager
from typing import Protocol

from mirror.herd.errors import EndedEarly, Missed
from mirror.herd.own_bytes import Portion
from mirror.oci.byterange import ByteRange, ByteSpan, RangeInvalid
from mirror.oci.digest import Digest
from mirror.peer.errors import PeerError
from mirror.peer.streams import PeerStream
from mirror.steer.events import OriginRefused, RefusalKind

# One call of sendfile. Small enough that the ladder hears how far a body is.
PORTION_MAX_BYTES = 4 * 1024 * 1024


class Answering(Protocol):
    """What a reading needs of its digest's transfer."""

    def size_bytes(self) -> int | None: ...

    def portions(self, span: ByteSpan) -> list[Portion] | None: ...

    def hold(self) -> AbstractContextManager[None]:
        """Portions that are had are readable meanwhile."""
        ...

    async def read(self, span: ByteSpan) -> bytes: ...

    def begun(self, reading: Reading) -> None:
        """Its first byte is in hand, and its headers go out."""
        ...

    def moved(self, reading: Reading) -> None: ...

    def stretch_stop(self, reading: Reading) -> int:
        """How far its stream may bring it now; its position: no farther."""
        ...

    def streamed(self, reading: Reading, span: ByteSpan, waited_s: float) -> None: ...

    def leave_stream(self, reading: Reading) -> None: ...

    def broke(self, reading: Reading, exc: PeerError) -> None: ...

    def starved(self, reading: Reading) -> None: ...

    def refused(self, event: OriginRefused) -> None: ...


class Reading:
    """`byte_range` None: the whole. Use `begin`, then `portions` or `whole`. Released up to `released`."""

    def __init__(
        self,
        digest: Digest,
        request_id: int,
        byte_range: ByteRange | None,
        *,
        is_head: bool,
        at_fallback: bool,
        transfer: Answering,
    ) -> None:
        self.digest = digest
        self.request_id = request_id
        self.byte_range = byte_range
        self.is_head = is_head
        self.at_fallback = at_fallback
        self.span: ByteSpan | None = None
        self.position = 0
        self.released = 0
        self.is_fed = False
        # It ends by FIN from now on, and no more by a 404.
        self.is_begun = False
        # Its bytes, from `position` on, past the swarm. Closed here.
        self.stream: PeerStream | None = None
        self._transfer = transfer
        self._is_missed = False
        self._is_ended = False
        self._paused_at: int | None = None
        self._why = "nobody here has it"
        self._changed = asyncio.Event()
        self._invalid: RangeInvalid | None = None

    @property
    def range_start(self) -> int:
        """A suffix is not known before the size is: it counts as a start."""
        return 0 if self.byte_range is None else self.byte_range.first or 0

    @property
    def size_bytes(self) -> int:
        found = self._transfer.size_bytes()
        assert found is not None, "asked before `begin`"
        return found

    # -- orders ----------------------------------------------------------------------------------------------------

    def feed(self) -> None:
        self.is_fed = True
        self._changed.set()

    def miss(self, why: str) -> None:
        self._is_missed = True
        self._why = why
        self._changed.set()

    def end(self) -> None:
        self._is_ended = True
        self._changed.set()

    def pause(self) -> None:
        self._paused_at = self.released
        self._changed.set()

    def resume(self) -> None:
        self._paused_at = None
        self._changed.set()

    def open(self, size_bytes: int) -> ByteSpan | None:
        """Its span, now that the size is known; None: there is no such span."""
        if self.span is None:
            try:
                whole = self.byte_range is None or self.is_head
                self.span = ByteSpan(0, size_bytes) if whole else self._resolved(size_bytes)
            except RangeInvalid as exc:
                self._invalid = exc
                self._changed.set()
                return None
            self.position = self.released = self.span.start
            self._changed.set()
        return self.span

    def streams(self, stream: PeerStream) -> None:
        """Its bytes come from there, from `position` on."""
        self.stream = stream
        self._changed.set()

    def stream_ended(self) -> None:
        """Idempotent."""
        stream, self.stream = self.stream, None
        if stream is not None:
            stream.close()
            self.released = max(self.released, self.position)

    def forget_size(self) -> None:
        """It was not the blob's. What has begun is ended by an order."""
        if not self.is_begun:
            self.span = None
            self.position = self.released = 0

    def _resolved(self, size_bytes: int) -> ByteSpan:
        assert self.byte_range is not None
        return self.byte_range.resolve(size_bytes)

    def release(self, upto: int) -> None:
        self.released = max(self.released, upto)
        self._changed.set()

    def origin_refused(self, kind: RefusalKind) -> None:
        """Why the request came to the fallback host."""
        self._transfer.refused(OriginRefused(self.request_id, kind))

    # -- the body --------------------------------------------------------------------------------------------------

    async def begin(self) -> ByteSpan:
        """Returns when the first byte is in hand; of a HEAD, when the size is known. Raises: Missed, RangeInvalid."""
        await self._until(
            lambda: self.is_fed and self.span is not None and (self.is_head or self._has_more())
        )
        assert self.span is not None
        if not self.is_head:
            first = ByteSpan(self.position, min(self._limit(), self.position + 1))
            if first.length_bytes and self._transfer.portions(first) is None:
                # Dropped since it was released. Four bodies without a byte fail a pull, and a 404 does not.
                raise Missed(self.digest, "its first byte was dropped")
            self.is_begun = True
            self._transfer.begun(self)
        return self.span

    async def whole(self, max_bytes: int) -> bytes:
        """All of it, verified. For what is small. Raises: Missed, also where it is larger than that."""
        await self._until(lambda: self.is_fed and self.span is not None)
        assert self.span is not None
        if self.span.length_bytes > max_bytes:
            raise Missed(self.digest, f"{self.span.length_bytes} bytes are over the limit of {max_bytes}")
        await self._until(lambda: self.is_fed and self.span is not None and self.released == self.span.stop)
        assert self.span is not None
        data = await self._transfer.read(self.span)
        self.position = self.span.stop
        return data

    def stretch(self) -> ByteSpan | None:
        """After `begin`: the next bytes of `stream` for the client; None: the rest comes in portions, or in another
        stream. Raises: EndedEarly."""
        assert self.span is not None
        self._check_end()
        if self.stream is None:
            return None
        if self._paused_at is not None:
            self._transfer.leave_stream(self)
            return None
        stop = self._transfer.stretch_stop(self)
        return ByteSpan(self.position, stop) if stop > self.position else None

    def streamed(self, count_bytes: int, waited_s: float) -> None:
        """So many bytes of it were handed to the client, after such a wait for them."""
        span = ByteSpan(self.position, self.position + count_bytes)
        self.position = self.released = span.stop
        self._transfer.streamed(self, span, waited_s)

    def broke(self, exc: PeerError) -> None:
        """Its stream did. The rest comes from elsewhere."""
        self._transfer.broke(self, exc)

    @property
    def is_over(self) -> bool:
        """All was handed to the client."""
        assert self.span is not None
        return self.position == self.span.stop

    async def portions(self) -> AsyncGenerator[Portion, None]:
        """After `begin`, until all is over or `stream` brings the rest. What one yields was handed to the client when
        the next is asked for. Raises: EndedEarly."""
        assert self.span is not None
        while self.position < self.span.stop and self.stream is None:
            if not self._has_more():
                self._transfer.starved(self)
                await self._until(self._has_more, is_begun=True)
                if self.stream is not None:
                    return
            stop = min(self._limit(), self.position + PORTION_MAX_BYTES)
            with self._transfer.hold():
                portions = self._transfer.portions(ByteSpan(self.position, stop))
                if portions is None:
                    # Dropped since it was released: an end is on its way.
                    raise EndedEarly(self.digest, self.position)
                for portion in portions:
                    yield portion
                    self.position = portion.span.stop
                    self._transfer.moved(self)
                    self._check_end()

    def _limit(self) -> int:
        return self.released if self._paused_at is None else min(self.released, self._paused_at)

    def _has_more(self) -> bool:
        assert self.span is not None
        return self._limit() > self.position or self.stream is not None or self.span.start == self.span.stop

    def _check_end(self) -> None:
        if self._is_ended or self._is_missed:
            raise EndedEarly(self.digest, self.position)

    async def _until(self, is_true: Callable[[], bool], *, is_begun: bool = False) -> None:
        while True:
            self._changed.clear()
            if self._invalid is not None:
                raise self._invalid
            if self._is_ended and is_begun:
                raise EndedEarly(self.digest, self.position)
            if self._is_missed or self._is_ended:
                raise Missed(self.digest, self._why)
            if is_true():
                return
            await self._changed.wait()
