"""The quota book: never over the quota, least recently used first, never what is pinned."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
)

from mirror.oci.digest import Digest
from mirror.store.quota import TOUCH_INTERVAL_S, QuotaBook, Reservation, StoreFull

A, B, C, D = (Digest.of(name) for name in (b"a", b"b", b"c", b"d"))
MANY = [Digest.of(bytes([number])) for number in range(12)]


def book(quota_bytes: int | None, *entries: tuple[Digest, int]) -> QuotaBook:
    made = QuotaBook(quota_bytes)
    for digest, size_bytes in entries:
        made.add(digest, size_bytes)
    return made


def test_the_least_recently_used_goes_first_and_no_more_than_needed() -> None:
    made = book(30, (A, 10), (B, 10), (C, 10))
    made.touch(A, now=0)
    assert made.reserve(5).evict == (B,)
    assert made.reserve(5).evict == ()
    assert list(made.sizes_bytes) == [C, A]


def test_pinned_blobs_stay() -> None:
    made = book(30, (A, 10), (B, 10), (C, 10))
    made.pin(A)
    assert made.reserve(15).evict == (B, C)


def test_a_refused_reservation_changes_nothing() -> None:
    made = book(30, (A, 10), (B, 10))
    made.pin(A)
    made.reserve(5)
    with pytest.raises(StoreFull, match="quota of 30 bytes, 10 are pinned and 5 are being written"):
        made.reserve(16)
    assert dict(made.sizes_bytes) == {A: 10, B: 10}
    assert made.reserved_bytes == 5


def test_a_blob_of_the_quota_s_size_fits_and_one_byte_more_does_not() -> None:
    assert book(30).reserve(30).evict == ()
    with pytest.raises(StoreFull):
        book(30).reserve(31)


def test_without_a_quota_everything_fits() -> None:
    made = book(None, (A, 10))
    assert made.reserve(10**15).evict == ()
    assert made.excess_bytes == 0
    assert made.overrun() == ()


def test_released_room_is_free_again_and_only_once() -> None:
    made = book(10)
    reservation = made.reserve(10)
    made.release(reservation)
    made.release(reservation)
    assert made.reserved_bytes == 0
    made.reserve(10)
    made.release(reservation)
    assert made.reserved_bytes == 10


def test_committed_room_is_used() -> None:
    made = book(10)
    made.commit(made.reserve(10), A)
    assert (made.used_bytes, made.reserved_bytes) == (10, 0)
    assert made.reserve(1).evict == (A,)


def test_a_blob_that_was_committed_twice_counts_once() -> None:
    made = book(30)
    first, second = made.reserve(10), made.reserve(10)
    made.commit(first, A)
    made.commit(second, A)
    assert (made.used_bytes, made.reserved_bytes) == (10, 0)


def test_blobs_of_others_push_out_the_least_recently_used() -> None:
    made = book(20, (A, 10), (B, 10), (C, 10))
    assert made.excess_bytes == 10
    assert made.overrun() == (A,)
    assert made.excess_bytes == 0


def test_an_overrun_by_pins_alone_evicts_the_rest_and_stays() -> None:
    made = book(15, (A, 10), (B, 10), (C, 10))
    made.pin(A)
    made.pin(C)
    assert made.overrun() == (B,)
    assert made.excess_bytes == 5
    with pytest.raises(StoreFull):
        made.reserve(0)


def test_use_is_written_down_at_most_once_a_minute() -> None:
    made = book(None, (A, 1))
    assert made.touch(A, now=100.0)
    assert not made.touch(A, now=100.0 + TOUCH_INTERVAL_S - 0.1)
    assert made.touch(A, now=100.0 + TOUCH_INTERVAL_S)
    assert not made.touch(B, now=100.0), "not here"


class Book(RuleBasedStateMachine):
    """Against a model that looks every answer over. Blobs come by reservation only, so rule 1 holds
    throughout."""

    reservations: Bundle[Reservation] = Bundle("reservations")

    def __init__(self) -> None:
        super().__init__()
        self.quota_bytes = 50
        self.book = QuotaBook(self.quota_bytes)
        self.order: list[Digest] = []
        self.sizes_bytes: dict[Digest, int] = {}
        self.pinned: set[Digest] = set()
        self.open: dict[int, int] = {}
        self.now = 0.0

    @rule(target=reservations, size_bytes=st.integers(0, 60))
    def reserve(self, size_bytes: int) -> MultipleResults[Reservation] | Reservation:
        evictable = [digest for digest in self.order if digest not in self.pinned]
        kept_bytes = sum(self.sizes_bytes[digest] for digest in self.pinned & self.sizes_bytes.keys())
        fits = kept_bytes + sum(self.open.values()) + size_bytes <= self.quota_bytes
        try:
            reservation = self.book.reserve(size_bytes)
        except StoreFull:
            assert not fits
            return multiple()
        assert fits
        assert list(reservation.evict) == evictable[: len(reservation.evict)], "least recently used first"
        self.forget(reservation.evict)
        if reservation.evict:
            room_bytes = self.quota_bytes - sum(self.sizes_bytes.values()) - sum(self.open.values())
            last_bytes = next(reversed(self.evicted_sizes_bytes))
            assert room_bytes - last_bytes < size_bytes, "no more than needed"
        self.open[reservation.number] = size_bytes
        return reservation

    @rule(reservation=consumes(reservations), digest=st.sampled_from(MANY))
    def commit(self, reservation: Reservation, digest: Digest) -> None:
        if digest in self.sizes_bytes and self.sizes_bytes[digest] != reservation.size_bytes:
            self.book.release(reservation)  # A digest has one size.
            del self.open[reservation.number]
            return
        self.book.commit(reservation, digest)
        self.use(digest, self.open.pop(reservation.number))

    @rule(reservation=consumes(reservations))
    def release(self, reservation: Reservation) -> None:
        self.book.release(reservation)
        del self.open[reservation.number]

    @rule(digest=st.sampled_from(MANY), after_s=st.floats(0, 100))
    def touch(self, digest: Digest, after_s: float) -> None:
        self.now += after_s
        self.book.touch(digest, self.now)
        if digest in self.sizes_bytes:
            self.use(digest, self.sizes_bytes[digest])

    @rule(digest=st.sampled_from(MANY))
    def pin(self, digest: Digest) -> None:
        self.book.pin(digest)
        self.pinned.add(digest)

    @rule(digest=st.sampled_from(MANY))
    def unpin(self, digest: Digest) -> None:
        self.book.unpin(digest)
        self.pinned.discard(digest)

    @rule(size_bytes=st.integers(0, 60))
    def shed(self, size_bytes: int) -> None:
        evictable = [digest for digest in self.order if digest not in self.pinned]
        shed = self.book.shed(size_bytes)
        assert list(shed) == evictable[: len(shed)], "least recently used first"
        shed_bytes = [self.sizes_bytes[digest] for digest in shed]
        assert sum(shed_bytes) >= size_bytes or len(shed) == len(evictable), "less than there is"
        assert sum(shed_bytes[:-1]) < size_bytes or not shed, "no more than asked for"
        self.forget(shed)

    @rule(digest=st.sampled_from(MANY))
    def remove(self, digest: Digest) -> None:
        self.book.remove(digest)
        self.forget([digest])

    @invariant()
    def agrees(self) -> None:
        self.book.check()
        assert list(self.book.sizes_bytes.items()) == [(each, self.sizes_bytes[each]) for each in self.order]
        assert self.book.used_bytes + self.book.reserved_bytes <= self.quota_bytes
        assert self.book.reserved_bytes == sum(self.open.values())
        assert self.book.overrun() == ()

    def use(self, digest: Digest, size_bytes: int) -> None:
        if digest in self.order:
            self.order.remove(digest)
        self.order.append(digest)
        self.sizes_bytes[digest] = size_bytes

    def forget(self, digests: Iterable[Digest]) -> None:
        self.evicted_sizes_bytes = [self.sizes_bytes.get(digest, 0) for digest in digests]
        for digest in digests:
            if self.sizes_bytes.pop(digest, None) is not None:
                self.order.remove(digest)


TestBook = Book.TestCase
