"""The path of a datagram without a secret, attacked: spoofing, amplification, floods, and lies in others' names."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest

from dht.endpoints import Endpoint
from dht.wire.codec import (
    Challenge,
    GetProviders,
    decode_challenge,
    encode_challenge,
    encode_request,
)
from dht.wire.envelope import Envelope
from dht.wire.guard import Admitted, Challenged, Refused
from tests.support.dht_guards import (
    ALICE,
    AT,
    BEACON,
    BOB,
    CAROL,
    MESSAGE,
    PARAMS,
    PING,
    PONG,
    admitted,
    got,
    guard_of,
    introduced,
    sent,
)


def test_a_token_opens_the_door() -> None:
    alice, bob = guard_of(ALICE, keys=()), guard_of(BOB, keys=())
    introduced(alice, bob)
    found = admitted(got(bob, sent(alice, PING, BOB)))
    assert found.teaches
    assert found.endpoint == AT[ALICE]
    assert not admitted(got(bob, sent(alice, PING, BOB, is_addressed=False))).teaches
    later = 2 * PARAMS.token_rotate_s
    assert isinstance(got(bob, sent(alice, PING, BOB, now=later), now=later), Challenged)


def test_a_token_is_no_good_from_elsewhere() -> None:
    alice, bob = guard_of(ALICE, keys=()), guard_of(BOB, keys=())
    introduced(alice, bob)
    assert isinstance(got(bob, sent(alice, PING, BOB), AT[CAROL]), Challenged)


@pytest.mark.parametrize(
    ("address", "is_local"),
    [
        ("10.1.2.3", True),
        ("192.168.1.1", True),
        ("127.0.0.1", True),
        ("169.254.3.3", True),
        ("fd00::1", True),
        ("fe80::1%eth0", True),
        ("::1", True),
        ("100.64.0.1", True),
        ("8.8.8.8", False),
        ("2600::1", False),
    ],
)
def test_only_near_addresses_without_a_secret(address: str, is_local: bool) -> None:
    found = got(guard_of(BOB, keys=()), sent(guard_of(ALICE, keys=()), PING, BOB), Endpoint(address, 5))
    assert isinstance(found, Challenged if is_local else Refused)
    if isinstance(found, Refused):
        assert found.reason == "not_local"


def test_nothing_is_amplified_before_the_token_came_back() -> None:
    """The smallest request there is, and the largest answer to it."""
    alice, bob = guard_of(ALICE, keys=()), guard_of(BOB, keys=())
    worst = 0.0
    for frame in (b"\x00" + MESSAGE + b"\x90", PING, encode_request(MESSAGE, GetProviders(b"k" * 20, 255))):
        request = sent(alice, frame, BOB)
        found = got(bob, request)
        assert isinstance(found, Challenged)
        worst = max(worst, len(found.reply) / len(request))
    assert worst <= PARAMS.amplification_max
    assert worst < 1.2
    tight = guard_of(BOB, keys=(), params=dataclasses.replace(PARAMS, amplification_max=1))
    assert got(tight, sent(alice, b"\x00" + MESSAGE + b"\x90", BOB)) == Refused("amplification")


def test_a_flood_without_tokens_is_answered_at_a_bounded_rate() -> None:
    bob, alice = guard_of(BOB, keys=()), guard_of(ALICE, keys=())
    introduced(alice, bob)
    challenged = 0
    for number in range(20_000):
        now = number / 10_000
        source = Endpoint(f"10.9.{number % 200}.{number % 199 + 1}", 1000 + number % 5000)
        liar = Envelope((number % 997).to_bytes(20, "big"), 1, "peili")
        datagram = liar.seal(PING, destination=BOB, now_ms=0)
        challenged += isinstance(got(bob, datagram, source, now), Challenged)
        if number % 1000 == 0:
            # Whoever showed a token before is served all the while.
            admitted(got(bob, sent(alice, PING, BOB, now=now), now=now))
    assert challenged <= 3 * PARAMS.tokenless_rate_per_s


def test_a_flood_of_beacons_is_rationed() -> None:
    bob = guard_of(BOB, keys=())
    liar = Envelope(ALICE, 1, "peili")
    found = [got(bob, liar.seal(BEACON, destination=None, now_ms=0)) for _ in range(5000)]
    assert Counter(map(type, found)) == {Admitted: 1000, Refused: 4000}


def test_nobody_is_locked_out_in_his_name() -> None:
    """Anybody can write any id and any stamp: neither of them may shut the true one out."""
    alice, bob = guard_of(ALICE, keys=()), guard_of(BOB, keys=())
    introduced(alice, bob)
    liar = Envelope(ALICE, (1 << 24) - 1, "peili")
    for frame in (PING, PONG, BEACON, encode_challenge(MESSAGE, Challenge(0))):
        for source in (AT[ALICE], AT[CAROL]):
            for _ in range(2000):
                got(bob, liar.seal(frame, destination=BOB, now_ms=0), source)
    assert admitted(got(bob, sent(alice, PING, BOB))).teaches


def test_a_token_of_ones_own_does_not_help_against_another() -> None:
    liar, alice, bob = guard_of(ALICE, keys=(), epoch=99), guard_of(ALICE, keys=()), guard_of(BOB, keys=())
    introduced(alice, bob)
    introduced(liar, bob, AT[CAROL])
    admitted(got(bob, sent(liar, PING, BOB), AT[CAROL]))
    assert admitted(got(bob, sent(alice, PING, BOB))).teaches


def test_a_replayed_request_with_its_token() -> None:
    alice, bob = guard_of(ALICE, keys=()), guard_of(BOB, keys=())
    introduced(alice, bob)
    datagram = sent(alice, PING, BOB)
    admitted(got(bob, datagram))
    assert got(bob, datagram) == Refused("replayed")


def test_one_address_with_many_names_has_one_rate() -> None:
    bob = guard_of(BOB, keys=())
    served = 0
    for number in range(100):
        node = number.to_bytes(20, "big")
        alice, place = guard_of(node, keys=()), Endpoint("10.0.0.9", 1000 + number)
        introduced(alice, bob, place)
        for _ in range(20):
            served += isinstance(got(bob, sent(alice, PING, BOB), place), Admitted)
    assert served == PARAMS.sender_burst_count


def test_many_nodes_of_one_host_talk_over_loopback() -> None:
    bob = guard_of(BOB, keys=())
    served = 0
    for number in range(100):
        alice, place = guard_of(number.to_bytes(20, "big"), keys=()), Endpoint("127.0.0.1", 1000 + number)
        introduced(alice, bob, place)
        for _ in range(20):
            served += isinstance(got(bob, sent(alice, PING, BOB), place), Admitted)
    assert served == 2000


def test_an_advertised_address_is_ignored_without_a_secret() -> None:
    """It would send what others ask for to a victim."""
    bob = guard_of(BOB, keys=())
    liar = Envelope(ALICE, 1, "peili")
    first = got(bob, liar.seal(PING, destination=BOB, now_ms=0))
    assert isinstance(first, Challenged)
    token = decode_challenge(admitted(got(guard_of(ALICE, keys=()), first.reply, AT[BOB])).body).token
    datagram = liar.seal(PING, destination=BOB, now_ms=0, token=token, advertised=AT[CAROL])
    assert admitted(got(bob, datagram)).endpoint == AT[ALICE]


def test_time_means_nothing_without_a_secret() -> None:
    alice, bob = guard_of(ALICE, keys=()), guard_of(BOB, keys=())
    introduced(alice, bob)
    assert admitted(got(bob, sent(alice, PING, BOB, ahead_s=-5000))).teaches
