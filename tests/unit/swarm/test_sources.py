"""What a source's deeds lead to: a table of failures, bans and caps."""

from __future__ import annotations

import math
import random

import pytest

from mirror.swarm.bitfield import Bitfield
from mirror.swarm.events import Failure, SourceFound, SourceKind
from mirror.swarm.params import SwarmParams
from mirror.swarm.sources import Source, Sources

COUNT = 8
FULL = (1 << COUNT) - 1
PARAMS = SwarmParams(
    failure_rest_s=0.5,
    failure_rest_max_s=3.0,
    busy_rest_s=0.4,
    busy_rest_max_s=1.6,
    ban_s=100,
    ban_max_s=350,
    ban_forget_s=1000,
    sources_max_count=3,
)
NOW = 40.0


def made(**kinds: SourceKind) -> Sources:
    sources = Sources(COUNT, PARAMS, random.Random(1))
    for name, kind in kinds.items():
        sources.found(SourceFound(name, kind, True, 0))
    return sources


def found(sources: Sources, name: str, distance: int = 0, mask: int = 0) -> Source:
    source = sources.found(SourceFound(name, SourceKind.PEER, False, distance))
    assert source is not None
    sources.holds(source, mask)
    return source


def test_each_failure_in_a_row_rests_twice_as_long() -> None:
    sources = made()
    source = found(sources, "a", mask=FULL)
    rests = []
    for _ in range(5):
        sources.failed(source, Failure.BROKE, 0, NOW)
        rests.append(source.rests_until - NOW)
    assert rests == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert not source.is_usable(NOW + 2.9)
    assert source.is_usable(NOW + 3.0)
    source.forgiven()
    sources.failed(source, Failure.BROKE, 0, NOW + 10)
    assert source.rests_until == NOW + 10.5


def test_busy_is_no_failure_and_rests_by_lot() -> None:
    sources = made()
    rests = set()
    for name in ("a", "b", "c"):
        source = found(sources, name, mask=FULL)
        for expected_s in (0.4, 0.8, 1.6, 1.6):
            source.rests_until = -math.inf
            sources.failed(source, Failure.BUSY, 0, NOW)
            rest_s = source.rests_until - NOW
            assert expected_s / 2 <= rest_s <= expected_s
            rests.add(rest_s)
        assert source.failure_count == 0
    assert len(rests) == 12


@pytest.mark.parametrize(
    ("failure", "before", "after"),
    [
        (Failure.ABSENT, 0b1110, 0b1010),
        (Failure.ABSENT, FULL, 0),
        (Failure.WRONG_SIZE, 0b1110, 0),
        (Failure.BROKE, 0b1110, 0b1110),
        (Failure.SILENT, FULL, FULL),
        (Failure.REFUSED, FULL, FULL),
        (Failure.BUSY, FULL, FULL),
    ],
)
def test_what_it_is_still_said_to_hold(failure: Failure, before: int, after: int) -> None:
    sources = made()
    source = found(sources, "a", mask=before)
    sources.failed(source, failure, 2, NOW)
    assert source.mask == after
    sources.check()


@pytest.mark.parametrize(
    ("failure", "count"),
    [
        (Failure.BROKE, 2),
        (Failure.REFUSED, 2),
        (Failure.SILENT, 1),
        (Failure.ABSENT, 1),
        (Failure.WRONG_SIZE, 1),
        (Failure.BUSY, 99),
    ],
)
def test_after_how_many_failures_nobody_should_wait_for_a_complete_source(
    failure: Failure, count: int
) -> None:
    sources = made()
    source = found(sources, "a", mask=FULL)
    for _ in range(count - 1):
        sources.failed(source, failure, 0, NOW)
        assert not sources.is_useless(source, NOW)
    sources.failed(source, failure, 0, NOW)
    assert sources.is_useless(source, NOW) is (failure is not Failure.BUSY)
    source.forgiven()
    assert not sources.is_useless(source, NOW)


def test_who_holds_nothing_yet_is_not_useless() -> None:
    sources = made()
    assert not sources.is_useless(found(sources, "a"), NOW)


def test_a_liar_is_useless_while_it_is_banned() -> None:
    sources = made()
    source = found(sources, "a", mask=FULL)
    until = sources.ban(source, NOW)
    assert sources.is_useless(source, until - 1)
    assert not sources.is_useless(source, until)


def test_a_ban_lasts_longer_each_time_and_is_forgotten() -> None:
    sources = made()
    source = found(sources, "a")
    assert [sources.ban(source, NOW) - NOW for _ in range(4)] == [100, 200, 350, 350]
    assert not source.is_usable(NOW + 349)
    assert source.is_usable(NOW + 350)
    later = NOW + 3 * PARAMS.ban_forget_s
    assert sources.ban(source, later) - later == 200
    later += 99 * PARAMS.ban_forget_s
    assert sources.ban(source, later) - later == 100


