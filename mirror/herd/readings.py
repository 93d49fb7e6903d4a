"""The open requests of the own containerd for one digest, by number. Passes orders on; decides nothing."""

from __future__ import annotations

from collections.abc import Iterator

from mirror.herd.reading import Reading


class Readings:
    def __init__(self) -> None:
        self._by_id: dict[int, Reading] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Reading]:
        """May be removed from while it runs."""
        return iter(tuple(self._by_id.values()))

    def __contains__(self, request_id: object) -> bool:
        return request_id in self._by_id

    @property
    def is_any_begun(self) -> bool:
        """The own containerd is being sent bytes by this host."""
        return any(reading.is_begun for reading in self._by_id.values())

    def add(self, reading: Reading) -> None:
        self._by_id[reading.request_id] = reading

    def remove(self, request_id: int) -> Reading | None:
        return self._by_id.pop(request_id, None)

    def get(self, request_id: int) -> Reading | None:
        return self._by_id.get(request_id)

    def release(self, request_id: int, upto: int) -> None:
        reading = self._by_id.get(request_id)
        if reading is not None:
            reading.release(upto)

    def miss(self, request_id: int, why: str) -> None:
        reading = self._by_id.get(request_id)
        if reading is not None:
            reading.miss(why)

    def end(self, request_id: int) -> None:
        reading = self._by_id.get(request_id)
        if reading is not None:
            reading.end()

    def pause(self, request_id: int) -> None:
        reading = self._by_id.get(request_id)
        if reading is not None:
            reading.pause()

    def resume(self, request_id: int) -> None:
        reading = self._by_id.get(request_id)
        if reading is not None:
            reading.resume()

    def let_go(self, why: str) -> None:
        """All of them go to the origin now."""
        for reading in self:
            if reading.is_begun:
                reading.end()
            else:
                reading.miss(why)
