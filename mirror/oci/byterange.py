"""Which bytes a Range header asks for. Refuses nothing that RFC 9110 lets a server ignore.

Rules
1. A header that is absent, of another unit, malformed or with several ranges asks for the whole body
   (RFC 9110 §14.2: a server may ignore such a header).
2. A range is resolved against the size once, at the edge. Inward goes only `ByteSpan`.
3. A range that starts at or behind the end cannot be satisfied: 416.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mirror.errors import MirrorError

_SINGLE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})", re.IGNORECASE)
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})")


class RangeInvalid(MirrorError):
    """The range lies outside the body: answered with 416 and the size."""

    def __init__(self, text: str, size_bytes: int) -> None:
        super().__init__(f"range {text!r} lies outside a body of {size_bytes} bytes")
        self.size_bytes = size_bytes


@dataclass(frozen=True, slots=True)
class ByteSpan:
    """Bytes `start` to `stop`, `stop` not included, of a body whose size is known."""

    start: int
    stop: int

    def __post_init__(self) -> None:
        assert 0 <= self.start <= self.stop, self

    @property
    def length_bytes(self) -> int:
        return self.stop - self.start

    def content_range(self, size_bytes: int) -> str:
        """The Content-Range header of a 206 answer (RFC 9110 §14.4)."""
        return f"bytes {self.start}-{self.stop - 1}/{size_bytes}"


@dataclass(frozen=True, slots=True)
class ByteRange:
    """One range as the header has it: ``first-``, ``first-last`` or ``-suffix``."""

    first: int | None
    last: int | None

    @staticmethod
    def parse(header: str | None) -> ByteRange | None:
        """None: the whole body is asked for (rule 1)."""
        found = _SINGLE.fullmatch(header.strip()) if header else None
        if found is None:
            return None
        first = int(found[1]) if found[1] else None
        last = int(found[2]) if found[2] else None
        if (first is None and last is None) or (first is not None and last is not None and last < first):
            return None
        return ByteRange(first, last)

    def resolve(self, size_bytes: int) -> ByteSpan:
        """Raises: RangeInvalid (rule 3)."""
        if self.first is None:
            assert self.last is not None
            if self.last == 0 or size_bytes == 0:
                raise RangeInvalid(str(self), size_bytes)
            return ByteSpan(max(0, size_bytes - self.last), size_bytes)
        if self.first >= size_bytes:
            raise RangeInvalid(str(self), size_bytes)
        stop = size_bytes if self.last is None else min(self.last + 1, size_bytes)
        return ByteSpan(self.first, stop)

    def __str__(self) -> str:
        first = "" if self.first is None else str(self.first)
        last = "" if self.last is None else str(self.last)
        return f"bytes={first}-{last}"


@dataclass(frozen=True, slots=True)
class ContentRange:
    """What a 206 answer says that it carries."""

    span: ByteSpan
    size_bytes: int

    @staticmethod
    def parse(header: str | None) -> ContentRange | None:
        """None where the header is absent, malformed or contradicts itself: such an answer is not to be used."""
        found = _CONTENT_RANGE.fullmatch(header.strip()) if header else None
        if found is None:
            return None
        first, last, size_bytes = (int(text) for text in found.groups())
        if not first <= last < size_bytes:
            return None
        return ContentRange(ByteSpan(first, last + 1), size_bytes)