def test_who_goes_and_comes_again_is_not_forgiven() -> None:
    sources = made()
    source = found(sources, "a", mask=FULL)
    sources.failed(source, Failure.BROKE, 0, NOW)
    until = sources.ban(source, NOW)
    sources.gone(source)
    again = found(sources, "a", mask=FULL)
    assert again.failure_count == 1
    assert not again.is_usable(until - 1)
    sources.check()


def test_there_are_not_too_many() -> None:
    sources = made()
    for number in range(40):
        source = sources.found(SourceFound(f"s{number}", SourceKind.PEER, True, 0))
        assert (source is None) == (number >= 3)
    for number in range(3, 40):
        sources.gone(next(iter(sources)))
        assert sources.found(SourceFound(f"s{number}", SourceKind.PEER, True, 0)) is not None
        sources.check()


def test_a_banned_source_that_went_is_remembered_longest() -> None:
    sources = made()
    liar = found(sources, "liar")
    until = sources.ban(liar, NOW)
    sources.gone(liar)
    for number in range(40):
        sources.gone(found(sources, f"s{number}"))
    assert found(sources, "liar").banned_until == until


def test_runs_at_a_source_grow_with_its_rate_and_round_trip() -> None:
    source = Source("a")
    assert source.runs_max_count(1000, 4) == 1
    source.rate_bytes_per_s = 10_000
    source.rtt_s = 0.04
    assert source.runs_max_count(1000, 4) == 1
    source.rtt_s = 0.05
    assert source.runs_max_count(1000, 4) == 2
    source.rtt_s = 0.15
    assert source.runs_max_count(1000, 4) == 3
    source.rtt_s = 5.0
    assert source.runs_max_count(1000, 4) == 4


def test_the_rate_follows_what_came_while_a_run_was_under_way() -> None:
    source = Source("a")
    source.asked(NOW)
    source.brought(100, NOW + 0.01, 2.0)
    assert source.rate_bytes_per_s == 0, "too short to tell"
    source.brought(900, NOW + 0.1, 2.0)
    assert source.rate_bytes_per_s == pytest.approx(10_000)
    source.run_count -= 1
    source.asked(NOW + 100)
    source.brought(1000, NOW + 100.1, 2.0)
    assert source.rate_bytes_per_s == pytest.approx(10_000), "idle time counts for nothing"
    for number in range(100):
        source.brought(100, NOW + 100.2 + number / 10, 2.0)
    assert source.rate_bytes_per_s == pytest.approx(1000, rel=0.1)


def test_the_best_is_asked_first() -> None:
    sources = made()
    near, far, failed = found(sources, "near"), found(sources, "far", 1), found(sources, "failed")
    failed.failure_count = 1
    near.rate_bytes_per_s = 1.0
    assert sorted([far, failed, near], key=Source.rank) == [near, failed, far]
    failed.failure_count = 0
    failed.rate_bytes_per_s = 2.0
    assert sorted([far, failed, near], key=Source.rank) == [failed, near, far]
    failed.load_ratio = 0.9
    assert sorted([far, failed, near], key=Source.rank) == [near, failed, far]


def test_what_others_should_bring() -> None:
    sources = made(own=SourceKind.OWN_INGEST, origin=SourceKind.ORIGIN)
    own, origin = sources.present("own"), sources.present("origin")
    assert own is not None and origin is not None
    sources.holds(own, 0b1)
    peer = found(sources, "peer", mask=0b1100)
    assert sources.held_by_better(peer, NOW) == 0b1
    assert sources.held_by_better(own, NOW) == 0
    assert sources.held_by_better(origin, NOW) == 0b1101
    sources.gone(own)
    sources.failed(peer, Failure.BROKE, 0, NOW)
    assert sources.held_by_better(origin, NOW) == 0, "who rests brings nothing"


def test_whose_bytes_come_from_the_origin_is_spared() -> None:
    sources = made()
    claimant, other = found(sources, "claimant", mask=0b111), found(sources, "other", mask=0b010)
    far = found(sources, "far", 1, mask=0b100)
    sources.described(claimant, 0.0, True)
    assert not sources.is_level
    assert sources.held_by_better(claimant, NOW) == 0b010
    assert sources.held_by_better(other, NOW) == 0
    assert sources.held_by_better(far, NOW) == 0b111
    sources.described(claimant, 0.0, False)
    sources.gone(far)
    assert sources.is_level


def test_trust_comes_back_where_nobody_else_is_left() -> None:
    sources = made()
    source, other = found(sources, "a", mask=0b11), found(sources, "b", mask=0b01)
    source.distrusted = 0b11
    assert not sources.trust_again(0b11, NOW), "the other brings the first"
    assert not sources.trust_again(0b100, NOW), "nobody has the third"
    assert source.distrusted
    assert sources.trust_again(0b10, NOW)
    assert not source.distrusted
    source.distrusted = 0b11
    sources.ban(other, NOW)
    assert sources.trust_again(0b11, NOW)


def test_bitfields_that_replace_each_other_are_counted() -> None:
    sources = made()
    source = found(sources, "a")
    for mask in (0b101, FULL, 0b1, FULL, FULL, 0, 0b11):
        sources.holds(source, mask)
        sources.check()
    assert Bitfield(COUNT, source.mask).held_count == 2
