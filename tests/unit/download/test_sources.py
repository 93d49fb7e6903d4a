import random

import pytest

from mirror.discovery.base import Peer, Provider, ProviderState
from mirror.download.sources import (
    ABSENT_REST_S,
    BAN_S,
    BANS_MAX_COUNT,
    FAILURE_REST_S,
    UNREACHABLE_MAX_S,
    UNREACHABLE_S,
    Bans,
    Sources,
)

A, B, C = (Peer(f"10.0.0.{n}", 29021) for n in (1, 2, 3))


def sources(*peers: Peer, bans: Bans | None = None, seed: int = 1) -> Sources:
    made = Sources(bans or Bans(), random.Random(seed))
    for peer in peers:
        made.found(Provider(peer, ProviderState.COMPLETE))
    return made


def test_nobody_known_is_nobody_chosen() -> None:
    assert sources().choose(0.0) is None


def test_every_source_gets_its_share_by_lot() -> None:
    chosen = {sources(A, B, C, seed=seed).choose(0.0) for seed in range(40)}
    assert chosen == {A, B, C}


def test_a_busy_source_comes_after_an_idle_one() -> None:
    made = sources(A, B)
    made.opened(A)
    assert made.choose(0.0) == B
    made.opened(B)
    made.opened(B)
    assert made.choose(0.0) == A
    made.closed(B)
    made.closed(B)
    assert made.choose(0.0) == B


def test_a_complete_provider_comes_before_a_partial_one() -> None:
    made = sources(A)
    made.found(Provider(B, ProviderState.PARTIAL))
    made.opened(A)
    assert made.choose(0.0) == A


def test_a_failed_source_rests_longer_each_time() -> None:
    made = sources(A)
    made.failed(A, 0.0)
    assert made.choose(FAILURE_REST_S - 0.01) is None
    assert made.choose(FAILURE_REST_S) == A
    made.failed(A, 10.0)
    assert made.choose(10.0 + 2 * FAILURE_REST_S - 0.01) is None
    assert made.choose(10.0 + 2 * FAILURE_REST_S) == A


def test_a_source_that_served_starts_afresh() -> None:
    made = sources(A)
    made.failed(A, 0.0)
    made.served(A)
    made.failed(A, 10.0)
    assert made.choose(10.0 + FAILURE_REST_S) == A


def test_a_failed_source_is_the_last_choice_even_when_rested() -> None:
    made = sources(A, B)
    made.failed(A, 0.0)
    assert made.choose(100.0) == B


def test_an_absent_source_is_asked_again_later() -> None:
    made = sources(A)
    made.absent(A, 0.0)
    assert made.choose(ABSENT_REST_S - 0.01) is None
    assert made.choose(ABSENT_REST_S) == A


def test_a_source_found_again_is_not_forgiven() -> None:
    made = sources(A)
    made.failed(A, 0.0)
    made.found(Provider(A, ProviderState.COMPLETE))
    assert made.choose(0.0) is None


def test_a_liar_is_out_of_every_download_for_a_while() -> None:
    bans = Bans()
    here, there = sources(A, B, bans=bans), sources(A, bans=bans)
    here.lied(A, 0.0)
    assert here.choose(0.0) == B
    assert there.choose(BAN_S - 0.01) is None
    assert there.choose(BAN_S) == A


def test_a_peer_that_cannot_be_reached_is_left_out_of_every_download_longer_each_time() -> None:
    bans, now = Bans(), 0.0
    for number in range(8):
        here, there = sources(A, B, bans=bans), sources(A, bans=bans)
        rest_s = min(UNREACHABLE_S * 2**number, UNREACHABLE_MAX_S)
        here.unreachable(A, now)
        assert here.choose(now) == B
        assert there.choose(now + rest_s - 0.01) is None
        assert there.choose(now + rest_s) == A
        now += rest_s


def test_downloads_that_fail_together_at_one_peer_count_once() -> None:
    bans = Bans()
    for _ in range(5):
        sources(A, bans=bans).unreachable(A, 0.0)
    assert sources(A, bans=bans).choose(UNREACHABLE_S) == A


def test_a_peer_that_served_again_is_not_thought_gone() -> None:
    bans = Bans()
    made = sources(A, bans=bans)
    made.unreachable(A, 0.0)
    made.served(A)
    assert sources(A, bans=bans).choose(0.0) == A
    sources(A, bans=bans).unreachable(A, 10.0)
    assert sources(A, bans=bans).choose(10.0 + UNREACHABLE_S) == A


@pytest.mark.parametrize("extra", [0, 1, 50])
def test_the_memory_of_unreachable_peers_is_bounded(extra: int) -> None:
    bans = Bans()
    for number in range(BANS_MAX_COUNT + extra):
        bans.unreachable(Peer("10.0.0.1", number), 0.0)
    held = sum(bans.banned(Peer("10.0.0.1", number), 1.0) for number in range(BANS_MAX_COUNT + extra))
    assert held == BANS_MAX_COUNT


@pytest.mark.parametrize("extra", [0, 1, 50])
def test_bans_are_bounded(extra: int) -> None:
    bans = Bans()
    for number in range(BANS_MAX_COUNT + extra):
        bans.ban(Peer("10.0.0.1", number), 0.0)
    held = sum(bans.banned(Peer("10.0.0.1", number), 1.0) for number in range(BANS_MAX_COUNT + extra))
    assert held == BANS_MAX_COUNT
