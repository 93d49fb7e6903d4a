"""How fast blobs came from each registry to this host lately: what a host may expect that offers to fetch one. Pure."""

from __future__ import annotations

from collections import OrderedDict, deque

# The middle of so many: one that was slow by chance does not count.
SAMPLES_COUNT = 5
# A registry, or the way to it, changes within a day.
LATELY_S = 3600.0
REGISTRIES_MAX_COUNT = 256
# Less tells more of the first round trips than of the rate.
SAMPLE_MIN_BYTES = 4 << 20
SAMPLE_MIN_S = 0.25


class Rates:
    def __init__(self) -> None:
        self._samples: OrderedDict[str, deque[tuple[float, float]]] = OrderedDict()

    def seen(self, registry: str, count_bytes: int, for_s: float, now: float) -> None:
        """A blob grew by so many bytes in so many seconds, from its first bytes on."""
        if not registry or count_bytes < SAMPLE_MIN_BYTES or for_s < SAMPLE_MIN_S:
            return
        samples = self._samples.setdefault(registry, deque(maxlen=SAMPLES_COUNT))
        samples.append((now, count_bytes / for_s))
        self._samples.move_to_end(registry)
        if len(self._samples) > REGISTRIES_MAX_COUNT:
            self._samples.popitem(last=False)

    def expected_bytes_s(self, registry: str, now: float) -> float | None:
        """None: nothing came from it lately."""
        lately = sorted(rate for at, rate in self._samples.get(registry, ()) if now - at <= LATELY_S)
        return lately[len(lately) // 2] if lately else None
