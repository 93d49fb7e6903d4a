"""Messages of the state channel: nothing that anybody may send does more than raise FrameInvalid."""

from __future__ import annotations

import contextlib
import os
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.peer import frames
from mirror.peer.frames import Frame, FrameInvalid, Hello

NUMBERS = st.integers(0, 2**32 - 1)
HELD = st.binary(max_size=64) | st.lists(st.tuples(NUMBERS, NUMBERS), max_size=frames.RANGES_MAX_COUNT)
FRAMES: st.SearchStrategy[Frame] = st.one_of(
    st.just(frames.Keep()),
    st.builds(
        frames.Open,
        NUMBERS,
        st.text(max_size=135),
        st.integers(0, frames.BLOB_MAX_BYTES),
        HELD,
        st.booleans(),
    ),
    st.builds(frames.State, NUMBERS, HELD, st.booleans()),
    st.builds(frames.Have, NUMBERS, st.lists(NUMBERS, max_size=frames.HAVE_MAX_COUNT)),
    st.builds(frames.Load, st.integers(0, 255)),
    st.builds(frames.Peers, NUMBERS, st.lists(st.binary(min_size=6, max_size=18), max_size=16)),
    st.builds(frames.Close, NUMBERS, st.integers(0, 255)),
    st.builds(frames.Decline, NUMBERS, st.integers(0, 255)),
    st.builds(frames.DigestsAsk, NUMBERS, NUMBERS, NUMBERS),
    st.builds(
        frames.Digests,
        NUMBERS,
        NUMBERS,
        NUMBERS,
        st.dictionaries(NUMBERS, st.binary(min_size=32, max_size=32), max_size=8),
    ),
)


@given(st.lists(FRAMES, min_size=1, max_size=8))
def test_what_is_sent_is_what_is_heard(sent: list[Frame]) -> None:
    data = frames.join(1, [frames.encode_frame(frame) for frame in sent])
    assert frames.decode_message(data, 1) == (sent, len(sent))


@given(st.binary(max_size=300))
def test_bytes_of_anybody(data: bytes) -> None:
    for read in (lambda: frames.decode_message(b"\x01" + data, 1), lambda: frames.decode_hello(data)):
        try:
            read()
        except FrameInvalid:
            continue


@given(st.lists(FRAMES, min_size=1, max_size=4), st.data())
def test_a_message_that_was_damaged(sent: list[Frame], draw: st.DataObject) -> None:
    data = bytearray(frames.join(1, [frames.encode_frame(frame) for frame in sent]))
    for _ in range(draw.draw(st.integers(1, 3))):
        data[draw.draw(st.integers(1, len(data) - 1))] = draw.draw(st.integers(0, 255))
    with contextlib.suppress(FrameInvalid):
        frames.decode_message(bytes(data[: draw.draw(st.integers(2, len(data)))]), 1)


LARGE = {
    "a nest of arrays": b"\x91" * 65_000,
    "a nest of maps": b"\x91\x92\x64" + b"\x81\x01" * 32_000,
    "an array of 2^32": b"\xdd\xff\xff\xff\xff" + bytes(60_000),
    "pieces of 2^32": b"\x91\x93\x04\x00\xdd\xff\xff\xff\xff" + bytes(60_000),
    "digests of 2^32": b"\x91\x95\x0a\x00\x00\x01\xdf\xff\xff\xff\xff" + bytes(60_000),
    "a bitfield of 4 GiB": b"\x91\x94\x03\x00\xc6\xff\xff\xff\xff" + bytes(60_000),
    "a text of 4 GiB": b"\x91\x96\x02\x00\xdb\xff\xff\xff\xff" + bytes(60_000),
    "a bitfield too long": b"\x91\x94\x03\x00\xc5\x40\x01" + bytes(0x4001) + b"\xc2",
    "65 pieces": b"\x91\x93\x04\x00\xdc\x00\x41" + bytes(65),
    "a longer message": bytes(frames.MESSAGE_MAX_BYTES),
    "noise": os.urandom(60_000),
}


@pytest.mark.parametrize("data", LARGE.values(), ids=LARGE)
def test_a_promise_is_not_allocated(data: bytes) -> None:
    message = b"\x01" + data
    tracemalloc.start()
    try:
        with pytest.raises(FrameInvalid):
            frames.decode_message(message, 1)
        assert tracemalloc.get_traced_memory()[1] < 1024 * 1024
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("newest", "spoken"), [(0, None), (1, 1), (2, 1), (3, None), (255, None)])
def test_versions(newest: int, spoken: int | None) -> None:
    """Ours is 1. A daemon speaks its newest version and the one before."""
    assert frames.negotiate(newest) == spoken


def test_a_message_of_another_version_is_none() -> None:
    data = frames.join(2, [frames.encode_frame(frames.Load(1))])
    assert frames.decode_message(data, 2)[1] == 1
    with pytest.raises(FrameInvalid, match="version 2 where 1"):
        frames.decode_message(data, 1)


def test_a_first_message_that_is_no_hello() -> None:
    with pytest.raises(FrameInvalid, match="HELLO"):
        frames.decode_hello(frames.join(1, [frames.encode_frame(frames.Load(1))]))
    assert frames.decode_hello(frames.encode_hello(Hello(bytes(20), 1, 0))) == (1, Hello(bytes(20), 1, 0))
    for wrong in (Hello(bytes(19), 1, 0), Hello(bytes(20), 0, 0), Hello(bytes(20), 1, 256)):
        with pytest.raises(FrameInvalid):
            frames.decode_hello(frames.encode_hello(wrong))


def test_the_largest_frames_fit_into_a_message() -> None:
    most = 2**32 - 1
    for frame in (
        frames.Open(most, "x" * 135, frames.BLOB_MAX_BYTES, bytes(frames.BITFIELD_MAX_BYTES), True),
        frames.Digests(most, most, most, {most - n: bytes(32) for n in range(frames.DIGESTS_MAX_COUNT)}),
        frames.State(most, [(most, most)] * frames.RANGES_MAX_COUNT, True),
    ):
        data = frames.join(1, [frames.encode_frame(frame)])
        assert frames.decode_message(data, 1) == ([frame], 1)


def test_a_message_that_is_too_long() -> None:
    half = frames.encode_frame(frames.State(0, bytes(frames.BITFIELD_MAX_BYTES), False))
    assert len(frames.decode_message(frames.join(1, [half] * 3), 1)[0]) == 3
    with pytest.raises(FrameInvalid, match="bytes"):
        frames.decode_message(frames.join(1, [half] * 4), 1)
