"""Bytes by peer: counted, and bounded."""

from __future__ import annotations

from mirror.discovery.base import Peer
from mirror.peer.tally import COUNTED_MAX_COUNT, PeerTally


def test_both_ways_are_counted_apart() -> None:
    tally = PeerTally()
    tally.received(Peer("10.0.0.1", 1), 5)
    tally.received(Peer("10.0.0.1", 2), 7)
    tally.served("10.0.0.1", 9)
    tally.served("::ffff:10.0.0.1", 1)
    assert [tally.received_bytes(Peer("10.0.0.1", port)) for port in (1, 2, 3)] == [5, 7, 0]
    assert [tally.served_bytes(address) for address in ("10.0.0.1", "10.0.0.2")] == [10, 0]


def test_a_connection_that_has_no_address_any_more_counts_nowhere() -> None:
    tally = PeerTally()
    tally.served("", 9)
    assert tally.served_bytes("") == 0


def test_who_was_quiet_for_the_longest_is_forgotten_first() -> None:
    tally = PeerTally()
    for port in range(1, COUNTED_MAX_COUNT + 1):
        tally.received(Peer("10.0.0.1", port), 1)
    tally.received(Peer("10.0.0.1", 1), 1)
    tally.received(Peer("10.0.0.2", 1), 1)
    kept = [tally.received_bytes(Peer("10.0.0.1", port)) for port in (1, 2, 3)]
    assert (kept, tally.received_bytes(Peer("10.0.0.2", 1))) == ([2, 0, 1], 1)
