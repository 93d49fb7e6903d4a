"""Which bytes of a blob: a set of disjoint spans, kept sorted and merged. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

from mirror.oci.byterange import ByteSpan


class SpanSet:
    """Spans that touch are one."""

    __slots__ = ("_starts", "_stops")

    def __init__(self, spans: Iterable[ByteSpan] = ()) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        for span in spans:
            self.add(span.start, span.stop)

    def __iter__(self) -> Iterator[ByteSpan]:
        return map(ByteSpan, self._starts, self._stops)

    def __bool__(self) -> bool:
        return bool(self._starts)

    @property
    def length_bytes(self) -> int:
        return sum(self._stops) - sum(self._starts)

    def add(self, start: int, stop: int) -> None:
        if start >= stop:
            return
        first = bisect_left(self._stops, start)
        last = bisect_right(self._starts, stop)
        if first < last:
            start = min(start, self._starts[first])
            stop = max(stop, self._stops[last - 1])
        self._starts[first:last] = [start]
        self._stops[first:last] = [stop]

    def remove(self, start: int, stop: int) -> None:
        first = bisect_right(self._stops, start)
        last = bisect_left(self._starts, stop)
        if start >= stop or first >= last:
            return
        left, right = self._starts[first], self._stops[last - 1]
        rest = [(a, b) for a, b in ((left, min(start, right)), (max(stop, left), right)) if a < b]
        self._starts[first:last] = [a for a, _ in rest]
        self._stops[first:last] = [b for _, b in rest]

    def stop_from(self, offset: int) -> int:
        """The first byte at or behind `offset` that is not in the set."""
        index = bisect_right(self._starts, offset) - 1
        return max(offset, self._stops[index]) if index >= 0 else offset

    def covers(self, start: int, stop: int) -> bool:
        return self.stop_from(start) >= stop

    def overlaps(self, start: int, stop: int) -> bool:
        index = bisect_right(self._stops, start)
        return start < stop and index < len(self._starts) and self._starts[index] < stop

    def missing(self, start: int, stop: int) -> list[ByteSpan]:
        """What of `start` to `stop` is not in the set, in order."""
        gaps: list[ByteSpan] = []
        index = bisect_right(self._stops, start)
        while start < stop:
            if index == len(self._starts) or self._starts[index] >= stop:
                gaps.append(ByteSpan(start, stop))
                break
            if self._starts[index] > start:
                gaps.append(ByteSpan(start, self._starts[index]))
            start = self._stops[index]
            index += 1
        return gaps
