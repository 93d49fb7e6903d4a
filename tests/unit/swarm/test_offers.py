"""Whom a host that is fed from the origin tells of which piece: a test per rule, and all of them in any order."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mirror.swarm.bitfield import mask_of, pieces_of
from mirror.swarm.offers import Offers
from mirror.swarm.params import SwarmParams
from tests.support.examples import examples
from tests.support.offers_of import ALL, PARAMS, mask, offers


def told(made: Offers[str], *names: str) -> list[int]:
    return [made.told(name) for name in names]


def test_each_new_piece_is_offered_to_one_neighbour() -> None:
    made = offers(*"abcd", params=SwarmParams(offers_min_count=4, offers_again_count=0))
    made.look(mask(0, 1, 2, 3), True, 10.0)
    counts = Counter(piece for name in "abcd" for piece in pieces_of(made.told(name)))
    assert counts == {0: 1, 1: 1, 2: 1, 3: 1}
    assert [one.bit_count() for one in told(made, *"abcd")] == [1, 1, 1, 1], "spread over all"


def test_what_a_neighbour_has_is_offered_to_nobody() -> None:
    made = offers("a", "b", params=SwarmParams(offers_again_count=0))
    made.has("a", mask(0), 10.0)
    made.look(mask(0, 1), True, 10.0)
    assert told(made, "a", "b") in ([mask(1), 0], [0, mask(1)])


def test_few_offers_are_open_before_it_is_known_how_fast_the_origin_is() -> None:
    made = offers(*"abcdefgh", params=SwarmParams(offers_min_count=3, offers_again_count=0))
    made.look(mask_of(0, 60), True, 10.0)
    assert sum(one.bit_count() for one in told(made, *"abcdefgh")) == 3


def test_a_fast_origin_opens_many() -> None:
    """Whatever time it took until its first byte."""
    made = offers(*"abcdefgh", params=SwarmParams(offers_min_count=3, offers_again_count=0))
    made.look(0, True, 10.0)
    made.look(0, True, 19.0)
    made.look(mask_of(0, 60), True, 19.1)
    assert sum(one.bit_count() for one in told(made, *"abcdefgh")) == 60


def test_a_slow_origin_leaves_few_offers_open() -> None:
    params = SwarmParams(offers_min_count=2, offers_again_count=0, offers_cover_s=0.3, offer_open_min_s=100.0)
    made = offers(*"abcdefgh", params=params)
    made.look(0, True, 0.0)
    for second in range(1, 21):
        made.look(mask_of(0, second), True, float(second))
    # One piece a second, 0.3 of one in the time to cover.
    assert sum(one.bit_count() for one in told(made, *"abcdefgh")) == 3


def test_what_was_fetched_makes_room_for_the_next() -> None:
    made = offers("a", "b", params=SwarmParams(offers_min_count=1, offers_again_count=0, offers_cover_s=1e-9))
    made.look(0, True, 0.0)
    made.look(mask(0, 1, 2), True, 1.0)
    first = "a" if made.told("a") else "b"
    assert sum(one.bit_count() for one in told(made, "a", "b")) == 2
    made.has(first, made.told(first), 1.1)
    made.look(mask(0, 1, 2), True, 1.1)
    assert sum(one.bit_count() for one in told(made, "a", "b")) == 3


def test_an_idle_uplink_offers_once_more() -> None:
    """An origin that is slower than the uplink: what is there goes to others, too."""
    made = offers("a", "b", "c", params=SwarmParams(offers_again_count=2))
    made.look(mask(0), True, 0.0)
    assert sum(one.bit_count() for one in told(made, *"abc")) == 2
    made.has("a", mask(0), 0.1)
    made.has("b", mask(0), 0.1)
    made.look(mask(0), True, 0.1)
    assert made.told("c") == mask(0)


@pytest.mark.parametrize("seed", range(8))
def test_of_those_offered_again_the_rarest(seed: int) -> None:
    made = offers("a", "b", "c", params=SwarmParams(offers_again_count=1), seed=seed)
    made.has("a", mask(0, 1), 0.0)
    made.has("b", mask(0), 0.0)
    made.look(mask(0, 1), True, 0.0)
    assert mask(1) in told(made, "b", "c")
    assert mask(0) not in told(made, "b", "c")


def test_nobody_is_offered_more_of_that_before_he_has_fetched() -> None:
    made = offers("a", "b", params=SwarmParams(offers_again_count=2))
    made.has("b", mask(0, 1, 2), 0.0)
    made.look(mask(0, 1, 2), True, 0.0)
    assert made.told("a").bit_count() == 1


def test_an_offer_that_stays_open_is_made_to_another() -> None:
    made = offers("a", "b", params=SwarmParams(offers_again_count=0, offer_open_min_s=1.0))
    made.look(mask(0), True, 0.0)
    assert sorted(told(made, "a", "b")) == [0, mask(0)]
    assert made.next_timer() == 1.0
    made.look(mask(0), True, 0.99)
    assert sorted(told(made, "a", "b")) == [0, mask(0)]
    made.look(mask(0), True, 1.0)
    assert told(made, "a", "b") == [mask(0), mask(0)]


def test_whoever_let_an_offer_stay_comes_behind_the_others() -> None:
    params = SwarmParams(offers_min_count=1, offers_again_count=0, offer_open_min_s=1.0, offers_cover_s=1e-9)
    made = offers("idle", params=params)
    made.look(mask(0), True, 0.0)
    made.joined("quick")
    # The pieces before are had by then.
    for moment in range(1, 20):
        made.look(mask_of(0, moment), True, float(moment))
        made.has("quick", made.told("quick"), moment + 0.1)
    assert made.told("idle") == mask(0)
    assert made.told("quick") == mask_of(0, 19)


def test_he_is_forgiven_when_he_fetches_what_he_was_offered() -> None:
    made = offers("a", params=SwarmParams(offers_again_count=0, offer_open_min_s=1.0))
    made.look(mask(0), True, 0.0)
    made.look(mask(0, 1), True, 1.0)
    made.has("a", mask(0, 1), 1.5)
    made.joined("b")
    chosen: set[str] = set()
    for seed in range(20):
        made._rng = random.Random(seed)
        made.look(mask_of(0, 3 + seed), True, 2.0 + seed)
        for name in "ab":
            if made.told(name) >> (2 + seed) & 1:
                chosen.add(name)
            made.has(name, made.told(name), 2.5 + seed)
    assert chosen == {"a", "b"}


def test_a_slow_herd_is_not_taken_for_an_idle_one() -> None:
    """A piece that takes 2 s as a rule is not late after one."""
    made = offers(
        "a", "b", params=SwarmParams(offers_again_count=0, offer_open_min_s=1.0, offer_open_factor=4.0)
    )
    made.look(mask(0), True, 0.0)
    first = "a" if made.told("a") else "b"
    made.has(first, mask(0), 0.9)
    made.look(mask(0, 1), True, 10.0)
    assert made.next_timer() == pytest.approx(13.6)


def test_where_offers_are_late_again_and_again_more_time_is_given() -> None:
    """An uplink that other blobs share takes longer than it did at first. What is offered twice is fetched twice."""
    made = offers(
        "a", "b", params=SwarmParams(offers_again_count=0, offer_open_min_s=1.0, offer_open_factor=4.0)
    )
    made.look(mask(0), True, 10.0)
    assert made.next_timer() == pytest.approx(11.0)
    made.look(mask(0), True, 11.0)
    assert told(made, "a", "b") == [mask(0), mask(0)], "it was late"
    assert made.next_timer() == pytest.approx(15.0)


def test_offers_of_one_who_leaves_go_to_another() -> None:
    made = offers("a", params=SwarmParams(offers_again_count=0))
    made.look(mask(0), True, 0.0)
    made.joined("b")
    made.left("a")
    made.look(mask(0), True, 0.1)
    assert made.told("b") == mask(0)


def test_the_end_of_the_origin_is_not_the_end_of_care() -> None:
    made = offers("a", "b", params=SwarmParams(offers_min_count=1, offers_again_count=0, offers_cover_s=1e-9))
    made.look(0, True, 0.0)
    made.look(ALL, True, 1.0)
    made.look(ALL, False, 1.1)
    assert made.is_careful
    assert sum(one.bit_count() for one in told(made, "a", "b")) == 2
    made.has("a", ALL, 2.0)
    made.look(ALL, False, 2.0)
    assert not made.is_careful, "the herd has all"
    assert told(made, "a", "b") == [ALL, ALL]


def test_what_another_claimant_has_is_offered_all_the_same() -> None:
    """But not to him: he may be slow, or serve nobody."""
    made = offers("a", "b", params=SwarmParams(offers_min_count=4, offers_again_count=0))
    made.has("b", mask(0, 1), 10.0, is_fed=True)
    made.look(mask(0, 1), True, 10.0)
    assert told(made, "a", "b") == [mask(0, 1), 0]
    assert made.is_needed
    # When he is done with it he tells everybody of all.
    made.look(mask(0, 1), False, 10.1)
    made.has("b", mask(0, 1), 10.2, is_fed=False)
    made.look(mask(0, 1), False, 10.2)
    assert not made.is_needed


def test_what_is_left_at_the_end_is_shown_as_fast_as_it_came() -> None:
    """The time that goes by afterwards is none in which the origin was slow."""
    made = offers("a", params=SwarmParams(offers_min_count=1, offers_again_count=0, offers_cover_s=0.3))
    made.look(0, True, 10.0)
    made.look(ALL, True, 11.0)
    made.look(ALL, False, 11.0)
    assert made.told("a").bit_count() == 21, "1, and 0.3 s of 64 a second"
    made.has("a", made.told("a"), 18.0)
    made.look(ALL, False, 18.0)
    assert made.told("a").bit_count() == 42


def test_offers_that_are_late_together_are_one_delay() -> None:
    made = offers("a", params=SwarmParams(offers_again_count=0, offer_open_min_s=1.0, offer_open_factor=4.0))
    made.look(mask(0), True, 10.0)
    made.has("a", mask(0), 10.1)
    made.look(mask_of(0, 9), True, 10.1)
    made.look(mask_of(0, 9), True, 11.1)
    made.look(mask_of(0, 10), True, 11.1)
    assert made.next_timer() == pytest.approx(12.1), "an eighth of one more second does not make four"


def test_where_the_origin_was_lost_all_are_told_of_all() -> None:
    made = offers("a", "b", params=SwarmParams(offers_min_count=1, offers_again_count=0, offers_cover_s=1e-9))
    made.look(0, True, 10.0)
    made.look(mask(0, 1, 2, 3), True, 11.0)
    made.look(mask(0, 1, 2, 3), False, 11.1, is_lost=True, is_needed_elsewhere=True)
    assert not made.is_careful
    assert told(made, "a", "b") == [mask(0, 1, 2, 3)] * 2


def test_care_ends_by_time() -> None:
    made = offers("a", "b", params=SwarmParams(offers_after_s=10.0))
    made.look(ALL, True, 0.0)
    made.look(ALL, False, 1.0)
    made.look(ALL, False, 10.9)
    assert made.is_careful
    made.look(ALL, False, 11.0)
    assert not made.is_careful
    assert told(made, "a", "b") == [ALL, ALL]


def test_it_says_when_care_ends_though_nothing_is_open() -> None:
    made = offers("a", params=SwarmParams(offers_after_s=10.0, offers_again_count=0, offer_open_min_s=1.0))
    made.look(mask(0), True, 0.0)
    assert made.next_timer() == 1.0
    made.look(mask(0), True, 1.0)
    assert made.next_timer() is None, "the only neighbour was told of all"
    made.look(mask(0), False, 3.0)
    assert made.next_timer() == 13.0


def test_what_somebody_has_no_more_is_offered_again() -> None:
    made = offers("a", "b", params=SwarmParams(offers_again_count=0))
    made.look(0, True, 0.0)
    made.has("a", mask(0), 0.1)
    made.look(mask(0), True, 0.2)
    assert told(made, "a", "b") == [0, 0]
    made.has("a", 0, 0.3)
    made.look(mask(0), True, 0.3)
    assert sorted(told(made, "a", "b")) == [0, mask(0)]


def test_when_it_is_fed_anew_old_offers_take_no_room() -> None:
    params = SwarmParams(
        offers_min_count=1,
        offers_again_count=0,
        offers_after_s=10.0,
        offers_cover_s=1e-9,
        offer_open_min_s=100.0,
    )
    made = offers("a", "b", params=params)
    made.look(mask(0), True, 0.0)
    made.look(mask(0), False, 0.1)
    made.look(mask(0), False, 10.1)
    assert not made.is_careful
    made.look(mask(0), True, 10.2)
    made.look(mask(0, 1), True, 10.3)
    assert made.told("a") | made.told("b") == mask(0, 1)


def test_what_is_open_is_known_after_somebody_left() -> None:
    params = SwarmParams(offers_min_count=2, offers_again_count=0, offers_cover_s=1e-9)
    made = offers("a", "b", params=params)
    made.look(mask(0, 1), True, 0.0)
    made.joined("c")
    made.left("c")
    for name in "ab":
        made.has(name, made.told(name), 0.1)
    made.look(mask_of(0, 4), True, 0.1)
    assert made.told("a") | made.told("b") == mask_of(0, 4)


def test_a_host_that_is_not_fed_from_the_origin_tells_all() -> None:
    made = offers("a")
    made.look(mask(0, 1), False, 0.0)
    assert made.told("a") == mask(0, 1)


def test_what_was_told_before_it_was_fed_stays_told() -> None:
    made = offers("a", "b", params=SwarmParams(offers_again_count=0))
    made.look(mask(0, 1), False, 0.0)
    made.look(mask(0, 1, 2), True, 1.0)
    assert made.told("a") & made.told("b") == mask(0, 1)
    assert made.told("a") | made.told("b") == mask(0, 1, 2)


class OffersMachine(RuleBasedStateMachine):
    """Neighbours come, fetch, ignore and go, while the host gets more."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.own = 0
        self.made: Offers[int] = Offers(PARAMS, random.Random(1))
        self.had: dict[int, int] = {}
        self.told: dict[int, int] = {}
        self.is_fed = True
        self.is_needed_elsewhere = False

    def look(self) -> None:
        self.made.look(self.own, self.is_fed, self.now, is_needed_elsewhere=self.is_needed_elsewhere)

    @rule(name=st.integers(0, 5))
    def join(self, name: int) -> None:
        self.made.joined(name)
        self.had.setdefault(name, 0)
        self.told.setdefault(name, 0)
        self.look()

    @rule(name=st.integers(0, 5))
    def leave(self, name: int) -> None:
        self.made.left(name)
        self.had.pop(name, None)
        self.told.pop(name, None)
        self.look()

    @rule(count=st.integers(1, 8))
    def grow(self, count: int) -> None:
        self.own = self.own << count & ALL | mask_of(0, count)
        self.look()

    @rule(name=st.integers(0, 5), also=st.integers(0, ALL))
    def fetch(self, name: int, also: int) -> None:
        """All that he was offered, and something of others'."""
        if name in self.had:
            self.had[name] |= self.made.told(name) | also
            self.made.has(name, self.had[name], self.now)
            self.look()

    @rule(for_s=st.floats(0.0, 3.0))
    def wait(self, for_s: float) -> None:
        self.now += for_s
        self.look()

    @rule()
    def end(self) -> None:
        self.is_fed = False
        self.look()

    @rule(is_needed=st.booleans())
    def need_another(self, is_needed: bool) -> None:
        self.is_needed_elsewhere = is_needed
        self.look()

    @invariant()
    def nobody_looks_again_before_time_goes_on(self) -> None:
        """Else the loop would do nothing else."""
        at = self.made.next_timer()
        assert at is None or at > self.now

    @invariant()
    def nothing_is_taken_back_or_made_up(self) -> None:
        for name, before in self.told.items():
            self.told[name] = self.made.told(name)
            assert not before & ~self.told[name]
            assert not self.told[name] & ~self.own

    @invariant()
    def nothing_that_is_new_waits_for_ever(self) -> None:
        """With time and a neighbour that fetches, each piece is told of."""
        if not self.had or not self.made.is_careful:
            return
        placed = 0
        for name in self.had:
            placed |= self.told[name] | self.had[name]
        if self.own & ~placed:
            assert self.made.next_timer() is not None, "something is open, and what waits is looked at again"


OffersMachine.TestCase.settings = settings(max_examples=examples(60), stateful_step_count=40, deadline=None)
TestOffers = OffersMachine.TestCase
