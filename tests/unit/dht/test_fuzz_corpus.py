"""What fuzzing found, once more, without the fuzzer: no input does harm, and together they get everywhere."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht.wire import codec
from dht.wire.codec import Ping
from dht.wire.guard import Guard, Refused
from tests.fuzz.datagram_corpus import corpus, seeds
from tests.fuzz.datagram_target import Op, Variant, operation, operations, run

# Chunks, so that a failure names less than everything.
CHUNKS_COUNT = 8
CORPUS = corpus()
PING = operation(Op.REQUEST, codec.encode_request(bytes(20), Ping())[21:])


@pytest.mark.parametrize("chunk", range(CHUNKS_COUNT))
def test_the_corpus_does_no_harm(chunk: int) -> None:
    for one in CORPUS[chunk::CHUNKS_COUNT]:
        run(one)


def happened_in(inputs: list[bytes]) -> Counter[str]:
    return sum((run(one) for one in inputs), Counter())


@pytest.mark.parametrize("inputs", [CORPUS, list(seeds())], ids=["corpus", "seeds"])
def test_every_place_is_reached(inputs: list[bytes]) -> None:
    """Else fuzzing would stop at the MAC, or at the token, and show nothing."""
    happened = happened_in(inputs)
    refusals = (
        "short long version flags foreign mac tag advertised not_local frame_type"
        " stale replayed stale_epoch echo duplicate_id"
    )
    expected = {
        *(f"admitted {name}" for name in codec.NAMES.values()),
        *(f"served {name}" for name in codec.NAMES.values() if name != "leave"),
        *(f"answer to {codec.NAMES[asked]}" for asked in codec.RESULTS),
        *(f"refused {word}" for word in refusals.split()),
        *(f"invalid {words}" for words in ("bad request", "bad arguments", "bad response", "bad challenge")),
        "admitted beacon",
        "admitted challenge",
        "challenged clock",
        "challenged token",
        "corrected",
        "unknown rpc",
    }
    assert expected - happened.keys() == set()


def test_the_target_notices_a_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guard that forgets what it saw."""
    story = b"\x00" + PING + operation(Op.AGAIN, b"\x01")
    assert run(story)["refused replayed"] == 1
    whole = Guard.admit

    def forgetful(self: Guard, *arguments: object) -> object:
        found = whole(self, *arguments)  # type: ignore[arg-type]
        if found == Refused("replayed"):
            self._replay._windows.clear()
            return whole(self, *arguments)  # type: ignore[arg-type]
        return found

    monkeypatch.setattr(Guard, "admit", forgetful)
    with pytest.raises(AssertionError, match="replay"):
        run(story)


@given(st.sampled_from(list(Op)), st.integers(0, 255), st.binary(max_size=2047))
def test_an_operation_reads_back(op: Op, variant: int, payload: bytes) -> None:
    data = b"\x00" + operation(op, payload, Variant.of(variant))
    assert list(operations(data)) == [(op, Variant.of(variant), payload)]
    assert int(Variant.of(variant)) == variant


@given(st.binary(max_size=300))
def test_any_bytes_are_a_story(data: bytes) -> None:
    run(data)
