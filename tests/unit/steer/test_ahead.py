"""Which layers will be asked for: above the lowest that was, of images that are being read."""

from __future__ import annotations

import hashlib

import pytest

from mirror.oci.digest import Digest
from mirror.steer.ahead import AHEAD_MAX_COUNT, IMAGES_MAX_COUNT, Ahead


def layers(count: int, salt: str = "") -> tuple[Digest, ...]:
    return tuple(
        Digest.parse(f"sha256:{hashlib.sha256(f'{salt}{number}'.encode()).hexdigest()}")
        for number in range(count)
    )


FIVE = layers(5)


@pytest.fixture
def ahead() -> Ahead:
    made = Ahead()
    made.learn(FIVE)
    return made


def test_of_an_image_that_nobody_asked_for_yet_nothing_is_wanted(ahead: Ahead) -> None:
    assert list(ahead.wanted_with(FIVE[2])) == []
    assert ahead.unread(lambda _: False) == []


def test_a_digest_of_no_image_is_nothing(ahead: Ahead) -> None:
    ahead.asked(layers(1, "other")[0])
    assert list(ahead.wanted_with(layers(1, "other")[0])) == []


def test_what_lies_above_the_lowest_is_wanted_in_the_images_order(ahead: Ahead) -> None:
    """Below it may be unpacked already."""
    ahead.asked(FIVE[3])
    assert list(ahead.wanted_with(FIVE[3])) == [FIVE[4]]
    ahead.asked(FIVE[1])
    assert list(ahead.wanted_with(FIVE[3])) == [FIVE[2], FIVE[4]]


def test_so_many_at_once() -> None:
    ahead, many = Ahead(), layers(AHEAD_MAX_COUNT + 5)
    ahead.learn(many)
    ahead.asked(many[0])
    assert list(ahead.wanted_with(many[0])) == list(many[1 : AHEAD_MAX_COUNT + 1])
    ahead.asked(many[1])
    assert list(ahead.wanted_with(many[0])) == list(many[2 : AHEAD_MAX_COUNT + 2])


def test_a_layer_that_an_image_has_twice_is_one() -> None:
    ahead = Ahead()
    ahead.learn((FIVE[0], FIVE[1], FIVE[1], FIVE[2]))
    ahead.asked(FIVE[0])
    assert list(ahead.wanted_with(FIVE[0])) == [FIVE[1], FIVE[2]]


def test_what_nobody_reads_for_any_more_is_not_wanted(ahead: Ahead) -> None:
    ahead.asked(FIVE[0])
    ahead.asked(FIVE[1])
    assert ahead.unread(lambda layer: layer == FIVE[1]) == []
    assert ahead.unread(lambda layer: layer == FIVE[4]) == [], "it was asked for meanwhile"
    assert ahead.unread(lambda _: False) == [FIVE[2], FIVE[3], FIVE[4]]


def test_the_same_manifest_once_more_is_a_new_pull(ahead: Ahead) -> None:
    ahead.asked(FIVE[0])
    ahead.learn(FIVE)
    assert list(ahead.wanted_with(FIVE[0])) == []


def test_a_shared_layer_belongs_to_the_image_that_came_last(ahead: Ahead) -> None:
    other = (FIVE[0], *layers(2, "other"))
    ahead.learn(other)
    ahead.asked(FIVE[0])
    assert list(ahead.wanted_with(FIVE[0])) == list(other[1:])
    assert list(ahead.wanted_with(FIVE[1])) == []


def test_images_are_bounded_and_the_oldest_goes(ahead: Ahead) -> None:
    ahead.asked(FIVE[0])
    for number in range(IMAGES_MAX_COUNT - 1):
        ahead.learn(layers(2, f"image {number} "))
    assert list(ahead.wanted_with(FIVE[0])) != []
    ahead.learn(layers(2, "one more "))
    assert list(ahead.wanted_with(FIVE[0])) == []


def test_an_old_image_that_goes_leaves_a_layer_to_a_newer_one(ahead: Ahead) -> None:
    newer = (FIVE[0], *layers(2, "newer"))
    for number in range(IMAGES_MAX_COUNT - 2):
        ahead.learn(layers(2, f"image {number} "))
    ahead.learn(newer)
    ahead.learn(layers(2, "the first is forgotten "))
    ahead.asked(FIVE[0])
    assert list(ahead.wanted_with(FIVE[0])) == list(newer[1:])
