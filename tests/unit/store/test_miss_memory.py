"""Misses are remembered for a moment, in bounded room."""

from __future__ import annotations

from mirror.oci.digest import Digest
from mirror.store.miss_memory import MAX_COUNT, REMEMBER_S, MissMemory

A, B = Digest.of(b"a"), Digest.of(b"b")


def test_a_miss_is_remembered_for_a_moment() -> None:
    misses = MissMemory()
    misses.note(A, now=10)
    assert misses.holds(A, now=10 + REMEMBER_S / 2)
    assert not misses.holds(B, now=10)
    assert not misses.holds(A, now=10 + REMEMBER_S)


def test_a_change_ends_every_miss() -> None:
    misses = MissMemory()
    misses.note(A, now=10)
    misses.forget_all()
    assert not misses.holds(A, now=10)


def test_the_oldest_miss_makes_room() -> None:
    misses = MissMemory()
    misses.note(A, now=10)
    misses.note(B, now=10)
    misses.note(A, now=10.1)
    for number in range(MAX_COUNT - 1):
        misses.note(Digest.of(str(number).encode()), now=10.2)
    assert misses.holds(A, now=10.3)
    assert not misses.holds(B, now=10.3)
