"""Which range is fetched next: tables, then a stateful test against an origin that does what it likes."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mirror.oci.byterange import ByteRange, ByteSpan
from mirror.relay.ranges import (
    FIRST_RANGE_BYTES,
    RANGE_MAX_BYTES,
    RANGE_MIN_BYTES,
    Ranges,
    opening,
    range_bytes,
)
from tests.support.examples import examples


@pytest.mark.parametrize(
    ("rate_bytes_per_s", "expected"),
    [(0, RANGE_MIN_BYTES), (1e6, 4_000_000), (1e9, RANGE_MAX_BYTES)],
)
def test_a_range_takes_some_seconds(rate_bytes_per_s: float, expected: int) -> None:
    assert range_bytes(rate_bytes_per_s) == expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, ByteSpan(0, FIRST_RANGE_BYTES)),
        ("bytes=-5", ByteSpan(0, FIRST_RANGE_BYTES)),
        ("bytes=7-", ByteSpan(7, 7 + FIRST_RANGE_BYTES)),
        ("bytes=7-9", ByteSpan(7, 10)),
        (f"bytes=7-{10 * FIRST_RANGE_BYTES}", ByteSpan(7, 7 + FIRST_RANGE_BYTES)),
    ],
)
def test_the_first_request_begins_where_the_reader_does(header: str | None, expected: ByteSpan) -> None:
    assert opening(ByteRange.parse(header)) == expected


def test_connections_share_the_blob_in_order() -> None:
    ranges = Ranges(100)
    ranges.want(ByteSpan(0, 100))
    assert [ranges.next(lane, [0], 30) for lane in range(5)] == [
        ByteSpan(0, 30),
        ByteSpan(30, 60),
        ByteSpan(60, 90),
        ByteSpan(90, 100),
        None,
    ]


def test_the_reader_with_least_ahead_of_him_comes_first() -> None:
    ranges = Ranges(100)
    ranges.want(ByteSpan(0, 100))
    assert ranges.next(0, [0], 20) == ByteSpan(0, 20)
    # 20 bytes are on their way for the reader at 0, none for the one at 50.
    assert ranges.next(1, [0, 50], 10) == ByteSpan(50, 60)
    assert ranges.next(2, [0, 50], 10) == ByteSpan(60, 70)
    assert ranges.next(3, [0, 50], 10) == ByteSpan(20, 30)


def test_what_nobody_wants_is_not_fetched() -> None:
    ranges = Ranges(100)
    ranges.want(ByteSpan(40, 60))
    assert ranges.next(0, [40], 100) == ByteSpan(40, 60)
    assert ranges.next(1, [40], 100) is None
    assert not ranges.will_be_whole()


def test_what_those_who_left_wanted_comes_last() -> None:
    ranges = Ranges(100)
    ranges.want(ByteSpan(0, 30))
    ranges.want(ByteSpan(80, 100))
    assert ranges.next(0, [80], 15) == ByteSpan(80, 95)
    assert ranges.next(1, [80], 15) == ByteSpan(95, 100)
    assert ranges.next(2, [80], 15) == ByteSpan(0, 15)


def test_a_lost_connection_is_resumed_at_the_exact_byte() -> None:
    ranges = Ranges(100)
    ranges.want(ByteSpan(0, 100))
    ranges.next(0, [0], 100)
    ranges.answered(0, ByteSpan(0, 100))
    assert ranges.arrived(0, 37) == [ByteSpan(0, 37)]
    ranges.ended(0)
    assert ranges.next(0, [0], 100) == ByteSpan(37, 100)


def test_a_whole_answer_is_used_as_far_as_it_is_new_and_then_cut() -> None:
    ranges = Ranges(100, [ByteSpan(0, 10), ByteSpan(30, 40)])
    ranges.want(ByteSpan(0, 60))
    assert ranges.next(0, [0], 5) == ByteSpan(10, 15)
    ranges.answered(0, ByteSpan(0, 100))
    assert ranges.ignores_range
    assert ranges.next(1, [0], 5) is None  # it would bring the same bytes
    assert not ranges.has_next()
    assert ranges.arrived(0, 35) == [ByteSpan(10, 30)]
    assert not ranges.is_to_be_cut(0)
    assert ranges.arrived(0, 25) == [ByteSpan(40, 60)]
    assert ranges.is_to_be_cut(0)
    ranges.ended(0)
    ranges.want(ByteSpan(60, 100))
    assert ranges.next(0, [0], 5) == ByteSpan(60, 65)
    ranges.answered(0, ByteSpan(60, 65))
    assert not ranges.ignores_range
    assert ranges.next(1, [0], 5) == ByteSpan(65, 70)


def test_of_two_whole_answers_one_is_enough() -> None:
    ranges = Ranges(100)
    ranges.want(ByteSpan(0, 100))
    for lane in range(2):
        ranges.next(lane, [0], 10)
    for lane in range(2):
        ranges.answered(lane, ByteSpan(0, 100))
    assert not ranges.is_to_be_cut(0)
    assert ranges.is_to_be_cut(1)
    ranges.ended(1)
    ranges.arrived(0, 50)
    ranges.ended(0)
    assert ranges.next(1, [0], 100) == ByteSpan(50, 100)


def test_an_answer_at_its_end_is_not_cut() -> None:
    """The connection is worth keeping."""
    ranges = Ranges(100)
    ranges.want(ByteSpan(0, 50))
    ranges.next(0, [0], 50)
    ranges.answered(0, ByteSpan(0, 50))
    ranges.arrived(0, 50)
    assert not ranges.is_to_be_cut(0)


def test_an_opening_request_reaches_behind_the_end() -> None:
    ranges = Ranges(100)
    ranges.want(ByteSpan(0, 100))
    ranges.claim(0, ByteSpan(0, FIRST_RANGE_BYTES))
    ranges.answered(0, ByteSpan(0, 100))
    assert not ranges.ignores_range
    assert ranges.next(1, [0], 10) is None


SIZE_BYTES = 60
LANES = range(3)
spans = st.tuples(st.integers(0, SIZE_BYTES - 1), st.integers(1, SIZE_BYTES)).map(
    lambda pair: ByteSpan(min(pair[0], pair[1] - 1), pair[1])
)


class Origin(RuleBasedStateMachine):
    """Bytes arrive, connections are lost, answers ignore the range."""

    def __init__(self) -> None:
        super().__init__()
        self.ranges = Ranges(SIZE_BYTES)
        self.wanted: set[int] = set()
        self.arrived: set[int] = set()
        # What each connection has still to bring of what it was asked for, and what it sends.
        self.asked: dict[int, set[int]] = {}
        self.sending: dict[int, ByteSpan] = {}
        self.unanswered: set[int] = set()
        self.whole: set[int] = set()

    @rule(span=spans)
    def want(self, span: ByteSpan) -> None:
        self.ranges.want(span)
        self.wanted |= set(range(span.start, span.stop))

    @rule(
        lane=st.sampled_from(LANES),
        positions=st.lists(st.integers(0, SIZE_BYTES), max_size=3),
        length_bytes=st.integers(1, SIZE_BYTES),
    )
    def connect(self, lane: int, positions: list[int], length_bytes: int) -> None:
        if lane in self.sending:
            return
        had_next = self.ranges.has_next()
        under_way = set().union(*self.asked.values()) if self.asked else set()
        span = self.ranges.next(lane, positions, length_bytes)
        assert (span is not None) == had_next
        if span is None:
            lacking = self.wanted - self.arrived - under_way
            assert not lacking or self.sending
            return
        fetched = set(range(span.start, span.stop))
        assert fetched and len(fetched) <= length_bytes
        assert not fetched & self.arrived, "a byte is asked for again"
        assert not fetched & under_way, "a byte is asked for by two"
        assert fetched <= self.wanted
        self.asked[lane] = fetched
        self.sending[lane] = span
        self.unanswered.add(lane)

    @rule(lane=st.sampled_from(LANES), is_whole=st.booleans())
    def answer(self, lane: int, is_whole: bool) -> None:
        if lane not in self.unanswered:
            return
        self.unanswered.remove(lane)
        is_more = is_whole and self.sending[lane] != ByteSpan(0, SIZE_BYTES)
        if is_whole:
            self.sending[lane] = ByteSpan(0, SIZE_BYTES)
        self.ranges.answered(lane, self.sending[lane])
        if is_more and self.whole:
            assert self.ranges.is_to_be_cut(lane)
            self.end(lane)
        elif is_more:
            self.whole.add(lane)

    def end(self, lane: int) -> None:
        self.ranges.ended(lane)
        self.whole.discard(lane)
        self.unanswered.discard(lane)
        del self.sending[lane], self.asked[lane]

    @rule(lane=st.sampled_from(LANES), length_bytes=st.integers(1, 20))
    def arrive(self, lane: int, length_bytes: int) -> None:
        span = self.sending.get(lane)
        if span is None or span.length_bytes == 0 or lane in self.unanswered:
            return
        come = ByteSpan(span.start, min(span.start + length_bytes, span.stop))
        new = self.ranges.arrived(lane, come.length_bytes)
        expected = set(range(come.start, come.stop)) - self.arrived
        assert {byte for part in new for byte in range(part.start, part.stop)} == expected
        self.arrived |= expected
        self.asked[lane] -= set(range(come.start, come.stop))
        self.sending[lane] = ByteSpan(come.stop, span.stop)
        to_come = set(range(come.stop, span.stop))
        is_useless = bool(to_come) and not (to_come & self.wanted - self.arrived)
        assert self.ranges.is_to_be_cut(lane) == is_useless

    @precondition(lambda self: bool(self.sending))
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        lane = data.draw(st.sampled_from(sorted(self.sending)))
        self.end(lane)

    @invariant()
    def it_knows_whether_it_will_be_whole(self) -> None:
        assert self.ranges.will_be_whole() == (self.wanted | self.arrived == set(range(SIZE_BYTES)))

    def teardown(self) -> None:
        """With nothing lost any more, all that is wanted arrives."""
        for lane in list(self.sending):
            self.ranges.ended(lane)
        while (span := self.ranges.next(0, [], 7)) is not None:
            self.ranges.answered(0, span)
            self.ranges.arrived(0, span.length_bytes)
            self.ranges.ended(0)
            self.arrived |= set(range(span.start, span.stop))
        assert self.wanted <= self.arrived


TestOrigin = Origin.TestCase
TestOrigin.settings = settings(max_examples=examples(150), stateful_step_count=40, deadline=None)
