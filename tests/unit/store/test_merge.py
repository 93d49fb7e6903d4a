"""What two stores hold together: whatever each tells, in whatever order, whoever listens knows the union."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mirror.oci.digest import Digest
from mirror.store.base import ContentAdded, ContentEvent, ContentRemoved, Snapshot, StreamLost
from mirror.store.merge import Merge

A, B, C = (Digest.of(name) for name in (b"a", b"b", b"c"))
LOST = StreamLost("away")


def told(merge: Merge, *events: ContentEvent) -> list[ContentEvent]:
    return [answer for event in events for answer in merge.hear_runtime(event)]


def true_merge() -> Merge:
    merge = Merge()
    assert merge.hear_runtime(Snapshot({A: 1})) == [Snapshot({A: 1})]
    return merge


def test_the_runtime_s_snapshot_begins_and_the_cache_s_is_a_change() -> None:
    merge = Merge()
    assert merge.hear_cache(Snapshot({B: 2})) == []
    assert merge.hear_runtime(Snapshot({A: 1})) == [Snapshot({A: 1, B: 2})]
    merge = true_merge()
    assert merge.hear_cache(Snapshot({A: 1, B: 2})) == [ContentAdded(B, 2)]


def test_a_digest_of_both_is_told_once_and_removed_when_gone_from_both() -> None:
    merge = true_merge()
    assert merge.hear_cache(ContentAdded(A, 1)) == []
    assert merge.hear_runtime(ContentRemoved(A)) == []
    assert merge.size_bytes(A) == 1
    assert merge.hear_cache(ContentRemoved(A)) == [ContentRemoved(A)]
    assert merge.size_bytes(A) is None


def test_a_lost_runtime_is_told_once_and_a_lost_cache_is_not() -> None:
    merge = true_merge()
    assert merge.hear_cache(Snapshot({B: 2})) == [ContentAdded(B, 2)]
    assert merge.hear_cache(LOST) == []
    assert merge.size_bytes(B) == 2
    assert told(merge, LOST, LOST) == [LOST]
    assert merge.hear_cache(ContentAdded(C, 3)) == []
    assert merge.size_bytes(C) == 3
    assert told(merge, Snapshot({A: 1})) == [Snapshot({A: 1, B: 2, C: 3})]


def test_a_cache_that_comes_back_with_less_has_lost_it() -> None:
    merge = true_merge()
    merge.hear_cache(Snapshot({A: 1, B: 2}))
    merge.hear_cache(LOST)
    assert merge.hear_cache(Snapshot({A: 1})) == [ContentRemoved(B)]


class Side:
    """One store, and what it would tell."""

    def __init__(self, hear: Callable[[ContentEvent], list[ContentEvent]]) -> None:
        self.hear = hear
        self.holds: set[Digest] = set()
        self.is_known = False
        # What was last told of it.
        self.told: set[Digest] = set()

    def tell(self, *events: ContentEvent) -> Iterable[ContentEvent]:
        self.told = set(self.holds)
        return [answer for event in events for answer in self.hear(event)]


class Union(RuleBasedStateMachine):
    """Two stores that come, go, gain and lose, and one listener who believes what he hears."""

    def __init__(self) -> None:
        super().__init__()
        self.merge = Merge()
        self.runtime, self.cache = Side(self.merge.hear_runtime), Side(self.merge.hear_cache)
        self.known: set[Digest] | None = None

    @rule(is_runtime=st.booleans())
    def begin_or_come_back(self, is_runtime: bool) -> None:
        side = self.side(is_runtime)
        if not side.is_known:
            side.is_known = True
            self.listen(side.tell(Snapshot(dict.fromkeys(side.holds, 7))))

    @rule(is_runtime=st.booleans())
    def lose(self, is_runtime: bool) -> None:
        side = self.side(is_runtime)
        if side.is_known:
            side.is_known = False
            self.listen(side.hear(LOST))

    @rule(is_runtime=st.booleans(), digest=st.sampled_from([A, B, C]))
    def add(self, is_runtime: bool, digest: Digest) -> None:
        side = self.side(is_runtime)
        is_new = digest not in side.holds
        side.holds.add(digest)
        if side.is_known and is_new:
            self.listen(side.tell(ContentAdded(digest, 7)))

    @rule(is_runtime=st.booleans(), digest=st.sampled_from([A, B, C]))
    def remove(self, is_runtime: bool, digest: Digest) -> None:
        side = self.side(is_runtime)
        was_there = digest in side.holds
        side.holds.discard(digest)
        if side.is_known and was_there:
            self.listen(side.tell(ContentRemoved(digest)))

    @invariant()
    def the_listener_is_told_when_the_runtime_is_known(self) -> None:
        assert (self.known is not None) == self.runtime.is_known

    @precondition(lambda self: self.runtime.is_known)
    @invariant()
    def the_listener_knows_the_union(self) -> None:
        assert self.known == self.runtime.told | self.cache.told

    @invariant()
    def sizes_are_those_of_the_union(self) -> None:
        here = self.runtime.told | self.cache.told
        assert {digest for digest in (A, B, C) if self.merge.size_bytes(digest) == 7} == here

    def side(self, is_runtime: bool) -> Side:
        return self.runtime if is_runtime else self.cache

    def listen(self, events: Iterable[ContentEvent]) -> None:
        for event in events:
            match event:
                case Snapshot(sizes_bytes):
                    assert self.known is None, "a snapshot that nothing announced"
                    self.known = set(sizes_bytes)
                case ContentAdded(digest, size_bytes):
                    assert self.known is not None and digest not in self.known and size_bytes == 7
                    self.known.add(digest)
                case ContentRemoved(digest):
                    assert self.known is not None
                    self.known.remove(digest)
                case StreamLost():
                    assert self.known is not None, "lost twice"
                    self.known = None


TestUnion = Union.TestCase
