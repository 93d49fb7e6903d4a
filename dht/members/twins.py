"""Two live nodes with one id, noticed by a third where no address moves to and fro (dht.members.moves sees that). Pure.

With a secret the third hears only one of them: the other's stamps are behind, like a replay's. But a node sends what
has the later stamp later. So whoever sends later what has the earlier stamp is another one. A replay cannot do that: a
recorded datagram is as old as it was.

Without a secret each address has stamps of its own, so both are heard: then a life of the node that had ended goes on.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from dht.endpoints import Endpoint

# Whoever is refused for his stamps is watched from then on, so many at a time: copies of a disk are few.
WATCHED_MAX_COUNT = 64
LIVES_MAX_COUNT = 32


class _Said(NamedTuple):
    stamp: int
    sent_ms: int
    source: Endpoint


class Watch:
    """By stamps and times. Costs nothing while nobody was refused."""

    __slots__ = ("_watched",)

    def __init__(self) -> None:
        # The datagram with the newest stamp that was admitted since the node is watched.
        self._watched: OrderedDict[bytes, _Said | None] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._watched)

    def __len__(self) -> int:
        return len(self._watched)

    def admitted(self, node: bytes, stamp: int, sent_ms: int, source: Endpoint) -> None:
        if node in self._watched:
            said = self._watched[node]
            if said is None or stamp > said.stamp:
                self._watched[node] = _Said(stamp, sent_ms, source)

    def refused(self, node: bytes, stamp: int, sent_ms: int) -> Endpoint | None:
        """For its stamp, though its tag and its time are right. Where the other node with that id is; None: nothing
        says that there is one. Said once, then anew."""
        said = self._watched.get(node)
        if said is not None and stamp < said.stamp and sent_ms > said.sent_ms:
            del self._watched[node]
            return said.source
        if node not in self._watched:
            self._watched[node] = None
            if len(self._watched) > WATCHED_MAX_COUNT:
                self._watched.popitem(last=False)
        return None


class Lives:
    """By epochs: told whenever a node that was known is heard in another life of its."""

    __slots__ = ("_recent", "_window_s")

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        # By node: the life before, the one that is heard, and since when.
        self._recent: OrderedDict[bytes, tuple[tuple[int, Endpoint] | None, tuple[int, Endpoint], float]] = (
            OrderedDict()
        )

    def began(self, node: bytes, epoch: int, endpoint: Endpoint, now: float) -> Endpoint | None:
        """Where the other node with that id is, if this life was heard before that one's."""
        life = (epoch, endpoint)
        known = self._recent.pop(node, None)
        if known is None:
            self._recent[node] = (None, life, now)
        else:
            self._recent[node] = (known[1], life, now)
        if len(self._recent) > LIVES_MAX_COUNT:
            self._recent.popitem(last=False)
        if known is not None and known[0] == life != known[1] and now - known[2] <= self._window_s:
            return known[1][1]
        return None
