"""A member is heard at another address: did it move, or do two live nodes share its id?

A node that moved is not heard at its old address again. Two that share an id are heard in turns. Says so; warns nobody.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum

from dht.endpoints import Endpoint

# Nodes whose moves are remembered at a time. Hosts seldom move; somebody who moves more of them gains nothing but
# that older moves are forgotten.
MOVES_MAX_COUNT = 256


class Move(Enum):
    MOVED = "moved"
    CONFLICT = "conflict"  # two live nodes, said once a window
    IGNORED = (
        "ignored"  # more of the same conflict: the address stays, or it would change with every datagram
    )


class Moves:
    __slots__ = ("_recent", "_window_s")

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        # Node: the address before, when it was left, whether a conflict was said. Oldest first.
        self._recent: OrderedDict[bytes, tuple[Endpoint, float, bool]] = OrderedDict()

    def heard(self, node: bytes, old: Endpoint, new: Endpoint, now: float) -> Move:
        """`old` is the address that we have, `new` another one of the same family."""
        before = self._recent.get(node)
        if before is not None and before[0] == new and now - before[1] <= self._window_s:
            if before[2]:
                return Move.IGNORED
            self._remember(node, new, now, is_conflict=True)
            return Move.CONFLICT
        self._remember(node, old, now, is_conflict=False)
        return Move.MOVED

    def forget(self, node: bytes) -> None:
        self._recent.pop(node, None)

    def _remember(self, node: bytes, left: Endpoint, now: float, *, is_conflict: bool) -> None:
        self._recent[node] = (left, now, is_conflict)
        self._recent.move_to_end(node)
        if len(self._recent) > MOVES_MAX_COUNT:
            self._recent.popitem(last=False)
