"""The path of a datagram with a secret, attacked: replay, spoofing, other clusters, floods."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht.contacts import stamp
from dht.endpoints import Endpoint
from dht.wire.codec import (
    Challenge,
    FrameType,
    Ping,
    decode_request,
    encode_challenge,
)
from dht.wire.envelope import FrameTooLong, Key
from dht.wire.guard import Admitted, Challenged, Refused
from tests.support.dht_guards import (
    ALICE,
    AT,
    BEACON,
    BOB,
    CAROL,
    KEY,
    MESSAGE,
    PARAMS,
    PING,
    PONG,
    WALL_S,
    admitted,
    got,
    guard_of,
    sent,
)


def test_a_request_comes_in_whole() -> None:
    found = admitted(got(guard_of(BOB), sent(guard_of(ALICE, epoch=7), PING, BOB)))
    assert found == Admitted(
        ALICE,
        stamp(7, 0),
        int(WALL_S * 1000),
        AT[ALICE],
        AT[ALICE],
        True,
        True,
        FrameType.REQUEST,
        MESSAGE,
        PING[21:],
    )
    assert decode_request(found.body) == Ping(b"info")


@pytest.mark.parametrize(
    ("frame", "is_addressed", "teaches"),
    [
        (PING, True, True),
        (PING, False, False),
        (PONG, True, True),
        (PONG, False, True),
        (encode_challenge(MESSAGE, Challenge(0)), True, True),
        (encode_challenge(MESSAGE, Challenge(0)), False, False),
        (BEACON, False, False),
    ],
)
def test_an_address_is_learned_from_what_was_meant_for_us(
    frame: bytes, is_addressed: bool, teaches: bool
) -> None:
    datagram = sent(guard_of(ALICE), frame, BOB, is_addressed=is_addressed)
    assert admitted(got(guard_of(BOB), datagram)).teaches is teaches


def test_an_overtaken_datagram_teaches_nothing() -> None:
    alice, bob = guard_of(ALICE), guard_of(BOB)
    first, second = sent(alice, PING, BOB), sent(alice, PING, BOB)
    assert admitted(got(bob, second)).teaches
    assert not admitted(got(bob, first, AT[CAROL])).teaches
    assert got(bob, first, AT[CAROL]) == Refused("replayed")


def test_a_replayed_datagram_changes_nothing() -> None:
    """Ten thousand copies, from any address, over the time that it is fresh and after."""
    alice, bob = guard_of(ALICE), guard_of(BOB)
    datagram = sent(alice, PING, BOB)
    admitted(got(bob, datagram))
    seen = Counter[str]()
    for number in range(10_000):
        now = number * 0.1
        source = Endpoint(f"10.1.{number % 250}.{number % 7 + 1}", 1 + number % 60_000)
        found = got(bob, datagram, source, now)
        assert not isinstance(found, Admitted)
        seen[found.reason] += 1
    # Stale ones are answered with our time, no larger than they are and at a bounded rate.
    assert seen["replayed"] == 1201
    assert seen.keys() <= {"replayed", "clock", "rate"}


def test_a_request_to_another_is_none_to_us() -> None:
    assert got(guard_of(CAROL), sent(guard_of(ALICE), PING, BOB)) == Refused("mac")


def test_other_clusters_and_strangers() -> None:
    bob = guard_of(BOB)
    for keys, reason in (
        ((Key(b"key.", b"x" * 32),), "mac"),
        ((Key(b"else", b"k" * 32),), "foreign"),
        ((), "foreign"),
    ):
        assert got(bob, sent(guard_of(ALICE, keys=keys), PING, BOB)) == Refused(reason)


def test_the_restored_node() -> None:
    bob = guard_of(BOB)
    admitted(got(bob, sent(guard_of(ALICE, epoch=9), PING, BOB)))
    restored = guard_of(ALICE, epoch=4)
    assert got(bob, sent(restored, PING, BOB, now=1.0), now=1.0) == Refused("stale_epoch")
    late = 2.5 * PARAMS.freshness_s + 1
    admitted(got(bob, sent(restored, PING, BOB, now=late), now=late))


def test_a_wrong_clock_is_told_the_time() -> None:
    """One answer more, and the request is served; the difference is kept."""
    alice, bob = guard_of(ALICE), guard_of(BOB)
    request = alice.seal(PING, destination=BOB, to=AT[BOB], now=0.0, wall_s=WALL_S - 9000)
    challenged = got(bob, request)
    assert isinstance(challenged, Challenged)
    assert challenged.reason == "clock"
    assert len(challenged.reply) <= len(request)
    answer = admitted(alice.admit(challenged.reply, AT[BOB], 0.0, WALL_S - 9000))
    assert (answer.frame_type, answer.message_id, answer.teaches) == (FrameType.CHALLENGE, MESSAGE, False)
    assert alice.clock.corrected(answer.sender, answer.sent_ms, WALL_S - 9000)
    again = alice.seal(PING, destination=BOB, to=AT[BOB], now=0.0, wall_s=WALL_S - 9000)
    assert admitted(got(bob, again)).sent_ms == int(WALL_S * 1000)
    assert admitted(alice.admit(sent(bob, PONG, ALICE), AT[BOB], 0.0, WALL_S - 9000)).teaches


def test_one_wrong_challenger_does_not_move_who_hears_others() -> None:
    bob = guard_of(BOB)
    for node in (ALICE, CAROL):
        admitted(got(bob, sent(guard_of(node), PING, BOB, now=float(node[0])), AT[node], float(node[0])))
    assert not bob.clock.corrected(b"d" * 20, int(WALL_S * 1000) + 9_000_000, WALL_S + 100)


def test_an_old_answer_is_the_callers_to_judge_and_closes_no_window() -> None:
    """A recorded answer of a node's later life must not lock out its earlier one, restored from a backup."""
    bob = guard_of(BOB)
    old = sent(guard_of(ALICE, epoch=9), PONG, BOB, ahead_s=-1000)
    found = admitted(got(bob, old))
    assert not found.teaches
    admitted(got(bob, sent(guard_of(ALICE, epoch=4), PING, BOB)))
    assert got(bob, sent(guard_of(ALICE, epoch=4), BEACON, BOB, ahead_s=-1000)) == Refused("stale")


