from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mirror.oci.byterange import ByteSpan
from mirror.relay.spans import SpanSet

SIZE_BYTES = 40

spans = st.tuples(st.integers(0, SIZE_BYTES), st.integers(0, SIZE_BYTES)).map(sorted)
steps = st.lists(st.tuples(st.booleans(), spans), max_size=30)


def built(done: list[tuple[bool, list[int]]]) -> tuple[SpanSet, set[int]]:
    tested, model = SpanSet(), set[int]()
    for is_added, (start, stop) in done:
        if is_added:
            tested.add(start, stop)
            model |= set(range(start, stop))
        else:
            tested.remove(start, stop)
            model -= set(range(start, stop))
    return tested, model


@given(steps)
def test_it_is_the_set_of_its_bytes_in_order_and_merged(done: list[tuple[bool, list[int]]]) -> None:
    tested, model = built(done)
    listed = list(tested)
    assert {byte for span in listed for byte in range(span.start, span.stop)} == model
    assert tested.length_bytes == len(model)
    assert bool(tested) == bool(model)
    assert all(before.stop < after.start for before, after in pairwise(listed))
    assert all(span.start < span.stop for span in listed)


@given(steps, spans)
def test_what_is_missing_and_what_follows(done: list[tuple[bool, list[int]]], asked: list[int]) -> None:
    tested, model = built(done)
    start, stop = asked
    wanted = set(range(start, stop))
    gaps = tested.missing(start, stop)
    assert {byte for span in gaps for byte in range(span.start, span.stop)} == wanted - model
    assert all(before.stop < after.start for before, after in pairwise(gaps))
    assert tested.covers(start, stop) == (wanted <= model)
    assert tested.overlaps(start, stop) == bool(wanted & model)
    follows = next(byte for byte in range(start, SIZE_BYTES + 2) if byte not in model)
    assert tested.stop_from(start) == follows


def test_a_copy_is_its_own() -> None:
    first = SpanSet([ByteSpan(0, 5)])
    second = SpanSet(first)
    second.add(5, 9)
    assert list(first) == [ByteSpan(0, 5)]
    assert list(second) == [ByteSpan(0, 9)]
