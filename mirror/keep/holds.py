"""Which blobs that were just committed are held open, until it is known whether they stay. Pure.

A file that the runtime deletes keeps its room on the disk while it is held, so that this is bounded in count, bytes and
time.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from mirror.keep.fates import Fate
from mirror.oci.digest import Digest

# When to ask what becomes of a blob, after its commit: a pull labels its manifest before its first layer comes, so that
# the first time is enough, but where containerd was away. The first is late enough that layers which are committed
# together are one question. After the last it is let go: garbage collection follows a pull within a second (measured:
# 10 to 200 ms), and what no image's manifest lists is nobody's layer.
ASK_AFTER_S = (0.05, 0.5, 2.0, 8.0)

# A descriptor each; the usual limit of a process is 1,024.
HELD_MAX_COUNT = 128


@dataclass(frozen=True, slots=True)
class Judgement:
    """`keep`: copy it, and let go. `stays` and `let_go`: let go; the runtime keeps those that stay."""

    keep: tuple[Digest, ...]
    stays: tuple[Digest, ...]
    let_go: tuple[Digest, ...]


@dataclass(slots=True)
class _Held:
    size_bytes: int
    committed_at_s: float
    asked_count: int = 0

    @property
    def due_at_s(self) -> float:
        return self.committed_at_s + ASK_AFTER_S[self.asked_count]


class Holds:
    """`max_bytes`: what the cache could not take need not be held."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        # In the order of their commits.
        self._held: dict[Digest, _Held] = {}
        self._held_bytes = 0

    def hold(self, digest: Digest, size_bytes: int, now: float) -> tuple[Digest, ...]:
        """It was committed, and is held. Which are to be let go for it, the oldest first: itself where it is too
        large."""
        self._drop(digest)
        self._held[digest] = _Held(size_bytes, now)
        self._held_bytes += size_bytes
        dropped: list[Digest] = []
        if size_bytes > self._max_bytes:
            dropped.append(digest)
            self._drop(digest)
        while len(self._held) > HELD_MAX_COUNT or self._held_bytes > self._max_bytes:
            dropped.append(next(iter(self._held)))
            self._drop(dropped[-1])
        return tuple(dropped)

    def wait_s(self, now: float) -> float | None:
        """How long until there is something to ask; None: until something is held."""
        if not self._held:
            return None
        return max(0.0, min(held.due_at_s for held in self._held.values()) - now)

    def due(self, now: float) -> tuple[Digest, ...]:
        return tuple(digest for digest, held in self._held.items() if held.due_at_s <= now)

    def judge(self, asked: Collection[Digest], fates: Mapping[Digest, Fate]) -> Judgement:
        """What was told of `asked`; what was dropped meanwhile is left out."""
        keep, stays, let_go = [], [], []
        for digest in asked:
            held = self._held.get(digest)
            if held is None:
                continue
            held.asked_count += 1
            match fates.get(digest):
                case Fate.GOES:
                    keep.append(digest)
                case Fate.STAYS:
                    stays.append(digest)
                case None if held.asked_count == len(ASK_AFTER_S):
                    let_go.append(digest)
                case None:
                    continue
            self._drop(digest)
        return Judgement(tuple(keep), tuple(stays), tuple(let_go))

    def check(self) -> None:
        """Invariants, for tests."""
        assert self._held_bytes == sum(held.size_bytes for held in self._held.values()) <= self._max_bytes
        assert len(self._held) <= HELD_MAX_COUNT

    def _drop(self, digest: Digest) -> None:
        held = self._held.pop(digest, None)
        if held is not None:
            self._held_bytes -= held.size_bytes