def test_our_own_datagrams_come_back() -> None:
    """A bootstrap address that is ours, a multicast loop, a reflection: no alarm."""
    bob = guard_of(BOB, first_sequence=1000)
    datagram = sent(bob, PING, BOB, is_addressed=False)
    assert got(bob, datagram, AT[BOB]) == Refused("echo")


@pytest.mark.parametrize("keys", [(KEY,), ()])
def test_another_node_with_our_id_is_noticed(keys: tuple[Key, ...]) -> None:
    bob = guard_of(BOB, first_sequence=1000, keys=keys)
    sent(bob, PING, ALICE)
    for twin in (guard_of(BOB, first_sequence=500_000, keys=keys), guard_of(BOB, epoch=3, keys=keys)):
        assert got(bob, sent(twin, PING, BOB, is_addressed=False), AT[BOB]) == Refused("duplicate_id")


def test_a_recording_of_our_last_life_is_no_twin() -> None:
    bob = guard_of(BOB, epoch=2)
    recorded = sent(guard_of(BOB, epoch=1), BEACON, BOB, is_addressed=False, ahead_s=-121)
    assert got(bob, recorded) == Refused("stale")


@pytest.mark.parametrize(
    ("advertised", "source", "endpoint"),
    [
        ("192.0.2.9", "10.0.0.1", "192.0.2.9"),
        ("127.0.0.1", "10.0.0.1", None),
        ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
        ("169.254.1.1", "10.0.0.1", None),
        ("169.254.1.1", "169.254.1.1", "169.254.1.1"),
        ("224.0.0.1", "10.0.0.1", None),
        ("255.255.255.255", "10.0.0.1", None),
        ("0.0.0.0", "10.0.0.1", None),
    ],
)
def test_which_advertised_address_is_believed(advertised: str, source: str, endpoint: str | None) -> None:
    alice = guard_of(ALICE, advertised=Endpoint(advertised, 4444))
    found = admitted(got(guard_of(BOB), sent(alice, PING, BOB), Endpoint(source, 5555)))
    assert found.endpoint == (Endpoint(endpoint, 4444) if endpoint else Endpoint(source, 5555))
    assert found.source == Endpoint(source, 5555)


def test_a_link_local_source_lends_its_zone() -> None:
    alice = guard_of(ALICE, advertised=Endpoint("fe80::1%eth7", 4444))
    datagram = alice.seal(PING, destination=BOB, to=Endpoint("fe80::2%eth7", 1), now=0.0, wall_s=WALL_S)
    bob = guard_of(BOB)
    assert admitted(got(bob, datagram, Endpoint("fe80::1%eth0", 5555))).endpoint == Endpoint(
        "fe80::1%eth0", 4444
    )
    other = alice.seal(PING, destination=BOB, to=Endpoint("fe80::2%eth7", 1), now=0.0, wall_s=WALL_S)
    source = Endpoint("fe80::3%eth0", 5555)
    assert admitted(got(bob, other, source)).endpoint == source


