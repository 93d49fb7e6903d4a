"""Upload slots: how many there are, who needs one, and what is told of them."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.peer.slots import FREE_BODY_MAX_BYTES, UPLOAD_SLOTS_COUNT, UploadSlots

LARGE = FREE_BODY_MAX_BYTES + 1


def test_beyond_the_last_slot_there_is_none_until_one_is_left() -> None:
    slots = UploadSlots(2)
    with slots.slot(LARGE) as first:
        with slots.slot(LARGE) as second, slots.slot(LARGE) as third, slots.slot(LARGE) as fourth:
            assert (first, second, third, fourth) == (True, True, False, False)
            assert slots.load_ratio == 1.0
        with slots.slot(LARGE) as again:
            assert again
    assert slots.load_ratio == 0.0


def test_a_slot_is_given_back_whatever_happens() -> None:
    slots = UploadSlots(1)
    with pytest.raises(ZeroDivisionError), slots.slot(LARGE):
        raise ZeroDivisionError
    with slots.slot(LARGE) as has_slot:
        assert has_slot


def test_a_small_body_needs_none() -> None:
    slots = UploadSlots(1)
    with slots.slot(LARGE), slots.slot(FREE_BODY_MAX_BYTES) as small, slots.slot(LARGE) as large:
        assert (small, large) == (True, False)
        assert slots.load_ratio == 1.0


def test_the_load_is_told_in_steps_and_when_all_or_none_are_taken() -> None:
    told: list[float] = []
    slots = UploadSlots(32, told.append)
    with ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(slots.slot(LARGE))
        assert told == [4 / 32, 8 / 32, 12 / 32, 16 / 32, 20 / 32, 24 / 32, 28 / 32, 1.0]
        told.clear()
    assert told == [28 / 32, 24 / 32, 20 / 32, 16 / 32, 12 / 32, 8 / 32, 4 / 32, 0.0]


@pytest.mark.parametrize("count", range(1, 41))
def test_that_all_are_taken_or_none_is_told_always(count: int) -> None:
    told = [0.0]
    slots = UploadSlots(count, told.append)
    for _ in range(2):
        with ExitStack() as stack:
            for _ in range(count):
                stack.enter_context(slots.slot(LARGE))
            assert told[-1] == 1.0
        assert told[-1] == 0.0


def test_a_host_at_its_limit_does_not_tell_each_body() -> None:
    told: list[float] = []
    slots = UploadSlots(32, told.append)
    with ExitStack() as stack:
        for _ in range(31):
            stack.enter_context(slots.slot(LARGE))
        told.clear()
        for _ in range(100):
            with slots.slot(LARGE):
                pass
        assert told == [1.0]


@given(st.integers(1, 40), st.lists(st.booleans(), max_size=200))
def test_what_was_told_last_is_never_far_from_the_truth(count: int, comings: list[bool]) -> None:
    told = [0.0]
    slots = UploadSlots(count, told.append)
    present: list[ExitStack] = []
    for comes in comings:
        if comes:
            with ExitStack() as stack:
                has_slot = stack.enter_context(slots.slot(LARGE))
                assert has_slot == (len(present) < count)
                if has_slot:
                    present.append(stack.pop_all())
        elif present:
            present.pop(0).close()
        assert slots.load_ratio == len(present) / count
        assert abs(told[-1] - slots.load_ratio) < 1 / 8
        assert slots.load_ratio not in (0.0, 1.0) or told[-1] == slots.load_ratio
    for stack in present:
        stack.close()
    assert told[-1] == 0.0


def test_there_are_enough_for_the_neighbours_of_a_swarm() -> None:
    assert UploadSlots().load_ratio == 0.0
    assert UPLOAD_SLOTS_COUNT >= 10 * 3
