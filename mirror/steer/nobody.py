"""Whether nobody can bring the digest, as a request at the fallback host must know before it is answered 404.

One word is not enough: others who wait ask every second, and one of them may be granted what this host gave back. Pure.
"""

from __future__ import annotations

from mirror.steer.timers import NOBODY_S

WORDS_MIN_COUNT = 2


class Nobody:
    def __init__(self) -> None:
        self._since: float | None = None
        self._words_count = 0
        self._is_alone = False

    def told(self, now: float, *, is_alone: bool) -> None:
        """A ruling knew neither a claim nor a provider. `is_alone`: there is no other host at all."""
        self._since = now if self._since is None else self._since
        self._words_count += 1
        self._is_alone = is_alone

    def forget(self) -> None:
        self._since = None
        self._words_count = 0
        self._is_alone = False

    def is_sure(self, now: float) -> bool:
        at = self.sure_at()
        return at is not None and now >= at

    def sure_at(self) -> float | None:
        if self._since is None:
            return None
        if self._is_alone:
            return self._since
        return self._since + NOBODY_S if self._words_count >= WORDS_MIN_COUNT else None