def test_an_address_is_advertised_over_its_own_family_and_with_a_secret() -> None:
    there = Endpoint("2001:db8::2", 1)
    alice = guard_of(ALICE, advertised=Endpoint("192.0.2.9", 4444))
    six = alice.seal(PING, destination=BOB, to=there, now=0.0, wall_s=WALL_S)
    assert admitted(got(guard_of(BOB), six, there)).endpoint == there
    assert alice.overhead_bytes == 74
    free = guard_of(ALICE, keys=(), advertised=Endpoint("192.0.2.9", 4444))
    assert len(sent(free, PING, BOB)) == 56 + len(PING)
    assert free.overhead_bytes == 56


@pytest.mark.parametrize(
    "source", [("224.0.0.1", 5), ("0.0.0.0", 5), ("255.255.255.255", 5), ("10.0.0.1", 0)]
)
def test_no_datagram_comes_from_there(source: tuple[str, int]) -> None:
    assert got(guard_of(BOB), sent(guard_of(ALICE), PING, BOB), Endpoint(*source)) == Refused("source")


@pytest.mark.parametrize("keys", [(KEY,), ()])
def test_frames_of_a_later_release_are_left_alone(keys: tuple[Key, ...]) -> None:
    alice = guard_of(ALICE, keys=keys)
    assert got(guard_of(BOB, keys=keys), sent(alice, b"\x04" + PING[1:], BOB)) == Refused("frame_type")
    assert got(guard_of(BOB, keys=keys), sent(alice, PING[:21], BOB)) == Refused("short")


def test_one_sender_floods_and_the_others_are_served() -> None:
    alice, bob, carol = guard_of(ALICE), guard_of(BOB), guard_of(CAROL)
    served = Counter[str]()
    for number in range(40_000):
        now = number / 10_000
        served[type(got(bob, sent(alice, PING, BOB, now=now), now=now)).__name__] += 1
        if number % 1000 == 0:
            admitted(got(bob, sent(carol, PING, BOB, now=now), AT[CAROL], now))
    expected = PARAMS.sender_burst_count + 4 * PARAMS.sender_rate_per_s
    assert abs(served["Admitted"] - expected) < 10
    # Its answers to us are not held back by its questions.
    assert admitted(got(bob, sent(alice, PONG, BOB, now=4.0), now=4.0)).teaches


def test_challenges_are_rationed() -> None:
    """Recorded stale requests, sent in with the addresses of victims."""
    alice, bob = guard_of(ALICE), guard_of(BOB)
    stale = [sent(alice, PING, BOB, ahead_s=-500) for _ in range(5000)]
    replies = [found for one in stale if isinstance(found := got(bob, one), Challenged)]
    assert len(replies) == PARAMS.tokenless_rate_per_s
    assert sum(len(one.reply) for one in replies) <= sum(map(len, stale))


def test_what_does_not_fit_is_not_sent() -> None:
    with pytest.raises(FrameTooLong):
        sent(guard_of(ALICE), bytes(1145), BOB)


@given(st.data())
def test_no_datagram_raises(data: st.DataObject) -> None:
    """Sealed by a member or written by a stranger, whole, cut, changed or invented."""
    keys = data.draw(st.sampled_from([(KEY,), ()]))
    frame = data.draw(st.sampled_from([PING, PONG, BEACON]) | st.binary(min_size=1, max_size=60))
    datagram = bytearray(
        sent(guard_of(ALICE, keys=keys), frame, BOB, is_addressed=data.draw(st.booleans()))
        if data.draw(st.booleans())
        else data.draw(st.binary(max_size=1300))
    )
    if datagram and data.draw(st.booleans()):
        datagram[data.draw(st.integers(0, len(datagram) - 1))] ^= data.draw(st.integers(1, 255))
    source = Endpoint(data.draw(st.sampled_from(["10.0.0.1", "::1", "8.8.8.8", "fe80::1%eth0"])), 5)
    bob = guard_of(BOB, keys=keys)
    found = bob.admit(bytes(datagram), source, 0.0, data.draw(st.sampled_from([WALL_S, 0.0, 4e9])))
    if isinstance(found, Challenged):
        assert len(found.reply) <= PARAMS.amplification_max * len(datagram)
