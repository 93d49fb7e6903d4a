from __future__ import annotations

from mirror.discovery.base import Peer
from mirror.herd.avoided import AVOIDED_S, PEERS_MAX_COUNT, Avoided

PEER = Peer("10.0.0.1", 1)


def test_an_unreachable_peer_is_avoided_for_a_while() -> None:
    now = 5.0
    avoided = Avoided(lambda: now)
    assert PEER not in avoided
    avoided.unreachable(PEER)
    now += AVOIDED_S - 0.1
    assert PEER in avoided
    now += 0.2
    assert PEER not in avoided


def test_who_calls_is_not_avoided() -> None:
    avoided = Avoided(lambda: 0.0)
    avoided.unreachable(PEER)
    avoided.forgive(PEER)
    assert PEER not in avoided


def test_there_are_not_too_many() -> None:
    avoided = Avoided(lambda: 0.0)
    peers = [Peer("10.0.0.1", port) for port in range(PEERS_MAX_COUNT)]
    for peer in peers:
        avoided.unreachable(peer)
    avoided.unreachable(peers[0])
    last = Peer("10.0.0.2", 1)
    avoided.unreachable(last)
    assert last in avoided
    assert peers[0] in avoided, "the one that was longest not heard of goes"
    assert peers[1] not in avoided
