"""For which blobs this host's uplink is needed, since nobody else has pieces of them. Pure; chooses no piece.

An uplink is one, and blobs are many: what a blob's neighbours could have from each other is lent at the price of what
another's can have from nobody else.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Lending(Generic[K]):
    """Of one host. `K` names a blob."""

    def __init__(self) -> None:
        self._is_needed: dict[K, bool] = {}
        # Of those, how many are needed: it is asked for at each piece.
        self._needed_count = 0

    def is_needed_elsewhere(self, blob: K) -> bool:
        """For another one."""
        return self._needed_count > self._is_needed.get(blob, False)

    def told(self, blob: K, is_needed: bool) -> list[K]:
        """`is_needed`: for this one. Returns those for which `is_needed_elsewhere` has changed."""
        before_count = self._needed_count
        self._needed_count += is_needed - self._is_needed.get(blob, False)
        self._is_needed[blob] = is_needed
        if self._needed_count == before_count:
            return []
        # One more or less matters to who had no other one, or has none now.
        least_count = min(before_count, self._needed_count)
        return [other for other, needed in self._is_needed.items() if other != blob and needed == least_count]

    def left(self, blob: K) -> list[K]:
        """As `told`."""
        changed = self.told(blob, False)
        del self._is_needed[blob]
        return changed
