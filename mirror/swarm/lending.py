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

    def is_needed_elsewhere(self, blob: K) -> bool:
        """For another one."""
        return any(needed for other, needed in self._is_needed.items() if other != blob)

    def told(self, blob: K, is_needed: bool) -> list[K]:
        """`is_needed`: for this one. Returns those for which `is_needed_elsewhere` has changed."""
        if self._is_needed.get(blob, False) == is_needed:
            self._is_needed[blob] = is_needed
            return []
        self._is_needed[blob] = is_needed
        # One more or less changes nothing where there is another one.
        return [other for other in self._is_needed if other != blob and not self._is_any_but(blob, other)]

    def left(self, blob: K) -> list[K]:
        """As `told`."""
        changed = self.told(blob, False)
        del self._is_needed[blob]
        return changed

    def _is_any_but(self, blob: K, other: K) -> bool:
        return any(needed for one, needed in self._is_needed.items() if one not in (blob, other))
