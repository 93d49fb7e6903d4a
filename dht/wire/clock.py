"""How far our wall clock is from that of the others, and whether a datagram is fresh by it.

A host with a wrong clock is told so by those it asks, in an authenticated challenge. It does not set its clock: it
keeps an offset for its datagrams. Nobody can know who is wrong: the last few nodes heard vote, our own clock too once
somebody agreed with it, and a tie goes forward in time, so that two nodes that correct each other do not swap their
times for ever. So a newcomer believes the first it asks, and one member with a wrong clock moves no other two.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from dht.params import Params

# The latest votes count, few enough that a change of our own clock is noticed within a few datagrams.
_VOTES_COUNT: Final = 15
# One node alone must not outvote the rest, however often it speaks.
_VOTES_PER_NODE_COUNT: Final = 2
# Agreement is the rule: so many votes a second cost nothing, and two members that were just met are heard.
_AGREED_INTERVAL_S: Final = 1.0
_AGREED_COUNT: Final = 4


class _Vote(NamedTuple):
    node: bytes
    wall_s: float
    offset_ms: int
    agrees: bool


class Clock:
    """`wall_s` is the host's own clock: seconds since 1970."""

    def __init__(self, params: Params) -> None:
        self.offset_ms = 0
        self._fresh_ms = int(params.freshness_s * 1000)
        self._memory_s = params.freshness_s
        self._votes: deque[_Vote] = deque(maxlen=_VOTES_COUNT)
        self._agreed_s = float("-inf")
        self._agreed_count = 0

    def now_ms(self, wall_s: float) -> int:
        """What our datagrams carry."""
        return int(wall_s * 1000) + self.offset_ms

    def is_fresh(self, sent_ms: int, wall_s: float) -> bool:
        return -self._fresh_ms <= sent_ms - int(wall_s * 1000) - self.offset_ms <= self._fresh_ms

    def agreed(self, node: bytes, sent_ms: int, wall_s: float) -> None:
        """An authenticated, fresh datagram came: a vote for the clock that we have."""
        if 0.0 <= wall_s - self._agreed_s < _AGREED_INTERVAL_S:
            if self._agreed_count >= _AGREED_COUNT:
                return
            self._agreed_count += 1
        else:
            self._agreed_s = wall_s
            self._agreed_count = 1
        self._vote(node, sent_ms, wall_s, agrees=True)

    def corrected(self, node: bytes, their_ms: int, wall_s: float) -> bool:
        """A challenge that answered a request of ours, MAC verified, was sent at `their_ms` by the sender's clock.
        True when our offset moved: ask again. False can mean that one more node has to say so."""
        self._vote(node, their_ms, wall_s, agrees=False)
        recent = self._recent(wall_s)
        votes = [vote.offset_ms for vote in recent]
        if any(vote.agrees for vote in recent):
            votes.append(self.offset_ms)
        median = sorted(votes)[len(votes) // 2]
        if abs(median - self.offset_ms) <= self._fresh_ms // 4:
            return False
        self.offset_ms = median
        return True

    def seen_ms(self, wall_s: float) -> int:
        """By how much the clocks of the others are ahead of the host's own, corrected for or not: the middle of what
        was heard lately and of our own clock, so that one wrong member of three is not taken for two right ones. 0
        where nothing was ever heard."""
        votes = [vote.offset_ms for vote in self._recent(wall_s)]
        return sorted([*votes, 0])[(len(votes) + 1) // 2] if votes else self.offset_ms

    def _recent(self, wall_s: float) -> list[_Vote]:
        return [vote for vote in self._votes if -self._memory_s <= wall_s - vote.wall_s <= self._memory_s]

    def _vote(self, node: bytes, their_ms: int, wall_s: float, *, agrees: bool) -> None:
        mine = [vote for vote in self._votes if vote.node == node]
        if len(mine) >= _VOTES_PER_NODE_COUNT:
            self._votes.remove(mine[0])
        self._votes.append(_Vote(node, wall_s, their_ms - int(wall_s * 1000), agrees))
